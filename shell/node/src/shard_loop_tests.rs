//! The shard loop run turn by turn on the test's own thread, with real sockets and pauses that are made up.

use std::{
    net::UdpSocket,
    sync::mpsc::{SyncSender, sync_channel},
};

use outlast_media::Path;
use outlast_model::{Epoch, Generation};
use outlast_node_core::{ApiRequest, Join};
use outlast_token::{ApiKeys, Claims, VideoGrant};

use super::*;
use crate::{metrics::NodeMetrics, shards::SESSION_EVENTS_MAX};

/// Longer than any test, however crowded the machine: pauses are made by [`Bench::pause`] alone.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

struct Bench {
    turned: ShardLoop,
    inputs: SyncSender<Input>,
    shared: Arc<Shared>,
}

fn bench() -> Bench {
    let clock = Clock::start();
    let sockets = UdpSocketSet::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let shared = Arc::new(Shared::new(1, Epoch(1), NodeMetrics::default()));
    let (inputs, taken) = sync_channel(64);
    let config = ShardConfig {
        shard: 0,
        media_port: sockets.addresses()[0].port(),
        sockets: sockets.addresses().to_vec(),
        advertise: vec!["127.0.0.1".parse().unwrap()],
        node: "n1".into(),
        region: "eu".into(),
        epoch: Epoch(1),
        ping_interval: Duration::from_secs(1),
        ping_timeout: Duration::from_secs(3),
        api_keys: ApiKeys::new([("devkey", "secret")]).unwrap(),
        version: outlast_node_core::SERVER_VERSION,
        unix_start: clock.unix_start(),
        instant_zero: clock.instant_zero(),
        participants_max: 10,
    };
    let parts = Parts {
        config,
        clock,
        sockets,
        inputs: taken,
        wake: Wake::new().unwrap(),
        shared: Arc::clone(&shared),
        pause_max: PAUSE_MAX,
    };
    Bench { turned: ShardLoop::new(parts).unwrap(), inputs, shared }
}

impl Bench {
    fn send(&self, input: Input) {
        self.inputs.try_send(input).unwrap_or_else(|_| panic!("the queue has room"));
        self.turned.parts.wake.ring();
    }

    fn join(&self, session: u64) -> mpsc::Receiver<SessionEvent> {
        let (events, received) = mpsc::channel(SESSION_EVENTS_MAX);
        let video = VideoGrant { room_join: true, room: "r".into(), ..VideoGrant::default() };
        let claims = Claims {
            identity: format!("p{session}").into(),
            expires_at: u64::MAX / 2,
            video,
            ..Claims::default()
        };
        let join = Box::new(Join {
            session: SessionId(session),
            claims,
            request: proto::JoinRequest::default(),
            generation: Generation(1),
            client_ip: None,
            user_agent: String::new(),
        });
        self.send(Input::Join { join, events });
        received
    }

    /// The next look at the clock finds that the thread was not run for too long.
    fn pause(&mut self) {
        self.turned.vigil = Vigil::new(Time::ZERO, Duration::ZERO);
    }
}

fn leave_action(event: &SessionEvent) -> Option<i32> {
    let SessionEvent::Frame(bytes) = event else { return None };
    match proto::SignalResponse::decode(bytes.as_slice()).unwrap().message {
        Some(proto::signal_response::Message::Leave(leave)) => Some(leave.action),
        _ => None,
    }
}

#[test]
fn after_a_pause_everything_old_is_dropped_and_the_node_has_a_new_epoch() {
    let mut bench = bench();
    let mut joined = bench.join(1);
    assert_eq!(bench.turned.turn(), Flow::Continue);
    assert_eq!(joined.try_recv(), Ok(SessionEvent::Admitted));
    assert_eq!(bench.shared.rooms.follow().0.len(), 2);

    bench.pause();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let media = bench.turned.parts.sockets.addresses()[0];
    stranger.send_to(&[0x80; 40], media).unwrap();
    let mut waiting = bench.join(2);
    let (answer, mut answered) = oneshot::channel();
    let list = Box::new(ApiRequest::ListRooms(proto::ListRoomsRequest::default()));
    bench.send(Input::Api { request: list, answer });
    bench.shared.roll_call.ask(1);
    assert_eq!(bench.turned.turn(), Flow::Continue);

    assert_eq!(bench.shared.epoch(), Epoch(2));
    assert_eq!(bench.shared.metrics.fences.get(), 1);
    let call = &bench.shared.roll_call;
    assert!(!call.all(1) && call.is_void(1), "a tick from before the pause proves nothing");
    assert_eq!(bench.turned.datagrams_in, 0, "the backlog is not looked at");
    assert_eq!(bench.turned.sender.counters().sent, 0);
    assert_eq!(bench.shared.rooms.follow().0.len(), 1, "only the end of the snapshot is left");
    assert!(matches!(waiting.try_recv(), Ok(SessionEvent::Refused { status: 503, .. })));
    assert!(answered.try_recv().is_err());
    let told: Vec<_> = std::iter::from_fn(|| joined.try_recv().ok()).collect();
    let reconnect = i32::from(proto::leave_request::Action::Reconnect);
    assert!(told.iter().any(|event| leave_action(event) == Some(reconnect)));
    assert_eq!(joined.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));

    // It goes on under its new epoch.
    let mut again = bench.join(3);
    bench.shared.roll_call.ask(2);
    assert_eq!(bench.turned.turn(), Flow::Continue);
    assert_eq!(again.try_recv(), Ok(SessionEvent::Admitted));
    assert!(bench.shared.roll_call.all(2));
    assert_eq!(bench.shared.metrics.fences.get(), 1);
}

#[test]
fn a_pause_while_sending_keeps_the_rest_from_being_sent_and_told() {
    let mut bench = bench();
    let mut joined = bench.join(1);
    bench.turned.turn();
    while joined.try_recv().is_ok() {}
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let path = Path { socket: 0, address: stranger.local_addr().unwrap() };
    bench.turned.out.batch.push(path, &[1; 100]);
    assert!(bench.turned.deliver());
    assert_eq!(bench.turned.sender.counters().sent, 1);

    let another_shards: fn(&mut Bench) = |bench| {
        bench.shared.supersede(Epoch(1));
    };
    for pause in [Bench::pause, another_shards] {
        bench.turned.vigil = Vigil::new(bench.turned.parts.clock.now(), PAUSE_MAX);
        pause(&mut bench);
        bench.turned.out.batch.push(path, &[1; 100]);
        bench.turned.out.told.push(Told::Frame { session: SessionId(1), bytes: vec![1] });
        assert!(!bench.turned.deliver());
        assert!(joined.try_recv().is_err());
    }
    assert_eq!(bench.turned.sender.counters().sent, 1);
    bench.turned.turn();
    assert_eq!(bench.shared.metrics.fences.get(), 1);
    assert_eq!(bench.turned.sender.counters().sent, 1, "what was left is forgotten");
}

#[test]
fn joins_past_a_turns_time_wait_for_the_sockets_and_hold_up_no_tick() {
    let mut bench = bench();
    bench.turned.inputs_span = Duration::ZERO;
    let mut joined: Vec<_> = (1..=10).map(|session| bench.join(session)).collect();
    bench.shared.roll_call.ask(1);
    assert_eq!(bench.turned.turn(), Flow::Continue);
    let mut admitted =
        || joined.iter_mut().filter_map(|one| one.try_recv().ok()).filter(is_admission).count();
    assert_eq!(admitted(), 1, "at least one, and no more in no time");
    assert!(bench.shared.roll_call.all(1), "nine joins are still before it in the queue");

    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&[0x80; 40], bench.turned.parts.sockets.addresses()[0]).unwrap();
    bench.turned.turn();
    assert_eq!(bench.turned.datagrams_in, 1, "the sockets are read between two joins");
    bench.turned.inputs_span = Duration::from_secs(3600);
    bench.turned.turn();
    assert_eq!(bench.turned.shard.stats().participants, 10, "the bell rang for the rest");
}

fn is_admission(event: &SessionEvent) -> bool {
    matches!(event, SessionEvent::Admitted)
}

#[test]
fn another_shards_pause_fences_this_one() {
    let mut bench = bench();
    let mut joined = bench.join(1);
    bench.turned.turn();
    assert_eq!(joined.try_recv(), Ok(SessionEvent::Admitted));
    assert_eq!(bench.shared.supersede(Epoch(1)), Epoch(2));
    bench.turned.turn();
    assert_eq!(bench.turned.parts.config.epoch, Epoch(2));
    assert_eq!(bench.shared.epoch(), Epoch(2));
    while joined.try_recv().is_ok() {}
    assert_eq!(joined.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
}

#[test]
fn a_client_that_does_not_read_loses_its_session_and_no_other() {
    let mut bench = bench();
    let full = bench.join(1);
    let mut other = bench.join(2);
    bench.turned.turn();
    assert_eq!(other.try_recv(), Ok(SessionEvent::Admitted));
    let ping = proto::SignalRequest { message: Some(proto::signal_request::Message::Ping(1)) };
    let ping = ping.encode_to_vec();
    for _ in 0..=SESSION_EVENTS_MAX {
        let signal = Command::Signal { session: SessionId(1), bytes: ping.clone() };
        bench.send(Input::Command(signal));
        if bench.shared.metrics.overflows.get() == 0 {
            bench.turned.turn();
        }
    }
    assert_eq!(bench.shared.metrics.overflows.get(), 1);
    assert_eq!(full.len(), SESSION_EVENTS_MAX);
    bench.turned.turn();
    assert!(bench.turned.sessions.contains_key(&SessionId(2)));
    assert!(!bench.turned.sessions.contains_key(&SessionId(1)));
    assert!(!other.is_closed());
}

#[test]
fn a_restarted_shard_is_empty_and_its_clients_are_told_to_join_anew() {
    let mut bench = bench();
    let mut joined = bench.join(1);
    bench.turned.turn();
    while joined.try_recv().is_ok() {}
    bench.turned.restart();
    let reconnect = i32::from(proto::leave_request::Action::Reconnect);
    assert_eq!(joined.try_recv().as_ref().ok().and_then(leave_action), Some(reconnect));
    assert_eq!(joined.try_recv(), Ok(SessionEvent::Close));
    assert_eq!(bench.shared.rooms.follow().0.len(), 1);
    assert_eq!(bench.shared.metrics.restarts.get(), 1);
    let mut again = bench.join(2);
    bench.turned.turn();
    assert_eq!(again.try_recv(), Ok(SessionEvent::Admitted));
}

#[test]
fn stop_ends_the_loop() {
    let mut bench = bench();
    bench.send(Input::Stop);
    assert_eq!(bench.turned.turn(), Flow::Stop);
}

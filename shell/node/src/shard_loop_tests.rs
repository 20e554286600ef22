//! The shard loop run turn by turn on the test's own thread, with real sockets and pauses that are made up.

use std::{
    net::UdpSocket,
    sync::mpsc::{SyncSender, sync_channel},
};

use outlast_media::Path;
use outlast_model::{Epoch, Generation};
use outlast_node_core::{ApiRequest, Join};
use outlast_tenure::{Goal, TenureConfig};
use outlast_token::{ApiKeys, Claims, VideoGrant};
use outlast_wire::{Echo, RoomFrame, Steer};

use super::*;
use crate::{
    metrics::NodeMetrics,
    role_loop::OwedBeat,
    shards::{SESSION_EVENTS_MAX, ShardDoor, Shards},
};

/// Longer than any test, however crowded the machine: pauses are made by [`Bench::pause`] alone.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

struct Bench {
    turned: ShardLoop,
    inputs: SyncSender<Input>,
    role: Arc<RoleLoop>,
    shared: Arc<Shared>,
}

fn bench() -> Bench {
    bench_with_lease(PAUSE_MAX)
}

fn bench_with_lease(lease: Duration) -> Bench {
    let clock = Clock::start();
    let sockets = UdpSocketSet::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let shared = Arc::new(Shared::new(1, Epoch(1), NodeMetrics::default()));
    let (inputs, taken) = sync_channel(64);
    let wake = Wake::new().unwrap();
    let door = ShardDoor { inputs: inputs.clone(), wake: wake.clone() };
    let shards = Arc::new(Shards::new(vec![door]));
    let tenure = TenureConfig::new("n1".into(), Epoch(1), vec!["gw".into()], 7);
    let tenure = TenureConfig { lease, ..tenure };
    let role = RoleLoop::new(tenure, clock, PAUSE_MAX, shards, Arc::clone(&shared));
    let role = Arc::new(role);
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
        wake,
        role: Arc::clone(&role),
        shared: Arc::clone(&shared),
        pause_max: PAUSE_MAX,
    };
    Bench { turned: ShardLoop::new(parts).unwrap(), inputs, role, shared }
}

impl Bench {
    fn send(&self, input: Input) {
        self.inputs.try_send(input).unwrap_or_else(|_| panic!("the queue has room"));
        self.turned.parts.wake.ring();
    }

    fn join(&self, session: u64) -> mpsc::Receiver<SessionEvent> {
        self.join_under(session, 1)
    }

    fn join_under(&self, session: u64, generation: u64) -> mpsc::Receiver<SessionEvent> {
        self.join_room("r", session, generation)
    }

    fn join_room(&self, room: &str, session: u64, generation: u64) -> mpsc::Receiver<SessionEvent> {
        let (events, received) = mpsc::channel(SESSION_EVENTS_MAX);
        let video = VideoGrant { room_join: true, room: room.into(), ..VideoGrant::default() };
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
            generation: Generation(generation),
            ruling: None,
            client_ip: None,
            user_agent: String::new(),
        });
        self.send(Input::Join { join, events });
        received
    }

    /// The next look at the clock finds that the thread was not run for too long.
    fn pause(&mut self) {
        self.turned.vigil.make_up(2 * PAUSE_MAX);
    }

    /// Another shard has found so.
    fn pause_another(&mut self) {
        self.role.paused(2 * PAUSE_MAX);
    }

    /// The shard answers a tick, and the role hears of it.
    fn tick(&mut self) -> Vec<OwedBeat> {
        self.shared.roll_call.ask(self.turned.tick + 1);
        self.turned.turn();
        self.role.ticked(0, 0)
    }

    /// The gateway echoes the node's next beat.
    fn hear(&mut self) {
        let owed = self.tick().pop().unwrap();
        let echo = Echo { heard_epoch: owed.epoch, heard_sequence: owed.sequence, stamp: 1 };
        self.role.echo("gw".into(), Epoch(1), echo);
    }

    /// Rooms that a gateway would be told of.
    fn rooms(&self) -> usize {
        let follower = self.role.follow().unwrap();
        follower.snapshot.iter().filter(|frame| matches!(frame, RoomFrame::Hosted { .. })).count()
    }

    /// A datagram that waits to be sent, and who would receive it.
    fn stage(&mut self) -> UdpSocket {
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let path = Path { socket: 0, address: stranger.local_addr().unwrap() };
        self.turned.out.batch.push(path, &[1; 100]);
        stranger
    }

    fn sent(&self) -> u64 {
        self.turned.sender.counters().sent
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
    assert_eq!(bench.rooms(), 1);

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
    assert_eq!(bench.rooms(), 0);
    let fenced = SessionEvent::Refused(Refusal::because(Why::Fenced));
    assert_eq!(waiting.try_recv(), Ok(fenced));
    assert!(answered.try_recv().is_err());
    let told: Vec<_> = std::iter::from_fn(|| joined.try_recv().ok()).collect();
    let reconnect = i32::from(proto::leave_request::Action::Reconnect);
    assert!(told.iter().any(|event| leave_action(event) == Some(reconnect)));
    assert_eq!(joined.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));

    // It goes on under its new epoch, as soon as that has been heard.
    let mut early = bench.join(3);
    bench.shared.roll_call.ask(2);
    assert_eq!(bench.turned.turn(), Flow::Continue);
    assert!(bench.shared.roll_call.all(2));
    assert_eq!(early.try_recv(), Ok(SessionEvent::Admitted));
    bench.turned.turn();
    while early.try_recv().is_ok() {}
    assert_eq!(early.try_recv(), Err(mpsc::error::TryRecvError::Disconnected), "it had not asked");
    assert!(bench.role.ask(&"r".into(), Generation(2), Goal::Join).is_err());
    bench.hear();
    assert_eq!(bench.role.ask(&"r".into(), Generation(2), Goal::Join), Ok(()));
    let mut again = bench.join_under(4, 2);
    bench.turned.turn();
    assert_eq!(again.try_recv(), Ok(SessionEvent::Admitted));
    assert_eq!((bench.rooms(), bench.shared.metrics.fences.get()), (1, 1));
}

#[test]
fn a_pause_while_sending_keeps_the_rest_from_being_sent_and_told() {
    let pauses: [fn(&mut Bench); 2] = [Bench::pause, Bench::pause_another];
    for pause in pauses {
        let mut bench = bench();
        let mut joined = bench.join(1);
        bench.turned.turn();
        while joined.try_recv().is_ok() {}
        let _stranger = bench.stage();
        assert!(bench.turned.deliver());
        assert_eq!(bench.sent(), 1);
        pause(&mut bench);
        let _stranger = bench.stage();
        bench.turned.out.told.push(Told::Frame { session: SessionId(1), bytes: vec![1] });
        assert!(!bench.turned.deliver());
        assert!(joined.try_recv().is_err());
        bench.turned.turn();
        assert_eq!(bench.shared.metrics.fences.get(), 1);
        assert_eq!(bench.sent(), 1, "what was left is forgotten");
    }
}

#[test]
fn when_the_lease_runs_out_nothing_more_is_sent_and_all_are_told_to_join_anew() {
    let mut bench = bench_with_lease(Duration::from_millis(300));
    let mut joined = bench.join(1);
    bench.turned.turn();
    assert_eq!(joined.try_recv(), Ok(SessionEvent::Admitted));
    while joined.try_recv().is_ok() {}
    while bench.shared.may_send(bench.turned.parts.clock.now()) {
        std::hint::spin_loop();
    }
    // Nobody has woken the role: the shard looks at the clock by itself.
    let _stranger = bench.stage();
    assert!(!bench.turned.deliver());
    assert_eq!((bench.sent(), bench.shared.epoch()), (0, Epoch(2)));
    bench.turned.turn();
    let told: Vec<_> = std::iter::from_fn(|| joined.try_recv().ok()).collect();
    let reconnect = i32::from(proto::leave_request::Action::Reconnect);
    assert!(told.iter().any(|event| leave_action(event) == Some(reconnect)));
    assert_eq!((bench.rooms(), bench.shared.metrics.fences.get()), (0, 1));
    // It ticks on, so that it can be heard again, and until then it is silent.
    bench.shared.roll_call.ask(1);
    let _stranger = bench.stage();
    bench.turned.turn();
    assert!(bench.shared.roll_call.all(1));
    assert_eq!((bench.sent(), bench.shared.metrics.fences.get()), (0, 1), "one fence");
    // Each proof lasts as long as the lease, which may be over before it is looked at.
    while !bench.role.is_open() {
        bench.hear();
    }
}

#[test]
fn a_room_that_another_node_holds_is_given_up_before_the_queue_has_its_turn() {
    let mut bench = bench();
    bench.turned.inputs_span = Duration::ZERO;
    let mut joined = bench.join(1);
    bench.turned.turn();
    while joined.try_recv().is_ok() {}
    let _waiting: Vec<_> = (2..10).map(|session| bench.join(session)).collect();
    let steer = Steer { room: "r".into(), generation: Generation(1), node: "n2".into() };
    bench.role.steer(steer);
    bench.turned.turn();
    let told: Vec<_> = std::iter::from_fn(|| joined.try_recv().ok()).collect();
    let reconnect = i32::from(proto::leave_request::Action::Reconnect);
    assert_eq!(told.iter().filter(|event| leave_action(event) == Some(reconnect)).count(), 1);
    assert_eq!(told.last(), Some(&SessionEvent::Close));
    assert_eq!((bench.rooms(), bench.shared.metrics.rooms_fenced.get()), (0, 2));
    // The second is for who was on the way, and opened it again.
    for _ in 0..20 {
        bench.turned.turn();
    }
    assert_eq!(bench.turned.shard.participants(), 0);
}

#[test]
fn a_drain_moves_as_many_as_it_may_and_an_end_of_it_nobody_more() {
    let mut bench = bench();
    let rooms = ["a", "a", "a", "b", "c"];
    let join = |(room, session)| bench.join_room(room, session, 1);
    let mut joined: Vec<_> = rooms.into_iter().zip(1..).map(join).collect();
    bench.turned.turn();
    let reconnect = i32::from(proto::leave_request::Action::Reconnect);
    let mut moved = || {
        let told = joined.iter_mut().flat_map(|one| std::iter::from_fn(|| one.try_recv().ok()));
        told.filter(|event| leave_action(event) == Some(reconnect)).count()
    };
    bench.tick();
    bench.role.drain(10, Duration::from_secs(3_600), false);
    bench.turned.turn();
    assert_eq!(moved(), 3, "a step's worth is one, and his room goes with him");
    assert!(!bench.role.is_open());
    bench.shared.orders.move_away(2);
    bench.turned.turn();
    assert_eq!(moved(), 0, "two went early");
    bench.role.undrain().unwrap();
    assert!(bench.role.is_open());
    for _ in 0..3 {
        bench.tick();
    }
    assert_eq!((moved(), bench.turned.shard.participants()), (0, 2));
    bench.role.drain(10, Duration::ZERO, false);
    bench.turned.turn();
    assert_eq!((moved(), bench.turned.shard.participants()), (2, 0));
    assert!(!bench.role.drain_state().drained);
    bench.tick();
    assert!(bench.role.drain_state().drained);
    // The last one is the last one.
    bench.role.drain(10, Duration::ZERO, true);
    assert!(bench.role.undrain().is_err());
}

#[test]
fn joins_stay_counted_when_the_shard_starts_again() {
    let mut bench = bench();
    let _first = bench.join(1);
    bench.turned.turn();
    bench.tick();
    assert_eq!(bench.shared.metrics.total().joins_admitted, 1);
    bench.turned.restart();
    let _second = bench.join(2);
    bench.turned.turn();
    bench.tick();
    assert_eq!(bench.shared.metrics.total().joins_admitted, 2);
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
    bench.pause_another();
    assert_eq!(bench.shared.epoch(), Epoch(2));
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
    assert_eq!((bench.rooms(), bench.shared.metrics.restarts.get()), (0, 1));
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

//! Joins per second of one core and memory of an idle subscriber: a real shard against real engines, in virtual time.
//! Only what happens inside the shard is counted, CPU time and bytes alike.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use outlast_livekit::{self as proto, Message as _};
use outlast_model::{Epoch, Generation, Identity, NodeId, RegionName, SessionId, Time};
use outlast_node_core::{Command, Join, Out, SERVER_VERSION, Shard, ShardConfig, Told};
use outlast_runtime::thread_cpu_time;
use outlast_token::{ApiKeys, Claims, VideoGrant};
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::SdpAnswer,
    media::{Direction, MediaKind},
    net::{Protocol, Receive},
};

use crate::allocations;

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7900);
/// Participants of one benchmark room: more would measure how long lists of participants are sent.
const ROOM_SIZE: usize = 10;
const STEPS_MAX: usize = 5_000;

/// What a round of joins cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// CPU time of the shard, per join, from the request until media is connected.
    pub per_join: Duration,
    /// Heap bytes that the shard keeps for each participant afterwards.
    pub bytes_each: usize,
}

struct Meter {
    spent: Duration,
}

impl Meter {
    /// Runs a piece of the shard's work with both meters on.
    fn count<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = thread_cpu_time();
        let result = allocations::counted(work);
        self.spent += thread_cpu_time().saturating_sub(began);
        result
    }
}

/// Joins `participants` clients one after the other, ten to a room, and leaves them idle.
pub fn run(participants: usize) -> Cost {
    let zero = Instant::now();
    let mut meter = Meter { spent: Duration::ZERO };
    let mut now = Time::ZERO;
    let config = config(zero, participants);
    let mut shard = Shard::new(config, [7; 32], now);
    let mut out = Out::default();
    let kept_before = allocations::live();
    for index in 0..participants {
        join_one(&mut shard, index, zero, &mut now, &mut meter, &mut out);
    }
    let kept = allocations::live().saturating_sub(kept_before);
    assert_eq!(shard.stats().participants, participants, "everybody is in");
    let count = u32::try_from(participants).expect("a benchmark's size");
    Cost { per_join: meter.spent / count, bytes_each: kept / participants }
}

fn config(zero: Instant, participants: usize) -> ShardConfig {
    let pair = ("bench".to_owned(), "a-secret-of-thirty-two-characters".to_owned());
    ShardConfig {
        shard: 0,
        media_port: SERVER.port(),
        sockets: vec![SERVER],
        advertise: vec![SERVER.ip()],
        node: NodeId::from("bench"),
        region: RegionName::from("bench"),
        epoch: Epoch(1),
        ping_interval: Duration::from_secs(1),
        ping_timeout: Duration::from_secs(3),
        api_keys: ApiKeys::new([pair]).expect("a good key pair"),
        version: SERVER_VERSION,
        unix_start: Duration::from_secs(1_700_000_000),
        instant_zero: zero,
        participants_max: participants,
    }
}

fn join_one(
    shard: &mut Shard,
    index: usize,
    zero: Instant,
    now: &mut Time,
    meter: &mut Meter,
    out: &mut Out,
) {
    let instant = |now: Time| zero + Duration::from_nanos(now.as_nanos());
    let octets = u32::try_from(index + 1).expect("a benchmark's size").to_be_bytes();
    let address = SocketAddr::new(Ipv4Addr::new(10, octets[1], octets[2], octets[3]).into(), 5000);
    let mut client = Rtc::builder().set_rtp_mode(true).build(instant(*now));
    client.add_local_candidate(Candidate::host(address, "udp").expect("a host candidate"));
    let mut change = client.sdp_api();
    for kind in [MediaKind::Audio, MediaKind::Video] {
        for _ in 0..3 {
            change.add_media(kind, Direction::RecvOnly, None, None, None);
        }
    }
    change.add_channel("_reliable".to_owned());
    let (offer, pending) = change.apply().expect("there are changes");
    let session = SessionId(index as u64);
    let join = Command::Join(Box::new(join(session, index, offer.to_sdp_string())));
    meter.count(|| shard.command(*now, join, out));
    meter.count(|| shard.flush(*now, out));
    let sdp = answer(out).expect("an answer");
    let parsed = SdpAnswer::from_sdp_string(&sdp).expect("a well-formed answer");
    client.sdp_api().accept_answer(pending, parsed).expect("an acceptable answer");

    let (mut connected, mut next) = (false, instant(*now));
    for _ in 0..STEPS_MAX {
        if next <= instant(*now) {
            client.handle_input(Input::Timeout(instant(*now))).expect("the client's engine works");
        }
        next = poll(&mut client, &mut connected, |bytes| {
            meter.count(|| shard.datagram(*now, 0, address, bytes, out));
        });
        meter.count(|| {
            if shard.wake_at() <= *now {
                shard.wake(*now, out);
            }
            shard.flush(*now, out);
        });
        for datagram in take(out, address) {
            let Ok(contents) = datagram.as_slice().try_into() else { continue };
            let receive =
                Receive { proto: Protocol::Udp, source: SERVER, destination: address, contents };
            let input = Input::Receive(instant(*now), receive);
            client.handle_input(input).expect("the client's engine works");
            next = poll(&mut client, &mut connected, |bytes| {
                meter.count(|| shard.datagram(*now, 0, address, bytes, out));
            });
        }
        *now = *now + Duration::from_millis(1);
        if connected {
            return;
        }
    }
    panic!("the client did not connect");
}

fn join(session: SessionId, index: usize, sdp: String) -> Join {
    let settings = proto::ConnectionSettings { auto_subscribe: true, ..Default::default() };
    Join {
        session,
        claims: Claims {
            issuer: "bench".into(),
            identity: Identity::from(format!("participant-{index}")),
            expires_at: 4_000_000_000,
            video: VideoGrant {
                room_join: true,
                room: format!("room-{}", index / ROOM_SIZE),
                ..VideoGrant::default()
            },
            ..Claims::default()
        },
        request: proto::JoinRequest {
            connection_settings: Some(settings),
            publisher_offer: Some(proto::SessionDescription {
                r#type: "offer".to_owned(),
                sdp,
                id: 1,
                ..Default::default()
            }),
            ..Default::default()
        },
        generation: Generation(1),
        client_ip: None,
        user_agent: String::new(),
    }
}

fn answer(out: &mut Out) -> Option<String> {
    let told = allocations::counted(|| std::mem::take(&mut out.told));
    let found = told.iter().find_map(|told| {
        let Told::Frame { bytes, .. } = told else { return None };
        match proto::SignalResponse::decode(&bytes[..]).ok()?.message? {
            proto::signal_response::Message::Answer(answer) => Some(answer.sdp),
            _ => None,
        }
    });
    allocations::counted(|| drop(told));
    found
}

fn poll(client: &mut Rtc, connected: &mut bool, mut send: impl FnMut(&mut [u8])) -> Instant {
    loop {
        match client.poll_output().expect("the client's engine works") {
            Output::Timeout(at) => return at,
            Output::Transmit(transmit) if transmit.destination == SERVER => {
                send(&mut transmit.contents.to_vec());
            }
            Output::Transmit(_) => {}
            Output::Event(event) => *connected |= matches!(event, Event::Connected),
        }
    }
}

/// Datagrams for one client; what the others get has been paid for and is thrown away.
fn take(out: &mut Out, address: SocketAddr) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    for run in out.batch.runs().filter(|run| run.path.address == address) {
        datagrams.extend(run.bytes.chunks(run.segment.max(1)).map(<[u8]>::to_vec));
    }
    allocations::counted(|| {
        out.batch.clear();
        out.told.clear();
    });
    datagrams
}

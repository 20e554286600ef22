//! A real shard and its clients in virtual time. Only what happens inside the shard is counted, CPU time and bytes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use outlast_livekit::{self as proto, Message as _};
use outlast_model::{Epoch, Generation, Identity, NodeId, RegionName, SessionId, Time};
use outlast_node_core::{Command, Join, Out, SERVER_VERSION, Shard, ShardConfig, Told};
use outlast_runtime::thread_cpu_time;
use outlast_token::{ApiKeys, Claims, VideoGrant};

use crate::{
    allocations,
    client::{self, Client},
};

/// Participants of one room: with more, the length of participant lists would rule.
pub(crate) const ROOM_SIZE: usize = 10;
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7900);
/// One way through the network.
const LATENCY: Duration = Duration::from_millis(1);
/// Virtual time within which everybody is in.
const JOIN_SPAN: Duration = Duration::from_secs(5);

/// A shard and its clients.
pub(crate) struct Scene {
    shard: Shard,
    out: Out,
    clients: Vec<Client>,
    /// On their way to the shard.
    inbound: Vec<(SocketAddr, Vec<u8>)>,
    zero: Instant,
    now: Time,
    spent: Duration,
    signalling: Duration,
}

impl Scene {
    /// An empty shard.
    pub(crate) fn new(participants_max: usize) -> Scene {
        let zero = Instant::now();
        let config = config(zero, participants_max);
        Scene {
            shard: allocations::counted(|| Shard::new(config, [7; 32], Time::ZERO)),
            out: Out::default(),
            clients: Vec::new(),
            inbound: Vec::new(),
            zero,
            now: Time::ZERO,
            spent: Duration::ZERO,
            signalling: Duration::ZERO,
        }
    }

    /// CPU time that the shard has taken.
    pub(crate) fn spent(&self) -> Duration {
        self.spent
    }

    /// The part of it that went into requests: tokens, offers, answers, announcements.
    pub(crate) fn signalling(&self) -> Duration {
        self.signalling
    }

    /// All of them ask to join at once, as after a fault; returns when media is connected for everybody.
    pub(crate) fn join(&mut self, participants: usize) {
        let first = self.clients.len();
        let mut requests = Vec::new();
        for index in first..first + participants {
            let (client, offer) = Client::new(index, self.instant());
            self.clients.push(client);
            // What the shard frees or keeps has to be counted when it is made.
            requests.push(allocations::counted(|| Command::Join(Box::new(join(index, &offer)))));
        }
        let before = self.spent;
        self.run(|shard, now, out| {
            for request in requests {
                shard.command(now, request, out);
            }
        });
        self.signalling += self.spent - before;
        let until = self.now + JOIN_SPAN;
        while self.clients.iter().any(|client| !client.connected()) {
            assert!(self.now < until, "a client did not connect");
            self.step();
        }
        assert_eq!(self.shard.stats().participants, self.clients.len(), "everybody is in");
    }

    /// Lets virtual time pass.
    pub(crate) fn idle(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.step();
        }
        assert_eq!(self.shard.stats().participants, self.clients.len(), "nobody was lost");
    }

    /// Forgets the clients and the buffers; whoever drops what is left frees what the shard keeps.
    pub(crate) fn into_shard(self) -> Shard {
        self.shard
    }

    fn instant(&self) -> Instant {
        self.zero + Duration::from_nanos(self.now.as_nanos())
    }

    /// Goes on to the next instant at which something happens, and lets it happen.
    fn step(&mut self) {
        let next = self.clients.iter().map(Client::wake_at).min().unwrap_or(self.instant());
        let next = Time::from_nanos(next.saturating_duration_since(self.zero).as_nanos() as u64);
        let next = if self.inbound.is_empty() { next.min(self.shard.wake_at()) } else { self.now };
        self.now = next.max(self.now + LATENCY);
        let now = self.instant();
        for client in self.clients.iter_mut().filter(|client| client.wake_at() <= now) {
            let address = client.address();
            client.wake(now, |bytes| self.inbound.push((address, bytes)));
        }
        self.run(|_, _, _| ());
    }

    /// One turn of the shard, with both meters on: a batch of datagrams, what is due, what came of it.
    fn run(&mut self, work: impl FnOnce(&mut Shard, Time, &mut Out)) {
        let (shard, out, now) = (&mut self.shard, &mut self.out, self.now);
        let mut inbound = std::mem::take(&mut self.inbound);
        let began = thread_cpu_time();
        allocations::counted(|| {
            work(shard, now, out);
            for (address, bytes) in &mut inbound {
                shard.datagram(now, 0, *address, bytes, out);
            }
            if shard.wake_at() <= now {
                shard.wake(now, out);
            }
            shard.flush(now, out);
        });
        self.spent += thread_cpu_time().saturating_sub(began);
        self.deliver();
        allocations::counted(|| {
            self.out.batch.clear();
            self.out.told = Vec::new();
        });
    }

    /// Hands answers and datagrams to the clients.
    fn deliver(&mut self) {
        for told in &self.out.told {
            let Told::Frame { session, bytes } = told else { continue };
            let message = proto::SignalResponse::decode(&bytes[..]).expect("a frame").message;
            if let Some(proto::signal_response::Message::Answer(answer)) = message {
                self.clients[session.0 as usize].answer(&answer.sdp);
            }
        }
        let now = self.zero + Duration::from_nanos(self.now.as_nanos());
        for run in self.out.batch.runs() {
            let number = client::number(run.path.address).expect("the address of a client");
            let client = &mut self.clients[number];
            for bytes in run.bytes.chunks(run.segment.max(1)) {
                client.datagram(now, SERVER, bytes, |bytes| {
                    self.inbound.push((run.path.address, bytes));
                });
            }
        }
    }
}

fn config(zero: Instant, participants_max: usize) -> ShardConfig {
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
        participants_max,
    }
}

fn join(index: usize, offer: &str) -> Join {
    let settings = proto::ConnectionSettings { auto_subscribe: true, ..Default::default() };
    Join {
        session: SessionId(index as u64),
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
                sdp: offer.to_owned(),
                id: 1,
                ..Default::default()
            }),
            ..Default::default()
        },
        generation: Generation(1),
        ruling: None,
        client_ip: None,
        user_agent: String::new(),
    }
}

//! Real peers (str0m, as a client: ICE, DTLS, SRTP, NACK, RTX, TWCC) around one plane, in simulated time.

use std::time::{Duration, Instant};

use outlast_media::{
    Batch, Credentials, ExtensionIds, Path, PeerKey, Plane, PlaneEvent, Transport,
    TransportContext, TransportEvent,
};
use outlast_model::Time;
use str0m::bwe::Bitrate;
use str0m::config::Fingerprint;
use str0m::media::{KeyframeRequest, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc};

/// Decides whether the n-th media packet of one direction is lost.
pub(crate) type Loss = fn(u64) -> bool;

pub(crate) struct Client {
    pub(crate) rtc: Rtc,
    pub(crate) peer: PeerKey,
    pub(crate) address: std::net::SocketAddr,
    transport: Transport,
    next: Time,
    pub(crate) received: Vec<RtpPacket>,
    pub(crate) key_frames_wanted: Vec<Option<Rid>>,
    pub(crate) estimates: usize,
    pub(crate) loss_up: Loss,
    pub(crate) loss_down: Loss,
    up: u64,
    down: u64,
    /// The last media datagram that the client sent, as it was on the wire.
    pub(crate) last_up: Vec<u8>,
    out: Vec<Vec<u8>>,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) zero: Instant,
    pub(crate) plane: Plane,
    pub(crate) clients: Vec<Client>,
    pub(crate) events: Vec<PlaneEvent>,
    context: TransportContext,
    server: std::net::SocketAddr,
    batch: Batch,
}

pub(crate) const IDS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    rid: Some(10),
    repaired_rid: Some(11),
    audio_level: Some(1),
    transport_cc: Some(3),
    abs_send_time: Some(2),
    abs_capture_time: None,
    dependency_descriptor: None,
    video_orientation: Some(13),
    playout_delay: None,
};

fn is_media(datagram: &[u8]) -> bool {
    datagram[0] >> 6 == 2 && !(192..=223).contains(&datagram[1])
}

impl Client {
    fn loses_upward(&mut self, datagram: &[u8]) -> bool {
        if !is_media(datagram) {
            return false;
        }
        self.up += 1;
        self.last_up = datagram.to_vec();
        (self.loss_up)(self.up)
    }

    fn loses_downward(&mut self, datagram: &[u8]) -> bool {
        self.down += u64::from(is_media(datagram));
        is_media(datagram) && (self.loss_down)(self.down)
    }
}

impl World {
    pub(crate) fn new() -> World {
        #[allow(clippy::disallowed_methods, reason = "str0m counts from some Instant; any will do")]
        let zero = Instant::now();
        let server = ([10, 0, 0, 1], 7900).into();
        World {
            now: Time::from_millis(1_000),
            zero,
            plane: Plane::new(7),
            clients: Vec::new(),
            events: Vec::new(),
            context: TransportContext::new(zero, vec![server]),
            server,
            batch: Batch::new(),
        }
    }

    pub(crate) fn instant(&self) -> Instant {
        self.zero + Duration::from_nanos(self.now.as_nanos())
    }

    /// Adds a client and connects it; returns its index.
    pub(crate) fn join(&mut self, estimating: bool) -> usize {
        let number = self.clients.len() as u8 + 1;
        let address = ([10, 0, 1, number], 5_000).into();
        let mut config = Rtc::builder().set_rtp_mode(true);
        if estimating {
            config = config.enable_bwe(Some(Bitrate::mbps(5)));
        }
        let mut rtc = config.build(self.instant());
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("valid"));
        rtc.add_remote_candidate(Candidate::host(self.server, "udp").expect("valid"));
        let local =
            Credentials { ufrag: format!("srv{number}"), pwd: "0123456789012345678901".into() };
        let mut api = rtc.direct_api();
        let theirs = api.local_ice_credentials();
        let fingerprint = api.local_dtls_fingerprint().clone();
        api.set_remote_ice_credentials(IceCreds {
            ufrag: local.ufrag.clone(),
            pass: local.pwd.clone(),
        });
        api.set_ice_controlling(true);
        api.set_remote_fingerprint(Fingerprint {
            hash_func: "sha-256".into(),
            bytes: self.context.fingerprint().to_vec(),
        });
        api.start_dtls(true).expect("valid");
        api.enable_twcc_feedback();
        let remote = Credentials { ufrag: theirs.ufrag, pwd: theirs.pass };
        let transport = Transport::new(
            &self.context,
            self.now,
            &local,
            &remote,
            (&fingerprint.hash_func, &fingerprint.bytes),
        )
        .expect("valid");
        let peer = self.plane.add_peer();
        self.plane.set_extensions(peer, IDS);
        self.clients.push(Client {
            rtc,
            peer,
            address,
            transport,
            next: self.now,
            received: Vec::new(),
            key_frames_wanted: Vec::new(),
            estimates: 0,
            loss_up: |_| false,
            loss_down: |_| false,
            up: 0,
            down: 0,
            last_up: Vec::new(),
            out: Vec::new(),
        });
        let index = self.clients.len() - 1;
        for _ in 0..2_000 {
            self.step();
            if self.clients[index].rtc.is_connected() {
                break;
            }
        }
        assert!(self.clients[index].rtc.is_connected(), "connects within 2 s");
        index
    }

    /// Lets one millisecond pass: clients, then server, then what it sent arrives.
    pub(crate) fn step(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        let instant = self.instant();
        for at in 0..self.clients.len() {
            if self.clients[at].next <= self.now {
                let _ = self.clients[at].rtc.handle_input(Input::Timeout(instant));
            }
            self.drain(at);
        }
        for at in 0..self.clients.len() {
            for datagram in std::mem::take(&mut self.clients[at].out) {
                self.upward(at, datagram);
            }
        }
        self.plane.flush(self.now, &mut self.batch);
        if self.plane.wake_at().is_some_and(|at| at <= self.now) {
            self.plane.wake(self.now, &mut self.batch, &mut self.events);
        }
        for at in 0..self.clients.len() {
            let mut events = Vec::new();
            let client = &mut self.clients[at];
            client.transport.wake(&self.context, self.now, &mut self.batch, &mut events);
            self.told(at, events);
        }
        self.downward();
    }

    fn upward(&mut self, at: usize, mut datagram: Vec<u8>) {
        let client = &mut self.clients[at];
        if datagram[0] >> 6 == 2 {
            if !client.loses_upward(&datagram) {
                self.plane.receive(self.now, client.peer, &mut datagram);
            }
            return;
        }
        let path = Path { socket: 0, address: client.address };
        let mut events = Vec::new();
        client.transport.datagram(
            &self.context,
            self.now,
            (path, self.server),
            &datagram,
            &mut self.batch,
            &mut events,
        );
        self.told(at, events);
    }

    fn told(&mut self, at: usize, events: Vec<TransportEvent>) {
        let peer = self.clients[at].peer;
        for event in events {
            match event {
                TransportEvent::Keys(keys) => self.plane.set_keys(peer, keys).expect("valid"),
                TransportEvent::Nominated(path) => {
                    self.clients[at].transport.set_path(Some(path));
                    self.plane.set_path(peer, Some(path));
                }
                TransportEvent::Closed => panic!("the transport failed"),
                _ => (),
            }
        }
    }

    fn downward(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        for run in batch.runs() {
            let at = self.clients.iter().position(|c| c.address == run.path.address);
            let at = at.expect("datagrams go to clients only");
            for datagram in run.bytes.chunks(run.segment) {
                self.arrive(at, datagram);
            }
        }
        self.batch = batch;
        self.batch.clear();
    }

    fn arrive(&mut self, at: usize, datagram: &[u8]) {
        let instant = self.instant();
        let client = &mut self.clients[at];
        if client.loses_downward(datagram) {
            return;
        }
        let receive = Receive {
            proto: Protocol::Udp,
            source: self.server,
            destination: client.address,
            contents: datagram.try_into().expect("a known kind of datagram"),
        };
        client.rtc.handle_input(Input::Receive(instant, receive)).expect("accepted");
        self.drain(at);
    }

    fn drain(&mut self, at: usize) {
        let client = &mut self.clients[at];
        loop {
            match client.rtc.poll_output().expect("valid") {
                Output::Timeout(at) => {
                    let nanos = at.saturating_duration_since(self.zero).as_nanos() as u64;
                    client.next = Time::from_nanos(nanos);
                    return;
                }
                Output::Transmit(transmit) => client.out.push(transmit.contents.to_vec()),
                Output::Event(Event::RtpPacket(packet)) => client.received.push(packet),
                Output::Event(Event::KeyframeRequest(KeyframeRequest { rid, .. })) => {
                    client.key_frames_wanted.push(rid);
                }
                Output::Event(Event::EgressBitrateEstimate(_)) => client.estimates += 1,
                Output::Event(_) => (),
            }
        }
    }

    /// Lets `millis` pass.
    pub(crate) fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.step();
        }
    }
}

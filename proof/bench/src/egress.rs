//! Packets per second and core through the real egress: the plane rewrites and seals, the runtime sends with
//! UDP_SEGMENT to sockets that nobody reads. Beside it the floor: sealing alone, and sending alone.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use outlast_media::{
    Batch, CodecSpec, ExtensionIds, Kind, LayerConfig, MasterKey, MediaCodec, Path, PeerKey, Plane,
    PublicationConfig, Sealer, SrtpKeys, SrtpProfile, SubscriptionConfig,
};
use outlast_model::Time;
use outlast_runtime::{Run, UdpSender, UdpSocketSet, thread_cpu_time};
use socket2::SockRef;

use crate::{
    findings::{Bound, Finding},
    median::{median, nanos_per_unit, per_unit},
};

/// Bytes of a protected packet without IP and UDP headers.
const PACKET: usize = 1_100;
/// Packets of a frame at 1.5 Mbit/s and 30 frames a second: what the publisher sends in a row.
const FRAME: usize = 6;
const SUBSCRIBERS: [usize; 3] = [50, 200, 1_000];
const ROUNDS: usize = 9;
/// Packets that each part of a round handles.
const PACKETS_PER_ROUND: u64 = 120_000;
/// What the profile that DTLS prefers takes: AES-256-GCM.
const PROFILE: SrtpProfile = SrtpProfile::Aes256Gcm;
const SSRC: u32 = 7;
/// RTP header with the transport-wide number, as the plane writes it.
const HEADER: usize = 20;
const TAG: usize = 16;
/// From the prototype: cost of a forwarded packet, in floors.
const EXPECTED: f64 = 1.6;

/// Prints the table.
pub(crate) fn run() -> Vec<Finding> {
    println!("egress: {PACKET}-byte packets, {FRAME} to each subscriber in a row, one thread");
    println!("        ns of CPU time per packet, medians of {ROUNDS} rounds, {PROFILE:?}");
    println!(
        "{:>11} {:>7} {:>7} {:>7} {:>9} {:>9} {:>7} {:>12}",
        "subscribers", "seal", "send", "floor", "ingress", "egress", "x floor", "packets/s"
    );
    let mut findings = Vec::new();
    for subscribers in SUBSCRIBERS {
        for gso in [true, false] {
            let finding = table_line(subscribers, gso);
            findings.extend(gso.then_some(finding));
        }
    }
    findings
}

fn table_line(subscribers: usize, gso: bool) -> Finding {
    let mut scene = Scene::new(subscribers, gso);
    let mut figures: [Vec<f64>; 4] = Default::default();
    scene.egress(PACKETS_PER_ROUND);
    for _ in 0..ROUNDS {
        let (ingress, egress) = scene.egress(PACKETS_PER_ROUND);
        let round = [seal(), scene.send(), ingress, egress];
        for (figures, value) in figures.iter_mut().zip(round) {
            figures.push(value);
        }
    }
    let [seal, send, ingress, egress] = figures.map(|values| median(&values));
    let floor = seal + send;
    println!(
        "{subscribers:>11} {seal:>7.0} {send:>7.0} {floor:>7.0} {ingress:>9.0} {egress:>9.0} {:>7.2} {:>12.0}  {}",
        egress / floor,
        1e9 / egress,
        if gso { "sendmmsg + UDP_SEGMENT" } else { "sendmmsg" },
    );
    Finding {
        what: format!("x floor, {subscribers} subscribers"),
        measured: egress / floor,
        expected: Bound::AtMost(EXPECTED),
        floor: format!("{:.0} of {:.0} packets/s and core", 1e9 / egress, 1e9 / floor),
    }
}

/// Sealing alone: one warm buffer after the other, in place.
fn seal() -> f64 {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("the key has 32 bytes");
    let key = LessSafeKey::new(key);
    let mut buffers = vec![[0x55_u8; PACKET - HEADER - TAG]; 64];
    nanos_per_unit(|| {
        for number in 0..PACKETS_PER_ROUND {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            let buffer = &mut buffers[(number % 64) as usize];
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; HEADER]), buffer);
            assert!(tag.is_ok(), "far below the cipher's limit");
        }
        PACKETS_PER_ROUND
    })
}

fn keys(number: usize) -> SrtpKeys {
    let master = |byte: u8| {
        let mut key = vec![byte; PROFILE.key_bytes()];
        key[..8].copy_from_slice(&number.to_be_bytes());
        MasterKey { key, salt: vec![byte; PROFILE.salt_bytes()] }
    };
    SrtpKeys { profile: PROFILE, ours: master(1), theirs: master(2) }
}

/// Sockets that nobody reads: what does not fit their small buffer is dropped by the kernel, after the whole send path.
fn sinks(count: usize) -> Vec<UdpSocket> {
    let sink = || {
        let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
        SockRef::from(&socket).set_recv_buffer_size(2_048).ok()?;
        Some(socket)
    };
    std::iter::from_fn(sink).take(count).collect()
}

/// One publisher, its subscribers, and their sockets.
struct Scene {
    plane: Plane,
    publisher: PeerKey,
    sealer: Sealer,
    sender: UdpSender,
    _sockets: UdpSocketSet,
    _sinks: Vec<UdpSocket>,
    paths: Vec<SocketAddr>,
    batch: Batch,
    now: Time,
    sent: u64,
}

impl Scene {
    fn new(subscribers: usize, gso: bool) -> Scene {
        let address = "127.0.0.1:0".parse().expect("an address");
        let sockets = UdpSocketSet::bind(&[address]).expect("loopback has a free port");
        let sender = if gso { UdpSender::new(&sockets) } else { UdpSender::without_gso(&sockets) };
        let sinks = sinks(subscribers);
        let addresses: Vec<SocketAddr> =
            sinks.iter().filter_map(|sink| sink.local_addr().ok()).collect();
        // Where the process may not open that many sockets, some stand for several subscribers.
        let paths: Vec<SocketAddr> = addresses.iter().copied().cycle().take(subscribers).collect();
        assert_eq!(paths.len(), subscribers, "at least one socket can be opened");

        let mut plane = Plane::new(1);
        let publisher = join(&mut plane, 0, "127.0.0.1:9".parse().expect("an address"));
        let publication = plane.publish(
            publisher,
            PublicationConfig {
                kind: Kind::Video,
                mid: "v".into(),
                codecs: vec![CodecSpec {
                    pt: 96,
                    rtx_pt: Some(97),
                    codec: MediaCodec::Vp8,
                    clock_rate: 90_000,
                }],
                layers: vec![LayerConfig { ssrc: Some(SSRC), ..LayerConfig::default() }],
                nack: true,
            },
        );
        for (number, address) in paths.iter().enumerate() {
            let peer = join(&mut plane, number + 1, *address);
            let config =
                SubscriptionConfig { pt_map: vec![(96, 96)], rtx_pts: vec![(96, 97)], nack: true };
            plane.subscribe(Time::ZERO, peer, publication, config);
        }
        Scene {
            plane,
            publisher,
            sealer: Sealer::new(PROFILE, &keys(0).theirs).expect("lengths fit"),
            sender,
            _sockets: sockets,
            _sinks: sinks,
            paths,
            batch: Batch::new(),
            now: Time::from_millis(1_000),
            sent: 0,
        }
    }

    /// Forwards at least `packets`; returns ns per packet received and per packet sent.
    fn egress(&mut self, packets: u64) -> (f64, f64) {
        let before = self.sender.counters();
        let per_frame = FRAME as u64 * self.paths.len() as u64;
        let frames = packets.div_ceil(per_frame);
        let mut inward = Duration::ZERO;
        let mut outward = Duration::ZERO;
        for _ in 0..frames {
            let mut datagrams = self.frame();
            let start = thread_cpu_time();
            for datagram in &mut datagrams {
                self.plane.receive(self.now, self.publisher, datagram);
            }
            let received = thread_cpu_time();
            self.plane.flush(self.now, &mut self.batch);
            self.sender.send(self.batch.runs().map(|run| Run {
                socket: run.path.socket,
                address: run.path.address,
                bytes: run.bytes,
                segment: run.segment,
            }));
            self.batch.clear();
            let sent = thread_cpu_time();
            inward += received - start;
            outward += sent - received;
            self.plane.wake(self.now, &mut self.batch, &mut Vec::new());
            self.batch.clear();
        }
        let after = self.sender.counters();
        assert_eq!((after.dropped, after.refused), (0, 0), "the kernel took everything");
        assert_eq!(after.sent - before.sent, frames * per_frame);
        assert_eq!(after.bytes - before.bytes, frames * per_frame * PACKET as u64);
        (per_unit(inward, frames * FRAME as u64), per_unit(outward, frames * per_frame))
    }

    /// Sending alone: the same runs to the same sockets, from one small buffer.
    fn send(&mut self) -> f64 {
        let bytes = vec![0x80; FRAME * PACKET];
        let per_frame = FRAME as u64 * self.paths.len() as u64;
        let frames = PACKETS_PER_ROUND.div_ceil(per_frame);
        nanos_per_unit(|| {
            for _ in 0..frames {
                self.sender.send(self.paths.iter().map(|address| Run {
                    socket: 0,
                    address: *address,
                    bytes: &bytes,
                    segment: PACKET,
                }));
            }
            frames * per_frame
        })
    }

    /// The publisher's next frame, each a key frame's start in its first packet.
    fn frame(&mut self) -> Vec<Vec<u8>> {
        self.now = self.now + Duration::from_millis(33);
        let timestamp = self.now.as_millis() as u32 * 90;
        let packet = |part: usize| {
            let mut packet = Vec::with_capacity(PACKET);
            packet.extend_from_slice(&[0x90, 96]);
            packet.extend_from_slice(&(self.sent as u16).to_be_bytes());
            packet.extend_from_slice(&timestamp.to_be_bytes());
            packet.extend_from_slice(&SSRC.to_be_bytes());
            packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x31]);
            packet.extend_from_slice(&(self.sent as u16).to_be_bytes());
            packet.extend_from_slice(&[0, if part == 0 { 0x10 } else { 0 }, 0]);
            packet.resize(PACKET - TAG, 0xab);
            self.sealer.rtp(SSRC, self.sent, &mut packet, 0, HEADER);
            self.sent += 1;
            packet
        };
        (0..FRAME).map(packet).collect()
    }
}

fn join(plane: &mut Plane, number: usize, address: SocketAddr) -> PeerKey {
    let peer = plane.add_peer();
    plane.set_keys(peer, keys(number)).expect("lengths fit");
    plane.set_extensions(peer, ExtensionIds { transport_cc: Some(3), ..ExtensionIds::default() });
    plane.set_path(peer, Some(Path { socket: 0, address }));
    peer
}

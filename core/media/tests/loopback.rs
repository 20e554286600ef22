//! A call through the plane with real clients: str0m publishes VP8 simulcast, str0m subscribes. Losses on either leg
//! are repaired, layers are switched without a seam, replays are dropped.

mod world;

use std::time::{Duration, Instant};

use outlast_media::{
    CodecSpec, Kind, LayerConfig, MediaCodec, PublicationConfig, PublicationKey,
    SubscriptionConfig, SubscriptionKey, Wanted,
};
use str0m::media::{MediaKind, Mid, Pt, Rid};
use str0m::rtp::{RtpWrite, SeqNo, Ssrc, StreamTx};

use world::World;

const VP8: u8 = 96;
const VP8_RTX: u8 = 97;
const FRAME_MS: u64 = 33;
const RIDS: [&str; 3] = ["q", "h", "f"];
const WIDTHS: [u32; 3] = [320, 640, 1280];
/// Bytes before what the test itself puts into a payload: VP8's descriptor and one byte of the frame.
const DESCRIPTOR: usize = 7;

/// One encoding as the publisher makes it.
struct Encoding {
    ssrc: Ssrc,
    rid: Option<Rid>,
    sequence: u64,
    timestamp: u32,
    picture: u16,
    packets: u64,
    key: bool,
}

struct Call {
    world: World,
    publisher: usize,
    subscriber: usize,
    publication: PublicationKey,
    subscription: SubscriptionKey,
    encodings: Vec<Encoding>,
    frame: u64,
}

fn mid() -> Mid {
    Mid::from("cam")
}

fn call(layers: usize, nack: bool, rtx: bool) -> Call {
    let mut world = World::new();
    let publisher = world.join(true);
    let subscriber = world.join(false);
    let mut encodings = Vec::new();
    let mut api = world.clients[publisher].rtc.direct_api();
    api.declare_media(mid(), MediaKind::Video);
    for (at, rid) in RIDS.into_iter().enumerate().take(layers) {
        let rid = (layers > 1).then(|| Rid::from(rid));
        let ssrc = Ssrc::from(100 + at as u32);
        let rtx = Ssrc::from(200 + at as u32);
        api.declare_stream_tx(ssrc, Some(rtx), mid(), rid).set_unpaced(true);
        encodings.push(Encoding {
            ssrc,
            rid,
            sequence: 65_500 - 300 * at as u64,
            timestamp: 1_000_000 * at as u32,
            picture: 500 * at as u16,
            packets: 1 << at,
            key: true,
        });
    }
    let publication = world.plane.publish(
        world.clients[publisher].peer,
        PublicationConfig {
            kind: Kind::Video,
            mid: "cam".into(),
            codecs: vec![CodecSpec {
                pt: VP8,
                rtx_pt: Some(VP8_RTX),
                codec: MediaCodec::Vp8,
                clock_rate: 90_000,
            }],
            layers: (0..layers)
                .map(|at| LayerConfig {
                    rid: (layers > 1).then(|| RIDS[at].into()),
                    width: WIDTHS[at],
                    height: WIDTHS[at] * 9 / 16,
                    ..LayerConfig::default()
                })
                .collect(),
            nack,
        },
    );
    let rtx_pts = if rtx { vec![(VP8, VP8_RTX)] } else { vec![] };
    let subscription = world.plane.subscribe(
        world.now,
        world.clients[subscriber].peer,
        publication,
        SubscriptionConfig { pt_map: vec![(VP8, VP8)], rtx_pts, nack: true },
    );
    let (ssrc, rtx_ssrc) = world.plane.subscription_ssrcs(subscription);
    assert_eq!(rtx_ssrc.is_some(), rtx);
    let mut api = world.clients[subscriber].rtc.direct_api();
    api.declare_media(mid(), MediaKind::Video);
    // str0m asks for retransmissions only where it expects a stream of them.
    let rtx_ssrc = rtx_ssrc.unwrap_or(0xffff_fff0);
    api.expect_stream_rx(ssrc.into(), Some(rtx_ssrc.into()), mid(), None);
    Call { world, publisher, subscriber, publication, subscription, encodings, frame: 0 }
}

impl Call {
    /// Publishes for `millis`, each layer's frames split into packets, key frames as asked.
    fn run(&mut self, millis: u64) {
        for _ in 0..millis / FRAME_MS {
            self.frame += 1;
            let instant = self.world.instant();
            let client = &mut self.world.clients[self.publisher];
            let wanted = std::mem::take(&mut client.key_frames_wanted);
            let mut api = client.rtc.direct_api();
            for (layer, encoding) in self.encodings.iter_mut().enumerate() {
                encoding.key |= wanted.contains(&encoding.rid);
                let stream = api.stream_tx(&encoding.ssrc).expect("declared");
                encoding.write(stream, layer as u8, self.frame, instant);
            }
            client.rtc.handle_input(str0m::Input::Timeout(instant)).expect("accepted");
            self.world.run(FRAME_MS);
        }
    }

    fn want(&mut self, width: u32) {
        let wanted = Wanted { enabled: true, width, height: 0 };
        self.world.plane.set_wanted(self.world.now, self.subscription, wanted);
    }

    /// What the subscriber decrypted, by extended sequence number.
    fn seen(&self) -> Vec<Seen> {
        let received = &self.world.clients[self.subscriber].received;
        let mut seen: Vec<Seen> = received
            .iter()
            .map(|packet| Seen {
                sequence: *packet.seq_no,
                timestamp: packet.header.timestamp,
                picture: u16::from_be_bytes([packet.payload[2] & 0x7f, packet.payload[3]]),
                key: packet.payload[0] & 0x10 != 0 && packet.payload[6] & 1 == 0,
                layer: packet.payload[DESCRIPTOR],
                frame: u64::from_be_bytes(packet.payload[8..16].try_into().expect("eight")),
                part: packet.payload[16],
            })
            .collect();
        seen.sort_by_key(|seen| seen.sequence);
        seen
    }
}

impl Encoding {
    /// Writes one frame.
    fn write(&mut self, stream: &mut StreamTx, layer: u8, frame: u64, instant: Instant) {
        for packet in 0..self.packets {
            let payload = self.payload(layer, frame, packet);
            let sequence = SeqNo::from(self.sequence);
            self.sequence += 1;
            let packet = RtpWrite::new(Pt::from(VP8), sequence, self.timestamp, instant, payload)
                .marker(packet + 1 == self.packets)
                .nackable(true);
            stream.write_rtp(packet);
        }
        self.key = false;
        self.timestamp = self.timestamp.wrapping_add(90 * FRAME_MS as u32);
        self.picture = self.picture.wrapping_add(1) & 0x7fff;
    }

    fn payload(&self, layer: u8, frame: u64, packet: u64) -> Vec<u8> {
        let [high, low] = self.picture.to_be_bytes();
        let first = if packet == 0 { 0x90 } else { 0x80 };
        let tag = u8::from(!(self.key && packet == 0));
        let mut payload = vec![first, 0xe0, 0x80 | high, low, frame as u8, 0x20, tag, layer];
        payload.extend_from_slice(&frame.to_be_bytes());
        payload.push(packet as u8);
        // As encoders do: the later packets of a frame are a byte longer.
        payload.resize(900 + usize::from(2 * packet >= self.packets), 0xab);
        payload
    }
}

#[derive(Debug)]
struct Seen {
    sequence: u64,
    timestamp: u32,
    picture: u16,
    key: bool,
    layer: u8,
    frame: u64,
    part: u8,
}

/// No gap, no double, and each picture whole and in order.
fn assert_continuous(seen: &[Seen]) {
    assert!(seen.len() > 50, "media flows: {}", seen.len());
    assert!(seen[0].key, "starts with a key frame");
    for pair in seen.windows(2) {
        let [before, after] = pair else { unreachable!("windows of two") };
        assert_eq!(after.sequence, before.sequence + 1, "{before:?} {after:?}");
        if (after.layer, after.frame) == (before.layer, before.frame) {
            assert_eq!(after.timestamp, before.timestamp);
            assert_eq!(after.picture, before.picture);
            assert_eq!(after.part, before.part + 1);
        } else {
            let ahead = after.timestamp.wrapping_sub(before.timestamp) as i32;
            assert!((1..=90 * 3 * FRAME_MS as i32).contains(&ahead), "{before:?} {after:?}");
            assert_eq!(after.picture, (before.picture + 1) & 0x7fff, "{before:?} {after:?}");
            assert_eq!(after.part, 0);
            assert!(after.layer == before.layer || after.key, "{before:?} {after:?}");
        }
    }
}

#[test]
fn simulcast_reaches_a_subscriber_as_one_stream() {
    let mut call = call(3, true, true);
    call.want(320);
    call.run(2_000);
    assert_eq!(call.seen().last().map(|seen| seen.layer), Some(0));
    call.want(0);
    call.run(2_000);
    assert_eq!(call.seen().last().map(|seen| seen.layer), Some(2));
    call.want(600);
    call.run(2_000);
    assert_eq!(call.seen().last().map(|seen| seen.layer), Some(1));
    assert_continuous(&call.seen());
    let counters = call.world.plane.counters();
    assert_eq!((counters.dropped.forged, counters.dropped.unknown_ssrc), (0, 0));
    assert_eq!((counters.nacks_sent, counters.nacks_received), (0, 0));
    let stats = call.world.plane.publication_stats(call.publication).expect("there");
    assert_eq!((stats.layers_active, stats.lost), (3, 0));
    // Our sender reports come back in the subscriber's reports.
    let stats = call.world.plane.subscription_stats(call.subscription).expect("there");
    assert!(stats.round_trip.is_some_and(|span| span < Duration::from_millis(20)), "{stats:?}");
}

#[test]
fn a_silent_layer_is_replaced() {
    let mut call = call(3, true, true);
    call.run(1_000);
    assert_eq!(call.seen().last().map(|seen| seen.layer), Some(2));
    call.encodings[2].packets = 0;
    call.run(3_000);
    assert_eq!(call.seen().last().map(|seen| seen.layer), Some(1));
    call.encodings[2].packets = 4;
    call.run(1_000);
    let seen = call.seen();
    assert_eq!(seen.last().map(|seen| seen.layer), Some(2));
    let frames: Vec<u64> = seen.iter().map(|seen| seen.frame).collect();
    let widest = frames.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(widest.is_some_and(|frames| frames * FRAME_MS < 2_000), "{widest:?}");
}

#[test]
fn who_joins_while_nothing_moves_gets_a_key_frame() {
    let mut call = call(1, true, true);
    call.run(1_000);
    call.encodings[0].packets = 0;
    call.run(3_000);
    let off = Wanted { enabled: false, width: 0, height: 0 };
    call.world.plane.set_wanted(call.world.now, call.subscription, off);
    call.run(100);
    let before = call.seen().len();
    call.world.clients[call.publisher].key_frames_wanted.clear();
    call.want(0);
    call.world.run(100);
    assert_eq!(call.world.clients[call.publisher].key_frames_wanted, [None]);
    call.encodings[0].packets = 2;
    call.run(100);
    let seen = call.seen();
    assert!(seen.len() > before && seen[before].key);
}

#[test]
fn loss_before_the_plane_is_repaired_by_its_nacks() {
    let mut call = call(3, true, true);
    call.world.clients[call.publisher].loss_up = |number| number % 12 == 5;
    call.want(640);
    call.run(3_000);
    call.world.clients[call.publisher].loss_up = |_| false;
    call.run(1_000);
    assert_continuous(&call.seen());
    let counters = call.world.plane.counters();
    assert!(counters.repaired > 20, "{counters:?}");
    assert!(counters.nacks_sent >= counters.repaired, "{counters:?}");
    assert_eq!(counters.given_up, 0);
}

#[test]
fn loss_behind_the_plane_is_repaired_from_its_ring() {
    let mut call = call(3, true, true);
    call.world.clients[call.subscriber].loss_down = |number| number % 15 == 7;
    call.run(2_000);
    call.want(320);
    call.run(2_000);
    call.world.clients[call.subscriber].loss_down = |_| false;
    call.run(1_000);
    assert_continuous(&call.seen());
    let counters = call.world.plane.counters();
    assert!(counters.retransmitted > 10, "{counters:?}");
    assert!(counters.nacks_received >= counters.retransmitted, "{counters:?}");
}

#[test]
fn without_retransmission_streams_the_same_packet_is_sent_again() {
    let mut call = call(1, true, false);
    call.world.clients[call.subscriber].loss_down = |number| number % 15 == 7;
    call.run(2_000);
    call.world.clients[call.subscriber].loss_down = |_| false;
    call.run(1_000);
    assert_continuous(&call.seen());
    assert!(call.world.plane.counters().retransmitted > 2);
}

#[test]
fn transport_wide_feedback_goes_both_ways() {
    let mut call = call(1, true, true);
    call.run(3_000);
    let counters = call.world.plane.counters();
    assert!(counters.feedback_sent > 20, "{counters:?}");
    assert!(counters.feedback_received > 20, "{counters:?}");
    // The publisher's own estimator lives on our feedback.
    assert!(call.world.clients[call.publisher].estimates > 0);
}

#[test]
fn a_replayed_packet_is_dropped() {
    let mut call = call(1, true, true);
    call.run(1_000);
    let peer = call.world.clients[call.publisher].peer;
    let recorded = call.world.clients[call.publisher].last_up.clone();
    let before = call.world.plane.counters();
    for _ in 0..3 {
        call.world.plane.receive(call.world.now, peer, &mut recorded.clone());
    }
    call.world.run(5);
    let after = call.world.plane.counters();
    assert_eq!(after.dropped.replayed, before.dropped.replayed + 3);
    assert_eq!(after.packets_in, before.packets_in);
    assert_eq!(after.packets_out, before.packets_out);
}

#[test]
fn key_frame_requests_are_coalesced() {
    let mut call = call(1, true, true);
    call.run(1_000);
    let (ssrc, _) = call.world.plane.subscription_ssrcs(call.subscription);
    let before = call.world.plane.counters();
    for _ in 0..20 {
        let client = &mut call.world.clients[call.subscriber];
        client
            .rtc
            .direct_api()
            .stream_rx(&ssrc.into())
            .expect("declared")
            .request_keyframe(str0m::media::KeyframeRequestKind::Pli);
        call.world.run(50);
    }
    let after = call.world.plane.counters();
    assert!(after.plis_received - before.plis_received >= 15, "{after:?}");
    let sent = after.plis_sent - before.plis_sent;
    assert!((2..=3).contains(&sent), "one at once, then one each 500 ms: {sent}");
}

//! A warm plane allocates nothing: not per packet, not per report.

use std::alloc::System;
use std::time::Duration;

use outlast_media::{
    Batch, CodecSpec, ExtensionIds, Kind, LayerConfig, MasterKey, MediaCodec, Path, Plane,
    PublicationConfig, Sealer, SrtpKeys, SrtpProfile, SubscriptionConfig,
};
use outlast_model::Time;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SUBSCRIBERS: u8 = 20;
const SSRC: u32 = 7;

fn master(byte: u8) -> MasterKey {
    MasterKey { key: vec![byte; 16], salt: vec![byte; 12] }
}

fn keys(number: u8) -> SrtpKeys {
    SrtpKeys { profile: SrtpProfile::Aes128Gcm, ours: master(number), theirs: master(number + 100) }
}

struct Scene {
    plane: Plane,
    publisher: outlast_media::PeerKey,
    sealer: Sealer,
    packet: Vec<u8>,
    batch: Batch,
    events: Vec<outlast_media::PlaneEvent>,
    now: Time,
    sent: u64,
}

fn scene() -> Scene {
    let mut plane = Plane::new(1);
    let ids = ExtensionIds { transport_cc: Some(3), ..ExtensionIds::default() };
    let join = |plane: &mut Plane, number: u8| {
        let peer = plane.add_peer();
        plane.set_keys(peer, keys(number)).expect("lengths fit");
        plane.set_extensions(peer, ids);
        let address = ([127, 0, 0, number], 9).into();
        plane.set_path(peer, Some(Path { socket: 0, address }));
        peer
    };
    let publisher = join(&mut plane, 0);
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
    for number in 1..=SUBSCRIBERS {
        let peer = join(&mut plane, number);
        let config =
            SubscriptionConfig { pt_map: vec![(96, 96)], rtx_pts: vec![(96, 97)], nack: true };
        plane.subscribe(Time::ZERO, peer, publication, config);
    }
    Scene {
        plane,
        publisher,
        sealer: Sealer::new(SrtpProfile::Aes128Gcm, &keys(0).theirs).expect("lengths fit"),
        packet: Vec::with_capacity(2_000),
        batch: Batch::new(),
        events: Vec::new(),
        now: Time::from_millis(1_000),
        sent: 0,
    }
}

impl Scene {
    /// One frame of six packets, each frame a key frame, each number seen by transport-wide feedback.
    fn frame(&mut self) {
        self.now = self.now + Duration::from_millis(33);
        for part in 0..6 {
            let number = self.sent as u16;
            self.packet.clear();
            self.packet.extend_from_slice(&[0x90, 96]);
            self.packet.extend_from_slice(&number.to_be_bytes());
            self.packet.extend_from_slice(&(self.now.as_millis() as u32 * 90).to_be_bytes());
            self.packet.extend_from_slice(&SSRC.to_be_bytes());
            self.packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x31]);
            self.packet.extend_from_slice(&number.to_be_bytes());
            self.packet.extend_from_slice(&[0, if part == 0 { 0x10 } else { 0 }, 0]);
            // As encoders do: the later packets of a frame are a byte longer.
            self.packet.resize(1_100 + usize::from(part > 2), 0xab);
            self.sealer.rtp(SSRC, self.sent, &mut self.packet, 0, 20);
            self.plane.receive(self.now, self.publisher, &mut self.packet);
            self.sent += 1;
        }
        self.batch.clear();
        self.plane.flush(self.now, &mut self.batch);
        self.plane.wake(self.now, &mut self.batch, &mut self.events);
    }
}

impl Scene {
    /// The publisher's sender report, without which nobody gets one.
    fn report(&mut self) {
        let mut report = vec![0x80, 200, 0, 6, 0, 0, 0, SSRC as u8];
        report.extend_from_slice(&[1; 20]);
        assert!(self.sealer.rtcp(&mut report, 0));
        self.plane.receive(self.now, self.publisher, &mut report);
    }
}

#[test]
fn a_warm_plane_forwards_without_allocating() {
    let mut scene = scene();
    scene.frame();
    scene.report();
    for _ in 0..700 {
        scene.frame();
    }
    let before = scene.plane.counters();
    let region = Region::new(ALLOCATOR);
    for _ in 0..200 {
        scene.frame();
    }
    let change = region.change();
    let after = scene.plane.counters();
    assert_eq!(after.packets_out - before.packets_out, 200 * 6 * u64::from(SUBSCRIBERS));
    assert!(after.feedback_sent > before.feedback_sent, "feedback is part of it");
    assert!(after.rtcp_out > before.rtcp_out + 100, "reports are part of it");
    assert_eq!((change.allocations, change.reallocations), (0, 0));
    // One run each: what GSO is for.
    let runs = scene.batch.runs().filter(|run| run.bytes.len() > 6_000).count();
    assert_eq!(runs, usize::from(SUBSCRIBERS));
}

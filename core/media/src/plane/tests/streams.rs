//! What one subscriber's streams are made of under loss, padding, switches and pauses: each number once, on media and
//! on retransmissions; and how the publisher is asked for key frames.

use std::collections::BTreeSet;

use super::*;
use crate::rtcp::{Compound, Packet};

const VP8: u8 = 96;
const RTX: u8 = 97;
/// SSRC of the lowest layer, and of its retransmissions.
const MEDIA_SSRC: u32 = 70;
const RTX_SSRC: u32 = 80;

/// A VP8 packet with the media id `cam`; `key`: a key frame starts here. Padding only when `key` is `None`.
fn video(pt: u8, ssrc: u32, sequence: u64, original: Option<u64>, key: Option<bool>) -> Vec<u8> {
    let first = if key.is_some() { 0x90 } else { 0xb0 };
    let mut packet = vec![first, pt];
    packet.extend_from_slice(&(sequence as u16).to_be_bytes());
    packet.extend_from_slice(&(3_000 * original.unwrap_or(sequence) as u32).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x12, b'c', b'a', b'm']);
    if let Some(original) = original {
        packet.extend_from_slice(&(original as u16).to_be_bytes());
    }
    match key {
        Some(key) => packet.extend_from_slice(&[0x90, 0xe0, 0x80, 1, 1, 0x20, u8::from(!key), 7]),
        None => packet.extend_from_slice(&[0, 0, 0, 4]),
    }
    packet
}

impl Scene {
    fn camera(&mut self, client: &Client, layers: u32) -> PublicationKey {
        let layer = |at: u32| LayerConfig {
            rid: None,
            ssrc: Some(MEDIA_SSRC + at),
            rtx_ssrc: Some(RTX_SSRC + at),
            width: 320 << at,
            height: 180 << at,
        };
        self.plane.publish(
            client.peer,
            PublicationConfig {
                kind: Kind::Video,
                mid: "cam".into(),
                codecs: vec![CodecSpec {
                    pt: VP8,
                    rtx_pt: Some(RTX),
                    codec: MediaCodec::Vp8,
                    clock_rate: 90_000,
                }],
                layers: (0..layers).map(layer).collect(),
                nack: true,
            },
        )
    }

    /// Subscribes to what is `width` wide.
    fn watch(
        &mut self,
        client: &Client,
        publication: PublicationKey,
        width: u32,
    ) -> SubscriptionKey {
        let config =
            SubscriptionConfig { pt_map: vec![(VP8, VP8)], rtx_pts: vec![(VP8, RTX)], nack: true };
        let key = self.plane.subscribe(self.now, client.peer, publication, config);
        self.plane.set_wanted(self.now, key, Wanted { enabled: true, width, height: 0 });
        key
    }

    /// `client` sends a packet as it is numbered there.
    fn send(&mut self, client: &mut Client, mut packet: Vec<u8>, index: u64) {
        let ssrc = Header::parse(&packet).expect("a header").ssrc;
        assert!(client.sealer.rtp(ssrc, index, &mut packet, 0, 20));
        self.plane.receive(self.now, client.peer, &mut packet);
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.tick();
    }
}

#[test]
fn the_same_number_from_two_ssrcs_in_one_flush_is_forwarded_once() {
    let mut scene = scene();
    let mut alice = scene.join(1);
    let bob = scene.join(2);
    let camera = scene.camera(&alice, 1);
    scene.watch(&bob, camera, 0);
    scene.wait(1);
    scene.send(&mut alice, video(VP8, MEDIA_SSRC, 500, None, Some(true)), 500);
    scene.wait(1);
    // The encoder starts over between two packets: the store of the old one is gone.
    scene.send(&mut alice, video(VP8, MEDIA_SSRC, 501, None, Some(false)), 501);
    scene.send(&mut alice, video(VP8, 999, 501, None, Some(true)), 501);
    scene.wait(1);
    let sent = scene.sent(2);
    assert_eq!(sent.len(), 2, "both key frames");
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 2);
    let dropped = scene.plane.counters().dropped;
    assert_eq!((dropped.overrun, dropped.number_used), (1, 0));
}

#[test]
fn a_number_that_is_used_up_is_dropped_and_counted() {
    let mut scene = scene();
    let mut alice = scene.join(1);
    let bob = scene.join(2);
    let microphone = scene.microphone(&alice);
    let subscription = scene.listen(&bob, microphone);
    scene.speak(&mut alice, 127);
    let (ssrc, _) = scene.plane.subscription_ssrcs(subscription);
    let number = u64::from(scene.sent(2)[0].1);
    // As if the next number had been sealed before.
    let sealer = scene.plane.peers[bob.peer].sealer.as_mut().expect("keys");
    assert!(sealer.rtp(ssrc, number + 1, &mut audio(ssrc, number + 1, 0), 0, 20));
    let before = scene.plane.counters();
    scene.speak(&mut alice, 127);
    assert_eq!(scene.sent(2), []);
    let after = scene.plane.counters();
    assert_eq!(after.dropped.number_used, before.dropped.number_used + 1);
    assert_eq!(after.packets_out, before.packets_out);
    scene.speak(&mut alice, 127);
    assert_eq!(scene.sent(2), [(ssrc, number as u16 + 2)]);
}

/// When which layers' SSRCs were asked for a key frame.
fn requests(scene: &mut Scene, client: &mut Client, number: u8) -> Vec<u32> {
    let mut asked = Vec::new();
    for mut packet in scene.datagrams(number, false) {
        let length = client.opener.rtcp(&mut packet).expect("authentic");
        asked.extend(Compound(&packet[..length]).filter_map(|packet| match packet {
            Packet::Pli { media } => Some(media),
            _ => None,
        }));
    }
    scene.batch.clear();
    asked
}

#[test]
fn a_track_is_asked_for_one_key_frame_in_500_ms_and_no_layer_is_forgotten() {
    let mut scene = scene();
    let mut alice = scene.join(1);
    let camera = scene.camera(&alice, 3);
    let mut watchers: Vec<(Client, u32)> = Vec::new();
    // Five on the highest layer, one on each of the others.
    for (number, width) in [1280, 1280, 1280, 1280, 1280, 640, 320].into_iter().enumerate() {
        let watcher = scene.join(10 + number as u8);
        let key = scene.watch(&watcher, camera, width);
        let (ssrc, _) = scene.plane.subscription_ssrcs(key);
        watchers.push((watcher, ssrc));
    }
    let mut index = 500;
    let mut frame = |scene: &mut Scene, alice: &mut Client, key: bool| {
        for layer in 0..3 {
            let packet = video(VP8, MEDIA_SSRC + layer, index, None, Some(key));
            scene.send(alice, packet, index);
        }
        index += 1;
    };
    frame(&mut scene, &mut alice, false);
    scene.wait(1);
    frame(&mut scene, &mut alice, true);
    // Whoever waits is served by now, and the last request is long ago.
    for _ in 0..30 {
        scene.wait(50);
        frame(&mut scene, &mut alice, false);
    }
    scene.batch.clear();
    let mut asked: Vec<(Time, u32)> = Vec::new();
    for _ in 0..400 {
        for (watcher, ssrc) in &mut watchers {
            let mut compound = Vec::new();
            rtcp::write_pli(&mut compound, 9, *ssrc);
            assert!(watcher.sealer.rtcp(&mut compound, 0));
            scene.plane.receive(scene.now, watcher.peer, &mut compound);
        }
        frame(&mut scene, &mut alice, false);
        scene.wait(10);
        let now = scene.now;
        asked.extend(requests(&mut scene, &mut alice, 1).into_iter().map(|ssrc| (now, ssrc)));
    }
    let close = asked.windows(2).any(|pair| pair[1].0 < pair[0].0 + Duration::from_millis(500));
    assert!(!close, "{asked:?}");
    let layers: Vec<u32> = asked.iter().map(|(_, ssrc)| ssrc - MEDIA_SSRC).collect();
    assert!((7..=8).contains(&layers.len()), "{layers:?}");
    assert_eq!(layers[0], 2, "most watch the highest");
    for three in layers.windows(3) {
        assert_eq!(three.iter().collect::<BTreeSet<_>>().len(), 3, "each in its turn: {layers:?}");
    }
    // Asked once and no more: what is left comes by itself, then there is silence.
    let mut left = Vec::new();
    for _ in 0..300 {
        scene.wait(10);
        left.extend(requests(&mut scene, &mut alice, 1));
    }
    assert_eq!(left.iter().collect::<BTreeSet<_>>().len(), left.len(), "{left:?}");
    assert_eq!(left.len(), 3, "all three broke again after they were asked for: {left:?}");
}

/// What may happen in a call.
#[derive(Clone, Debug)]
enum Step {
    Send {
        layer: u32,
        lost: u64,
        key: Option<bool>,
    },
    /// A lost packet comes, as its retransmission or late itself.
    Late {
        which: prop::sample::Index,
        rtx: bool,
        key: Option<bool>,
    },
    Flush(u64),
    Want(u32),
    Enable(bool),
    Mute(bool),
    Path(bool),
    /// The subscriber asks again for so many numbers up to the newest.
    Ask(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lost = || prop_oneof![5 => Just(0), 2 => 1u64..4, 1 => 1u64..20];
    let key = || prop_oneof![3 => Just(None), 5 => Just(Some(false)), 2 => Just(Some(true))];
    let late = (any::<prop::sample::Index>(), any::<bool>(), key());
    let step = prop_oneof![
        14 => (0u32..2, lost(), key())
            .prop_map(|(layer, lost, key)| Step::Send { layer, lost, key }),
        6 => late.prop_map(|(which, rtx, key)| Step::Late { which, rtx, key }),
        8 => (0u64..30).prop_map(Step::Flush),
        2 => prop_oneof![Just(320), Just(640)].prop_map(Step::Want),
        1 => any::<bool>().prop_map(Step::Enable),
        1 => any::<bool>().prop_map(Step::Mute),
        1 => any::<bool>().prop_map(Step::Path),
        4 => (1u16..40).prop_map(Step::Ask),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn no_number_is_sent_twice_on_media_or_on_retransmissions(steps in steps()) {
        let mut scene = scene();
        let mut alice = scene.join(1);
        let mut bob = scene.join(2);
        let camera = scene.camera(&alice, 2);
        let subscription = scene.watch(&bob, camera, 320);
        let (ssrc, rtx_ssrc) = scene.plane.subscription_ssrcs(subscription);
        let mut sent: BTreeSet<(u32, u16)> = BTreeSet::new();
        let mut newest = 0;
        let mut next = [65_400u64, 900];
        let mut repairs = 0;
        let mut missing: Vec<(u32, u64)> = Vec::new();
        for step in steps.into_iter().chain([Step::Flush(50)]) {
            match step {
                Step::Send { layer, lost, key } => {
                    let next = &mut next[layer as usize];
                    missing.extend((0..lost).map(|more| (layer, *next + more)));
                    *next += lost + 1;
                    let packet = video(VP8, MEDIA_SSRC + layer, *next - 1, None, key);
                    scene.send(&mut alice, packet, *next - 1);
                }
                Step::Late { which, rtx, key } if !missing.is_empty() => {
                    let (layer, index) = missing.swap_remove(which.index(missing.len()));
                    if rtx {
                        repairs += 1;
                        let packet = video(RTX, RTX_SSRC + layer, repairs, Some(index), key);
                        scene.send(&mut alice, packet, repairs);
                    } else if index + 512 > next[layer as usize] {
                        let packet = video(VP8, MEDIA_SSRC + layer, index, None, key);
                        scene.send(&mut alice, packet, index);
                    }
                }
                Step::Late { .. } => (),
                Step::Flush(millis) => {
                    scene.wait(millis);
                    for (stream, number) in scene.sent(2) {
                        prop_assert!(stream == ssrc || Some(stream) == rtx_ssrc);
                        prop_assert!(sent.insert((stream, number)), "{stream} {number} twice");
                        if stream == ssrc {
                            newest = number;
                        }
                    }
                }
                Step::Want(width) => {
                    let wanted = Wanted { enabled: true, width, height: 0 };
                    scene.plane.set_wanted(scene.now, subscription, wanted);
                }
                Step::Enable(enabled) => {
                    let wanted = Wanted { enabled, width: 0, height: 0 };
                    scene.plane.set_wanted(scene.now, subscription, wanted);
                }
                Step::Mute(muted) => scene.plane.set_publication_muted(camera, muted),
                Step::Path(there) => scene.plane.set_path(bob.peer, there.then(|| path(2))),
                Step::Ask(count) => {
                    let sequences = (0..count).map(|back| newest.wrapping_sub(count - back));
                    scene.ask(&mut bob, ssrc, sequences);
                }
            }
        }
        prop_assert_eq!(scene.plane.counters().dropped.number_used, 0);
    }
}

//! What a subscriber sees across gaps, padding, reordering, pauses and switches.

use super::*;
use crate::codec::vp8::Descriptor;
use crate::config::LayerConfig;
use crate::ring::Meta;
use crate::rtp::Passed;
use proptest::prelude::*;
use slotmap::Key;
use std::collections::BTreeMap;

struct Scene {
    subscription: Subscription,
    layers: Vec<Layer>,
    now: Time,
}

/// What was forwarded: number after the first, timestamp.
type Seen = Option<(u64, u32)>;

const FIRST: u64 = 0x1000;

fn scene() -> Scene {
    let config = SubscriptionConfig {
        pt_map: vec![(96, 100), (63, 63)],
        rtx_pts: vec![(100, 101)],
        nack: true,
    };
    let mut subscription = Subscription::new(
        PeerKey::null(),
        PublicationKey::null(),
        Kind::Video,
        (1, Some(2)),
        (0, 90_000),
        config,
    );
    subscription.target = 0;
    let layers = (0..2).map(|_| Layer::new(Kind::Video, LayerConfig::default())).collect();
    Scene { subscription, layers, now: Time::from_millis(1_000) }
}

impl Scene {
    fn packet(
        &mut self,
        layer: usize,
        index: u64,
        timestamp: u32,
        key: bool,
        payload: &[u8],
    ) -> Verdict {
        let vp8 = Descriptor::parse(payload).map(|(descriptor, _)| descriptor);
        let meta = Meta { pt: 96, marker: false, key, timestamp, vp8 };
        let stored = Stored { meta, passed: Passed::default(), payload };
        self.subscription.admit(self.now, layer, &self.layers, index, &stored)
    }

    fn see(&mut self, layer: usize, index: u64, timestamp: u32, key: bool) -> Seen {
        match self.packet(layer, index, timestamp, key, &[0; 9]) {
            Verdict::Forward(numbers) => Some((numbers.index - FIRST, numbers.timestamp)),
            Verdict::Skip | Verdict::Late => None,
        }
    }

    fn pad(&mut self, layer: usize, index: u64) -> Verdict {
        self.packet(layer, index, 0, false, &[])
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }
}

#[test]
fn nothing_comes_before_a_key_frame() {
    let mut scene = scene();
    assert_eq!(scene.see(0, 500, 10, false), None);
    assert_eq!(scene.see(0, 501, 20, true), Some((0, 20)));
    assert_eq!(scene.see(0, 502, 30, false), Some((1, 30)));
    // From before the key frame: its place does not exist.
    assert_eq!(scene.see(0, 499, 5, false), None);
}

#[test]
fn gaps_stay_and_late_packets_fill_them() {
    let mut scene = scene();
    scene.see(0, 65_534, 10, true);
    assert_eq!(scene.see(0, 65_539, 20, false), Some((5, 20)));
    assert_eq!(scene.see(0, 65_536, 12, false), Some((2, 12)));
    assert_eq!(scene.see(0, 65_540, 30, false), Some((6, 30)));
}

#[test]
fn padding_leaves_no_gap_unless_it_is_late() {
    let mut scene = scene();
    scene.see(0, 10, 10, true);
    assert_eq!(scene.pad(0, 11), Verdict::Skip);
    assert_eq!(scene.pad(0, 12), Verdict::Skip);
    assert_eq!(scene.see(0, 15, 20, false), Some((3, 20)));
    // The place of 13 was already promised.
    assert!(matches!(scene.pad(0, 13), Verdict::Forward(numbers) if numbers.index == FIRST + 1));
    assert_eq!(scene.see(0, 14, 15, false), Some((2, 15)));
    assert_eq!(scene.subscription.find(FIRST + 2).map(|found| found.2), Some(14));
    assert_eq!(scene.subscription.find(FIRST).map(|found| found.2), Some(10));
    assert_eq!(scene.subscription.find(FIRST + 4), None);
}

#[test]
fn a_number_kept_for_a_lost_packet_is_not_given_to_a_key_frame() {
    for pause in [false, true] {
        let mut scene = scene();
        scene.see(0, 100, 1_000, true);
        assert_eq!(scene.see(0, 109, 4_000, false), Some((9, 4_000)));
        // 110 is lost, and keeps number 10.
        assert_eq!(scene.pad(0, 111), Verdict::Skip);
        let layer = if pause {
            scene.subscription.pause();
            0
        } else {
            scene.subscription.target = 1;
            1
        };
        assert_eq!(scene.see(layer, 900, 90_000, true).map(|seen| seen.0), Some(11));
        assert_eq!(scene.see(0, 110, 4_000, false), Some((10, 4_000)));
        assert_eq!(scene.see(layer, 901, 90_000, false).map(|seen| seen.0), Some(12));
    }
}

#[test]
fn a_switch_waits_for_a_key_frame_and_goes_on_seamlessly() {
    let mut scene = scene();
    scene.see(0, 10, 1_000, true);
    scene.see(0, 11, 4_000, false);
    scene.subscription.target = 1;
    assert_eq!(scene.see(1, 900, 70_000, false), None);
    assert_eq!(scene.see(0, 12, 7_000, false), Some((2, 7_000)));
    scene.wait(33);
    assert_eq!(scene.see(1, 903, 73_000, true), Some((3, 7_000 + 33 * 90)));
    assert_eq!(scene.see(1, 904, 76_000, false), Some((4, 10_000 + 33 * 90)));
    // The old layer: what would have come next is nobody's, what was missing still has its place.
    assert_eq!(scene.see(0, 13, 9_000, false), None);
    assert_eq!(scene.subscription.layer(), Some(1));
    assert_eq!(scene.subscription.find(FIRST + 2).map(|found| (found.0, found.2)), Some((0, 12)));
    assert_eq!(scene.subscription.find(FIRST + 3).map(|found| (found.0, found.2)), Some((1, 903)));
}

#[test]
fn late_packets_of_the_old_layer_find_their_place_after_a_switch() {
    let mut scene = scene();
    scene.see(0, 10, 1_000, true);
    scene.see(0, 13, 4_000, false);
    scene.subscription.target = 1;
    scene.wait(5);
    assert_eq!(scene.see(1, 903, 73_000, true).map(|seen| seen.0), Some(4));
    assert_eq!(scene.see(0, 12, 4_000, false), Some((2, 4_000)));
}

#[test]
fn sender_reports_align_the_layers() {
    let mut scene = scene();
    let arrived = scene.now;
    // The same instant is 5,000 on the low layer and 905,000 on the high one.
    scene.layers[0].anchor = Some(Anchor { ntp: 7 << 32, timestamp: 5_000, arrived });
    scene.layers[1].anchor = Some(Anchor { ntp: 7 << 32, timestamp: 905_000, arrived });
    scene.see(0, 10, 5_000, true);
    scene.subscription.target = 1;
    // Three frames were captured in 100 ms, however late the packet comes.
    scene.wait(180);
    assert_eq!(scene.see(1, 900, 914_000, true), Some((1, 14_000)));
    // Back, to a frame of the same instant: time goes on all the same.
    scene.subscription.target = 0;
    assert_eq!(scene.see(0, 20, 14_000, true), Some((2, 14_001)));
    // A clock that jumped is not believed.
    scene.layers[1].anchor = Some(Anchor { ntp: 700 << 32, timestamp: 905_000, arrived });
    scene.subscription.target = 1;
    scene.wait(10);
    assert_eq!(scene.see(1, 901, 999_000, true), Some((3, 14_901)));
}

#[test]
fn a_pause_goes_on_with_the_clock_of_the_layer() {
    let mut scene = scene();
    scene.see(0, 10, 1_000, true);
    scene.subscription.pause();
    scene.wait(10_000);
    assert_eq!(scene.see(0, 500, 901_000, false), None);
    assert_eq!(scene.see(0, 501, 904_000, true), Some((1, 904_000)));
}

#[test]
fn another_ssrc_in_the_same_layer_starts_at_a_key_frame() {
    let mut scene = scene();
    scene.see(0, 10, 1_000, true);
    scene.layers[0].start_over(77);
    scene.wait(20);
    assert_eq!(scene.see(0, 11, 50_000, false), None);
    assert_eq!(scene.see(0, 12, 50_000, true), Some((1, 1_000 + 20 * 90)));
}

#[test]
fn vp8_numbers_go_on_across_a_switch() {
    let mut scene = scene();
    let payload = |picture: u16, base_layer: u8| {
        let [high, low] = picture.to_be_bytes();
        [0x90, 0xe0, high | 0x80, low, base_layer, 0x20, 0x00]
    };
    let mut see = |layer: usize, index: u64, payload: &mut [u8]| {
        scene.subscription.target = layer;
        let Verdict::Forward(numbers) = scene.packet(layer, index, 0, true, payload) else {
            panic!("forwarded")
        };
        let (descriptor, _) = Descriptor::parse(payload).expect("a descriptor");
        descriptor.rewrite(payload, numbers.vp8);
        let (descriptor, _) = Descriptor::parse(payload).expect("a descriptor");
        (descriptor.picture.expect("there").1, descriptor.base_layer.expect("there").1)
    };
    assert_eq!(see(0, 1, &mut payload(0x7fff, 255)), (0x7fff, 255));
    assert_eq!(see(1, 1, &mut payload(500, 9)), (0, 0));
    assert_eq!(see(1, 2, &mut payload(501, 10)), (1, 1));
    assert_eq!(see(0, 2, &mut payload(3, 3)), (2, 2));
}

#[test]
fn red_is_stripped_for_those_who_cannot_read_it() {
    let mut scene = scene();
    let codec = |pt, codec| CodecSpec { pt, rtx_pt: None, codec, clock_rate: 48_000 };
    let codecs = [codec(96, MediaCodec::Opus), codec(63, MediaCodec::Red)];
    let red = [0x80 | 96, 0x0f, 0x00, 2, 96, 8, 8, 1, 2, 3];
    let meta = Meta { pt: 63, ..Meta::default() };
    let stored = Stored { meta, passed: Passed::default(), payload: &red };
    assert_eq!(scene.subscription.payload(&stored, &codecs), Some((63, &red[..])));
    scene.subscription.config.pt_map.pop();
    assert_eq!(scene.subscription.payload(&stored, &codecs), Some((100, &[1, 2, 3][..])));
    scene.subscription.config.pt_map.clear();
    assert_eq!(scene.subscription.payload(&stored, &codecs), None);
}

#[test]
fn resends_are_spaced_and_bounded() {
    let mut scene = scene();
    let now = scene.now;
    let subscription = &mut scene.subscription;
    assert_eq!(subscription.may_resend(now, 5, 1_000), Resend::Yes);
    assert_eq!(subscription.may_resend(now, 5, 1_000), Resend::JustSent);
    let later = now + RESEND_SPACING;
    assert_eq!(subscription.may_resend(later, 5, 1_000), Resend::Yes);
    let granted =
        (100..400).filter(|out| subscription.may_resend(later, *out, 1_000) == Resend::Yes).count();
    assert_eq!(granted, 62);
    assert_eq!(subscription.may_resend(later, 500, 1_000), Resend::OverLimit);
    for _ in 0..4 {
        subscription.count(1_000);
    }
    assert_eq!(subscription.may_resend(later, 500, 1_000), Resend::Yes);
}

/// What may happen to a subscription.
#[derive(Clone, Debug)]
enum Step {
    /// The publisher sends on a layer, after losing `lost` packets on the way.
    Send {
        layer: usize,
        lost: u64,
        key: bool,
        padding: bool,
    },
    /// One of the lost arrives after all.
    Late {
        which: prop::sample::Index,
        key: bool,
        padding: bool,
    },
    /// The layer is to be switched.
    Target(usize),
    /// Muted, unsubscribed for a while, or without a path.
    Pause,
    /// Another SSRC takes the layer over.
    StartOver(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lost = prop_oneof![5 => Just(0), 2 => 1u64..4, 1 => 1u64..40];
    let send = (0usize..2, lost, prop::bool::weighted(0.2), prop::bool::weighted(0.3));
    let late = (any::<prop::sample::Index>(), prop::bool::weighted(0.2), prop::bool::weighted(0.3));
    let step = prop_oneof![
        12 => send.prop_map(|(layer, lost, key, padding)| Step::Send { layer, lost, key, padding }),
        5 => late.prop_map(|(which, key, padding)| Step::Late { which, key, padding }),
        2 => (0usize..2).prop_map(Step::Target),
        1 => Just(Step::Pause),
        1 => (0usize..2).prop_map(Step::StartOver),
        1 => (0u64..50).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..250)
}

/// A packet as the publisher knows it: layer, epoch, number.
type Name = (usize, u32, u64);

impl Scene {
    /// Lets `name` arrive; what was given before is in `given`.
    fn arrive(
        &mut self,
        given: &mut BTreeMap<u64, Name>,
        name: Name,
        (key, padding): (bool, bool),
    ) -> Result<(), TestCaseError> {
        let payload: &[u8] = if padding { &[] } else { &[0; 9] };
        let verdict = self.packet(name.0, name.2, 0, key && !padding, payload);
        let Verdict::Forward(numbers) = verdict else { return Ok(()) };
        let before = given.insert(numbers.index, name);
        prop_assert_eq!(before, None, "{} is given to {:?} as well", numbers.index, name);
        let found = self.subscription.find(numbers.index);
        prop_assert_eq!(found.map(|found| (found.0, found.1, found.2)), Some(name));
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_number_is_given_to_two_packets(steps in steps()) {
        let mut scene = scene();
        let mut given = BTreeMap::new();
        let mut next = [100u64, 60_000];
        let mut missing: Vec<(usize, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Send { layer, lost, key, padding } => {
                    missing.extend((0..lost).map(|more| (layer, next[layer] + more)));
                    next[layer] += lost + 1;
                    let name = (layer, scene.layers[layer].epoch, next[layer] - 1);
                    scene.arrive(&mut given, name, (key, padding))?;
                }
                Step::Late { which, key, padding } if !missing.is_empty() => {
                    let (layer, index) = missing.swap_remove(which.index(missing.len()));
                    let name = (layer, scene.layers[layer].epoch, index);
                    scene.arrive(&mut given, name, (key, padding))?;
                }
                Step::Late { .. } => (),
                Step::Target(layer) => scene.subscription.target = layer,
                Step::Pause => scene.subscription.pause(),
                Step::StartOver(layer) => {
                    scene.layers[layer].start_over(7);
                    missing.retain(|(other, _)| *other != layer);
                    next[layer] = next[layer].saturating_sub(50);
                }
                Step::Wait(millis) => scene.wait(millis),
            }
        }
    }
}

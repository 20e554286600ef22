//! The packet store of one published layer, shared by all its subscribers: forwarding and retransmission read from it.

use crate::codec::vp8::Descriptor;
use crate::config::Kind;
use crate::rtp::Passed;

/// About 3 s of video at 1.5 Mbit/s.
const VIDEO_SLOTS: usize = 512;
/// 1.3 s of audio at 20 ms a packet.
const AUDIO_SLOTS: usize = 64;

/// What is known of a stored packet beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meta {
    pub(crate) pt: u8,
    pub(crate) marker: bool,
    /// A key frame starts with this packet; for audio, any packet does.
    pub(crate) key: bool,
    pub(crate) timestamp: u32,
    pub(crate) vp8: Option<Descriptor>,
}

/// A packet as the publisher sent it, plain and without padding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) meta: Meta,
    pub(crate) passed: Passed<'a>,
    /// Empty: the packet was nothing but padding.
    pub(crate) payload: &'a [u8],
}

#[derive(Default)]
struct Slot {
    /// Index of the packet plus one; 0: empty.
    tag: u64,
    meta: Meta,
    audio_level: Option<u8>,
    orientation: Option<u8>,
    playout_delay: Option<[u8; 3]>,
    capture_bytes: u8,
    dependency_bytes: u8,
    /// Capture time, dependency descriptor, payload.
    bytes: Vec<u8>,
}

/// The last packets of one layer by extended sequence number.
pub(crate) struct Ring {
    capacity: usize,
    /// Grows to its capacity as packets come, so that a silent layer costs nothing.
    slots: Vec<Slot>,
}

impl Ring {
    pub(crate) fn new(kind: Kind) -> Ring {
        let capacity = match kind {
            Kind::Audio => AUDIO_SLOTS,
            Kind::Video => VIDEO_SLOTS,
        };
        Ring { capacity, slots: Vec::new() }
    }

    fn at(&self, index: u64) -> usize {
        (index % self.capacity as u64) as usize
    }

    /// Keeps a packet in the place of the oldest; false when it, or a newer one, is there already.
    pub(crate) fn put(
        &mut self,
        index: u64,
        meta: Meta,
        passed: &Passed<'_>,
        payload: &[u8],
    ) -> bool {
        let at = self.at(index);
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, Slot::default);
        }
        let slot = &mut self.slots[at];
        if slot.tag > index {
            return false;
        }
        slot.tag = index + 1;
        slot.meta = meta;
        slot.audio_level = passed.audio_level;
        slot.orientation = passed.orientation;
        slot.playout_delay = passed.playout_delay;
        let capture = passed.capture_time.unwrap_or(&[]);
        let dependency = passed.dependency.unwrap_or(&[]);
        // Neither is longer than an extension's 255 bytes.
        slot.capture_bytes = capture.len() as u8;
        slot.dependency_bytes = dependency.len() as u8;
        slot.bytes.clear();
        slot.bytes.extend_from_slice(capture);
        slot.bytes.extend_from_slice(dependency);
        slot.bytes.extend_from_slice(payload);
        true
    }

    /// The packet with this extended sequence number, unless it never came or gave way.
    pub(crate) fn get(&self, index: u64) -> Option<Stored<'_>> {
        let slot = self.slots.get(self.at(index)).filter(|slot| slot.tag == index + 1)?;
        let (capture, rest) = slot.bytes.split_at(slot.capture_bytes.into());
        let (dependency, payload) = rest.split_at(slot.dependency_bytes.into());
        Some(Stored {
            meta: slot.meta,
            passed: Passed {
                audio_level: slot.audio_level,
                orientation: slot.orientation,
                playout_delay: slot.playout_delay,
                capture_time: Some(capture).filter(|bytes| !bytes.is_empty()),
                dependency: Some(dependency).filter(|bytes| !bytes.is_empty()),
            },
            payload,
        })
    }

    /// Forgets all packets; for a layer that starts over with another SSRC.
    pub(crate) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.tag = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(indices in prop::collection::vec(0u64..300, 1..300)) {
            let mut ring = Ring::new(Kind::Audio);
            let mut twin: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            for (round, index) in indices.into_iter().enumerate() {
                let payload = vec![round as u8; round % 5];
                let passed = Passed {
                    audio_level: Some(3),
                    dependency: (round % 2 == 0).then_some(&[1, 2, 3]),
                    capture_time: (round % 3 == 0).then_some(&[9; 8]),
                    ..Passed::default()
                };
                let slots = AUDIO_SLOTS as u64;
                let newer = twin.keys().any(|k| *k >= index && k % slots == index % slots);
                prop_assert_eq!(ring.put(index, Meta::default(), &passed, &payload), !newer);
                if !newer {
                    twin.retain(|k, _| k % slots != index % slots);
                    twin.insert(index, payload);
                    prop_assert_eq!(ring.get(index).expect("just put").passed, passed);
                }
            }
            for index in 0..300 {
                let stored = ring.get(index).map(|stored| stored.payload.to_vec());
                prop_assert_eq!(stored.as_ref(), twin.get(&index));
            }
        }
    }
}

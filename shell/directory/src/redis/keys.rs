//! Where a partition is kept: six keys with a hash tag of its own, so that one script may touch them all.

use outlast_directory::Partition;

/// How many partitions a directory in a Redis Cluster has: as many for each of 2, 3, 4, 6 or 12 primaries.
pub(super) const CLUSTER_PARTITIONS: u16 = 12;
/// Slots of a cluster (Redis Cluster Specification).
pub(super) const SLOTS: u16 = 16_384;
/// How far the slot of a partition may be from the middle of its share. Lower: more tags are tried at the start.
const OFF_CENTRE_MAX: u16 = 100;

/// The keys of one partition.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// All that scripts are given, in the order of `scripts/open.lua`.
    pub(super) all: [String; 6],
    /// Written for the sake of being replicated.
    pub(super) fence: String,
    /// Where a cluster keeps them.
    pub(super) slot: u16,
}

impl Keys {
    /// Of the only partition.
    pub(super) fn alone() -> Keys {
        Keys::tagged("outlast")
    }

    /// Of one of a cluster's partitions: the middle of the `at`-th of [`CLUSTER_PARTITIONS`] equal parts of all slots. The
    /// same at every gateway of every version.
    pub(super) fn in_cluster(at: Partition) -> Keys {
        let twice = 2 * u32::from(at.0) + 1;
        let centre = twice * u32::from(SLOTS) / (2 * u32::from(CLUSTER_PARTITIONS));
        let tags = (0..).map(|n: u32| format!("outlast-{}-{n}", at.0));
        let near = |tag: &String| u32::from(slot(tag)).abs_diff(centre) <= OFF_CENTRE_MAX.into();
        Keys::tagged(&tags.into_iter().find(near).unwrap_or_default())
    }

    fn tagged(tag: &str) -> Keys {
        let key = |name: &str| format!("ol:{{{tag}}}:{name}");
        let all = ["meta", "rooms", "changes", "ended", "due", "beats"].map(key);
        Keys { all, fence: key("fence"), slot: slot(tag) }
    }

    /// The hash of rooms, for lookups.
    pub(super) fn rooms(&self) -> &str {
        &self.all[1]
    }
}

/// The slot of keys with this tag: CRC-16/XMODEM, modulo the number of slots.
fn slot(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0_u16, |mut crc, byte| {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
        crc
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // Its own check value, and what CLUSTER KEYSLOT of Redis 7.0.15 says.
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("outlast"), 12_876);
        assert_eq!(slot("outlast-11-74"), 15_732);
    }

    #[test]
    fn partitions_are_spread_evenly_over_the_primaries_and_stay_where_they_are() {
        let keys: Vec<_> =
            (0..CLUSTER_PARTITIONS).map(|at| Keys::in_cluster(Partition(at))).collect();
        for primaries in [1, 2, 3, 4, 6, 12] {
            let mut each = vec![0; primaries];
            for keys in &keys {
                each[usize::from(keys.slot) * primaries / usize::from(SLOTS)] += 1;
            }
            assert!(each.iter().all(|n| n * primaries == 12), "{each:?}");
        }
        let first = ["79", "69", "60", "0", "8", "68", "53", "14", "19", "121", "3", "74"];
        for (at, (keys, n)) in keys.iter().zip(first).enumerate() {
            assert_eq!(keys.rooms(), format!("ol:{{outlast-{at}-{n}}}:rooms"));
        }
    }
}

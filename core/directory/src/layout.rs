//! Where in a directory a room is kept: directories may have parts that live and die on their own.

use outlast_model::RegionName;

use crate::RoomKey;

/// A part of a directory that is a directory of its own: it answers as a [`Table`](crate::Table) that has only its own
/// rooms, with its own instance and its own revisions, and may be away while others are not. The first one is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);

/// How rooms are spread over partitions. All gateways of one directory have the same layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Partitions of one engine, which looks itself after a partition whose server is lost: a room is always kept in the
    /// same one, by its key. At least 1.
    Fixed(u16),
    /// One partition a region, each an engine of its own: a room is kept in the first of its order that is not away. In the
    /// order of their names, one or more.
    Sharded(Vec<RegionName>),
}

impl Layout {
    /// How many partitions there are.
    pub fn partitions(&self) -> u16 {
        match self {
            Layout::Fixed(count) => *count,
            Layout::Sharded(regions) => u16::try_from(regions.len()).unwrap_or(u16::MAX),
        }
    }

    /// Where `room` is kept, the best first: by the upper bits of its key, or by rendezvous hashing over the regions' names,
    /// so that another order of the same regions changes nothing and one region more moves only the rooms that it takes.
    pub fn order(&self, room: RoomKey) -> Vec<Partition> {
        match self {
            Layout::Fixed(count) => {
                // The upper half times the count, over 2^64: below the count.
                let share = ((room.0 >> 64) * u128::from(*count)) >> 64;
                vec![Partition(u16::try_from(share).unwrap_or(0))]
            }
            Layout::Sharded(regions) => {
                let mut order: Vec<_> = (0..).zip(regions).collect();
                order.sort_by_cached_key(|(_, region)| std::cmp::Reverse(score(room, region)));
                order.into_iter().map(|(at, _)| Partition(at)).collect()
            }
        }
    }

    /// Where the summary of a region's nodes is kept.
    pub fn summary(&self, region: &RegionName) -> Partition {
        match self {
            Layout::Fixed(_) => Partition(0),
            Layout::Sharded(regions) => {
                let own = regions.iter().position(|other| other == region).unwrap_or(0);
                Partition(u16::try_from(own).unwrap_or(0))
            }
        }
    }
}

/// FNV-1a over the region's name from the room's key on, then SplitMix64's finish: the key is a keyed hash already.
fn score(room: RoomKey, region: &RegionName) -> u64 {
    // The cast takes the lower half, which `Fixed` does not look at.
    let seed = 0xcbf2_9ce4_8422_2325 ^ room.0 as u64;
    let mut bits = region
        .as_str()
        .bytes()
        .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RoomKeyer;

    const ROOMS: usize = 6_000;

    fn rooms() -> impl Iterator<Item = RoomKey> {
        let keyer = RoomKeyer::new([7; 16]);
        (0..ROOMS).map(move |n| keyer.key(&format!("room-{n}").as_str().into()))
    }

    fn sharded(names: &[&str]) -> Layout {
        Layout::Sharded(names.iter().map(|name| RegionName::from(*name)).collect())
    }

    fn shares(layout: &Layout, rank: usize) -> Vec<usize> {
        let mut shares = vec![0; usize::from(layout.partitions())];
        for room in rooms() {
            shares[usize::from(layout.order(room)[rank].0)] += 1;
        }
        shares
    }

    #[test]
    fn rooms_are_spread_evenly() {
        for (layout, ranks) in [(Layout::Fixed(12), 1), (sharded(&["ap", "eu", "us"]), 3)] {
            let fair = ROOMS / usize::from(layout.partitions());
            for rank in 0..ranks {
                let shares = shares(&layout, rank);
                assert!(shares.iter().all(|n| n.abs_diff(fair) < fair / 4), "{shares:?}");
            }
        }
        assert_eq!(shares(&Layout::Fixed(1), 0), [ROOMS]);
    }

    #[test]
    fn one_region_more_moves_only_the_rooms_that_it_takes() {
        let (few, more) = (sharded(&["eu", "us"]), sharded(&["ap", "eu", "us"]));
        for room in rooms() {
            let (before, after) = (few.order(room)[0].0 + 1, more.order(room)[0].0);
            assert!(after == 0 || after == before);
        }
    }

    #[test]
    fn an_order_has_every_shard_once_and_stays_what_it_is() {
        let layout = sharded(&["ap", "eu", "us"]);
        for room in rooms() {
            let mut order = layout.order(room);
            order.sort();
            assert_eq!(order, [Partition(0), Partition(1), Partition(2)]);
        }
        // The same at every gateway of every version: by SipHash, FNV and SplitMix64 written again in Python.
        let first: Vec<_> = rooms().take(12).map(|room| layout.order(room)[0].0).collect();
        assert_eq!(first, [1, 0, 2, 0, 0, 1, 2, 0, 0, 0, 1, 1]);
        let first: Vec<_> =
            rooms().take(8).map(|room| Layout::Fixed(12).order(room)[0].0).collect();
        assert_eq!(first, [1, 10, 1, 10, 6, 1, 9, 2]);
    }

    #[test]
    fn a_summary_is_kept_at_home() {
        let layout = sharded(&["ap", "eu", "us"]);
        assert_eq!(layout.summary(&"eu".into()), Partition(1));
        assert_eq!(layout.summary(&"sa".into()), Partition(0));
        assert_eq!(Layout::Fixed(12).summary(&"eu".into()), Partition(0));
    }
}

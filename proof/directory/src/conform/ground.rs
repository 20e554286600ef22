//! Where a trace plays: rooms and regions that nobody else uses, in a directory that others may use as well. So it needs
//! no empty directory, many play at once, and the same trace plays again.

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroU16,
    sync::atomic::{AtomicU64, Ordering},
};

use outlast_directory::{Event, Request, RoomKey, SUMMARIES_MAX, Summary};
use outlast_engines::Partition;
use outlast_model::RegionName;
use outlast_runtime::entropy;

use super::trace::{PARTS_MAX, REGIONS};

/// Most traces that play in one directory at once: each has its own regions, of which a directory takes so many.
pub const LANES_MAX: usize = SUMMARIES_MAX / REGIONS;
/// Upper halves of keys, among them those that a number printed without its leading zeros, or a signed one, gets wrong.
const UPPER: [u64; 4] = [0, u64::MAX, 1 << 63, 0x0123_4567_89ab_cdef];

/// Gives out grounds.
#[derive(Debug)]
pub struct Grounds {
    random: u64,
    given: AtomicU64,
}

impl Grounds {
    /// Grounds that no other process gives out.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn new() -> io::Result<Grounds> {
        let random = u64::from_le_bytes(entropy::bytes()?);
        Ok(Grounds { random, given: AtomicU64::new(0) })
    }

    /// The next ground. Nobody else plays on `lane` meanwhile; it is below [`LANES_MAX`].
    pub fn next(&self, lane: usize, partitions: NonZeroU16) -> Ground {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let upper = UPPER[number as usize % UPPER.len()];
        // Numbers follow each other in steps that leave space for a ground's rooms.
        let lower = self.random.wrapping_add(number.wrapping_mul(1 << 16));
        let parts = usize::from(partitions.get()).min(PARTS_MAX);
        // Another trio of partitions each time.
        let first = number as usize % usize::from(partitions.get());
        let at = |n| (first + n * 37) % usize::from(partitions.get());
        let mut parts: Vec<usize> = (0..parts).map(at).collect();
        parts.sort_unstable();
        parts.dedup();
        Ground { key: (u128::from(upper) << 64) | u128::from(lower), lane, parts }
    }
}

/// A ground.
#[derive(Clone, Debug)]
pub struct Ground {
    key: u128,
    lane: usize,
    parts: Vec<usize>,
}

impl Ground {
    /// How many partitions it has.
    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The engine's partition for one of the ground's.
    pub(crate) fn partition(&self, part: usize) -> Partition {
        Partition(u16::try_from(self.parts[part]).expect("an engine's partitions are few"))
    }

    /// The key of a room of a trace.
    pub(crate) fn room(&self, part: usize, room: RoomKey) -> RoomKey {
        let within = (part as u64) << 8 | room.0 as u64;
        let lower = (self.key as u64).wrapping_add(within);
        RoomKey((self.key >> 64 << 64) | u128::from(lower))
    }

    /// The name of a region of a trace.
    pub(crate) fn region(&self, region: &str) -> RegionName {
        format!("lane {} region {region}", self.lane).into()
    }

    /// The request as the engine is asked it.
    pub(crate) fn request(&self, part: usize, request: &Request) -> Request {
        let mut request = request.clone();
        match &mut request {
            Request::Place { room, .. }
            | Request::Replace { room, .. }
            | Request::End { room, .. }
            | Request::Lookup { room } => *room = self.room(part, *room),
            Request::Heartbeat { summary, .. } => {
                summary.region = self.region(summary.region.as_str());
            }
            Request::Summaries | Request::Instance | Request::Watch { .. } => {}
        }
        request
    }

    /// Those of `all` that are of this ground, under their names in the trace.
    pub(crate) fn summaries(&self, all: Vec<Summary>) -> Vec<Summary> {
        let names: BTreeMap<RegionName, String> =
            (0..REGIONS).map(|n| (self.region(&n.to_string()), n.to_string())).collect();
        let mine = all.into_iter().filter_map(|summary| {
            let name = names.get(&summary.region)?.as_str().into();
            Some(Summary { region: name, ..summary })
        });
        mine.collect()
    }

    /// What `events` says of a room of the trace.
    pub(crate) fn event<'a>(
        &self,
        part: usize,
        room: RoomKey,
        events: &'a BTreeMap<RoomKey, Event>,
    ) -> Option<&'a Event> {
        events.get(&self.room(part, room))
    }
}

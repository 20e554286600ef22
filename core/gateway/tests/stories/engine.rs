//! The directory of a story: a table for each partition, and the way there.

use std::time::Duration;

use outlast_directory::{
    CallId, Failure, InstanceId, Layout, Record, Reply, Request, RoomKey, RoomKeyer, Table,
};

use crate::world::World;

/// What the directory's keys are made with.
const SECRET: [u8; 16] = [3; 16];

/// What the way to the directory does to requests that are sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// There and back in so many milliseconds.
    Up(u64),
    /// Requests vanish.
    Black,
    /// Connections are refused.
    Refuses,
    /// Requests are applied, answers vanish.
    Mute,
}

/// One partition.
pub(crate) struct Part {
    pub(crate) table: Table,
    pub(crate) way: Way,
}

/// One partition, or one of each shard.
pub(crate) fn layout(shards: &[&str]) -> Layout {
    match shards {
        [] => Layout::Fixed(1),
        shards => Layout::Sharded(shards.iter().map(|shard| (*shard).into()).collect()),
    }
}

pub(crate) fn parts(layout: &Layout) -> Vec<Part> {
    let part = |n| Part { table: Table::new(InstanceId(n)), way: Way::Up(20) };
    (1..=u128::from(layout.partitions())).map(part).collect()
}

pub(crate) fn keyer() -> RoomKeyer {
    RoomKeyer::new(SECRET)
}

impl World {
    pub(crate) fn carry(&mut self, call: CallId, request: &Request) {
        self.requests.push((self.now, request.clone()));
        self.sequence += 1;
        let part = &mut self.parts[usize::from(call.at.0)];
        let (latency, reply) = match part.way {
            Way::Up(ms) => (ms, part.table.apply(self.now, request)),
            Way::Black => return,
            Way::Refuses => (1, Reply::Failed(Failure::Unavailable)),
            Way::Mute => {
                part.table.apply(self.now, request);
                return;
            }
        };
        let at = self.now + Duration::from_millis(latency);
        self.answers.insert((at, self.sequence), (call, reply));
    }

    /// The key of `room` in the directory.
    pub(crate) fn key(room: &str) -> RoomKey {
        keyer().key(&room.into())
    }

    /// What the directory, or its first partition, holds of `room`.
    pub(crate) fn held(&self, room: &str) -> Option<(&str, u64)> {
        self.held_at(0, room)
    }

    pub(crate) fn held_at(&self, part: usize, room: &str) -> Option<(&str, u64)> {
        let Record { node, generation, .. } = self.parts[part].table.record(World::key(room))?;
        Some((node.as_str(), generation.0))
    }
}

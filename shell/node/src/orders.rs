//! What shards are told past their queues: a shard with a thousand joins before it must stop sending for a lost room all
//! the same, and before its next packet.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use outlast_model::{Generation, RoomName};

/// Orders of all shards; shards' bells have to be rung too.
#[derive(Debug)]
pub(crate) struct Orders {
    shards: Box<[Lost]>,
    /// Participants that may be told to move, by whichever shard comes first; below zero when more were, as rooms are moved
    /// whole.
    away: AtomicI64,
}

/// Rooms that a shard has lost, each up to and with a generation. Only rooms that the node held until now get here, so they
/// are no more than the node may hold at a time, and those that come while its lease outlives a shard that hangs.
#[derive(Debug, Default)]
struct Lost {
    rooms: Mutex<BTreeMap<RoomName, Generation>>,
    waiting: AtomicBool,
}

impl Lost {
    fn rooms(&self) -> MutexGuard<'_, BTreeMap<RoomName, Generation>> {
        self.rooms.lock().expect("nobody panics with lost rooms in hand")
    }
}

impl Orders {
    /// None yet, for so many shards.
    pub(crate) fn new(shards: usize) -> Orders {
        Orders { shards: (0..shards).map(|_| Lost::default()).collect(), away: AtomicI64::new(0) }
    }

    /// `shard` is to give up `room` of `generation` and older ones.
    pub(crate) fn fence(&self, shard: usize, room: RoomName, generation: Generation) {
        let Some(lost) = self.shards.get(shard) else { return };
        let mut rooms = lost.rooms();
        let known = rooms.entry(room).or_insert(generation);
        *known = generation.max(*known);
        lost.waiting.store(true, Ordering::Release);
    }

    /// What `shard` is to give up. Takes no lock when there is nothing.
    pub(crate) fn lost(&self, shard: usize) -> BTreeMap<RoomName, Generation> {
        let Some(lost) = self.shards.get(shard) else { return BTreeMap::new() };
        if !lost.waiting.load(Ordering::Acquire) {
            return BTreeMap::new();
        }
        let mut rooms = lost.rooms();
        lost.waiting.store(false, Ordering::Release);
        std::mem::take(&mut *rooms)
    }

    /// So many more participants may be told to move.
    pub(crate) fn move_away(&self, count: u32) {
        self.away.fetch_add(count.into(), Ordering::AcqRel);
    }

    /// Nobody is to be told to move any more, until the next [`Orders::move_away`]. Who was moved too early is still owed.
    pub(crate) fn stay(&self) {
        self.away.fetch_min(0, Ordering::AcqRel);
    }

    /// How many of its `present` participants a shard should tell to move now; the rest is left to other shards.
    pub(crate) fn away(&self, present: usize) -> u32 {
        let present = i64::try_from(present).unwrap_or(i64::MAX);
        let taken = |away: i64| away.min(present);
        let less = |away: i64| (taken(away) > 0).then(|| away - taken(away));
        let before = self.away.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        before.map_or(0, |away| u32::try_from(taken(away)).unwrap_or(u32::MAX))
    }

    /// A shard has told so many more than it should.
    pub(crate) fn owe(&self, more: usize) {
        self.away.fetch_sub(i64::try_from(more).unwrap_or(i64::MAX), Ordering::AcqRel);
    }

    /// Nothing is owed any more.
    pub(crate) fn forgive(&self) {
        self.away.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_gets_its_own_lost_rooms_once_under_the_highest_generation() {
        let orders = Orders::new(2);
        for (shard, room, generation) in [(1, "a", 5), (1, "a", 3), (1, "b", 1), (7, "c", 1)] {
            orders.fence(shard, room.into(), Generation(generation));
        }
        assert_eq!(orders.lost(0), BTreeMap::new());
        let expected = [("a".into(), Generation(5)), ("b".into(), Generation(1))];
        assert_eq!(orders.lost(1), BTreeMap::from(expected));
        assert_eq!(orders.lost(1), BTreeMap::new());
    }

    #[test]
    fn shards_share_who_is_to_move() {
        let orders = Orders::new(2);
        assert_eq!(orders.away(10), 0);
        orders.move_away(7);
        assert_eq!((orders.away(4), orders.away(0), orders.away(10)), (4, 0, 3));
        orders.move_away(7);
        orders.stay();
        assert_eq!(orders.away(10), 0);
    }

    #[test]
    fn who_was_moved_early_is_taken_from_those_who_come_next() {
        let orders = Orders::new(1);
        orders.move_away(1);
        assert_eq!(orders.away(20), 1);
        orders.owe(7);
        orders.stay();
        orders.move_away(5);
        assert_eq!(orders.away(13), 0);
        orders.move_away(5);
        assert_eq!(orders.away(13), 3);
        orders.owe(9);
        orders.forgive();
        orders.move_away(2);
        assert_eq!(orders.away(13), 2);
    }
}

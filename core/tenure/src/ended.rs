//! Tombstones: under which generation a room was here last. Nobody comes in under it again, and what was lost to another
//! node is not opened again by somebody who was on the way.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use outlast_model::{Generation, NodeId, RoomName, Time};

/// How long a tombstone is kept: longer than any join, resume or room stream may be under way.
pub const TOMBSTONE_KEPT: Duration = Duration::from_secs(600);
/// Most tombstones kept, a few dozen megabytes; the oldest go first.
pub const TOMBSTONES_MAX: usize = 200_000;

/// A room's last life here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// Its highest generation.
    pub(crate) generation: Generation,
    pub(crate) end: End,
}

/// How a room came to its end here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its shard closed it.
    Closed,
    /// Another node holds it, or the node had no right to it any more.
    Lost { winner: Option<NodeId> },
}

/// All tombstones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    rooms: BTreeMap<RoomName, (Tombstone, Time)>,
    /// By time; an entry whose time is not its room's was renewed since.
    order: VecDeque<(Time, RoomName)>,
}

impl Ended {
    pub(crate) fn get(&self, now: Time, room: &RoomName) -> Option<&Tombstone> {
        let (tombstone, at) = self.rooms.get(room)?;
        (now.since(*at) < TOMBSTONE_KEPT).then_some(tombstone)
    }

    /// A room's life here is over. An older life than one that is known to be over says nothing.
    pub(crate) fn insert(&mut self, now: Time, room: &RoomName, tombstone: Tombstone) {
        if self.get(now, room).is_some_and(|known| known.generation > tombstone.generation) {
            return;
        }
        self.rooms.insert(room.clone(), (tombstone, now));
        self.order.push_back((now, room.clone()));
        self.forget(now);
    }

    fn forget(&mut self, now: Time) {
        while let Some((at, room)) = self.order.front()
            && (now.since(*at) >= TOMBSTONE_KEPT || self.order.len() > TOMBSTONES_MAX)
        {
            if self.rooms.get(room).is_some_and(|(_, renewed)| renewed == at) {
                self.rooms.remove(room);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(generation: u64) -> Tombstone {
        Tombstone { generation: Generation(generation), end: End::Closed }
    }

    #[test]
    fn the_highest_generation_is_kept_for_its_time() {
        let (mut ended, room) = (Ended::default(), RoomName::from("r"));
        let second = |second: u64| Time::from_millis(second * 1_000);
        ended.insert(second(0), &room, closed(4));
        ended.insert(second(100), &room, closed(2));
        assert_eq!(ended.get(second(599), &room), Some(&closed(4)));
        assert_eq!(ended.get(second(600), &room), None);
        let lost = Tombstone { generation: Generation(4), end: End::Lost { winner: None } };
        ended.insert(second(300), &room, lost.clone());
        ended.insert(second(700), &"other".into(), closed(1));
        assert_eq!(ended.get(second(899), &room), Some(&lost), "renewed");
        ended.insert(second(900), &"other".into(), closed(1));
        assert!(!ended.rooms.contains_key(&room));
        assert_eq!(ended.order.len(), 2);
    }

    #[test]
    fn a_flood_of_rooms_pushes_out_the_oldest() {
        let (mut ended, now) = (Ended::default(), Time::from_millis(1));
        for n in 0..=TOMBSTONES_MAX {
            ended.insert(now, &format!("room {n}").as_str().into(), closed(1));
        }
        assert_eq!((ended.rooms.len(), ended.order.len()), (TOMBSTONES_MAX, TOMBSTONES_MAX));
        assert_eq!(ended.get(now, &"room 0".into()), None);
    }
}

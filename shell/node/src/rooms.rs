//! Which rooms this node hosts, for the gateways that follow: a snapshot, then every change, in order.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use outlast_model::{Generation, RoomName};
use outlast_wire::RoomFrame;
use tokio::sync::broadcast;

/// Changes that a slow follower may lag behind; past it the stream ends and the gateway asks anew.
const CHANGES_MAX: usize = 4_096;

/// The rooms of all shards. Locked for a room's birth and death and for each new follower, never for packets.
#[derive(Debug)]
pub(crate) struct RoomTable {
    rooms: Mutex<BTreeMap<RoomName, (usize, Generation)>>,
    changes: broadcast::Sender<RoomFrame>,
}

impl RoomTable {
    pub(crate) fn new() -> RoomTable {
        RoomTable { rooms: Mutex::default(), changes: broadcast::Sender::new(CHANGES_MAX) }
    }

    /// `shard` hosts `room` from now on, under `generation`.
    pub(crate) fn opened(&self, shard: usize, room: RoomName, generation: Generation) {
        let mut rooms = self.rooms();
        rooms.insert(room.clone(), (shard, generation));
        self.tell(RoomFrame::Hosted { room, generation });
    }

    /// The room has ended; said of an older generation than is known, it changes nothing.
    pub(crate) fn closed(&self, room: RoomName, generation: Generation) {
        let mut rooms = self.rooms();
        if rooms.get(&room).is_some_and(|(_, known)| *known <= generation) {
            rooms.remove(&room);
            self.tell(RoomFrame::Closed { room, generation });
        }
    }

    /// All rooms of `shard` have ended at once.
    pub(crate) fn lost(&self, shard: usize) {
        let mut rooms = self.rooms();
        rooms.retain(|room, (at, generation)| {
            if *at == shard {
                self.tell(RoomFrame::Closed { room: room.clone(), generation: *generation });
            }
            *at != shard
        });
    }

    /// All rooms as frames, and the changes from here on.
    pub(crate) fn follow(&self) -> (Vec<RoomFrame>, broadcast::Receiver<RoomFrame>) {
        let rooms = self.rooms();
        let frames = rooms
            .iter()
            .map(|(room, (_, generation))| RoomFrame::Hosted {
                room: room.clone(),
                generation: *generation,
            })
            .chain([RoomFrame::Synced])
            .collect();
        (frames, self.changes.subscribe())
    }

    fn rooms(&self) -> MutexGuard<'_, BTreeMap<RoomName, (usize, Generation)>> {
        self.rooms.lock().expect("nobody panics with the rooms in hand")
    }

    /// Nobody may be following: then nobody is told.
    fn tell(&self, frame: RoomFrame) {
        let _ = self.changes.send(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_sees_what_is_there_and_what_changes() {
        let table = RoomTable::new();
        let (one, two) = (Generation(1), Generation(2));
        table.opened(0, "a".into(), one);
        table.opened(1, "b".into(), one);
        let (frames, mut changes) = table.follow();
        assert_eq!(
            frames,
            [
                RoomFrame::Hosted { room: "a".into(), generation: one },
                RoomFrame::Hosted { room: "b".into(), generation: one },
                RoomFrame::Synced,
            ]
        );
        table.opened(0, "a".into(), two);
        table.closed("a".into(), one);
        table.lost(1);
        table.closed("a".into(), two);
        let told: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
        assert_eq!(
            told,
            [
                RoomFrame::Hosted { room: "a".into(), generation: two },
                RoomFrame::Closed { room: "b".into(), generation: one },
                RoomFrame::Closed { room: "a".into(), generation: two },
            ]
        );
        assert_eq!(table.follow().0, [RoomFrame::Synced]);
    }
}

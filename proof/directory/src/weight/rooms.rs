//! The rooms of one region: when one begins, how long it lives, and which there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use outlast_directory::{NodeSummary, PlacementId, Record, RoomKey};
use outlast_model::{Epoch, Generation, NodeId, Time};

use crate::chance::Chance;

/// The generation of every room here: each has one home for its whole life.
const GENERATION: Generation = Generation(1);
/// What rooms' nodes report as their load moves by so much a second at most, in thousandths.
const LOAD_STEP: u64 = 20;

/// What a room is on.
#[derive(Clone, Debug)]
struct Node {
    id: NodeId,
    load_permille: u16,
    rooms: u32,
}

/// All rooms of a region, and the nodes that they are on.
#[derive(Debug)]
pub(super) struct Rooms {
    chance: Chance,
    nodes: Vec<Node>,
    /// New ones each second, and how long they live on average.
    per_second: u32,
    life: Duration,
    /// Since when rooms begin, and how many have.
    since: Option<Time>,
    begun: u64,
    /// Held as far as is known, each with its node's place.
    alive: BTreeMap<RoomKey, usize>,
    /// Claimed, and nobody has said what came of it.
    claimed: BTreeMap<RoomKey, usize>,
    /// Alive still, and to be ended at a time.
    ends: BTreeSet<(Time, RoomKey)>,
    /// Asked to end, and nobody has said that they have.
    ending: BTreeSet<RoomKey>,
}

impl Rooms {
    pub(super) fn new(
        chance: Chance,
        nodes: Vec<NodeId>,
        per_second: u32,
        life: Duration,
    ) -> Rooms {
        let node = |id| Node { id, load_permille: 500, rooms: 0 };
        Rooms {
            chance,
            nodes: nodes.into_iter().map(node).collect(),
            per_second,
            life,
            since: None,
            begun: 0,
            alive: BTreeMap::new(),
            claimed: BTreeMap::new(),
            ends: BTreeSet::new(),
            ending: BTreeSet::new(),
        }
    }

    /// How many rooms are to begin now; from the first call on they come evenly.
    pub(super) fn due(&mut self, now: Time) -> u64 {
        let since = *self.since.get_or_insert(now);
        let micros = now.since(since).as_micros() * u128::from(self.per_second);
        let all = u64::try_from(micros / 1_000_000).unwrap_or(u64::MAX);
        let due = all.saturating_sub(self.begun);
        self.begun += due;
        due
    }

    /// A room that is claimed now.
    pub(super) fn begin(&mut self) -> (RoomKey, Record) {
        let room = RoomKey(self.chance.bits());
        let node = self.chance.index(self.nodes.len());
        self.claimed.insert(room, node);
        let id = PlacementId(self.chance.bits().max(1));
        let record = Record {
            node: self.nodes[node].id.clone(),
            epoch: Epoch(1),
            generation: GENERATION,
            id,
            provisional: false,
        };
        (room, record)
    }

    /// The claim of `room` was won. It ends some day, unless it is to stand.
    pub(super) fn held(&mut self, now: Time, room: RoomKey, stands: bool) {
        let Some(node) = self.claimed.remove(&room) else { return };
        self.alive.insert(room, node);
        self.nodes[node].rooms += 1;
        if !stands {
            // Half to one and a half of it.
            let life = self.life * u32::try_from(500 + self.chance.below(1_000)).unwrap_or(0);
            self.ends.insert((now + life / 1_000, room));
        }
    }

    /// The claim of `room` has surely come to nothing.
    pub(super) fn lost(&mut self, room: RoomKey) {
        self.claimed.remove(&room);
    }

    /// A room whose time is over.
    pub(super) fn next_end(&mut self, now: Time) -> Option<(RoomKey, Generation)> {
        let (at, room) = *self.ends.first()?;
        if at > now {
            return None;
        }
        self.ends.pop_first();
        self.ending.insert(room);
        Some((room, GENERATION))
    }

    /// The end of `room` was done.
    pub(super) fn ended(&mut self, room: RoomKey) {
        self.ending.remove(&room);
        if let Some(node) = self.alive.remove(&room) {
            self.nodes[node].rooms -= 1;
        }
    }

    /// The end of `room` is to be asked for again, at `at`.
    pub(super) fn end_again(&mut self, at: Time, room: RoomKey) {
        self.ends.insert((at, room));
    }

    /// Rooms that are held as far as is known.
    pub(super) fn alive(&self) -> usize {
        self.alive.len()
    }

    /// Rooms of which nobody knows: perhaps held though not counted as alive, and perhaps ended though counted so.
    pub(super) fn unsure(&self) -> (usize, usize) {
        (self.claimed.len(), self.ending.len())
    }

    /// What the nodes are like a second later: every one's load has moved.
    pub(super) fn summary(&mut self) -> Vec<NodeSummary> {
        let chance = &mut self.chance;
        let told = |node: &mut Node| {
            let step = u16::try_from(chance.below(2 * LOAD_STEP + 1)).unwrap_or(0);
            let load = (node.load_permille + step).saturating_sub(LOAD_STEP as u16);
            node.load_permille = load.min(1_000);
            NodeSummary {
                node: node.id.clone(),
                epoch: Epoch(1),
                draining: false,
                load_permille: node.load_permille,
                rooms: node.rooms,
            }
        };
        self.nodes.iter_mut().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms() -> Rooms {
        let nodes = vec!["a".into(), "b".into()];
        Rooms::new(Chance::named(1, "rooms"), nodes, 50, Duration::from_secs(10))
    }

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn rooms_begin_evenly_and_none_is_left_out() {
        let mut rooms = rooms();
        let due: Vec<_> = [5_000, 5_010, 5_020, 5_030, 6_000].map(|ms| rooms.due(at(ms))).into();
        assert_eq!(due, [0, 0, 1, 0, 49]);
        assert_eq!(rooms.due(at(7_007)), 50, "the rest is not forgotten");
    }

    #[test]
    fn a_room_lives_from_its_claim_to_its_end() {
        let mut rooms = rooms();
        let (room, record) = rooms.begin();
        assert_eq!((rooms.alive(), rooms.unsure()), (0, (1, 0)));
        rooms.held(at(0), room, false);
        assert_eq!((rooms.alive(), rooms.unsure()), (1, (0, 0)));
        let of = |rooms: &mut Rooms| rooms.summary().iter().map(|node| node.rooms).sum::<u32>();
        assert_eq!(of(&mut rooms), 1);
        assert_eq!(rooms.next_end(at(4_999)), None);
        assert_eq!(rooms.next_end(at(15_000)), Some((room, record.generation)));
        assert_eq!((rooms.alive(), rooms.unsure()), (1, (0, 1)), "nobody has said that it ended");
        rooms.end_again(at(19_000), room);
        assert_eq!(rooms.next_end(at(18_999)), None);
        assert!(rooms.next_end(at(19_000)).is_some());
        rooms.ended(room);
        assert_eq!((rooms.alive(), rooms.unsure(), of(&mut rooms)), (0, (0, 0), 0));
    }

    #[test]
    fn what_stands_does_not_end_and_what_is_lost_was_never_there() {
        let mut rooms = rooms();
        let ((stands, _), (lost, _)) = (rooms.begin(), rooms.begin());
        rooms.held(at(0), stands, true);
        rooms.lost(lost);
        assert_eq!((rooms.alive(), rooms.unsure()), (1, (0, 0)));
        assert_eq!(rooms.next_end(at(1_000_000)), None);
    }

    #[test]
    fn loads_move_and_stay_loads() {
        let mut rooms = rooms();
        let loads = |rooms: &mut Rooms| -> Vec<u16> {
            rooms.summary().iter().map(|node| node.load_permille).collect()
        };
        let first = loads(&mut rooms);
        assert!((0..10_000).all(|_| loads(&mut rooms).iter().all(|load| *load <= 1_000)));
        assert_ne!(loads(&mut rooms), first);
    }
}

//! Where rooms are: the nodes that say they host one, and the node that this gateway has claimed one for. Which of several
//! homes counts is decided here, and kept decided, since it is asked for at every join.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use outlast_model::{Generation, NodeId, RoomName, Time};

/// How long a claimed home counts before its node names the room: longer than a client takes from being told to being
/// admitted. Longer: a node that died just then keeps its rooms waiting.
pub const PLANNED_KEPT: Duration = Duration::from_secs(5);
/// Most rooms claimed and not named yet; further ones are placed each time they are asked for.
pub const PLANNED_MAX: usize = 100_000;

/// Where a room is, under which fencing number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its node.
    pub node: NodeId,
    /// Its placement's generation.
    pub generation: Generation,
}

#[derive(Clone, Debug, Default)]
struct Room {
    /// Who says that it hosts the room; the one that counts comes first.
    hosts: Vec<Home>,
    planned: Option<(Home, Time)>,
}

impl Room {
    /// By the node of two of one generation: all gateways must choose alike, whatever they know of the directory
    /// (`docs/model.md`).
    fn sort(&mut self) {
        let key = |home: &Home| Reverse(home.generation);
        self.hosts.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.node.cmp(&b.node)));
    }
}

/// The homes of all rooms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Homes {
    /// Rooms that are hosted or planned.
    rooms: BTreeMap<RoomName, Room>,
    hosted: usize,
    /// When plans expire.
    due: BTreeSet<(Time, RoomName)>,
}

impl Homes {
    /// Rooms that a node hosts.
    pub(crate) fn hosted(&self) -> usize {
        self.hosted
    }

    /// The home that counts, and the plan.
    pub(crate) fn find(&self, room: &RoomName) -> (Option<&Home>, Option<&Home>) {
        let Some(room) = self.rooms.get(room) else { return (None, None) };
        (room.hosts.first(), room.planned.as_ref().map(|(home, _)| home))
    }

    /// Everybody who says that it hosts `room`; the one that counts comes first.
    pub(crate) fn hosts(&self, room: &RoomName) -> &[Home] {
        self.rooms.get(room).map_or(&[], |room| &room.hosts)
    }

    /// The generation under which `node` hosts `room`.
    pub(crate) fn at(&self, room: &RoomName, node: &NodeId) -> Option<Generation> {
        let host = self.hosts(room).iter().find(|home| home.node == *node)?;
        Some(host.generation)
    }

    /// A node hosts `room`. A plan of the same generation, or of an older one, has come to its end.
    pub(crate) fn insert(&mut self, room: &RoomName, home: Home) {
        let entry = self.rooms.entry(room.clone()).or_default();
        self.hosted += usize::from(entry.hosts.is_empty());
        if let Some((_, until)) =
            entry.planned.take_if(|(planned, _)| planned.generation <= home.generation)
        {
            self.due.remove(&(until, room.clone()));
        }
        entry.hosts.retain(|other| other.node != home.node);
        entry.hosts.push(home);
        entry.sort();
    }

    /// `node` no longer hosts `room`. Returns the generation that it did it under.
    pub(crate) fn remove(&mut self, room: &RoomName, node: &NodeId) -> Option<Generation> {
        let entry = self.rooms.get_mut(room)?;
        let at = entry.hosts.iter().position(|home| home.node == *node)?;
        let gone = entry.hosts.remove(at);
        self.hosted -= usize::from(entry.hosts.is_empty());
        self.forget(room);
        Some(gone.generation)
    }

    /// Claims `room` for `home` until [`PLANNED_KEPT`] from now. Returns whether it counts: no node hosts the room under
    /// that generation or a higher one, no higher one is planned, and there are not too many.
    pub(crate) fn plan(&mut self, now: Time, room: &RoomName, home: Home) -> bool {
        let (hosted, planned) = self.find(room);
        let highest = planned.is_none_or(|planned| planned.generation <= home.generation)
            && hosted.is_none_or(|hosted| hosted.generation < home.generation);
        if !highest || planned.is_none() && self.due.len() >= PLANNED_MAX {
            return false;
        }
        let until = now + PLANNED_KEPT;
        let entry = self.rooms.entry(room.clone()).or_default();
        if let Some((_, before)) = entry.planned.replace((home, until)) {
            self.due.remove(&(before, room.clone()));
        }
        self.due.insert((until, room.clone()));
        true
    }

    /// Nothing comes of the plan of `room` at `node`.
    pub(crate) fn unplan(&mut self, room: &RoomName, node: &NodeId) {
        let Some(entry) = self.rooms.get_mut(room) else { return };
        if let Some((_, until)) = entry.planned.take_if(|(home, _)| home.node == *node) {
            self.due.remove(&(until, room.clone()));
            self.forget(room);
        }
    }

    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.due.first().map(|(until, _)| *until)
    }

    /// Forgets the plans whose time is over.
    pub(crate) fn expire(&mut self, now: Time) {
        while self.wake_at().is_some_and(|until| until <= now)
            && let Some((_, room)) = self.due.pop_first()
        {
            if let Some(entry) = self.rooms.get_mut(&room) {
                entry.planned = None;
            }
            self.forget(&room);
        }
    }

    fn forget(&mut self, room: &RoomName) {
        if self.rooms.get(room).is_some_and(|room| room.hosts.is_empty() && room.planned.is_none())
        {
            self.rooms.remove(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn home(node: &str, generation: u64) -> Home {
        Home { node: node.into(), generation: Generation(generation) }
    }

    fn names(homes: &[Home]) -> Vec<String> {
        homes.iter().map(|home| format!("{}{}", home.node, home.generation.0)).collect()
    }

    #[test]
    fn the_highest_generation_counts_and_then_the_lowest_node() {
        let (mut homes, room) = (Homes::default(), RoomName::from("r"));
        ["c", "a", "b"].iter().for_each(|node| homes.insert(&room, home(node, 2)));
        homes.insert(&room, home("d", 1));
        assert_eq!(names(homes.hosts(&room)), ["a2", "b2", "c2", "d1"]);
        homes.insert(&room, home("d", 3));
        assert_eq!(names(homes.hosts(&room)), ["d3", "a2", "b2", "c2"]);
        assert_eq!(homes.remove(&room, &"d".into()), Some(Generation(3)));
        assert_eq!(homes.find(&room).0, Some(&home("a", 2)));
    }

    #[test]
    fn a_plan_counts_until_its_room_is_named_or_five_seconds_have_passed() {
        let (mut homes, room) = (Homes::default(), RoomName::from("r"));
        let now = Time::from_millis(1_000);
        homes.insert(&room, home("a", 1));
        assert!(!homes.plan(now, &room, home("b", 1)), "it is there already");
        assert!(homes.plan(now, &room, home("b", 3)));
        assert!(!homes.plan(now, &room, home("c", 2)), "older than the other");
        assert_eq!(homes.find(&room), (Some(&home("a", 1)), Some(&home("b", 3))));
        homes.insert(&room, home("c", 2));
        assert_eq!(homes.find(&room).1, Some(&home("b", 3)));
        homes.insert(&room, home("b", 3));
        assert_eq!((homes.find(&room), homes.wake_at()), ((Some(&home("b", 3)), None), None));
        assert!(homes.plan(now, &room, home("c", 4)));
        assert_eq!(homes.wake_at(), Some(now + PLANNED_KEPT));
        homes.unplan(&room, &"b".into());
        assert!(homes.find(&room).1.is_some(), "not that node's plan");
        homes.expire(now + PLANNED_KEPT);
        assert_eq!(homes.find(&room).1, None);
        // A room that is only planned is known, and not hosted.
        assert!(homes.plan(now, &"new".into(), home("a", 1)));
        assert_eq!((homes.rooms.len(), homes.hosted()), (2, 1));
        homes.unplan(&"new".into(), &"a".into());
        assert_eq!((homes.rooms.len(), homes.due.len()), (1, 0));
    }

    #[test]
    fn plans_are_bounded() {
        let (mut homes, now) = (Homes::default(), Time::ZERO);
        let mut plan = |n: usize| homes.plan(now, &format!("{n}").into(), home("a", 1));
        (0..PLANNED_MAX).for_each(|n| assert!(plan(n)));
        assert!(!plan(PLANNED_MAX));
        assert!(plan(0), "again");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u64),
        Remove(u8),
        Plan(u8, u64),
        Unplan(u8),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = || (0..4_u8, 1..6_u64);
        prop_oneof![
            at().prop_map(|(node, generation)| Step::Insert(node, generation)),
            (0..4_u8).prop_map(Step::Remove),
            at().prop_map(|(node, generation)| Step::Plan(node, generation)),
            (0..4_u8).prop_map(Step::Unplan),
            (1..3_000_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Against a list that is searched anew each time.
        #[test]
        fn who_counts_is_kept_as_it_would_be_found(steps in prop::collection::vec(step(), 1..60)) {
            let (mut homes, room) = (Homes::default(), RoomName::from("r"));
            let mut hosts: BTreeMap<u8, u64> = BTreeMap::new();
            let (mut planned, mut now) = (None::<(u8, u64, u64)>, 0);
            for step in steps {
                let at = Time::from_millis(now);
                let highest = hosts.values().max().copied().unwrap_or_default();
                match step {
                    Step::Insert(node, generation) => {
                        homes.insert(&room, home(&node.to_string(), generation));
                        hosts.insert(node, generation);
                        planned = planned.filter(|(_, planned, _)| *planned > generation);
                    }
                    Step::Remove(node) => {
                        homes.remove(&room, &node.to_string().into());
                        hosts.remove(&node);
                    }
                    Step::Plan(node, generation) => {
                        let counts = generation > highest
                            && planned.is_none_or(|(_, planned, _)| planned <= generation);
                        let home = home(&node.to_string(), generation);
                        prop_assert_eq!(homes.plan(at, &room, home), counts);
                        if counts {
                            planned = Some((node, generation, now + 5_000));
                        }
                    }
                    Step::Unplan(node) => {
                        homes.unplan(&room, &node.to_string().into());
                        planned = planned.filter(|(planned, ..)| *planned != node);
                    }
                    Step::Pass(span) => {
                        now += span;
                        homes.expire(Time::from_millis(now));
                        planned = planned.filter(|(.., until)| *until > now);
                    }
                }
                let best =
                    hosts.iter().max_by_key(|(node, generation)| (**generation, Reverse(**node)));
                let best = best.map(|(node, generation)| home(&node.to_string(), *generation));
                let plan = planned.map(|(node, generation, _)| home(&node.to_string(), generation));
                prop_assert_eq!(homes.find(&room), (best.as_ref(), plan.as_ref()));
                prop_assert_eq!(homes.hosted(), usize::from(!hosts.is_empty()));
                prop_assert_eq!(homes.due.len(), usize::from(planned.is_some()));
                prop_assert_eq!(homes.rooms.is_empty(), best.is_none() && plan.is_none());
            }
        }
    }
}

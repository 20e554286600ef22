//! What one gateway knows: the configured nodes with their health, the rooms that nodes say they host, the homes that it
//! has claimed for rooms itself, what rooms are set to, and their rulings.

mod said;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use outlast_model::{Generation, NodeId, RegionName, RoomName, Time};

use crate::{
    CLOSED_KEPT, ENDED_KEPT, Health, Home,
    ended::Ended,
    homes::Homes,
    kept::Kept,
    node::{NodeFacts, NodeView},
};

/// Most nodes that are looked at; the configuration's further ones get no rooms.
pub const NODES_MAX: usize = 10_000;
/// Most rooms that one node may name; further ones are ignored, and joins find them by the ranking.
pub const ROOMS_PER_NODE_MAX: usize = 100_000;

/// All nodes and rooms, as far as this gateway knows.
#[derive(Clone, Debug, Default)]
pub struct View {
    nodes: BTreeMap<NodeId, NodeView>,
    homes: Homes,
    ended: Ended,
    kept: Kept,
}

impl View {
    /// The configured nodes, all down, no rooms.
    pub fn new(nodes: impl IntoIterator<Item = NodeFacts>) -> View {
        let nodes = nodes.into_iter().take(NODES_MAX);
        let nodes = nodes.map(|facts| (facts.id.clone(), NodeView::new(facts)));
        View { nodes: nodes.collect(), ..View::default() }
    }

    /// Every configured node, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes.values()
    }

    /// One node.
    pub fn node(&self, id: &NodeId) -> Option<&NodeView> {
        self.nodes.get(id)
    }

    /// One node, to be changed.
    pub fn node_mut(&mut self, id: &NodeId) -> Option<&mut NodeView> {
        self.nodes.get_mut(id)
    }

    /// Joins a second that the nodes admit together to which rooms would move now. Looks at every node.
    pub fn takes_per_second(&self) -> u64 {
        self.nodes.values().map(|node| u64::from(node.takes_per_second())).sum()
    }

    /// All nodes of `region` are, or are no longer, on probation with it.
    pub fn set_region_probation(&mut self, region: &RegionName, probation: bool) {
        for node in self.nodes.values_mut().filter(|node| node.facts.region == *region) {
            node.region_probation = probation;
        }
    }

    /// Rooms with at least one home.
    pub fn rooms(&self) -> usize {
        self.homes.hosted()
    }

    /// The rooms that `node` says it hosts.
    pub fn rooms_at(&self, node: &NodeId) -> impl Iterator<Item = &RoomName> {
        self.nodes.get(node).into_iter().flat_map(|node| node.hosted.keys())
    }

    /// The rooms after `after` of which `node` is the home that counts, by name, with their generations.
    pub fn homed_at(
        &self,
        node: &NodeId,
        after: Option<&RoomName>,
    ) -> impl Iterator<Item = (&RoomName, Generation)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let hosted = self.nodes.get(node).into_iter();
        let hosted =
            hosted.flat_map(move |view| view.hosted.range::<RoomName, _>((from, Bound::Unbounded)));
        let counts =
            |(room, _): &(&RoomName, _)| self.home(room).is_some_and(|home| home.node == *node);
        hosted.filter(counts).map(|(room, generation)| (room, *generation))
    }

    /// Rooms after `after` that have ended in the last [`ENDED_KEPT`](crate::ENDED_KEPT), by name, each with the highest
    /// generation it had.
    pub fn ended(&self, after: Option<&RoomName>) -> impl Iterator<Item = (&RoomName, Generation)> {
        self.ended.after(after)
    }

    /// Every room that a node says it hosts, node by node; one with two homes comes twice.
    pub fn room_names(&self) -> impl Iterator<Item = &RoomName> {
        self.nodes.values().flat_map(|node| node.hosted.keys())
    }

    /// The home that counts: of the highest generation, then the one that the directory holds, then of the lowest node
    /// id. Nodes that are down stay homes until they restart, so that the next placement supersedes them.
    pub fn home(&self, room: &RoomName) -> Option<&Home> {
        self.homes.find(room).0
    }

    /// The home that this gateway has claimed for `room`, and that its node has not named yet.
    pub fn planned(&self, room: &RoomName) -> Option<&Home> {
        self.homes.find(room).1
    }

    /// [`View::home`] and [`View::planned`]; a plan is always of a higher generation than the home.
    pub fn home_and_plan(&self, room: &RoomName) -> (Option<&Home>, Option<&Home>) {
        self.homes.find(room)
    }

    /// Every node that says it hosts `room`, with the generation; the home that counts comes first.
    pub fn hosts(&self, room: &RoomName) -> &[Home] {
        self.homes.hosts(room)
    }

    /// The nodes that say they host `room` and are not its home: they are to be steered to it.
    pub fn losers(&self, room: &RoomName) -> Vec<NodeId> {
        self.hosts(room).iter().skip(1).map(|home| home.node.clone()).collect()
    }

    /// The generation that a new placement of `room` gets: above its homes', and above those under which it has ended in
    /// the last [`ENDED_KEPT`](crate::ENDED_KEPT).
    pub fn next_generation(&self, room: &RoomName) -> Generation {
        let (home, planned) = self.homes.find(room);
        let homes = home.into_iter().chain(planned).map(|home| home.generation);
        homes.fold(self.ended.generation(room), Generation::max).next()
    }

    /// `generation` has been used for `room` somewhere: the next placement goes above it.
    pub fn fence(&mut self, now: Time, room: &RoomName, generation: Generation) {
        if self.next_generation(room) <= generation {
            self.ended.insert(now, room, generation);
        }
    }

    /// `room` stays at `node`, though that is ejected, until it is taken back; not beyond [`ROOMS_PER_NODE_MAX`] rooms.
    pub fn entrust(&mut self, node: &NodeId, room: &RoomName) {
        let ejected = self.nodes.get_mut(node).filter(|node| node.ejected);
        if let Some(node) = ejected.filter(|node| node.entrusted.len() < ROOMS_PER_NODE_MAX) {
            node.entrusted.insert(room.clone());
        }
    }

    /// `node` says that it hosts `room`. Returns whether that was news; false as well when it names too many.
    pub fn opened(&mut self, node: &NodeId, room: &RoomName, generation: Generation) -> bool {
        let Some(view) = self.nodes.get_mut(node) else { return false };
        if self.homes.at(room, node) == Some(generation) {
            return false;
        }
        if view.hosted.len() >= ROOMS_PER_NODE_MAX && !view.hosted.contains_key(room) {
            return false;
        }
        view.hosted.insert(room.clone(), generation);
        self.homes.insert(room, Home { node: node.clone(), generation });
        self.kept.hold(room);
        if let Some(counts) = self.homes.hosts(room).first() {
            self.kept.lower(room, counts.generation);
        }
        true
    }

    /// `node` says that `room` of `generation` (or of an earlier one) has ended, or that the node has `lost` it to another.
    pub fn closed(
        &mut self,
        now: Time,
        node: &NodeId,
        room: &RoomName,
        generation: Generation,
        lost: bool,
    ) {
        let Some(view) = self.nodes.get_mut(node) else { return };
        if view.hosted.get(room).is_none_or(|open| *open > generation) {
            return;
        }
        view.hosted.remove(room);
        // A healthy node closes a room because it is over; one that is not gives it away.
        let over = !lost && view.health == Health::Alive && !view.draining;
        if self.homes.at(room, node).is_some() {
            self.end(now, node, room);
            if over && self.homes.find(room) == (None, None) {
                self.kept.leave(now, room, CLOSED_KEPT);
            }
        }
    }

    /// `node` may be another process soon: it is told the settings of its rooms again, until it names them.
    pub fn doubt(&mut self, node: &NodeId) {
        let rooms = self.nodes.get(node).into_iter().flat_map(|node| node.hosted.keys());
        for room in rooms {
            self.kept.disclaim(room, node);
        }
    }

    /// `node` is another process than before: what it said of its rooms counts on, and it may know nothing of that.
    pub fn orphan(&mut self, node: &NodeId) {
        let rooms = self.nodes.get(node).into_iter().flat_map(|node| node.hosted.keys());
        for room in rooms {
            self.kept.orphan(room, node);
        }
    }

    /// Keeps of `node`'s rooms only those in `named`: what a fresh room stream has listed. Returns the others.
    pub fn retain(
        &mut self,
        now: Time,
        node: &NodeId,
        named: &BTreeSet<RoomName>,
    ) -> Vec<RoomName> {
        let Some(view) = self.nodes.get_mut(node) else { return Vec::new() };
        let gone = view.hosted.extract_if(.., |room, _| !named.contains(room));
        let gone: Vec<_> = gone.map(|(room, _)| room).collect();
        for room in &gone {
            self.end(now, node, room);
        }
        gone
    }

    /// `node` has been down for so long that its rooms are nobody's, until it is back. Returns them.
    pub fn bury(&mut self, now: Time, node: &NodeId) -> Vec<RoomName> {
        let Some(view) = self.nodes.get(node) else { return Vec::new() };
        let gone: Vec<_> = view.hosted.keys().cloned().collect();
        for room in &gone {
            self.end(now, node, room);
        }
        gone
    }

    /// `node` is back without having begun anew: what it hosts counts again. Returns the rooms of which that is news.
    pub fn unbury(&mut self, node: &NodeId) -> Vec<RoomName> {
        let Some(view) = self.nodes.get(node) else { return Vec::new() };
        let buried = view.hosted.iter().filter(|(room, _)| self.homes.at(room, node).is_none());
        let buried: Vec<_> = buried.map(|(room, at)| (room.clone(), *at)).collect();
        for (room, generation) in &buried {
            self.homes.insert(room, Home { node: node.clone(), generation: *generation });
            self.kept.hold(room);
        }
        buried.into_iter().map(|(room, _)| room).collect()
    }

    /// This gateway has claimed `room` for `home`; it counts as the room's home for joins until the node names the room,
    /// or for [`PLANNED_KEPT`](crate::PLANNED_KEPT). Returns whether it does: not when the node is unknown, when
    /// something of the same generation is hosted or something higher is known, nor beyond
    /// [`PLANNED_MAX`](crate::PLANNED_MAX).
    pub fn plan(&mut self, now: Time, room: &RoomName, home: Home) -> bool {
        let Some(node) = self.nodes.get_mut(&home.node) else { return false };
        let news = self.homes.find(room).1 != Some(&home);
        let counts = self.homes.plan(now, room, home);
        if counts && news {
            node.grant();
        }
        counts
    }

    /// Nothing comes of the plan of `room` at `node`: it has refused.
    pub fn unplan(&mut self, room: &RoomName, node: &NodeId) {
        self.homes.unplan(room, node);
    }

    /// When [`View::expire`] next has something to do.
    pub fn wake_at(&self) -> Option<Time> {
        match (self.homes.wake_at(), self.kept.wake_at()) {
            (Some(plan), Some(kept)) => Some(plan.min(kept)),
            (plan, kept) => plan.or(kept),
        }
    }

    /// Forgets plans, settings and rulings whose time is over.
    pub fn expire(&mut self, now: Time) {
        self.homes.expire(now);
        self.kept.expire(now);
    }

    /// What `node` hosted as `room` is over, and with it every older life of the room at a node that is down: it cannot say
    /// that its own is over, and would keep the room in a home that nobody reaches. One that lives speaks for itself, and
    /// one that comes back does.
    fn end(&mut self, now: Time, node: &NodeId, room: &RoomName) {
        let Some(ended) = self.homes.remove(room, node) else { return };
        self.ended.insert(now, room, ended);
        self.kept.orphan(room, node);
        let gone = |node| self.nodes.get(node).is_none_or(|node| node.health == Health::Down);
        let older = self.hosts(room).iter();
        let older = older.filter(|home| home.generation < ended && gone(&home.node));
        for home in older.cloned().collect::<Vec<_>>() {
            self.homes.remove(room, &home.node);
        }
        match self.homes.hosts(room).first() {
            Some(home) => {
                self.kept.lower(room, home.generation);
                self.kept.merge(now, room);
            }
            None => self.kept.leave(now, room, ENDED_KEPT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const NOW: Time = Time::from_millis(1_000);

    pub(super) fn view() -> View {
        View::new(["a", "b", "c"].map(|id| NodeFacts {
            id: id.into(),
            region: "eu".into(),
            capacity: 1,
        }))
    }

    fn home(node: &str, generation: u64) -> Option<Home> {
        Some(Home { node: node.into(), generation: Generation(generation) })
    }

    #[test]
    fn the_higher_generation_wins_then_the_lower_node() {
        let (mut view, room) = (view(), RoomName::from("r"));
        assert_eq!(view.home(&room), None);
        assert!(view.opened(&"b".into(), &room, Generation(1)));
        assert!(!view.opened(&"b".into(), &room, Generation(1)), "no news");
        assert!(view.opened(&"a".into(), &room, Generation(1)));
        assert_eq!(view.home(&room).cloned(), home("a", 1));
        view.opened(&"c".into(), &room, Generation(2));
        assert_eq!(view.home(&room).cloned(), home("c", 2));
        view.closed(NOW, &"c".into(), &room, Generation(1), false);
        assert_eq!(view.home(&room).cloned(), home("c", 2), "an older life's end");
    }

    #[test]
    fn a_room_that_ended_elsewhere_is_no_longer_at_the_node_that_died_with_it() {
        let (mut view, room) = (view(), RoomName::from("r"));
        view.opened(&"a".into(), &room, Generation(1));
        view.opened(&"b".into(), &room, Generation(2));
        view.closed(NOW, &"b".into(), &room, Generation(2), false);
        assert_eq!((view.home(&room), view.rooms()), (None, 0));
        assert_eq!(view.next_generation(&room), Generation(3), "2 has been used");
        // Whoever really has an older life of it says so anew, and is believed.
        assert!(view.opened(&"a".into(), &room, Generation(1)));
        assert_eq!(view.home(&room).cloned(), home("a", 1));
        assert_eq!(view.next_generation(&room), Generation(3));
        // The end of an older life ends no newer one, and none of the same number.
        view.opened(&"b".into(), &room, Generation(1));
        view.closed(NOW, &"a".into(), &room, Generation(1), false);
        assert_eq!(view.home(&room).cloned(), home("b", 1));
    }

    #[test]
    fn an_ended_room_s_generation_is_not_issued_again_for_ten_minutes() {
        let (mut view, room) = (view(), RoomName::from("r"));
        assert_eq!(view.next_generation(&room), Generation(1));
        view.opened(&"a".into(), &room, Generation(1));
        // Ended without a word: the node restarted.
        view.retain(NOW, &"a".into(), &BTreeSet::new());
        assert_eq!(view.next_generation(&room), Generation(2));
        view.opened(&"b".into(), &"other".into(), Generation(1));
        let later = NOW + ENDED_KEPT;
        view.closed(later, &"b".into(), &"other".into(), Generation(1), false);
        assert_eq!(view.next_generation(&room), Generation(1));
    }

    #[test]
    fn a_fresh_stream_replaces_the_old_list() {
        let mut view = view();
        let (kept, gone) = (RoomName::from("kept"), RoomName::from("gone"));
        for room in [&kept, &gone] {
            view.opened(&"a".into(), room, Generation(1));
        }
        view.opened(&"b".into(), &gone, Generation(1));
        assert_eq!(
            view.retain(NOW, &"a".into(), &BTreeSet::from([kept.clone()])),
            vec![gone.clone()]
        );
        assert_eq!(view.home(&kept).cloned(), home("a", 1));
        assert_eq!(view.home(&gone).cloned(), home("b", 1));
        assert_eq!(view.rooms(), 2);
    }

    #[test]
    fn losers_are_all_but_the_home_that_counts() {
        let (mut view, room) = (view(), RoomName::from("r"));
        assert!(view.losers(&room).is_empty());
        for (node, generation) in [("a", 1), ("b", 2), ("c", 2)] {
            view.opened(&node.into(), &room, Generation(generation));
        }
        assert_eq!(view.losers(&room), ["c".into(), "a".into()]);
    }

    #[test]
    fn the_next_generation_is_above_all_that_is_known() {
        let (mut view, room) = (view(), RoomName::from("r"));
        view.opened(&"a".into(), &room, Generation(3));
        let plan = Home { node: "b".into(), generation: Generation(5) };
        assert!(view.plan(NOW, &room, plan.clone()));
        assert_eq!((view.planned(&room), view.rooms()), (Some(&plan), 1));
        assert_eq!(view.next_generation(&room), Generation(6));
        view.fence(NOW, &room, Generation(4));
        assert_eq!(view.next_generation(&room), Generation(6));
        view.fence(NOW, &room, Generation(9));
        assert_eq!(view.next_generation(&room), Generation(10));
        let nowhere = Home { node: "z".into(), generation: Generation(20) };
        assert!(!view.plan(NOW, &room, nowhere));
    }

    #[test]
    fn a_plan_is_a_grant_once() {
        let (mut view, room) = (view(), RoomName::from("r"));
        let plan = Home { node: "b".into(), generation: Generation(1) };
        for _ in 0..2 {
            assert!(view.plan(NOW, &room, plan.clone()));
        }
        assert_eq!(view.node(&plan.node).unwrap().predicted_permille(), crate::GRANT_PERMILLE);
    }
}

//! What one gateway knows: the configured nodes with their health, and the rooms that nodes say they host. A room may have
//! two homes for a while; which one counts is decided here.

use std::collections::{BTreeMap, BTreeSet};

use outlast_model::{Generation, NodeId, RegionName, RoomName, Time};

use crate::{Health, ended::Ended};

/// Most rooms that one node may name; further ones are ignored, and joins find them by the ranking.
pub const ROOMS_PER_NODE_MAX: usize = 100_000;

/// What the configuration says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub id: NodeId,
    /// Where it is.
    pub region: RegionName,
    /// How much it can carry in relation to others; 0 counts as 1.
    pub capacity: u32,
}

/// A node as this gateway sees it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The configuration's part.
    pub facts: NodeFacts,
    /// From beats and links.
    pub health: Health,
    /// It takes no new rooms and moves the ones it has.
    pub draining: bool,
    /// Load as it says itself, in thousandths.
    pub load_permille: u16,
    hosted: BTreeMap<RoomName, Generation>,
}

impl NodeView {
    /// Whether new rooms may be placed here.
    pub fn takes_rooms(&self) -> bool {
        self.health == Health::Alive && !self.draining
    }

    /// Rooms it says it hosts.
    pub fn rooms(&self) -> usize {
        self.hosted.len()
    }
}

/// Where a room is, under which fencing number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its node.
    pub node: NodeId,
    /// Its placement's generation.
    pub generation: Generation,
}

/// All nodes and rooms, as far as this gateway knows.
#[derive(Clone, Debug, Default)]
pub struct View {
    nodes: BTreeMap<NodeId, NodeView>,
    homes: BTreeMap<RoomName, BTreeSet<NodeId>>,
    ended: Ended,
}

impl View {
    /// The configured nodes, all down, no rooms.
    pub fn new(nodes: impl IntoIterator<Item = NodeFacts>) -> View {
        let nodes = nodes.into_iter().map(|facts| {
            let view = NodeView {
                health: Health::Down,
                draining: false,
                load_permille: 0,
                hosted: BTreeMap::new(),
                facts,
            };
            (view.facts.id.clone(), view)
        });
        View { nodes: nodes.collect(), homes: BTreeMap::new(), ended: Ended::default() }
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

    /// Rooms with at least one home.
    pub fn rooms(&self) -> usize {
        self.homes.len()
    }

    /// The home that counts: of the highest generation, then of the lowest node id. Nodes that are down stay homes until
    /// they restart, so that the next placement supersedes them.
    pub fn home(&self, room: &RoomName) -> Option<Home> {
        let mut winner: Option<Home> = None;
        for node in self.homes.get(room)? {
            let Some(generation) = self.nodes.get(node).and_then(|node| node.hosted.get(room))
            else {
                continue;
            };
            // Nodes come in rising order of their ids, so an equal generation does not win.
            if winner.as_ref().is_none_or(|best| best.generation < *generation) {
                winner = Some(Home { node: node.clone(), generation: *generation });
            }
        }
        winner
    }

    /// The generation that a new placement of `room` gets: above its home's, and above those under which it has ended in
    /// the last [`ENDED_KEPT`](crate::ENDED_KEPT).
    pub fn next_generation(&self, room: &RoomName) -> Generation {
        let home = self.home(room).map_or(Generation(0), |home| home.generation);
        home.max(self.ended.generation(room)).next()
    }

    /// `node` says that it hosts `room`. Returns whether that was news; false as well when it names too many.
    pub fn opened(&mut self, node: &NodeId, room: &RoomName, generation: Generation) -> bool {
        let Some(view) = self.nodes.get_mut(node) else { return false };
        if view.hosted.get(room) == Some(&generation) {
            return false;
        }
        if view.hosted.len() >= ROOMS_PER_NODE_MAX && !view.hosted.contains_key(room) {
            return false;
        }
        view.hosted.insert(room.clone(), generation);
        self.homes.entry(room.clone()).or_default().insert(node.clone());
        true
    }

    /// `node` says that `room` of `generation` (or of an earlier one) has ended.
    pub fn closed(&mut self, now: Time, node: &NodeId, room: &RoomName, generation: Generation) {
        let Some(view) = self.nodes.get(node) else { return };
        if view.hosted.get(room).is_some_and(|open| *open <= generation) {
            self.end(now, node, room);
        }
    }

    /// Keeps of `node`'s rooms only those in `named`: what a fresh room stream has listed. Returns the others.
    pub fn retain(
        &mut self,
        now: Time,
        node: &NodeId,
        named: &BTreeSet<RoomName>,
    ) -> Vec<RoomName> {
        let Some(view) = self.nodes.get(node) else { return Vec::new() };
        let gone: Vec<_> =
            view.hosted.keys().filter(|room| !named.contains(*room)).cloned().collect();
        for room in &gone {
            self.end(now, node, room);
        }
        gone
    }

    /// What `node` hosted as `room` is over, and with it every older life of the room: a node that is down cannot say
    /// that its own is, and would keep the room in a home that nobody reaches.
    fn end(&mut self, now: Time, node: &NodeId, room: &RoomName) {
        let hosted = self.nodes.get_mut(node).and_then(|view| view.hosted.remove(room));
        self.forget_home(node, room);
        let Some(ended) = hosted else { return };
        self.ended.insert(now, room, ended);
        let homes: Vec<_> = self.homes.get(room).into_iter().flatten().cloned().collect();
        for other in homes {
            let Some(view) = self.nodes.get_mut(&other) else { continue };
            if view.hosted.get(room).is_some_and(|older| *older < ended) {
                view.hosted.remove(room);
                self.forget_home(&other, room);
            }
        }
    }

    fn forget_home(&mut self, node: &NodeId, room: &RoomName) {
        if let Some(homes) = self.homes.get_mut(room) {
            homes.remove(node);
            if homes.is_empty() {
                self.homes.remove(room);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_000);

    fn view() -> View {
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
        assert_eq!(view.home(&room), home("a", 1));
        view.opened(&"c".into(), &room, Generation(2));
        assert_eq!(view.home(&room), home("c", 2));
        view.closed(NOW, &"c".into(), &room, Generation(1));
        assert_eq!(view.home(&room), home("c", 2), "an older life's end");
    }

    #[test]
    fn a_room_that_ended_elsewhere_is_no_longer_at_the_node_that_died_with_it() {
        let (mut view, room) = (view(), RoomName::from("r"));
        view.opened(&"a".into(), &room, Generation(1));
        view.opened(&"b".into(), &room, Generation(2));
        view.closed(NOW, &"b".into(), &room, Generation(2));
        assert_eq!((view.home(&room), view.rooms()), (None, 0));
        assert_eq!(view.next_generation(&room), Generation(3), "2 has been used");
        // Whoever really has an older life of it says so anew, and is believed.
        assert!(view.opened(&"a".into(), &room, Generation(1)));
        assert_eq!(view.home(&room), home("a", 1));
        assert_eq!(view.next_generation(&room), Generation(3));
        // The end of an older life ends no newer one, and none of the same number.
        view.opened(&"b".into(), &room, Generation(1));
        view.closed(NOW, &"a".into(), &room, Generation(1));
        assert_eq!(view.home(&room), home("b", 1));
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
        let later = NOW + crate::ENDED_KEPT;
        view.closed(later, &"b".into(), &"other".into(), Generation(1));
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
        assert_eq!((view.home(&kept), view.home(&gone)), (home("a", 1), home("b", 1)));
        assert_eq!(view.rooms(), 2);
    }
}

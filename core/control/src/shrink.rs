//! A view that suddenly shrinks by more than half is not believed on this gateway's word alone: it is as likely that this
//! gateway has lost its own network. What its watches say passes through here before anybody acts on it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use outlast_model::{NodeId, Time};

use crate::{Health, NODES_MAX};

/// The span within which so many nodes must be lost. Longer than what a node takes from its last beat to being down.
pub const SHRINK_SPAN: Duration = Duration::from_secs(5);
/// Longest doubt. Longer: a gateway without a witness leaves its clients with dead nodes; shorter: one that is cut off for a
/// moment moves everybody.
pub const DOUBT_MAX: Duration = Duration::from_millis(1_500);

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    alive: bool,
    /// Whether it was alive before it began to change, and since when it does; `None` when that was long ago.
    before: Option<(bool, Time)>,
}

impl Node {
    /// What it adds to the nodes alive before, and to those of them that are lost.
    fn counts(self) -> (usize, usize) {
        let before = self.before.map_or(self.alive, |(alive, _)| alive);
        (usize::from(before), usize::from(before && !self.alive))
    }
}

/// The doubt about one gateway's view.
#[derive(Clone, Debug, Default)]
pub struct Shrink {
    /// At most [`NODES_MAX`].
    nodes: BTreeMap<NodeId, Node>,
    /// Nodes that have begun to change, once each, in that order.
    changed: VecDeque<(Time, NodeId)>,
    alive: usize,
    alive_before: usize,
    lost: usize,
    /// Nodes that the own watch takes for down, and whether TCP says so too; nobody has acted on it.
    held: BTreeMap<NodeId, bool>,
    doubted_since: Option<Time>,
}

impl Shrink {
    /// Nodes alive as far as the own watches can tell; one under suspicion is not.
    pub fn alive(&self) -> usize {
        self.alive
    }

    /// Whether more than half of the nodes alive [`SHRINK_SPAN`] ago are not any more, as of the last call. Those under
    /// suspicion count as lost: doubt has to begin before the first of them is down.
    pub fn is_shrunk(&self) -> bool {
        self.lost * 2 > self.alive_before
    }

    /// Whether no node changes or is held: [`Shrink::believe`] has nothing to do then.
    pub fn is_quiet(&self) -> bool {
        self.changed.is_empty() && self.held.is_empty()
    }

    /// The own watch has changed its mind about `node`; `linked` says that TCP speaks against the node as well
    /// ([`Link`](crate::Link) is not whole), and may be said again when it does so later. A node that is down is held until [`Shrink::believe`]
    /// gives it out.
    pub fn turned(&mut self, now: Time, node: &NodeId, to: Health, linked: bool) {
        self.settle(now);
        self.set_alive(now, node, to == Health::Alive);
        if to != Health::Down {
            self.held.remove(node);
        } else if self.nodes.contains_key(node) {
            self.held.insert(node.clone(), linked);
        }
    }

    /// Whether `node` is down by its own watch alone: nobody has acted on that.
    pub fn holds(&self, node: &NodeId) -> bool {
        self.held.contains_key(node)
    }

    /// Adds to `out` the nodes that may be taken for down now: all that are held, unless the view has shrunk, nobody
    /// else has `witnessed` it ([`Outlooks::says_shrunk`](crate::Outlooks::says_shrunk), or there is no other gateway),
    /// and [`DOUBT_MAX`] has not passed; then only those against which TCP speaks.
    pub fn believe(&mut self, now: Time, witnessed: impl FnOnce() -> bool, out: &mut Vec<NodeId>) {
        if self.is_quiet() {
            return;
        }
        self.settle(now);
        if self.held.is_empty() {
            return;
        }
        let since = *self.doubted_since.get_or_insert(now);
        let doubt = self.is_shrunk() && now.since(since) < DOUBT_MAX && !witnessed();
        self.held.retain(|node, linked| {
            let held = doubt && !*linked;
            if !held {
                out.push(node.clone());
            }
            held
        });
        if !self.is_shrunk() {
            self.doubted_since = None;
        }
    }

    /// When [`Shrink::believe`] will give out more, if nothing changes until then.
    pub fn wake_at(&self) -> Option<Time> {
        self.doubted_since.filter(|_| !self.held.is_empty()).map(|since| since + DOUBT_MAX)
    }

    fn set_alive(&mut self, now: Time, id: &NodeId, alive: bool) {
        if !self.nodes.contains_key(id) {
            // Whom the view does not look at cannot shrink it.
            if self.nodes.len() >= NODES_MAX {
                return;
            }
            self.nodes.insert(id.clone(), Node::default());
        }
        let Some(node) = self.nodes.get_mut(id) else { return };
        if node.alive == alive {
            return;
        }
        let was = node.counts();
        if node.before.is_none() {
            node.before = Some((node.alive, now));
            self.changed.push_back((now, id.clone()));
        }
        node.alive = alive;
        let is = node.counts();
        self.count(was, is);
        self.alive = if alive { self.alive + 1 } else { self.alive - 1 };
    }

    /// What began to change long ago is how things are.
    fn settle(&mut self, now: Time) {
        while let Some((_, id)) = self.changed.pop_front_if(|(at, _)| now.since(*at) >= SHRINK_SPAN)
        {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let was = node.counts();
            node.before = None;
            let is = node.counts();
            self.count(was, is);
        }
        if !self.is_shrunk() {
            self.doubted_since = None;
        }
    }

    fn count(&mut self, was: (usize, usize), is: (usize, usize)) {
        self.alive_before = self.alive_before + is.0 - was.0;
        self.lost = self.lost + is.1 - was.1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> NodeId {
        format!("n{n}").into()
    }

    fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// `nodes` that have been alive for long.
    fn fleet(nodes: usize) -> Shrink {
        let mut shrink = Shrink::default();
        (0..nodes).for_each(|n| shrink.turned(ms(0), &id(n), Health::Alive, false));
        shrink
    }

    fn turn(shrink: &mut Shrink, at: u64, nodes: std::ops::Range<usize>, to: Health) {
        nodes.for_each(|n| shrink.turned(ms(at), &id(n), to, false));
    }

    fn believed(shrink: &mut Shrink, at: u64, witnessed: bool) -> usize {
        let mut out = Vec::new();
        shrink.believe(ms(at), || witnessed, &mut out);
        out.len()
    }

    #[test]
    fn half_of_a_view_is_believed_and_more_is_doubted_for_a_while() {
        let mut shrink = fleet(10);
        turn(&mut shrink, 10_000, 0..5, Health::Down);
        assert!(!shrink.is_shrunk());
        assert_eq!(believed(&mut shrink, 10_000, false), 5);
        let mut shrink = fleet(10);
        // The first is down while others are only late: they are of the same trouble.
        turn(&mut shrink, 10_000, 0..6, Health::Suspect);
        turn(&mut shrink, 11_200, 0..1, Health::Down);
        assert!(shrink.is_shrunk());
        assert_eq!(believed(&mut shrink, 11_200, false), 0);
        assert_eq!(shrink.wake_at(), Some(ms(12_700)));
        turn(&mut shrink, 11_500, 1..6, Health::Down);
        assert_eq!(believed(&mut shrink, 12_699, false), 0);
        assert_eq!(believed(&mut shrink, 12_700, false), 6);
        assert_eq!((shrink.wake_at(), shrink.alive()), (None, 4));
        turn(&mut shrink, 12_800, 6..7, Health::Down);
        assert_eq!(believed(&mut shrink, 12_800, false), 1, "the doubt is over for all of it");
    }

    #[test]
    fn a_witness_ends_the_doubt_and_a_reset_ends_it_for_one() {
        let mut shrink = fleet(4);
        turn(&mut shrink, 10_000, 0..3, Health::Down);
        shrink.turned(ms(10_000), &id(3), Health::Down, true);
        let mut out = Vec::new();
        shrink.believe(ms(10_000), || false, &mut out);
        assert_eq!(out, [id(3)]);
        shrink.turned(ms(10_100), &id(0), Health::Down, true);
        assert_eq!(believed(&mut shrink, 10_100, false), 1, "TCP spoke later");
        assert_eq!(believed(&mut shrink, 10_200, true), 2);
        assert_eq!(believed(&mut shrink, 10_300, true), 0, "each once");
    }

    #[test]
    fn who_comes_back_was_never_gone() {
        let mut shrink = fleet(3);
        turn(&mut shrink, 10_000, 0..3, Health::Down);
        assert_eq!(believed(&mut shrink, 10_000, false), 0);
        turn(&mut shrink, 11_000, 0..3, Health::Alive);
        assert_eq!(believed(&mut shrink, 20_000, true), 0);
        assert_eq!((shrink.is_shrunk(), shrink.wake_at()), (false, None));
        // A second trouble is doubted as long as the first.
        turn(&mut shrink, 30_000, 0..3, Health::Down);
        assert_eq!(believed(&mut shrink, 30_000, false), 0);
        assert_eq!(shrink.wake_at(), Some(ms(31_500)));
    }

    #[test]
    fn losses_far_apart_are_no_shrinking() {
        let mut shrink = fleet(4);
        for (n, at) in [(0, 10_000), (1, 15_000), (2, 20_000)] {
            turn(&mut shrink, at, n..n + 1, Health::Down);
            assert_eq!(believed(&mut shrink, at, false), 1);
        }
        // The last one alone is more than half of what was left.
        turn(&mut shrink, 25_000, 3..4, Health::Down);
        assert!(shrink.is_shrunk());
        // A fresh fleet has nothing to lose.
        let mut fresh = Shrink::default();
        turn(&mut fresh, 0, 0..3, Health::Alive);
        turn(&mut fresh, 100, 0..2, Health::Down);
        assert_eq!(believed(&mut fresh, 100, false), 2);
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_plain_count(
            turns in prop::collection::vec((0..6_usize, 0..3_usize, 0..3_000_u64), 1..60)
        ) {
            let mut shrink = Shrink::default();
            // Of each node: alive, and what it was when it began to change.
            let mut twin = [(false, None); 6];
            let mut now = 0;
            for (node, to, wait) in turns {
                now += wait;
                let to = [Health::Alive, Health::Suspect, Health::Down][to];
                shrink.turned(ms(now), &id(node), to, false);
                for (_, before) in &mut twin {
                    *before = before.filter(|(_, at): &(bool, u64)| now - at < 5_000);
                }
                let (alive, before) = &mut twin[node];
                if *alive != (to == Health::Alive) {
                    before.get_or_insert((*alive, now));
                    *alive = to == Health::Alive;
                }
                let was = |(alive, before): &&(bool, Option<(bool, u64)>)| {
                    before.map_or(*alive, |(was, _)| was)
                };
                prop_assert_eq!(shrink.alive, twin.iter().filter(|(alive, _)| *alive).count());
                prop_assert_eq!(shrink.alive_before, twin.iter().filter(was).count());
                let lost = twin.iter().filter(was).filter(|(alive, _)| !alive);
                prop_assert_eq!(shrink.lost, lost.count());
                prop_assert!(shrink.changed.len() <= 6);
            }
        }
    }
}

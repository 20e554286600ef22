//! Nodes judged by what comes of their joins: one that answers but whose clients get no media is taken out, although its
//! beats are fine.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use outlast_model::{Identity, NodeId, SessionId, Time};

use crate::{NODES_MAX, View, calm::Calm, node::NodeView};

/// The span that is looked at.
pub const OUTCOMES_SPAN: Duration = Duration::from_secs(15);
/// How long after the node's answer media may come up: several round trips of ICE and DTLS, with losses.
pub const REACH_MAX: Duration = Duration::from_secs(4);
/// Most outcomes kept of a node, each of another client; the oldest go first.
pub const OUTCOMES_KEPT: usize = 64;
/// Most joins waited for at a time; of further ones nothing is learnt.
pub const WAITING_MAX: usize = 50_000;
/// Clients without whom a node is not judged: a few may sit behind one bad network.
const CLIENTS_MIN: usize = 5;

/// A node is taken out, or may come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Which.
    pub node: NodeId,
    /// Whether it is out now.
    pub ejected: bool,
}

/// Joins of one node, by their answers' time, newest last; at most one of each client.
#[derive(Clone, Debug, Default)]
struct Window {
    outcomes: VecDeque<(Time, Identity, bool)>,
    failed: usize,
}

impl Window {
    fn push(&mut self, answered_at: Time, client: &Identity, reached: bool) {
        // However often one client tries, it has one voice.
        if let Some(at) = self.outcomes.iter().position(|(_, other, _)| other == client) {
            self.remove(at);
        }
        if self.outcomes.len() >= OUTCOMES_KEPT {
            self.remove(0);
        }
        // Those that fail are known seconds after those that do not.
        let later = self.outcomes.iter().rev().take_while(|(at, ..)| *at > answered_at).count();
        let at = self.outcomes.len() - later;
        self.outcomes.insert(at, (answered_at, client.clone(), reached));
        self.failed += usize::from(!reached);
    }

    fn remove(&mut self, at: usize) {
        if let Some((_, _, reached)) = self.outcomes.remove(at) {
            self.failed -= usize::from(!reached);
        }
    }

    fn forget(&mut self, now: Time) {
        while self.outcomes.front().is_some_and(|(at, ..)| now.since(*at) >= OUTCOMES_SPAN) {
            self.remove(0);
        }
    }

    fn is_gray(&self) -> bool {
        self.outcomes.len() >= CLIENTS_MIN && self.failed * 2 >= self.outcomes.len()
    }
}

#[derive(Clone, Debug)]
struct Waiting {
    node: NodeId,
    client: Identity,
    answered_at: Time,
}

/// The outcomes of the joins that pass one gateway.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    waiting: BTreeMap<SessionId, Waiting>,
    /// In the order of their answers; one that is not waiting any more is passed over.
    order: VecDeque<(Time, SessionId)>,
    windows: BTreeMap<NodeId, Window>,
    /// Nodes whose joins have failed since the last judgement.
    accused: BTreeSet<NodeId>,
    /// Nodes that are out, or were not long ago.
    calms: BTreeMap<NodeId, Calm>,
    /// The first end of an ejection.
    back_at: Option<Time>,
}

impl Outcomes {
    /// `node`'s answer to the join of `session` has passed to `client`.
    pub fn answered(&mut self, now: Time, session: SessionId, node: &NodeId, client: &Identity) {
        if self.order.len() >= WAITING_MAX || self.waiting.contains_key(&session) {
            return;
        }
        let waiting = Waiting { node: node.clone(), client: client.clone(), answered_at: now };
        self.waiting.insert(session, waiting);
        self.order.push_back((now, session));
    }

    /// The node says that media of `session` is up.
    pub fn reached(&mut self, session: SessionId) {
        let Some(waiting) = self.waiting.remove(&session) else { return };
        self.record(&waiting, true);
        self.pass_over();
    }

    /// `session` is over, or its answer is void: what would have come of it is not known.
    pub fn closed(&mut self, session: SessionId) {
        if self.waiting.remove(&session).is_some() {
            self.pass_over();
        }
    }

    /// Whether `node` is out.
    pub fn is_ejected(&self, node: &NodeId) -> bool {
        self.calms.get(node).is_some_and(Calm::is_on_probation)
    }

    /// When [`Outcomes::wake`] next has something to do.
    pub fn wake_at(&self) -> Option<Time> {
        let failed_at = self.order.front().map(|(at, _)| *at + REACH_MAX);
        match (failed_at, self.back_at) {
            (Some(failed), Some(back)) => Some(failed.min(back)),
            (failed, back) => failed.or(back),
        }
    }

    /// Joins whose time is over have failed; nodes with too many of them are taken out, and those that were out for long
    /// enough come back. A node is out for [`CALM_MIN`](crate::CALM_MIN), doubling each time up to
    /// [`CALM_MAX`](crate::CALM_MAX); at most a third of a region's nodes at once (but one may always be), and never the
    /// last one that takes rooms.
    pub fn wake(&mut self, now: Time, view: &View, out: &mut Vec<Ejection>) {
        while let Some((_, session)) =
            self.order.pop_front_if(|(at, _)| now.since(*at) >= REACH_MAX)
        {
            if let Some(waiting) = self.waiting.remove(&session) {
                self.record(&waiting, false);
            }
        }
        self.pass_over();
        if self.back_at.is_some_and(|at| at <= now) {
            self.bring_back(now, out);
        }
        while let Some(node) = self.accused.pop_first() {
            self.judge(now, &node, view, out);
        }
    }

    fn record(&mut self, waiting: &Waiting, reached: bool) {
        let Waiting { node, client, answered_at } = waiting;
        // A node that is out is judged by what comes after.
        let full = self.windows.len() >= NODES_MAX && !self.windows.contains_key(node);
        if full || self.is_ejected(node) {
            return;
        }
        self.windows.entry(node.clone()).or_default().push(*answered_at, client, reached);
        if !reached {
            self.accused.insert(node.clone());
        }
    }

    /// The order begins with a join that is waited for.
    fn pass_over(&mut self) {
        let waiting = &self.waiting;
        while self.order.pop_front_if(|(_, session)| !waiting.contains_key(session)).is_some() {}
    }

    fn bring_back(&mut self, now: Time, out: &mut Vec<Ejection>) {
        for (node, calm) in &mut self.calms {
            if calm.wake(now) {
                out.push(Ejection { node: node.clone(), ejected: false });
            }
        }
        self.calms.retain(|_, calm| !calm.is_forgotten(now));
        // There is room for others now.
        self.accused.extend(self.windows.keys().cloned());
        self.back_at = self.calms.values().filter_map(Calm::wake_at).min();
    }

    fn judge(&mut self, now: Time, node: &NodeId, view: &View, out: &mut Vec<Ejection>) {
        let Some(window) = self.windows.get_mut(node) else { return };
        window.forget(now);
        if !window.is_gray() || self.is_common_trouble(now, node) || !self.may_eject(node, view) {
            return;
        }
        self.windows.remove(node);
        let calm = self.calms.entry(node.clone()).or_default();
        // An ejection is a fall from which one rises at once, to be on probation.
        calm.rise(now, false);
        calm.fall(now);
        calm.rise(now, false);
        self.back_at = self.calms.values().filter_map(Calm::wake_at).min();
        out.push(Ejection { node: node.clone(), ejected: true });
    }

    /// Whether a quarter or more of the joins at the other nodes have failed as well: then it is not the node.
    fn is_common_trouble(&mut self, now: Time, node: &NodeId) -> bool {
        self.windows.retain(|_, window| {
            window.forget(now);
            !window.outcomes.is_empty()
        });
        let others = self.windows.iter().filter(|(other, _)| *other != node);
        let counts = others.map(|(_, window)| (window.failed, window.outcomes.len()));
        let (failed, all) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        failed * 4 >= all && all > 0
    }

    fn may_eject(&self, node: &NodeId, view: &View) -> bool {
        let Some(region) = view.node(node).map(|node| &node.facts.region) else { return false };
        let is_out = |other: &NodeView| self.is_ejected(&other.facts.id);
        let here = || view.nodes().filter(|other| other.facts.region == *region);
        let out = here().filter(|other| is_out(other)).count();
        let mut rest = view.nodes().filter(|other| other.facts.id != *node);
        out < (here().count() / 3).max(1)
            && rest.any(|other| other.takes_rooms() && !other.full && !is_out(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CALM_MAX, CALM_MIN, Health, NodeFacts};

    /// A fleet of one region, all alive, with joins that come to an end.
    struct Story {
        view: View,
        outcomes: Outcomes,
        now: Time,
        joins: u64,
        said: Vec<(u64, String, bool)>,
    }

    impl Story {
        fn new(nodes: usize) -> Story {
            let facts = (0..nodes).map(|n| NodeFacts {
                id: format!("n{n}").into(),
                region: "eu".into(),
                capacity: 1,
            });
            let mut view = View::new(facts);
            for n in 0..nodes {
                view.node_mut(&format!("n{n}").into()).unwrap().health = Health::Alive;
            }
            Story { view, outcomes: Outcomes::default(), now: Time::ZERO, joins: 0, said: vec![] }
        }

        fn join(&mut self, node: usize, client: u64, reached: bool) {
            self.joins += 1;
            let (session, node) = (SessionId(self.joins), NodeId::from(format!("n{node}")));
            let client = format!("client {client}").into();
            self.outcomes.answered(self.now, session, &node, &client);
            if reached {
                self.outcomes.reached(session);
            }
        }

        fn run(&mut self, seconds: u64) {
            let end = self.now + Duration::from_secs(seconds);
            while let Some(at) = self.outcomes.wake_at().filter(|at| *at <= end) {
                self.wake(at);
            }
            self.wake(end);
        }

        fn wake(&mut self, at: Time) {
            self.now = at;
            let mut out = Vec::new();
            self.outcomes.wake(at, &self.view, &mut out);
            for Ejection { node, ejected } in out {
                self.view.node_mut(&node).unwrap().ejected = ejected;
                self.said.push((at.as_millis() / 1_000, node.to_string(), ejected));
            }
        }

        fn said(&mut self) -> Vec<(u64, String, bool)> {
            std::mem::take(&mut self.said)
        }
    }

    #[test]
    fn a_node_that_answers_and_does_not_deliver_is_out_within_fifteen_seconds() {
        let mut story = Story::new(4);
        for second in 0..30 {
            for n in 0..8 {
                // From second 15 on node 0 eats everything.
                story.join(n % 4, second * 8 + n as u64, n % 4 != 0 || second < 15);
            }
            story.run(1);
        }
        let said = story.said();
        assert_eq!(said.len(), 1);
        assert!(said[0].1 == "n0" && said[0].0 <= 15 + 12, "{said:?}");
        assert!(story.outcomes.is_ejected(&"n0".into()));
    }

    #[test]
    fn ejections_double_and_are_forgotten() {
        let mut story = Story::new(4);
        let mut spans = Vec::new();
        for pause in [0, 10, 10, CALM_MAX.as_secs()] {
            story.run(pause);
            (0..5).for_each(|client| story.join(0, client, false));
            story.run(600);
            let said = story.said();
            assert_eq!(said.len(), 2, "{said:?}");
            spans.push(said[1].0 - said[0].0);
        }
        // Between two of them lie 600 s less the ejection itself; only the last is after ten minutes of health.
        assert_eq!(spans, [30, 60, 120, 30]);
        assert_eq!(spans[0], CALM_MIN.as_secs());
    }

    #[test]
    fn few_clients_and_common_trouble_condemn_nobody() {
        let mut story = Story::new(4);
        // Four clients, one of which tries for ever.
        for n in 0..20 {
            story.join(0, n.min(3), false);
        }
        story.run(5);
        assert_eq!(story.said(), []);
        story.run(20);
        // Half of the joins at 0, and a quarter of those elsewhere.
        (0..10).for_each(|client| story.join(0, client, client % 2 == 0));
        (10..18).for_each(|client| story.join(1, client, client % 4 != 0));
        story.run(5);
        assert_eq!(story.said(), []);
        // One failure less elsewhere.
        story.run(20);
        (0..10).for_each(|client| story.join(0, client, client % 2 == 0));
        (10..18).for_each(|client| story.join(1, client, client != 12));
        story.run(5);
        assert_eq!(story.said().len(), 1);
    }

    #[test]
    fn a_join_that_is_given_up_says_nothing() {
        let mut story = Story::new(4);
        (0..9).for_each(|client| story.join(0, client, false));
        (1..=5).for_each(|session| story.outcomes.closed(SessionId(session)));
        assert_eq!(story.outcomes.wake_at(), Some(Time::ZERO + REACH_MAX));
        (6..=9).for_each(|session| story.outcomes.closed(SessionId(session)));
        assert_eq!(story.outcomes.wake_at(), None);
        story.run(10);
        assert_eq!(story.said(), []);
    }

    #[test]
    fn at_most_a_third_of_a_region_is_out_and_never_the_last() {
        for (nodes, most) in [(1, 0), (2, 1), (3, 1), (5, 1), (6, 2), (12, 4)] {
            let mut story = Story::new(nodes);
            // One more than may be is bad, one after the other; the rest delivers.
            for bad in 0..(most + 1).min(nodes) {
                (0..5).for_each(|n| story.join(bad, 100 * bad as u64 + n, false));
                for good in most + 1..nodes {
                    (0..40).for_each(|n| story.join(good, 10_000 + good as u64 * 50 + n, true));
                }
                story.run(5);
                for node in story.view.nodes() {
                    assert_eq!(node.ejected, story.outcomes.is_ejected(&node.facts.id));
                }
                let out = story.view.nodes().filter(|node| node.ejected).count();
                assert!(out <= most, "{out} of {nodes}");
            }
            let ejected = story.said().iter().filter(|(.., ejected)| *ejected).count();
            assert_eq!(ejected, most, "of {nodes}");
        }
    }

    #[test]
    fn what_is_waited_for_and_kept_is_bounded() {
        let mut story = Story::new(2);
        for client in 0..WAITING_MAX as u64 + 10 {
            story.join(0, client, false);
        }
        assert_eq!(story.outcomes.waiting.len(), WAITING_MAX);
        assert_eq!(story.outcomes.order.len(), WAITING_MAX);
        let mut window = Window::default();
        for client in 0..200 {
            window.push(Time::ZERO, &format!("{client}").into(), client >= 150);
        }
        assert_eq!((window.outcomes.len(), window.failed), (OUTCOMES_KEPT, OUTCOMES_KEPT - 50));
        window.push(Time::ZERO, &"0".into(), true);
        window.push(Time::ZERO, &"0".into(), false);
        assert_eq!((window.outcomes.len(), window.failed), (OUTCOMES_KEPT, OUTCOMES_KEPT - 50));
        window.forget(Time::ZERO + OUTCOMES_SPAN);
        assert_eq!((window.outcomes.len(), window.failed), (0, 0));
    }
}

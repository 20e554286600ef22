//! One node as a gateway sees it: what the configuration says, whether it lives, and whether it is to have rooms.

use std::collections::{BTreeMap, BTreeSet};

use outlast_model::{Generation, NodeId, RegionName, RoomName};

use crate::Health;

/// What one grant adds to a node's load until the node has had the time to say so itself, in thousandths: what a room of a
/// few people costs a node of a thousand participants. Lower: a herd piles up on the node that was least loaded a moment
/// ago; higher: it is spread thinner than the load is.
pub const GRANT_PERMILLE: u32 = 2;

/// Joins a second of a node that does not say, being of an earlier version: the default of `node.joins_per_s`.
pub const JOINS_PER_SECOND_UNSAID: u32 = 250;

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
    /// It says that it takes no new rooms for now; those that it has stay.
    pub full: bool,
    /// It fell lately: new rooms go elsewhere if they can, those that it has stay.
    pub probation: bool,
    /// Its whole region did.
    pub region_probation: bool,
    /// It answers joins and does not deliver: it gets no new rooms, and whoever joins one that it has moves the room.
    pub ejected: bool,
    /// Rooms that stay although it is ejected: others, whom it serves well, have given them back to it.
    pub(crate) entrusted: BTreeSet<RoomName>,
    /// Load as it says itself, in thousandths.
    pub load_permille: u16,
    /// Joins a second that it admits, as it says itself; 0 when it does not.
    pub joins_per_second: u32,
    /// Grants since the last report, and in the interval before: a report may be older than what was granted just before
    /// it came.
    granted: [u32; 2],
    /// What it says that it hosts; not all of it need count.
    pub(crate) hosted: BTreeMap<RoomName, Generation>,
}

/// How good a home a node is for new rooms; the first that somebody has wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Nothing speaks against it.
    Good,
    /// It, or its region, fell lately.
    Probation,
    /// It answers and does not deliver.
    Ejected,
}

impl NodeView {
    pub(crate) fn new(facts: NodeFacts) -> NodeView {
        NodeView {
            facts,
            health: Health::Down,
            draining: false,
            full: false,
            probation: false,
            region_probation: false,
            ejected: false,
            entrusted: BTreeSet::new(),
            load_permille: 0,
            joins_per_second: 0,
            granted: [0; 2],
            hosted: BTreeMap::new(),
        }
    }

    /// Whether new rooms may be placed here, if it is not full.
    pub fn takes_rooms(&self) -> bool {
        self.health == Health::Alive && !self.draining
    }

    /// Whether rooms that it has stay here.
    pub fn keeps_rooms(&self) -> bool {
        self.health != Health::Down && !self.draining && !self.ejected
    }

    /// Whether `room`, which it has, stays here.
    pub fn keeps(&self, room: &RoomName) -> bool {
        self.keeps_rooms() || (self.keeps_plans() && self.entrusted.contains(room))
    }

    /// It is ejected, or taken back.
    pub fn eject(&mut self, ejected: bool) {
        self.ejected = ejected;
        self.entrusted.clear();
    }

    /// Whether rooms that have just been claimed for it may go there; who claimed one for an ejected node had no better.
    pub(crate) fn keeps_plans(&self) -> bool {
        self.health != Health::Down && !self.draining
    }

    /// What a new room may expect of it; `None` when it takes none.
    pub(crate) fn standing(&self) -> Option<Standing> {
        if !self.takes_rooms() || self.full {
            return None;
        }
        Some(match (self.ejected, self.probation || self.region_probation) {
            (true, _) => Standing::Ejected,
            (false, true) => Standing::Probation,
            (false, false) => Standing::Good,
        })
    }

    /// Joins a second that it takes of rooms that are new to it; none when it gets no such rooms, or only for want of better.
    pub(crate) fn takes_per_second(&self) -> u32 {
        match (self.standing(), self.joins_per_second) {
            (Some(Standing::Good), 0) => JOINS_PER_SECOND_UNSAID,
            (Some(Standing::Good), said) => said,
            _ => 0,
        }
    }

    /// It says how loaded it is.
    pub fn report(&mut self, load_permille: u16) {
        self.load_permille = load_permille;
        self.granted = [0, self.granted[0]];
    }

    /// Somebody has been sent here.
    pub fn grant(&mut self) {
        self.granted[0] = self.granted[0].saturating_add(1);
    }

    /// The load that it is expected to have soon, in thousandths: reported, and granted since.
    pub fn predicted_permille(&self) -> u32 {
        let granted = self.granted[0].saturating_add(self.granted[1]);
        u32::from(self.load_permille).saturating_add(granted.saturating_mul(GRANT_PERMILLE))
    }

    /// Rooms it says it hosts.
    pub fn rooms(&self) -> usize {
        self.hosted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeView {
        NodeView::new(NodeFacts { id: "a".into(), region: "eu".into(), capacity: 1 })
    }

    #[test]
    fn a_grant_counts_for_a_whole_interval_between_reports() {
        let mut node = node();
        node.report(100);
        node.grant();
        assert_eq!(node.predicted_permille(), 102);
        node.report(100);
        node.grant();
        assert_eq!(node.predicted_permille(), 104, "the report may not know of it yet");
        node.report(103);
        assert_eq!(node.predicted_permille(), 105);
        node.report(104);
        assert_eq!(node.predicted_permille(), 104);
    }

    #[test]
    fn who_takes_rooms_who_keeps_them_and_how_gladly() {
        let check = |change: fn(&mut NodeView), takes: bool, keeps: bool, standing| {
            let mut node = node();
            node.health = Health::Alive;
            change(&mut node);
            let found = (node.takes_rooms(), node.keeps_rooms(), node.standing());
            assert_eq!(found, (takes, keeps, standing));
        };
        check(|_| {}, true, true, Some(Standing::Good));
        check(|node| node.health = Health::Suspect, false, true, None);
        check(|node| node.health = Health::Down, false, false, None);
        check(|node| node.draining = true, false, false, None);
        check(|node| node.full = true, true, true, None);
        check(|node| node.probation = true, true, true, Some(Standing::Probation));
        check(|node| node.region_probation = true, true, true, Some(Standing::Probation));
        check(|node| node.ejected = true, true, false, Some(Standing::Ejected));
    }

    #[test]
    fn who_gets_no_rooms_takes_no_joins_of_them() {
        let check = |change: fn(&mut NodeView), takes: u32| {
            let mut node = node();
            (node.health, node.joins_per_second) = (Health::Alive, 80);
            change(&mut node);
            assert_eq!(node.takes_per_second(), takes);
        };
        check(|_| {}, 80);
        check(|node| node.joins_per_second = 0, JOINS_PER_SECOND_UNSAID);
        check(|node| node.health = Health::Suspect, 0);
        check(|node| node.draining = true, 0);
        check(|node| node.full = true, 0);
        check(|node| node.probation = true, 0);
        check(|node| node.ejected = true, 0);
    }
}

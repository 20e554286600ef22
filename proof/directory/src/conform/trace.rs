//! Traces: what is asked, in which order. Few rooms and few generations, so that everything collides with everything.

use std::{collections::BTreeMap, time::Duration};

use outlast_directory::{
    NAME_BYTES_MAX, NodeSummary, PlacementId, Record, Request, RoomKey, SUMMARY_NODES_MAX,
    SUMMARY_TTL_MAX, Summary,
};
use outlast_model::{Epoch, Generation, NodeId};

use crate::chance::Chance;

/// Rooms of a trace in each of its partitions, numbered from 0.
pub(crate) const ROOMS: u64 = 4;
/// Partitions that a trace uses where the engine has so many.
pub(crate) const PARTS_MAX: usize = 3;
/// Followers of each partition.
pub(crate) const FOLLOWERS: usize = 3;
/// Regions that send heartbeats in each partition.
pub(crate) const REGIONS: usize = 2;
/// Steps of a trace.
const STEPS: usize = 70;
/// Out of a hundred requests, how many no engine may take.
const MALFORMED_PERCENT: u32 = 7;
/// Out of a hundred requests, how many are an earlier one again.
const REPEATED_PERCENT: u32 = 12;
/// Where generations begin: numbers of which a double, a signed one or a 32-bit one has trouble to tell neighbours.
const BASES: [u64; 6] = [0, 0, (1 << 32) - 3, (1 << 53) - 3, (1 << 63) - 3, u64::MAX - 8];
/// Names that a format made of lines, words or C strings breaks on.
const NODES: [&str; 6] = ["a", "b", "eu-1", "two words", "nul\0 and\r\n$3", "ünïcode"];

/// A seeded sequence of steps.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What it was drawn from.
    pub seed: u64,
    /// In order.
    pub steps: Vec<Step>,
}

/// One step, at one partition.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which of the trace's partitions; modulo as many as there are.
    pub part: usize,
    /// What is done.
    pub act: Act,
}

/// What is done in a step.
#[derive(Clone, Debug)]
pub enum Act {
    /// A request other than a watch is sent. Its room and region are numbers of the trace.
    Ask(Request),
    /// A follower asks once.
    Watch(usize),
    /// A follower asks on to the end, and must know then what the table knows.
    Follow(usize),
    /// A follower becomes a copy of another one as that is now: later it follows from this revision.
    Fork {
        /// Who is copied.
        from: usize,
        /// Who is overwritten.
        to: usize,
    },
    /// A follower goes on from elsewhere.
    Restart(usize, Restart),
}

/// Where a follower goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Knowing nothing.
    Start,
    /// With a revision of another instance: what it knows is of another directory.
    Foreign,
    /// With a revision later than all changes.
    Future,
}

impl Trace {
    /// The trace of `seed`.
    pub fn draw(seed: u64) -> Trace {
        let mut draw = Draw {
            chance: Chance::named(seed, "trace"),
            base: Chance::named(seed, "base").one(&BASES),
            asked: Vec::new(),
            claimed: BTreeMap::new(),
        };
        let steps = (0..STEPS).map(|_| draw.step()).collect();
        Trace { seed, steps }
    }
}

struct Draw {
    chance: Chance,
    base: u64,
    asked: Vec<Step>,
    /// The generation of the last claim of a room of a partition.
    claimed: BTreeMap<(usize, RoomKey), Generation>,
}

#[derive(Clone, Copy)]
enum Kind {
    Place,
    Replace,
    End,
    Lookup,
    Heartbeat,
    Summaries,
    Instance,
    Watch,
    Follow,
    Fork,
    Restart,
}

const KINDS: [(u64, Kind); 11] = [
    (16, Kind::Place),
    (16, Kind::Replace),
    (10, Kind::End),
    (6, Kind::Lookup),
    (3, Kind::Heartbeat),
    (2, Kind::Summaries),
    (1, Kind::Instance),
    (5, Kind::Watch),
    (2, Kind::Follow),
    (3, Kind::Fork),
    (1, Kind::Restart),
];

impl Draw {
    fn step(&mut self) -> Step {
        if !self.asked.is_empty() && self.chance.hits(REPEATED_PERCENT) {
            let at = self.chance.index(self.asked.len());
            return self.asked[at].clone();
        }
        let part = self.chance.index(PARTS_MAX);
        let follower = self.chance.index(FOLLOWERS);
        let act = match self.chance.weighted(&KINDS) {
            Kind::Watch => Act::Watch(follower),
            Kind::Follow => Act::Follow(follower),
            Kind::Fork => Act::Fork { from: follower, to: self.chance.index(FOLLOWERS) },
            Kind::Restart => {
                let places = [Restart::Start, Restart::Foreign, Restart::Future];
                Act::Restart(follower, self.chance.one(&places))
            }
            kind => Act::Ask(self.request(part, kind)),
        };
        let step = Step { part, act };
        if matches!(step.act, Act::Ask(_)) {
            self.asked.push(step.clone());
        }
        step
    }

    fn request(&mut self, part: usize, kind: Kind) -> Request {
        let room = RoomKey(u128::from(self.chance.below(ROOMS)));
        match kind {
            Kind::Place => {
                let want = self.record();
                self.claimed.insert((part, room), want.generation);
                Request::Place { room, want }
            }
            Kind::Replace => {
                let mut want = self.record();
                // What was claimed last is most often what is held.
                let expected = match self.claimed.get(&(part, room)) {
                    Some(last) if self.chance.hits(60) => *last,
                    _ => self.generation(),
                };
                if self.chance.hits(75) {
                    want.generation.0 = expected.0.saturating_add(1 + self.chance.below(2));
                }
                self.claimed.insert((part, room), want.generation);
                Request::Replace { room, expected, want }
            }
            Kind::End => Request::End { room, generation: self.generation() },
            Kind::Lookup => Request::Lookup { room },
            Kind::Heartbeat => self.heartbeat(),
            Kind::Summaries => Request::Summaries,
            _ => Request::Instance,
        }
    }

    fn generation(&mut self) -> Generation {
        if self.chance.hits(MALFORMED_PERCENT) {
            return Generation(self.chance.one(&[0, u64::MAX]));
        }
        let base = if self.chance.hits(15) { self.chance.one(&BASES) } else { self.base };
        Generation(base + 1 + self.chance.below(6))
    }

    fn record(&mut self) -> Record {
        let id = match self.chance.below(10) {
            // As a signed number: -1 and the lowest one.
            8 => u128::MAX,
            9 => 1 << 127,
            small => u128::from(small) + 1,
        };
        let mut record = Record {
            node: self.chance.one(&NODES).into(),
            epoch: Epoch(self.chance.one(&[0, 1, 7, (1 << 53) + 1, u64::MAX])),
            generation: self.generation(),
            id: PlacementId(id),
            provisional: self.chance.hits(30),
        };
        if self.chance.hits(4) {
            record.node = NodeId::from("x".repeat(NAME_BYTES_MAX));
        }
        if self.chance.hits(MALFORMED_PERCENT) {
            match self.chance.below(3) {
                0 => record.node = "".into(),
                1 => record.node = NodeId::from("x".repeat(NAME_BYTES_MAX + 1)),
                _ => record.id = PlacementId(0),
            }
        }
        record
    }

    fn heartbeat(&mut self) -> Request {
        let count = self.chance.one(&[0, 1, 2, 40, SUMMARY_NODES_MAX]);
        let load = self.chance.below(1_001);
        let node = |n: usize| NodeSummary {
            node: format!("{} {n}", NODES[n % NODES.len()]).into(),
            epoch: Epoch(u64::MAX - n as u64),
            draining: n % 2 == 1,
            load_permille: u16::try_from(load).expect("a load in thousandths is small"),
            rooms: u32::MAX - u32::try_from(n).expect("a summary has few nodes"),
        };
        let mut nodes: Vec<_> = (0..count).map(node).collect();
        // The longest there is: nothing may run out while a trace plays.
        let mut ttl = SUMMARY_TTL_MAX;
        if self.chance.hits(3 * MALFORMED_PERCENT) {
            match self.chance.below(4) {
                0 => ttl = Duration::ZERO,
                1 => ttl = SUMMARY_TTL_MAX + Duration::from_nanos(1),
                2 => nodes = (0..=SUMMARY_NODES_MAX).map(node).collect(),
                _ => nodes.push(NodeSummary { node: "".into(), ..node(0) }),
            }
        }
        let region = self.chance.index(REGIONS);
        Request::Heartbeat { summary: Summary { region: region.to_string().into(), nodes }, ttl }
    }
}

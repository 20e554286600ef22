//! The checks that are run: what must hold within which bounds, and what must break without which safeguard.

use crate::{
    bounds::{Bounds, Budget, Rules, Tie, Trouble},
    model::{HIGHEST_HEARD, MOVED_ONCE, NEWER_STAYS, ONE_OWNER, RIGHT_TO_SERVE, SETTLES},
};

/// Every schedule within these bounds must be right.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name on the command line.
    pub name: &'static str,
    /// In words.
    pub says: &'static str,
    /// It is part of `cargo test`; the others are for the program.
    pub quick: bool,
    /// The bounds.
    pub bounds: fn() -> Bounds,
}

/// The protocol without one of its safeguards.
#[derive(Clone, Copy, Debug)]
pub struct Broken {
    /// What is missing.
    pub without: &'static str,
    /// The rest.
    pub rules: Rules,
    /// What must be found violated.
    pub violates: &'static [&'static str],
}

/// What may befall besides a crash.
const STORM: [Trouble; 4] = [Trouble::Freeze, Trouble::Cut, Trouble::Outage, Trouble::Wipe];

/// All checks, the quick ones first.
pub const CHECKS: &[Check] = &[
    Check {
        name: "crashes",
        says: "2 rooms, 2 crashes, no bound on placements",
        quick: true,
        // Five are the most that can come about.
        bounds: || bounds(2, 6, crashes()),
    },
    Check { name: "two", says: "1 room, any 2 troubles", quick: true, bounds: broken_bounds },
    Check {
        name: "three",
        says: "1 room, any 3 troubles",
        quick: false,
        bounds: || bounds(1, 3, Budget::any(3, &Trouble::ALL)),
    },
    Check {
        name: "wide",
        says: "1 room, any 2 troubles, 4 placements",
        quick: false,
        bounds: || bounds(1, 4, Budget::any(2, &Trouble::ALL)),
    },
    Check {
        name: "storm",
        says: "1 room, 2 crashes and 1 each of freeze, partition, outage, wipe; 2 placements",
        quick: false,
        bounds: || bounds(1, 2, STORM.iter().fold(crashes(), |all, kind| all.and(1, *kind))),
    },
    Check {
        name: "pairs",
        says: "2 rooms, any 2 of crash, freeze, partition, outage, wipe; 2 placements each",
        quick: false,
        bounds: || bounds(2, 2, STORM.iter().fold(crashes(), |all, kind| all.or(*kind))),
    },
    Check {
        name: "split",
        says: "2 rooms, 2 crashes and 1 partition; 2 placements each",
        quick: false,
        bounds: || bounds(2, 2, crashes().and(1, Trouble::Cut)),
    },
    Check {
        name: "one",
        says: "2 rooms, any 1 trouble",
        quick: false,
        bounds: || bounds(2, 3, Budget::any(1, &Trouble::ALL)),
    },
    Check {
        name: "frozen",
        says: "2 rooms, 2 crashes and 1 freeze; 4 placements each",
        quick: false,
        bounds: || bounds(2, 4, crashes().and(1, Trouble::Freeze)),
    },
];

/// All ways to break the protocol that must be caught, within [`Broken::bounds`].
pub const BROKEN: &[Broken] = &[
    Broken {
        without: "generations",
        rules: Rules { generations: false, ..Rules::ALL },
        violates: &[HIGHEST_HEARD, NEWER_STAYS, SETTLES],
    },
    Broken {
        without: "the lease",
        rules: Rules { lease: false, ..Rules::ALL },
        violates: &[RIGHT_TO_SERVE],
    },
    Broken {
        without: "the fence after a standstill",
        rules: Rules { pause: false, ..Rules::ALL },
        violates: &[RIGHT_TO_SERVE],
    },
    Broken {
        without: "tombstones",
        rules: Rules { tombstones: false, ..Rules::ALL },
        violates: &[ONE_OWNER],
    },
    Broken {
        without: "a node's memory of rooms that it has lost",
        rules: Rules { memory: false, ..Rules::ALL },
        violates: &[HIGHEST_HEARD],
    },
    Broken {
        without: "the expected generation in a replace",
        rules: Rules { expected: false, ..Rules::ALL },
        violates: &[NEWER_STAYS, ONE_OWNER],
    },
    Broken {
        without: "merging",
        rules: Rules { merge: false, ..Rules::ALL },
        violates: &[SETTLES],
    },
    Broken {
        without: "a higher generation for a home that the directory has fenced",
        rules: Rules { raise: false, ..Rules::ALL },
        violates: &[SETTLES],
    },
    Broken {
        without: "the node's name alone to settle a tie: the directory's record comes first",
        rules: Rules { tie: Tie::Holder, ..Rules::ALL },
        violates: &[MOVED_ONCE],
    },
    Broken {
        without: "the same, and gateways that all know the directory's record",
        rules: Rules { tie: Tie::HolderIfKnown, ..Rules::ALL },
        violates: &[SETTLES],
    },
];

impl Broken {
    /// Enough to see each of them break.
    pub fn bounds() -> Bounds {
        broken_bounds()
    }
}

fn broken_bounds() -> Bounds {
    bounds(1, 3, Budget::any(2, &Trouble::ALL))
}

fn crashes() -> Budget {
    Budget::any(2, &[Trouble::Crash])
}

fn bounds(rooms: usize, placements: u8, budget: Budget) -> Bounds {
    Bounds { rooms, placements, budget }
}

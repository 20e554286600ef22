//! What the model remembers: a world that all rooms share, and of each room the least that decides its future.

use std::hash::{Hash, Hasher};

use crate::bounds::{Budget, CLIENTS, REGIONS, ROOMS_MAX};

/// Where a client is that is nowhere, and wants in.
pub const OUT: u8 = REGIONS as u8;
/// Highest generation that fits a [`Placements`].
pub(crate) const GENERATION_MAX: u8 = (u32::BITS as usize / REGIONS) as u8;

/// A node's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// It runs.
    #[default]
    Up,
    /// It stands still; its memory is whole.
    Frozen,
    /// It is gone, with its memory.
    Dead,
}

/// The partition, if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cut {
    /// Everybody reaches everybody.
    #[default]
    None,
    /// This region's gateways, node and clients reach only each other; the directory is with the others.
    Region(u8),
    /// The same, and no gateway lives in it.
    Deaf(u8),
    /// This region's node reaches no gateway; its clients still hear it.
    Node(u8),
}

/// What all rooms share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct World {
    /// The nodes' processes.
    pub lives: [Life; REGIONS],
    /// Nodes that stood still, or were not echoed for a whole lease by their own clock, and have not been echoed since.
    pub over: [bool; REGIONS],
    /// The partition.
    pub cut: Cut,
    /// The directory can be reached, save from a region that is cut off.
    pub directory: bool,
    /// Trouble that may still come.
    pub left: Budget,
}

/// What a node holds of a room. 0 is no generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// Under which generation it serves the room.
    pub serving: u8,
    /// The highest generation that this process has heard of.
    pub heard: u8,
    /// It lost the room, by a fence or to another node; otherwise what was here was closed for want of participants.
    pub lost: bool,
}

/// What the directory holds of a room: nothing, a placement, or a tombstone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The placement's node; [`OUT`] in a tombstone, 0 in nothing.
    pub node: u8,
    /// Its generation, or the highest that has ended; 0 in nothing.
    pub generation: u8,
}

/// A set of placements: (node, generation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placements(u32);

/// One room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Room {
    /// In the directory.
    pub record: Record,
    /// At the nodes.
    pub held: [Held; REGIONS],
    /// Where each client is: a node, or [`OUT`].
    pub at: [u8; CLIENTS],
    /// Placements that some gateway may know of, so that joins and steers which name them may be under way.
    pub issued: Placements,
    /// Those of them that the directory has confirmed since it was last wiped.
    pub confirmed: Placements,
    /// Those that are over, so that some gateway may tell the directory, at any time.
    pub ended: Placements,
    /// The directory let an end or a replace that was meant for a lower generation take away a higher one.
    pub removed_newer: bool,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// What all rooms share.
    pub world: World,
    /// The rooms. When there are two they are sorted: states that differ in their order alone are one.
    pub rooms: [Room; ROOMS_MAX],
}

impl Placements {
    fn bit(node: u8, generation: u8) -> u32 {
        1 << (usize::from(generation - 1) * REGIONS + usize::from(node))
    }

    /// Adds one.
    pub fn insert(&mut self, node: u8, generation: u8) {
        self.0 |= Placements::bit(node, generation);
    }

    /// Whether it is in.
    pub fn contains(self, node: u8, generation: u8) -> bool {
        generation > 0 && self.0 & Placements::bit(node, generation) != 0
    }

    /// All of them, by generation, then by node.
    pub fn iter(self) -> impl Iterator<Item = (u8, u8)> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let at = (left != 0).then(|| left.trailing_zeros() as u8)?;
            left &= left - 1;
            Some((at % REGIONS as u8, at / REGIONS as u8 + 1))
        })
    }

    /// How many.
    pub fn len(self) -> u8 {
        self.0.count_ones() as u8
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The highest generation; 0 when there are none.
    pub fn highest(self) -> u8 {
        (32 - self.0.leading_zeros() as u8).div_ceil(REGIONS as u8)
    }

    /// Whether two nodes have one generation.
    pub fn has_tie(self) -> bool {
        self.iter().zip(self.iter().skip(1)).any(|(one, next)| one.1 == next.1)
    }
}

impl World {
    /// All is well, so far.
    pub fn new(left: Budget) -> World {
        World {
            lives: [Life::Up; REGIONS],
            over: [false; REGIONS],
            cut: Cut::None,
            directory: true,
            left,
        }
    }
}

impl Room {
    /// Nobody has placed it.
    pub fn new() -> Room {
        Room {
            record: Record::default(),
            held: [Held::default(); REGIONS],
            at: [OUT; CLIENTS],
            issued: Placements::default(),
            confirmed: Placements::default(),
            ended: Placements::default(),
            removed_newer: false,
        }
    }

    /// The nodes that serve it, each with its generation.
    pub fn serving(&self) -> impl Iterator<Item = (u8, u8)> {
        let held = self.held.iter().zip(0..);
        held.filter(|(held, _)| held.serving > 0).map(|(held, node)| (node, held.serving))
    }

    /// `node` serves the room no longer: its participants are told RECONNECT, its streams say Closed.
    pub fn close(&mut self, node: u8, lost: bool) {
        let held = &mut self.held[usize::from(node)];
        if held.serving > 0 {
            self.ended.insert(node, held.serving);
            held.serving = 0;
            held.lost = lost;
        }
        for at in self.at.iter_mut().filter(|at| **at == node) {
            *at = OUT;
        }
    }
}

/// In three words: the checker does little else than to hash.
impl Hash for Room {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let mut small = u64::from(self.record.node) | u64::from(self.record.generation) << 2;
        for held in self.held {
            let bits = u64::from(held.serving) | u64::from(held.heard) << 4;
            small = small << 9 | bits << 1 | u64::from(held.lost);
        }
        self.at.iter().for_each(|at| small = small << 2 | u64::from(*at));
        hasher.write_u64(small << 1 | u64::from(self.removed_newer));
        hasher.write_u64(u64::from(self.issued.0) << 32 | u64::from(self.confirmed.0));
        hasher.write_u32(self.ended.0);
    }
}

impl Default for Room {
    fn default() -> Room {
        Room::new()
    }
}

//! What nodes, directory and gateways decide, on the model's small state. `tests/real_code.rs` holds each of these against
//! the production code. Each can be taken away by [`Rules`].

use crate::{
    bounds::{Rules, Tie},
    state::{Held, OUT, Record, Room},
};

impl Held {
    /// Whether the node admits somebody who asks under `generation`: under one above all that it has heard of, or the one
    /// under which it serves. An equal one that has closed here is over.
    pub fn admits(self, rules: Rules, generation: u8) -> bool {
        let known = if rules.memory { self.heard } else { self.serving };
        !rules.generations || generation > known || generation == self.serving
    }

    /// Whether somebody who was admitted under `generation` opens the room on arrival, the room having been closed since,
    /// if it was.
    pub fn lets_arrive(self, rules: Rules, generation: u8) -> bool {
        self.admits(rules, generation) || generation == self.heard && !self.lost
    }

    /// Somebody comes in under `generation`, which is adopted when it is higher.
    pub fn open(&mut self, generation: u8) {
        self.serving = self.serving.max(generation);
        self.heard = self.heard.max(generation);
        self.lost = false;
    }
}

impl Room {
    /// `node` hears that the room is elsewhere under `generation`, and stops unless it knows better. Returns whether it
    /// did.
    pub fn steer(&mut self, rules: Rules, node: u8, generation: u8) -> bool {
        let held = &mut self.held[usize::from(node)];
        if rules.generations && generation < held.serving {
            return false;
        }
        held.heard = held.heard.max(generation);
        held.lost = true;
        self.close(node, true);
        true
    }
}

impl Record {
    /// The placement's node.
    pub fn holder(self) -> Option<u8> {
        (self.generation > 0 && self.node != OUT).then_some(self.node)
    }

    /// A claim of a room that nobody holds. Returns whether it changed something.
    pub fn place(&mut self, rules: Rules, node: u8, generation: u8) -> bool {
        let fenced = rules.generations && generation <= self.generation;
        if self.holder().is_some() || fenced {
            return false;
        }
        *self = Record { node, generation };
        true
    }

    /// A claim of a room that is held under `expected`. Returns whether it changed something.
    pub fn replace(&mut self, rules: Rules, expected: u8, node: u8, generation: u8) -> bool {
        if self.holder().is_none() {
            return self.place(rules, node, generation);
        }
        if rules.generations && rules.expected && self.generation != expected {
            return false;
        }
        *self = Record { node, generation };
        true
    }

    /// The room's life under `generation`, and every older one, is over.
    pub fn end(&mut self, rules: Rules, generation: u8) {
        let newer = match self.holder() {
            Some(_) => self.generation > generation,
            None => self.generation >= generation,
        };
        if rules.generations && newer {
            return;
        }
        *self = match rules.tombstones && rules.generations {
            true => Record { node: OUT, generation },
            false => Record::default(),
        };
    }
}

/// Whether, to a gateway that knows `holder` to be held by the directory, the home `a` counts before `b`; each is (node,
/// generation).
pub fn counts_before(rules: Rules, a: (u8, u8), b: (u8, u8), holder: Option<u8>) -> bool {
    if rules.generations && a.1 != b.1 {
        return a.1 > b.1;
    }
    match holder.filter(|_| rules.tie != Tie::Node) {
        Some(node) if node == a.0 => true,
        Some(node) if node == b.0 => false,
        _ => a.0 < b.0,
    }
}

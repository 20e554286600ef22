//! How far the model goes, and which safeguards of the protocol it has.

/// Regions, each with one node, its gateways and its clients.
pub const REGIONS: usize = 3;
/// Most rooms. They are interchangeable, which halves what two of them cost.
pub const ROOMS_MAX: usize = 2;
/// Clients of a room; the first lives in region 0, the second in region 1.
pub const CLIENTS: usize = 2;

/// A kind of trouble. What is not among them may come at any time and any number of times: messages that are lost, late,
/// doubled or overtaken, gateways that know nothing or old things, nodes that restart, links that heal, empty rooms that
/// are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// A node's process ends, or the gateways of a region that is cut off do.
    Crash,
    /// A node stands still for longer than `SHARD_PAUSE_MAX`.
    Freeze,
    /// A partition: one region from the others, or one node from all gateways. One at a time.
    Cut,
    /// The directory cannot be reached from anywhere.
    Outage,
    /// The directory forgets everything.
    Wipe,
    /// A gateway moves a room whose home is well: a drain, a false alarm, a home that does not deliver.
    Move,
    /// A client hangs up, and comes again later.
    Leave,
    /// A join reaches a node's shard when its client has given up, perhaps when the room has just been closed.
    Stray,
}

impl Trouble {
    /// Every kind.
    pub const ALL: [Trouble; 8] = [
        Trouble::Crash,
        Trouble::Freeze,
        Trouble::Cut,
        Trouble::Outage,
        Trouble::Wipe,
        Trouble::Move,
        Trouble::Leave,
        Trouble::Stray,
    ];
}

/// How much trouble may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Budget {
    faults: u8,
    of: [u8; Trouble::ALL.len()],
}

impl Budget {
    /// So many faults of the given kinds, in any mixture.
    pub fn any(faults: u8, kinds: &[Trouble]) -> Budget {
        let mut of = [0; Trouble::ALL.len()];
        kinds.iter().for_each(|kind| of[*kind as usize] = faults);
        Budget { faults, of }
    }

    /// So many more, of this kind.
    #[must_use]
    pub fn and(mut self, faults: u8, kind: Trouble) -> Budget {
        self.faults += faults;
        self.of[kind as usize] += faults;
        self
    }

    /// No more in all, but as many of them as there may be can be of this kind.
    #[must_use]
    pub fn or(mut self, kind: Trouble) -> Budget {
        self.of[kind as usize] = self.faults;
        self
    }

    /// Whether one more of `kind` may come.
    pub fn allows(&self, kind: Trouble) -> bool {
        self.faults > 0 && self.of[kind as usize] > 0
    }

    /// One more of `kind` has come.
    pub fn spend(&mut self, kind: Trouble) {
        self.faults -= 1;
        self.of[kind as usize] -= 1;
        if self.faults == 0 {
            // States that differ in what cannot be spent any more are one.
            *self = Budget::default();
        }
    }
}

/// The size of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Rooms, 1 or [`ROOMS_MAX`].
    pub rooms: usize,
    /// Most placements (node and generation) of a room while there is trouble, with the directory and without. Generations
    /// can be no higher than that. The settling afterwards may add more.
    pub placements: u8,
    /// The trouble.
    pub budget: Budget,
}

/// Which of two homes of one generation counts: a thing that all gateways must see alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tie {
    /// That at the lower node.
    Node,
    /// That which the directory holds, then that at the lower node; once there is no trouble every gateway knows what the
    /// directory holds.
    Holder,
    /// The same, but a gateway may not have asked the directory.
    HolderIfKnown,
}

/// The safeguards. Production has them all; the model can go without one, to show that it is needed and that its absence
/// is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Generations are compared: by nodes at a join and a steer, by the directory at replace and end, by gateways between
    /// two homes.
    pub generations: bool,
    /// A node whose lease has run out fences everything, and admits nobody until it is echoed again.
    pub lease: bool,
    /// A node that stood still fences everything before it sends.
    pub pause: bool,
    /// The directory remembers the generations of rooms that have ended.
    pub tombstones: bool,
    /// A node remembers the highest generation that it has heard of a room which it does not serve.
    pub memory: bool,
    /// A replace is refused unless it names the generation that is held.
    pub expected: bool,
    /// Of two homes the losers are steered, and their clients told.
    pub merge: bool,
    /// When the directory has fenced the generation of a living home, the home is announced under the next one.
    pub raise: bool,
    /// Which of two homes of one generation counts.
    pub tie: Tie,
    /// That home gets the next generation, without the directory: by a steer, which names it to the loser as well.
    pub lift: bool,
}

impl Rules {
    /// As the protocol has them.
    pub const ALL: Rules = Rules {
        generations: true,
        lease: true,
        pause: true,
        tombstones: true,
        memory: true,
        expected: true,
        merge: true,
        raise: true,
        tie: Tie::Node,
        lift: true,
    };
}

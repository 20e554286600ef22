//! What can happen: small values, and what they carry.

/// A number of a connection; see `conn.rs`.
pub(crate) type ConnId = u32;
/// An end of a connection: 0 dialled, 1 was dialled.
pub(crate) type Side = usize;

/// A client's own timers. All but the pings belong to one attempt, and are void after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Begin: the first connect, or the next attempt.
    Attempt,
    /// The browser races the second address.
    Race,
    /// The attempt has taken too long.
    TimeOut,
    /// ICE and DTLS are through, if the path is there.
    MediaUp,
    /// Ping, and look at the media.
    Ping,
    /// The person leaves.
    Leave,
    /// The person comes (back).
    Come,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A process's role wants to be woken.
    Wake { process: u16, life: u16 },
    /// A node's beat interval is over.
    Tick { process: u16, life: u16 },
    /// A datagram arrives.
    Datagram { slot: u32 },
    /// A connection is tried (again).
    Dial { conn: ConnId },
    /// Who dialled hears of it.
    Dialled { conn: ConnId, accepted: bool },
    /// The next frame from `side` reaches the other.
    Arrive { conn: ConnId, side: u8 },
    /// What `side` could not get through is sent again.
    Resend { conn: ConnId, side: u8 },
    /// `side` hears that the other is gone.
    Reset { conn: ConnId, side: u8 },
    /// A dial is given up, if nothing has come of it.
    DialLate { conn: ConnId },
    /// A gateway looks after its room stream of a node.
    Stream { gateway: u16, node: u16, life: u16 },
    /// The node has worked through a join.
    Worked { conn: ConnId, life: u16 },
    /// A client's timer.
    Client { client: u16, timer: Timer, token: u32 },
    /// A call reaches the engine.
    EngineCall { slot: u32 },
    /// Its reply reaches the gateway.
    EngineReply { slot: u32 },
    /// The engine's replica has caught up with it.
    Replicate,
    /// A fault of the schedule begins.
    Begin { fault: u16 },
    /// It ends.
    End { fault: u16 },
    /// A flapping fault turns.
    Flip { fault: u16 },
    /// What is to happen at the operator's or the supervisor's hand.
    Restart { process: u16, life: u16 },
    /// An operator changes what a client may do.
    Rule { client: u16 },
    /// That reaches the node.
    RuleCall { slot: u32 },
    /// Its answer reaches the gateway.
    RuleAnswer { slot: u32 },
    /// Name servers look at the gateways again.
    Names,
    /// The observer takes stock.
    Stock,
}

/// Values in flight, by slot.
pub(crate) struct Slots<T> {
    values: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { values: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(crate) fn put(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.values[slot as usize] = Some(value);
            return slot;
        }
        self.values.push(Some(value));
        (self.values.len() - 1) as u32
    }

    pub(crate) fn take(&mut self, slot: u32) -> T {
        self.free.push(slot);
        self.values[slot as usize].take().expect("a slot is taken once")
    }

    pub(crate) fn get(&self, slot: u32) -> &T {
        self.values[slot as usize].as_ref().expect("a slot is read before it is taken")
    }
}

//! Connections as TCP has them: frames in order, repeated until they get through, a reset from a process that is gone, and
//! ends that know nothing of each other while the path is cut.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use outlast_model::{Generation, RoomSettings, Ruling, Time};
use outlast_wire::{RoomFrame, Steer};

use crate::{
    event::{ConnId, Event, Side},
    network::{Host, Network},
    queue::Queue,
    rights::Token,
};

/// First wait for an acknowledgement, beside the round trip; doubled each time.
const RESEND_AFTER: Duration = Duration::from_millis(200);
const RESEND_DOUBLINGS_MAX: u8 = 9;
/// First wait for an answer to a SYN; doubled each time.
const DIAL_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a client is to do, as far as it matters here (`livekit.LeaveRequest.Action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Reconnect,
    Resume,
    Disconnect,
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Join,
    Resume,
}

/// Why a node refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum No {
    Stale { known: Generation },
    Full,
    Draining,
    Busy,
    Fenced,
}

/// One message over a connection.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// Client to gateway, gateway to node: the request.
    Enter(Enter),
    /// Node to gateway, gateway to client: it is in.
    Taken { node: u16, member: u32, resumed: bool, token: Token },
    /// Node to gateway, gateway to client: a refreshed token.
    Token(Token),
    /// Node to gateway: no.
    Refused { why: No },
    /// Gateway to client: 503. SDKs do not look at `Retry-After`.
    Unavailable,
    /// To the client.
    Leave(Leave),
    /// Node to gateway, passing by: the participant's media is up.
    Active,
    /// Client to gateway to node: it has left for good.
    Bye,
    /// Gateway to node: a room stream begins.
    Follow,
    /// On a room stream.
    Rooms(Box<RoomFrame>),
    /// Gateway to node, on a room stream.
    Steer(Box<Steer>),
    /// The end.
    Fin,
}

/// A request to come in.
#[derive(Clone, Debug)]
pub(crate) struct Enter {
    pub(crate) client: u16,
    pub(crate) want: Want,
    pub(crate) generation: Generation,
    /// What the room is to be, if it is opened.
    pub(crate) settings: Option<Arc<RoomSettings>>,
    /// The client's.
    pub(crate) token: Token,
    /// What the gateway knows to be ruled of the client.
    pub(crate) ruling: Option<Ruling>,
    /// The gateway knows no other node that could take it.
    pub(crate) nowhere_else: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client's signalling.
    Signal { client: u16 },
    /// A gateway's way to a node for one visit.
    Proxy { gateway: u16, node: u16, visit: u32 },
    /// A gateway follows a node's rooms.
    Rooms { gateway: u16, node: u16 },
}

#[derive(Debug, Default)]
struct Flow {
    wire: VecDeque<Frame>,
    stalled: VecDeque<Frame>,
    next_at: Time,
    tries: u8,
    resending: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) ends: [Host; 2],
    pub(crate) open: [bool; 2],
    pub(crate) purpose: Purpose,
    /// Both kernels have agreed.
    pub(crate) made: bool,
    /// The dial was given up.
    pub(crate) dropped: bool,
    /// What the end that was dialled calls it.
    pub(crate) tag: u32,
    tries: u8,
    flows: [Flow; 2],
}

/// All connections of a run.
#[derive(Default)]
pub(crate) struct Conns(Vec<Conn>);

impl Conns {
    pub(crate) fn get(&self, id: ConnId) -> &Conn {
        &self.0[id as usize]
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> &mut Conn {
        &mut self.0[id as usize]
    }

    /// Begins to dial.
    pub(crate) fn dial(
        &mut self,
        queue: &mut Queue,
        now: Time,
        ends: [Host; 2],
        purpose: Purpose,
    ) -> ConnId {
        let id = self.0.len() as ConnId;
        self.0.push(Conn {
            ends,
            open: [true, false],
            purpose,
            made: false,
            dropped: false,
            tag: u32::MAX,
            tries: 0,
            flows: [Flow::default(), Flow::default()],
        });
        queue.at(now, Event::Dial { conn: id });
        id
    }

    /// The SYN got no answer.
    pub(crate) fn dial_again(&mut self, queue: &mut Queue, now: Time, id: ConnId) {
        let conn = self.get_mut(id);
        let wait = DIAL_AGAIN_AFTER * (1 << conn.tries.min(5));
        conn.tries += 1;
        queue.at(now + wait, Event::Dial { conn: id });
    }

    /// Sends a frame from `side`; nothing when that end is closed.
    pub(crate) fn send(
        &mut self,
        network: &mut Network,
        queue: &mut Queue,
        now: Time,
        (id, side): (ConnId, Side),
        frame: Frame,
    ) {
        let conn = &mut self.0[id as usize];
        if !conn.open[side] {
            return;
        }
        let (from, to) = (conn.ends[side], conn.ends[1 - side]);
        let flow = &mut conn.flows[side];
        if flow.stalled.is_empty() && network.connects(from, to) {
            flow.put(network, queue, now, (id, side), (from, to), frame);
            return;
        }
        flow.stalled.push_back(frame);
        if !flow.resending {
            flow.resending = true;
            let wait = RESEND_AFTER + 2 * network.latency(from, to);
            queue.at(now + wait, Event::Resend { conn: id, side: side as u8 });
        }
    }

    /// The time to try again has come.
    pub(crate) fn resend(
        &mut self,
        network: &mut Network,
        queue: &mut Queue,
        now: Time,
        (id, side): (ConnId, Side),
    ) {
        let conn = &mut self.0[id as usize];
        let (from, to) = (conn.ends[side], conn.ends[1 - side]);
        let flow = &mut conn.flows[side];
        if !network.connects(from, to) {
            flow.tries = (flow.tries + 1).min(RESEND_DOUBLINGS_MAX);
            let wait = RESEND_AFTER * (1 << flow.tries);
            queue.at(now + wait, Event::Resend { conn: id, side: side as u8 });
            return;
        }
        (flow.tries, flow.resending) = (0, false);
        while let Some(frame) = flow.stalled.pop_front() {
            flow.put(network, queue, now, (id, side), (from, to), frame);
        }
    }

    /// The frame that arrives; `None` when the connection was torn down in the meantime.
    pub(crate) fn arrived(&mut self, id: ConnId, side: Side) -> Option<Frame> {
        self.get_mut(id).flows[side].wire.pop_front()
    }

    /// Closes in order: what was sent before gets there.
    pub(crate) fn close(
        &mut self,
        network: &mut Network,
        queue: &mut Queue,
        now: Time,
        (id, side): (ConnId, Side),
    ) {
        let conn = self.get_mut(id);
        if !conn.made {
            conn.dropped = true;
            conn.open[side] = false;
            return;
        }
        self.send(network, queue, now, (id, side), Frame::Fin);
        self.get_mut(id).open[side] = false;
    }

    /// `side` is gone without a word of its own; its kernel says so where it can.
    pub(crate) fn abort(
        &mut self,
        network: &Network,
        queue: &mut Queue,
        now: Time,
        (id, side): (ConnId, Side),
        silent: bool,
    ) {
        let conn = self.get_mut(id);
        if !conn.open[side] {
            return;
        }
        conn.open[side] = false;
        conn.dropped |= !conn.made;
        conn.flows[side].stalled.clear();
        let (from, to) = (conn.ends[side], conn.ends[1 - side]);
        if !silent && conn.made && conn.open[1 - side] && network.passes(from, to) {
            let at = now + network.latency(from, to);
            queue.at(at, Event::Reset { conn: id, side: (1 - side) as u8 });
        }
    }

    /// Connections with an open end at `host`, and which end.
    pub(crate) fn of(&self, host: Host) -> Vec<(ConnId, Side)> {
        let mut found = Vec::new();
        for (id, conn) in self.0.iter().enumerate() {
            for side in 0..2 {
                if conn.ends[side] == host && conn.open[side] {
                    found.push((id as ConnId, side));
                }
            }
        }
        found
    }
}

impl Conn {
    /// Nothing waits to be repeated.
    pub(crate) fn flows(&self) -> bool {
        self.flows.iter().all(|flow| flow.stalled.is_empty())
    }
}

impl Flow {
    fn put(
        &mut self,
        network: &mut Network,
        queue: &mut Queue,
        now: Time,
        (id, side): (ConnId, Side),
        (from, to): (Host, Host),
        frame: Frame,
    ) {
        let at = network.segment(now, from, to).max(self.next_at);
        self.next_at = at;
        self.wire.push_back(frame);
        queue.at(at, Event::Arrive { conn: id, side: side as u8 });
    }
}

//! Everything that goes into the machine and everything that comes out. Values only.

use std::time::Duration;

use outlast_model::{
    Epoch, GatewayId, Generation, Identity, NodeId, RoomName, RoomSettings, Ruling, Time,
};
use outlast_wire::{Beat, Echo, Probe, Probed, RoomFrame, Steer};

use crate::{
    CPU_JOINS_PERMILLE, CPU_NEW_ROOMS_PERMILLE, JOINS_BURST, JOINS_PER_SECOND, LEASE,
    RESUME_RESERVE_PERMILLE,
};

/// What the configuration says, and what chance does.
#[derive(Clone, Debug)]
pub struct TenureConfig {
    /// This node.
    pub node: NodeId,
    /// This start of it.
    pub epoch: Epoch,
    /// Every gateway of every region, in any order. A node without gateways has nobody who could give its rooms away, and
    /// so no lease that could run out.
    pub gateways: Vec<GatewayId>,
    /// How long the node may serve after a beat that a gateway has echoed.
    pub lease: Duration,
    /// Joins and resumes admitted a second, in the long run; 0 counts as 1.
    pub joins_per_second: u32,
    /// Joins and resumes admitted at once after a quiet time; 0 counts as 1.
    pub joins_burst: u32,
    /// Share of the burst that only resumes may use, in thousandths.
    pub resume_reserve_permille: u16,
    /// CPU use from which on no new rooms are taken, in thousandths of all cores.
    pub cpu_new_rooms_permille: u16,
    /// CPU use from which on nobody new is taken into any room, in thousandths of all cores.
    pub cpu_joins_permille: u16,
    /// For the jitter of what refused clients are told to wait.
    pub seed: u64,
}

impl TenureConfig {
    /// The defaults, for `node`, its start and its gateways.
    pub fn new(node: NodeId, epoch: Epoch, gateways: Vec<GatewayId>, seed: u64) -> TenureConfig {
        TenureConfig {
            node,
            epoch,
            gateways,
            lease: LEASE,
            joins_per_second: JOINS_PER_SECOND,
            joins_burst: JOINS_BURST,
            resume_reserve_permille: RESUME_RESERVE_PERMILLE,
            cpu_new_rooms_permille: CPU_NEW_ROOMS_PERMILLE,
            cpu_joins_permille: CPU_JOINS_PERMILLE,
            seed,
        }
    }
}

/// What somebody wants who asks to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Joins a room, which is opened if need be.
    Join,
    /// The same, and the gateway knows no other node that could take it: a draining node serves to its end.
    JoinNowhereElse,
    /// Goes on in a room that it was in.
    Resume,
}

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// Every shard has run since the last one: beats may go out. Comes once a `BEAT_INTERVAL`, or later.
    Ticked {
        /// Load in thousandths of what the node can carry.
        load_permille: u16,
        /// CPU use in thousandths of all cores.
        cpu_permille: u16,
        /// Rooms on all shards.
        rooms: u32,
        /// Participants in them.
        participants: u32,
        /// Joins admitted since the start, modulo 2^32.
        joins_admitted: u32,
        /// Those of them whose media came up, modulo 2^32.
        joins_connected: u32,
    },
    /// An authentic, new echo.
    Echo {
        /// Whose.
        gateway: GatewayId,
        /// Of which start of it.
        epoch: Epoch,
        /// What it says.
        echo: Echo,
    },
    /// An authentic, new probe; answered at once by an [`Output::Probed`], unless there were too many of them.
    Probe {
        /// Whose.
        gateway: GatewayId,
        /// What it asks.
        probe: Probe,
    },
    /// Somebody wants in; answered at once by exactly one [`Output::Answer`].
    Ask {
        /// The caller's number for it.
        ask: u64,
        /// Which room.
        room: RoomName,
        /// Under which the gateway believes the room to live here.
        generation: Generation,
        /// What for.
        goal: Goal,
    },
    /// A shard holds a room now, or holds it under another generation or with other settings.
    Opened {
        /// Which.
        room: RoomName,
        /// Under which generation.
        generation: Generation,
        /// What it is set to.
        settings: Option<RoomSettings>,
    },
    /// A shard holds another ruling of somebody in a room, or none any more.
    Ruled {
        /// In which room.
        room: RoomName,
        /// Of whom.
        identity: Identity,
        /// The one that counts now.
        ruling: Option<Ruling>,
    },
    /// A shard holds a room no more.
    Closed {
        /// Which.
        room: RoomName,
        /// Under which generation it was held.
        generation: Generation,
    },
    /// A gateway's room stream begins: it is told the node's start, every room is named to it, then `Synced`, then what changes.
    Follow {
        /// The caller's number for it.
        follower: u64,
    },
    /// A room stream has ended.
    Unfollow {
        /// Which.
        follower: u64,
    },
    /// A gateway says where a room belongs.
    Steer(Steer),
    /// The process, or one of its shards, was not run for so long, up to now. Whoever has noticed sends nothing before the
    /// answer; all who notice the same pause may say so.
    Paused {
        /// How long.
        pause: Duration,
    },
    /// Everybody is to be moved away.
    Drain {
        /// Participants told a second; more when the deadline demands it.
        pace_per_second: u32,
        /// By when the node is to be empty, from now.
        deadline: Duration,
    },
    /// The drain is called off.
    Undrain,
    /// Time has passed.
    Wake,
}

/// What a node has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Seal and send this, under exactly this sequence number: a gateway's echo of it is known by that.
    Beat {
        /// To whom.
        gateway: GatewayId,
        /// The node's start that beats now.
        epoch: Epoch,
        /// Rises with every beat and every answer, over all gateways and epochs; the first is above 0.
        sequence: u64,
        /// What.
        beat: Beat,
    },
    /// Seal and send this, under exactly this sequence number, before the next beat.
    Probed {
        /// To whom.
        gateway: GatewayId,
        /// The node's start that beats now.
        epoch: Epoch,
        /// As of a beat.
        sequence: u64,
        /// What.
        probed: Probed,
    },
    /// The one answer to [`Input::Ask`].
    Answer {
        /// To which.
        ask: u64,
        /// What.
        answer: Admission,
    },
    /// Send this on a room stream.
    Frame {
        /// On which.
        follower: u64,
        /// What.
        frame: RoomFrame,
    },
    /// Shards may send until then, and nothing after. Before the first of these they may send without limit.
    Lease {
        /// The first instant at which nothing may be sent.
        until: Time,
    },
    /// What lives here as `room` under `generation`, or under a lower one, belongs elsewhere: its shard sends nothing more
    /// for it, tells its participants RECONNECT, and closes it.
    FenceRoom {
        /// Which.
        room: RoomName,
        /// Up to and with which generation.
        generation: Generation,
        /// Who holds it now; `None` when nobody is known.
        winner: Option<NodeId>,
    },
    /// Everything here belongs elsewhere: every shard sends nothing more, tells everybody RECONNECT, and forgets all rooms.
    /// The node goes on as another start of itself.
    FenceAll {
        /// Its new epoch.
        epoch: Epoch,
    },
    /// So many participants may be told RECONNECT now, room by room.
    MoveAway {
        /// How many, over all shards.
        count: u32,
    },
    /// The node drains, and nobody is left; said once a drain.
    Drained,
    /// The node serves again.
    Undrained,
    /// The drain's deadline has passed, and somebody is left; said once a drain.
    DrainLate,
}

/// Whether somebody may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Admit {
        /// Under which the shard holds, or opens, the room: the one that was asked for.
        generation: Generation,
    },
    /// No.
    Refuse(Refusal),
}

/// Why somebody may not come in now. Each is a 5xx (or 409) between our own programs, and never ends a session for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub why: Why,
    /// The highest generation that the node knows of the room; 0 when none. A placement here needs a higher one than that of
    /// a room that is not here any more.
    pub known: Generation,
    /// How long the client should wait if no other node takes it, jittered; `None` when to ask elsewhere at once is better.
    pub retry_after: Option<Duration>,
}

/// Reasons of a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The room has been placed anew, has ended, or was never here: the gateway's generation is out of date.
    Stale,
    /// The node takes no new rooms, or nobody new, until its load falls.
    Full,
    /// The node is being emptied.
    Draining,
    /// Too many come at once.
    Busy,
    /// No gateway hears the node, as far as it can tell: it must not serve.
    Fenced,
}

impl Why {
    /// A name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Stale => "stale",
            Why::Full => "full",
            Why::Draining => "draining",
            Why::Busy => "busy",
            Why::Fenced => "fenced",
        }
    }
}

//! The role's door: everything that goes in and everything that comes out. Values only; nothing here acts.

use std::{sync::Arc, time::Duration};

use outlast_control::{Change, GatewayFacts, NodeFacts, Placement, RegionHealth, Spread, View};
use outlast_directory::{CallId, Layout, Reply, Request, RoomKeyer};
use outlast_model::{
    Epoch, GatewayId, Generation, Identity, NodeId, RegionName, RoomName, RoomSettings, Ruling,
    SessionId,
};
use outlast_wire::{Beat, Echo, Outlook, Probe, Probed, RoomFrame, Steer};

use crate::Why;

/// What the configuration says.
#[derive(Clone, Debug)]
pub struct RoleConfig {
    /// This gateway.
    pub id: GatewayId,
    /// Where it is.
    pub region: RegionName,
    /// This gateway's start.
    pub epoch: Epoch,
    /// Every node of every region.
    pub nodes: Vec<NodeFacts>,
    /// Every other gateway of every region.
    pub gateways: Vec<GatewayFacts>,
    /// Whether name servers listen: they are told what this gateway sees, even if it is the only one.
    pub name_servers: bool,
    /// RECONNECTs a second. `None`: what the nodes that are left can take, within [`TELL_PER_SECOND`](crate::TELL_PER_SECOND).
    pub tell_per_second: Option<u32>,
    /// Which nodes a new room is offered to first.
    pub spread: Spread,
    /// `None` places by the view alone.
    pub directory: Option<DirectoryUse>,
    /// For jitter. Gateways have different ones.
    pub seed: u64,
}

/// How the directory is used.
#[derive(Clone, Debug)]
pub struct DirectoryUse {
    /// Makes rooms' keys.
    pub keyer: RoomKeyer,
    /// How it is divided.
    pub layout: Layout,
    /// All gateways share it, so that it settles who wins: rooms are placed in the nearest region by
    /// [`Role::rtt`](crate::Role::rtt) (which replaces [`RoleConfig::spread`]), on the least loaded of three nodes. The embedded
    /// directory of one process does not, and gateways place alike without talking.
    pub arbitrates: bool,
}

/// A proxied signalling connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its room.
    pub room: RoomName,
    /// Whose it is.
    pub client: Identity,
    /// The node behind it.
    pub node: NodeId,
    /// The placement under which it was admitted.
    pub generation: Generation,
}

/// One client's wish to come in, from the request to the node's answer. Chosen by the shell, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// Where to a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The room's home, or a new one.
    Join,
    /// The room's home only: its session is there.
    Resume,
}

/// Why a node has refused a client, for reasons that are not the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRefusal {
    /// It knows the room under this higher generation: another gateway has placed it anew.
    Stale(Generation),
    /// It has no room for more.
    Full,
    /// It is being emptied.
    Draining,
    /// Too many come at once.
    Busy,
    /// Anything else that is the node's trouble.
    Other,
}

/// Why nobody is asked for a client any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplaced {
    /// To be resumed: the room's home is unknown, down, or gives its rooms away. The client has to join anew.
    Gone,
    /// No node takes the room within the time that a client waits.
    NoNode,
    /// Too many ask at once, or this gateway is about to stop.
    Shed,
}

/// What happens to a gateway.
#[derive(Clone, Debug)]
pub enum Input {
    /// An authentic, new beat of a node.
    Beat {
        /// Whose.
        node: NodeId,
        /// Of which start.
        epoch: Epoch,
        /// Its sequence number.
        sequence: u64,
        /// What it says.
        beat: Beat,
    },
    /// An authentic, new outlook of another gateway.
    Outlook {
        /// Whose.
        gateway: GatewayId,
        /// Of which start.
        epoch: Epoch,
        /// What it sees.
        outlook: Outlook,
    },
    /// Something on a node's room stream.
    Stream {
        /// Whose.
        node: NodeId,
        /// What.
        event: StreamEvent,
    },
    /// A client wants in. Answered by [`Output::Go`], perhaps several times, or once by [`Output::Unplaced`].
    Ask {
        /// Which wish.
        ask: AskId,
        /// The room.
        room: RoomName,
        /// Who.
        client: Identity,
        /// Where to.
        goal: Goal,
        /// The region that the client is near, where that is known: a room that has no home yet is to be there. Otherwise this
        /// gateway's own.
        near: Option<RegionName>,
    },
    /// The node that [`Output::Go`] named last has refused.
    Refused {
        /// Which wish.
        ask: AskId,
        /// Why.
        why: NodeRefusal,
    },
    /// The node that [`Output::Go`] named last could not be reached.
    Unreached {
        /// Which wish.
        ask: AskId,
        /// Its machine refused the connection: the process is not there.
        connection_refused: bool,
    },
    /// Nobody waits any more: the client is gone, or a node has refused it for good.
    Withdrawn {
        /// Which wish.
        ask: AskId,
    },
    /// A node has admitted a client; frames flow.
    Opened {
        /// The shell's number for it.
        session: SessionId,
        /// The wish that it came from.
        ask: AskId,
        /// Where it is.
        at: Session,
    },
    /// The node's SDP answer to the client's join has passed to the client: media is to come up now.
    Answered {
        /// Which session.
        session: SessionId,
    },
    /// The node says that the client's media is up.
    Reached {
        /// Which session.
        session: SessionId,
    },
    /// The connection to the node broke without a word; the client is still there.
    LinkLost {
        /// Which session.
        session: SessionId,
    },
    /// A session is over, however.
    Closed {
        /// Which session.
        session: SessionId,
    },
    /// A node's machine refused a connection of this gateway's own.
    ConnectionRefused {
        /// Whose.
        node: NodeId,
    },
    /// The directory's answer to [`Output::Directory`].
    Directory {
        /// To which call.
        call: CallId,
        /// What it says.
        reply: Reply,
    },
    /// An authentic, new answer to [`Output::Probe`].
    Probed {
        /// Whose.
        node: NodeId,
        /// What it says.
        probed: Probed,
    },
    /// Somebody has deleted the room: its next life starts without its settings and rulings.
    Deleted {
        /// Which room.
        room: RoomName,
    },
    /// Time has passed.
    Wake,
    /// This gateway is to stop: everybody is told, paced.
    Drain,
}

/// What a room stream does.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// It begins; the node will name every room.
    Connected,
    /// A frame.
    Frame(RoomFrame),
    /// It was reset, or ended by the node.
    Lost,
    /// This side has given it up since nothing came on it; whether the node lives, beats know better.
    Stale,
}

/// What a gateway wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Seal and send this to the node.
    Echo {
        /// To whom.
        node: NodeId,
        /// What.
        echo: Echo,
    },
    /// Seal and send this to another gateway.
    Outlook {
        /// To whom.
        gateway: GatewayId,
        /// What.
        outlook: Outlook,
    },
    /// Seal and send this to every name server.
    Bulletin {
        /// What.
        outlook: Outlook,
    },
    /// Ask this node to take the client; an attempt before, if it still runs, is given up.
    Go {
        /// For which wish.
        ask: AskId,
        /// Where to, under which generation.
        placement: Placement,
        /// The node drains and may take the client all the same: nobody else can.
        nowhere_else: bool,
        /// What the room is set to, when the node has to be told first: a new home, or one that has said nothing of it.
        settings: Option<Arc<RoomSettings>>,
        /// What the server API has last said of the client's permission; for a join.
        ruling: Option<Ruling>,
    },
    /// Nobody is asked any more.
    Unplaced {
        /// Which wish has ended.
        ask: AskId,
        /// Why.
        why: Unplaced,
        /// When the client may try again, jittered.
        retry_after: Duration,
    },
    /// Send the client `leave{RECONNECT}` and close; only close when [`Why::resumes`].
    Tell {
        /// Whom.
        session: SessionId,
        /// Why.
        why: Why,
    },
    /// Say on the node's room stream that a room of its is elsewhere.
    Steer {
        /// To whom.
        node: NodeId,
        /// What.
        steer: Steer,
    },
    /// Ask the directory.
    Directory {
        /// The call to answer to.
        call: CallId,
        /// What.
        request: Request,
    },
    /// Seal and send this to the node: the directory does not say where the room is.
    Probe {
        /// To whom.
        node: NodeId,
        /// What.
        probe: Probe,
    },
    /// A change of mind about a node, for the log.
    Verdict {
        /// About whom.
        node: NodeId,
        /// What.
        change: Change,
    },
    /// A node whose clients get no media is out, or may come back.
    Ejection {
        /// Which.
        node: NodeId,
        /// Whether it is out now.
        ejected: bool,
    },
    /// A change of mind about a region, for the log and for whoever answers for the service's name.
    RegionVerdict {
        /// Which.
        region: RegionName,
        /// What is believed now.
        health: RegionHealth,
    },
    /// After [`Input::Drain`]: no session is left, and nobody waits for one. Said once.
    Drained,
}

/// Where a room is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// Nobody has named it.
    Unknown,
    /// Its home is down; its clients are about to move it.
    Down,
    /// At its home.
    At(Placement),
}

/// Counts for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Nodes that live, are suspect, are down.
    pub nodes: [usize; 3],
    /// Nodes that are ejected.
    pub ejected: usize,
    /// Regions that are up, doubted, down.
    pub regions: [usize; 3],
    /// Other gateways heard.
    pub gateways: usize,
    /// Rooms known.
    pub rooms: usize,
    /// Rooms of which is known only where they were before this gateway was started.
    pub hints: usize,
    /// Sessions proxied.
    pub sessions: usize,
    /// Clients that wait for a place.
    pub asks: usize,
    /// Sessions told so far, by [`Why::index`].
    pub told: [u64; Why::ALL.len()],
    /// Rooms that this gateway was to move and moved, so far.
    pub moves: u64,
    /// Plans that were not carried out because of a flaw, so far.
    pub flaws: u64,
    /// Claims that were made without the directory, so far.
    pub provisional: u64,
    /// Rooms that the directory did not tell of, and a node did.
    pub probes_found: u64,
    /// Partitions of the directory that count as away.
    pub directory_away: usize,
    /// Each partition of the directory, in order.
    pub directory_parts: Vec<PartFacts>,
    /// How long a join waits for the directory at most now: the longest of all partitions.
    pub directory_deadline: Duration,
}

/// One partition of the directory, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartFacts {
    /// It counts as away.
    pub away: bool,
    /// How long ago its changes were last heard of; since the start if never.
    pub view_age: Duration,
    /// Requests that were not sent, so far: it counted as away; too many were under way.
    pub shed: [u64; 2],
}

/// The nodes of a view, counted by health.
pub(crate) fn count_nodes(view: &View) -> ([usize; 3], usize) {
    let mut counts = [0; 3];
    let mut ejected = 0;
    for node in view.nodes() {
        counts[node.health as usize] += 1;
        ejected += usize::from(node.ejected);
    }
    (counts, ejected)
}

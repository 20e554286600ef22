//! What a directory is asked and what it answers. Values only; what they do is defined by [`Table`](crate::Table).

use std::{fmt, time::Duration};

use outlast_model::{Epoch, Generation, NodeId, RegionName};

use crate::{
    NAME_BYTES_MAX, Record, RoomKey, SUMMARY_NODES_MAX, SUMMARY_TTL_MAX, record::check_generation,
};

/// One request. Each is about one room at most, and is applied whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Replaces what is known of a region's nodes, for so long. Nothing is decided by it.
    Heartbeat {
        /// The region and its nodes.
        summary: Summary,
        /// From arrival on; more than zero, at most [`SUMMARY_TTL_MAX`](crate::SUMMARY_TTL_MAX).
        ttl: Duration,
    },
    /// Claims a room that nobody holds.
    Place {
        /// Which room.
        room: RoomKey,
        /// What shall be held.
        want: Record,
    },
    /// Claims a room from whoever holds it under `expected`.
    Replace {
        /// Which room.
        room: RoomKey,
        /// The generation that is to be superseded.
        expected: Generation,
        /// What shall be held; of a higher generation than `expected`.
        want: Record,
    },
    /// The life of a room under `generation`, and every older one, is over.
    End {
        /// Which room.
        room: RoomKey,
        /// The last generation that it had, as far as the asker knows.
        generation: Generation,
    },
    /// Who holds a room.
    Lookup {
        /// Which room.
        room: RoomKey,
    },
    /// What is known of the regions' nodes.
    Summaries,
    /// Which content this is; tells a wiped directory from the one before.
    Instance,
    /// What changed after a revision.
    Watch {
        /// What the asker has seen; [`Revision::START`] for nothing.
        after: Revision,
    },
}

impl Request {
    /// What is asked for, in a word for metrics.
    pub fn operation(&self) -> &'static str {
        match self {
            Request::Heartbeat { .. } => "heartbeat",
            Request::Place { .. } => "place",
            Request::Replace { .. } => "replace",
            Request::End { .. } => "end",
            Request::Lookup { .. } => "lookup",
            Request::Summaries => "summaries",
            Request::Instance => "instance",
            Request::Watch { .. } => "watch",
        }
    }

    /// Whether an engine takes it at all, before anything is known of its room. Every engine asks this first.
    ///
    /// # Errors
    /// Why not, for [`Failure::Bad`].
    pub fn check(&self) -> Result<(), String> {
        let malformed = |field: &str| format!("malformed {field}");
        match self {
            Request::Heartbeat { summary, ttl } => {
                let named = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
                if !named(summary.region.as_str()) {
                    return Err(malformed("region"));
                }
                if !summary.nodes.iter().all(|node| named(node.node.as_str())) {
                    return Err(malformed("node"));
                }
                if summary.nodes.len() > SUMMARY_NODES_MAX {
                    return Err("one node too many".to_owned());
                }
                if ttl.is_zero() || *ttl > SUMMARY_TTL_MAX {
                    return Err(malformed("time to live"));
                }
                Ok(())
            }
            Request::Replace { expected, want, .. } if want.generation <= *expected => {
                Err("generation not above the expected one".to_owned())
            }
            Request::Place { want, .. } | Request::Replace { want, .. } => {
                want.check().map_err(malformed)
            }
            Request::End { generation, .. } => check_generation(*generation).map_err(malformed),
            Request::Lookup { .. }
            | Request::Summaries
            | Request::Instance
            | Request::Watch { .. } => Ok(()),
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a heartbeat and an end.
    Done,
    /// To a place and a replace.
    Placed(Placed),
    /// To a lookup.
    Found(Option<Record>),
    /// To the question for summaries: those that have not run out, by region.
    Summaries(Vec<Summary>),
    /// To the question for the instance.
    Instance(InstanceId),
    /// To a watch.
    Changes(Changes),
    /// To anything.
    Failed(Failure),
}

impl Reply {
    /// What came of a request, in a word for metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Reply::Placed(Placed::Held(_)) => "held",
            Reply::Failed(Failure::Unavailable) => "unavailable",
            Reply::Failed(Failure::Unknown) => "unknown",
            Reply::Failed(Failure::Fenced(_)) => "fenced",
            Reply::Failed(Failure::Bad(_)) => "bad",
            _ => "ok",
        }
    }
}

/// What came of a claim. Either way the record is the one that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The placement of the asker's id: by this request, or by an earlier one with the same id, whose record it is
    /// then.
    Won(Record),
    /// Somebody else's; the request changed nothing.
    Held(Record),
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The engine was not reached. The request was surely not applied, and never will be.
    Unavailable,
    /// The request was perhaps applied, or will be. Asking again tells: every request may be asked twice.
    Unknown,
    /// The room is not held and has ended under this generation: a claim must have a higher one. Surely not applied.
    Fenced(Generation),
    /// The request is not one that an engine takes, or there is no space for it. Surely not applied; asking again does
    /// not help. The text is for logs.
    Bad(String),
}

/// What a region's gateways see of their nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The region, 1 to [`NAME_BYTES_MAX`](crate::NAME_BYTES_MAX) bytes.
    pub region: RegionName,
    /// Its nodes, at most [`SUMMARY_NODES_MAX`](crate::SUMMARY_NODES_MAX).
    pub nodes: Vec<NodeSummary>,
}

/// One node in a summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSummary {
    /// Its name, 1 to [`NAME_BYTES_MAX`](crate::NAME_BYTES_MAX) bytes.
    pub node: NodeId,
    /// Its start.
    pub epoch: Epoch,
    /// It takes no new rooms and moves the ones it has.
    pub draining: bool,
    /// Load in thousandths of what it can carry.
    pub load_permille: u16,
    /// Rooms open on it.
    pub rooms: u32,
}

/// Random bits written once when a directory's content begins. Another id is another content: everything of the one
/// before is lost, and nodes announce their rooms again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u128);

impl fmt::Display for InstanceId {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How far a watcher has come. Only the engine that made it reads it; a watcher keeps it and gives it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The content it counts in.
    pub instance: InstanceId,
    /// The change that was seen last.
    pub number: u64,
    /// Whatever else the engine needs to go on.
    pub mark: u128,
}

impl Revision {
    /// Before everything: the watcher knows nothing.
    pub const START: Revision = Revision { instance: InstanceId(0), number: 0, mark: 0 };
}

/// What a watch saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// In the order in which it was applied to each room, at most
    /// [`EVENTS_PER_REPLY_MAX`](crate::EVENTS_PER_REPLY_MAX). None: the watcher has come to the end for now.
    pub events: Vec<Event>,
    /// What to ask after next.
    pub revision: Revision,
    /// What the watcher had before is void: it starts from nothing, with these events, and goes on as ever.
    pub resync: bool,
    /// The content that was watched.
    pub instance: InstanceId,
}

/// What a room is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody holds it.
    Held {
        /// Which room.
        room: RoomKey,
        /// By whom.
        record: Record,
    },
    /// Nobody holds it.
    Ended {
        /// Which room.
        room: RoomKey,
        /// The highest generation that it had.
        generation: Generation,
    },
}

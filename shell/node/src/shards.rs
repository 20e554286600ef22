//! The way to the shards from everywhere else in the process: bounded queues, a bell each, and what they all share.

use std::sync::{
    atomic::{AtomicBool, AtomicU64, Ordering},
    mpsc::SyncSender,
};

use outlast_model::{Epoch, RoomName, SessionId};
use outlast_node_core::{ApiError, ApiRequest, Command, Join, shard_of};
use outlast_runtime::Wake;
use tokio::sync::{mpsc, oneshot};

use crate::{
    metrics::NodeMetrics,
    rooms::RoomTable,
    ticks::{RollCall, Ticks},
};

/// Inputs that may wait for one shard; more means that it hangs or is overrun.
pub(crate) const INPUTS_MAX: usize = 4_096;
/// Frames that may wait for one client; a client that reads so slowly is better off joining anew.
pub(crate) const SESSION_EVENTS_MAX: usize = 512;

/// What a shard's thread is given.
pub(crate) enum Input {
    /// A client wants in; all that concerns its session goes to `events`.
    Join { join: Box<Join>, events: mpsc::Sender<SessionEvent> },
    /// A server API request.
    Api { request: Box<ApiRequest>, answer: oneshot::Sender<Result<Vec<u8>, ApiError>> },
    /// Anything that has no answer of its own.
    Command(Command),
    /// The thread ends.
    Stop,
}

/// What a session's socket hears from its shard. A channel that ends without `Close` means that the shard is lost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionEvent {
    Admitted,
    Refused { status: u16, text: String },
    Frame(Vec<u8>),
    Close,
}

/// The shard's queue is full, or its thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard is overloaded")]
pub(crate) struct Busy;

/// One shard's door.
pub(crate) struct ShardDoor {
    pub(crate) inputs: SyncSender<Input>,
    pub(crate) wake: Wake,
}

/// All shards of the node.
pub(crate) struct Shards {
    doors: Box<[ShardDoor]>,
    next_session: AtomicU64,
}

impl Shards {
    pub(crate) fn new(doors: Vec<ShardDoor>) -> Shards {
        Shards { doors: doors.into(), next_session: AtomicU64::new(1) }
    }

    pub(crate) fn len(&self) -> usize {
        self.doors.len()
    }

    /// The shard that holds, or would hold, this room.
    pub(crate) fn of(&self, room: &RoomName) -> usize {
        shard_of(room, self.doors.len())
    }

    /// A name for a new signalling connection.
    pub(crate) fn new_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// Hands `input` to a shard and wakes it; never waits.
    pub(crate) fn send(&self, shard: usize, input: Input) -> Result<(), Busy> {
        let door = self.doors.get(shard).ok_or(Busy)?;
        door.inputs.try_send(input).map_err(|_| Busy)?;
        door.wake.ring();
        Ok(())
    }

    /// Wakes all shards, for what does not go through their queues.
    pub(crate) fn ring(&self) {
        self.doors.iter().for_each(|door| door.wake.ring());
    }
}

/// What the shards' threads and the rest of the process both look at.
#[derive(Debug)]
pub(crate) struct Shared {
    epoch: AtomicU64,
    pub(crate) draining: AtomicBool,
    pub(crate) roll_call: RollCall,
    pub(crate) drained: Ticks,
    pub(crate) rooms: RoomTable,
    pub(crate) metrics: NodeMetrics,
}

impl Shared {
    pub(crate) fn new(shards: usize, epoch: Epoch, metrics: NodeMetrics) -> Shared {
        Shared {
            epoch: AtomicU64::new(epoch.0),
            draining: AtomicBool::new(false),
            roll_call: RollCall::new(shards),
            drained: Ticks::new(shards),
            rooms: RoomTable::new(),
            metrics,
        }
    }

    /// The node's epoch: a shard that knows an older one is fenced.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Ends `old` for the whole node: its beats failed together, so its rooms are moved together. Shards that noticed
    /// the same pause agree on one new epoch.
    pub(crate) fn supersede(&self, old: Epoch) -> Epoch {
        let next = Epoch(old.0 + 1);
        match self.epoch.compare_exchange(old.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => next,
            Err(already) => Epoch(already),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pause_is_one_new_epoch() {
        let shared = Shared::new(2, Epoch(7), NodeMetrics::default());
        assert_eq!(shared.supersede(Epoch(7)), Epoch(8));
        assert_eq!(shared.supersede(Epoch(7)), Epoch(8));
        assert_eq!(shared.epoch(), Epoch(8));
        assert_eq!(shared.supersede(Epoch(8)), Epoch(9));
    }
}

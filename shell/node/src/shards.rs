//! The way to the shards from everywhere else in the process: bounded queues, a bell each, and what they all share.

use std::sync::{
    atomic::{AtomicU64, Ordering},
    mpsc::SyncSender,
};

use outlast_model::{Epoch, RoomName, SessionId, Time};
use outlast_node_core::{ApiError, ApiRequest, Command, Join, shard_of};
use outlast_runtime::Wake;
use tokio::sync::{mpsc, oneshot};

use crate::{metrics::NodeMetrics, orders::Orders, refusal::Refusal, ticks::RollCall};

/// Inputs that may wait for one shard; more means that it hangs or is overrun.
pub(crate) const INPUTS_MAX: usize = 4_096;
/// Frames that may wait for one client; a client that reads so slowly is better off joining anew.
pub(crate) const SESSION_EVENTS_MAX: usize = 512;

/// What a shard's thread is given.
#[derive(Debug)]
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
    Refused(Refusal),
    Frame(Vec<u8>),
    Close,
}

/// The shard's queue is full, or its thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard is overloaded")]
pub(crate) struct Busy;

/// One shard's door.
#[derive(Debug)]
pub(crate) struct ShardDoor {
    pub(crate) inputs: SyncSender<Input>,
    pub(crate) wake: Wake,
}

/// All shards of the node.
#[derive(Debug)]
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

    /// Wakes one shard, for what does not go through its queue.
    pub(crate) fn ring_one(&self, shard: usize) {
        if let Some(door) = self.doors.get(shard) {
            door.wake.ring();
        }
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
    /// The first instant at which nothing may be sent, in nanoseconds of the process's clock.
    lease: AtomicU64,
    pub(crate) orders: Orders,
    pub(crate) roll_call: RollCall,
    pub(crate) metrics: NodeMetrics,
}

impl Shared {
    pub(crate) fn new(shards: usize, epoch: Epoch, metrics: NodeMetrics) -> Shared {
        Shared {
            epoch: AtomicU64::new(epoch.0),
            lease: AtomicU64::new(u64::MAX),
            orders: Orders::new(shards),
            roll_call: RollCall::new(shards),
            metrics,
        }
    }

    /// The node's epoch: a shard that knows an older one is fenced.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// The node goes on as `epoch`: shards give up what they hold under another one.
    pub(crate) fn begin(&self, epoch: Epoch) {
        self.epoch.store(epoch.0, Ordering::Release);
    }

    /// Nothing is to be sent at `until` or later; `None` sets no limit.
    pub(crate) fn send_until(&self, until: Option<Time>) {
        self.lease.store(until.map_or(u64::MAX, Time::as_nanos), Ordering::Release);
    }

    /// Whether anything may be sent now.
    pub(crate) fn may_send(&self, now: Time) -> bool {
        now.as_nanos() < self.lease.load(Ordering::Acquire)
    }
}

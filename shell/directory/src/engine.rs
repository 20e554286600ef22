//! What every engine is to a gateway.

use std::{num::NonZeroU16, time::Duration};

use futures_util::future::BoxFuture;
use outlast_directory::{Partition, Reply, Request};

/// Longest time until an engine answers, if only that it does not know. Whoever asks has long gone on without it; the
/// answer still tells what came of a claim.
pub const REPLY_MAX: Duration = Duration::from_secs(2);

/// An answer on its way. Nothing but waiting happens in it: dropping it changes nothing about the request, which may or may
/// not be applied then.
pub type Answer = BoxFuture<'static, Reply>;

/// How a partition is, as far as its connections tell. Nobody's health depends on it; for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartState {
    /// What keeps it: `embedded`, `etcd`, `redis`, `sentinel` or `cluster`.
    pub engine: &'static str,
    /// Whoever decides claims now, `host:port`; `None` while nobody is known who does.
    pub decides: Option<String>,
    /// Changes of `decides` since the start.
    pub changes: u64,
    /// How far the replica that is furthest behind lags, where the engine tells.
    pub lag: Option<Duration>,
    /// How many entries of the log the member lacks that is furthest behind of those that answer, where the engine tells.
    pub behind_entries: Option<u64>,
    /// Rooms that are held, where that is known without asking.
    pub rooms: Option<usize>,
    /// The last trouble, in words without secrets.
    pub trouble: Option<String>,
}

/// A directory somewhere, as one process sees it.
///
/// A directory has one partition or more. Each is a directory of its own: it answers as an `outlast_directory::Table` that has
/// only its own rooms, has its own instance and its own revisions, and may be away while the others are not. A room is always
/// asked for at the same partition; which one it is, is the asker's choice.
///
/// **Connections** are made, watched and made again by tasks of the engine's own, never by a caller. Without one a request is
/// answered [`Unavailable`](outlast_directory::Failure::Unavailable) at once. A connection is alive by what is received on it,
/// not by what is sent.
///
/// **Answers** come within [`REPLY_MAX`]. A request that may have reached a server and has no answer by then is answered
/// [`Unknown`](outlast_directory::Failure::Unknown), never `Unavailable`.
///
/// **Twice.** An engine may send a claim to a second server when the first one is silent. Told that the room is held or ended under a
/// higher generation than it wanted, whoever claimed may have had it before and been superseded; where the room is now, the
/// answer says either way.
///
/// **Instance.** It differs from the last one not only when the content was lost but whenever some of it may have been: when a
/// replica that may lack acknowledged writes has become the one that decides.
pub trait Engine: Send + Sync {
    /// How many partitions there are; the same for the whole life of a directory.
    fn partitions(&self) -> NonZeroU16;

    /// Sends a request. It is on its way when this returns, whether or not the answer is waited for. Must be called within a
    /// tokio runtime.
    fn ask(&self, at: Partition, request: Request) -> Answer;

    /// How a partition is now. No I/O.
    fn state(&self, at: Partition) -> PartState;
}

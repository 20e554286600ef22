//! The directory: who holds which room. It arbitrates and is never the truth: nodes are, and all of it may be lost at
//! any time. `Table` defines what every engine does; `Caller` stands at a gateway in front of whichever engine there
//! is.

mod breaker;
mod budget;
mod caller;
mod key;
mod layout;
mod record;
mod request;
mod summary;
mod table;

pub use breaker::{FAILURES_MAX, PROBE_INTERVAL, PROBE_JITTER_MAX, PROBES_GOOD, SUCCESS_WITHIN};
pub use budget::{DEADLINE_MAX, DEADLINE_MIN};
pub use caller::{
    CALLS_MAX, CallId, Caller, CallerOutput, INSTANCE_INTERVAL, RESOLVE_PAUSE, RESOLVING_MAX, Shed,
    UNRESOLVED_KEPT, UNRESOLVED_MAX,
};
pub use key::{RoomKey, RoomKeyer};
pub use layout::{Layout, Partition};
pub use record::{NAME_BYTES_MAX, PlacementId, RECORD_BYTES_MAX, Record, RecordError};
pub use request::{
    Changes, Event, Failure, InstanceId, NodeSummary, Placed, Reply, Request, Revision, Summary,
};
pub use summary::{SUMMARY_BYTES_MAX, SummaryError};
pub use table::{
    EVENTS_PER_REPLY_MAX, ROOMS_MAX, SUMMARIES_MAX, SUMMARY_NODES_MAX, SUMMARY_TTL_MAX,
    TOMBSTONE_KEPT, TOMBSTONES_MAX, Table,
};

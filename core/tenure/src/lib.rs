//! What a node may hold. One machine, [`Tenure`], knows the node's lease, every room with its generation, who may come in,
//! and how the node is emptied; it says what shards have to stop. Media, sockets and signalling are elsewhere.

mod admission;
mod beats;
mod door;
mod drain;
mod ended;
mod lease;
mod rooms;
mod tenure;

pub use admission::{
    CPU_JOINS_PERMILLE, CPU_NEW_ROOMS_PERMILLE, FULL_CLEARS_PERMILLE, JOINS_BURST,
    JOINS_PER_SECOND, RESUME_RESERVE_PERMILLE, RETRY_SPREAD,
};
pub use beats::HEARD_SPAN;
pub use door::{Admission, Goal, Input, Output, Refusal, TenureConfig, Why};
pub use drain::{DRAIN_STEP, DRAIN_TELL_PERCENT};
pub use ended::{TOMBSTONE_KEPT, TOMBSTONES_MAX};
pub use lease::LEASE;
pub use rooms::{PROMISE_KEPT, ROOMS_MAX};
pub use tenure::{FOLLOWERS_MAX, Tenure};

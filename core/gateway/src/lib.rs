//! The gateway role: who goes where, and who is told. One machine per gateway process, fed with beats, room streams and
//! the sessions that the shell proxies; it never sees a socket.

mod door;
mod role;

// By whom it hears of: nodes and gateways, clients, the directory, itself before its start.
mod asks;
mod breaks;
mod claims;
mod hints;
mod nodes;
mod sessions;
mod split;
mod tell;

pub use asks::{ASKS_MAX, JOINS_MAX, REACH_MAX};
pub use door::{
    AskId, DirectoryUse, Facts, Goal, Input, Located, NodeRefusal, Output, PartFacts, RoleConfig,
    Session, StreamEvent, Unplaced,
};
pub use hints::{HINTS_KEPT, HINTS_MAX, Remembered, SNAPSHOT_AGE_MAX};
pub use outlast_control::{
    Change, GatewayFacts, Health, NodeFacts, NodeView, Placement, RegionHealth, Spread, View,
};
pub use role::{Gone, Role, SETTLE_MAX};
pub use tell::{TELL_PER_SECOND, Why};

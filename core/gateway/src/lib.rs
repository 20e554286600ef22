//! The gateway role: who goes where, and who is told. One machine per gateway process, fed with beats, room streams and
//! the sessions that the shell proxies; it never sees a socket.

mod breaks;
mod role;
mod tell;

pub use outlast_control::{Change, Health, NodeFacts, NodeView, PlaceError, Placement, View};
pub use role::{
    Facts, Gone, Input, Located, Output, Role, RoleConfig, SETTLE_MAX, Session, StreamEvent,
};
pub use tell::Why;

//! The words every floor shares. No logic beyond what a word needs to be itself, no dependencies.

mod ids;
mod limits;
mod time;

pub use ids::{
    Epoch, Generation, Identity, NodeId, ParticipantSid, RegionName, RoomName, RoomSid, SessionId,
    TrackSid,
};
pub use limits::*;
pub use time::Time;

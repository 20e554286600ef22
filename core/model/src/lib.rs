//! The words every floor shares. No logic beyond what a word needs to be itself (a ruling: which of several counts), no
//! dependencies.

mod ids;
mod jitter;
mod limits;
mod ruling;
mod settings;
mod stays;
mod time;

pub use ids::{
    Epoch, GatewayId, Generation, Identity, NodeId, ParticipantSid, RegionName, RoomName, RoomSid,
    SessionId, TrackSid,
};
pub use jitter::Jitter;
pub use limits::*;
pub use ruling::{NotAVersion, RULING_BYTES_MAX, RULINGS_MAX, Ruling, RulingVersion, Rulings};
pub use settings::RoomSettings;
pub use stays::{AWAY_KEPT, Stays};
pub use time::Time;

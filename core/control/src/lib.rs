//! Decisions about the fleet: health, view, placement. Pure: the same view gives the same decision at every gateway.

mod ended;
mod health;
mod place;
mod view;

pub use ended::ENDED_KEPT;
pub use health::{
    Change, DOWN_AFTER, Health, SUSPECT_AFTER, UNLINKED_DOWN_AFTER, UNREACHABLE_DOWN_AFTER, Watch,
};
pub use place::{PlaceError, Placement, place, rank};
pub use view::{Home, NodeFacts, NodeView, ROOMS_PER_NODE_MAX, View};

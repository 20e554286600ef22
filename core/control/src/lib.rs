//! Decisions about the fleet: health, view, placement, failover. Pure: the same view gives the same decision at every
//! gateway.

mod calm;
mod health;
mod outlooks;
mod regions;
mod shrink;

mod outcomes;

mod ended;
mod homes;
mod kept;
mod node;
mod view;

mod check;
mod failover;
mod place;

pub use calm::{CALM_MAX, CALM_MIN};
pub use check::{Flaw, check};
pub use ended::ENDED_KEPT;
pub use failover::{MOVES_PER_TICK_MAX, Move, Plan, plan};
pub use health::{
    Change, DOWN_AFTER, ECHO_AGE_MAX, Health, Link, SUSPECT_AFTER, UNLINKED_DOWN_AFTER,
    UNREACHABLE_DOWN_AFTER, Watch,
};
pub use homes::{Home, PLANNED_KEPT, PLANNED_MAX};
pub use kept::{CLOSED_KEPT, KEPT_BYTES_MAX, KEPT_ROOMS_MAX};
pub use node::{GRANT_PERMILLE, JOINS_PER_SECOND_UNSAID, NodeFacts, NodeView};
pub use outcomes::{Ejection, OUTCOMES_KEPT, OUTCOMES_SPAN, Outcomes, REACH_MAX, WAITING_MAX};
pub use outlooks::{GATEWAYS_MAX, GatewayFacts, OUTLOOK_FRESH, Outlooks, Seen};
pub use place::{PlaceError, Placement, Policy, Spread, place, rank};
pub use regions::{FLAP_SPAN, REGIONS_MAX, RegionChange, RegionHealth, Regions};
pub use shrink::{DOUBT_MAX, SHRINK_SPAN, Shrink};
pub use view::{NODES_MAX, ROOMS_PER_NODE_MAX, View};

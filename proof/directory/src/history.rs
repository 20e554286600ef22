//! Histories: what many askers asked at once and what they were told, and whether one table could have answered so.

mod check;
mod room;
mod search;
mod told;

pub use check::{Anomaly, Consistency, Findings, Kind, LostWrite, check};
pub use search::SEARCH_CONFIGURATIONS_MAX;

use outlast_directory::{Reply, Request};
use outlast_model::Time;

/// One request with its answer. All times are of one clock.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: u32,
    /// When it was about to be sent.
    pub start: Time,
    /// When the answer was there.
    pub end: Time,
    /// What was asked.
    pub request: Request,
    /// What was told. `Unknown` may take effect at any time after `start`, or never; `Unavailable` never does.
    pub reply: Reply,
}

/// What happened in one directory, in any order.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Places, replaces, ends and lookups; others are passed over.
    pub operations: Vec<Operation>,
    /// When the whole content was taken away on purpose: at one moment within each of these.
    pub wipes: Vec<(Time, Time)>,
    /// The engine sends a claim to a second server when the first is silent: one that was superseded may have taken effect before.
    pub asks_twice: bool,
}

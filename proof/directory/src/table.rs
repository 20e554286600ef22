//! The fault table: what joins of clients, the gateways and the database show while the database, its network or a gateway is
//! broken, on real programs in the laboratory's three regions. Joins are signalling only: no media flows.

mod cell;
mod client;
mod drill;
mod figures;
mod fleet;
mod harm;
mod joins;
mod ledger;
mod report;
mod rooms;
mod scrape;
mod verdict;
mod watch;

pub use cell::{Cell, Rows, cells};
pub use drill::Drill;
pub use figures::{Phases, RoomKind, Sample, Spread, longest_gap, memory_growth};
pub use harm::Harm;
pub use report::RunReport;
pub use verdict::{Engine, Targets, verdict};

//! Proves that every engine of the directory means what `outlast_directory::Table` means: seeded traces with equal answers
//! (`conform`), histories of many askers at once, with faults, that the table could have answered (`history`), and what
//! clients of the whole program notice of such faults (`table`). Weighs what each costs (`weight`).

mod chance;
mod conform;
mod connect;
mod faults;
mod history;
mod home;
mod load;
mod run;
pub mod servers;
pub mod table;
mod weight;
mod words;

pub use chance::Chance;
pub use conform::*;
pub use connect::connect;
pub use faults::{Fault, FaultKind, Happened, inflict};
pub use history::*;
pub use run::{LOSSES_MAX, Outcome, Run};
pub use weight::{Report, Weight};

//! Proves that every engine of the directory means what `outlast_directory::Table` means: seeded traces with equal answers
//! (`conform`), and histories of many askers at once, with faults, that the table could have answered (`history`).

mod chance;
mod conform;
mod history;
pub mod servers;
mod words;

pub use chance::Chance;
pub use conform::*;
pub use history::*;

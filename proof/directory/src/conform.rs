//! Conformance: seeded traces of requests, each sent to an engine and to the table that defines it, answers compared.

mod follower;
mod ground;
mod pages;
mod play;
mod shrink;
mod summaries;
mod sweep;
mod trace;

pub use ground::{Ground, Grounds, LANES_MAX};
pub use pages::long_lists_come_whole;
pub use play::{ANSWER_DEADLINE, Difference, Reads, Tally, play};
pub use shrink::{SHRINK_RUNS_MAX, shrink};
pub use summaries::summaries_run_out;
pub use sweep::Sweep;
pub use trace::{Act, Restart, Step, Trace};

//! The project's network laboratory: hosts in network namespaces, gathered in sites, and between them a wide-area network
//! that delays, loses, bursts, duplicates, reorders, limits and cuts as it is told, from a seed.
//!
//! ```no_run
//! use outlast_lab::{Lab, Plan, Shape};
//! # fn main() -> Result<(), outlast_lab::LabError> {
//! let lab = Lab::up(&Plan::three_regions())?; // eu, us, ap; RTT 80, 150, 220 ms
//! let mut server = lab.command("eu.db", "redis-server")?;
//! let _server = server.arg("--save").arg("").spawn();
//! lab.cut_one_way("eu", "us")?; // eu no longer reaches us
//! lab.black_hole("ap")?; // nobody reaches ap, and nobody is told
//! lab.shape("near-eu", "eu", Shape { loss: 0.05, ..Shape::one_way_ms(5.0) })?;
//! assert!(lab.counters("eu", "us")?.cut > 0, "the fault bit");
//! lab.heal_all();
//! # Ok(()) }
//! ```
//!
//! What is decided (which packet is lost, and when one arrives) is in `fate`, `pipe`, `faults` and `wan`, which read no
//! clock. The rest carries it out.

mod atlas;
mod counters;
mod error;
mod fate;
mod faults;
mod pipe;
mod plan;
mod shape;
mod wan;

mod alone;
mod berth;
mod control;
mod emulator;
mod lab;
mod namespace;
mod rights;

pub use alone::{alone, inside};
pub use berth::{labs, sweep};
pub use control::{Order, Status, ask, listens, serve};
pub use counters::{Counters, Punctuality};
pub use emulator::Priority;
pub use error::LabError;
pub use fate::{Fate, LinkId, Loss, fate};
pub use lab::{HostView, Lab, LinkView};
pub use namespace::inside_command;
pub use plan::{ADDRESSES_MAX, HOSTS_MAX, Link, Near, Plan, PlanError, SITES_MAX, Site};
pub use shape::{Burst, DELAY_MAX, RATE_MIN, Shape, ShapeError};

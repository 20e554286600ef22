//! Stories of faults in simulated time: where clients are sent, what they are told, and when.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod asks;
mod claims;
mod engine;
mod fleet;
mod hints;
mod late;
mod laws;
mod nodes;
mod pace;
mod probes;
mod rooms;
mod rulings;
mod shards;
mod splits;
mod world;

//! Engines that are wrong on purpose: a proof that does not catch them proves nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod histories;
mod liar;
mod traces;

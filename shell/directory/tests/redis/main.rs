//! The engine in Redis against real Redis: one server, three with Sentinels, a cluster; killed, frozen, switched by hand, wiped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod alone;
mod cluster;
#[path = "../etcd/desk.rs"]
mod desk;
mod load;
mod lock;
#[path = "../etcd/port.rs"]
mod port;
mod refused;
mod secure;
mod sentinel;
mod server;
mod watching;

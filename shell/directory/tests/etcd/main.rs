//! The engine in etcd against real etcd: one member, three members with one of them dead or frozen, certificates.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod alone;
mod desk;
mod port;
mod secure;
mod server;
mod three;
mod watching;

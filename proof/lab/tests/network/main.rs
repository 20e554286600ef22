//! The lab on real namespaces, devices and sockets. Each test runs in namespaces of its own (`inside`), so none needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod command;
mod faults;
mod host;
mod shapes;
mod sockets;
mod spares;

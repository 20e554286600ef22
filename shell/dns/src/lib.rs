//! The name server as a program: questions over UDP and TCP, outlooks of gateways. What is answered is decided in
//! `outlast-dns-core`. Names and addresses of those who ask reach no log.

mod config;

mod metrics;
mod name_server;

mod outlooks;
mod tcp;
mod udp;

pub use config::{DnsConfig, DnsError};
pub use name_server::NameServer;

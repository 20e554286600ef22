//! Ports for servers.

use std::{
    net::{TcpListener, UdpSocket},
    ops::Range,
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below those that the kernel gives to outgoing connections: a port that was free a moment ago stays so.
const PORTS: Range<u16> = 10_000..32_000;

/// A port of 127.0.0.1 that is free for TCP and UDP, and that nobody else in this process gets.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other processes at the same time begin elsewhere.
    let first = (process::id() as u16).wrapping_mul(97);
    let ports = PORTS.end - PORTS.start;
    let candidates = (0..ports).map(|_| NEXT.fetch_add(1, Ordering::Relaxed));
    let mut candidates = candidates.map(|step| PORTS.start + first.wrapping_add(step) % ports);
    let is_free = |port: &u16| {
        let at = ("127.0.0.1", *port);
        TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
    };
    candidates.find(is_free).expect("not every port is taken")
}

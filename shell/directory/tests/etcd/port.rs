//! Ports for servers. None is tried by binding it: a process that another thread starts at that moment has the socket too, until
//! it has become its program, and the port is taken for as long.

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below those that the kernel gives to outgoing connections: a port that was free a moment ago stays so.
const PORTS: Range<u16> = 10_000..32_000;

/// A port that is free for TCP and UDP, and that nobody else in this process gets.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other processes at the same time begin elsewhere.
    let first = (process::id() as u16).wrapping_mul(97);
    let ports = PORTS.end - PORTS.start;
    let taken = taken_ports();
    let candidates = (0..ports).map(|_| NEXT.fetch_add(1, Ordering::Relaxed));
    let mut candidates = candidates.map(|step| PORTS.start + first.wrapping_add(step) % ports);
    candidates.find(|port| !taken.contains(port)).expect("not every port is taken")
}

/// Every port that a socket of this network has, on whatever address.
pub(crate) fn taken_ports() -> BTreeSet<u16> {
    let mut taken = BTreeSet::new();
    for file in ["tcp", "tcp6", "udp", "udp6"] {
        // A machine without IPv6 has two of them.
        let sockets = fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
        // After a line of titles: a number, then `ADDRESS:PORT` in hexadecimal.
        let local = sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
        let ports = local.filter_map(|at| u16::from_str_radix(at.rsplit_once(':')?.1, 16).ok());
        taken.extend(ports);
    }
    taken
}

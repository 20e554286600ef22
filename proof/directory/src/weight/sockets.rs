//! What servers send and receive: the kernel's counts of every TCP connection, as `ss` of iproute2 lists them. They are bytes of
//! payload; what is on a wire besides are the headers of so many packets.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde::Serialize;

use crate::servers::output;

/// Bytes and packets, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) packets: u64,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Side {
    Gateways,
    Servers,
}

/// One connection as the process at one end has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Socket {
    process: u32,
    local: String,
    peer: String,
}

/// All connections that were ever seen. One that begins and ends between two looks is not.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    open: BTreeMap<Socket, (Side, Counts)>,
    /// Of those that are closed.
    closed: BTreeMap<(u32, Side), Counts>,
}

impl Ledger {
    /// Looks at the connections of `servers`.
    pub(super) fn look(&mut self, servers: &[u32]) -> anyhow::Result<()> {
        let listed = output(&["ss", "-tinpHO", "state", "established"]);
        self.enter(&listed.context("listing connections (iproute2)")?, servers);
        Ok(())
    }

    fn enter(&mut self, listed: &str, servers: &[u32]) {
        let sockets: Vec<_> = listed.lines().filter_map(|line| socket(line, servers)).collect();
        let own: BTreeSet<_> = sockets.iter().map(|(socket, _)| socket.local.clone()).collect();
        let mut open = BTreeMap::new();
        for (socket, counts) in sockets {
            let side = if own.contains(&socket.peer) { Side::Servers } else { Side::Gateways };
            open.insert(socket, (side, counts));
        }
        for (socket, (side, last)) in std::mem::replace(&mut self.open, open) {
            let goes_on = self.open.get(&socket).is_some_and(|(_, now)| now.sent >= last.sent);
            if !goes_on {
                self.closed.entry((socket.process, side)).or_default().add(last);
            }
        }
    }

    /// What the server `process` has exchanged with those on `side` so far.
    pub(super) fn of(&self, process: u32, side: Side) -> Counts {
        let mut counts = self.closed.get(&(process, side)).copied().unwrap_or_default();
        let open =
            self.open.iter().filter(|(socket, (at, _))| socket.process == process && *at == side);
        open.for_each(|(_, (_, more))| counts.add(*more));
        counts
    }
}

impl Counts {
    fn add(&mut self, more: Counts) {
        self.sent += more.sent;
        self.received += more.received;
        self.packets += more.packets;
    }

    /// What has come since `before`.
    pub(super) fn since(self, before: Counts) -> Counts {
        Counts {
            sent: self.sent.saturating_sub(before.sent),
            received: self.received.saturating_sub(before.received),
            packets: self.packets.saturating_sub(before.packets),
        }
    }
}

/// A line of `ss`: two queues, both ends, the process, and what is known of the connection. `None` for others' connections.
fn socket(line: &str, servers: &[u32]) -> Option<(Socket, Counts)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, _, local, peer, users, ..] = words[..] else { return None };
    let ids = users.split("pid=").skip(1);
    let ids = ids.filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    let process = ids.into_iter().find(|id| servers.contains(id))?;
    let count = |name: &str| -> u64 {
        let value = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    let counts = Counts {
        sent: count("bytes_sent"),
        received: count("bytes_received"),
        packets: count("segs_out") + count("segs_in"),
    };
    Some((Socket { process, local: local.to_owned(), peer: peer.to_owned() }, counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(local: u16, peer: u16, process: u32, sent: u64) -> String {
        format!(
            "0      0      127.0.0.1:{local} 127.0.0.1:{peer} users:((\"etcd\",pid={process},fd=7))\t bbr rto:204 \
             bytes_sent:{sent} bytes_acked:{sent} bytes_received:5 segs_out:2 segs_in:1 send 9bps\n"
        )
    }

    #[test]
    fn connections_are_told_apart_by_who_is_at_the_other_end() {
        let mut ledger = Ledger::default();
        let between = line(1, 40, 7, 100) + &line(40, 1, 8, 5);
        let listed = between + &line(2, 50, 7, 30) + &line(50, 2, 9, 5) + "0 0 127.0.0.1:1 1:2\n";
        ledger.enter(&listed, &[7, 8]);
        let counts = |sent| Counts { sent, received: 5, packets: 3 };
        assert_eq!(ledger.of(7, Side::Servers), counts(100));
        assert_eq!(ledger.of(8, Side::Servers), counts(5));
        assert_eq!(ledger.of(7, Side::Gateways), counts(30));
        assert_eq!(ledger.of(9, Side::Gateways), Counts::default(), "not a server");
    }

    #[test]
    fn what_a_closed_connection_carried_is_kept() {
        let mut ledger = Ledger::default();
        ledger.enter(&line(2, 50, 7, 30), &[7]);
        ledger.enter(&line(2, 50, 7, 40), &[7]);
        assert_eq!(ledger.of(7, Side::Gateways).sent, 40);
        ledger.enter(&line(2, 50, 7, 3), &[7]);
        assert_eq!(ledger.of(7, Side::Gateways).sent, 43, "another one with the same ends");
        ledger.enter("", &[7]);
        assert_eq!(ledger.of(7, Side::Gateways).sent, 43);
    }
}

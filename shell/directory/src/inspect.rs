//! What servers of a directory say of themselves when an operator asks: nobody's calls depend on it.

use std::{collections::BTreeMap, time::Duration};

use outlast_directory::Partition;

/// What a server is among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It decides claims.
    Decides,
    /// It has a copy and takes part when another one is to decide.
    Follows,
    /// It has a copy and no say.
    Learns,
    /// It has no copy: it watches who decides.
    Watches,
    /// It has not told.
    Unknown,
}

/// How far a copy is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Entries of etcd's log.
    Entries(u64),
    /// Bytes of Redis' stream to its replicas.
    Bytes(u64),
}

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// `host:port`: as it stands in the address, or as the others name it.
    pub at: String,
    /// What it is.
    pub role: Role,
    /// Its id in the cluster, if it has one.
    pub id: Option<u64>,
    /// Of the program.
    pub version: Option<String>,
    /// One after the other, in the order of asking; none when it was not reached.
    pub round_trips: Vec<Duration>,
    /// How far it is behind whoever decides, where that is told.
    pub behind: Option<Behind>,
    /// What it decides, where there is more than one partition.
    pub partitions: Vec<Partition>,
    /// Answers that most servers must agree on, asked through it: how long they took, in the order of asking.
    pub agreements: Vec<Duration>,
    /// The mean round trip to each of the others that it has measured itself since its start, by their ids.
    pub peers: BTreeMap<u64, Duration>,
    /// Its settings and sizes by the engine's own names, as far as it tells them.
    pub settings: BTreeMap<String, String>,
    /// What it complains of, or why it was not reached.
    pub troubles: Vec<String>,
}

impl Inspection {
    /// One that nothing is known of yet.
    pub fn of(at: impl ToString) -> Inspection {
        Inspection {
            at: at.to_string(),
            role: Role::Unknown,
            id: None,
            version: None,
            round_trips: Vec::new(),
            agreements: Vec::new(),
            behind: None,
            partitions: Vec::new(),
            peers: BTreeMap::new(),
            settings: BTreeMap::new(),
            troubles: Vec::new(),
        }
    }

    /// Whether it answered at all.
    pub fn is_reached(&self) -> bool {
        !self.round_trips.is_empty()
    }

    /// The middle one of its round trips, the lower of two.
    pub fn round_trip(&self) -> Option<Duration> {
        middle(&self.round_trips)
    }

    /// The middle one of its [`agreements`](Inspection::agreements), the lower of two.
    pub fn agreement(&self) -> Option<Duration> {
        middle(&self.agreements)
    }
}

fn middle(spans: &[Duration]) -> Option<Duration> {
    let mut sorted = spans.to_vec();
    sorted.sort();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// All servers of one directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// Those of the address in its order, then those that only the others name.
    pub servers: Vec<Inspection>,
    /// How many of them have a say in who decides, as the cluster tells; `None` when nobody does.
    pub voters: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_round_trip_is_none_of_the_worst() {
        let mut server = Inspection::of("a:1");
        assert_eq!(server.round_trip(), None);
        assert!(!server.is_reached());
        server.round_trips = [9, 1, 2].map(Duration::from_millis).to_vec();
        assert_eq!(server.round_trip(), Some(Duration::from_millis(2)));
        server.round_trips.push(Duration::from_millis(30));
        assert_eq!(server.round_trip(), Some(Duration::from_millis(2)));
    }
}

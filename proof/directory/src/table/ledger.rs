//! What clients saw, all of it, for the run's report.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::figures::Sample;

/// A room in which somebody sits now.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    /// The node that its newest participant is at.
    pub(crate) node: String,
    /// Since when somebody sits there, since the load began.
    pub(crate) since: Duration,
}

#[derive(Default)]
struct Pages {
    samples: Vec<Sample>,
    /// By room: every node that a join found it at.
    nodes: BTreeMap<String, BTreeSet<String>>,
    live: BTreeMap<String, Live>,
    /// Whose, where they were, and what was said.
    dropped: Vec<(String, String)>,
}

/// Written by all clients.
pub(crate) struct Ledger {
    start: Instant,
    pages: Mutex<Pages>,
}

impl Ledger {
    pub(crate) fn new() -> Ledger {
        Ledger { start: Instant::now(), pages: Mutex::default() }
    }

    /// Since the load began.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn count(&self, sample: Sample) {
        self.pages().samples.push(sample);
    }

    /// Somebody has come to `room`, which is at `node`.
    pub(crate) fn found(&self, room: &str, node: &str) {
        self.pages().nodes.entry(room.to_owned()).or_default().insert(node.to_owned());
    }

    /// Somebody stays in `room`.
    pub(crate) fn sits(&self, room: &str, node: &str) {
        let since = self.now();
        let live = Live { node: node.to_owned(), since };
        let mut pages = self.pages();
        let since = pages.live.get(room).map_or(since, |before| before.since);
        pages.live.insert(room.to_owned(), Live { since, ..live });
    }

    /// Nobody stays in `room` any more.
    pub(crate) fn stands_up(&self, room: &str) {
        self.pages().live.remove(room);
    }

    /// Somebody has been put out, against everybody's will.
    pub(crate) fn dropped(&self, who: &str, node: &str, why: String) {
        let told = format!("{who} of {node} at {:.1?}: {why}", self.now());
        self.pages().dropped.push((node.to_owned(), told));
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.pages().samples.clone()
    }

    /// Everybody who was put out at a node whose name does not begin with `lost`.
    pub(crate) fn dropped_all(&self, lost: Option<&str>) -> Vec<String> {
        let pages = self.pages();
        let counts = pages.dropped.iter().filter(|(node, _)| !is_at(node, lost));
        counts.map(|(_, told)| told.clone()).collect()
    }

    /// Rooms in which somebody has sat since `before` or longer, and still sits.
    pub(crate) fn live(&self, before: Duration) -> BTreeMap<String, Live> {
        let pages = self.pages();
        let old = pages.live.iter().filter(|(_, live)| live.since < before);
        old.map(|(room, live)| (room.clone(), live.clone())).collect()
    }

    /// Rooms that joins found at several nodes, those left out whose name begins with `lost`.
    pub(crate) fn doubled(&self, lost: Option<&str>) -> Vec<String> {
        let pages = self.pages();
        let several = pages
            .nodes
            .iter()
            .filter(|(_, nodes)| nodes.iter().filter(|node| !is_at(node, lost)).count() > 1);
        several.map(|(room, nodes)| format!("{room} at {nodes:?}")).collect()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_at(node: &str, site: Option<&str>) -> bool {
    site.is_some_and(|site| node.starts_with(site))
}

//! What a gateway counts.

use std::time::Duration;

use outlast_gateway_core::Facts;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::directory_metrics::DirectoryMetrics;

type Label = [(&'static str, &'static str); 1];

/// All metrics of one gateway, under the prefix `outlast_gateway`.
#[derive(Clone)]
pub(crate) struct Metrics {
    nodes: Family<Label, Gauge>,
    ejected: Gauge,
    regions: Family<Label, Gauge>,
    gateways_heard: Gauge,
    rooms: Gauge,
    sessions: Gauge,
    asks: Gauge,
    moves: Counter,
    flaws: Counter,
    provisional: Counter,
    probes_found: Counter,
    told: Family<Label, Counter>,
    joins: Family<Label, Counter>,
    join_seconds: Histogram,
    media: Family<Label, Counter>,
    datagrams: Family<Label, Counter>,
    calls: Family<Label, Counter>,
    hints: Gauge,
    pub(crate) snapshot: SnapshotMetrics,
    pub(crate) directory: DirectoryMetrics,
}

/// What is counted of the snapshot on disk.
#[derive(Clone, Default)]
pub(crate) struct SnapshotMetrics {
    bytes: Gauge,
    rooms: Gauge,
    written_at: Gauge<f64, std::sync::atomic::AtomicU64>,
    failures: Counter,
}

impl SnapshotMetrics {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("snapshot");
        registry.register("bytes", "Size of the last snapshot on disk", self.bytes.clone());
        registry.register("rooms", "Rooms in it", self.rooms.clone());
        let help = "When it was written, in Unix time; 0 when none was";
        registry.register("written_timestamp_seconds", help, self.written_at.clone());
        let help = "Snapshots that could not be written";
        registry.register("failures", help, self.failures.clone());
    }

    pub(crate) fn written(&self, bytes: usize, rooms: usize, unix_ms: u64) {
        set(&self.bytes, bytes);
        set(&self.rooms, rooms);
        self.written_at.set(Duration::from_millis(unix_ms).as_secs_f64());
    }

    pub(crate) fn failed(&self) {
        self.failures.inc();
    }
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        // Up to the budget of a join, in which a frozen node is given up.
        let buckets = [0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0];
        let metrics = Metrics {
            nodes: Family::default(),
            ejected: Gauge::default(),
            regions: Family::default(),
            gateways_heard: Gauge::default(),
            rooms: Gauge::default(),
            sessions: Gauge::default(),
            asks: Gauge::default(),
            moves: Counter::default(),
            flaws: Counter::default(),
            provisional: Counter::default(),
            probes_found: Counter::default(),
            told: Family::default(),
            joins: Family::default(),
            join_seconds: Histogram::new(buckets),
            media: Family::default(),
            datagrams: Family::default(),
            calls: Family::default(),
            hints: Gauge::default(),
            snapshot: SnapshotMetrics::default(),
            directory: DirectoryMetrics::default(),
        };
        let registry = registry.sub_registry_with_prefix("outlast_gateway");
        metrics.register_view(registry);
        metrics.register_clients(registry);
        metrics.snapshot.register(registry);
        metrics.directory.register(registry);
        metrics
    }

    /// What is believed of the others.
    fn register_view(&self, registry: &mut Registry) {
        registry.register("nodes", "Nodes by health", self.nodes.clone());
        let help = "Nodes taken out because their clients' media does not come up";
        registry.register("nodes_ejected", help, self.ejected.clone());
        registry.register("regions", "Regions by health", self.regions.clone());
        let help = "Other gateways heard lately";
        registry.register("gateways_heard", help, self.gateways_heard.clone());
        registry.register("rooms", "Rooms known", self.rooms.clone());
        let help = "Rooms known from the snapshot of the last start alone";
        registry.register("hints", help, self.hints.clone());
        let help = "Rooms given a new home because they had lost theirs";
        registry.register("moves", help, self.moves.clone());
        let help = "Plans to move rooms that were not carried out because of a flaw";
        registry.register("plan_flaws", help, self.flaws.clone());
        let help = "Rooms placed without the directory";
        registry.register("provisional_claims", help, self.provisional.clone());
        let help = "Rooms found by asking nodes, the directory not answering";
        registry.register("probes_found", help, self.probes_found.clone());
        let help = "Beats, outlooks and answers to probes received, by what became of them";
        registry.register("datagrams", help, self.datagrams.clone());
    }

    /// What is done for clients.
    fn register_clients(&self, registry: &mut Registry) {
        registry.register("sessions", "Signalling connections proxied", self.sessions.clone());
        registry.register("asks", "Clients that wait for a place", self.asks.clone());
        registry.register("told", "Clients told to reconnect, by reason", self.told.clone());
        registry.register("joins", "Signalling requests by outcome", self.joins.clone());
        let help = "Time to a node's admission";
        registry.register("join_seconds", help, self.join_seconds.clone());
        let help = "Joins whose offer was answered, and whose media came up after it";
        registry.register("media", help, self.media.clone());
        registry.register("api_calls", "Server API calls by outcome", self.calls.clone());
    }

    pub(crate) fn facts(&self, facts: &Facts) {
        for (health, count) in ["alive", "suspect", "down"].into_iter().zip(facts.nodes) {
            set(&self.nodes.get_or_create(&[("health", health)]), count);
        }
        for (health, count) in ["up", "doubted", "down"].into_iter().zip(facts.regions) {
            set(&self.regions.get_or_create(&[("health", health)]), count);
        }
        set(&self.ejected, facts.ejected);
        set(&self.gateways_heard, facts.gateways);
        set(&self.rooms, facts.rooms);
        set(&self.hints, facts.hints);
        set(&self.sessions, facts.sessions);
        set(&self.asks, facts.asks);
        raise(&self.moves, facts.moves);
        raise(&self.flaws, facts.flaws);
        raise(&self.provisional, facts.provisional);
        raise(&self.probes_found, facts.probes_found);
        set(&self.directory.away, facts.directory_away);
        self.directory.parts(&facts.directory_parts);
        self.directory.deadline_seconds.set(facts.directory_deadline.as_secs_f64());
    }

    pub(crate) fn told(&self, why: &'static str) {
        self.told.get_or_create(&[("why", why)]).inc();
    }

    pub(crate) fn join(&self, outcome: &'static str) {
        self.joins.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(crate) fn admitted(&self, took: Duration) {
        self.join("admitted");
        self.join_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn media(&self, step: &'static str) {
        self.media.get_or_create(&[("step", step)]).inc();
    }

    pub(crate) fn datagram(&self, outcome: &'static str) {
        self.datagrams.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(crate) fn call(&self, outcome: &'static str) {
        self.calls.get_or_create(&[("outcome", outcome)]).inc();
    }
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// Brings a counter up to `total`; facts are counted one after the other.
fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

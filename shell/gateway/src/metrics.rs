//! What a gateway counts.

use std::time::Duration;

use outlast_gateway_core::Facts;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

type Label = [(&'static str, &'static str); 1];

/// All metrics of one gateway, under the prefix `outlast_gateway`.
#[derive(Clone)]
pub(crate) struct Metrics {
    nodes: Family<Label, Gauge>,
    rooms: Gauge,
    sessions: Gauge,
    told: Family<Label, Counter>,
    joins: Family<Label, Counter>,
    join_seconds: Histogram,
    datagrams: Family<Label, Counter>,
    calls: Family<Label, Counter>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        // Up to the budget of a join, in which a frozen node is given up.
        let buckets = [0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0];
        let metrics = Metrics {
            nodes: Family::default(),
            rooms: Gauge::default(),
            sessions: Gauge::default(),
            told: Family::default(),
            joins: Family::default(),
            join_seconds: Histogram::new(buckets),
            datagrams: Family::default(),
            calls: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("outlast_gateway");
        registry.register("nodes", "Nodes by health", metrics.nodes.clone());
        registry.register("rooms", "Rooms known", metrics.rooms.clone());
        registry.register("sessions", "Signalling connections proxied", metrics.sessions.clone());
        registry.register("told", "Clients told to reconnect, by reason", metrics.told.clone());
        registry.register("joins", "Signalling requests by outcome", metrics.joins.clone());
        registry.register(
            "join_seconds",
            "Time to a node's admission",
            metrics.join_seconds.clone(),
        );
        registry.register(
            "datagrams",
            "Beats received, by what became of them",
            metrics.datagrams.clone(),
        );
        registry.register("api_calls", "Server API calls by outcome", metrics.calls.clone());
        metrics
    }

    pub(crate) fn facts(&self, facts: &Facts) {
        for (health, count) in ["alive", "suspect", "down"].into_iter().zip(facts.nodes) {
            set(&self.nodes.get_or_create(&[("health", health)]), count);
        }
        set(&self.rooms, facts.rooms);
        set(&self.sessions, facts.sessions);
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

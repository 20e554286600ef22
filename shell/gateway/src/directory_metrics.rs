//! What a gateway counts of its directory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use outlast_directory::Partition;
use outlast_engines::PartState;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

type Outcome = [(&'static str, &'static str); 2];
type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;
type Operation = [(&'static str, &'static str); 1];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    partition: u16,
}

/// All metrics of one gateway's directory, under the prefix `outlast_gateway_directory`.
#[derive(Clone)]
pub(crate) struct DirectoryMetrics {
    pub(crate) away: Gauge,
    pub(crate) deadline_seconds: Seconds,
    rooms: Gauge,
    calls: Family<Outcome, Counter>,
    seconds: Family<Operation, Histogram>,
    changes: Family<PartLabel, Counter>,
    lag_seconds: Family<PartLabel, Seconds>,
    /// Who decided last, and what the trouble was, for the log.
    last: Arc<Mutex<BTreeMap<Partition, PartState>>>,
}

impl Default for DirectoryMetrics {
    fn default() -> Self {
        // From one machine to across an ocean twice, and what is given up.
        let buckets = || Histogram::new([0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0, 2.0]);
        DirectoryMetrics {
            away: Gauge::default(),
            deadline_seconds: Seconds::default(),
            rooms: Gauge::default(),
            calls: Family::default(),
            seconds: Family::new_with_constructor(buckets),
            changes: Family::default(),
            lag_seconds: Family::default(),
            last: Arc::default(),
        }
    }
}

impl DirectoryMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("directory");
        let help = "Partitions of the directory that count as away";
        registry.register("away", help, self.away.clone());
        let help =
            "How long a join waits for the directory at most, by what its answers took lately";
        registry.register("deadline_seconds", help, self.deadline_seconds.clone());
        let help = "Rooms in the directory, where it is in this process";
        registry.register("rooms", help, self.rooms.clone());
        let help = "Calls by operation and outcome";
        registry.register("calls", help, self.calls.clone());
        let help =
            "Time to the engine's answer by operation, those included that nobody waited for";
        registry.register("seconds", help, self.seconds.clone());
        let help = "How often another server has begun to decide, by partition";
        registry.register("changes", help, self.changes.clone());
        let help = "How far the last replica lags, by partition, where the engine tells";
        registry.register("lag_seconds", help, self.lag_seconds.clone());
    }

    pub(crate) fn answered(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        let labels = [("operation", operation), ("outcome", outcome)];
        self.calls.get_or_create(&labels).inc();
        self.seconds.get_or_create(&[("operation", operation)]).observe(took.as_secs_f64());
    }

    /// Keeps how a partition is, and logs what has changed.
    pub(crate) fn state(&self, at: Partition, state: &PartState) {
        if let Some(rooms) = state.rooms {
            self.rooms.set(i64::try_from(rooms).unwrap_or(i64::MAX));
        }
        let label = PartLabel { partition: at.0 };
        let changes = self.changes.get_or_create(&label);
        changes.inc_by(state.changes.saturating_sub(changes.get()));
        if let Some(lag) = state.lag {
            self.lag_seconds.get_or_create(&label).set(lag.as_secs_f64());
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.entry(at).or_default();
        if before.decides != state.decides {
            match &state.decides {
                Some(server) => tracing::info!(partition = at.0, server, "the directory's server"),
                None => tracing::warn!(partition = at.0, "the directory has no server now"),
            }
        }
        if before.trouble != state.trouble
            && let Some(trouble) = &state.trouble
        {
            tracing::warn!(partition = at.0, trouble, "trouble with the directory");
        }
        *before = state.clone();
    }
}

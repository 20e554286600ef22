//! What a gateway counts of its directory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use outlast_directory::Partition;
use outlast_engines::PartState;
use outlast_gateway_core::PartFacts;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

type Outcome = [(&'static str, &'static str); 3];
type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;
type Operation = [(&'static str, &'static str); 2];
type Why = [(&'static str, &'static str); 1];

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
    lag_entries: Family<PartLabel, Gauge>,
    breaker_open: Family<PartLabel, Gauge>,
    view_age_seconds: Family<PartLabel, Seconds>,
    shed: Family<Why, Counter>,
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
            lag_entries: Family::default(),
            breaker_open: Family::default(),
            view_age_seconds: Family::default(),
            shed: Family::default(),
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
        let help = "Calls by engine, operation and outcome";
        registry.register("calls", help, self.calls.clone());
        let help =
            "Time to the engine's answer by operation, those that nobody waited for included";
        registry.register("seconds", help, self.seconds.clone());
        let help = "How often another server has begun to decide, by partition";
        registry.register("changes", help, self.changes.clone());
        let help = "How far the last replica lags, by partition, where the engine tells";
        registry.register("lag_seconds", help, self.lag_seconds.clone());
        let help =
            "Entries of the log that the last member lacks, by partition, where the engine tells";
        registry.register("lag_entries", help, self.lag_entries.clone());
        let help = "1 while the partition counts as away and is not asked";
        registry.register("breaker_open", help, self.breaker_open.clone());
        let help = "How long ago the partition's changes were last heard of";
        registry.register("view_age_seconds", help, self.view_age_seconds.clone());
        let help = "Requests that were not sent: the partition counted as away, or too many were under way";
        registry.register("shed", help, self.shed.clone());
    }

    /// What the role knows of each partition.
    pub(crate) fn parts(&self, parts: &[PartFacts]) {
        let mut shed = [0; 2];
        for (partition, part) in (0..).zip(parts) {
            let label = PartLabel { partition };
            self.breaker_open.get_or_create(&label).set(i64::from(part.away));
            self.view_age_seconds.get_or_create(&label).set(part.view_age.as_secs_f64());
            shed = [shed[0] + part.shed[0], shed[1] + part.shed[1]];
        }
        for (why, total) in ["away", "full"].into_iter().zip(shed) {
            let counter = self.shed.get_or_create(&[("why", why)]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    pub(crate) fn answered(
        &self,
        at: Partition,
        operation: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        let engine = self.last().get(&at).map_or("", |state| state.engine);
        let labels = [("engine", engine), ("operation", operation)];
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        let [engine, operation] = labels;
        self.calls.get_or_create(&[engine, operation, ("outcome", outcome)]).inc();
    }

    /// Keeps how a partition is, and logs what has changed.
    pub(crate) fn state(&self, at: Partition, state: &PartState) {
        if let Some(rooms) = state.rooms {
            self.rooms.set(i64::try_from(rooms).unwrap_or(i64::MAX));
        }
        let label = PartLabel { partition: at.0 };
        let changes = self.changes.get_or_create(&label);
        changes.inc_by(state.changes.saturating_sub(changes.get()));
        // What nobody tells any more is not so.
        match state.lag {
            Some(lag) => {
                self.lag_seconds.get_or_create(&label).set(lag.as_secs_f64());
            }
            None => {
                self.lag_seconds.remove(&label);
            }
        }
        match state.behind_entries {
            Some(entries) => {
                let entries = i64::try_from(entries).unwrap_or(i64::MAX);
                self.lag_entries.get_or_create(&label).set(entries);
            }
            None => {
                self.lag_entries.remove(&label);
            }
        }
        let mut last = self.last();
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

    fn last(&self) -> MutexGuard<'_, BTreeMap<Partition, PartState>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

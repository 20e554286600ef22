//! What many runs came to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{draw::FAULTS_MIN, run::Outcome, say::say, schedule::What};

/// Gaps are counted in classes of so many milliseconds.
const GAP_CLASS_MS: u32 = 50;

/// Sums over runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) runs: u64,
    pub(crate) events: u64,
    asks: u64,
    told: u64,
    moves: u64,
    excused: u64,
    #[serde(default)]
    rights: [u64; 2],
    /// By kind, in the order of [`What::KINDS`].
    faults: Vec<u64>,
    faults_least: Option<u32>,
    /// How many people were out of the call for how long, by class.
    gaps: BTreeMap<u32, u64>,
    /// All traces in one number, whatever the order in which they were run.
    traces: u64,
    pub(crate) failures: Vec<(u64, String)>,
}

impl Totals {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.events += outcome.events;
        self.asks += outcome.asks;
        self.told += outcome.told;
        self.moves += outcome.moves;
        self.excused += outcome.excused_losses;
        self.add_rights(outcome.rights);
        self.traces = self.traces.wrapping_add(outcome.hash);
        self.add_faults(outcome.faults.iter().map(|count| u64::from(*count)));
        if outcome.violation.is_none() {
            let faults = outcome.faults.iter().sum::<u32>();
            self.faults_least = Some(self.faults_least.map_or(faults, |least| least.min(faults)));
        }
        for gap in &outcome.gaps {
            *self.gaps.entry(gap / GAP_CLASS_MS).or_default() += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: Totals) {
        self.runs += other.runs;
        self.events += other.events;
        self.asks += other.asks;
        self.told += other.told;
        self.moves += other.moves;
        self.excused += other.excused;
        self.add_rights(other.rights);
        self.traces = self.traces.wrapping_add(other.traces);
        self.add_faults(other.faults.into_iter());
        self.faults_least = self.faults_least.into_iter().chain(other.faults_least).min();
        for (class, count) in other.gaps {
            *self.gaps.entry(class).or_default() += count;
        }
        self.failures.extend(other.failures);
    }

    fn add_rights(&mut self, [looked, excused]: [u64; 2]) {
        self.rights[0] += looked;
        self.rights[1] += excused;
    }

    fn add_faults(&mut self, counts: impl Iterator<Item = u64>) {
        self.faults.resize(What::KINDS.len(), 0);
        for (sum, count) in self.faults.iter_mut().zip(counts) {
            *sum += count;
        }
    }

    /// Whether every run that came to its end had as many faults as are drawn.
    pub(crate) fn has_enough_faults(&self) -> bool {
        self.faults_least.is_none_or(|least| u64::from(least) >= FAULTS_MIN)
    }

    /// The gap below which `permille` of all gaps are, in milliseconds.
    fn gap(&self, permille: u64) -> u32 {
        let total: u64 = self.gaps.values().sum();
        let mut left = total * permille / 1_000;
        for (class, count) in &self.gaps {
            if left < *count {
                return (class + 1) * GAP_CLASS_MS;
            }
            left -= count;
        }
        0
    }

    /// For people. All but the first `before` runs took `seconds`.
    pub(crate) fn tell(&self, before: u64, seconds: f64) {
        let runs = self.runs.max(1);
        say(format_args!(
            "{} schedules, {} of them in {seconds:.1} s: {:.0} a second; events {} each; at least {} faults each, {:.1} on average",
            self.runs,
            self.runs - before,
            (self.runs - before) as f64 / seconds.max(0.001),
            self.events / runs,
            self.faults_least.unwrap_or(0),
            self.faults.iter().sum::<u64>() as f64 / runs as f64,
        ));
        let faults: Vec<String> = What::KINDS
            .iter()
            .zip(&self.faults)
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        say(format_args!("faults: {}", faults.join(", ")));
        say(format_args!(
            "asks {}, told {}, moves {}, sessions lost to cuts of their own {}; out of the call: p50 {} ms, p95 {} ms, p99 {} ms",
            self.asks,
            self.told,
            self.moves,
            self.excused,
            self.gap(500),
            self.gap(950),
            self.gap(990)
        ));
        let [looked, excused] = self.rights;
        say(format_args!(
            "rights looked at {looked} times, {excused} times nobody could have known"
        ));
        say(format_args!("all traces: {:016x}; failed: {}", self.traces, self.failures.len()));
    }
}

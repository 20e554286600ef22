//! Which targets of issue 4 a run missed: pure.

use std::{str::FromStr, time::Duration};

use super::{
    figures::{Phases, RoomKind, Sample, Spread, ms},
    harm::Harm,
    report::RunReport,
};

/// Which engine's target counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A table in each gateway.
    Embedded,
    /// Three members of etcd.
    Etcd,
    /// A primary, two replicas, three Sentinels.
    Sentinel,
    /// Three primaries, three replicas.
    Cluster,
}

impl Engine {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Embedded => "embedded",
            Engine::Etcd => "etcd",
            Engine::Sentinel => "sentinel",
            Engine::Cluster => "cluster",
        }
    }

    const ALL: [Engine; 4] = [Engine::Embedded, Engine::Etcd, Engine::Sentinel, Engine::Cluster];

    /// Longest time until claims are decided again when one server is lost, in milliseconds (issue 4, Show 2).
    pub(crate) fn back_ms(self) -> Option<f64> {
        match self {
            Engine::Embedded => None,
            Engine::Etcd => Some(2_500.0),
            Engine::Sentinel => Some(6_000.0),
            Engine::Cluster => Some(4_000.0),
        }
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Engine, String> {
        let found = Engine::ALL.into_iter().find(|engine| engine.name() == text);
        found.ok_or_else(|| format!("{text} is no engine"))
    }
}

/// What issue 4 asks for, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Targets {
    /// 99 of a hundred joins of known rooms.
    pub known_p99_ms: f64,
    /// What a new room's join may be delayed by while the gateway does not know yet that the directory is away.
    pub once_ms: f64,
    /// Afterwards.
    pub then_ms: f64,
    /// Until every room is in the database, from the heal on.
    pub in_database_ms: f64,
}

impl Default for Targets {
    fn default() -> Self {
        Targets { known_p99_ms: 5.0, once_ms: 400.0, then_ms: 250.0, in_database_ms: 60_000.0 }
    }
}

/// How long the gateway may take at most until it knows: the breaker opens after three calls without an answer, or a second without
/// one, and of an engine in parts each has its own.
const ONCE_MAX: Duration = Duration::from_secs(2);
/// What memory may grow by, in KiB, and still count as flat: an allocator's arenas.
const FLAT_KIB: i64 = 4_096;

/// By how much longer than `usual_ms` joins of new rooms took at most, in milliseconds: those that began when the gateway did not
/// count the directory as `away` yet (when it did, ascending), and all later ones until the heal.
pub(crate) fn delays(
    samples: &[&Sample],
    phases: Phases,
    usual_ms: f64,
    away: &[Duration],
) -> [f64; 2] {
    let latest = phases.fault + ONCE_MAX;
    let known_at = away.iter().find(|at| **at > phases.fault).map_or(latest, |at| latest.min(*at));
    let mut delays = [0.0_f64; 2];
    for sample in samples {
        let is_meant = sample.kind == RoomKind::New && sample.near && sample.failure.is_none();
        if is_meant && sample.at >= phases.fault && sample.at < phases.heal {
            let later = usize::from(sample.at >= known_at);
            delays[later] = delays[later].max(ms(sample.took) - usual_ms);
        }
    }
    delays
}

/// Whether `known`, joins of known rooms, were slow during or after a fault, a line each, with how they were before it, and how
/// long a bare request took at the same time: the machine may be too busy to tell.
pub(crate) fn slow_known(
    known: &[Spread; 3],
    bare: &[Spread; 3],
    targets: &Targets,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let usual = known[0].p99_ms;
    for (name, phase) in [("during", 1), ("after", 2)] {
        let [p99, floor] = [known[phase].p99_ms, bare[phase].p99_ms];
        if p99 > targets.known_p99_ms {
            wrong.push(format!(
                "p99 of known rooms {name}: {p99} ms, {usual} before, {floor} of a bare request"
            ));
        }
    }
    wrong
}

/// What is wrong with a run, a line each. Percentiles, and when the engine is back, are judged of all runs of a fault together
/// ([`cells`](super::cells)).
pub fn verdict(report: &RunReport, targets: &Targets) -> Vec<String> {
    let mut wrong = Vec::new();
    let names = ["before", "during", "after"];
    for (kind, phases) in [
        ("joins of known rooms", &report.known),
        ("joins of new rooms", &report.new),
        ("bare requests", &report.bare),
    ] {
        for (name, spread) in names.iter().zip(phases) {
            if spread.failures > 0 {
                let Spread { joins, failures, .. } = spread;
                wrong.push(format!("{failures} of {joins} {kind} failed {name}"));
            }
        }
    }
    for (what, delay, target) in [
        ("once", report.delayed_once_ms, targets.once_ms),
        ("then", report.delayed_then_ms, targets.then_ms),
    ] {
        // Who comes to a gateway that has just started waits until it has heard the nodes.
        if delay > target && !report.harm.restarts_gateways() {
            wrong.push(format!("new rooms delayed by {delay:.0} ms {what}, target {target:.0}"));
        }
    }
    match report.rooms_in_database_ms {
        Some(took) if took <= targets.in_database_ms => {}
        Some(took) => wrong.push(format!("rooms in the database after {took:.0} ms")),
        None => wrong.push(format!("{} rooms not in the database", report.rooms_missing.len())),
    }
    wrong.extend(report.doubled.iter().map(|room| format!("more than one node: {room}")));
    if !report.dropped.is_empty() {
        wrong.push(format!("participants dropped: {}", report.dropped.join(", ")));
    }
    if report.decided == 0 && report.engine != Engine::Embedded {
        wrong.push("no claim was decided: nothing is shown".to_owned());
    }
    if !report.bit && report.harm != Harm::None {
        wrong.push("the fault did not bite: nothing is shown".to_owned());
    }
    if let Some(grown) = report.memory_growth_kib.filter(|grown| *grown > FLAT_KIB) {
        wrong.push(format!("gateways' memory grew by {grown} KiB"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> RunReport {
        RunReport {
            engine: Engine::Etcd,
            harm: Harm::Kill,
            bit: true,
            decided: 100,
            rooms_in_database_ms: Some(900.0),
            delayed_once_ms: 380.0,
            delayed_then_ms: 240.0,
            ..RunReport::default()
        }
    }

    #[test]
    fn what_meets_all_targets_has_nothing_wrong() {
        assert_eq!(verdict(&good(), &Targets::default()), Vec::<String>::new());
    }

    #[test]
    fn each_target_is_looked_at() {
        let failed = Spread { joins: 100, failures: 1, ..Spread::default() };
        let fine = Spread { joins: 100, ..Spread::default() };
        for (wrong, word) in [
            (
                RunReport { new: [fine, fine, failed], ..good() },
                "1 of 100 joins of new rooms failed after",
            ),
            (RunReport { delayed_once_ms: 401.0, ..good() }, "once"),
            (RunReport { delayed_then_ms: 251.0, ..good() }, "then"),
            (RunReport { harm: Harm::Move, delayed_then_ms: 251.0, bit: false, ..good() }, "bite"),
            (RunReport { rooms_in_database_ms: Some(60_001.0), ..good() }, "60001"),
            (RunReport { rooms_in_database_ms: None, ..good() }, "not in the database"),
            (RunReport { doubled: vec!["r".into()], ..good() }, "more than one node: r"),
            (RunReport { dropped: vec!["ann".into()], ..good() }, "dropped: ann"),
            (RunReport { bit: false, ..good() }, "did not bite"),
            (RunReport { decided: 0, ..good() }, "no claim was decided"),
            (RunReport { memory_growth_kib: Some(4_097), ..good() }, "4097"),
        ] {
            let lines = verdict(&wrong, &Targets::default());
            assert!(lines.len() == 1 && lines[0].contains(word), "{word}: {lines:?}");
        }
    }

    #[test]
    fn joins_of_known_rooms_are_slow_because_of_the_fault_or_before() {
        let [fine, slow] = [4.9, 6.0].map(|p99_ms| Spread { p99_ms, ..Spread::default() });
        let told = |phases| slow_known(&phases, &[fine; 3], &Targets::default());
        assert_eq!(told([fine; 3]), Vec::<String>::new());
        let faulty = "p99 of known rooms during: 6 ms, 4.9 before, 4.9 of a bare request";
        assert_eq!(told([fine, slow, fine]), [faulty]);
        let busy = "p99 of known rooms after: 6 ms, 6 before, 4.9 of a bare request";
        assert_eq!(told([slow, fine, slow]), [busy]);
    }

    #[test]
    fn a_delay_is_of_a_new_room_while_the_fault_lasts() {
        let sample = |kind, at, took| Sample {
            kind,
            at: Duration::from_millis(at),
            took: Duration::from_millis(took),
            near: true,
            failure: None,
        };
        let samples = [
            sample(RoomKind::New, 900, 9_000),
            sample(RoomKind::Known, 1_100, 9_000),
            sample(RoomKind::New, 1_100, 403),
            sample(RoomKind::New, 1_900, 303),
            sample(RoomKind::New, 3_400, 103),
            sample(RoomKind::New, 5_000, 9_000),
        ];
        let samples: Vec<&Sample> = samples.iter().collect();
        let at = Duration::from_secs;
        let phases = Phases { fault: at(1), heal: at(5) };
        assert_eq!(delays(&samples, phases, 3.0, &[]), [400.0, 100.0]);
        let away = [Duration::from_millis(900), Duration::from_millis(1_500), at(2)];
        assert_eq!(delays(&samples, phases, 3.0, &away), [400.0, 300.0]);
        assert_eq!(delays(&samples, phases, 3.0, &[at(4)]), [400.0, 100.0]);
    }
}

//! What a run showed, for machines (JSON) and for `docs/directory.md` (a table).

use std::fmt::Write as _;

use serde::{Serialize, Serializer};

use super::{figures::Spread, harm::Harm, verdict::Engine};

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// The database.
    #[serde(serialize_with = "engine_name")]
    pub engine: Engine,
    /// What was broken.
    #[serde(serialize_with = "harm_name")]
    pub harm: Harm,
    /// What everything was drawn from.
    pub seed: u64,
    /// For how long it was broken, in seconds.
    pub span_s: f64,
    /// Joins of known rooms before, during and after the fault.
    pub known: [Spread; 3],
    /// Joins of new rooms.
    pub new: [Spread; 3],
    /// Longest delay of a new room's join, in milliseconds, that began before the gateway could know of the fault.
    pub delayed_once_ms: f64,
    /// The same of later ones, until the heal.
    pub delayed_then_ms: f64,
    /// From the fault to the first claim that the engine has decided again; `None` when it never stopped.
    pub engine_back_ms: Option<f64>,
    /// The same from the heal on, when it was away until then.
    pub engine_back_after_heal_ms: Option<f64>,
    /// From the fault until no partition counted as away any more; `None` when none ever did.
    pub away_until_ms: Option<f64>,
    /// Rooms that were placed without the directory.
    pub provisional: u64,
    /// From the heal until every room was in the database, at the node where its participants are.
    pub rooms_in_database_ms: Option<f64>,
    /// Rooms that were looked for.
    pub rooms_looked_for: usize,
    /// Those not found.
    pub rooms_missing: Vec<String>,
    /// Rooms that joins found at more than one node.
    pub doubled: Vec<String>,
    /// Participants who were put out.
    pub dropped: Vec<String>,
    /// Whether the fault had any effect on the database or its network.
    pub bit: bool,
    /// Which.
    pub proof: String,
    /// The gateway's resident memory before the fault and the most of it, in KiB.
    pub memory_kib: [u64; 2],
    /// What the memory of the gateway that grew most grew by during a long fault, in KiB.
    pub memory_growth_kib: Option<i64>,
    /// Packets that the emulated network handed over 10 ms late or more, of 100: above 1, times are the machine's.
    pub network_late_percent: f64,
    /// A few of the failures.
    pub failures: Vec<String>,
    /// Targets that were missed.
    pub missed: Vec<String>,
}

impl Default for RunReport {
    fn default() -> Self {
        RunReport {
            engine: Engine::Embedded,
            harm: Harm::None,
            seed: 0,
            span_s: 0.0,
            known: Default::default(),
            new: Default::default(),
            delayed_once_ms: 0.0,
            delayed_then_ms: 0.0,
            engine_back_ms: None,
            engine_back_after_heal_ms: None,
            away_until_ms: None,
            provisional: 0,
            rooms_in_database_ms: None,
            rooms_looked_for: 0,
            rooms_missing: Vec::new(),
            doubled: Vec::new(),
            dropped: Vec::new(),
            bit: false,
            proof: String::new(),
            memory_kib: [0; 2],
            memory_growth_kib: None,
            network_late_percent: 0.0,
            failures: Vec::new(),
            missed: Vec::new(),
        }
    }
}

fn engine_name<S: Serializer>(engine: &Engine, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(engine.name())
}

fn harm_name<S: Serializer>(harm: &Harm, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(harm)
}

const HEAD: &str = "\
| engine | fault | runs | known rooms: failed, p99 before / during / after | new rooms: failed, p99 before / during / after | delayed once / then | engine back | in the database after | dropped | missed |
|---|---|---|---|---|---|---|---|---|---|
";

/// A table with a row a cell, in the order in which cells come first. Of several runs the worst is told.
pub fn markdown(reports: &[RunReport]) -> String {
    let mut text = HEAD.to_owned();
    let mut told = Vec::new();
    for report in reports {
        let cell = (report.engine, report.harm);
        if told.contains(&cell) {
            continue;
        }
        told.push(cell);
        let of_cell = |other: &&RunReport| (other.engine, other.harm) == cell;
        let runs: Vec<&RunReport> = reports.iter().filter(of_cell).collect();
        row(&mut text, &runs);
    }
    text
}

fn row(text: &mut String, runs: &[&RunReport]) {
    let Some(first) = runs.first() else { return };
    let worst = |of: &dyn Fn(&RunReport) -> f64| runs.iter().map(|run| of(run)).fold(0.0, f64::max);
    let joins = |of: &dyn Fn(&RunReport) -> [Spread; 3]| {
        let all = || runs.iter().flat_map(|run| of(run));
        let (failed, count): (usize, usize) =
            (all().map(|spread| spread.failures).sum(), all().map(|spread| spread.joins).sum());
        let p99 = [0, 1, 2].map(|phase| format!("{:.1}", worst(&|run| of(run)[phase].p99_ms)));
        format!("{failed} of {count}, {} ms", p99.join(" / "))
    };
    let seconds = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{:.1} s", ms / 1e3));
    let back = runs.iter().filter_map(|run| run.engine_back_ms).reduce(f64::max);
    let healed = runs.iter().filter_map(|run| run.engine_back_after_heal_ms).reduce(f64::max);
    let back = match healed {
        Some(_) => format!("{} after the heal", seconds(healed)),
        None => seconds(back),
    };
    let is_found = runs.iter().all(|run| run.rooms_in_database_ms.is_some());
    let found = is_found.then(|| worst(&|run| run.rooms_in_database_ms.unwrap_or_default()));
    let dropped: usize = runs.iter().map(|run| run.dropped.len()).sum();
    let mut missed: Vec<&str> =
        runs.iter().flat_map(|run| &run.missed).map(String::as_str).collect();
    missed.dedup();
    let missed = if missed.is_empty() { "nothing".to_owned() } else { missed.join("; ") };
    // A string takes whatever is written.
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {:.0} / {:.0} ms | {back} | {} | {dropped} | {missed} |",
        first.engine.name(),
        first.harm,
        runs.len(),
        joins(&|run| run.known),
        joins(&|run| run.new),
        worst(&|run| run.delayed_once_ms),
        worst(&|run| run.delayed_then_ms),
        seconds(found),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_tells_its_worst_run() {
        let spread = |p99_ms| Spread { joins: 10, p99_ms, ..Spread::default() };
        let run = |harm, p99| RunReport {
            engine: Engine::Etcd,
            harm,
            known: [spread(1.0), spread(p99), spread(1.0)],
            rooms_in_database_ms: Some(p99 * 1_000.0),
            ..RunReport::default()
        };
        let lost = RunReport { rooms_in_database_ms: None, ..run(Harm::Pause, 1.0) };
        let reports = [run(Harm::Kill, 2.0), lost, run(Harm::Kill, 4.0)];
        let text = markdown(&reports);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(rows.len(), 2);
        assert!(
            rows[0].contains("| etcd | kill | 2 | 0 of 60, 1.0 / 4.0 / 1.0 ms |"),
            "{}",
            rows[0]
        );
        assert!(rows[0].contains("| 4.0 s | 0 | nothing |"), "{}", rows[0]);
        assert!(
            rows[1].contains("| etcd | pause | 1 |") && rows[1].contains("| - | 0 |"),
            "{}",
            rows[1]
        );
    }
}

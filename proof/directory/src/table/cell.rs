//! All runs of one fault on one engine together, as a row of the table in `docs/directory.md`.

use std::fmt;

use super::{
    figures::Spread,
    harm::Harm,
    report::RunReport,
    verdict::{Engine, Targets, slow_known},
};

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Cell<'r> {
    /// The database.
    pub engine: Engine,
    /// What was broken.
    pub harm: Harm,
    /// In the order in which they were run; there is one at least.
    pub runs: Vec<&'r RunReport>,
    /// Joins of known rooms of all runs before, during and after the fault.
    pub known: [Spread; 3],
    /// Joins of new rooms.
    pub new: [Spread; 3],
    /// Requests that the gateway answers by itself.
    pub bare: [Spread; 3],
    /// Targets that all runs together or one of them missed, with the run's seed.
    pub missed: Vec<String>,
}

/// The cells of `reports`, in the order in which they come first.
pub fn cells(reports: &[RunReport]) -> Vec<Cell<'_>> {
    let mut cells: Vec<Cell<'_>> = Vec::new();
    for report in reports {
        let (engine, harm) = (report.engine, report.harm);
        if cells.iter().all(|cell| (cell.engine, cell.harm) != (engine, harm)) {
            let of_cell = |other: &&RunReport| (other.engine, other.harm) == (engine, harm);
            cells.push(Cell::of(reports.iter().filter(of_cell).collect(), engine, harm));
        }
    }
    cells
}

impl<'r> Cell<'r> {
    fn of(runs: Vec<&'r RunReport>, engine: Engine, harm: Harm) -> Cell<'r> {
        let known = together(&runs, |run| (&run.known, &run.known_ms));
        let new = together(&runs, |run| (&run.new, &run.new_ms));
        let bare = together(&runs, |run| (&run.bare, &run.bare_ms));
        let of_run = |run: &&RunReport| {
            let seed = run.seed;
            let line = move |line: &String| format!("seed {seed}: {line}");
            run.missed.iter().map(line).collect::<Vec<_>>()
        };
        let mut missed: Vec<String> = runs.iter().flat_map(of_run).collect();
        missed.extend(slow_known(&known, &bare, &Targets::default()));
        let mut cell = Cell { engine, harm, runs, known, new, bare, missed };
        let late = engine.back_ms().filter(|_| harm.loses_one_server()).and_then(|target| {
            let [median, _] = cell.backs().filter(|[median, _]| *median > target)?;
            Some(format!("engine back after {median:.0} ms (median), target {target:.0}"))
        });
        cell.missed.extend(late);
        cell
    }

    fn worst(&self, of: impl Fn(&RunReport) -> f64) -> f64 {
        self.runs.iter().map(|run| of(run)).fold(0.0, f64::max)
    }

    /// From the fault until the engine decided again, in milliseconds: the median of the runs in which it stopped, and the longest.
    /// An election may be drawn, and is held again then: the longest of twenty is the engine's luck.
    fn backs(&self) -> Option<[f64; 2]> {
        middle_and_last(self.runs.iter().filter_map(|run| run.engine_back_ms))
    }

    /// The same for people, or after the heal when it was away until then.
    fn back(&self) -> String {
        let told = |backs: Option<[f64; 2]>, more: &str| {
            backs.map(|[median, worst]| {
                format!("{:.1} s, {:.1} at most{more}", median / 1e3, worst / 1e3)
            })
        };
        let healed =
            middle_and_last(self.runs.iter().filter_map(|run| run.engine_back_after_heal_ms));
        told(healed, ", after the heal")
            .or_else(|| told(self.backs(), ""))
            .unwrap_or_else(|| "-".to_owned())
    }
}

/// The spreads of all runs' joins, phase by phase.
fn together(
    runs: &[&RunReport],
    of: impl Fn(&RunReport) -> (&[Spread; 3], &[Vec<f64>; 3]),
) -> [Spread; 3] {
    [0, 1, 2].map(|phase| {
        let mut took: Vec<f64> =
            runs.iter().flat_map(|run| of(run).1[phase].iter().copied()).collect();
        took.sort_by(f64::total_cmp);
        let sum =
            |count: fn(&Spread) -> usize| runs.iter().map(|run| count(&of(run).0[phase])).sum();
        Spread::new(sum(|spread| spread.joins), sum(|spread| spread.failures), &took)
    })
}

fn middle_and_last(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some([values.get(values.len().saturating_sub(1) / 2).copied()?, values.last().copied()?])
}

fn seconds(ms: Option<f64>) -> String {
    ms.map_or("-".to_owned(), |ms| format!("{:.1} s", ms / 1e3))
}

const HEAD: &str = "\
| engine | fault | runs | bare requests: failed, p99 before / during / after | known rooms: the same | new rooms: the same | delayed once / then | engine back | in the database after | dropped | missed |
|---|---|---|---|---|---|---|---|---|---|---|
";

/// The table: percentiles are of all runs together, everything else is of the worst run.
pub struct Rows<'c, 'r>(pub &'c [Cell<'r>]);

impl fmt::Display for Rows<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for cell in self.0 {
            row(cell, f)?;
        }
        Ok(())
    }
}

fn row(cell: &Cell<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let joins = |phases: &[Spread; 3]| {
        let failed: usize = phases.iter().map(|spread| spread.failures).sum();
        let all: usize = phases.iter().map(|spread| spread.joins).sum();
        let p99 = phases.map(|spread| format!("{:.1}", spread.p99_ms)).join(" / ");
        format!("{failed} of {all}, {p99} ms")
    };
    let is_found = cell.runs.iter().all(|run| run.rooms_in_database_ms.is_some());
    let found = is_found.then(|| cell.worst(|run| run.rooms_in_database_ms.unwrap_or_default()));
    let dropped: usize = cell.runs.iter().map(|run| run.dropped.len()).sum();
    let missed = if cell.missed.is_empty() { "nothing".to_owned() } else { cell.missed.join("; ") };
    writeln!(
        f,
        "| {} | {} | {} | {} | {} | {} | {:.0} / {:.0} ms | {} | {} | {dropped} | {missed} |",
        cell.engine.name(),
        cell.harm,
        cell.runs.len(),
        joins(&cell.bare),
        joins(&cell.known),
        joins(&cell.new),
        cell.worst(|run| run.delayed_once_ms),
        cell.worst(|run| run.delayed_then_ms),
        cell.back(),
        seconds(found),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(harm: Harm, seed: u64, took: f64) -> RunReport {
        let took: Vec<f64> = vec![took; 10];
        let phase = |took: &[f64]| Spread::new(10, 0, took);
        RunReport {
            engine: Engine::Etcd,
            harm,
            seed,
            known: [phase(&[1.0]), phase(&took), phase(&[1.0])],
            rooms_in_database_ms: Some(took[0] * 1_000.0),
            known_ms: [vec![1.0; 10], took, vec![1.0; 10]],
            ..RunReport::default()
        }
    }

    #[test]
    fn a_cell_tells_its_worst_run_and_percentiles_of_all() {
        let lost = RunReport {
            rooms_in_database_ms: None,
            missed: vec!["1 rooms not in the database".into()],
            ..run(Harm::Pause, 7, 1.0)
        };
        let reports = [run(Harm::Kill, 1, 2.0), lost, run(Harm::Kill, 2, 4.0)];
        let cells = cells(&reports);
        assert_eq!(cells[0].known[1].p50_ms, 2.0, "of both runs");
        assert_eq!(cells[1].missed, ["seed 7: 1 rooms not in the database"]);
        let text = Rows(&cells).to_string();
        let rows: Vec<&str> = text.lines().skip(2).collect();
        let [kill, pause] = rows[..] else { panic!("{rows:?}") };
        assert!(
            kill.contains(
                "| etcd | kill | 2 | 0 of 0, 0.0 / 0.0 / 0.0 ms | 0 of 60, 1.0 / 4.0 / 1.0 ms |"
            ),
            "{kill}"
        );
        assert!(kill.contains("| 4.0 s | 0 | nothing |"), "{kill}");
        assert!(pause.contains("| etcd | pause | 1 |") && pause.contains("| - | 0 |"), "{pause}");
    }

    #[test]
    fn an_engine_is_due_when_one_server_is_lost_and_not_when_all_are() {
        let run = |harm, back| RunReport { engine_back_ms: Some(back), ..run(harm, 0, 1.0) };
        let told = |harm, backs: [f64; 3]| {
            let reports = backs.map(|back| run(harm, back));
            let cells = cells(&reports);
            (cells[0].missed.len(), cells[0].back())
        };
        let words = "1.9 s, 5.5 at most".to_owned();
        assert_eq!(told(Harm::Pause, [5_500.0, 1_900.0, 1_600.0]), (0, words));
        assert_eq!(told(Harm::Pause, [2_600.0, 2_600.0, 1_600.0]).0, 1);
        assert_eq!(told(Harm::AllKilled, [13_000.0; 3]).0, 0);
    }

    #[test]
    fn slow_joins_of_known_rooms_count_when_all_runs_together_are_slow() {
        // One of 121 joins is no percentile; one run of two is.
        let mut reports: Vec<RunReport> = (0..12).map(|n| run(Harm::Kill, n, 1.0)).collect();
        reports[0].known_ms[1].push(9.0);
        assert_eq!(cells(&reports)[0].missed, Vec::<String>::new());
        reports[1] = run(Harm::Kill, 1, 9.0);
        let cells = cells(&reports);
        assert!(cells[0].missed[0].contains("p99 of known rooms during"), "{:?}", cells[0].missed);
    }
}

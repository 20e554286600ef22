//! The subcommand `table`: what it takes and what it prints.

use std::{
    env, fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use outlast_directory_proof::table::{
    Drill, Engine, Harm, Rows, RunReport, Spread, Targets, cells, verdict,
};

/// Set in the process that already has namespaces of its own.
const MARK: &str = "OUTLAST_DIRECTORY_PROOF_ALONE";
/// Load before the fault: some ninety claims, those of known rooms included, for the gateway's idea of how long they take.
const BEFORE: Duration = Duration::from_secs(6);
/// Load after the heal.
const AFTER: Duration = Duration::from_secs(6);
/// Most rooms with a participant: one process plays them all.
const ROOMS_MAX: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineName {
    /// A table in each gateway
    Embedded,
    /// Three members of one etcd cluster
    Etcd,
    /// A primary, two replicas, three Sentinels
    Sentinel,
    /// Three primaries with a replica each
    Cluster,
}

#[derive(Args)]
pub(crate) struct Table {
    /// Which database
    #[arg(long, value_enum)]
    engine: EngineName,
    /// What is broken: none, kill, pause, black-hole, region, slow, all-killed, all-wiped, own-cut, gateway-restart, move; all of
    /// them: all
    #[arg(long, default_value = "all")]
    fault: String,
    /// Runs of each fault; run N has the seed SEED + N
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    runs: u64,
    /// Of the first run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How long it is broken, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(4..=86_400))]
    span: u64,
    /// Nodes of each region
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    nodes: u8,
    /// Joins of known rooms a second
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    known: u32,
    /// Joins of new rooms a second
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    new: u32,
    /// Rooms in which somebody sits all the time
    #[arg(long, default_value_t = 30, value_parser = rooms)]
    rooms: usize,
    /// The program; absent: the `outlast` beside this one
    #[arg(long)]
    outlast: Option<PathBuf>,
    /// All figures of all runs, as JSON; runs that are in it are not made again
    #[arg(long)]
    report: Option<PathBuf>,
}

impl Table {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        let engine = self.engine();
        let harms = match self.fault.as_str() {
            "all" => Harm::all(engine),
            name => vec![name.parse::<Harm>().map_err(anyhow::Error::msg)?],
        };
        for harm in &harms {
            let fits = Harm::all(engine).contains(harm);
            anyhow::ensure!(
                fits,
                "{} has no server to be broken: {harm} is not for it",
                engine.name()
            );
        }
        let program = self.program()?;
        alone()?;
        let mut reports = self.before(engine)?;
        for harm in harms {
            for seed in self.seed..self.seed.saturating_add(self.runs) {
                if reports.iter().any(|run| (run.harm, run.seed) == (harm, seed)) {
                    continue;
                }
                let drill = Drill {
                    program: program.clone(),
                    engine,
                    seed,
                    harm,
                    span: Duration::from_secs(self.span),
                    before: BEFORE,
                    after: AFTER,
                    rooms: self.rooms,
                    nodes: self.nodes.into(),
                    known_per_s: self.known,
                    new_per_s: self.new,
                };
                let report = drill.run().with_context(|| format!("{harm}, seed {seed}"))?;
                say(&told(&report));
                reports.push(report);
                // After each: a long table that is broken off has shown something.
                if let Some(path) = &self.report {
                    write(path, &reports)?;
                }
            }
        }
        let cells = cells(&reports);
        say(&Rows(&cells).to_string());
        Ok(cells.iter().all(|cell| cell.missed.is_empty()))
    }

    /// What the report tells of.
    fn before(&self, engine: Engine) -> anyhow::Result<Vec<RunReport>> {
        let Some(path) = self.report.as_ref().filter(|path| path.exists()) else {
            return Ok(Vec::new());
        };
        let read = || -> anyhow::Result<Vec<RunReport>> {
            Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
        };
        let mut runs = read().with_context(|| format!("reading {}", path.display()))?;
        for run in &mut runs {
            run.missed = verdict(run, &Targets::default());
        }
        let others = runs.iter().find(|run| run.engine != engine);
        anyhow::ensure!(others.is_none(), "{} is a report of another engine", path.display());
        say(&format!("{} runs were made before", runs.len()));
        Ok(runs)
    }

    fn engine(&self) -> Engine {
        match self.engine {
            EngineName::Embedded => Engine::Embedded,
            EngineName::Etcd => Engine::Etcd,
            EngineName::Sentinel => Engine::Sentinel,
            EngineName::Cluster => Engine::Cluster,
        }
    }

    fn program(&self) -> anyhow::Result<PathBuf> {
        let beside = || env::current_exe().map(|own| own.with_file_name("outlast"));
        let program = self.outlast.clone().map_or_else(beside, Ok)?;
        let program = program.canonicalize().with_context(|| {
            let path = program.display();
            format!(
                "there is no program {path}: `cargo build -p outlast`, or name one with --outlast"
            )
        })?;
        Ok(program)
    }
}

/// Runs this program again in namespaces of its own, unless it is in them. Returns only in there.
fn alone() -> anyhow::Result<()> {
    if env::var_os(MARK).is_some() {
        return Ok(());
    }
    let own = env::current_exe().context("finding this program")?;
    let mut again = outlast_lab::alone(&own)?;
    again.args(env::args_os().skip(1)).env(MARK, "1");
    Err(again.exec()).context("running unshare")
}

fn write(path: &Path, reports: &[RunReport]) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(reports)?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// One run in some lines.
fn told(report: &RunReport) -> String {
    let phases = |name: &str, phases: &[Spread; 3]| {
        let each = phases.iter().zip(["before", "during", "after"]).map(|(spread, phase)| {
            let Spread { joins, failures, p50_ms, p99_ms, max_ms } = spread;
            format!(
                "{phase} {joins}, {failures} failed, {p50_ms:.1} / {p99_ms:.1} / {max_ms:.1} ms"
            )
        });
        format!("  {name}: {}", each.collect::<Vec<_>>().join("; "))
    };
    let span = |ms: Option<f64>| ms.map_or("never".to_owned(), |ms| format!("{:.1} s", ms / 1e3));
    let mut lines = vec![
        format!(
            "{} {} seed {}: {:.0} s",
            report.engine.name(),
            report.harm,
            report.seed,
            report.span_s
        ),
        phases("bare requests (p50 / p99 / max)", &report.bare),
        phases("known rooms", &report.known),
        phases("new rooms", &report.new),
        format!(
            "  new rooms delayed {:.0} ms once, {:.0} ms then; engine stopped until {} after the fault, away until {}",
            report.delayed_once_ms,
            report.delayed_then_ms,
            span(report.engine_back_ms),
            span(report.away_until_ms),
        ),
        format!(
            "  {} rooms in the database {} after the heal; dropped {}; memory {} KiB, at most {} KiB after the fault; \
             {:.2} % of packets late",
            report.rooms_looked_for,
            span(report.rooms_in_database_ms),
            report.dropped.len(),
            report.memory_kib[0],
            report.memory_kib[1],
            report.network_late_percent,
        ),
        format!("  the fault bit: {}: {}", if report.bit { "yes" } else { "no" }, report.proof),
    ];
    lines.extend(report.failures.iter().map(|line| format!("  failed: {line}")));
    lines.extend(report.rooms_missing.iter().map(|line| format!("  missing: {line}")));
    lines.extend(report.missed.iter().map(|line| format!("  MISSED: {line}")));
    lines.join("\n")
}

/// How many rooms, as on the command line.
fn rooms(text: &str) -> Result<usize, String> {
    let rooms = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1..=ROOMS_MAX).contains(&rooms) { Ok(rooms) } else { Err(format!("1 to {ROOMS_MAX}")) }
}

/// Prints, and ends quietly when nobody reads any more.
fn say(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(1);
    }
}

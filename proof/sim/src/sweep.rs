//! Many seeds on all cores, with a report that tells which ranges are done: an interrupted sweep goes on where it was.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    ops::Range,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Context as _;

use crate::{
    draw,
    run::{Outcome, run},
    schedule::What,
    world::Knobs,
};

/// Seeds done in one go by one thread, and one line of the report.
const CHUNK: u64 = 250;
/// Gaps are counted in classes of so many milliseconds.
const GAP_CLASS_MS: u32 = 50;

/// Many seeds.
#[derive(clap::Args)]
pub(crate) struct Sweep {
    /// From the first to before the last, as in `0..20000`.
    #[arg(long, value_parser = crate::range)]
    seeds: Range<u64>,
    /// Threads; as many as there are cores if not told.
    #[arg(long)]
    jobs: Option<usize>,
    /// Where to keep what is done.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Runs each seed twice and compares the traces.
    #[arg(long)]
    twice: bool,
    /// Goes on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Gateways tell nobody: such a sweep must fail.
    #[arg(long)]
    no_failover: bool,
}

/// What many runs came to.
#[derive(Default)]
struct Totals {
    runs: u64,
    events: u64,
    asks: u64,
    told: u64,
    moves: u64,
    excused: u64,
    faults: [u64; What::KINDS.len()],
    faults_least: Option<u32>,
    gaps: BTreeMap<u32, u64>,
    failures: Vec<(u64, String)>,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.events += outcome.events;
        self.asks += outcome.asks;
        self.told += outcome.told;
        self.moves += outcome.moves;
        self.excused += outcome.excused_losses;
        for (sum, count) in self.faults.iter_mut().zip(outcome.faults) {
            *sum += u64::from(count);
        }
        if outcome.violation.is_none() {
            let faults = outcome.faults.iter().sum::<u32>();
            self.faults_least = Some(self.faults_least.map_or(faults, |least| least.min(faults)));
        }
        for gap in &outcome.gaps {
            *self.gaps.entry(gap / GAP_CLASS_MS).or_default() += 1;
        }
    }

    fn merge(&mut self, other: Totals) {
        self.runs += other.runs;
        self.events += other.events;
        self.asks += other.asks;
        self.told += other.told;
        self.moves += other.moves;
        self.excused += other.excused;
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
        self.faults_least = self.faults_least.into_iter().chain(other.faults_least).min();
        for (class, count) in other.gaps {
            *self.gaps.entry(class).or_default() += count;
        }
        self.failures.extend(other.failures);
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
}

impl Sweep {
    /// Runs it. Returns whether any seed failed.
    pub(crate) fn run(&self) -> anyhow::Result<bool> {
        let done = self.done()?;
        let chunks: Vec<Range<u64>> = (self.seeds.start / CHUNK..self.seeds.end.div_ceil(CHUNK))
            .map(|n| (n * CHUNK).max(self.seeds.start)..((n + 1) * CHUNK).min(self.seeds.end))
            .filter(|chunk| !done.contains(&(chunk.start, chunk.end)))
            .collect();
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let totals = Mutex::new(Totals::default());
        let began = Instant::now();
        let jobs = self.jobs.or_else(|| thread::available_parallelism().ok().map(Into::into));
        thread::scope(|scope| {
            for _ in 0..jobs.unwrap_or(1) {
                scope.spawn(|| self.work(&chunks, &next, &stop, &totals));
            }
        });
        let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.tell(&totals, began.elapsed().as_secs_f64());
        Ok(!totals.failures.is_empty())
    }

    /// One thread's share.
    fn work(
        &self,
        chunks: &[Range<u64>],
        next: &AtomicU64,
        stop: &AtomicBool,
        totals: &Mutex<Totals>,
    ) {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed) as usize;
            let Some(chunk) = chunks.get(at) else { return };
            let (part, whole) = self.chunk(chunk.clone(), stop);
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            if whole {
                self.note(chunk, &part);
            }
            totals.merge(part);
        }
    }

    fn chunk(&self, seeds: Range<u64>, stop: &AtomicBool) -> (Totals, bool) {
        let knobs = Knobs { no_failover: self.no_failover };
        let mut totals = Totals::default();
        for seed in seeds {
            if stop.load(Ordering::Relaxed) {
                return (totals, false);
            }
            let outcome = run(draw::schedule(seed), knobs);
            totals.add(&outcome);
            let mut failure = outcome.violation.as_ref().map(|found| {
                format!(
                    "{} at {:.3} s: {}",
                    found.rule,
                    found.at.as_nanos() as f64 / 1e9,
                    found.what
                )
            });
            if self.twice && run(draw::schedule(seed), knobs).hash != outcome.hash {
                failure = Some("runs of the same seed differ".to_owned());
            }
            if let Some(failure) = failure {
                println!("seed {seed}: {failure}");
                totals.failures.push((seed, failure));
                if !self.keep_going {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
        (totals, true)
    }

    /// Ranges that the report has as done.
    fn done(&self) -> anyhow::Result<Vec<(u64, u64)>> {
        let Some(path) = self.report.as_ref().filter(|path| path.exists()) else {
            return Ok(Vec::new());
        };
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let ranges = text.lines().filter_map(|line| {
            let (from, to) =
                line.strip_prefix("done ")?.split_whitespace().next()?.split_once("..")?;
            Some((from.parse().ok()?, to.parse().ok()?))
        });
        Ok(ranges.collect())
    }

    fn note(&self, chunk: &Range<u64>, part: &Totals) {
        let Some(path) = &self.report else { return };
        let mut line = format!(
            "done {}..{} events {} faults {} told {} moves {} failures {}\n",
            chunk.start,
            chunk.end,
            part.events,
            part.faults.iter().sum::<u64>(),
            part.told,
            part.moves,
            part.failures.len()
        );
        for (seed, failure) in &part.failures {
            line.push_str(&format!("failed {seed} {failure}\n"));
        }
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            eprintln!("the report {}: {error}", path.display());
        }
    }

    fn tell(&self, totals: &Totals, seconds: f64) {
        let runs = totals.runs.max(1);
        println!(
            "{} schedules in {seconds:.1} s: {:.0} a second; events {} each; at least {} faults each, {:.1} on average",
            totals.runs,
            totals.runs as f64 / seconds.max(0.001),
            totals.events / runs,
            totals.faults_least.unwrap_or(0),
            totals.faults.iter().sum::<u64>() as f64 / runs as f64,
        );
        let faults: Vec<String> = What::KINDS
            .iter()
            .zip(totals.faults)
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        println!("faults: {}", faults.join(", "));
        println!(
            "asks {}, told {}, moves {}, sessions lost to cuts of their own {}; out of the call: p50 {} ms, p95 {} ms, p99 {} ms",
            totals.asks,
            totals.told,
            totals.moves,
            totals.excused,
            totals.gap(500),
            totals.gap(950),
            totals.gap(990)
        );
        println!("failed: {}", totals.failures.len());
    }
}

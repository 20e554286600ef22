//! Many seeds on all cores, with a report that tells which ranges are done: an interrupted sweep goes on where it was.

mod totals;

use std::{
    fs,
    io::Write as _,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use self::totals::Totals;
use crate::{draw, run::run, say::say, world::Knobs};

/// Seeds done in one go by one thread, and one line of the report while it runs.
const CHUNK: u64 = 250;
/// Between two words on how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Seeds whose traces tell one build from another.
const FINGERPRINT_SEEDS: Range<u64> = 0..4;

/// Many seeds.
#[derive(clap::Args)]
pub(crate) struct Sweep {
    /// From the first to before the last, as in `0..20000`.
    #[arg(long, value_parser = crate::range)]
    seeds: Range<u64>,
    /// Threads; as many as there are cores if not told.
    #[arg(long)]
    jobs: Option<usize>,
    /// Where to keep what is done; a sweep with the same file goes on where the last one was
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

/// A line of the report.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first: what built the runs that follow.
    Build { fingerprint: String },
    /// Seeds that are done: a chunk, or as many beside each other as there are when the report is next read.
    Done { seeds: Range<u64>, totals: Totals },
}

/// How far the sweep is.
struct Progress {
    began: Instant,
    told_at: Instant,
    /// Runs of earlier sweeps.
    before: u64,
    wanted: u64,
}

impl Progress {
    fn tell(&mut self, totals: &Totals) {
        if self.told_at.elapsed() < PROGRESS_INTERVAL {
            return;
        }
        self.told_at = Instant::now();
        let rate = (totals.runs - self.before) as f64 / self.began.elapsed().as_secs_f64();
        let left = self.wanted.saturating_sub(totals.runs) as f64 / rate.max(0.001);
        eprintln!(
            "{} of {} schedules, {rate:.0} a second, {} failed, {:.0} s left",
            totals.runs,
            self.wanted,
            totals.failures.len(),
            left
        );
    }
}

impl Sweep {
    /// Runs it. Returns whether any seed failed, or had too few faults to prove anything.
    pub(crate) fn run(&self) -> anyhow::Result<bool> {
        let (done, before) = match &self.report {
            Some(path) => self.done(path)?,
            None => (Vec::new(), Totals::default()),
        };
        let chunks = missing(&self.seeds, &done);
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let began = Instant::now();
        let wanted = before.runs + chunks.iter().map(|chunk| chunk.end - chunk.start).sum::<u64>();
        let progress = Progress { began, told_at: began, before: before.runs, wanted };
        let ran_before = before.runs;
        let totals = Mutex::new((before, progress));
        let jobs = self.jobs.or_else(|| thread::available_parallelism().ok().map(Into::into));
        thread::scope(|scope| {
            for _ in 0..jobs.unwrap_or(1) {
                scope.spawn(|| self.work(&chunks, &next, &stop, &totals));
            }
        });
        let (totals, _) = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
        if ran_before > 0 {
            say(format_args!("{ran_before} schedules were done before"));
        }
        totals.tell(ran_before, began.elapsed().as_secs_f64());
        if let Some(path) = &self.report {
            self.done(path)?;
        }
        Ok(!totals.failures.is_empty() || !totals.has_enough_faults())
    }

    /// One thread's share.
    fn work(
        &self,
        chunks: &[Range<u64>],
        next: &AtomicU64,
        stop: &AtomicBool,
        totals: &Mutex<(Totals, Progress)>,
    ) {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed) as usize;
            let Some(chunk) = chunks.get(at) else { return };
            let (part, whole) = self.chunk(chunk.clone(), stop);
            let mut guard = totals.lock().unwrap_or_else(PoisonError::into_inner);
            let (totals, progress) = &mut *guard;
            totals.merge(part.clone());
            if let Some(path) = self.report.as_ref().filter(|_| whole) {
                let line = Line::Done { seeds: chunk.clone(), totals: part };
                if let Err(error) = append(path, &line) {
                    eprintln!("the report {}: {error:#}", path.display());
                }
            }
            progress.tell(totals);
        }
    }

    /// What came of some seeds, and whether all of them were run.
    fn chunk(&self, seeds: Range<u64>, stop: &AtomicBool) -> (Totals, bool) {
        let knobs = self.knobs();
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
                let heard = say(format_args!("seed {seed}: {failure}"));
                totals.failures.push((seed, failure));
                // A report is for later.
                let for_nobody = !heard && self.report.is_none();
                if !self.keep_going || for_nobody {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
        (totals, true)
    }

    fn knobs(&self) -> Knobs {
        Knobs { no_failover: self.no_failover }
    }

    /// Which of these seeds the report has as done, and what they came to. Writes it anew with a line for all that are beside
    /// each other.
    ///
    /// # Errors
    /// When the report cannot be read or written, is none, or is another build's.
    fn done(&self, path: &Path) -> anyhow::Result<(Vec<Range<u64>>, Totals)> {
        let runs = FINGERPRINT_SEEDS.map(|seed| run(draw::schedule(seed), self.knobs()).hash);
        let ours = runs.fold(0, |all: u64, hash| all.rotate_left(1) ^ hash);
        let ours = format!("{ours:016x}");
        if !path.exists() {
            append(path, &Line::Build { fingerprint: ours })?;
            return Ok((Vec::new(), Totals::default()));
        }
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut lines = text.lines().map(serde_json::from_str::<Line>);
        match lines.next() {
            Some(Ok(Line::Build { fingerprint })) if fingerprint == ours => {}
            Some(Ok(Line::Build { fingerprint })) => anyhow::bail!(
                "{}: its runs are another build's ({fingerprint}, this one is {ours}): name another file",
                path.display()
            ),
            _ => anyhow::bail!("{}: not a sweep's report", path.display()),
        }
        // The last line may have been cut off: its chunk is run again.
        let mut parts: Vec<(Range<u64>, Totals)> = lines
            .map_while(Result::ok)
            .filter_map(|line| match line {
                Line::Done { seeds, totals } => Some((seeds, totals)),
                Line::Build { .. } => None,
            })
            .collect();
        parts.sort_by_key(|(seeds, _)| seeds.start);
        let mut whole: Vec<(Range<u64>, Totals)> = Vec::new();
        for (seeds, part) in parts {
            match whole.last_mut().filter(|(before, _)| before.end == seeds.start) {
                Some((before, totals)) => {
                    before.end = seeds.end;
                    totals.merge(part);
                }
                None => whole.push((seeds, part)),
            }
        }
        write(path, ours, &whole)?;
        let (mut done, mut totals) = (Vec::new(), Totals::default());
        for (seeds, part) in whole {
            let is_inside = self.seeds.start <= seeds.start && seeds.end <= self.seeds.end;
            let is_outside = seeds.end <= self.seeds.start || self.seeds.end <= seeds.start;
            anyhow::ensure!(
                is_inside || is_outside,
                "{}: it has {seeds:?} in one, a part of which you ask for: ask for all of it, or name another file",
                path.display()
            );
            if is_inside {
                done.push(seeds);
                totals.merge(part);
            }
        }
        Ok((done, totals))
    }
}

/// What is left of `seeds` beside `done`, which are in order and do not touch each other; in chunks.
fn missing(seeds: &Range<u64>, done: &[Range<u64>]) -> Vec<Range<u64>> {
    let starts = [seeds.start].into_iter().chain(done.iter().map(|it| it.end));
    let ends = done.iter().map(|it| it.start).chain([seeds.end]);
    let gaps = starts.zip(ends).filter(|(start, end)| start < end);
    let chunks = gaps.flat_map(|(start, end)| {
        (start / CHUNK..end.div_ceil(CHUNK))
            .map(move |n| (n * CHUNK).max(start)..((n + 1) * CHUNK).min(end))
    });
    chunks.collect()
}

/// Writes the report anew, in one step.
fn write(path: &Path, fingerprint: String, parts: &[(Range<u64>, Totals)]) -> anyhow::Result<()> {
    let next = path.with_extension("next");
    if next.exists() {
        fs::remove_file(&next)?;
    }
    append(&next, &Line::Build { fingerprint })?;
    for (seeds, totals) in parts {
        append(&next, &Line::Done { seeds: seeds.clone(), totals: totals.clone() })?;
    }
    fs::rename(&next, path).with_context(|| format!("writing {}", path.display()))
}

fn append(path: &Path, line: &Line) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(seeds: Range<u64>, report: &Path) -> Sweep {
        Sweep {
            seeds,
            jobs: Some(1),
            report: Some(report.to_owned()),
            twice: false,
            keep_going: true,
            no_failover: false,
        }
    }

    #[test]
    fn a_sweep_goes_on_where_the_report_ends() {
        let path = std::env::temp_dir().join(format!("outlast-sweep-{}", std::process::id()));
        assert!(!sweep(248..252, &path).run().unwrap());
        let (first, more, left) = (248..252, 248..255, 255..260);
        let (done, totals) = sweep(248..255, &path).done(&path).unwrap();
        assert_eq!((done, totals.runs), (vec![first], 4));
        // Only what is missing is run.
        assert!(!sweep(248..255, &path).run().unwrap());
        let (done, totals) = sweep(248..255, &path).done(&path).unwrap();
        assert_eq!((done, totals.runs), (vec![more], 7));
        assert!(sweep(250..255, &path).done(&path).is_err(), "a part of what is told in one");
        // Cut off in the middle of a line.
        assert!(!sweep(258..260, &path).run().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 9]).unwrap();
        let (done, _) = sweep(248..260, &path).done(&path).unwrap();
        assert_eq!(missing(&(248..260), &done), vec![left]);
        fs::write(&path, "{\"build\":{\"fingerprint\":\"0\"}}\n").unwrap();
        let error = sweep(0..1, &path).done(&path).unwrap_err().to_string();
        assert!(error.contains("another build's"), "{error}");
        fs::write(&path, "seeds").unwrap();
        assert!(sweep(0..1, &path).done(&path).is_err());
        fs::remove_file(path).unwrap();
    }
}

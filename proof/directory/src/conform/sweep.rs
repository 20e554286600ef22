//! Many traces, several at once, and a report of the first that differs.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::future::try_join_all;
use outlast_engines::Engine;

use super::{
    ground::{Grounds, LANES_MAX},
    play::{Difference, Reads, Tally, play},
    shrink::shrink,
    trace::Trace,
};

/// How often a trace plays before it counts as one that does not differ, while one that differs is shortened: not every
/// mistake is made every time.
const REPLAYS: usize = 4;

/// Which traces, and how.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// One trace each.
    pub seeds: Range<u64>,
    /// How many play at once; at most [`LANES_MAX`], at least 1.
    pub lanes: usize,
    /// What reads may be answered from.
    pub reads: Reads,
}

impl Sweep {
    /// Plays all traces on `engine`. `played` is told after each how many are done.
    ///
    /// # Errors
    /// A report for people: the first trace that differs, shortened.
    pub async fn run(
        &self,
        engine: &Arc<dyn Engine>,
        grounds: &Grounds,
        played: impl Fn(u64),
    ) -> Result<Tally, String> {
        let next = AtomicU64::new(self.seeds.start);
        let done = AtomicU64::new(0);
        let lanes = (0..self.lanes.clamp(1, LANES_MAX)).map(async |lane| {
            let mut tally = Tally::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if !self.seeds.contains(&seed) {
                    return Ok(tally);
                }
                let trace = Trace::draw(seed);
                let ground = grounds.next(lane, engine.partitions());
                match play(engine, &trace, &ground, self.reads).await {
                    Ok(more) => tally.add(more),
                    Err(difference) => return Err((trace, difference)),
                }
                played(done.fetch_add(1, Ordering::Relaxed) + 1);
            }
        });
        match try_join_all(lanes).await {
            Ok(tallies) => {
                let mut sum = Tally::default();
                tallies.into_iter().for_each(|tally| sum.add(tally));
                Ok(sum)
            }
            Err((trace, difference)) => {
                Err(self.report(engine, grounds, &trace, &difference).await)
            }
        }
    }

    async fn report(
        &self,
        engine: &Arc<dyn Engine>,
        grounds: &Grounds,
        trace: &Trace,
        difference: &Difference,
    ) -> String {
        let again = async |candidate: Trace| {
            for _ in 0..REPLAYS {
                let ground = grounds.next(0, engine.partitions());
                if let Err(found) = play(engine, &candidate, &ground, self.reads).await {
                    return Some(found);
                }
            }
            None
        };
        let (seed, steps) = (trace.seed, trace.steps.len());
        let (what, lines) = match shrink(trace, again).await {
            Some((short, found)) => {
                let what = format!("shortened from {steps} steps to {}", short.steps.len());
                (what, found.lines)
            }
            None => {
                let what = "not again when played alone: as it was, with others beside it";
                (what.to_owned(), difference.lines.clone())
            }
        };
        format!("seed {seed} differs from the table; {what}:\n  {}", lines.join("\n  "))
    }
}

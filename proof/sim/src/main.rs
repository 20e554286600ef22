//! Outlast under seeded schedules of failures: the real roles in a world of one process, where time, network, clocks and
//! people are simulated. One seed is one run, bit for bit.

// It panics when nobody reads any more; `say` does not.
#![warn(clippy::print_stdout)]

mod chance;
mod client;
mod conn;
mod disk;
mod draw;
mod ending;
mod engine;
mod event;
mod fault;
mod flaps;
mod gateway;
mod geography;
mod names;
mod network;
mod node;
mod observer;
mod oracle;
mod packet;
mod process;
mod queue;
mod retry;
mod rights;
mod run;
mod say;
mod scale;
mod schedule;
mod settings;
mod shard;
mod shrink;
mod stream;
mod sweep;
#[cfg(test)]
mod tests;
mod trace;
mod upkeep;
mod visit;
mod world;

use std::{alloc::System, fs, ops::Range, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::{say::say, schedule::Schedule, world::Knobs};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Runs the control plane's real roles under seeded schedules of failures.
#[derive(Parser)]
#[command(name = "outlast-sim")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One run, and what came of it.
    Run(Which),
    /// One run as a timeline for people.
    Replay(Which),
    /// Many seeds.
    Sweep(sweep::Sweep),
    /// Takes faults away from a schedule that fails, as long as it fails, and writes the rest as a scenario.
    Shrink {
        #[command(flatten)]
        which: Which,
        /// Where to write the scenario; else it is printed.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Loses a region of a very large world, and counts what that costs.
    Scale(scale::Scale),
    /// Prints the schedule of a seed as a scenario.
    Show {
        #[command(flatten)]
        which: Which,
    },
}

/// Which schedule.
#[derive(clap::Args)]
struct Which {
    /// The schedule that this seed draws.
    #[arg(long, conflicts_with = "scenario", required_unless_present = "scenario")]
    seed: Option<u64>,
    /// The schedule in this file.
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// Gateways tell nobody, and rooms stay where they were placed first.
    #[arg(long)]
    no_failover: bool,
}

impl Which {
    fn schedule(&self) -> anyhow::Result<Schedule> {
        match (&self.seed, &self.scenario) {
            (Some(seed), _) => Ok(draw::schedule(*seed)),
            (None, Some(path)) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("reading {}", path.display()))?;
                Schedule::read(&text).with_context(|| format!("in {}", path.display()))
            }
            (None, None) => anyhow::bail!("neither seed nor scenario"),
        }
    }

    fn knobs(&self) -> Knobs {
        Knobs { no_failover: self.no_failover }
    }
}

/// `A..B`, as on the command line.
fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("seeds are told as A..B")?;
    let number = |text: &str| text.replace('_', "").parse::<u64>().map_err(|e| e.to_string());
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err("there is no seed in it".to_owned()) } else { Ok(range) }
}

fn main() -> anyhow::Result<ExitCode> {
    let fails = match Arguments::parse().command {
        Command::Run(which) => {
            let outcome = run::run(which.schedule()?, which.knobs());
            say(outcome.summary());
            outcome.violation.is_some()
        }
        Command::Replay(which) => {
            let (outcome, lines) = run::replay(which.schedule()?, which.knobs());
            let told = lines
                .into_iter()
                .map(|(time, line)| format!("{:>9.3}  {line}\n", time.as_nanos() as f64 / 1e9));
            let timeline: String = told.collect();
            say(timeline + &outcome.summary());
            outcome.violation.is_some()
        }
        Command::Sweep(sweep) => sweep.run()?,
        Command::Shrink { which, out } => {
            let shrunk = shrink::shrink(which.schedule()?, which.knobs())?;
            match out {
                Some(path) => fs::write(&path, shrunk.write())
                    .with_context(|| format!("writing {}", path.display()))?,
                None => {
                    say(shrunk.write().trim_end());
                }
            }
            false
        }
        Command::Scale(scale) => {
            scale.run()?;
            false
        }
        Command::Show { which } => {
            say(which.schedule()?.write().trim_end());
            false
        }
    };
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

//! The subcommands: what they take and what they print.

use std::{io::Write as _, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use outlast_directory_proof::{
    Consistency, Fault, FaultKind, Grounds, LANES_MAX, LOSSES_MAX, Outcome, Reads, Run, Sweep,
    connect, long_lists_come_whole,
    servers::{
        Cluster, Etcd, InProcess, Lab, Network, Programs, Sentinels, Shards, Single,
        enter_namespace,
    },
    summaries_run_out,
};
use outlast_engines::{Engine, Partition};
use outlast_runtime::entropy;
use tokio::runtime::Runtime;

/// Progress is told after so many traces.
const TOLD_EVERY: u64 = 50;
/// Most anomalies shown of one run.
const SHOWN_MAX: usize = 3;

#[derive(Args)]
pub(crate) struct Conform {
    /// Where the directory is, as in a configuration: embedded, etcd://a,b,c, redis://a, redis+sentinel://a,b,c/NAME ...
    #[arg(long)]
    engine: String,
    /// Which traces, A..B
    #[arg(long, default_value = "0..200", value_parser = range)]
    seeds: Range<u64>,
    /// How many traces play at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=LANES_MAX as i64))]
    lanes: u8,
}

impl Conform {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        Runtime::new()?.block_on(async {
            let engine = connect(&self.engine)?;
            let reads = if self.engine == "embedded" { Reads::Exact } else { Reads::Late };
            let sweep = Sweep { seeds: self.seeds.clone(), lanes: self.lanes.into(), reads };
            let all = self.seeds.end - self.seeds.start;
            let played = |done: u64| {
                if done.is_multiple_of(TOLD_EVERY) || done == all {
                    say(&format!("{done} of {all} traces"));
                }
            };
            let tally = match sweep.run(&engine, &Grounds::new()?, played).await {
                Ok(tally) => tally,
                Err(report) => {
                    say(&report);
                    return Ok(false);
                }
            };
            say(&format!(
                "{all} traces as the table: {} requests, {} asked again, {} reads from the past",
                tally.requests, tally.silent, tally.late
            ));
            let is_alone = self.engine == "embedded";
            let low = u64::from_le_bytes(entropy::bytes()?);
            Ok(long(&engine, self.seeds.start, low, is_alone).await)
        })
    }
}

/// What traces cannot show.
async fn long(engine: &Arc<dyn Engine>, seed: u64, low: u64, is_alone: bool) -> bool {
    let at = Partition(0);
    let pages = long_lists_come_whole(engine, at, seed, low).await;
    let summaries = summaries_run_out(engine, at, is_alone).await;
    let mut is_fine = true;
    for (what, came) in [("long lists come whole", pages), ("summaries run out in time", summaries)]
    {
        match came {
            Ok(()) => say(&format!("{what}: yes")),
            Err(wrong) => {
                say(&format!("{what}: no: {wrong}"));
                is_fine = false;
            }
        }
    }
    is_fine
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// A table in this process; only none and wipe
    Embedded,
    /// One etcd
    Etcd1,
    /// Three members of one etcd cluster
    Etcd,
    /// One Redis
    Redis,
    /// A primary, two replicas, three Sentinels
    Sentinel,
    /// Three primaries with a replica each
    Cluster,
    /// A Redis in each of three regions, every room in one of them
    Shards,
}

#[derive(Args)]
pub(crate) struct Histories {
    /// Which servers are started
    #[arg(long, value_enum)]
    engine: EngineName,
    /// none, kill, pause, cut, wipe or clock (of Redis: etcd does not ask the C library)
    #[arg(long, default_value = "none")]
    fault: FaultKind,
    /// How many runs; run N has the seed SEED + N
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Of the first run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Rooms that each region places a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// etcd or Redis, or Valkey, to be started instead of the installed one
    #[arg(long)]
    server: Option<PathBuf>,
    /// How many replicas a claim waits for with sentinel or cluster; as many as in a gateway if not told, which is 1
    #[arg(long)]
    replicas: Option<u32>,
    /// Shortest load, in seconds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

/// What several runs came to.
#[derive(Default)]
struct Sum {
    runs: u64,
    fine: u64,
    operations: usize,
    anomalies: usize,
    gave_up: usize,
    lost: usize,
    doubled: usize,
    outage: Duration,
}

impl Histories {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        if let Some(server) = &self.server {
            let (etcd, redis) = (server.clone(), server.clone());
            Programs { etcd, redis }.choose();
        }
        let network = match self.fault {
            FaultKind::Cut => {
                enter_namespace()?;
                Network::Regions
            }
            FaultKind::Clock => Network::Clocks,
            _ => Network::Loopback,
        };
        Runtime::new()?.block_on(async {
            let mut lab =
                tokio::task::spawn_blocking(move || start(self.engine, network)).await??;
            let mut sum = Sum::default();
            for seed in self.seed..self.seed.saturating_add(self.runs) {
                let fault = Fault::draw(seed, self.fault, lab.servers());
                let run = Run {
                    seed,
                    places_per_second: self.rate,
                    span: Duration::from_secs(self.seconds),
                    fault,
                    consistency: self.consistency(),
                    replicas: self.replicas,
                };
                let (outcome, same) =
                    run.go(lab).await.with_context(|| format!("seed {seed}, {}", run.fault))?;
                lab = same;
                sum.add(&outcome);
                say(&told(&run, &outcome));
                if !outcome.is_fine() {
                    lab.keep_logs();
                    say(&format!("  logs of the servers: {}", lab.logs().display()));
                }
            }
            say(&sum.told());
            Ok(sum.fine == sum.runs)
        })
    }

    fn consistency(&self) -> Consistency {
        match self.engine {
            EngineName::Sentinel | EngineName::Cluster => Consistency::MayLose(LOSSES_MAX),
            _ => Consistency::Linearizable,
        }
    }
}

pub(crate) fn start(engine: EngineName, network: Network) -> anyhow::Result<Box<dyn Lab>> {
    Ok(match engine {
        EngineName::Embedded => Box::new(InProcess::new()?),
        EngineName::Etcd1 => Box::new(Etcd::start(1, network)?),
        EngineName::Etcd => Box::new(Etcd::start(3, network)?),
        EngineName::Redis => Box::new(Single::start(network)?),
        EngineName::Sentinel => Box::new(Sentinels::start(network)?),
        EngineName::Cluster => Box::new(Cluster::start(network)?),
        EngineName::Shards => Box::new(Shards::start(&network)?),
    })
}

/// One run in a line, and what was wrong below it.
fn told(run: &Run, outcome: &Outcome) -> String {
    let Outcome { rooms, unknown, unavailable, outage, happened, findings, resyncs, .. } = outcome;
    let mut lines = vec![format!(
        "seed {}: {}: {rooms} rooms, {} operations, {unknown} unknown, {unavailable} unavailable, \
         outage {outage:.1?}, {resyncs} resyncs, {} anomalies, {} gave up, {} lost, {} doubled",
        run.seed,
        run.fault,
        findings.operations,
        findings.anomalies.len(),
        findings.gave_up,
        findings.lost.len(),
        findings.doubled,
    )];
    for anomaly in findings.anomalies.iter().take(SHOWN_MAX) {
        lines.push(format!("  {} in room {}:", anomaly.kind, anomaly.room));
        lines.extend(anomaly.lines.iter().map(|line| format!("    {line}")));
    }
    let mut lost: Vec<_> = findings.lost.iter().map(|lost| lost.acknowledged).collect();
    lost.sort_unstable();
    if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
        let ms = |at: &outlast_model::Time| {
            i128::from(at.as_millis()) - i128::from(happened.from.as_millis())
        };
        let (first, last) = (ms(first), ms(last));
        lines.push(format!("  lost writes were acknowledged {first} to {last} ms after the fault"));
    }
    let unrepaired = outcome.unrepaired.iter().map(|line| format!("  not repaired: {line}"));
    lines.extend(unrepaired.take(SHOWN_MAX));
    lines.extend(outcome.unnoticed.iter().take(SHOWN_MAX).map(|line| format!("  {line}")));
    lines.extend(outcome.misbeliefs.iter().take(SHOWN_MAX).map(|line| format!("  {line}")));
    lines.join("\n")
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.fine += u64::from(outcome.is_fine());
        self.operations += outcome.findings.operations;
        self.anomalies += outcome.findings.anomalies.len();
        self.gave_up += outcome.findings.gave_up;
        self.lost += outcome.findings.lost.len();
        self.doubled += outcome.findings.doubled;
        self.outage = self.outage.max(outcome.outage);
    }

    fn told(&self) -> String {
        let Sum { runs, fine, operations, anomalies, gave_up, lost, doubled, outage } = self;
        format!(
            "{runs} runs, {fine} of them fine: {operations} operations, {anomalies} anomalies, {gave_up} \
             rooms given up, {lost} acknowledged writes lost, {doubled} rooms doubled, longest outage {outage:.1?}"
        )
    }
}

/// `A..B`, as on the command line.
fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("seeds are told as A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err("there is no seed in it".to_owned()) } else { Ok(range) }
}

/// Prints, and ends quietly when nobody reads any more.
pub(crate) fn say(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(1);
    }
}

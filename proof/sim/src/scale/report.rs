//! What is run, and what is said of it.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::Context as _;
use serde::Serialize;

use super::{growth, outcome::Outcome, plots};
use crate::say::say;

/// Loses one of many regions and counts.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub(crate) struct Scale {
    /// Regions; one of them is lost.
    #[arg(long, default_value_t = 5)]
    pub(crate) regions: usize,
    /// Nodes of all regions.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) nodes: usize,
    /// Gateways of each region.
    #[arg(long, default_value_t = 2)]
    pub(crate) gateways: usize,
    /// Rooms.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) rooms: usize,
    /// People.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) clients: usize,
    /// RECONNECTs a second of one gateway; 0: what the nodes that are left can take.
    #[arg(long, default_value_t = 0)]
    pub(crate) tell_per_second: u32,
    /// Simulated seconds after the loss, at most.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Draws phases and people.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where to write figures and plots; nodes, rooms and gateways are then varied too.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) report: Option<PathBuf>,
}

/// Everything that the figures are drawn from.
#[derive(Serialize)]
struct Report {
    full: Outcome,
    /// The same with the least pace, whatever is left.
    least_pace: Outcome,
    growth: Vec<growth::Series>,
}

impl Scale {
    /// Runs it and prints the report.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let Some(folder) = &self.report else {
            self.lose_and_say();
            return Ok(());
        };
        let began = Instant::now();
        let full = self.lose_and_say();
        let least = *outlast_gateway_core::TELL_PER_SECOND.start();
        let least_pace = Scale { tell_per_second: least, ..self.clone() }.lose_and_say();
        let growth = growth::run(self, &full);
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        plots::rejoin(&folder.join("rejoin.svg"), &full, &least_pace)?;
        plots::spread(&folder.join("spread.svg"), &full)?;
        plots::messages(&folder.join("messages.svg"), &full)?;
        for series in &growth {
            plots::growth(&folder.join(format!("growth-{}.svg", series.varied)), series)?;
        }
        let path = folder.join("report.json");
        let report = serde_json::to_string(&Report { full, least_pace, growth })?;
        fs::write(&path, report).with_context(|| format!("writing {}", path.display()))?;
        say(format_args!("report in {:.0} s", began.elapsed().as_secs_f64()));
        Ok(())
    }

    pub(crate) fn lose_and_say(&self) -> Outcome {
        let began = Instant::now();
        let outcome = self.lose();
        outcome.say();
        say(format_args!("run in {:.1} s\n", began.elapsed().as_secs_f64()));
        outcome
    }
}

impl Outcome {
    fn say(&self) {
        let Outcome { scale, rest, peak, .. } = self;
        say(format_args!(
            "{} regions, {} nodes, {} gateways, {} rooms, {} people, pace {}",
            scale.regions,
            scale.nodes,
            scale.regions * scale.gateways,
            scale.rooms,
            scale.clients,
            scale.tell_per_second
        ));
        say(format_args!(
            "out {}, back {}, given up {}, refused by nodes {}, turned away by gateways {}; longest wait for a node's core {:.0} ms",
            self.out,
            self.back,
            self.given_up,
            self.refused_by_nodes,
            self.turned_away_by_gateways,
            self.core_wait_ms
        ));
        let [half, most, nearly, last] = self.back_after;
        say(format_args!(
            "back after (s): p50 {half:.1}, p95 {most:.1}, p99 {nearly:.1}, last {last:.1}"
        ));
        let nodes = self.spread.len();
        say(format_args!(
            "participants of a surviving node: least {}, mean {:.0}, p99 {}, most {}; by region {:.0?}",
            self.spread[0],
            self.spread.iter().map(|count| f64::from(*count)).sum::<f64>() / nodes as f64,
            self.spread[nodes * 99 / 100],
            self.spread[nodes - 1],
            self.spread_of_regions
        ));
        for (when, rates) in [("at rest", rest), ("at most", peak)] {
            say(format_args!(
                "a gateway {when}, a second: beats {:.0}, outlooks {:.1}, room frames {:.0}, directory {:.0}, asks {:.0}, told {:.0}; its role took {:.2} % of a core",
                rates.beats,
                rates.outlooks,
                rates.frames,
                rates.calls,
                rates.asks,
                rates.told,
                rates.cpu_percent
            ));
        }
        say(format_args!(
            "most joins and resumes of one gateway in a second: {:.0}; longest step of a role: {:.1} ms",
            self.asks_max, self.longest_step_ms
        ));
        say(format_args!(
            "view of a gateway: {} nodes, {} rooms, {:.1} MB; its role {:.1} MB; directory: {} rooms, {:.1} MB, calls a second {:.0} at rest, {:.0} at most",
            self.view_nodes,
            self.view_rooms,
            self.view_bytes as f64 / 1e6,
            self.role_bytes as f64 / 1e6,
            self.directory_rooms,
            self.directory_bytes as f64 / 1e6,
            self.directory_rest,
            self.directory_peak
        ));
    }
}

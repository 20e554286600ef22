//! The subcommand that weighs: what it takes and what it prints.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use outlast_directory_proof::{
    Weight,
    servers::{InProcess, Lab, Network, REGIONS},
};
use tokio::runtime::Runtime;

use crate::command::{EngineName, say, start};

#[derive(Args)]
pub(crate) struct Weigh {
    /// Which servers are started
    #[arg(long, value_enum)]
    engine: EngineName,
    /// Nodes of all regions together
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=3_000))]
    nodes: u16,
    /// Regions with a gateway each
    #[arg(long, default_value_t = REGIONS as u8, value_parser = clap::value_parser!(u8).range(1..=16))]
    regions: u8,
    /// New rooms a second and region
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    claims: u32,
    /// How long a room lives on average, in seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    life: u64,
    /// Rooms besides that are there from the start and stay
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    standing: u64,
    /// How long everything is counted, once as many rooms end as begin
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// What choices are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where all figures go, as JSON
    #[arg(long)]
    report: Option<PathBuf>,
}

impl Weigh {
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        let mut lab: Box<dyn Lab> = match self.engine {
            // As gateways have it, and not as histories need it.
            EngineName::Embedded => Box::new(InProcess::apart()?),
            _ => start(self.engine, Network::Loopback)?,
        };
        let weight = Weight {
            seed: self.seed,
            nodes: self.nodes.into(),
            regions: self.regions.into(),
            claims: self.claims,
            life: Duration::from_secs(self.life),
            standing: self.standing,
            span: Duration::from_secs(self.seconds),
        };
        let report = match Runtime::new()?.block_on(weight.weigh(lab.as_mut(), say)) {
            Ok(report) => report,
            Err(error) => {
                lab.keep_logs();
                let logs = lab.logs().display().to_string();
                return Err(error.context(format!("logs of the servers: {logs}")));
            }
        };
        say(&report.to_string());
        if let Some(path) = self.report {
            let write = || fs::write(&path, report.json()? + "\n");
            write().with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(report.is_fine())
    }
}

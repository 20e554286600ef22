//! `outlast directory status` and `check`.

use serde_json::{Value, json};

use super::{
    Outcome, arbiter,
    findings::{self, Finding, Level},
    look::{self, Look},
    site::Site,
    sites,
};
use crate::overrides::DirectoryOverrides;

/// Options of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    directory: DirectoryOverrides,
    /// How often each server is asked
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    probes: u8,
    /// Tell each node that gateways see alive, and not only how many a region has
    #[arg(long)]
    nodes: bool,
    /// Print JSON; it has every node
    #[arg(long, conflicts_with = "nodes")]
    json: bool,
}

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    directory: DirectoryOverrides,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How often each server is asked by a check.
const CHECK_PROBES: usize = 5;

pub(super) async fn status(args: &StatusArgs) -> anyhow::Result<Outcome> {
    let looks = looks(&sites(&args.directory)?, args.probes.into()).await;
    let name = look::name(&looks);
    if args.json {
        let directories: Vec<Value> = looks.iter().map(Look::json).collect();
        println!("{:#}", json!({ "name": name, "directories": directories }));
    } else {
        for look in &looks {
            println!("{}", look.text(args.nodes));
        }
        if let Some(name) = name {
            println!("Name of this content: {name} (wipe-test wants it; another one after a loss)");
        }
    }
    Ok(looks.iter().map(Look::outcome).max().unwrap_or(Outcome::Broken))
}

pub(super) async fn check(args: &CheckArgs) -> anyhow::Result<Outcome> {
    let sites = sites(&args.directory)?;
    let mut reports: Vec<(String, Vec<Finding>)> = Vec::new();
    for site in &sites {
        let look = Look::at(site, CHECK_PROBES).await;
        let mut found = findings::judge(&site.address.engine, &look.survey);
        found.push(arbiter::finding(site).await);
        reports.push((look.title, found));
    }
    if args.json {
        let json = |(title, found): &(String, Vec<Finding>)| json!({ "directory": title, "findings": found.iter().map(Finding::json).collect::<Vec<_>>() });
        println!("{:#}", Value::Array(reports.iter().map(json).collect()));
    } else {
        for (title, found) in &reports {
            println!("{title}");
            for finding in found {
                println!("{}", finding.text());
            }
        }
    }
    let worst = reports.iter().flat_map(|(_, found)| found).map(|finding| finding.level).max();
    Ok(match worst {
        None | Some(Level::Ok) => Outcome::Well,
        Some(Level::Warn) => Outcome::Doubtful,
        Some(Level::Fail) => Outcome::Broken,
    })
}

/// One look at each.
pub(super) async fn looks(sites: &[Site], probes: usize) -> Vec<Look> {
    let mut looks = Vec::new();
    for site in sites {
        looks.push(Look::at(site, probes).await);
    }
    looks
}

//! `outlast directory failover` and `move-leader`: another server decides, and nothing is lost by it.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use outlast_engines::{EngineKind, HostPort, Partition};
use tokio::time::{Instant, sleep};

use super::{
    Outcome, choose,
    look::{millis, table},
    seats::{self, Advice, Seat},
    site::Site,
    sites,
    witness::Witness,
};
use crate::overrides::DirectoryOverrides;

/// So many looks must all say the same before the leader is moved: one may be an accident.
const LOOKS: usize = 3;
/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// How often each member is asked in a look.
const PROBES: usize = 5;
/// Before and after a failover rooms are claimed for so long.
const AROUND: Duration = Duration::from_millis(500);
/// How long it may take until the new leader is known here.
const KNOWN_MAX: Duration = Duration::from_secs(10);
/// Between two looks who leads.
const KNOWN_INTERVAL: Duration = Duration::from_millis(20);

/// Options of `failover`.
#[derive(Debug, clap::Args)]
pub(crate) struct FailoverArgs {
    #[command(flatten)]
    directory: DirectoryOverrides,
    /// Which shard, by its region
    #[arg(long, value_name = "REGION")]
    shard: Option<String>,
    /// In a Redis Cluster: a partition, as status numbers them, whose primary is to be replaced
    #[arg(long, value_name = "N", default_value_t = 0)]
    partition: u16,
}

/// Options of `move-leader`.
#[derive(Debug, clap::Args)]
#[group(id = "where", required = true, multiple = false, args = ["to", "auto"])]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    directory: DirectoryOverrides,
    /// The member that shall lead, as the address names it
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<String>,
    /// Away from a slow region, if there is a member that is much faster
    #[arg(long)]
    auto: bool,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// Which shard, by its region
    #[arg(long, value_name = "REGION")]
    shard: Option<String>,
}

/// Another server decides, whichever is best.
pub(super) async fn failover(args: &FailoverArgs) -> anyhow::Result<Outcome> {
    let site = choose(sites(&args.directory)?, args.shard.as_deref())?;
    if site.address.engine != EngineKind::Etcd {
        return promote(&site, Partition(args.partition)).await;
    }
    let seats = seats::seats(&site.survey(PROBES).await);
    print!("{}", told(&seats));
    ensure!(seats.iter().any(|seat| seat.leads), "nobody leads: there is nothing to move");
    let best = seats::best_other(&seats).context("no other member that is reached could lead")?;
    switch(&site, &best.at).await
}

/// The member that is named leads, or the one that is much faster.
pub(super) async fn move_leader(args: &MoveArgs) -> anyhow::Result<Outcome> {
    let site = choose(sites(&args.directory)?, args.shard.as_deref())?;
    if site.address.engine != EngineKind::Etcd {
        bail!("Redis has no leader to move: see outlast directory failover");
    }
    if let Some(to) = &args.to {
        let known = member(&site, to)?;
        if args.dry_run {
            println!("{known} would lead.");
            return Ok(Outcome::Well);
        }
        return switch(&site, &known.to_string()).await;
    }
    let mut looks = Vec::new();
    let (to, now, then) = loop {
        let seats = seats::seats(&site.survey(PROBES).await);
        print!("{}", told(&seats));
        looks.push(seats);
        match seats::advise(&looks) {
            Advice::Stay(why) => {
                println!("Nothing is moved: {why}.");
                return Ok(Outcome::Well);
            }
            Advice::Move { to, now, then } if looks.len() >= LOOKS => break (to, now, then),
            Advice::Move { .. } => sleep(LOOK_PAUSE).await,
        }
    };
    println!("A claim takes {} with this leader, {} with {to}.", millis(now), millis(then));
    if args.dry_run {
        println!("{to} would lead.");
        return Ok(Outcome::Well);
    }
    switch(&site, &to).await
}

fn member(site: &Site, name: &str) -> anyhow::Result<HostPort> {
    let servers = &site.address.servers;
    let named = |server: &&HostPort| server.to_string() == name || server.host == name;
    let mut found = servers.iter().filter(named);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(_), Some(_)) => bail!("{name} is several members: write its port as well"),
        (None, _) => {
            let all: Vec<_> = servers.iter().map(ToString::to_string).collect();
            bail!("the address names no member {name}, only {}", all.join(", "))
        }
    }
}

fn told(seats: &[Seat]) -> String {
    let row = |seat: &Seat| {
        let span = |span: Option<_>| span.map_or_else(|| "unknown".to_owned(), millis);
        let leads = if seat.leads { "leads" } else { "" };
        let [here, agreed, cost] = [seat.here, seat.agreed, seat.cost].map(span);
        [seat.at.clone(), leads.to_owned(), here, agreed, cost]
    };
    let head = ["MEMBER", "", "FROM HERE", "AN AGREEMENT", "A CLAIM WOULD TAKE"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(seats.iter().map(row)).collect();
    table(&rows)
}

/// Moves the leader to the member at `to`, with a witness.
async fn switch(site: &Site, to: &str) -> anyhow::Result<Outcome> {
    let to = member(site, to)?;
    // Whoever leads must be known here.
    site.survey(1).await;
    let before = decides(site);
    if before.as_ref() == Some(&to.to_string()) {
        println!("{to} leads already.");
        return Ok(Outcome::Well);
    }
    let change = async {
        sleep(AROUND).await;
        let began = Instant::now();
        let moved = site.move_leader(&to).await;
        let took = began.elapsed();
        moved?;
        while decides(site) != Some(to.to_string()) {
            ensure!(began.elapsed() < KNOWN_MAX, "{to} does not lead after {KNOWN_MAX:?}");
            sleep(KNOWN_INTERVAL).await;
        }
        sleep(AROUND).await;
        Ok(took)
    };
    let (moved, witness) = Witness::of(site, Partition(0), change).await?;
    let outcome = verdict(witness, site).await?;
    let took = moved.with_context(|| format!("{to} was to lead"))?;
    println!(
        "{to} leads, where {} did; handed over in {}.",
        before.unwrap_or_default(),
        millis(took)
    );
    Ok(outcome)
}

/// Makes a replica decide for `at`, with a witness.
async fn promote(site: &Site, at: Partition) -> anyhow::Result<Outcome> {
    let partitions = site.engine().partitions();
    ensure!(at.0 < partitions.get(), "the partitions are 0 to {}", partitions.get() - 1);
    // Whoever decides must be known here.
    site.survey(1).await;
    let change = async {
        sleep(AROUND).await;
        let began = Instant::now();
        let words = site.promote(at).await?;
        let took = began.elapsed();
        sleep(AROUND).await;
        anyhow::Ok((words, took))
    };
    let (promoted, witness) = Witness::of(site, at, change).await?;
    let outcome = verdict(witness, site).await?;
    let (words, took) = promoted?;
    println!("{words}; it took {}.", millis(took));
    Ok(outcome)
}

async fn verdict(witness: Witness, site: &Site) -> anyhow::Result<Outcome> {
    let (lost, words) = witness.verdict(site).await?;
    println!("{words}.");
    if lost == 0 {
        return Ok(Outcome::Well);
    }
    eprintln!("outlast: {lost} acknowledged claims are lost: gateways announce their rooms again");
    Ok(Outcome::Broken)
}

fn decides(site: &Site) -> Option<String> {
    site.engine().state(Partition(0)).decides
}

//! `outlast directory`: looks at the servers of the directory, tries whether they arbitrate, lets another one decide, and proves
//! on the running system that a loss of all its data is repaired. What is judged is judged by pure functions (`findings`, `seats`);
//! calls depend on nothing here.

mod arbiter;
mod findings;
mod look;
mod seats;
mod site;
mod status;
mod switch;
mod wipe;
mod witness;

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use outlast_engines::Address;

use crate::{check, overrides::DirectoryOverrides};
pub(crate) use site::Site;

/// What to do with the directory.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tell who decides, who is reached, how fast and how far behind
    ///
    /// Asks every server that the address names a few times. Changes nothing; a database that nobody has used yet gets its name.
    #[command(after_help = EXIT_CODES)]
    Status(status::StatusArgs),
    /// Try whether the directory arbitrates, and tell which settings to look at
    ///
    /// Two askers race for a room of their own, one replaces the other, and the room is ended: what gateways do. Then each
    /// setting that matters across regions is told with what to do about it; docs/directory.md has the reasons.
    #[command(after_help = EXIT_CODES)]
    Check(status::CheckArgs),
    /// Let another server decide, without loss
    ///
    /// etcd: moves the leader to the best other member. Redis: the primary takes no writes until a replica has all of them and
    /// is promoted; one server alone has nobody. While it goes on, rooms of its own are claimed every 50 ms; all that were
    /// acknowledged must be there afterwards. Gateways go on all the while.
    #[command(after_help = EXIT_CODES)]
    Failover(switch::FailoverArgs),
    /// Move etcd's leader to a member, or away from a slow region
    ///
    /// With --auto the members are looked at three times, two seconds apart. The leader is moved only when each time the same member
    /// would be three times as fast as the leader, and faster by 50 ms: by how long answers take through each member, which is measured
    /// from here, and by the round trips that members measure between each other. For a timer, each minute.
    #[command(after_help = EXIT_CODES)]
    MoveLeader(switch::MoveArgs),
    /// Delete everything in the directory, and watch the gateways fill it again
    ///
    /// For a running system: calls do not notice. Only keys of Outlast are deleted. Exits with 1 when fewer than 99 % of the
    /// rooms are back in time; some may have been closed meanwhile.
    #[command(after_help = EXIT_CODES)]
    WipeTest(wipe::WipeArgs),
}

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well, or it is done
  1  it is not: nobody decides, a check fails, nothing was moved, rooms are missing
  2  the command line is wrong
  3  it works, and something is to be looked at: a server that is not reached, a warning

Where the directory is, and its password files and certificates, comes from --config, from the variables or from the flags
that `outlast serve` takes too.

Examples:
  outlast directory status --config outlast.toml
  outlast directory check --directory etcd://etcd-eu,etcd-us,etcd-ap --json
  outlast directory move-leader --to etcd-us:2379 --config outlast.toml";

/// How it went, as the exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Well,
    Doubtful,
    Broken,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        match outcome {
            Outcome::Well => ExitCode::SUCCESS,
            Outcome::Broken => ExitCode::FAILURE,
            Outcome::Doubtful => ExitCode::from(3),
        }
    }
}

/// Does it, and tells on standard output how it went.
pub(crate) fn run(command: &Command) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(carry_out(command)),
        Err(error) => Err(error.into()),
    };
    done.map_or_else(
        |error| {
            eprintln!("outlast: {error:#}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

async fn carry_out(command: &Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Status(args) => status::status(args).await,
        Command::Check(args) => status::check(args).await,
        Command::Failover(args) => switch::failover(args).await,
        Command::MoveLeader(args) => switch::move_leader(args).await,
        Command::WipeTest(args) => wipe::run(args).await,
    }
}

/// Connects to all directories that the address names: one, or each shard's.
fn sites(flags: &DirectoryOverrides) -> anyhow::Result<Vec<Site>> {
    let (address, access) = check::load_directory(&flags.0)?;
    match address {
        Address::Embedded => bail!(
            "the directory is embedded: each gateway has its own in its memory, and there is no server to look at. Name another \
             one with --config or --directory"
        ),
        Address::Shared(shared) => Ok(vec![Site::connect(None, shared, &access)?]),
        Address::Sharded(mut shards) => {
            // As gateways number them.
            shards.sort_by(|(one, _), (other, _)| one.cmp(other));
            let site = |(region, shared)| Site::connect(Some(region), shared, &access);
            shards.into_iter().map(site).collect()
        }
    }
}

/// The one that `shard` names; without a name there must be one only.
fn choose(mut sites: Vec<Site>, shard: Option<&str>) -> anyhow::Result<Site> {
    let names: Vec<_> = sites.iter().filter_map(|site| site.region.clone()).collect();
    let names: Vec<_> = names.iter().map(outlast_model::RegionName::as_str).collect();
    let names = names.join(", ");
    match shard {
        None if sites.len() > 1 => {
            bail!("there are several shards: choose one with --shard ({names})")
        }
        None => {}
        Some(name) => {
            sites.retain(|site| site.region.as_ref().is_some_and(|region| region.as_str() == name));
        }
    }
    match sites.pop() {
        Some(site) => Ok(site),
        None if names.is_empty() => bail!("this directory has no shards: leave --shard away"),
        None => bail!("there is no such shard; there are {names}"),
    }
}

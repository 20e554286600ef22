//! `outlast-lab`: a lab in the background, led from the command line.

// It panics when nobody reads any more; `show::say` does not.
#![warn(clippy::print_stdout)]

mod background;
mod measure;
mod show;

use std::{
    collections::BTreeMap, env, fs, os::unix::process::CommandExt as _, path::PathBuf,
    process::ExitCode, time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use outlast_lab::{Order, Plan, Status, ask, inside_command, labs, listens, sweep};
use serde_json::Value;

use crate::show::say;

const LONG: &str = "\
Regions and client sites as network namespaces on this machine, and between them a wide-area network that delays, loses,
reorders, limits and cuts as it is told. It talks to nobody outside.

  outlast-lab up                                 three regions, 80/150/220 ms apart, and clients near each
  outlast-lab exec us.db redis-server --save ''  a program at a host
  outlast-lab cut eu us                          eu and us no longer hear each other
  outlast-lab cut eu us --one-way                us no longer hears eu
  outlast-lab black-hole ap                      nobody reaches ap, and nobody is told
  outlast-lab shape near-eu eu loss=0.05         lose 5 % of the packets, both ways
  outlast-lab status                             what each way carried and dropped, and why
  outlast-lab heal                               lift all cuts and black holes
  outlast-lab down                               end it, and what runs in it

A place is a site (eu) or a host in it (eu.db). A cut or a black hole of a site is one of all its hosts; within a site that
is a black hole, its hosts still hear each other.

It needs root. Without root, `outlast-lab rootless` opens a shell in which everything here works.";

const SHAPE: &str = "\
What a way may have (each direction by itself; what is not given stays):

  delay_ms=40          from the sender to the receiver
  jitter_ms=10         added to each packet's delay: from nothing to this
  overtaking=true      jitter may let packets overtake each other
  loss=0.05            probability that a packet is lost, each by itself
  burst={start=0.01, end=0.2, loss=0.9}
                       loss in bursts: probabilities, at each packet, that one starts and ends, and of loss within it
  duplicate=0.01       probability that a packet arrives twice
  reorder=0.01         probability that a packet is held back
  reorder_by_ms=10     for how long
  rate=5000000         bits a second, IP headers included; at least 8000
  queue_ms=100         longest that a packet waits for the rate; others are dropped
  burst=none rate=none without that again

Between two sites it is for all their hosts together, between two hosts for these alone.";

/// The project's network laboratory.
#[derive(Parser)]
#[command(name = "outlast-lab", long_about = LONG)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring a lab up in the background, and sweep what dead ones left
    Up(Up),
    /// End a lab, and what still runs in it
    Down(Which),
    /// Print the plan that `up` takes without another; a copy of it is a beginning
    Plan,
    /// Tell hosts, faults, and what each way carried and dropped
    Status {
        /// All of it, as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Run a program at a host
    Exec {
        #[command(flatten)]
        which: Which,
        /// Such as eu.db
        host: String,
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        program: Vec<String>,
    },
    /// Cut the way between two places
    Cut {
        /// Where from
        a: String,
        /// Where to
        b: String,
        /// Leave the way back
        #[arg(long)]
        one_way: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Let everything to and from a place vanish, silently
    BlackHole {
        /// A site or a host
        place: String,
        #[command(flatten)]
        which: Which,
    },
    /// Lift all faults, the black hole at a place, or the cuts between two
    Heal {
        /// None, one or two
        #[arg(num_args = 0..=2)]
        places: Vec<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Change what the way between two places does to packets
    #[command(after_help = SHAPE)]
    Shape {
        /// Where from
        a: String,
        /// Where to
        b: String,
        /// Such as loss=0.05
        #[arg(required = true, value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// Leave the way back as it is
        #[arg(long)]
        one_way: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Put all ways back to the plan
    Unshape(Which),
    /// Run a program, or a shell, where labs need no root and leave nothing behind
    Rootless {
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
    /// Measure how exact delays are here, and how many packets a core forwards
    Measure {
        /// For how long to send, each time
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
    },
    /// The process in the background: reads a plan, and takes orders
    #[command(hide = true)]
    Serve,
}

#[derive(Args)]
struct Up {
    /// A file with a plan; see `outlast-lab plan`
    #[arg(long)]
    plan: Option<PathBuf>,
    /// Three regions, each with a database and a client, all so many milliseconds apart (round trip)
    #[arg(long, value_name = "MS", conflicts_with = "plan")]
    flat: Option<u64>,
    /// All chance comes from it; another than the plan's
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Args)]
struct Which {
    /// Which lab, when there are several
    #[arg(long, env = "OUTLAST_LAB", value_name = "ID")]
    lab: Option<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("outlast-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(up) => {
            let plan = plan(&up)?;
            let id = background::start(&plan)?;
            say(show::up(&ask(&id, &Order::Status)?))?;
        }
        Command::Down(which) => down(&which)?,
        Command::Plan => say(include_str!("../plans/three-regions.toml").trim_end())?,
        Command::Status { json, which } => {
            let status = tell(&which, Order::Status)?;
            say(if json { serde_json::to_string_pretty(&status)? } else { show::status(&status) })?;
        }
        Command::Exec { which, host, program } => return exec(&which, &host, &program),
        Command::Cut { a, b, one_way, which } => faults(&which, Order::Cut { a, b, one_way })?,
        Command::BlackHole { place, which } => faults(&which, Order::BlackHole { place })?,
        Command::Heal { places, which } => faults(&which, Order::Heal { places })?,
        Command::Shape { a, b, set, one_way, which } => {
            let set = set.iter().map(|pair| field(pair)).collect::<Result<BTreeMap<_, _>, _>>()?;
            let order = Order::Shape { a: a.clone(), b: b.clone(), set, one_way };
            say(show::shapes(&tell(&which, order)?, &a, &b))?;
        }
        Command::Unshape(which) => {
            tell(&which, Order::Unshape)?;
        }
        Command::Rootless { program } => return rootless(program),
        Command::Measure { seconds } => measure::all(Duration::from_secs(seconds))?,
        Command::Serve => background::serve()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(up: &Up) -> anyhow::Result<Plan> {
    let mut plan = match (&up.plan, up.flat) {
        (Some(path), _) => {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Plan::read(&text).with_context(|| path.display().to_string())?
        }
        (None, Some(milliseconds)) => Plan::flat(Duration::from_millis(milliseconds)),
        (None, None) => Plan::three_regions(),
    };
    plan.seed = up.seed.unwrap_or(plan.seed);
    plan.check()?;
    Ok(plan)
}

fn down(which: &Which) -> anyhow::Result<()> {
    let swept = sweep()?;
    if !swept.is_empty() {
        say(format_args!("swept what dead labs left: {}", swept.join(" ")))?;
    }
    // Who wanted the dead ones gone has what was wanted.
    if which.lab.is_none() && !swept.is_empty() && !labs()?.iter().any(|id| listens(id)) {
        return Ok(());
    }
    let status = tell(which, Order::Down)?;
    say(format_args!("lab {} is down", status.id))?;
    Ok(())
}

fn faults(which: &Which, order: Order) -> anyhow::Result<()> {
    say(show::faults(&tell(which, order)?))?;
    Ok(())
}

/// Asks the lab that is meant.
fn tell(which: &Which, order: Order) -> anyhow::Result<Status> {
    let id = match &which.lab {
        Some(id) => id.clone(),
        None => {
            let mut up = labs()?;
            up.retain(|id| listens(id));
            match up.as_slice() {
                [] => bail!("no lab is up: `outlast-lab up` makes one"),
                [one] => one.clone(),
                several => bail!("several labs are up; choose with --lab: {}", several.join(" ")),
            }
        }
    };
    Ok(ask(&id, &order)?)
}

fn exec(which: &Which, host: &str, program: &[String]) -> anyhow::Result<ExitCode> {
    let status = tell(which, Order::Status)?;
    let mut fits = status
        .hosts
        .iter()
        .filter(|view| view.name == host || view.name.split('.').next() == Some(host));
    let (Some(view), None) = (fits.next(), fits.next()) else {
        let names: Vec<&str> = status.hosts.iter().map(|view| view.name.as_str()).collect();
        bail!("{host:?} is not one host; there are {}", names.join(", "));
    };
    let (program, arguments) = program.split_first().context("which program?")?;
    let mut command = inside_command(&view.namespace, view.resolv.as_deref(), program);
    Err(command.args(arguments).exec()).context("nsenter, of the package util-linux")
}

fn rootless(mut program: Vec<String>) -> anyhow::Result<ExitCode> {
    if program.is_empty() {
        program.push(env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned()));
    }
    let (program, arguments) = program.split_first().context("which program?")?;
    let status = outlast_lab::alone(program.as_ref())?.args(arguments).status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// `name=value`, where the value is TOML, or `none`.
fn field(pair: &str) -> anyhow::Result<(String, Value)> {
    let (name, value) =
        pair.split_once('=').with_context(|| format!("{pair:?} is not name=value"))?;
    if value == "none" {
        return Ok((name.to_owned(), Value::Null));
    }
    let table: toml::Table =
        format!("value = {value}").parse().with_context(|| format!("{name}: {value}"))?;
    Ok((name.to_owned(), serde_json::to_value(&table["value"])?))
}

//! The command: traces against an engine, and histories on servers of its own.

// It panics when nobody reads any more; `say` does not.
#![warn(clippy::print_stdout)]

mod command;
mod table_command;
mod weigh;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Proves that an engine of the directory means what the table means.
///
/// 'conform' asks one after the other and compares every answer. 'histories' asks from three regions at once, breaks servers
/// meanwhile, and looks for an order of all requests in which one table would have given the same answers. 'table' measures
/// what clients of real gateways notice of such faults, 'weight' what an engine costs.
#[derive(Parser)]
#[command(name = "outlast-directory-proof", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  outlast-directory-proof conform --engine embedded --seeds 0..1000
  outlast-directory-proof conform --engine etcd://127.0.0.1:2379 --seeds 0..300
  outlast-directory-proof histories --engine etcd --fault kill --runs 20 --seed 1
  outlast-directory-proof histories --engine sentinel --fault cut --runs 5 --seed 7
  outlast-directory-proof table --engine etcd --fault all --runs 20 --report table.json
  outlast-directory-proof table --engine etcd --fault all-wiped --span 600
  outlast-directory-proof weight --engine etcd --nodes 1000 --claims 50 --seconds 60 --report etcd.json

What is printed of a failure begins with its seed: the same command with that seed does the same again, as far as servers
and networks do. Exits with 0 when nothing was wrong, else with 1.";

#[derive(Subcommand)]
enum Command {
    /// Seeded traces on an engine that runs already, compared with the table answer by answer
    ///
    /// Uses rooms and regions that nobody else uses, so the directory need not be empty, but it must be a test's: rooms stay
    /// in it. The first trace that differs is shortened and printed with every answer.
    Conform(command::Conform),
    /// Histories of many askers on servers of its own, with a fault in the middle of each
    ///
    /// Each run: three regions place the same rooms at the same time, replace, end and look up; a fault; everything is read,
    /// announced again as nodes do, and read once more. An anomaly is a room whose answers no order explains (for sentinel
    /// and cluster: not even with acknowledged writes lost, which are counted), a generation that went back, or two winners.
    Histories(command::Histories),
    /// What clients notice: joins on real gateways and nodes in three emulated regions while the directory is broken
    ///
    /// Each run makes three regions 100 ms apart, starts a gateway and nodes and the engine's servers in each, joins known and
    /// new rooms at a steady pace, breaks something, heals it, and looks for every room in the database. Needs no root where the
    /// kernel gives namespaces to everybody; the network of the machine is not touched.
    Table(table_command::Table),
    /// What the servers of an engine cost under the load of many nodes and a steady stream of new rooms
    ///
    /// Starts servers and one gateway a region, waits until as many rooms end as begin, and counts CPU, memory, bytes, answers
    /// and what is kept. Exits with 1 when a request came to anything but the answer that it should have.
    Weight(weigh::Weigh),
}

fn main() -> anyhow::Result<ExitCode> {
    let is_fine = match Arguments::parse().command {
        Command::Conform(conform) => conform.run()?,
        Command::Histories(histories) => histories.run()?,
        Command::Table(table) => table.run()?,
        Command::Weight(weigh) => weigh.run()?,
    };
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

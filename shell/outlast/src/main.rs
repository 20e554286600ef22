//! The outlast command: runs the roles of the platform, checks configurations, drains nodes, makes tokens and
//! certificates, and shows it all in a demo.

mod authority;
mod check;
mod config;
mod demo;
mod directory;
mod drain;
mod log;
mod overrides;
mod serve;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use overrides::Overrides;

/// WebRTC calls that outlast a cloud region.
///
/// Speaks LiveKit's client protocol: every LiveKit SDK is a client of it.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  outlast demo                                     three regions on this machine, and a page to meet in
  outlast dns --config outlast.toml                a name server that knows which gateways live
  outlast check --config outlast.toml              every mistake in a configuration, with its remedy
  outlast serve --config outlast.toml              run the roles that the configuration names
  outlast drain eu-1 --config outlast.toml         move everybody away from a node before it is stopped
  outlast directory status --config outlast.toml   who decides which node has a room, and how it is
  outlast token --config outlast.toml --identity amy --room lobby
  outlast ca init --out pki                        a cluster's authority
  outlast ca issue --ca pki --name eu-1 --out pki  a certificate for the process eu-1

docs/configuration.md describes every key, docs/operations.md how to run it.";

#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "Commands", disable_help_subcommand = true)]
enum Command {
    /// Run the roles gateway, node and dns, or some of them, until SIGTERM or SIGINT
    ///
    /// Every key of the configuration can be given as a flag or as an environment variable too. Flags win over the
    /// environment, the environment over the file. API keys and peers stand in the file alone; secrets have no flag,
    /// since other users of the machine can read command lines.
    Serve(Overrides),
    /// Run a name server for the service's zone, until SIGTERM or SIGINT
    ///
    /// Answers with gateways that live, the nearest first, from what they say themselves. The same as serve --roles dns; see
    /// docs/dns.md.
    Dns(Overrides),
    /// Tell all mistakes of a configuration at once, each with its line and its remedy
    ///
    /// Takes the same flags and environment as serve. Exits with 0 when there is no mistake, else with 1.
    Check(Overrides),
    /// Move everybody away from a node, or from all nodes of a region, before they are stopped
    ///
    /// Clients are told to reconnect, room by room and paced, and land on other nodes; the drained ones take nobody new until
    /// the drain is called off with --undo or their processes are started again. Exits with 0 when it has begun everywhere (with
    /// --wait: when the nodes are empty), else with 1 and a sentence.
    Drain(drain::DrainArgs),
    /// Look at the database that keeps which node has which room, try it, and move who decides there
    #[command(subcommand)]
    Directory(Box<directory::Command>),
    /// Print an access token
    #[command(args_conflicts_with_subcommands = true)]
    Token {
        #[command(subcommand)]
        command: Option<TokenCommand>,
        #[command(flatten)]
        args: Box<token::Args>,
    },
    /// Make the cluster's certificate authority and its processes' certificates
    #[command(subcommand)]
    Ca(authority::Command),
    /// Run three regions on this machine and serve a page to try them out
    Demo(demo::DemoArgs),
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Print an access token
    Create(Box<token::Args>),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(overrides) => serve::run(&overrides),
        Command::Dns(overrides) => serve::run(&overrides.with("roles", "dns")),
        Command::Check(overrides) => check::run(&overrides),
        Command::Drain(args) => drain::run(&args),
        Command::Directory(command) => return directory::run(&command),
        Command::Token { command: Some(TokenCommand::Create(args)), .. }
        | Command::Token { command: None, args } => token::run(&args),
        Command::Ca(command) => authority::run(&command),
        Command::Demo(args) => return demo::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outlast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn commands_fit_together() {
        super::Cli::command().debug_assert();
    }
}

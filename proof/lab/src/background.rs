//! The process in which a lab lives that the command line made.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use outlast_lab::{Lab, Plan};

use crate::show::say;

/// What the process says first, before the lab's id.
const READY: &str = "ready ";
/// Longest plan that it reads: the largest there can be is a tenth of it.
const PLAN_MAX: u64 = 1 << 20;
const LABS: &str = "/run/outlast-lab";
/// Where it complains, if ever, when nobody is there to listen.
const LOG: &str = "/run/outlast-lab/log";

/// Starts it, and waits until its lab is up. Returns the lab's id.
pub(crate) fn start(plan: &Plan) -> anyhow::Result<String> {
    let program = env::current_exe().context("a running program has a file")?;
    let mut command = Command::new(program);
    command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Who may not write there may not make a lab either, and is told so by the process itself.
    let _made = fs::create_dir_all(LABS);
    if let Ok(log) = fs::OpenOptions::new().append(true).create(true).open(LOG) {
        command.stderr(log);
    }
    let mut child = command.spawn().context("starting the process in the background")?;
    let mut input = child.stdin.take().context("it has a standard input")?;
    input.write_all(toml::to_string(plan)?.as_bytes())?;
    drop(input);
    let output = child.stdout.take().context("it has a standard output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    match line.trim_end().strip_prefix(READY) {
        Some(id) => Ok(id.to_owned()),
        None if line.is_empty() => bail!("the process in the background ended; see {LOG}"),
        None => bail!("{}", line.trim_end()),
    }
}

/// Is it: reads a plan from the standard input, and serves until the lab goes down.
pub(crate) fn serve() -> anyhow::Result<()> {
    // The terminal that it is started from may close; when it is led already, it stays where it is.
    let _led = rustix::process::setsid();
    let ready = |lab: &Lab| -> io::Result<()> { say(format_args!("{READY}{}", lab.id())) };
    let served = up().and_then(|lab| Ok(outlast_lab::serve(lab, ready)?));
    if let Err(error) = &served {
        // One line, which `start` waits for.
        say(format!("{error:#}").replace('\n', " "))?;
    }
    served
}

fn up() -> anyhow::Result<Lab> {
    let mut text = String::new();
    io::stdin().take(PLAN_MAX).read_to_string(&mut text)?;
    Ok(Lab::up(&Plan::read(&text)?)?)
}

//! The demo's processes: starting, killing, freezing and thawing them, and what state each is in.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::{
    database::Kind,
    plan::{self, Planned, Role},
};

/// Remembered faults; the page asks for the last ones twice a second.
const FAULTS_MAX: usize = 32;
/// Lines of a process's log that are shown when it ended by itself.
const TAIL_LINES: usize = 8;
/// Short enough to be watched, and long enough for a room of the demo's.
const DRAIN: [&str; 2] = ["--deadline", "10s"];

/// What may be done to a process or to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Freeze,
    /// SIGCONT.
    Thaw,
    /// Moves everybody away from nodes, as `outlast drain` does.
    Drain,
    /// Thaws what is frozen, starts what is dead, calls drains off.
    Start,
}

impl Action {
    pub(super) fn named(name: &str) -> Option<Action> {
        Some(match name {
            "kill" => Action::Kill,
            "freeze" => Action::Freeze,
            "thaw" => Action::Thaw,
            "drain" => Action::Drain,
            "start" => Action::Start,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Action::Kill => "kill",
            Action::Freeze => "freeze",
            Action::Thaw => "thaw",
            Action::Drain => "drain",
            Action::Start => "start",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Frozen,
    Dead,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Frozen => "frozen",
            Phase::Dead => "dead",
        }
    }
}

struct Process {
    plan: Planned,
    command: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
    phase: Phase,
    /// It has been told to send everybody away.
    draining: bool,
    /// Tells it that it is to drain, or that it is not.
    errand: Option<Child>,
    since: f64,
}

/// One thing that was done to the fleet.
struct Fault {
    id: u64,
    at: f64,
    action: &'static str,
    target: String,
}

/// A process that ended without being told to, with the end of its log.
pub(super) struct Ended {
    pub(super) id: String,
    pub(super) how: String,
    pub(super) log: String,
}

/// All processes. Dropping it kills them.
pub(super) struct Fleet {
    /// This program: a server starts as its `demo --leash`.
    own_program: PathBuf,
    directory: Kind,
    /// Servers that decide who holds a room, and in how many partitions each.
    decides: BTreeMap<String, usize>,
    processes: Vec<Process>,
    faults: VecDeque<Fault>,
    fault_count: u64,
}

impl Fleet {
    /// Nothing runs yet. `start` gives what a process is started with, and its log.
    pub(super) fn new(
        own_program: PathBuf,
        directory: Kind,
        all: &[Planned],
        start: impl Fn(&Planned) -> (Vec<OsString>, PathBuf),
    ) -> Fleet {
        let processes = all
            .iter()
            .map(|plan| {
                let (command, log) = start(plan);
                Process {
                    plan: plan.clone(),
                    command,
                    log,
                    child: None,
                    phase: Phase::Dead,
                    draining: false,
                    errand: None,
                    since: unix_ms(),
                }
            })
            .collect();
        let (decides, faults) = (BTreeMap::new(), VecDeque::new());
        Fleet { own_program, directory, decides, processes, faults, fault_count: 0 }
    }

    /// Starts everything that is dead.
    pub(super) fn start_all(&mut self) -> io::Result<()> {
        for index in 0..self.processes.len() {
            self.apply(index, Action::Start)?;
        }
        Ok(())
    }

    /// Does `action` to the process called `id`. `None`: there is no such process.
    pub(super) fn act_on_process(&mut self, id: &str, action: Action) -> Option<io::Result<()>> {
        let index = self.processes.iter().position(|process| process.plan.id == id)?;
        self.note(action.as_str(), id.to_owned());
        Some(self.apply(index, action))
    }

    /// Does `action` to all processes of `region`. `None`: there is no such region.
    pub(super) fn act_on_region(&mut self, region: &str, action: Action) -> Option<io::Result<()>> {
        let of_region: Vec<usize> = (0..self.processes.len())
            .filter(|&index| self.processes[index].plan.region == region)
            .collect();
        if of_region.is_empty() {
            return None;
        }
        self.note(action.as_str(), format!("region {region}"));
        let results = of_region.into_iter().map(|index| self.apply(index, action));
        // All of them get the signal, whatever one of them answers.
        Some(results.collect::<Vec<_>>().into_iter().collect())
    }

    /// Collects processes that ended by themselves since the last look.
    pub(super) fn reap(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        for process in &mut self.processes {
            let log = || tail(&process.log);
            if let Some(end) = process.errand.as_mut().and_then(end_of) {
                process.errand = None;
                if !end.as_ref().is_ok_and(ExitStatus::success) {
                    process.draining = false;
                    let id = format!("the drain of {}", process.plan.id);
                    ended.push(Ended { id, how: say(end), log: log() });
                }
            }
            if let Some(end) = process.child.as_mut().and_then(end_of) {
                ended.push(Ended { id: process.plan.id.clone(), how: say(end), log: log() });
                process.child = None;
                process.enter(Phase::Dead);
            }
        }
        ended
    }

    /// The processes that have not said yet that they are ready.
    pub(super) fn starting(&self) -> Vec<Planned> {
        let starting = self.processes.iter().filter(|process| process.phase == Phase::Starting);
        starting.map(|process| process.plan.clone()).collect()
    }

    /// Notes where the servers listen that decide who holds a room, one for each partition.
    pub(super) fn decided_at(&mut self, ports: &[u16]) {
        self.decides.clear();
        for port in ports {
            let mut all = self.processes.iter().map(|process| &process.plan);
            if let Some(one) = all.find(|one| !one.role.is_ours() && one.listen == *port) {
                *self.decides.entry(one.id.clone()).or_default() += 1;
            }
        }
    }

    /// Notes that a process is ready.
    pub(super) fn ready(&mut self, id: &str) {
        for process in &mut self.processes {
            if process.plan.id == id && process.phase == Phase::Starting {
                process.enter(Phase::Running);
            }
        }
    }

    /// Everything that the page shows of the demo.
    pub(super) fn state(&self) -> Value {
        let all: Vec<Planned> = self.processes.iter().map(|process| process.plan.clone()).collect();
        let regions: Vec<Value> = plan::REGIONS
            .iter()
            .map(|region| {
                let of_region =
                    self.processes.iter().filter(|process| process.plan.region == region.name);
                json!({
                    "name": region.name,
                    "label": region.label,
                    "gateway": plan::gateway_origin(&all, region.name),
                    "processes": of_region.map(Process::state).collect::<Vec<_>>(),
                })
            })
            .collect();
        let faults = self.faults.iter().map(|fault| {
            json!({
                "id": fault.id, "at": fault.at, "action": fault.action, "target": fault.target,
            })
        });
        json!({
            "now": unix_ms(),
            "regions": regions,
            "directory": self.directory_state(),
            "faults": faults.collect::<Vec<_>>(),
        })
    }

    /// Which database decides, and in which region it is.
    fn directory_state(&self) -> Value {
        let decides = self.processes.iter().filter_map(|process| {
            let partitions = self.decides.get(&process.plan.id)?;
            let (id, region) = (&process.plan.id, process.plan.region);
            Some(json!({ "process": id, "region": region, "partitions": partitions }))
        });
        json!({ "engine": self.directory.as_str(), "decides": decides.collect::<Vec<_>>() })
    }

    /// Whether every process has said that it is ready.
    pub(super) fn all_running(&self) -> bool {
        self.processes.iter().all(|process| process.phase == Phase::Running)
    }

    fn apply(&mut self, index: usize, action: Action) -> io::Result<()> {
        let process = &mut self.processes[index];
        match action {
            Action::Kill => process.kill(),
            Action::Freeze => process.freeze(),
            Action::Thaw => process.thaw(),
            Action::Drain => process.drain(&self.own_program, true),
            Action::Start if process.phase == Phase::Dead => process.start(&self.own_program),
            Action::Start if process.phase == Phase::Frozen => process.thaw(),
            Action::Start => process.drain(&self.own_program, false),
        }
    }

    /// `action` is being done to `target`.
    pub(super) fn note(&mut self, action: &'static str, target: String) {
        self.fault_count += 1;
        if self.faults.len() == FAULTS_MAX {
            self.faults.pop_front();
        }
        self.faults.push_back(Fault { id: self.fault_count, at: unix_ms(), action, target });
    }
}

impl Fleet {
    /// Kills every process and waits for its end.
    pub(super) fn end(&mut self) {
        // All signals first, then all waits. SIGKILL ends a stopped process as well.
        for process in &self.processes {
            // One that is gone already is what we want.
            let _ = process.signal(Signal::KILL);
        }
        for process in &mut self.processes {
            if let Some(mut errand) = process.errand.take() {
                let _ = errand.kill();
                let _ = errand.wait();
            }
            if let Some(mut child) = process.child.take() {
                let _ = child.wait();
            }
            process.enter(Phase::Dead);
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}

impl Process {
    fn start(&mut self, own_program: &Path) -> io::Result<()> {
        self.child = Some(self.run(own_program, &self.command)?);
        self.enter(Phase::Starting);
        Ok(())
    }

    /// Tells a node that it is to drain, or that it is not. No other server can be drained.
    fn drain(&mut self, own_program: &Path, begins: bool) -> io::Result<()> {
        let [server, _, config @ ..] = self.command.as_slice() else { return Ok(()) };
        let running = self.phase == Phase::Running && self.plan.role == Role::Node;
        if !running || self.draining == begins || self.errand.is_some() {
            return Ok(());
        }
        let mut command: Vec<OsString> = vec![server.clone(), "drain".into()];
        command.push(self.plan.id.as_str().into());
        command.extend_from_slice(config);
        command.extend(if begins {
            DRAIN.map(OsString::from).to_vec()
        } else {
            vec!["--undo".into()]
        });
        self.errand = Some(self.run(own_program, &command)?);
        self.draining = begins;
        self.since = unix_ms();
        Ok(())
    }

    fn run(&self, own_program: &Path, program: &[OsString]) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(own_program);
        command
            .args(["demo", "--leash", &std::process::id().to_string(), "--"])
            .args(program)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the demo, which then ends all of these.
            .process_group(0);
        // The environment ranks above our files, which are complete, and etcd refuses what is said twice.
        for (name, _) in std::env::vars_os() {
            let name_is = |prefix| name.to_string_lossy().starts_with(prefix);
            if name_is("OUTLAST_") || name_is("ETCD_") {
                command.env_remove(name);
            }
        }
        command.spawn()
    }

    fn kill(&mut self) -> io::Result<()> {
        self.signal(Signal::KILL)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
            self.enter(Phase::Dead);
        }
        Ok(())
    }

    fn freeze(&mut self) -> io::Result<()> {
        if matches!(self.phase, Phase::Starting | Phase::Running) {
            self.signal(Signal::STOP)?;
            self.enter(Phase::Frozen);
        }
        Ok(())
    }

    fn thaw(&mut self) -> io::Result<()> {
        if self.phase == Phase::Frozen {
            self.signal(Signal::CONT)?;
            // It may have been frozen before it was ready; one that drains does not say that it is.
            self.enter(if self.draining { Phase::Running } else { Phase::Starting });
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        // A child that was not waited for keeps its number, so this never reaches a stranger.
        let Some(child) = &self.child else { return Ok(()) };
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process_group(group.expect("a process has a positive number"), signal)?)
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.draining &= phase != Phase::Dead;
        self.since = unix_ms();
    }

    fn state(&self) -> Value {
        let mut ports = json!({ "listen": self.plan.listen, "beat": self.plan.beat });
        if let (Role::Node, Some(media)) = (self.plan.role, self.plan.media) {
            ports["media"] = media.into();
        }
        json!({
            "id": self.plan.id,
            "role": self.plan.role.as_str(),
            "state": if self.draining && self.phase == Phase::Running { "draining" } else { self.phase.as_str() },
            "since": self.since,
            "pid": self.child.as_ref().map(Child::id),
            "ports": ports,
        })
    }
}

/// `None` while it runs.
fn end_of(child: &mut Child) -> Option<io::Result<ExitStatus>> {
    child.try_wait().transpose()
}

fn say(end: io::Result<ExitStatus>) -> String {
    end.map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn tail(log: &PathBuf) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Milliseconds since 1970, with fractions: pages compare it with their own clock.
pub(super) fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1_000.0)
}

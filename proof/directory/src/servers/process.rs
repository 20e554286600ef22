//! One server's process: started, killed, frozen, and gone when its owner is gone.

use std::{
    fs::OpenOptions,
    io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// A process that can be started again.
#[derive(Debug)]
pub(crate) struct Process {
    /// Program and arguments.
    command: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Not started yet. What it prints is added to `log`.
    pub(crate) fn new(command: Vec<String>, log: PathBuf) -> Process {
        Process { command, log, child: None }
    }

    /// Starts it, unless it runs.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let open = || OpenOptions::new().create(true).append(true).open(&self.log);
        let log = open().with_context(|| format!("opening {}", self.log.display()))?;
        // `setpriv` asks the kernel to end it with its parent and then becomes the server: with a signal handler of ours
        // or with `prctl` after a fork it would be unsafe code.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(&self.command);
        command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
        let child = spawn(command).with_context(|| format!("starting {:?}", self.command))?;
        self.child = Some(child);
        Ok(())
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(id.context("the server does not run")?, signal)?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// The kernel ends a process when the *thread* dies that started it: all are started by one that never does.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in taken {
                drop(answer.send(command.spawn()));
            }
        });
        Mutex::new(orders)
    });
    let (answer, started) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts servers is gone");
    let orders = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    orders.send((command, answer)).map_err(|_| gone())?;
    drop(orders);
    started.recv().map_err(|_| gone())?
}

/// What a short command prints.
///
/// # Errors
/// When it cannot be started or fails, with what it said.
pub(crate) fn output(command: &[&str]) -> anyhow::Result<String> {
    let (program, arguments) = command.split_first().context("no command")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let trouble = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("{command:?} fails: {said}{trouble}");
    }
    Ok(said)
}

/// Asks `is_so` until it is.
///
/// # Errors
/// When it is not within `deadline`: `what` was waited for.
pub(crate) fn wait(
    what: &str,
    deadline: Duration,
    mut is_so: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !is_so() {
        anyhow::ensure!(start.elapsed() < deadline, "{what}: not within {deadline:?}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

//! Namespaces around a whole program: in there it may make labs without root, nobody outside sees them, and when it ends,
//! however it ends, the kernel removes everything.

use std::{
    env,
    io::{self, Read as _, Write as _},
    path::Path,
    process::{self, Command, Stdio},
    thread,
};

use crate::{LabError, rights};

/// Set for a test that runs again inside.
const INSIDE: &str = "OUTLAST_LAB_INSIDE";
/// Set to anything, a test of a lab that cannot be made fails instead of being left out. Build servers set it.
const MUST: &str = "CI";

/// Mounts an empty `/run`, where namespaces have their names, and runs what it is given.
const SCRIPT: &str = r#"mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && exec "$@""#;

/// A command that runs `program` in network, mount and process namespaces of its own; without root, in a user namespace as
/// well. Further arguments are the caller's. Its `/run` is empty.
///
/// # Errors
/// When this machine does not allow it, with what to do.
pub fn alone(program: &Path) -> Result<Command, LabError> {
    rights::check_tun()?;
    let tried = unshare().arg("true").stdin(Stdio::null()).output();
    let tried = tried.map_err(LabError::io("cannot run unshare, of the package util-linux"))?;
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        return Err(LabError::Rights(format!(
            "a lab needs root, or a kernel that gives namespaces to everybody, and this one does not ({said}): see \
             /proc/sys/user/max_user_namespaces, and kernel.apparmor_restrict_unprivileged_userns"
        )));
    }
    let mut command = unshare();
    command.arg(program);
    Ok(command)
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rights::has_capabilities() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.args(["sh", "-c", SCRIPT, "sh"]);
    command
}

/// For the first line of a test that makes a lab: `if !inside("its::name") { return }`.
///
/// Runs that test again inside, and says false when it has passed there; inside, says true. So such tests need no root,
/// disturb neither each other nor the machine, and leave nothing behind. Where that cannot be had, the test is left out, and
/// says so on the standard error; with `CI` set it fails.
///
/// # Panics
/// When the test fails inside, or there is none of that name.
#[must_use]
pub fn inside(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        end_with_parent();
        return true;
    }
    let program = env::current_exe().expect("a running program has a file");
    let mut command = match alone(&program) {
        Ok(command) => command,
        Err(error) if env::var_os(MUST).is_none() => {
            // Not by the macro, whose output the test harness keeps to itself when a test passes.
            let _told = writeln!(io::stderr(), "LEFT OUT: {test}: {error}");
            return false;
        }
        Err(error) => panic!("{test}: {error}"),
    };
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("unshare ran a moment ago");
    let alive = child.stdin.take();
    let output = child.wait_with_output().expect("a child can be waited for");
    drop(alive);
    let (said, cried) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{said}");
    eprint!("{cried}");
    assert!(output.status.success(), "{test} failed inside the lab: see above");
    assert!(said.contains("1 passed"), "there is no test {test:?}");
    false
}

/// Ends this process, and so its namespaces, when the one outside has ended: that holds the other end of the standard
/// input. Signals would not do it, since the kernel spares the first process of a namespace.
fn end_with_parent() {
    thread::spawn(|| {
        let _ended = io::stdin().read(&mut [0]);
        process::exit(1);
    });
}

//! Network namespaces: made, entered and removed; and the commands that run in them.
//!
//! `ip` does it, of Debian's iproute2: it is on every machine that has namespaces, names them where people look for them,
//! and needs no second asynchronous runtime, as the netlink crates do.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::IpAddr,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use rustix::{
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::error::LabError;

/// Where `ip` keeps the names.
const NAMES: &str = "/run/netns";
/// How often the processes of a namespace are looked for: one may start another while it is ended.
const KILL_ROUNDS: u32 = 8;
/// Packets that wait in a device until the emulator reads them: 10,000 full ones are 0.12 s of a gigabit.
const QUEUE: u32 = 10_000;

/// Name of each device in its namespace.
pub(crate) const DEVICE: &str = "wan";

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

/// Makes namespaces.
pub(crate) fn add(names: &[String]) -> Result<(), LabError> {
    let lines: String = names.iter().map(|name| format!("netns add {name}\n")).collect();
    ip(&lines)
}

/// Ends every process in namespaces of that prefix, and removes these. Returns how many there were.
pub(crate) fn remove(prefix: &str) -> Result<usize, LabError> {
    let names = named(prefix)?;
    end_processes(&names);
    let lines: String = names.iter().map(|name| format!("netns delete {name}\n")).collect();
    if !names.is_empty() {
        ip(&lines)?;
    }
    Ok(names.len())
}

/// Runs `work` on a thread of its own in a namespace. Sockets that it opens stay there, wherever they are used.
pub(crate) fn within<T: Send>(
    namespace: &Path,
    work: impl FnOnce() -> T + Send,
) -> Result<T, LabError> {
    let link = File::open(namespace).map_err(LabError::at(namespace))?;
    let enter = || move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network));
    let done = thread::scope(|scope| scope.spawn(|| enter().map(|()| work())).join());
    match done {
        Ok(done) => done.map_err(|error| LabError::at(namespace)(error.into())),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Gives the namespace of the calling thread its addresses and routes: everything but itself is behind the device.
pub(crate) fn configure(addresses: &[IpAddr], mtu: u16) -> Result<(), LabError> {
    let mut lines = format!(
        "link set lo up\nlink set {DEVICE} addrgenmode none\nlink set {DEVICE} mtu {mtu} txqueuelen {QUEUE} up\n"
    );
    for address in addresses {
        let line = match address {
            IpAddr::V4(address) => format!("addr add {address}/32 dev {DEVICE}\n"),
            IpAddr::V6(address) => {
                format!("addr add {address}/128 dev {DEVICE} nodad\n")
            }
        };
        lines.push_str(&line);
    }
    lines.push_str(&format!("route add default dev {DEVICE}\nroute add ::/0 dev {DEVICE}\n"));
    ip(&lines)
}

/// A command that runs `program` in a namespace, with other name servers if `resolv` is a file that names them. Further
/// arguments, environment and pipes are the caller's; its process becomes `program` itself.
#[must_use]
pub fn inside_command(namespace: &str, resolv: Option<&Path>, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path(namespace).display()));
    let Some(resolv) = resolv else {
        command.args(["--", program]);
        return command;
    };
    // A mount of its own hides the machine's file; where that is a link to nowhere, the file is made, since /run is ours.
    let script = r#"target=$(readlink -m /etc/resolv.conf)
[ -e "$target" ] || { mkdir -p "${target%/*}" && : >"$target"; } || exit 126
mount --bind "$0" "$target" && exec "$@""#;
    command.args(["--", "unshare", "--mount", "--", "sh", "-c", script]).arg(resolv).arg(program);
    command
}

fn named(prefix: &str) -> Result<Vec<String>, LabError> {
    let entries = match fs::read_dir(NAMES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LabError::at(Path::new(NAMES))(error)),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

/// Ends whatever runs in these namespaces. They are a lab's, so nothing else is in them.
fn end_processes(names: &[String]) {
    let inodes: Vec<u64> =
        names.iter().filter_map(|name| Some(fs::metadata(path(name)).ok()?.ino())).collect();
    for _ in 0..KILL_ROUNDS {
        let Ok(entries) = fs::read_dir("/proc") else { return };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ended: Vec<bool> =
            pids.filter_map(Pid::from_raw).map(|pid| end_if_inside(pid, &inodes)).collect();
        if !ended.contains(&true) {
            return;
        }
    }
}

/// Whether the process was in one of the namespaces. What is looked at and ended is the same process, even when its number
/// is given to another in between.
fn end_if_inside(pid: Pid, inodes: &[u64]) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let Ok(network) = fs::metadata(format!("/proc/{}/ns/net", pid.as_raw_nonzero())) else {
        return false;
    };
    inodes.contains(&network.ino()) && pidfd_send_signal(process, Signal::KILL).is_ok()
}

/// Runs lines of `ip`, which stops at the first that fails.
fn ip(lines: &str) -> Result<(), LabError> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let failed = || LabError::io("cannot run ip, of Debian's package iproute2");
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(failed())?;
    if let Some(mut input) = child.stdin.take() {
        // When `ip` ends early, what it says tells more than the broken pipe.
        let _unread = input.write_all(lines.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::Command { command: "ip".to_owned(), said })
}

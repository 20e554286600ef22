//! `outlast demo` around servers that only sleep: whatever ends it, no process and no file is left.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Generous: other tests use the same cores.
const WITHIN: Duration = Duration::from_secs(20);

/// A running demo with a temporary directory of its own.
struct Demo {
    child: Child,
    dir: tempfile::TempDir,
    control: u16,
}

impl Demo {
    fn start() -> Demo {
        let dir = tempfile::tempdir().unwrap();
        let server = dir.path().join("server");
        fs::write(&server, "#!/bin/sh\necho \"$3\"\nexec sleep 600\n").unwrap();
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
        let page = dir.path().join("page");
        fs::create_dir(&page).unwrap();
        fs::write(page.join("index.html"), "<p>page</p>").unwrap();
        let temporary = dir.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        let (base, held) = free_base_port();
        drop(held);
        let child = Command::new(env!("CARGO_BIN_EXE_outlast"))
            .args(["demo", "--base-port", &base.to_string(), "--page-dir"])
            .arg(&page)
            .arg("--server")
            .arg(&server)
            .env("TMPDIR", &temporary)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let demo = Demo { child, dir, control: base - 1 };
        until("nine servers sleep", || demo.sleeping().len() == 9);
        demo
    }

    fn ask(&self, method: &str, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.control)).ok()?;
        let host = self.control;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{host}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Process numbers of the servers that the demo reports and that have become the fake one.
    fn sleeping(&self) -> Vec<u64> {
        let pids = self.ask("GET", "/state").map(|state| pids(&state)).unwrap_or_default();
        let is_fake = |pid: &u64| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x00600\x00")
        };
        pids.into_iter().filter(is_fake).collect()
    }

    fn leftovers(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("tmp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Sends `signal` to the demo and expects that nothing is left.
    fn ends_clean(mut self, signal: &str, pids: &[u64]) {
        assert_eq!(self.leftovers().len(), 1);
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap();
        until("every server is gone", || pids.iter().all(|&pid| !alive(pid)));
        until("the directory is gone", || self.leftovers().is_empty());
    }
}

fn pids(state: &Value) -> Vec<u64> {
    let regions = state["regions"].as_array().unwrap();
    let processes = regions.iter().flat_map(|region| region["processes"].as_array().unwrap());
    processes.filter_map(|process| process["pid"].as_u64()).collect()
}

/// A base port whose first ports are free, held until the demo is started.
fn free_base_port() -> (u16, Vec<TcpListener>) {
    loop {
        let probe = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let base = probe.local_addr().unwrap().port();
        drop(probe);
        let wanted =
            (0..3u16).flat_map(|region| (0..3).map(move |block| region * 100 + block * 10));
        let Some(ports) = wanted
            .flat_map(|block| [block, block + 1])
            .map(|offset| base.checked_add(offset).filter(|_| base < 65_000))
            .chain([base.checked_sub(1)])
            .collect::<Option<Vec<u16>>>()
        else {
            continue;
        };
        let held: Result<Vec<_>, _> =
            ports.iter().map(|&port| TcpListener::bind(("127.0.0.1", port))).collect();
        if let Ok(held) = held {
            return (base, held);
        }
    }
}

/// Whether a process of this number still does anything (a zombie does not).
fn alive(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn stopped(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !met() {
        assert!(Instant::now() < deadline, "not within {WITHIN:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ctrl_c_ends_frozen_servers_too() {
    let demo = Demo::start();
    let all = demo.sleeping();
    demo.ask("POST", "/regions/us/freeze").unwrap();
    until("three are stopped", || all.iter().filter(|&&pid| stopped(pid)).count() == 3);
    demo.ends_clean("-INT", &all);
}

#[test]
fn sigterm_and_even_sigkill_leave_nothing() {
    for signal in ["-TERM", "-KILL"] {
        let demo = Demo::start();
        let all = demo.sleeping();
        demo.ask("POST", "/processes/ap-2/freeze").unwrap();
        demo.ends_clean(signal, &all);
    }
}

#[test]
fn a_killed_region_comes_back_with_new_processes() {
    let demo = Demo::start();
    let before = demo.sleeping();
    let state = demo.ask("POST", "/regions/eu/kill").unwrap();
    assert_eq!(pids(&state).len(), 6);
    assert_eq!(state["regions"][0]["processes"][0]["state"], "dead");
    assert_eq!(state["faults"][0]["target"], "region eu");
    demo.ask("POST", "/regions/eu/start").unwrap();
    until("nine servers sleep again", || demo.sleeping().len() == 9);
    let after = demo.sleeping();
    assert_eq!(after.iter().filter(|pid| before.contains(pid)).count(), 6);
    demo.ends_clean("-INT", &after);
}

#[test]
fn a_missing_page_and_a_taken_port_are_told_with_a_remedy() {
    let demo = |arguments: &[&str], page: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outlast"));
        let output =
            command.arg("demo").args(arguments).arg("--page-dir").arg(page).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let told = demo(&[], dir.path());
    assert!(told.contains("npm ci && npm run build"), "{told}");
    fs::write(dir.path().join("index.html"), "").unwrap();
    let (base, _held) = free_base_port();
    let told = demo(&["--base-port", &base.to_string()], dir.path());
    assert!(told.contains(&format!("{base}/tcp (for eu-gateway)")), "{told}");
    assert!(told.contains("--base-port"), "{told}");
}

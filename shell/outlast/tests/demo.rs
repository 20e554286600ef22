//! `outlast demo` around servers that only sleep: whatever ends it, no process and no file is left. And around real ones with a
//! real database: a region's part of it shares the region's fate.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[allow(dead_code, reason = "here ports come in blocks")]
#[path = "../../directory/tests/etcd/port.rs"]
mod port;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
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
        let demo = Demo::with(dir, &["--server", &server.display().to_string()]);
        until("nine servers sleep", || demo.sleeping().len() == 9);
        demo
    }

    /// With more arguments, and not before anything is known of its servers.
    fn with(dir: tempfile::TempDir, arguments: &[&str]) -> Demo {
        let page = dir.path().join("page");
        fs::create_dir(&page).unwrap();
        fs::write(page.join("index.html"), "<p>page</p>").unwrap();
        let temporary = dir.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        let base = free_base_port();
        let child = Command::new(env!("CARGO_BIN_EXE_outlast"))
            .args(["demo", "--base-port", &base.to_string(), "--page-dir"])
            .arg(&page)
            .args(arguments)
            .env("TMPDIR", &temporary)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Demo { child, dir, control: base - 1 }
    }

    /// The demo's state, once it answers.
    fn state(&self) -> Value {
        let mut state = None;
        until("the demo answers", || {
            state = self.ask("GET", "/state");
            state.is_some()
        });
        state.unwrap()
    }

    /// Regions in which the database decides.
    fn decides(&self) -> Vec<String> {
        let state = self.state();
        let decides = state["directory"]["decides"].as_array().unwrap().iter();
        decides.map(|one| one["region"].as_str().unwrap().to_owned()).collect()
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

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended already, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pids(state: &Value) -> Vec<u64> {
    let regions = state["regions"].as_array().unwrap();
    let processes = regions.iter().flat_map(|region| region["processes"].as_array().unwrap());
    processes.filter_map(|process| process["pid"].as_u64()).collect()
}

/// A base port of which no port that the demo uses is taken, and that nobody else in this process gets. Below those that the
/// kernel gives to whoever connects: one of a server that is to come back would be gone meanwhile.
fn free_base_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let blocks = (20_000..32_000_u16).step_by(250).collect::<Vec<_>>();
    let first = process::id() as usize;
    let taken = port::taken_ports();
    for _ in &blocks {
        let tried = usize::from(TRIED.fetch_add(1, Ordering::Relaxed));
        let base = blocks[(first + tried) % blocks.len()] + 1;
        if taken.range(base - 1..=base + 241).next().is_none() {
            return base;
        }
    }
    panic!("no free block of ports");
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
fn a_region_and_its_database_share_their_fate() {
    let demo = Demo::with(tempfile::tempdir().unwrap(), &["--directory", "etcd"]);
    let is_running = || {
        let state = demo.state();
        let regions = state["regions"].as_array().unwrap();
        let all = regions.iter().flat_map(|region| region["processes"].as_array().unwrap());
        all.filter(|one| one["state"] == "running").count() == 12
    };
    until("all twelve run", is_running);
    assert_eq!(demo.state()["directory"]["engine"], "etcd");
    let mut all = pids(&demo.state());
    for action in ["freeze", "kill"] {
        until("one decides", || demo.decides().len() == 1);
        let region = demo.decides().remove(0);
        demo.ask("POST", &format!("/regions/{region}/{action}")).unwrap();
        until("one decides in another region", || {
            let decides = demo.decides();
            decides.len() == 1 && decides[0] != region
        });
        demo.ask("POST", &format!("/regions/{region}/start")).unwrap();
        until("the region is back", is_running);
        all.extend(pids(&demo.state()));
    }
    demo.ends_clean("-INT", &all);
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
    let base = free_base_port();
    let _held = TcpListener::bind(("127.0.0.1", base)).unwrap();
    let told = demo(&["--base-port", &base.to_string()], dir.path());
    assert!(told.contains(&format!("{base}/tcp (for eu-gateway)")), "{told}");
    assert!(told.contains("--base-port"), "{told}");
}

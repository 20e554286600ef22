//! Real Redis: servers started on free ports of this machine, killed, frozen, and gone when the test is over.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use outlast_engines::{Access, Redis, RedisSettings, Shared};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{desk::DEADLINE, lock::Lock, port::free_port};

/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// One Redis, or one Sentinel.
pub(crate) struct Server {
    dir: TempDir,
    pub(crate) port: u16,
    program: &'static str,
    arguments: Vec<String>,
    /// What `redis-cli` needs besides.
    door: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// A Redis with the settings of production and `more`.
    pub(crate) fn start(more: &[&str]) -> Server {
        let port = free_port();
        Server::at(port, &[&["--port", &port.to_string()], more].concat(), &[])
    }

    /// A Redis that is behind `lock`, if there is one.
    fn behind(lock: Option<&Lock>, port: u16, more: &str) -> Server {
        let door = lock.map(Lock::data_door).unwrap_or_default();
        let listen = lock.map_or_else(|| format!("--port {port}"), |lock| lock.data(port));
        let words = format!("{listen} {more}");
        Server::at(port, &words.split_whitespace().collect::<Vec<_>>(), &door)
    }

    /// A Redis; `door` is what `redis-cli` needs to come in.
    pub(crate) fn at(port: u16, settings: &[&str], door: &[String]) -> Server {
        let dir = TempDir::new().unwrap();
        let words = format!(
            "--bind 127.0.0.1 --protected-mode no --dir {} --appendonly yes --appendfsync everysec --save  \
             --repl-diskless-sync yes --repl-diskless-sync-delay 0 --repl-ping-replica-period 1 \
             --repl-timeout 10 --maxmemory-policy noeviction",
            dir.path().display()
        );
        // Two spaces stand around an empty word.
        let mut arguments: Vec<_> = words.split(' ').map(str::to_owned).collect();
        arguments.extend(settings.iter().map(|word| (*word).to_owned()));
        Server::run(dir, port, "redis-server", arguments, door)
    }

    fn run(
        dir: TempDir,
        port: u16,
        program: &'static str,
        arguments: Vec<String>,
        door: &[String],
    ) -> Server {
        let door = door.to_vec();
        let mut server = Server { dir, port, program, arguments, door, process: None };
        server.restart();
        server
    }

    /// Starts it with the data that it had, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_none(), "{} runs", self.port);
        let log = self.dir.path().join("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        let started = command.spawn();
        self.process = Some(started.expect(
            "Redis cannot be started: install it with `scripts/need-debian engines` (Debian: redis-server and redis-sentinel)",
        ));
        let log = self.dir.path().join("log");
        let what = || format!("Redis answers: {}", fs::read_to_string(&log).unwrap());
        wait(what, || self.try_ask("PING").is_some_and(|said| said.trim() == "PONG"));
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap();
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    /// What `redis-cli` prints.
    pub(crate) fn ask(&self, words: &str) -> String {
        let said = self.try_ask(words).unwrap_or_default();
        assert!(!said.is_empty() && !said.starts_with("ERR"), "{words}: {said}");
        said
    }

    fn try_ask(&self, words: &str) -> Option<String> {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(&self.door);
        let output = command.args(words.split_whitespace()).output();
        let output = output.expect(
            "redis-cli cannot be started: install it with `scripts/need-debian engines` (Debian: redis-tools)",
        );
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(said)
    }

    /// A line of INFO.
    pub(crate) fn info(&self, name: &str) -> Option<String> {
        let said = self.try_ask("INFO everything")?;
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    pub(crate) fn follows(&self) -> bool {
        self.info("master_link_status").as_deref() == Some("up")
    }

    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// An engine of this server alone.
    pub(crate) fn engine(&self) -> Redis {
        self.engine_with(RedisSettings::default())
    }

    pub(crate) fn engine_with(&self, settings: RedisSettings) -> Redis {
        connect(&format!("redis://{}", self.place()), settings)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn connect(address: &str, settings: RedisSettings) -> Redis {
    let address: Shared = address.parse().unwrap();
    Redis::connect(&address, &Access::default(), settings).unwrap()
}

/// Waits until `done` says so; the caller waits with it.
pub(crate) fn wait(what: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "not in time: {}", what());
        thread::sleep(Duration::from_millis(20));
    }
}

/// A primary, two replicas, three Sentinels.
pub(crate) struct Sentinels {
    pub(crate) data: Vec<Server>,
    watchers: Vec<Server>,
}

impl Sentinels {
    /// Starts them and waits until all know each other.
    pub(crate) fn start() -> Sentinels {
        Sentinels::locked(None)
    }

    /// The same behind a lock.
    pub(crate) fn locked(lock: Option<&Lock>) -> Sentinels {
        let safe = "--min-replicas-to-write 1 --min-replicas-max-lag 2";
        let data: Vec<_> = (0..3).map(|_| Server::behind(lock, free_port(), safe)).collect();
        for replica in &data[1..] {
            replica.ask(&format!("REPLICAOF 127.0.0.1 {}", data[0].port));
        }
        wait(|| "replicas follow".to_owned(), || data[1..].iter().all(Server::follows));
        let door = lock.map(Lock::sentinel_door).unwrap_or_default();
        // On purpose different, or all stand for election at once and none is elected.
        let watchers = [1_000, 1_500, 2_000].map(|down_after| {
            let (port, dir) = (free_port(), TempDir::new().unwrap());
            let file = dir.path().join("sentinel.conf");
            let listen = lock.map_or_else(|| format!("port {port}\n"), |lock| lock.sentinel(port));
            let password = lock.map_or_else(String::new, |lock| {
                let password = lock.access().password.unwrap();
                format!("sentinel auth-pass rooms {}\n", password.expose())
            });
            let text = format!(
                "{listen}bind 127.0.0.1\nprotected-mode no\ndir {}\nsentinel monitor rooms 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds rooms {down_after}\nsentinel failover-timeout rooms 1500\n\
                 sentinel parallel-syncs rooms 2\n{password}",
                dir.path().display(),
                data[0].port
            );
            fs::write(&file, text).unwrap();
            Server::run(dir, port, "redis-sentinel", vec![file.display().to_string()], &door)
        });
        let sentinels = Sentinels { data, watchers: watchers.into() };
        wait(
            || "Sentinels know each other".to_owned(),
            || sentinels.watchers.iter().all(knows_all),
        );
        sentinels
    }

    pub(crate) fn engine(&self) -> Redis {
        let all: Vec<_> = self.watchers.iter().map(Server::place).collect();
        connect(&format!("redis+sentinel://{}/rooms", all.join(",")), RedisSettings::default())
    }

    /// An engine that comes in by the lock.
    pub(crate) fn engine_with(&self, access: &Access) -> Redis {
        let all: Vec<_> = self.watchers.iter().map(Server::place).collect();
        let address: Shared = format!("rediss+sentinel://{}/rooms", all.join(",")).parse().unwrap();
        Redis::connect(&address, access, RedisSettings::default()).unwrap()
    }

    /// Which server is at `host:port`.
    pub(crate) fn at(&self, host_port: &str) -> usize {
        self.data.iter().position(|server| server.place() == host_port).unwrap()
    }
}

fn knows_all(sentinel: &Server) -> bool {
    let said = sentinel.try_ask("SENTINEL MASTER rooms").unwrap_or_default();
    let lines: Vec<_> = said.lines().collect();
    let is = |name: &str, value: &str| lines.windows(2).any(|pair| pair == [name, value]);
    is("num-slaves", "2") && is("num-other-sentinels", "2") && is("flags", "master")
}

/// Three primaries, 0 to 2, and a replica of each, 3 to 5.
pub(crate) struct Cluster(pub(crate) Vec<Server>);

impl Cluster {
    /// Starts it and waits until it serves.
    pub(crate) fn start() -> Cluster {
        Cluster::locked(None)
    }

    /// The same behind a lock.
    pub(crate) fn locked(lock: Option<&Lock>) -> Cluster {
        let ports: [u16; 12] = std::array::from_fn(|_| free_port());
        let nodes: Vec<_> = (0..6)
            .map(|n| {
                let words = format!(
                    "--cluster-enabled yes --tls-cluster {} --cluster-port {} --cluster-announce-ip 127.0.0.1 \
                     --cluster-node-timeout 800 --cluster-require-full-coverage no \
                     --cluster-replica-validity-factor 0",
                    if lock.is_some() { "yes" } else { "no" },
                    ports[n + 6]
                );
                Server::behind(lock, ports[n], &words)
            })
            .collect();
        for (n, node) in nodes.iter().enumerate() {
            node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1));
        }
        for (n, node) in nodes[..3].iter().enumerate() {
            let (first, next) = (n * SLOTS / 3, (n + 1) * SLOTS / 3);
            node.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {}", next - 1));
        }
        for (n, node) in nodes.iter().enumerate().skip(1) {
            let bus = ports[n + 6];
            nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port));
        }
        let met = |node: &Server| {
            let said = node.ask("CLUSTER NODES");
            said.lines().count() == 6 && !said.contains("handshake")
        };
        wait(|| "nodes meet".to_owned(), || nodes.iter().all(met));
        for (n, replica) in nodes[3..].iter().enumerate() {
            replica.ask(&format!("CLUSTER REPLICATE {}", nodes[n].ask("CLUSTER MYID").trim()));
        }
        let cluster = Cluster(nodes);
        let serves = |node: &Server| {
            let slots = node.ask("CLUSTER SLOTS");
            let ports = cluster.0.iter().filter(|node| slots.contains(&node.port.to_string()));
            node.ask("CLUSTER INFO").contains("cluster_state:ok") && ports.count() == 6
        };
        wait(|| "replicas follow".to_owned(), || cluster.0[3..].iter().all(Server::follows));
        wait(|| "a cluster serves".to_owned(), || cluster.0.iter().all(serves));
        cluster
    }

    pub(crate) fn engine(&self) -> Redis {
        let all: Vec<_> = self.0.iter().map(Server::place).collect();
        connect(&format!("redis+cluster://{}", all.join(",")), RedisSettings::default())
    }
}

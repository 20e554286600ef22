//! Where servers run: on loopback, each region in a network namespace of its own, which can be cut off, or in the laboratory's
//! regions, which are far from each other too.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{
    READY_DEADLINE,
    process::{Process, output, wait},
    wan,
};

/// Regions that a set of servers is spread over.
pub const REGIONS: usize = 3;
/// Set in the process that already has a network of its own.
const MARK: &str = "OUTLAST_DIRECTORY_PROOF_NAMESPACE";
/// Ports for servers, below those that the kernel gives to clients.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// What kind of network servers get.
#[derive(Clone, Debug)]
pub enum Network {
    /// 127.0.0.1, different ports: nothing can be cut.
    Loopback,
    /// The same, and each region has a wall clock of its own, which can be set.
    Clocks,
    /// One namespace a region, joined by a bridge. Needs a process for which [`enter_namespace`] was called.
    Regions,
    /// Hosts of a laboratory of [`plan`](super::plan). Whoever starts the servers and asks them must be at its operator's host.
    Wan(Arc<outlast_lab::Lab>),
}

/// Runs this program again in a network namespace of its own, unless it is in one: what is made in it ends with it, and the
/// machine's network is not touched. Returns only in the namespace.
///
/// # Errors
/// When there is no `unshare`, or it is not allowed.
pub fn enter_namespace() -> anyhow::Result<()> {
    if env::var_os(MARK).is_some() {
        return Ok(());
    }
    let program = env::current_exe().context("finding this program")?;
    let mut again = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        again.arg("--map-root-user");
    }
    again.arg("--net").arg("--").arg(program).args(env::args_os().skip(1)).env(MARK, "1");
    Err(again.exec()).context("running unshare --net")
}

/// A directory for data and logs, and a network with [`REGIONS`] regions.
#[derive(Debug)]
pub(super) struct Ground {
    network: Network,
    /// Keeps a region's namespace alive.
    holders: Vec<Process>,
    dir: Option<TempDir>,
    path: PathBuf,
}

impl Ground {
    pub(super) fn new(network: Network) -> anyhow::Result<Ground> {
        let dir = tempfile::Builder::new().prefix("outlast-directory-").tempdir()?;
        let path = dir.path().to_owned();
        let mut ground = Ground { network, holders: Vec::new(), dir: Some(dir), path };
        if matches!(ground.network, Network::Regions) {
            anyhow::ensure!(env::var_os(MARK).is_some(), "this process has no network of its own");
            ground.bridge().context("making a network of regions")?;
        }
        if matches!(ground.network, Network::Clocks) {
            (0..REGIONS).try_for_each(|region| ground.set_clock(region, 0))?;
        }
        Ok(ground)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keep(&mut self) {
        if let Some(dir) = self.dir.take() {
            self.path = dir.keep();
        }
    }

    /// The address of servers of `region`.
    pub(super) fn host(&self, region: usize) -> String {
        match &self.network {
            Network::Loopback | Network::Clocks => "127.0.0.1".to_owned(),
            Network::Regions => format!("10.77.0.{}", region + 1),
            Network::Wan(_) => wan::address(region, wan::DATABASE),
        }
    }

    /// A port that nobody uses now.
    pub(super) fn port() -> anyhow::Result<u16> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Proofs that run beside each other begin at different ones.
        let first = process::id().wrapping_mul(409) as u16;
        for _ in PORTS {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let port = PORTS.start + first.wrapping_add(step) % (PORTS.end - PORTS.start);
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        anyhow::bail!("no port of {PORTS:?} is free")
    }

    /// The wall clock of `region` is off by `seconds` from now on.
    pub(super) fn set_clock(&self, region: usize, seconds: i64) -> anyhow::Result<()> {
        let can_be = matches!(self.network, Network::Clocks);
        anyhow::ensure!(can_be, "these servers have the machine's clock");
        // In one step: it is read again and again.
        let (file, next) = (self.clock(region), self.path.join("clock"));
        fs::write(&next, format!("{seconds:+}"))?;
        Ok(fs::rename(next, file)?)
    }

    fn clock(&self, region: usize) -> PathBuf {
        self.path.join(format!("region{region}.clock"))
    }

    /// `command`, a server that reads the clock by the C library, as it is run in `region`.
    pub(super) fn server(
        &self,
        region: usize,
        command: Vec<String>,
    ) -> anyhow::Result<Vec<String>> {
        if !matches!(self.network, Network::Clocks) {
            return Ok(self.inside(region, command));
        }
        let settings = [
            "env".to_owned(),
            // Debian's Redis allocates by jemalloc, which asks for the time before the library can tell it: the C library's own
            // allocator comes first.
            format!("LD_PRELOAD={} libc.so.6", faketime()?.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.clock(region).display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ];
        Ok(settings.into_iter().chain(command).collect())
    }

    /// `command` as it is run in `region`.
    pub(super) fn inside(&self, region: usize, command: Vec<String>) -> Vec<String> {
        if let Network::Wan(lab) = &self.network {
            return wan::inside(lab, &wan::database(region), command);
        }
        let Some(holder) = self.holders.get(region).and_then(Process::id) else { return command };
        let holder = holder.to_string();
        let enter = ["nsenter", "--target", &holder, "--net", "--"];
        enter.iter().map(ToString::to_string).chain(command).collect()
    }

    /// The namespace of `region`.
    pub(super) fn namespace(&self, region: usize) -> Option<PathBuf> {
        if let Network::Wan(lab) = &self.network {
            return lab.host(&wan::gateway(region)).ok().map(|host| host.namespace_path());
        }
        let holder = self.holders.get(region)?.id()?;
        Some(format!("/proc/{holder}/ns/net").into())
    }

    pub(super) fn cut(&self, region: usize) -> anyhow::Result<()> {
        match &self.network {
            Network::Wan(lab) => Ok(lab.black_hole(&wan::database(region))?),
            _ => self.link(region, "down"),
        }
    }

    pub(super) fn heal(&self, region: usize) -> anyhow::Result<()> {
        match &self.network {
            Network::Wan(lab) => Ok(lab.heal_black_hole(&wan::database(region))?),
            _ => self.link(region, "up"),
        }
    }

    fn link(&self, region: usize, state: &str) -> anyhow::Result<()> {
        let can_be = matches!(self.network, Network::Regions);
        anyhow::ensure!(can_be, "servers on loopback cannot be cut off");
        output(&["ip", "link", "set", &format!("region{region}"), state]).map(drop)
    }

    /// A bridge, and a pair of interfaces for each region. Everybody knows everybody's hardware address for good: who is
    /// cut off is silent, and not unreachable.
    fn bridge(&mut self) -> anyhow::Result<()> {
        let ip = |words: &str| {
            let words: Vec<&str> = ["ip"].into_iter().chain(words.split(' ')).collect();
            output(&words)
        };
        // Servers from before, of the same process, have gone with theirs.
        drop(ip("link delete bridge0"));
        ip("link set lo up")?;
        ip("link add bridge0 address 02:00:00:00:00:fe type bridge")?;
        ip("addr add 10.77.0.254/24 dev bridge0")?;
        ip("link set bridge0 up")?;
        for region in 0..REGIONS {
            let sleep = ["unshare", "--net", "sleep", "infinity"].map(str::to_owned).to_vec();
            let mut holder = Process::new(sleep, self.path.join(format!("region{region}.log")));
            holder.start()?;
            let id = holder.id().context("a namespace's holder ended")?.to_string();
            let has_own = || {
                let net = |id: &str| fs::read_link(format!("/proc/{id}/ns/net")).ok();
                net(&id).is_some_and(|own| net("self").is_some_and(|ours| own != ours))
            };
            wait("a namespace", READY_DEADLINE, has_own)?;
            self.holders.push(holder);
            drop(ip(&format!("link delete region{region}")));
            ip(&format!(
                "link add region{region} type veth peer name eth0 address 02:00:00:00:00:0{} netns {id}",
                region + 1
            ))?;
            ip(&format!("link set region{region} master bridge0 up"))?;
            ip(&format!(
                "neigh replace 10.77.0.{0} lladdr 02:00:00:00:00:0{0} dev bridge0 nud permanent",
                region + 1
            ))?;
            for words in [
                format!("addr add 10.77.0.{}/24 dev eth0", region + 1),
                "link set eth0 up".to_owned(),
                "link set lo up".to_owned(),
                "neigh replace 10.77.0.254 lladdr 02:00:00:00:00:fe dev eth0 nud permanent"
                    .to_owned(),
            ] {
                self.ip_inside(region, &words)?;
            }
            for other in (0..REGIONS).filter(|other| *other != region).map(|other| other + 1) {
                self.ip_inside(
                    region,
                    &format!(
                        "neigh replace 10.77.0.{other} lladdr 02:00:00:00:00:0{other} dev eth0 nud permanent"
                    ),
                )?;
            }
        }
        Ok(())
    }

    fn ip_inside(&self, region: usize, words: &str) -> anyhow::Result<()> {
        let command: Vec<String> =
            ["ip"].into_iter().chain(words.split(' ')).map(str::to_owned).collect();
        let command = self.inside(region, command);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        output(&command).map(drop)
    }
}

/// The library that tells a program another time (Debian's package libfaketime).
fn faketime() -> anyhow::Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib").context("looking for libfaketime")?;
    let paths = folders.flatten().map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    paths.into_iter().find(|path| path.exists()).context("libfaketime is missing: install it")
}

/// Empties a directory.
pub(super) fn clear(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    Ok(())
}

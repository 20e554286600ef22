//! A primary, two replicas and three Sentinels: one of each kind a region.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    Lab, READY_DEADLINE, Stored,
    ground::{Ground, Network, REGIONS},
    process::{Process, wait},
    programs,
    redis::{Redis, ask},
};

/// What the Sentinels call the primary.
const NAME: &str = "dir";
/// After how long each Sentinel thinks that the primary is down, in milliseconds: on purpose different, or all of them stand
/// for election at once and none is elected. The slowest is beside the first primary.
const DOWN_AFTER: [u32; REGIONS] = [2_000, 1_000, 1_500];

/// Redis with Sentinels.
#[derive(Debug)]
pub struct Sentinels {
    data: Vec<Redis>,
    watchers: Vec<Watcher>,
    ground: Ground,
}

#[derive(Debug)]
struct Watcher {
    process: Process,
    host: String,
    port: u16,
}

impl Sentinels {
    /// Starts them and waits until all know each other.
    ///
    /// # Errors
    /// When Redis is not installed or they do not find together.
    pub fn start(network: Network) -> anyhow::Result<Sentinels> {
        let ground = Ground::new(network)?;
        let safe = ["min-replicas-to-write 1", "min-replicas-max-lag 2"].map(str::to_owned);
        let mut data: Vec<Redis> = Vec::new();
        for region in 0..REGIONS {
            data.push(Redis::new(&ground, &format!("redis{region}"), region, &safe)?);
        }
        let mut watchers = Vec::new();
        for region in 0..REGIONS {
            let file = ground.path().join(format!("sentinel{region}.conf"));
            let command =
                vec![programs::redis(), file.display().to_string(), "--sentinel".to_owned()];
            let log = ground.path().join(format!("sentinel{region}.log"));
            let process = Process::new(ground.server(region, command)?, log);
            watchers.push(Watcher { process, host: ground.host(region), port: Ground::port()? });
        }
        let mut sentinels = Sentinels { data, watchers, ground };
        sentinels.wipe()?;
        Ok(sentinels)
    }

    fn configure(&self, region: usize) -> anyhow::Result<()> {
        let (watcher, primary) = (&self.watchers[region], &self.data[0]);
        let (host, port) = (&watcher.host, watcher.port);
        let text = format!(
            "port {port}\nbind {host}\nprotected-mode no\ndir {}\nsentinel announce-ip {host}\n\
             sentinel announce-port {port}\nsentinel monitor {NAME} {} {} 2\n\
             sentinel down-after-milliseconds {NAME} {}\nsentinel failover-timeout {NAME} 1500\n\
             sentinel parallel-syncs {NAME} 2\n",
            primary.data().display(),
            primary.host,
            primary.port,
            DOWN_AFTER[region]
        );
        fs::write(self.ground.path().join(format!("sentinel{region}.conf")), text)?;
        Ok(())
    }

    /// Whether a Sentinel knows both others and both replicas, and thinks that all is well.
    fn is_content(watcher: &Watcher) -> bool {
        let Ok(said) = ask(&watcher.host, watcher.port, &["sentinel", "master", NAME]) else {
            return false;
        };
        let lines: Vec<_> = said.lines().collect();
        let value = |name: &str| {
            let at = lines.iter().position(|line| *line == name)?;
            lines.get(at + 1).copied()
        };
        value("num-slaves") == Some("2")
            && value("num-other-sentinels") == Some("2")
            && value("flags") == Some("master")
    }
}

impl Lab for Sentinels {
    fn address(&self, region: usize) -> String {
        let mut all: Vec<_> = self
            .watchers
            .iter()
            .map(|watcher| format!("{}:{}", watcher.host, watcher.port))
            .collect();
        all.rotate_left(region % REGIONS);
        format!("redis+sentinel://{}/{NAME}", all.join(","))
    }

    fn network(&self, region: usize) -> Option<PathBuf> {
        self.ground.namespace(region)
    }

    fn servers(&self) -> usize {
        self.data.len()
    }

    fn decides(&self) -> Option<usize> {
        self.data.iter().position(Redis::is_primary)
    }

    fn kill(&mut self, server: usize) -> anyhow::Result<()> {
        self.data.get_mut(server).context("no such server")?.process.kill()
    }

    fn start(&mut self, server: usize) -> anyhow::Result<()> {
        self.data.get_mut(server).context("no such server")?.process.start()
    }

    fn pause(&mut self, server: usize) -> anyhow::Result<()> {
        self.data.get(server).context("no such server")?.process.pause()
    }

    fn resume(&mut self, server: usize) -> anyhow::Result<()> {
        self.data.get(server).context("no such server")?.process.resume()
    }

    fn cut(&mut self, server: usize) -> anyhow::Result<()> {
        self.ground.cut(server)
    }

    fn heal(&mut self, server: usize) -> anyhow::Result<()> {
        self.ground.heal(server)
    }

    /// That of the Sentinel beside it too: they are on one machine.
    fn set_clock(&mut self, server: usize, seconds: i64) -> anyhow::Result<()> {
        self.ground.set_clock(server, seconds)
    }

    fn wipe(&mut self) -> anyhow::Result<()> {
        for watcher in &mut self.watchers {
            watcher.process.kill()?;
        }
        for redis in &mut self.data {
            redis.process.kill()?;
        }
        for redis in &mut self.data {
            redis.start_empty()?;
        }
        let what = format!("Redis and Sentinels serve (logs in {})", self.logs().display());
        wait(&what, READY_DEADLINE, || self.data.iter().all(Redis::is_primary))?;
        for replica in &self.data[1..] {
            replica.follow(&self.data[0])?;
        }
        wait(&what, READY_DEADLINE, || self.data[1..].iter().all(Redis::follows))?;
        for region in 0..REGIONS {
            self.configure(region)?;
            self.watchers[region].process.start()?;
        }
        wait(&what, READY_DEADLINE, || self.is_whole())
    }

    fn is_whole(&self) -> bool {
        let primaries = self.data.iter().filter(|redis| redis.is_primary()).count();
        let replicas = self.data.iter().filter(|redis| redis.follows()).count();
        primaries == 1 && replicas == REGIONS - 1 && self.watchers.iter().all(Self::is_content)
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let data = self.data.iter().enumerate();
        let data = data.map(|(n, redis)| (format!("redis{n}"), redis.process.id()));
        let watchers = self.watchers.iter().enumerate();
        let watchers = watchers.map(|(n, one)| (format!("sentinel{n}"), one.process.id()));
        data.chain(watchers).filter_map(|(name, id)| Some((name, id?))).collect()
    }

    fn stored(&self) -> anyhow::Result<Vec<Stored>> {
        let watchers = self.watchers.iter().map(|_| Ok(Stored::new()));
        self.data.iter().map(Redis::stored).chain(watchers).collect()
    }

    fn compact(&mut self) -> anyhow::Result<()> {
        self.data.iter().try_for_each(Redis::rewrite)
    }

    fn logs(&self) -> &Path {
        self.ground.path()
    }

    fn keep_logs(&mut self) {
        self.ground.keep();
    }
}

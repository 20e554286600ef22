//! A Redis Cluster: a primary and a replica a region, each replica of the primary in the region before.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{
    Lab, READY_DEADLINE, Stored,
    ground::{Ground, Network, REGIONS},
    process::wait,
    redis::Redis,
};

/// Slots of a cluster (its specification).
const SLOTS: usize = 16_384;

/// A Redis Cluster. Servers 0 to 2 start as primaries, 3 to 5 as their replicas.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
    ground: Ground,
}

impl Cluster {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When Redis is not installed or the nodes do not find together.
    pub fn start(network: Network) -> anyhow::Result<Cluster> {
        let ground = Ground::new(network)?;
        let mut nodes = Vec::new();
        for n in 0..2 * REGIONS {
            let own = [
                "cluster-enabled yes".to_owned(),
                format!("cluster-port {}", Ground::port()?),
                "cluster-node-timeout 800".to_owned(),
                "cluster-require-full-coverage no".to_owned(),
                "cluster-replica-validity-factor 0".to_owned(),
                "cluster-allow-reads-when-down yes".to_owned(),
            ];
            nodes.push(Redis::new(&ground, &format!("node{n}"), region(n), &own)?);
        }
        let mut cluster = Cluster { nodes, ground };
        cluster.wipe()?;
        Ok(cluster)
    }

    fn join(&self) -> anyhow::Result<()> {
        for (n, node) in self.nodes.iter().enumerate() {
            node.ask(&["cluster", "set-config-epoch", &(n + 1).to_string()])?;
        }
        for n in 0..REGIONS {
            let (first, next) = (n * SLOTS / REGIONS, (n + 1) * SLOTS / REGIONS);
            let range = [first.to_string(), (next - 1).to_string()];
            self.nodes[n].ask(&["cluster", "addslotsrange", &range[0], &range[1]])?;
        }
        let first = &self.nodes[0];
        for other in &self.nodes[1..] {
            let bus = other.ask(&["config", "get", "cluster-port"])?;
            let bus = bus.lines().nth(1).context("a node has no bus")?.trim().to_owned();
            first.ask(&["cluster", "meet", &other.host, &other.port.to_string(), &bus])?;
        }
        let knows_all = |node: &Redis| {
            let said = node.ask(&["cluster", "nodes"]).unwrap_or_default();
            said.lines().count() == self.nodes.len() && !said.contains("handshake")
        };
        let what = format!("nodes of a cluster meet (logs in {})", self.logs().display());
        wait(&what, READY_DEADLINE, || self.nodes.iter().all(knows_all))?;
        for (n, replica) in self.nodes.iter().enumerate().skip(REGIONS) {
            let primary = self.nodes[n - REGIONS].ask(&["cluster", "myid"])?;
            replica.ask(&["cluster", "replicate", primary.trim()])?;
        }
        Ok(())
    }
}

/// Where server `n` is: the replica of region 0's primary is in region 1.
fn region(n: usize) -> usize {
    if n < REGIONS { n } else { (n + 1) % REGIONS }
}

impl Lab for Cluster {
    fn address(&self, region: usize) -> String {
        let mut all: Vec<_> = self.nodes.iter().map(Redis::place).collect();
        all.rotate_left(region % REGIONS);
        format!("redis+cluster://{}", all.join(","))
    }

    fn network(&self, region: usize) -> Option<PathBuf> {
        self.ground.namespace(region)
    }

    fn servers(&self) -> usize {
        self.nodes.len()
    }

    fn decides(&self) -> Option<usize> {
        None
    }

    fn kill(&mut self, server: usize) -> anyhow::Result<()> {
        self.nodes.get_mut(server).context("no such node")?.process.kill()
    }

    fn start(&mut self, server: usize) -> anyhow::Result<()> {
        self.nodes.get_mut(server).context("no such node")?.process.start()
    }

    fn pause(&mut self, server: usize) -> anyhow::Result<()> {
        self.nodes.get(server).context("no such node")?.process.pause()
    }

    fn resume(&mut self, server: usize) -> anyhow::Result<()> {
        self.nodes.get(server).context("no such node")?.process.resume()
    }

    fn cut(&mut self, server: usize) -> anyhow::Result<()> {
        self.ground.cut(region(server))
    }

    fn heal(&mut self, server: usize) -> anyhow::Result<()> {
        self.ground.heal(region(server))
    }

    /// That of the other server in its region too: they are on one machine.
    fn set_clock(&mut self, server: usize, seconds: i64) -> anyhow::Result<()> {
        self.ground.set_clock(region(server), seconds)
    }

    fn wipe(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            node.process.kill()?;
        }
        for node in &mut self.nodes {
            node.start_empty()?;
        }
        let what = format!("a cluster serves (logs in {})", self.logs().display());
        wait(&what, READY_DEADLINE, || self.nodes.iter().all(Redis::is_primary))?;
        self.join()?;
        wait(&what, READY_DEADLINE, || self.is_whole())
    }

    fn is_whole(&self) -> bool {
        let fine = |node: &Redis| {
            node.ask(&["cluster", "info"]).is_ok_and(|said| said.contains("cluster_state:ok"))
                && node
                    .ask(&["cluster", "nodes"])
                    .is_ok_and(|said| !said.contains("fail") && !said.contains("handshake"))
        };
        let replicas = self.nodes.iter().filter(|node| node.follows()).count();
        replicas == REGIONS && self.nodes.iter().all(fine)
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let id = |(n, node): (usize, &Redis)| Some((format!("node{n}"), node.process.id()?));
        self.nodes.iter().enumerate().filter_map(id).collect()
    }

    fn stored(&self) -> anyhow::Result<Vec<Stored>> {
        self.nodes.iter().map(Redis::stored).collect()
    }

    fn compact(&mut self) -> anyhow::Result<()> {
        self.nodes.iter().try_for_each(Redis::rewrite)
    }

    fn logs(&self) -> &Path {
        self.ground.path()
    }

    fn keep_logs(&mut self) {
        self.ground.keep();
    }
}

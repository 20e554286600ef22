//! The real program in each region: a gateway and a node or two.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use outlast_lab::Lab as Network;
use outlast_runtime::entropy;
use tempfile::TempDir;

use crate::servers::{
    REGIONS,
    process::{Process, output, wait},
    wan,
};

use super::scrape;

/// How long a fleet may take until everybody hears everybody.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Signs clients' tokens.
pub(crate) const API_KEY: &str = "table";
/// Its secret, which is none.
pub(crate) const API_SECRET: &str = "a-secret-of-the-fault-table-and-of-nothing-else";

/// Gateways and nodes of all regions.
pub(crate) struct Fleet {
    /// Ended before the files go that they use.
    gateways: Vec<Process>,
    _nodes: Vec<Process>,
    nodes_per_region: usize,
    dir: Option<TempDir>,
    path: PathBuf,
    /// Of the cluster: keys of rooms in the directory hang on it.
    pub(crate) secret: String,
}

impl Fleet {
    /// Starts `program` everywhere, gateways with the directory that `directory` tells of their region, and waits until every
    /// gateway hears every node and every other gateway, and has a directory.
    ///
    /// # Errors
    /// When a process does not start or they do not find together; the logs are kept then.
    pub(crate) fn start(
        program: &Path,
        network: &Network,
        directory: impl Fn(usize) -> String,
        nodes_per_region: usize,
    ) -> anyhow::Result<Fleet> {
        let dir = tempfile::Builder::new().prefix("outlast-table-").tempdir()?;
        let path = dir.path().to_owned();
        let random: [u8; 16] = entropy::bytes()?;
        let secret = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let nodes_per_region = nodes_per_region.clamp(1, wan::NODES_MAX);
        let mut fleet = Fleet {
            gateways: Vec::new(),
            _nodes: Vec::new(),
            nodes_per_region,
            dir: Some(dir),
            path,
            secret,
        };
        let started = fleet.start_all(program, network, directory).and_then(|()| {
            wait("all gateways hear all others", READY_DEADLINE, || {
                (0..REGIONS).all(|region| fleet.is_ready(region))
            })
        });
        if let Err(error) = started {
            fleet.keep_logs();
            return Err(error.context(format!("logs in {}", fleet.path.display())));
        }
        Ok(fleet)
    }

    fn start_all(
        &mut self,
        program: &Path,
        network: &Network,
        directory: impl Fn(usize) -> String,
    ) -> anyhow::Result<()> {
        let (pki, program) = (self.path.join("pki"), program.display().to_string());
        let pki_text = pki.display().to_string();
        output(&[&program, "ca", "init", "--out", &pki_text])?;
        for region in 0..REGIONS {
            for number in 0..self.nodes_per_region {
                let host = wan::node(region, number);
                let process = self.process(&program, network, &host, &self.node(region, number))?;
                self._nodes.push(process);
            }
            let host = wan::gateway(region);
            let config = self.gateway(region, &directory(region));
            let process = self.process(&program, network, &host, &config)?;
            self.gateways.push(process);
        }
        for process in self._nodes.iter_mut().chain(&mut self.gateways) {
            process.start()?;
        }
        Ok(())
    }

    /// A process at `host`, whose name is its id, with a certificate and a configuration.
    fn process(
        &self,
        program: &str,
        network: &Network,
        host: &str,
        config: &str,
    ) -> anyhow::Result<Process> {
        let pki = self.path.join("pki").display().to_string();
        output(&[program, "ca", "issue", "--name", host, "--ca", &pki, "--out", &pki])?;
        let file = self.path.join(format!("{host}.toml"));
        write(&file, config)?;
        let file = file.display().to_string();
        let words = [program, "serve", "--config", &file].map(str::to_owned).to_vec();
        let log = self.path.join(format!("{host}.log"));
        Ok(Process::new(wan::inside(network, host, words), log))
    }

    fn gateway(&self, region: usize, directory: &str) -> String {
        let own = wan::address(region, wan::GATEWAY);
        let id = wan::gateway(region);
        let head = format!(
            "region = \"{}\"\nroles = [\"gateway\"]\ndirectory = \"{directory}\"\n",
            wan::site(region)
        );
        let role = format!(
            "[gateway]\nid = \"{id}\"\nlisten = \"{own}:7880\"\nbeat = \"{own}:7890\"\nstate_dir = \"{}\"\n",
            self.path.display()
        );
        head + &self.common(&id, &own) + &role + &self.peers()
    }

    fn node(&self, region: usize, number: usize) -> String {
        let own = node_address(region, number);
        let id = wan::node(region, number);
        let head = format!("region = \"{}\"\nroles = [\"node\"]\n", wan::site(region));
        let role = format!(
            "[node]\nid = \"{id}\"\nlisten = \"{own}:7881\"\nbeat = \"{own}:7891\"\nshards = 1\n\
             bind = [\"{own}\"]\nadvertise = [\"{own}\"]\n"
        );
        head + &self.common(&id, &own) + &role + &self.peers()
    }

    fn common(&self, id: &str, own: &str) -> String {
        let pki = self.path.join("pki").display().to_string();
        format!(
            "[keys]\n{API_KEY} = \"{API_SECRET}\"\n[cluster]\nsecret = \"{}\"\nca = \"{pki}/ca.pem\"\n\
             cert = \"{pki}/{id}.pem\"\nkey = \"{pki}/{id}.key\"\n[admin]\nlisten = \"{own}:7889\"\n",
            self.secret
        )
    }

    fn peers(&self) -> String {
        let mut lines = String::new();
        for region in 0..REGIONS {
            let (site, own) = (wan::site(region), wan::address(region, wan::GATEWAY));
            let id = wan::gateway(region);
            lines += &format!(
                "[[peers]]\nrole = \"gateway\"\nid = \"{id}\"\nregion = \"{site}\"\nbeat = \"{own}:7890\"\n"
            );
            for number in 0..self.nodes_per_region {
                let (own, id) = (node_address(region, number), wan::node(region, number));
                lines += &format!(
                    "[[peers]]\nrole = \"node\"\nid = \"{id}\"\nregion = \"{site}\"\n\
                     address = \"{own}:7881\"\nbeat = \"{own}:7891\"\n"
                );
            }
        }
        lines
    }

    /// Whether a gateway hears all others and its directory is not away.
    pub(crate) fn is_ready(&self, region: usize) -> bool {
        let Ok(page) = self.metrics(region) else { return false };
        let alive = scrape::sum(&page, "outlast_gateway_nodes", &["health=\"alive\""]);
        let heard = scrape::sum(&page, "outlast_gateway_gateways_heard", &[]);
        let away = scrape::Directory::read(&page).away;
        alive == (REGIONS * self.nodes_per_region) as f64
            && heard == (REGIONS - 1) as f64
            && away == 0.0
    }

    /// A gateway's metrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn metrics(&self, region: usize) -> anyhow::Result<String> {
        scrape::page(admin(region), "/metrics")
    }

    /// The processes of all gateways that run.
    pub(crate) fn gateway_processes(&self) -> Vec<u32> {
        self.gateways.iter().filter_map(Process::id).collect()
    }

    /// Kills a gateway, starts it again and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub(crate) fn restart_gateway(&mut self, region: usize) -> anyhow::Result<()> {
        let gateway = self.gateways.get_mut(region).context("no such gateway")?;
        gateway.kill()?;
        gateway.start()?;
        wait("the gateway is ready again", READY_DEADLINE, || {
            scrape::page(admin(region), "/healthz/ready").is_ok()
        })
    }

    /// The same with another directory.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub(crate) fn move_gateway(&mut self, region: usize, directory: &str) -> anyhow::Result<()> {
        let file = self.path.join(format!("{}.toml", wan::gateway(region)));
        write(&file, &self.gateway(region, directory))?;
        self.restart_gateway(region)
    }

    /// Keeps the logs when the fleet is dropped, and says where.
    pub(crate) fn keep_logs(&mut self) -> &Path {
        if let Some(dir) = self.dir.take() {
            self.path = dir.keep();
        }
        &self.path
    }
}

/// For its owner alone: there are secrets in it.
fn write(file: &Path, config: &str) -> anyhow::Result<()> {
    fs::write(file, config).with_context(|| format!("writing {}", file.display()))?;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o600))?)
}

/// Where a gateway's metrics are.
pub(crate) fn admin(region: usize) -> SocketAddr {
    socket(region, 7889)
}

/// Where its clients come in.
pub(crate) fn public(region: usize) -> SocketAddr {
    socket(region, 7880)
}

fn socket(region: usize, port: u16) -> SocketAddr {
    let address = wan::address(region, wan::GATEWAY);
    format!("{address}:{port}").parse().expect("an address and a port")
}

fn node_address(region: usize, number: usize) -> String {
    wan::address(region, wan::NODE + number as u8)
}

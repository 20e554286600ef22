//! One etcd, or three that are one cluster, each in a region.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;

use super::{
    Lab, READY_DEADLINE, Stored,
    ground::{Ground, Network, REGIONS, clear},
    process::{Process, output, wait},
    programs, stored,
};

/// How long etcd may take to throw history away.
const COMPACT_TIMEOUT: &str = "--command-timeout=60s";
/// A member that is as large as so long before has nothing left to throw away.
const SETTLES: Duration = Duration::from_secs(1);

/// Members of one etcd cluster.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    ground: Ground,
}

#[derive(Debug)]
struct Member {
    process: Process,
    /// `host:port` for clients.
    client: String,
    data: PathBuf,
}

impl Member {
    fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = vec!["etcdctl", "--endpoints", &self.client, "--command-timeout=2s"];
        command.extend(words);
        output(&command)
    }

    fn stored(&self) -> anyhow::Result<Stored> {
        let mut stored = stored::of_etcd(&self.ask(&["endpoint", "status", "-w", "json"])?)?;
        stored.insert("disk", stored::disk(&self.data)?);
        Ok(stored)
    }
}

impl Etcd {
    /// Starts `members` of them, 1 or 3, and waits until they serve.
    ///
    /// # Errors
    /// When etcd is not installed or does not serve.
    pub fn start(members: usize, network: Network) -> anyhow::Result<Etcd> {
        let ground = Ground::new(network)?;
        let mut places = Vec::new();
        for n in 0..members {
            let host = ground.host(n % REGIONS);
            places.push((
                format!("{host}:{}", Ground::port()?),
                format!("{host}:{}", Ground::port()?),
            ));
        }
        let all: Vec<_> =
            places.iter().enumerate().map(|(n, (_, peer))| format!("m{n}=http://{peer}")).collect();
        let all = all.join(",");
        let mut etcd = Etcd { members: Vec::new(), ground };
        for (n, (client, peer)) in places.into_iter().enumerate() {
            let data = etcd.ground.path().join(format!("m{n}"));
            let words = format!(
                "--name m{n} --data-dir {} --listen-client-urls http://{client} \
                 --advertise-client-urls http://{client} --listen-peer-urls http://{peer} \
                 --initial-advertise-peer-urls http://{peer} --initial-cluster {all} \
                 --initial-cluster-state new --heartbeat-interval 100 --election-timeout 1000 \
                 --pre-vote=true --grpc-keepalive-min-time 200ms --auto-compaction-mode periodic \
                 --auto-compaction-retention 5m --logger zap --log-level warn",
                data.display()
            );
            let words = words.split_whitespace().map(str::to_owned);
            let command = [programs::etcd()].into_iter().chain(words).collect();
            let command = etcd.ground.inside(n % REGIONS, command);
            let log = etcd.ground.path().join(format!("m{n}.log"));
            etcd.members.push(Member { process: Process::new(command, log), client, data });
        }
        etcd.all_start()?;
        Ok(etcd)
    }

    fn all_start(&mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            clear(&member.data)?;
            // etcd warns of a directory that others can read.
            fs::set_permissions(&member.data, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
            member.process.start()?;
        }
        wait(&format!("etcd serves (logs in {})", self.logs().display()), READY_DEADLINE, || {
            self.is_whole()
        })
    }

    /// What member `n` says of itself, if it is healthy.
    fn status(&self, n: usize) -> Option<String> {
        self.members.get(n)?.ask(&["endpoint", "status"]).ok()
    }
}

impl Lab for Etcd {
    fn address(&self, region: usize) -> String {
        let mut clients: Vec<_> =
            self.members.iter().map(|member| member.client.as_str()).collect();
        let own = region % clients.len();
        clients.rotate_left(own);
        format!("etcd://{}", clients.join(","))
    }

    fn network(&self, region: usize) -> Option<PathBuf> {
        self.ground.namespace(region)
    }

    fn servers(&self) -> usize {
        self.members.len()
    }

    fn asks_twice(&self) -> bool {
        true
    }

    fn decides(&self) -> Option<usize> {
        // endpoint, id, version, size, is leader, ...
        let leads =
            |n: &usize| self.status(*n).is_some_and(|said| said.split(", ").nth(4) == Some("true"));
        (0..self.members.len()).find(leads)
    }

    fn kill(&mut self, server: usize) -> anyhow::Result<()> {
        self.members.get_mut(server).context("no such member")?.process.kill()
    }

    fn start(&mut self, server: usize) -> anyhow::Result<()> {
        self.members.get_mut(server).context("no such member")?.process.start()
    }

    fn pause(&mut self, server: usize) -> anyhow::Result<()> {
        self.members.get(server).context("no such member")?.process.pause()
    }

    fn resume(&mut self, server: usize) -> anyhow::Result<()> {
        self.members.get(server).context("no such member")?.process.resume()
    }

    fn cut(&mut self, server: usize) -> anyhow::Result<()> {
        self.ground.cut(server % REGIONS)
    }

    fn heal(&mut self, server: usize) -> anyhow::Result<()> {
        self.ground.heal(server % REGIONS)
    }

    fn wipe(&mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            member.process.kill()?;
        }
        self.all_start()
    }

    fn is_whole(&self) -> bool {
        // A linearizable read.
        self.members.iter().all(|member| member.ask(&["get", "whole"]).is_ok())
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let id = |(n, member): (usize, &Member)| Some((format!("m{n}"), member.process.id()?));
        self.members.iter().enumerate().filter_map(id).collect()
    }

    fn stored(&self) -> anyhow::Result<Vec<Stored>> {
        self.members.iter().map(Member::stored).collect()
    }

    fn compact(&mut self) -> anyhow::Result<()> {
        let first = self.members.first().context("no member")?;
        let in_use = |etcd: &Etcd| -> anyhow::Result<Vec<u64>> {
            let figures = etcd.stored()?;
            Ok(figures.iter().filter_map(|one| one.get("db_in_use").copied()).collect())
        };
        let begin = in_use(self)?;
        let revision = first.stored()?.get("revision").copied().unwrap_or_default();
        let revision = revision.to_string();
        let (all, limit) = (format!("--endpoints={}", first.client), COMPACT_TIMEOUT);
        output(&["etcdctl", &all, limit, "compact", "--physical", &revision])?;
        let mut before = Vec::new();
        wait("etcd has compacted", READY_DEADLINE, || {
            // The others follow, and pages that one commit has left are free in the next, which comes when something is written.
            let written = output(&["etcdctl", &all, limit, "put", "compacted", &revision]);
            std::thread::sleep(SETTLES);
            let now = in_use(self).unwrap_or_default();
            let is_less =
                now.len() == begin.len() && now.iter().zip(&begin).all(|(now, begin)| now < begin);
            written.is_ok() && is_less && std::mem::replace(&mut before, now.clone()) == now
        })
    }

    fn logs(&self) -> &Path {
        self.ground.path()
    }

    fn keep_logs(&mut self) {
        self.ground.keep();
    }
}

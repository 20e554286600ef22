//! What one Redis server needs, alone, with Sentinels or in a cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    READY_DEADLINE, Stored,
    ground::{Ground, clear},
    process::{Process, output, wait},
    programs, stored,
};

/// A Redis server.
#[derive(Debug)]
pub(super) struct Redis {
    pub(super) process: Process,
    pub(super) host: String,
    pub(super) port: u16,
    data: PathBuf,
    /// Its configuration, in which it keeps whose replica it is.
    file: PathBuf,
    /// The configuration as it was at first.
    settings: String,
}

impl Redis {
    /// In `region`, with `more` settings, each `name value`. Not started.
    pub(super) fn new(
        ground: &Ground,
        name: &str,
        region: usize,
        more: &[String],
    ) -> anyhow::Result<Redis> {
        let (host, port) = (ground.host(region), Ground::port()?);
        let data = ground.path().join(name);
        let own = format!(
            "port {port}\nbind {host}\nprotected-mode no\ndir {}\nappendonly yes\nappendfsync everysec\nsave \"\"\n\
             repl-diskless-sync yes\nrepl-diskless-sync-delay 0\nrepl-backlog-size 64mb\nrepl-ping-replica-period 1\n\
             repl-timeout 10\ntcp-keepalive 5\nmaxmemory-policy noeviction\n",
            data.display()
        );
        let more: String = more.iter().map(|setting| format!("{setting}\n")).collect();
        let file = ground.path().join(format!("{name}.conf"));
        let command = vec![programs::redis(), file.display().to_string()];
        let log = ground.path().join(format!("{name}.log"));
        let process = Process::new(ground.server(region, command)?, log);
        let redis = Redis { process, host, port, data, file, settings: own + &more };
        redis.forget()?;
        Ok(redis)
    }

    /// `host:port`.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Starts it with nothing.
    pub(super) fn start_empty(&mut self) -> anyhow::Result<()> {
        self.forget()?;
        self.process.start()
    }

    fn forget(&self) -> anyhow::Result<()> {
        clear(&self.data)?;
        Ok(fs::write(&self.file, &self.settings)?)
    }

    /// Makes it the replica of `primary`, also when it is started again.
    pub(super) fn follow(&self, primary: &Redis) -> anyhow::Result<()> {
        self.ask(&["replicaof", &primary.host, &primary.port.to_string()])?;
        self.ask(&["config", "rewrite"]).map(drop)
    }

    /// What it answers to `words`.
    pub(super) fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        ask(&self.host, self.port, words)
    }

    /// A line of `INFO replication`.
    pub(super) fn replication(&self, name: &str) -> Option<String> {
        let said = self.ask(&["info", "replication"]).ok()?;
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    pub(super) fn is_primary(&self) -> bool {
        self.replication("role").is_some_and(|role| role == "master")
    }

    /// Whether it is a replica that hears its primary.
    pub(super) fn follows(&self) -> bool {
        self.replication("master_link_status").is_some_and(|status| status == "up")
    }

    /// What it keeps.
    pub(super) fn stored(&self) -> anyhow::Result<Stored> {
        let mut stored = stored::of_redis(&self.ask(&["info"])?)?;
        stored.insert("disk", stored::disk(&self.data)?);
        Ok(stored)
    }

    /// Has it write its file anew, without what has been superseded; returns when it has.
    pub(super) fn rewrite(&self) -> anyhow::Result<()> {
        self.ask(&["bgrewriteaof"])?;
        wait("Redis has rewritten its file", READY_DEADLINE, || {
            let said = self.ask(&["info", "persistence"]).unwrap_or_default();
            said.contains("aof_rewrite_in_progress:0") && said.contains("aof_rewrite_scheduled:0")
        })
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }
}

/// What the server at `host:port` answers to `words`. One that is frozen or cut off does not answer within a second.
pub(super) fn ask(host: &str, port: u16, words: &[&str]) -> anyhow::Result<String> {
    let port = port.to_string();
    let mut command = vec!["timeout", "1", "redis-cli", "-h", host, "-p", &port];
    command.extend(words);
    let said = output(&command)?;
    // An error is printed like an answer.
    anyhow::ensure!(!said.starts_with("(error)") && !said.starts_with("ERR"), "{words:?}: {said}");
    Ok(said)
}

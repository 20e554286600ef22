//! What one Redis server needs, alone, with Sentinels or in a cluster.

use std::path::{Path, PathBuf};

use super::{
    READY_DEADLINE, Stored,
    ground::{Ground, clear},
    process::{Process, output, wait},
    stored,
};

/// A Redis server.
#[derive(Debug)]
pub(super) struct Redis {
    pub(super) process: Process,
    pub(super) host: String,
    pub(super) port: u16,
    data: PathBuf,
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
        clear(&data)?;
        let own = format!(
            "port {port}\n bind {host}\n protected-mode no\n dir {}\n appendonly yes\n \
             appendfsync everysec\n save \"\"\n repl-diskless-sync yes\n repl-diskless-sync-delay 0\n \
             repl-backlog-size 64mb\n repl-ping-replica-period 1\n repl-timeout 10\n tcp-keepalive 5\n \
             maxmemory-policy noeviction",
            data.display()
        );
        let settings = own.lines().map(str::trim).chain(more.iter().map(String::as_str));
        let mut command = vec!["redis-server".to_owned()];
        for setting in settings {
            let (name, value) = setting.split_once(' ').unwrap_or((setting, ""));
            command.push(format!("--{name}"));
            command.extend(value.split(' ').map(str::to_owned));
        }
        let log = ground.path().join(format!("{name}.log"));
        let process = Process::new(ground.inside(region, command), log);
        Ok(Redis { process, host, port, data })
    }

    /// `host:port`.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Starts it with nothing.
    pub(super) fn start_empty(&mut self) -> anyhow::Result<()> {
        clear(&self.data)?;
        self.process.start()
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

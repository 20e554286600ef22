//! Launches real servers for the proof, each set with the settings that worked (`docs/directory.md` says why), in a directory
//! of its own. They end when they are dropped, and when this process dies.

mod cluster;
mod embedded;
mod etcd;
mod ground;
pub(crate) mod process;
mod programs;
mod redis;
mod sentinel;
mod shards;
mod single;
mod stored;
pub(crate) mod wan;

pub use cluster::Cluster;
pub use embedded::InProcess;
pub use etcd::Etcd;
pub use ground::{Network, REGIONS, enter_namespace};
pub use programs::Programs;
pub use sentinel::Sentinels;
pub use shards::Shards;
pub use single::Single;
pub use stored::{COUNTS, Stored};
pub use wan::plan;

pub(crate) use process::output;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use outlast_engines::Engine;

use crate::connect::connect_with;

/// How long a set of servers may take until it serves.
pub const READY_DEADLINE: Duration = Duration::from_secs(40);

/// Servers below an engine, and what can be done to them. A fault stays until it is taken back.
pub trait Lab: Send {
    /// Where an engine finds them, as in a configuration; the nearest one of `region` comes first.
    fn address(&self, region: usize) -> String;

    /// An engine for the gateways of `region`; where replication is asynchronous a claim waits for so many `replicas`, `None`
    /// for as many as in a gateway. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When this program does not have the engine.
    fn connect(&self, region: usize, replicas: Option<u32>) -> anyhow::Result<Arc<dyn Engine>> {
        connect_with(&self.address(region), replicas)
    }

    /// The network namespace of `region`, where its gateways are too; `None`: that of this process.
    fn network(&self, _region: usize) -> Option<PathBuf> {
        None
    }

    /// How many servers faults may hit.
    fn servers(&self) -> usize;

    /// Whether the engine sends a claim to a second server when the first is silent.
    fn asks_twice(&self) -> bool {
        false
    }

    /// Which of them decides now, as far as they say; `None` when all do.
    fn decides(&self) -> Option<usize>;

    /// Ends the process of a server at once, and starts nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn kill(&mut self, server: usize) -> anyhow::Result<()>;

    /// Starts a killed server with the data that it had.
    ///
    /// # Errors
    /// When it cannot be started.
    fn start(&mut self, server: usize) -> anyhow::Result<()>;

    /// Freezes a server: it keeps its connections and answers nobody.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn pause(&mut self, server: usize) -> anyhow::Result<()>;

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn resume(&mut self, server: usize) -> anyhow::Result<()>;

    /// Drops every packet between the region of a server and the others, clients included.
    ///
    /// # Errors
    /// When the servers have no network of their own.
    fn cut(&mut self, server: usize) -> anyhow::Result<()>;

    /// Ends a cut.
    ///
    /// # Errors
    /// As for a cut.
    fn heal(&mut self, server: usize) -> anyhow::Result<()>;

    /// Sets the wall clock of a server's machine `seconds` ahead, or back; 0: it is right again.
    ///
    /// # Errors
    /// When the servers have the machine's clock.
    fn set_clock(&mut self, _server: usize, _seconds: i64) -> anyhow::Result<()> {
        anyhow::bail!(
            "the clock of these servers cannot be set without setting the machine's: they do not ask the C library for \
             it, and time namespaces leave the wall clock alone"
        )
    }

    /// Ends all servers, takes their data away and starts them anew; returns when they serve.
    ///
    /// # Errors
    /// When they cannot be started again.
    fn wipe(&mut self) -> anyhow::Result<()>;

    /// Whether every server takes part, replicas in step: what a fault must wait for before the next one.
    fn is_whole(&self) -> bool;

    /// The servers' processes: what each is, and its id. Faults may hit fewer than there are.
    fn processes(&self) -> Vec<(String, u32)> {
        Vec::new()
    }

    /// What each of [`Lab::processes`] keeps; nothing for one that keeps nothing.
    ///
    /// # Errors
    /// When a server does not say.
    fn stored(&self) -> anyhow::Result<Vec<Stored>> {
        Ok(Vec::new())
    }

    /// Has the history thrown away, as servers do themselves from time to time; returns when it is.
    ///
    /// # Errors
    /// When they do not.
    fn compact(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Where their logs are.
    fn logs(&self) -> &Path;

    /// Keeps the logs when the servers are dropped.
    fn keep_logs(&mut self);
}

//! One directory to look at: an engine with what only operators ask it.

use std::time::Duration;

use anyhow::{bail, ensure};
use outlast_directory::{Failure, InstanceId, Reply, Request};
use outlast_engines::{
    Access, Engine, EngineKind, Etcd, EtcdSettings, HostPort, Partition, Redis, RedisSettings,
    Shared, Survey,
};
use outlast_model::RegionName;
use tokio::time::{Instant, sleep};

/// Between two questions to an engine that does not know.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long an answer is waited for, a lost leader's successor included.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A directory, or one shard of it.
pub(crate) struct Site {
    /// The shard's region.
    pub(super) region: Option<RegionName>,
    /// Where it is.
    pub(super) address: Shared,
    server: Server,
}

enum Server {
    Etcd(Etcd),
    Redis(Redis),
}

impl Site {
    /// Begins to connect. Must be called within a tokio runtime.
    pub(crate) fn connect(
        region: Option<RegionName>,
        address: Shared,
        access: &Access,
    ) -> anyhow::Result<Site> {
        let server = match &address.engine {
            EngineKind::Etcd => {
                Server::Etcd(Etcd::connect(&address, access, EtcdSettings::default())?)
            }
            EngineKind::Redis | EngineKind::Sentinel { .. } | EngineKind::Cluster => {
                Server::Redis(Redis::connect(&address, access, RedisSettings::default())?)
            }
        };
        Ok(Site { region, address, server })
    }

    /// Its name for people: the shard's region, or its address.
    pub(super) fn title(&self) -> String {
        match &self.region {
            Some(region) => format!("shard {region}, {}", self.address),
            None => self.address.to_string(),
        }
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        match &self.server {
            Server::Etcd(etcd) => etcd,
            Server::Redis(redis) => redis,
        }
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.engine().partitions().get()).map(Partition)
    }

    /// Asks every server `probes` times how it is.
    pub(super) async fn survey(&self, probes: usize) -> Survey {
        match &self.server {
            Server::Etcd(etcd) => etcd.inspect(probes).await,
            Server::Redis(redis) => redis.inspect(probes).await,
        }
    }

    /// How many rooms it has at most, if that is cheap to know.
    pub(super) async fn rooms(&self) -> Option<u64> {
        match &self.server {
            Server::Etcd(etcd) => etcd.rooms().await,
            Server::Redis(redis) => redis.rooms().await,
        }
    }

    /// Deletes everything of Outlast's; returns how many keys.
    pub(crate) async fn wipe(&self) -> anyhow::Result<u64> {
        let wiped = match &self.server {
            Server::Etcd(etcd) => etcd.wipe().await,
            Server::Redis(redis) => redis.wipe().await,
        };
        wiped.map_err(anyhow::Error::msg)
    }

    /// Makes the etcd member at `to` the leader.
    pub(super) async fn move_leader(&self, to: &HostPort) -> anyhow::Result<()> {
        match &self.server {
            Server::Etcd(etcd) => Ok(etcd.move_leader(to).await?),
            Server::Redis(_) => {
                bail!("Redis has no leader to move: see outlast directory failover")
            }
        }
    }

    /// Makes a replica decide for `at`, in Redis; returns what happened, in words.
    pub(super) async fn promote(&self, at: Partition) -> anyhow::Result<String> {
        match &self.server {
            Server::Etcd(_) => bail!("etcd has no replicas to promote"),
            Server::Redis(redis) => Ok(redis.failover(at).await?),
        }
    }

    /// Asks until there is an answer that tells something.
    ///
    /// # Errors
    /// When there is none within [`ANSWER_MAX`].
    pub(super) async fn insist(&self, at: Partition, request: &Request) -> anyhow::Result<Reply> {
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let reply = self.engine().ask(at, request.clone()).await;
            if !matches!(reply, Reply::Failed(Failure::Unavailable | Failure::Unknown)) {
                return Ok(reply);
            }
            ensure!(Instant::now() < deadline, "nobody answers within {ANSWER_MAX:?}");
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Which content a partition has.
    pub(super) async fn instance(&self, at: Partition) -> anyhow::Result<InstanceId> {
        match self.insist(at, &Request::Instance).await? {
            Reply::Instance(instance) => Ok(instance),
            other => bail!("asked for its instance it answers {other:?}"),
        }
    }
}

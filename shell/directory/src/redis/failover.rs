//! Another primary on purpose, so that no acknowledged claim is lost.

use std::{sync::Arc, time::Duration};

use outlast_directory::Partition;
use redis::{Cmd, Value};
use tokio::time::{sleep, timeout};

use super::{
    Redis, Topology,
    cluster::Cluster,
    fault,
    node_conn::NodeConn,
    primary::{Primary, replication},
    sentinel::Sentinels,
};
use crate::HostPort;

/// For how long the primary takes no writes. Lower: it takes some again before a replica is in its place, which are lost;
/// higher: nobody writes for so long if no replica comes to be.
const PAUSE: Duration = Duration::from_millis(4_000);
/// How long replicas may take to have everything.
const CATCH_UP_MAX: Duration = Duration::from_millis(2_500);
/// How long it may take until another one decides.
const SWITCH_MAX: Duration = Duration::from_secs(10);
/// Between two looks at replicas.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Why no other server decides, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailoverError {
    /// There is one server only.
    #[error("there is one server only: nobody can take over")]
    Alone,
    /// Whoever decides is not reached.
    #[error("nobody is reached who decides")]
    NoPrimary,
    /// Nobody is reached who could take over, or could be told to bring it about.
    #[error("neither a replica nor a Sentinel is reached that could bring it about")]
    NotReached,
    /// Replicas lag behind: writes would be lost.
    #[error("the replicas of {0} do not catch up: nothing was changed")]
    Behind(HostPort),
    /// A server refused.
    #[error("{at} refused: {words}")]
    Refused {
        /// Which.
        at: HostPort,
        /// What it said.
        words: String,
    },
    /// Nobody else decides yet.
    #[error("nobody else than {0} decides after {SWITCH_MAX:?}")]
    NoSwitch(HostPort),
}

impl Redis {
    /// Makes a replica decide for `at` and for whatever else its primary decides for; returns what happened, in words. No
    /// acknowledged claim is lost by it. Claims are answered `Unknown` or `Unavailable` until it is done.
    ///
    /// # Errors
    /// See [`FailoverError`]. After one it may come about all the same, unless it is said otherwise.
    pub async fn failover(&self, at: Partition) -> Result<String, FailoverError> {
        let primary = self.shared.routes.primary(at).ok_or(FailoverError::NoPrimary)?;
        match &self.shared.topology {
            Topology::Single => return Err(FailoverError::Alone),
            Topology::Sentinel(sentinels) => {
                by_sentinel(sentinels, &primary).await?;
            }
            Topology::Cluster(cluster) => {
                let keys = self.shared.keys.get(usize::from(at.0));
                in_cluster(cluster, keys.ok_or(FailoverError::NoPrimary)?.slot).await?;
            }
        }
        let node = primary.node().clone();
        drop(primary);
        let held = matches!(self.shared.topology, Topology::Sentinel(_));
        let switched = tokio::select! {
            switched = self.switched(at, node.at()) => switched,
            () = hold(&node), if held => Err(FailoverError::NoPrimary),
        };
        if held && switched.is_err() {
            // One that is not reached goes on by itself.
            let _ = order(&node, redis::cmd("CLIENT").arg("UNPAUSE")).await;
        }
        Ok(format!("{} decides, where {} did", switched?, node.at()))
    }

    /// Waits until another server decides and is connected.
    async fn switched(&self, at: Partition, before: &HostPort) -> Result<HostPort, FailoverError> {
        let mut routes = self.shared.routes.follow();
        let is_other = |parts: &Vec<Option<Arc<Primary>>>| {
            let part = parts.get(usize::from(at.0)).and_then(Option::as_ref);
            part.is_some_and(|part| part.at() != before)
        };
        let switch = async {
            let parts = routes.wait_for(is_other).await.ok()?;
            let part = parts.get(usize::from(at.0))?.clone()?;
            drop(parts);
            let mut links = part.node().links();
            links.wait_for(Option::is_some).await.ok()?;
            Some(part.at().clone())
        };
        let switched = timeout(SWITCH_MAX, switch).await.ok().flatten();
        switched.ok_or_else(|| FailoverError::NoSwitch(before.clone()))
    }
}

/// Sentinel waits for nothing: by itself, what was not replicated yet would be lost. So the primary takes no writes first,
/// until whichever replica is chosen has all of them.
async fn by_sentinel(sentinels: &Sentinels, primary: &Primary) -> Result<(), FailoverError> {
    let sentinel = sentinels.conns.iter().find(|conn| conn.link().is_some());
    let sentinel = sentinel.ok_or(FailoverError::NotReached)?;
    let node = primary.node();
    pause(node).await?;
    let caught_up = async {
        while !replication(node).await.is_some_and(|(_, info)| info.all_caught_up()) {
            sleep(LOOK_INTERVAL).await;
        }
    };
    if timeout(CATCH_UP_MAX, caught_up).await.is_err() {
        order(node, redis::cmd("CLIENT").arg("UNPAUSE")).await?;
        return Err(FailoverError::Behind(node.at().clone()));
    }
    let mut failover = redis::cmd("SENTINEL");
    failover.arg("FAILOVER").arg(&sentinels.name);
    if let Err(error) = order(sentinel, &failover).await {
        order(node, redis::cmd("CLIENT").arg("UNPAUSE")).await?;
        return Err(error);
    }
    Ok(())
}

/// Has the primary take no writes until it is no longer one, however long Sentinels take. Never ends.
async fn hold(node: &NodeConn) {
    loop {
        sleep(PAUSE / 4).await;
        // It is no longer reached when it is none.
        let _ = pause(node).await;
    }
}

async fn pause(node: &NodeConn) -> Result<(), FailoverError> {
    let span = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
    order(node, redis::cmd("CLIENT").arg("PAUSE").arg(span).arg("WRITE")).await
}

/// A cluster does all of it by itself: the primary stops writes until the replica has everything.
async fn in_cluster(cluster: &Cluster, slot: u16) -> Result<(), FailoverError> {
    let replicas = cluster.replicas(slot);
    let replica = replicas.iter().find(|replica| replica.link().is_some());
    let replica = replica.ok_or(FailoverError::NotReached)?;
    order(replica, redis::cmd("CLUSTER").arg("FAILOVER")).await?;
    cluster.look.notify_one();
    Ok(())
}

async fn order(node: &NodeConn, command: &Cmd) -> Result<(), FailoverError> {
    let link = node.link().ok_or(FailoverError::NotReached)?;
    let refused = |words| FailoverError::Refused { at: node.at().clone(), words };
    match node.ask_one(&link, command.clone()).await {
        Ok(Value::ServerError(error)) => Err(refused(fault::words(&error))),
        Ok(_) => Ok(()),
        Err(_) => Err(refused("no answer".to_owned())),
    }
}

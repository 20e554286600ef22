//! The servers, for operators: who decides, who follows and how far behind, who watches over it.

use std::{collections::BTreeMap, time::Duration};

use outlast_directory::Partition;

use super::{Redis, Topology, primary::Primary};
use crate::HostPort;

/// A server as this process, or its primary, sees it. Nothing is asked for it: the numbers are at most a second old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisMember {
    /// Where it is, as others name it.
    pub at: HostPort,
    /// What it does.
    pub role: RedisRole,
    /// A replica: its primary has it in step. Any other: this process is connected to it.
    pub reached: bool,
}

/// What a server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisRole {
    /// It decides for these partitions. For none: it has slots without a partition in them.
    Primary(Vec<Partition>),
    /// It follows.
    Replica {
        /// Whom.
        of: HostPort,
        /// What it has not acknowledged yet, in bytes, where that is known.
        behind_bytes: Option<u64>,
        /// Since it acknowledged something last, in whole seconds, where that is known.
        lag: Option<Duration>,
    },
    /// It watches over the primary.
    Sentinel,
    /// Nobody says.
    Unknown,
}

impl Redis {
    /// All servers that are known: each primary with its replicas, then Sentinels, then those that nobody names.
    pub fn members(&self) -> Vec<RedisMember> {
        let mut primaries = BTreeMap::<HostPort, (std::sync::Arc<Primary>, Vec<Partition>)>::new();
        for at in (0..self.shared.partitions.get()).map(Partition) {
            let Some(primary) = self.shared.routes.primary(at) else { continue };
            let known = primaries.entry(primary.at().clone());
            known.or_insert_with(|| (primary, Vec::new())).1.push(at);
        }
        let mut members = Vec::new();
        for (at, (primary, partitions)) in primaries {
            let reached = primary.node().link().is_some();
            let role = RedisRole::Primary(partitions);
            members.push(RedisMember { at: at.clone(), role, reached });
            members.extend(self.replicas(&at, &primary));
        }
        match &self.shared.topology {
            Topology::Single => {}
            Topology::Sentinel(sentinels) => members.extend(sentinels.conns.iter().map(|conn| {
                let reached = conn.link().is_some();
                RedisMember { at: conn.at().clone(), role: RedisRole::Sentinel, reached }
            })),
            Topology::Cluster(cluster) => {
                for node in cluster.nodes() {
                    if members.iter().all(|member| member.at != *node.at()) {
                        let role = match cluster.is_primary(node.at()) {
                            true => RedisRole::Primary(Vec::new()),
                            false => RedisRole::Unknown,
                        };
                        let (at, reached) = (node.at().clone(), node.link().is_some());
                        members.push(RedisMember { at, role, reached });
                    }
                }
            }
        }
        members
    }

    /// Those of `primary`: as it names them, or as the cluster does, which names those too that it does not reach.
    fn replicas(&self, of: &HostPort, primary: &Primary) -> Vec<RedisMember> {
        let in_step: Vec<_> = primary
            .replication()
            .iter()
            .flat_map(|info| info.replicas().collect::<Vec<_>>())
            .collect();
        let named: Vec<_> = match &self.shared.topology {
            Topology::Cluster(cluster) => cluster.replicas_of(of),
            _ => in_step.iter().map(|replica| replica.at.clone()).collect(),
        };
        let member = |at: HostPort| {
            let seen = in_step.iter().find(|replica| replica.at == at);
            let (behind_bytes, lag) =
                seen.map_or((None, None), |replica| (replica.behind, replica.lag));
            let role = RedisRole::Replica { of: of.clone(), behind_bytes, lag };
            RedisMember { at, role, reached: seen.is_some() }
        };
        named.into_iter().map(member).collect()
    }
}

//! What a server says of itself, and whether it may decide who holds a room.

use std::time::Duration;

use redis::Value;

use super::answer::bytes;
use crate::HostPort;

/// The oldest version that is used: it replicates what scripts did, not the scripts.
const OLDEST: u32 = 7;
/// The parts of `INFO` that are read, each by a command of its own.
pub(super) const SECTIONS: [&str; 6] =
    ["server", "replication", "memory", "persistence", "cluster", "crdt"];

/// What a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The only one.
    Alone,
    /// The primary that Sentinels name.
    Primary,
    /// A node of a cluster, of either role.
    ClusterNode,
}

/// Lines of `INFO`, each `name:value`.
#[derive(Clone, Debug)]
pub(super) struct Info(Vec<(String, String)>);

impl Info {
    /// Of the answers to one or more sections.
    pub(super) fn read(answers: &[Value]) -> Info {
        let texts = answers.iter().filter_map(bytes).map(String::from_utf8_lossy);
        let mut fields = Vec::new();
        for text in texts {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            fields.extend(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())));
        }
        Info(fields)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether it takes writes of its own.
    pub(super) fn is_primary(&self) -> bool {
        self.get("role") == Some("master")
    }

    /// Why it must not decide, with what to do about it.
    pub(super) fn refusal(&self, part: Part) -> Option<String> {
        let version = self.get("redis_version").unwrap_or("unknown");
        let major = version.split('.').next().and_then(|digits| digits.parse::<u32>().ok());
        // As KeyDB and Redis Enterprise tell it.
        let is_merging = self.get("role") == Some("active-replica")
            || self.0.iter().any(|(name, _)| name.starts_with("crdt_"));
        let why = if is_merging {
            "it is active-active: of two writes the last one wins, and so two gateways would both be told that they hold a \
             room. Use one primary with replicas"
                .to_owned()
        } else if major.is_none_or(|major| major < OLDEST) {
            format!("its version is {version}: Redis 7.0 or later, or Valkey, is needed")
        } else if part != Part::ClusterNode && self.get("cluster_enabled") == Some("1") {
            "it is a node of a cluster: write redis+cluster:// and name several nodes".to_owned()
        } else if part == Part::ClusterNode && self.get("cluster_enabled") != Some("1") {
            "it is no node of a cluster: write redis:// or redis+sentinel://".to_owned()
        } else if self.get("master_replid").is_none() {
            "it does not tell the id of its replication history, by which lost writes are noticed"
                .to_owned()
        } else if part != Part::ClusterNode && !self.is_primary() {
            let host = self.get("master_host").unwrap_or("another server");
            format!("it is a replica of {host}, and takes no writes")
        } else if let Some(policy) = self.evicts()
            && self.get("maxmemory").is_some_and(|most| most != "0")
        {
            format!(
                "it forgets rooms when it is full, and then two gateways would both be told that they hold one: \
                 maxmemory-policy is {policy}. Set noeviction"
            )
        } else {
            return None;
        };
        Some(why)
    }

    /// A policy that may evict a room. Those for keys with a time to live evict none of ours.
    fn evicts(&self) -> Option<&str> {
        self.get("maxmemory_policy").filter(|policy| policy.starts_with("allkeys"))
    }

    /// What is not well, though it may decide.
    pub(super) fn warning(&self, part: Part) -> Option<String> {
        let mut all = Vec::new();
        if let Some(policy) = self.evicts() {
            all.push(format!(
                "maxmemory-policy is {policy}, which forgets rooms as soon as maxmemory is set. Set noeviction"
            ));
        }
        if self.get("aof_enabled") == Some("0") {
            all.push(
                "appendonly is no: what it takes since its last snapshot is gone when it ends"
                    .to_owned(),
            );
        }
        // Said only while the setting is in force.
        if part == Part::Primary
            && self.is_primary()
            && self.get("min_slaves_good_slaves").is_none()
        {
            all.push(
                "min-replicas-to-write is 0: while it is cut off from its replicas it takes writes, all of which are lost. \
                 Set 1"
                    .to_owned(),
            );
        }
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// How far the slowest of the replicas is behind that are in step; `None` without any.
    pub(super) fn lag(&self) -> Option<Duration> {
        self.replicas().filter_map(|replica| replica.lag).max()
    }

    /// Whether every replica that is in step has everything.
    pub(super) fn all_caught_up(&self) -> bool {
        let mut replicas = self.replicas().peekable();
        replicas.peek().is_some() && replicas.all(|replica| replica.behind == Some(0))
    }

    /// The replicas that are in step.
    pub(super) fn replicas(&self) -> impl Iterator<Item = Replica> {
        let written = self.get("master_repl_offset").and_then(|digits| digits.parse::<u64>().ok());
        let lines = self.0.iter().filter(|(name, _)| {
            name.strip_prefix("slave").is_some_and(|n| n.parse::<u32>().is_ok())
        });
        let fields = |value: &String, name: &str| {
            let mut fields = value.split(',').filter_map(|field| field.split_once('='));
            fields.find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
        };
        let number = move |value, name| fields(value, name)?.parse::<u64>().ok();
        let online =
            lines.filter(move |(_, value)| fields(value, "state").as_deref() == Some("online"));
        online.filter_map(move |(_, value)| {
            let at =
                HostPort { host: fields(value, "ip")?, port: fields(value, "port")?.parse().ok()? };
            let offset = number(value, "offset");
            let behind =
                written.zip(offset).map(|(written, offset)| written.saturating_sub(offset));
            Some(Replica { at, behind, lag: number(value, "lag").map(Duration::from_secs) })
        })
    }
}

/// A replica that is in step, as its primary sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) at: HostPort,
    /// What it has not acknowledged yet, in bytes of the stream of writes.
    pub(super) behind: Option<u64>,
    /// Since it did so last, in whole seconds.
    pub(super) lag: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
    const PRIMARY: &str = "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
        slave0:ip=10.0.0.2,port=6379,state=online,offset=70,lag=0\r\n\
        slave1:ip=10.0.0.3,port=6379,state=online,offset=56,lag=2\r\n\
        slave2:ip=10.0.0.4,port=6379,state=wait_bgsave,offset=0,lag=9\r\n\
        slave_expires_tracked_keys:0\r\nmaster_replid:8e\r\nmaster_repl_offset:70\r\n";

    fn info(texts: &[&str]) -> Info {
        let answers: Vec<_> =
            texts.iter().map(|text| Value::BulkString(text.as_bytes().to_vec())).collect();
        Info::read(&answers)
    }

    #[test]
    fn who_must_not_decide_is_told_why() {
        let enabled = "cluster_enabled:1\r\n";
        let replica = "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_replid:8e\r\n";
        for (texts, part, words) in [
            (vec![SERVER, PRIMARY], Part::Primary, None),
            (vec![SERVER, PRIMARY], Part::Alone, None),
            (vec![SERVER, PRIMARY, enabled], Part::ClusterNode, None),
            (vec![SERVER, replica, enabled], Part::ClusterNode, None),
            (vec![SERVER, PRIMARY, enabled], Part::Primary, Some("write redis+cluster://")),
            (vec![SERVER, PRIMARY], Part::ClusterNode, Some("no node of a cluster")),
            (vec![SERVER, PRIMARY, enabled], Part::Alone, Some("write redis+cluster://")),
            (vec![SERVER, replica], Part::Primary, Some("a replica of 10.0.0.1")),
            (vec![SERVER, replica], Part::Alone, Some("a replica of 10.0.0.1")),
            (vec!["redis_version:6.2.7\r\n", PRIMARY], Part::Primary, Some("7.0 or later")),
            (vec!["redis_version:7.2.4\r\n", "role:master\r\n"], Part::Primary, Some("history")),
            (vec![], Part::Primary, Some("version is unknown")),
            // KeyDB with active-replica, as its users show it.
            (
                vec!["redis_version:6.3.4\r\n", "role:active-replica\r\nmaster_replid:8e\r\n"],
                Part::Primary,
                Some("active-active"),
            ),
            (
                // Redis Enterprise, as its handbook lists the fields.
                vec![SERVER, PRIMARY, "# CRDT Context\r\ncrdt_config_version:1\r\n"],
                Part::Alone,
                Some("active-active"),
            ),
        ] {
            let refusal = info(&texts).refusal(part);
            match words {
                None => assert_eq!(refusal, None, "{texts:?}"),
                Some(words) => assert!(refusal.unwrap().contains(words), "{texts:?}"),
            }
        }
    }

    #[test]
    fn who_may_forget_rooms_is_refused_when_it_can_come_to_that_and_warned_of_else() {
        for (policy, most, is_refused, is_warned) in [
            ("noeviction", 7, false, false),
            ("volatile-lru", 7, false, false),
            ("allkeys-lfu", 7, true, true),
            ("allkeys-lfu", 0, false, true),
        ] {
            let memory = format!("maxmemory:{most}\r\nmaxmemory_policy:{policy}\r\n");
            let said = info(&[SERVER, PRIMARY, &memory]);
            assert_eq!(said.refusal(Part::Alone).is_some(), is_refused, "{policy}, {most}");
            assert_eq!(said.warning(Part::Alone).is_some(), is_warned, "{policy}, {most}");
        }
    }

    #[test]
    fn a_setting_that_loses_writes_is_warned_of() {
        let replica = "role:slave\r\n";
        let bound = "min_slaves_good_slaves:2\r\n";
        for (texts, part, words) in [
            (vec!["aof_enabled:1\r\n"], Part::Alone, None),
            (vec!["aof_enabled:0\r\n"], Part::Alone, Some("appendonly is no")),
            (vec![PRIMARY, bound], Part::Primary, None),
            (vec![PRIMARY], Part::Primary, Some("min-replicas-to-write is 0")),
            (vec![PRIMARY], Part::Alone, None),
            (vec![PRIMARY], Part::ClusterNode, None),
            (vec![replica], Part::Primary, None),
        ] {
            match (info(&texts).warning(part), words) {
                (said, None) => assert_eq!(said, None, "{texts:?}"),
                (said, Some(words)) => assert!(said.unwrap().contains(words), "{texts:?}"),
            }
        }
    }

    #[test]
    fn the_slowest_replica_that_is_in_step_counts() {
        let behind = info(&[PRIMARY]);
        assert_eq!(behind.lag(), Some(Duration::from_secs(2)));
        assert!(!behind.all_caught_up());
        assert!(info(&[&PRIMARY.replace("offset=56", "offset=70")]).all_caught_up());
        let slow = Replica {
            at: HostPort { host: "10.0.0.3".to_owned(), port: 6379 },
            behind: Some(14),
            lag: Some(Duration::from_secs(2)),
        };
        assert_eq!(behind.replicas().last(), Some(slow));
        let alone = info(&["role:master\r\nmaster_repl_offset:0\r\n"]);
        assert_eq!((alone.lag(), alone.all_caught_up()), (None, false));
    }
}

//! A close look at the servers, on connections of its own, and the two things that only an operator does: counting and wiping.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use outlast_directory::Partition;
use redis::{
    AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value, aio::MultiplexedConnection,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    Redis, Topology,
    members::{RedisMember, RedisRole},
    node_conn::Door,
    stream::{Heard, Stream},
};
use crate::{Behind, HostPort, Inspection, Role, Survey};

/// How long it is waited until it is known who decides, and for each connection and each answer.
const REACH_MAX: Duration = Duration::from_secs(3);
/// Between two looks whether that is known.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Settings that are passed on as the server tells them.
const SETTINGS: [&str; 9] = [
    "maxmemory",
    "maxmemory-policy",
    "appendonly",
    "min-replicas-to-write",
    "min-replicas-max-lag",
    "cluster-enabled",
    "cluster-node-timeout",
    "cluster-require-full-coverage",
    "cluster-replica-validity-factor",
];
/// What of a Sentinel's view of the primary is passed on.
const VIEW: [&str; 6] = [
    "flags",
    "quorum",
    "num-slaves",
    "num-other-sentinels",
    "down-after-milliseconds",
    "failover-timeout",
];

impl Redis {
    /// Asks every server that is known `probes` times whether it lives, one by one, and what its settings are.
    pub async fn inspect(&self, probes: usize) -> Survey {
        self.know_who_decides().await;
        let members = self.members();
        let looks = members.iter().map(|member| self.look(member, probes));
        let servers: Vec<Inspection> = join_all(looks).await;
        let voters = match &self.shared.topology {
            Topology::Single => Some(1),
            Topology::Sentinel(_) => {
                let others = |server: &Inspection| -> Option<usize> {
                    server.settings.get("num-other-sentinels")?.parse().ok()
                };
                servers.iter().filter_map(others).max().map(|others| others + 1)
            }
            Topology::Cluster(_) => {
                let decide = servers.iter().filter(|server| server.role == Role::Decides).count();
                (decide > 0).then_some(decide)
            }
        };
        Survey { servers, voters }
    }

    /// How many rooms there are; `None` when a partition is away.
    pub async fn rooms(&self) -> Option<u64> {
        let mut rooms = 0;
        for (at, keys) in (0..).map(Partition).zip(&self.shared.keys) {
            let mut command = redis::cmd("HLEN");
            command.arg(keys.rooms());
            match self.order(at, command).await {
                Ok(Value::Int(count)) => rooms += u64::try_from(count).unwrap_or(0),
                _ => return None,
            }
        }
        Some(rooms)
    }

    /// Deletes everything of this directory, and nothing else; returns how many keys that were. For drills: gateways announce
    /// their rooms anew.
    ///
    /// # Errors
    /// In words. Some of it may be deleted all the same.
    pub async fn wipe(&self) -> Result<u64, String> {
        let mut deleted = 0;
        for (at, keys) in (0..).map(Partition).zip(&self.shared.keys) {
            let mut command = redis::cmd("UNLINK");
            command.arg(&keys.all[..]).arg(&keys.fence);
            match self.order(at, command).await {
                Ok(Value::Int(count)) => deleted += u64::try_from(count).unwrap_or(0),
                Ok(other) => return Err(format!("partition {} answers {other:?}", at.0)),
                Err(words) => return Err(format!("partition {}: {words}", at.0)),
            }
        }
        Ok(deleted)
    }

    async fn order(&self, at: Partition, command: Cmd) -> Result<Value, String> {
        let primary = self.shared.routes.primary(at).ok_or("nobody decides")?;
        let deadline = Instant::now() + REACH_MAX;
        let answer = primary.ask(command, deadline).await;
        answer.map_err(|_| format!("no good answer of {}", primary.at()))
    }

    async fn know_who_decides(&self) {
        let deadline = Instant::now() + REACH_MAX;
        let is_known = |at| {
            let primary = self.shared.routes.primary(Partition(at));
            primary.is_some_and(|primary| primary.node().link().is_some())
        };
        while !(0..self.shared.partitions.get()).all(is_known) && Instant::now() < deadline {
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn look(&self, member: &RedisMember, probes: usize) -> Inspection {
        let mut server = Inspection::of(&member.at);
        match &member.role {
            RedisRole::Primary(partitions) => {
                server.role = Role::Decides;
                let is_all = partitions.len() == usize::from(self.shared.partitions.get());
                server.partitions = if is_all { Vec::new() } else { partitions.clone() };
            }
            RedisRole::Replica { behind_bytes, .. } => {
                server.role = Role::Follows;
                server.behind = behind_bytes.map(Behind::Bytes);
            }
            RedisRole::Sentinel => server.role = Role::Watches,
            RedisRole::Unknown => {}
        }
        let Some(door) = self.door(&member.role) else { return server };
        let mut driver = JoinSet::new();
        match timeout(REACH_MAX, connect(&member.at, &door, &mut driver)).await {
            Ok(Ok(connection)) => self.question(&mut server, connection, probes).await,
            Ok(Err(words)) => server.troubles.push(words),
            Err(_) => server.troubles.push(format!("no connection within {REACH_MAX:?}")),
        }
        server
    }

    fn door(&self, role: &RedisRole) -> Option<std::sync::Arc<Door>> {
        match &self.shared.topology {
            Topology::Sentinel(sentinels) if *role == RedisRole::Sentinel => {
                Some(sentinels.conns.first()?.door().clone())
            }
            Topology::Sentinel(sentinels) => Some(sentinels.door.clone()),
            Topology::Cluster(cluster) => Some(cluster.door.clone()),
            Topology::Single => {
                Some(self.shared.routes.primary(Partition(0))?.node().door().clone())
            }
        }
    }

    async fn question(
        &self,
        server: &mut Inspection,
        mut connection: MultiplexedConnection,
        probes: usize,
    ) {
        for _ in 0..probes.max(1) {
            let asked = Instant::now();
            match connection.send_packed_command(&redis::cmd("PING")).await {
                Ok(_) => server.round_trips.push(asked.elapsed()),
                Err(error) => server.troubles.push(error.to_string()),
            }
        }
        server.troubles.dedup();
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let told: Result<String, RedisError> = info.query_async(&mut connection).await;
        let told = told.unwrap_or_default();
        let field = |name: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        // Valkey tells a version of Redis too, for programs that look for one.
        server.version = field("valkey_version").or_else(|| field("redis_version"));
        let command = match (&self.shared.topology, server.role) {
            (Topology::Sentinel(sentinels), Role::Watches) => {
                let mut command = redis::cmd("SENTINEL");
                command.arg("MASTER").arg(&sentinels.name).clone()
            }
            _ => redis::cmd("CONFIG").arg("GET").arg(&SETTINGS[..]).clone(),
        };
        let told: Result<BTreeMap<String, String>, RedisError> =
            command.query_async(&mut connection).await;
        // A service may forbid it: settings are unknown then.
        let wanted = |name: &str| SETTINGS.contains(&name) || VIEW.contains(&name);
        let told = told.unwrap_or_default().into_iter();
        server.settings.extend(told.filter(|(name, _)| wanted(name)));
    }
}

async fn connect(
    at: &HostPort,
    door: &Door,
    driver: &mut JoinSet<()>,
) -> Result<MultiplexedConnection, String> {
    let stream = Stream::connect(at, door.tls.as_ref(), Heard::now()).await;
    let stream = stream.map_err(|error| format!("no connection: {error}"))?;
    let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(user) = &door.user {
        login = login.set_username(user);
    }
    if let Some(password) = &door.password {
        login = login.set_password(password.expose());
    }
    let settings = AsyncConnectionConfig::new().set_response_timeout(Some(REACH_MAX));
    let made = MultiplexedConnection::new_with_config(&login, stream, settings).await;
    let (connection, driven) = made.map_err(|error| format!("not let in: {error}"))?;
    driver.spawn(driven);
    Ok(connection)
}

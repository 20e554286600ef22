//! The directory in Redis or Valkey: one server, one with Sentinels, or a cluster.
//!
//! Everything of one request about a room is decided by one script (`redis/scripts/`) on the primary of its partition. Claims and
//! ends are answered when a replica has them too (`commit.rs`). Replication is asynchronous all the same: when the replica that
//! has a write dies together with its primary, or another one is promoted, the write is lost. Therefore the instance is another
//! one after every change of primaries, and nodes announce what they hold.
//!
//! Connections belong to tasks, one each (`node_conn.rs`); who the primary is comes from Sentinels (`sentinel.rs`) or from the
//! nodes of the cluster (`cluster.rs`).

mod answer;
mod board;
mod cluster;
mod commit;
mod failover;
mod fault;
mod inspect;
mod keys;
mod members;
mod node_conn;
mod primary;
mod routes;
mod scripts;
mod sentinel;
mod stream;
mod survey;

use std::{future::ready, num::NonZeroU16, sync::Arc, time::Duration};

use outlast_directory::{
    EVENTS_PER_REPLY_MAX, Failure, ROOMS_MAX, Record, Reply, Request, RoomKey, SUMMARIES_MAX,
    TOMBSTONE_KEPT, TOMBSTONES_MAX,
};
use outlast_model::Generation;
use outlast_runtime::entropy;
use redis::Value;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};

pub use failover::FailoverError;
pub use members::{RedisMember, RedisRole};

use self::{
    board::Board,
    cluster::Cluster,
    fault::Fault,
    inspect::Part,
    keys::{CLUSTER_PARTITIONS, Keys},
    node_conn::{Door, Kind, NodeConn},
    primary::Primary,
    routes::Routes,
    scripts::{Call, Script},
    sentinel::Sentinels,
};
use crate::{
    Access, Answer, ConnectError, Engine, EngineKind, PartState, Partition, REPLY_MAX, address,
};

/// How long servers are asked. The rest of [`REPLY_MAX`] is for the way of the answer through this process.
const ANSWER_MAX: Duration = REPLY_MAX.saturating_sub(Duration::from_millis(100));
/// Numbers in scripts are exact up to here; no content has seen so many changes.
const NUMBER_MAX: u64 = 1 << 53;

/// What differs between installations, and in tests.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// How many replicas must have a claim or an end before it is answered; `None`: 1 with Sentinels and in a cluster, 0 with
    /// one server.
    pub replicas: Option<u32>,
    /// How long the generation of a room that ended is kept.
    pub tombstone_kept: Duration,
    /// How many of them are kept at most, and how many rooms may be held: of each partition.
    pub tombstones_max: usize,
    /// See `tombstones_max`.
    pub rooms_max: usize,
}

impl Default for RedisSettings {
    fn default() -> RedisSettings {
        RedisSettings {
            replicas: None,
            tombstone_kept: TOMBSTONE_KEPT,
            tombstones_max: TOMBSTONES_MAX,
            rooms_max: ROOMS_MAX,
        }
    }
}

/// A directory in Redis or Valkey.
pub struct Redis {
    shared: Arc<Shared>,
    /// Those that follow who decides; they end with it.
    _tasks: JoinSet<()>,
}

/// What requests need, wherever they have come to.
struct Shared {
    settings: RedisSettings,
    partitions: NonZeroU16,
    keys: Vec<Keys>,
    routes: Arc<Routes>,
    board: Arc<Board>,
    topology: Topology,
}

/// Who tells which server decides.
enum Topology {
    /// There is one only.
    Single,
    Sentinel(Arc<Sentinels>),
    Cluster(Arc<Cluster>),
}

impl Topology {
    fn name(&self) -> &'static str {
        match self {
            Topology::Single => "redis",
            Topology::Sentinel(_) => "sentinel",
            Topology::Cluster(_) => "cluster",
        }
    }
}

impl Redis {
    /// Begins to connect to `servers`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When certificates or the key in `access` are malformed. Servers that are not reached are no error.
    pub fn connect(
        servers: &address::Shared,
        access: &Access,
        settings: RedisSettings,
    ) -> Result<Redis, ConnectError> {
        let board = Arc::new(Board::default());
        let look = Arc::new(Notify::new());
        let tls = if servers.tls { Some(crate::tls::client(access)?) } else { None };
        let (agreed, agreement) = watch::channel(None);
        let is_watched = matches!(servers.engine, EngineKind::Sentinel { .. });
        let door = |kind| {
            let (user, password) = match kind {
                Kind::Data(_) => (access.user.clone(), access.password.clone()),
                Kind::Sentinel => (None, access.sentinel_password.clone()),
            };
            let (tls, board, look) = (tls.clone(), board.clone(), look.clone());
            let agreed = (is_watched && kind != Kind::Sentinel).then(|| agreement.clone());
            Arc::new(Door { tls, user, password, kind, board, look, agreed })
        };
        let (partitions, replicas) = match servers.engine {
            EngineKind::Cluster => (CLUSTER_PARTITIONS, 1),
            EngineKind::Sentinel { .. } => (1, 1),
            EngineKind::Redis | EngineKind::Etcd => (1, 0),
        };
        let partitions = NonZeroU16::new(partitions).unwrap_or(NonZeroU16::MIN);
        let replicas = settings.replicas.unwrap_or(replicas);
        let keys: Vec<_> = match servers.engine {
            EngineKind::Cluster => {
                (0..partitions.get()).map(|at| Keys::in_cluster(Partition(at))).collect()
            }
            _ => vec![Keys::alone()],
        };
        let routes = Arc::new(Routes::new(keys.len()));
        let mut tasks = JoinSet::new();
        let topology = match &servers.engine {
            EngineKind::Sentinel { name } => {
                let watched = door(Kind::Sentinel);
                let start = |at: &crate::HostPort| NodeConn::start(at.clone(), watched.clone());
                let sentinels = Arc::new(Sentinels {
                    name: name.clone(),
                    conns: servers.servers.iter().map(start).collect(),
                    door: door(Kind::Data(Part::Primary)),
                    replicas,
                    routes: routes.clone(),
                    look,
                    agreed,
                });
                tasks.spawn(sentinels.clone().follow());
                Topology::Sentinel(sentinels)
            }
            EngineKind::Cluster => {
                let cluster = Arc::new(Cluster {
                    seeds: servers.servers.clone(),
                    door: door(Kind::Data(Part::ClusterNode)),
                    keys: keys.clone(),
                    replicas,
                    routes: routes.clone(),
                    look,
                    known: Default::default(),
                });
                tasks.spawn(cluster.clone().follow());
                Topology::Cluster(cluster)
            }
            EngineKind::Redis | EngineKind::Etcd => {
                let door = door(Kind::Data(Part::Alone));
                let nodes = servers.servers.iter().take(1).map(|at| {
                    let node = Arc::new(NodeConn::start(at.clone(), door.clone()));
                    Some(Arc::new(Primary::start(node, replicas, replicas > 0)))
                });
                routes.set(nodes.collect());
                Topology::Single
            }
        };
        let shared = Shared { settings, partitions, keys, routes, board, topology };
        Ok(Redis { shared: Arc::new(shared), _tasks: tasks })
    }
}

impl Engine for Redis {
    fn partitions(&self) -> NonZeroU16 {
        self.shared.partitions
    }

    fn ask(&self, at: Partition, request: Request) -> Answer {
        if let Err(what) = request.check() {
            return Box::pin(ready(Reply::Failed(Failure::Bad(what))));
        }
        let deadline = Instant::now() + ANSWER_MAX;
        let asked = self.shared.clone().ask(at, request, deadline);
        asked.unwrap_or_else(|fault| Box::pin(ready(fault.reply())))
    }

    fn state(&self, at: Partition) -> PartState {
        let Shared { routes, board, topology, .. } = &*self.shared;
        let primary = routes.primary(at);
        let serving = primary.as_ref().filter(|primary| primary.node().link().is_some());
        let remark = primary.as_ref().and_then(|primary| primary.node().remark());
        PartState {
            engine: topology.name(),
            decides: serving.map(|primary| primary.at().to_string()),
            changes: routes.changes(at),
            lag: serving.and_then(|primary| primary.replication()?.lag()),
            behind_entries: None,
            rooms: None,
            trouble: remark.or_else(|| board.last_trouble()),
        }
    }
}

impl Shared {
    /// Sends a request on its way.
    fn ask(
        self: Arc<Shared>,
        at: Partition,
        request: Request,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        let primary = self.routes.primary(at).ok_or(Fault::Unavailable)?;
        let keys = self.keys.get(usize::from(at.0)).ok_or(Fault::Unavailable)?;
        let candidate = entropy::bytes().map_err(|_| Fault::Unavailable)?;
        let call = match &request {
            Request::Lookup { room } => {
                return Ok(self.clone().lookup(primary, keys.rooms().to_owned(), *room, deadline));
            }
            request => self.call(request, keys, candidate),
        };
        let waits = matches!(
            request,
            Request::Place { .. }
                | Request::Replace { .. }
                | Request::End { .. }
                // It stands for claims when somebody tries whether the engine is back.
                | Request::Instance
        );
        if waits && let Some(pending) = primary.commit(&call, &keys.fence) {
            let pending = pending?;
            return Ok(Box::pin(async move {
                pending
                    .wait(deadline)
                    .await
                    .map_or_else(Fault::reply, |answer| read(&request, &answer))
            }));
        }
        // In a task of its own, so that it goes on whatever becomes of the asker.
        let asked = tokio::spawn(async move {
            let answer = timeout_at(deadline, primary.call(&call, deadline)).await;
            let answer = answer.unwrap_or(Err(Fault::Unknown));
            answer.map_or_else(Fault::reply, |answer| read(&request, &answer))
        });
        Ok(Box::pin(async move { asked.await.unwrap_or(Reply::Failed(Failure::Unknown)) }))
    }

    fn lookup(
        self: Arc<Shared>,
        primary: Arc<Primary>,
        rooms: String,
        room: RoomKey,
        deadline: Instant,
    ) -> Answer {
        let asked = tokio::spawn(async move {
            let mut command = redis::cmd("HGET");
            command.arg(rooms).arg(&room.0.to_be_bytes()[..]);
            match primary.ask(command, deadline).await {
                Ok(answer) => answer::found(&answer),
                Err(fault) => fault.unwrap_or(Fault::Unavailable).reply(),
            }
        });
        Box::pin(async move { asked.await.unwrap_or(Reply::Failed(Failure::Unknown)) })
    }

    /// The script for `request`.
    fn call(&self, request: &Request, keys: &Keys, candidate: [u8; 16]) -> Call {
        let call = |script| Call::new(script, keys, candidate);
        let kept = micros(self.settings.tombstone_kept);
        let on_room = |script, room: &RoomKey| {
            let most = self.settings.tombstones_max;
            call(script).with(&room.0.to_be_bytes()[..]).with(kept).with(most)
        };
        let claim = |room, expected: Generation, want: &Record| {
            let call = on_room(Script::Claim, room).with(self.settings.rooms_max);
            call.with(&expected.0.to_be_bytes()[..]).with(answer::held(want))
        };
        match request {
            // No room has the generation 0: a place supersedes nobody.
            Request::Place { room, want } => claim(room, Generation(0), want),
            Request::Replace { room, expected, want } => claim(room, *expected, want),
            Request::End { room, generation } => {
                on_room(Script::End, room).with(answer::ended(*generation))
            }
            Request::Instance | Request::Lookup { .. } => call(Script::Instance),
            Request::Summaries => call(Script::Summaries),
            Request::Watch { after } => {
                let mark = u64::try_from(after.mark).unwrap_or(u64::MAX).min(NUMBER_MAX);
                let call = call(Script::Watch).with(after.instance.to_string()).with(after.number);
                call.with(mark).with(EVENTS_PER_REPLY_MAX)
            }
            Request::Heartbeat { summary, ttl } => {
                let call = call(Script::Heartbeat).with(summary.region.as_str());
                call.with(micros(*ttl)).with(summary.encode()).with(SUMMARIES_MAX)
            }
        }
    }
}

/// What the script's answer to `request` means.
fn read(request: &Request, answer: &Value) -> Reply {
    match request {
        Request::Place { want, .. } | Request::Replace { want, .. } => answer::placed(answer, want),
        Request::End { .. } | Request::Heartbeat { .. } => answer::done(answer),
        Request::Lookup { .. } => answer::found(answer),
        Request::Summaries => answer::summaries(answer),
        Request::Instance => answer::instance(answer),
        Request::Watch { .. } => answer::changes(answer),
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

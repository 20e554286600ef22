//! The directory in etcd: no central component, and nothing that is acknowledged is lost as long as most members are left.
//!
//! Everything of one claim or one end is decided by one transaction on one key (`keys.rs`). Members are asked one by one,
//! nearest first (`rotation.rs`); their connections belong to tasks, never to callers (`endpoint.rs`).

mod board;
mod endpoint;
mod fault;
mod feed;
mod inspect;
mod instance;
mod keys;
mod leases;
mod listing;
mod log;
mod members;
mod pages;
mod rotation;
mod tls;

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use etcd_client::{GetOptions, Txn};
use outlast_directory::{
    Failure, Placed, Record, Reply, Request, RoomKey, Summary, TOMBSTONE_KEPT,
};
use outlast_model::Generation;
use tokio::{task::JoinSet, time::Instant};

pub use members::{Member, MemberHealth, MoveError};

use self::{
    board::Board,
    endpoint::{Endpoint, Path},
    fault::{Fault, Refusal},
    feed::Feed,
    keys::{Keys, State, Taken, taken},
    leases::Leases,
    rotation::{Rotation, Twice},
};
use crate::{Access, Answer, ConnectError, Engine, PartState, Partition, REPLY_MAX, address};

/// How long members are asked. The rest of [`REPLY_MAX`] is for the way of the answer through this process.
const ANSWER_MAX: Duration = REPLY_MAX.saturating_sub(Duration::from_millis(100));

/// What differs between directories in one etcd, and in tests.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// What all keys begin with. Directories with prefixes of which none begins with another do not see each other.
    pub prefix: String,
    /// How long the generation of a room that ended is kept.
    pub tombstone_kept: Duration,
}

impl Default for EtcdSettings {
    fn default() -> EtcdSettings {
        EtcdSettings { prefix: "outlast/".to_owned(), tombstone_kept: TOMBSTONE_KEPT }
    }
}

/// A directory in etcd. The quota of etcd is its limit, not a number of rooms.
pub struct Etcd {
    shared: Arc<Shared>,
    /// Those that keep connections and follow changes; they end with it.
    _tasks: JoinSet<()>,
}

/// What requests need, wherever they have come to.
struct Shared {
    rotation: Rotation,
    keys: Keys,
    leases: Leases,
    feed: Arc<Feed>,
    tombstone_kept: Duration,
}

impl Etcd {
    /// Begins to connect to the members in `servers`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When certificates or the key in `access` are malformed. Members that are not reached are no error.
    pub fn connect(
        servers: &address::Shared,
        access: &Access,
        settings: EtcdSettings,
    ) -> Result<Etcd, ConnectError> {
        let user = access.user.clone().zip(access.password.clone());
        let pages = if servers.tls { Some(crate::tls::client(access)?) } else { None };
        let mut endpoints = Vec::new();
        for at in &servers.servers {
            let tls = if servers.tls { Some(tls::client(access, at)?) } else { None };
            let endpoint = Endpoint::new(at.clone(), (tls, pages.clone()), user.clone());
            endpoints.push(Arc::new(endpoint.map_err(tls::unusable)?));
        }
        let board = Arc::new(Board::default());
        let feed = Arc::new(Feed::new());
        let shared = Arc::new(Shared {
            rotation: Rotation { endpoints, board: board.clone() },
            keys: Keys::new(&settings.prefix),
            leases: Leases::default(),
            feed: feed.clone(),
            tombstone_kept: settings.tombstone_kept,
        });
        let mut tasks = JoinSet::new();
        for endpoint in &shared.rotation.endpoints {
            tasks.spawn(endpoint.clone().keep(board.clone()));
        }
        tasks.spawn(feed.follow(shared.clone()));
        Ok(Etcd { shared, _tasks: tasks })
    }
}

impl Engine for Etcd {
    fn partitions(&self) -> NonZeroU16 {
        NonZeroU16::MIN
    }

    fn ask(&self, _at: Partition, request: Request) -> Answer {
        if let Err(what) = request.check() {
            return Box::pin(std::future::ready(Reply::Failed(Failure::Bad(what))));
        }
        // In a task of its own, so that it goes on whatever becomes of the asker.
        let shared = self.shared.clone();
        let asked = tokio::spawn(async move { shared.apply(&request).await });
        Box::pin(async move { asked.await.unwrap_or(Reply::Failed(Failure::Unknown)) })
    }

    fn state(&self, _at: Partition) -> PartState {
        let rotation = &self.shared.rotation;
        let members = self.members();
        let leads = members.iter().find(|member| member.health.is_some_and(|one| one.leads));
        let decides = match (leads, rotation.leader()) {
            (Some(member), _) => Some(member.at.to_string()),
            // One that is not in the address, or is not reached from here.
            (None, Some(id)) => Some(format!("member {id:x}")),
            (None, None) => None,
        };
        let behind = members.iter().filter_map(|member| Some(member.health?.lag_entries));
        PartState {
            engine: "etcd",
            decides,
            changes: rotation.board.changes(),
            behind_entries: behind.max(),
            trouble: rotation.board.last_trouble(),
            ..PartState::default()
        }
    }
}

impl Shared {
    async fn apply(&self, request: &Request) -> Reply {
        let deadline = Instant::now() + ANSWER_MAX;
        let reply = match request {
            Request::Heartbeat { summary, ttl } => {
                self.leases.heartbeat(self, summary, *ttl, deadline).await
            }
            Request::Place { room, want } => self.claim(*room, None, want, deadline).await,
            Request::Replace { room, expected, want } => {
                self.claim(*room, Some(*expected), want, deadline).await
            }
            Request::End { room, generation } => self.end(*room, *generation, deadline).await,
            Request::Lookup { room } => self.lookup(*room, deadline).await,
            Request::Summaries => self.summaries(deadline).await,
            Request::Instance => {
                let agreed = instance::agree(self, deadline).await;
                agreed.map(|(instance, _)| Reply::Instance(instance))
            }
            Request::Watch { after } => {
                let answer = self.feed.answer(self, *after, deadline).await;
                Ok(feed::reply(answer))
            }
        };
        reply.unwrap_or_else(Fault::reply)
    }

    /// A transaction on one room, and as of which revision it was decided.
    async fn decide(&self, txn: Txn, deadline: Instant) -> Result<(Taken, u64), Fault> {
        let answer = self.rotation.ask(Path::Quorum, Twice::Harmless, deadline, |line| {
            let txn = txn.clone();
            async move { line.kv.clone().txn(txn).await }
        });
        let answer = answer.await?;
        let taken = taken(&answer);
        let revision = answer.header().map_or(0, |header| revision_of(header.revision()));
        if taken == Taken::Put {
            self.feed.made(revision);
        }
        Ok((taken, revision))
    }

    async fn claim(
        &self,
        room: RoomKey,
        expected: Option<Generation>,
        want: &Record,
        deadline: Instant,
    ) -> Result<Reply, Fault> {
        let key = self.keys.room(room);
        let mut known = self.feed.known();
        loop {
            let claim = keys::claim(&key, expected, want, known);
            let (taken, revision) = self.decide(claim, deadline).await?;
            let state = match taken {
                Taken::Put => return Ok(Reply::Placed(Placed::Won(want.clone()))),
                Taken::Got(value) => State::read(&value),
                Taken::Count(_) | Taken::Nothing => None,
            };
            match state {
                Some(State::Held(held)) if held.id == want.id => {
                    return Ok(Reply::Placed(Placed::Won(held)));
                }
                // It changed after what was known: once more, knowing more.
                Some(state) if state.yields_to(expected, want) => known = revision,
                // etcd is not where it was, and so a copy of the claim may come in yet (see `keys::claim`).
                _ if revision < known => {
                    self.feed.went_back();
                    return Err(Fault::Unknown);
                }
                Some(State::Held(held)) => return Ok(Reply::Placed(Placed::Held(held))),
                Some(State::Ended(generation)) => {
                    return Ok(Reply::Failed(Failure::Fenced(generation)));
                }
                None => return Ok(illegible()),
            }
        }
    }

    async fn end(
        &self,
        room: RoomKey,
        generation: Generation,
        deadline: Instant,
    ) -> Result<Reply, Fault> {
        let key = self.keys.room(room);
        let kept = self.tombstone_kept;
        let lease = self.leases.for_tombstone(self, kept, deadline).await?;
        let ended = self.decide(keys::end(&key, generation, lease), deadline).await;
        if ended != Err(Fault::Refused(Refusal::NoLease)) {
            return ended.map(|_| Reply::Done);
        }
        self.leases.forget_tombstones(lease).await;
        let lease = self.leases.for_tombstone(self, kept, deadline).await?;
        let ended = self.decide(keys::end(&key, generation, lease), deadline).await;
        ended.map(|_| Reply::Done)
    }

    async fn lookup(&self, room: RoomKey, deadline: Instant) -> Result<Reply, Fault> {
        let key = self.keys.room(room);
        let found = self.rotation.ask(Path::Local, Twice::Harmless, deadline, |line| {
            let key = key.clone();
            async move {
                let options = GetOptions::new().with_serializable();
                line.kv.clone().get(key, Some(options)).await
            }
        });
        let found = found.await?;
        let Some(kv) = found.kvs().first() else { return Ok(Reply::Found(None)) };
        Ok(match State::read(kv.value()) {
            Some(State::Held(record)) => Reply::Found(Some(record)),
            Some(State::Ended(_)) => Reply::Found(None),
            None => illegible(),
        })
    }

    async fn summaries(&self, deadline: Instant) -> Result<Reply, Fault> {
        let found = self.rotation.ask(Path::Local, Twice::Harmless, deadline, |line| async move {
            let options = GetOptions::new().with_prefix().with_serializable();
            line.kv.clone().get(self.keys.summaries(), Some(options)).await
        });
        let found = found.await?;
        // By key, which is by region. One of a later version is left out: nothing depends on it.
        let all = found.kvs().iter().filter_map(|kv| Summary::decode(kv.value()).ok());
        Ok(Reply::Summaries(all.collect()))
    }
}

/// A value that is none of ours, or a later version's.
fn illegible() -> Reply {
    Reply::Failed(Failure::Bad("etcd has a value that this version cannot read".to_owned()))
}

/// etcd's revisions are never negative.
fn revision_of(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

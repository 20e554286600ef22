//! The directory's engine as gateways meet it: the real table, on a machine somewhere, which may be slow, away, or empty.

use std::time::Duration;

use outlast_directory::{CallId, Failure, InstanceId, Placed, Reply, Request, RoomKey, Table};
use outlast_model::Time;

use crate::{event::Event, network::Host, oracle::Ends, world::World};

/// A write that reached the primary this long before it died has not reached its replica.
pub(crate) const REPLICA_BEHIND: Duration = Duration::from_millis(800);

/// A call on its way.
pub(crate) struct EngineCall {
    pub(crate) gateway: usize,
    pub(crate) life: u16,
    pub(crate) call: CallId,
    pub(crate) request: Request,
}

/// A reply on its way.
pub(crate) struct EngineAnswer {
    pub(crate) gateway: usize,
    pub(crate) life: u16,
    pub(crate) call: CallId,
    pub(crate) reply: Reply,
}

/// The engine.
pub(crate) struct Engine {
    pub(crate) host: Host,
    pub(crate) table: Table,
    /// What the replica has, when a failover is to come.
    pub(crate) replica: Option<Table>,
    instances: u128,
    /// For the observer.
    pub(crate) ends: Ends,
    /// Faults that keep it down.
    pub(crate) down: u8,
    pub(crate) slow: Duration,
    /// When a fault of its own last began or healed, until the observer has looked at what came of it.
    pub(crate) troubled_at: Option<Time>,
    pub(crate) calls: u64,
}

impl Engine {
    pub(crate) fn new(host: Host, seed: u64) -> Engine {
        let instances = u128::from(seed) << 32 | 1;
        let table = Table::new(InstanceId(instances));
        let slow = Duration::ZERO;
        let ends = Ends::new();
        let (replica, troubled_at) = (None, None);
        Engine { host, table, replica, instances, ends, down: 0, slow, troubled_at, calls: 0 }
    }

    /// Everything in it is gone.
    pub(crate) fn wipe(&mut self) {
        self.instances += 1;
        self.table = Table::new(InstanceId(self.instances));
        self.ends.clear();
        self.replica = None;
    }
}

impl World {
    /// A gateway asks the engine, or its own table.
    pub(crate) fn ask_engine(&mut self, gateway: usize, call: CallId, request: Request) {
        let (host, life) = (self.processes[gateway].host, self.processes[gateway].life);
        let local = self.processes[gateway].clock.local(self.now);
        if let Some(table) = &mut self.gateways[gateway].table {
            let reply = table.apply(local, &request);
            let slot = self.answers.put(EngineAnswer { gateway, life, call, reply });
            return self.queue.at(self.now, Event::EngineReply { slot });
        }
        // A cut path is silence: the gateway's deadline decides.
        if !self.net.connects(host, self.engine.host) {
            return;
        }
        let at = self.net.segment(self.now, host, self.engine.host);
        let slot = self.calls.put(EngineCall { gateway, life, call, request });
        self.queue.at(at, Event::EngineCall { slot });
    }

    pub(crate) fn engine_called(&mut self, slot: u32) {
        let EngineCall { gateway, life, call, request } = self.calls.take(slot);
        self.engine.calls += 1;
        let reply = if self.engine.down > 0 {
            Reply::Failed(Failure::Unavailable)
        } else {
            self.apply_watched(&request)
        };
        self.note(|world| {
            let (name, asked) = (&world.gateway_ids[gateway], world.say_request(&request));
            format!("directory: {name} {asked}: {}", say_reply(&reply))
        });
        let host = self.processes[gateway].host;
        if !self.net.connects(self.engine.host, host) {
            return;
        }
        // Slow engines are slow in answering: the write is in already.
        let begins = self.now + self.engine.slow;
        let at = self.net.segment(begins, self.engine.host, host);
        let slot = self.answers.put(EngineAnswer { gateway, life, call, reply });
        self.queue.at(at, Event::EngineReply { slot });
    }

    pub(crate) fn engine_replied(&mut self, slot: u32) {
        let EngineAnswer { gateway, life, call, reply } = self.answers.take(slot);
        if self.processes[gateway].life == life && self.processes[gateway].is_up() {
            self.gateway_replied(gateway, call, reply);
        }
    }

    /// The replica takes over: what the primary did last is lost.
    pub(crate) fn engine_fails_over(&mut self) {
        if let Some(replica) = self.engine.replica.take() {
            self.engine.table = replica;
            self.engine.ends.clear();
        }
    }

    /// What the replica has by now.
    pub(crate) fn engine_replicates(&mut self) {
        self.engine.replica = Some(self.engine.table.clone());
    }

    fn say_request(&self, request: &Request) -> String {
        let room = |key: &RoomKey| {
            let found = self.room_names.iter().find(|name| self.keyer.key(name) == *key);
            found.map_or_else(|| "?".to_owned(), ToString::to_string)
        };
        match request {
            Request::Place { room: key, want } => {
                format!("places {} at {} under {}", room(key), want.node, want.generation.0)
            }
            Request::Replace { room: key, expected, want } => format!(
                "moves {} of {} to {} under {}",
                room(key),
                expected.0,
                want.node,
                want.generation.0
            ),
            Request::End { room: key, generation } => {
                format!("ends {} of {}", room(key), generation.0)
            }
            Request::Lookup { room: key } => format!("looks for {}", room(key)),
            Request::Heartbeat { .. } => "tells of its nodes".to_owned(),
            Request::Summaries => "asks for summaries".to_owned(),
            Request::Instance => "asks who it is".to_owned(),
            Request::Watch { .. } => "watches".to_owned(),
        }
    }

    /// The first moment of `at` that lies in this world's time.
    pub(crate) fn world_time(seconds: f64) -> Time {
        Time::from_millis((seconds * 1_000.0) as u64)
    }
}

fn say_reply(reply: &Reply) -> String {
    match reply {
        Reply::Placed(Placed::Won(record)) => format!("won by {}", record.node),
        Reply::Placed(Placed::Held(record)) => {
            format!("held by {} under {}", record.node, record.generation.0)
        }
        Reply::Failed(failure) => format!("{failure:?}"),
        _ => "done".to_owned(),
    }
}

//! The gateways of one region under load.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use outlast_directory::{Failure, Placed, PlacementId, Record, Reply, Request};
use outlast_engines::Engine;
use outlast_model::{Epoch, Generation};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{Desk, Load};
use crate::chance::Chance;

/// The generation of a new room: above that of readers.
pub(crate) const FIRST_GENERATION: u64 = 10;
/// Calls in flight per region; as a gateway's.
const FLIGHTS_MAX: usize = outlast_directory::CALLS_MAX;
/// Rooms among the first that are asked for again and again.
const HOT_ROOMS: u64 = 5;
/// How many of the newest rooms the others are.
const NEW_ROOMS: u64 = 60;
/// After how long a claim that came to nothing is asked about, and how often.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
const AGAIN_MAX: usize = 3;

/// One region's gateways, as one client of an engine.
#[derive(Clone)]
pub(crate) struct Region {
    desk: Desk,
    engine: Arc<dyn Engine>,
    number: u32,
    /// The highest generation that was told of a room.
    known: Arc<Mutex<BTreeMap<u64, Generation>>>,
}

#[derive(Clone, Copy)]
enum More {
    Nothing,
    Replace,
    End,
    Lookup,
    Reborn,
}

const MORE: [(u64, More); 5] = [
    (30, More::Nothing),
    (30, More::Replace),
    (12, More::End),
    (20, More::Lookup),
    (8, More::Reborn),
];

impl Region {
    pub(crate) fn new(desk: Desk, engine: Arc<dyn Engine>, number: u32) -> Region {
        Region { desk, engine, number, known: Arc::default() }
    }

    /// Runs the load; returns when everything asked has its answer. The number of rooms that were begun.
    pub(crate) async fn run(self, load: Load) -> u64 {
        let mut chance = Chance::named(load.seed, &format!("region {}", self.number));
        let flights = Arc::new(Semaphore::new(FLIGHTS_MAX));
        let mut asked = JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / load.places_per_second);
        let begin = self.desk.clock.now();
        let mut rooms = 0;
        while self.desk.clock.now().since(begin) < load.span {
            ticks.tick().await;
            let mut requests = vec![(rooms, self.place(&mut chance, FIRST_GENERATION, rooms))];
            rooms += 1;
            requests.extend(self.more(&mut chance, rooms));
            // Regions do not beat in step: who is first differs from room to room.
            let wait = Duration::from_micros(chance.below(4_000));
            for (room, request) in requests {
                // As a gateway does: what would be one too many goes without the directory.
                let Ok(flight) = Arc::clone(&flights).try_acquire_owned() else { continue };
                let region = self.clone();
                asked.spawn(async move {
                    tokio::time::sleep(wait).await;
                    region.ask(room, request).await;
                    drop(flight);
                });
            }
            while asked.try_join_next().is_some() {}
        }
        while asked.join_next().await.is_some() {}
        rooms
    }

    fn place(&self, chance: &mut Chance, generation: u64, room: u64) -> Request {
        Request::Place { room: self.desk.room(room), want: self.record(chance, generation) }
    }

    /// One more request, about a room that others ask about as well.
    fn more(&self, chance: &mut Chance, rooms: u64) -> Option<(u64, Request)> {
        let number = if chance.hits(25) {
            chance.below(HOT_ROOMS.min(rooms))
        } else {
            rooms - 1 - chance.below(NEW_ROOMS.min(rooms))
        };
        let room = self.desk.room(number);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = known.get(&number).copied();
        drop(known);
        let request = match (chance.weighted(&MORE), generation) {
            (More::Nothing, _) => return None,
            (More::Lookup, _) | (_, None) => Request::Lookup { room },
            (More::Replace, Some(expected)) => {
                let want = self.record(chance, expected.0 + 1);
                Request::Replace { room, expected, want }
            }
            (More::End, Some(generation)) => Request::End { room, generation },
            (More::Reborn, Some(generation)) => self.place(chance, generation.0 + 1, number),
        };
        Some((number, request))
    }

    fn record(&self, chance: &mut Chance, generation: u64) -> Record {
        Record {
            node: format!("r{}-{}", self.number, chance.below(20)).into(),
            epoch: Epoch(1),
            generation: Generation(generation),
            id: PlacementId(chance.bits().max(1)),
            provisional: false,
        }
    }

    /// Asks, and asks again as long as a claim's answer tells nothing.
    async fn ask(&self, number: u64, request: Request) {
        let is_claim = matches!(request, Request::Place { .. } | Request::Replace { .. });
        for _ in 0..=AGAIN_MAX {
            let reply = self.desk.ask(&self.engine, self.number, number, request.clone()).await;
            self.learn(number, &reply);
            if !is_claim || reply != Reply::Failed(Failure::Unknown) {
                return;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    fn learn(&self, number: u64, reply: &Reply) {
        let generation = match reply {
            Reply::Placed(Placed::Won(record) | Placed::Held(record))
            | Reply::Found(Some(record)) => record.generation,
            Reply::Failed(Failure::Fenced(generation)) => *generation,
            _ => return,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = known.entry(number).or_insert(generation);
        *highest = generation.max(*highest);
    }
}

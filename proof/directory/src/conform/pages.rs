//! What traces cannot show, since it takes many rooms: a list of several pages, which changes while it is read.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use outlast_directory::{
    EVENTS_PER_REPLY_MAX, Event, Placed, PlacementId, Record, Reply, Request, RoomKey,
};
use outlast_engines::{Engine, Partition};
use outlast_model::{Epoch, Generation};
use outlast_runtime::Clock;

use super::{follower::Follower, play::ANSWER_DEADLINE};
use crate::{chance::Chance, words};

/// Rooms: more than two pages of them.
const ROOMS: u64 = 2 * EVENTS_PER_REPLY_MAX as u64 + 300;
/// Rooms that are placed only while the list is read.
const NEW_ROOMS: u64 = 50;
/// Requests on their way at a time.
const FLIGHTS: usize = 64;
/// Changes after each page.
const CHANGES: usize = 150;

/// Places many rooms, then follows from the start while rooms are ended, replaced and placed between the pages, and knows in
/// the end what is held. `low` keeps its rooms apart from those of other calls.
///
/// # Errors
/// What differs, in words.
pub async fn long_lists_come_whole(
    engine: &Arc<dyn Engine>,
    at: Partition,
    seed: u64,
    low: u64,
) -> Result<(), String> {
    let mut chance = Chance::named(seed, "pages");
    let room = |n: u64| RoomKey((u128::from(n) << 64) | u128::from(low));
    let mut held: BTreeMap<RoomKey, Record> = BTreeMap::new();
    let places: Vec<_> = (0..ROOMS)
        .map(|n| Request::Place { room: room(n), want: record(&mut chance, 1) })
        .collect();
    claim(engine, at, &places, &mut held).await?;
    let instance = match engine.ask(at, Request::Instance).await {
        Reply::Instance(instance) => instance,
        other => return Err(format!("an instance is asked for: {}", words::reply(&other))),
    };
    let mut follower = Follower::new();
    let mut late = None;
    let clock = Clock::start();
    let mut pages = 0;
    // Each claim's generation is above all before it, so that no tombstone fences it.
    let mut generation = 1;
    loop {
        let is_news = match engine.ask(at, follower.request()).await {
            Reply::Changes(changes) => follower.take(changes, instance)?,
            other => return Err(format!("a watch is answered: {}", words::reply(&other))),
        };
        pages += 1;
        if pages <= 4 {
            let mut change = Change { chance: &mut chance, generation: &mut generation };
            change.some(engine, at, &room, &mut held).await?;
        }
        if pages == 2 {
            late = Some(follower.clone());
        }
        if is_news || pages <= 4 {
            continue;
        }
        match wrong(&follower, &held, &room) {
            None => match late.take() {
                // Once more from the middle of the list as it was then.
                Some(earlier) => follower = earlier,
                None => return Ok(()),
            },
            Some(what) if clock.now().since(outlast_model::Time::ZERO) > ANSWER_DEADLINE => {
                return Err(what);
            }
            Some(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

fn record(chance: &mut Chance, generation: u64) -> Record {
    Record {
        node: "n".into(),
        epoch: Epoch(1),
        generation: Generation(generation),
        id: PlacementId(chance.bits().max(1)),
        provisional: false,
    }
}

async fn claim(
    engine: &Arc<dyn Engine>,
    at: Partition,
    requests: &[Request],
    held: &mut BTreeMap<RoomKey, Record>,
) -> Result<(), String> {
    for some in requests.chunks(FLIGHTS) {
        let replies = join_all(some.iter().map(|request| engine.ask(at, request.clone()))).await;
        for (request, reply) in some.iter().zip(replies) {
            let (Request::Place { room, want } | Request::Replace { room, want, .. }) = request
            else {
                continue;
            };
            if reply != Reply::Placed(Placed::Won(want.clone())) {
                return Err(format!("{}: {}", words::request(request), words::reply(&reply)));
            }
            held.insert(*room, want.clone());
        }
    }
    Ok(())
}

/// Changes between two pages.
struct Change<'a> {
    chance: &'a mut Chance,
    generation: &'a mut u64,
}

impl Change<'_> {
    async fn some(
        &mut self,
        engine: &Arc<dyn Engine>,
        at: Partition,
        room: &impl Fn(u64) -> RoomKey,
        held: &mut BTreeMap<RoomKey, Record>,
    ) -> Result<(), String> {
        let mut claims = BTreeMap::new();
        for _ in 0..CHANGES {
            let room = room(self.chance.below(ROOMS + NEW_ROOMS));
            if claims.contains_key(&room) {
                continue;
            }
            *self.generation += 1;
            let want = record(self.chance, *self.generation);
            match held.get(&room).map(|record| record.generation) {
                Some(generation) if self.chance.hits(50) => {
                    match engine.ask(at, Request::End { room, generation }).await {
                        Reply::Done => held.remove(&room),
                        other => return Err(format!("an end: {}", words::reply(&other))),
                    };
                }
                Some(expected) => {
                    claims.insert(room, Request::Replace { room, expected, want });
                }
                None => {
                    claims.insert(room, Request::Place { room, want });
                }
            }
        }
        let claims: Vec<_> = claims.into_values().collect();
        claim(engine, at, &claims, held).await
    }
}

fn wrong(
    follower: &Follower,
    held: &BTreeMap<RoomKey, Record>,
    room: &impl Fn(u64) -> RoomKey,
) -> Option<String> {
    (0..ROOMS + NEW_ROOMS).find_map(|n| {
        let room = room(n);
        let believed = match follower.rooms.get(&room) {
            Some(Event::Held { record, .. }) => Some(record),
            Some(Event::Ended { .. }) | None => None,
        };
        if believed == held.get(&room) {
            return None;
        }
        let say = |record: Option<&Record>| record.map_or("nobody".to_owned(), words::record);
        Some(format!(
            "room {n}: a follower knows {}, held is {}",
            say(believed),
            say(held.get(&room))
        ))
    })
}

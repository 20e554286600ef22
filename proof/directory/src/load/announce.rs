//! After the faults: reading every room, and the pass in which nodes announce what they hold.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use outlast_directory::{Failure, Placed, PlacementId, Record, Reply, Request, RoomKey};
use outlast_engines::Engine;
use outlast_model::{Epoch, Generation};

use super::{Desk, region::FIRST_GENERATION};
use crate::{history::Operation, words};

/// Below every room's generation: a reader's tombstone fences nothing.
const READER_GENERATION: u64 = 1;
/// Requests on their way at a time.
const FLIGHTS: usize = 32;
/// How long an engine may take for an answer that tells something, once its servers are whole again.
const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);
/// The client that reads, and the one that announces.
const READER: u32 = 1_000;
const ANNOUNCER: u32 = 1_001;

/// Whether a client is a region's, and neither the reader nor the announcer.
pub(crate) fn is_region(client: u32) -> bool {
    client < READER
}

/// Reads rooms `0..rooms` with a claim that is below everything: a lookup may be answered from the past, a claim not. One that
/// wins, since nothing is known of the room, is ended again. Returns who holds each; `Err` where nobody answers.
pub(crate) async fn read_all(
    desk: &Desk,
    engine: &Arc<dyn Engine>,
    rooms: u64,
    seed: u128,
) -> Vec<Result<Option<Record>, String>> {
    let read = async |number: u64| {
        let room = desk.room(number);
        let want = Record {
            node: "reader".into(),
            epoch: Epoch(1),
            generation: Generation(READER_GENERATION),
            id: PlacementId((seed << 64 | u128::from(number)).max(1)),
            provisional: false,
        };
        let place = Request::Place { room, want: want.clone() };
        match until_told(desk, engine, READER, number, place).await? {
            Reply::Placed(Placed::Won(_)) => {
                let end = Request::End { room, generation: want.generation };
                until_told(desk, engine, READER, number, end).await?;
                Ok(None)
            }
            Reply::Placed(Placed::Held(record)) => Ok(Some(record)),
            Reply::Failed(Failure::Fenced(_)) => Ok(None),
            other => Err(format!("reading room {number}: {}", words::reply(&other))),
        }
    };
    stream::iter(0..rooms).map(read).buffered(FLIGHTS).collect().await
}

/// Every node announces the rooms that it was given, as gateways do after a heal: a room that the directory does not know is
/// placed, one that it knows under a lower generation is replaced, any other is given up. Returns who must be in the directory
/// for each room after that; `None` where it is up to the directory.
pub(crate) async fn announce(
    desk: &Desk,
    engine: &Arc<dyn Engine>,
    rooms: u64,
    operations: &[Operation],
) -> Vec<Result<Option<Record>, String>> {
    let holders = holders(operations);
    let tell = async |number: u64| {
        let room = desk.room(number);
        let mut left = None;
        for record in holders.get(&room).into_iter().flatten() {
            // In the order of their generations, the lowest first: all orders must be as good.
            let place = Request::Place { room, want: record.clone() };
            let told = until_told(desk, engine, ANNOUNCER, number, place).await?;
            let told = match told {
                Reply::Placed(Placed::Held(held)) if held.generation < record.generation => {
                    let (expected, want) = (held.generation, record.clone());
                    let replace = Request::Replace { room, expected, want };
                    until_told(desk, engine, ANNOUNCER, number, replace).await?
                }
                other => other,
            };
            left = match told {
                // Whoever held it under a lower generation learns of the higher one and gives the room up.
                Reply::Placed(Placed::Won(won)) => Some(won),
                // A claim whose answer never came was applied: its gateway gets the room when it asks again.
                Reply::Placed(Placed::Held(held)) => Some(held),
                other => {
                    return Err(format!("room {number} is held, and: {}", words::reply(&other)));
                }
            };
        }
        Ok(left)
    };
    stream::iter(0..rooms).map(tell).buffered(FLIGHTS).collect().await
}

/// What nodes were given, by room and then by generation. What has ended since, as far as anybody was told, is not held.
fn holders(operations: &[Operation]) -> BTreeMap<RoomKey, Vec<Record>> {
    let mut holders: BTreeMap<RoomKey, BTreeMap<(Generation, PlacementId), Record>> =
        BTreeMap::new();
    for operation in operations {
        if let Request::Place { room, .. } | Request::Replace { room, .. } = &operation.request
            && let Reply::Placed(Placed::Won(record)) = &operation.reply
            && record.generation.0 >= FIRST_GENERATION
        {
            let key = (record.generation, record.id);
            holders.entry(*room).or_default().insert(key, record.clone());
        }
    }
    for operation in operations {
        if let Request::End { room, generation } = &operation.request
            && let Some(records) = holders.get_mut(room)
        {
            // A node ends a room when nobody is in it any more, whether or not the directory heard of it.
            records.retain(|(held, _), _| held > generation);
        }
    }
    holders.into_iter().map(|(room, records)| (room, records.into_values().collect())).collect()
}

async fn until_told(
    desk: &Desk,
    engine: &Arc<dyn Engine>,
    client: u32,
    number: u64,
    request: Request,
) -> Result<Reply, String> {
    let deadline = desk.clock.now() + DEADLINE;
    loop {
        match desk.ask(engine, client, number, request.clone()).await {
            Reply::Failed(Failure::Unknown | Failure::Unavailable)
                if desk.clock.now() < deadline =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            Reply::Failed(Failure::Unknown | Failure::Unavailable) => {
                let state = engine.state(Desk::partition(engine.as_ref(), number));
                return Err(format!("no answer for {DEADLINE:?}: {state:?}"));
            }
            told => return Ok(told),
        }
    }
}

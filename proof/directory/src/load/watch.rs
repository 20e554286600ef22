//! Gateways that follow all changes while everything happens, and must know in the end what is held.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use outlast_directory::{Event, Failure, InstanceId, Record, Reply, Request, Revision, RoomKey};
use outlast_engines::{Engine, Partition};
use tokio::sync::watch;

use super::Desk;
use crate::words;

/// Between two questions of a follower that has come to the end.
const PAUSE: Duration = Duration::from_millis(100);
/// How long followers may take to catch up once everything is calm.
pub(crate) const CATCH_UP_DEADLINE: Duration = Duration::from_secs(20);

/// What a follower knows, and how it went.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    rooms: BTreeMap<RoomKey, Event>,
    instance: InstanceId,
    /// How often it had to begin anew.
    pub(crate) resyncs: u64,
    /// Answers that were no changes and no silence.
    pub(crate) wrong: Vec<String>,
}

/// Follows one partition until `calm` is true and there is nothing new.
pub(crate) async fn follow(
    engine: Arc<dyn Engine>,
    at: Partition,
    calm: watch::Receiver<bool>,
) -> Watched {
    let mut watched = Watched::default();
    let mut after = Revision::START;
    let clock = outlast_runtime::Clock::start();
    let mut calm_since = None;
    loop {
        let is_calm = *calm.borrow();
        match engine.ask(at, Request::Watch { after }).await {
            Reply::Changes(changes) => {
                if changes.resync {
                    watched.rooms.clear();
                    watched.resyncs += 1;
                } else if watched.instance != changes.instance {
                    watched.wrong.push("another instance without a resync".to_owned());
                }
                (after, watched.instance) = (changes.revision, changes.instance);
                let is_news = !changes.events.is_empty();
                for event in changes.events {
                    let (Event::Held { room, .. } | Event::Ended { room, .. }) = event;
                    watched.rooms.insert(room, event);
                }
                if is_news {
                    continue;
                }
                // An engine's replicas may be a little behind: its last words are waited for.
                let since = *calm_since.get_or_insert_with(|| clock.now());
                if is_calm && clock.now().since(since) > PAUSE * 10 {
                    return watched;
                }
                if !is_calm {
                    calm_since = None;
                }
            }
            Reply::Failed(Failure::Unknown | Failure::Unavailable) => {
                let since = *calm_since.get_or_insert_with(|| clock.now());
                if is_calm && clock.now().since(since) > CATCH_UP_DEADLINE {
                    watched.wrong.push(format!("no answer: {:?}", engine.state(at)));
                    return watched;
                }
            }
            other => {
                watched.wrong.push(words::reply(&other));
                return watched;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where followers know something else than what is held, in words.
pub(crate) fn misbeliefs(desk: &Desk, held: &[Option<Record>], watched: &[Watched]) -> Vec<String> {
    let mut wrong: Vec<_> = watched.iter().flat_map(|watched| watched.wrong.clone()).collect();
    for (number, held) in (0..).zip(held) {
        let room = desk.room(number);
        let mut believed = watched.iter().filter_map(|watched| match watched.rooms.get(&room)? {
            Event::Held { record, .. } => Some(record),
            Event::Ended { .. } => None,
        });
        let believed = believed.next();
        if believed != held.as_ref() {
            let say = |record: Option<&Record>| record.map_or("nobody".to_owned(), words::record);
            let (told, held) = (say(believed), say(held.as_ref()));
            wrong.push(format!("a follower knows of room {number}: {told}; held by {held}"));
        }
    }
    wrong
}

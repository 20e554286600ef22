//! Asking an engine in tests.

use std::{collections::BTreeMap, time::Duration};

use outlast_directory::{
    Changes, Event, Failure, InstanceId, NodeSummary, PlacementId, Record, Reply, Request,
    Revision, RoomKey, Summary,
};
use outlast_engines::{Engine, Partition};
use outlast_model::{Epoch, Generation};
use tokio::time::{sleep, timeout};

/// Far more than anything here takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn record(node: &str, generation: u64, id: u128) -> Record {
    Record {
        node: node.into(),
        epoch: Epoch(1),
        generation: Generation(generation),
        id: PlacementId(id),
        provisional: false,
    }
}

pub(crate) fn place(room: u128, want: &Record) -> Request {
    Request::Place { room: RoomKey(room), want: want.clone() }
}

pub(crate) fn replace(room: u128, expected: u64, want: &Record) -> Request {
    Request::Replace { room: RoomKey(room), expected: Generation(expected), want: want.clone() }
}

pub(crate) fn end(room: u128, generation: u64) -> Request {
    Request::End { room: RoomKey(room), generation: Generation(generation) }
}

pub(crate) fn summary(region: &str, nodes: usize) -> Summary {
    let node = |n: usize| NodeSummary {
        node: format!("{region}-{n}").into(),
        epoch: Epoch(1),
        draining: false,
        load_permille: 5,
        rooms: 1,
    };
    Summary { region: region.into(), nodes: (0..nodes).map(node).collect() }
}

/// The first answer. An engine answers in time whatever happens.
pub(crate) async fn ask(engine: &impl Engine, request: Request) -> Reply {
    timeout(DEADLINE, engine.ask(Partition(0), request)).await.expect("an engine answers")
}

/// Asks again for as long as the answer tells nothing.
pub(crate) async fn insist(engine: &impl Engine, request: Request) -> Reply {
    let asked = async {
        loop {
            let reply = ask(engine, request.clone()).await;
            if !matches!(reply, Reply::Failed(Failure::Unavailable | Failure::Unknown)) {
                return reply;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    match timeout(DEADLINE, asked).await {
        Ok(reply) => reply,
        Err(_) => panic!("no answer to {request:?}: {:?}", engine.state(Partition(0))),
    }
}

pub(crate) async fn instance(engine: &impl Engine) -> InstanceId {
    match insist(engine, Request::Instance).await {
        Reply::Instance(instance) => instance,
        other => panic!("an instance is asked for: {other:?}"),
    }
}

/// Waits until `done` says so.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !done().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(DEADLINE, waited).await.is_ok(), "{what}: not in time");
}

/// Somebody who watches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watcher {
    pub(crate) after: Revision,
    pub(crate) held: BTreeMap<RoomKey, Record>,
    /// How often it began anew.
    pub(crate) resyncs: usize,
    pub(crate) pages: usize,
}

impl Watcher {
    /// Asks once; returns whether there was something.
    pub(crate) async fn ask(&mut self, engine: &impl Engine) -> bool {
        let watch = Request::Watch { after: self.after };
        let Reply::Changes(changes) = insist(engine, watch).await else {
            panic!("a watch is answered by changes");
        };
        let Changes { events, revision, resync, .. } = changes;
        self.pages += 1;
        if resync {
            self.resyncs += 1;
            self.held.clear();
        }
        self.after = revision;
        let is_news = !events.is_empty();
        for event in events {
            match event {
                Event::Held { room, record } => {
                    let generation = record.generation;
                    let before = self.held.insert(room, record);
                    let is_late = before.is_some_and(|before| before.generation > generation);
                    assert!(!is_late, "{room} goes back to {generation:?}");
                }
                Event::Ended { room, .. } => {
                    self.held.remove(&room);
                }
            }
        }
        is_news
    }

    pub(crate) async fn reach_the_end(&mut self, engine: &impl Engine) {
        while self.ask(engine).await {}
    }
}

/// Whatever is asked of servers that are not there is answered at once, and the trouble is told.
pub(crate) async fn nobody_answers(engine: &impl Engine) {
    for request in [
        place(1, &record("a", 1, 1)),
        end(1, 1),
        Request::Instance,
        Request::Summaries,
        Request::Lookup { room: RoomKey(1) },
        Request::Watch { after: Revision::START },
        Request::Heartbeat { summary: summary("eu", 1), ttl: Duration::from_secs(1) },
    ] {
        let mut answer = engine.ask(Partition(0), request.clone());
        // Long before the first connection could have failed by time.
        let reply = timeout(Duration::from_millis(300), &mut answer).await;
        assert_eq!(reply, Ok(Reply::Failed(Failure::Unavailable)), "{request:?}");
    }
    until("the trouble is told", async || engine.state(Partition(0)).trouble.is_some()).await;
    assert_eq!(engine.state(Partition(0)).decides, None);
}

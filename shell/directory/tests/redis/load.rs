//! Claims of two gateways for the same rooms, and what they were told.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use outlast_directory::{Placed, Record, Reply, Request, RoomKey};
use outlast_engines::{Answer, Engine, PartState, Partition, Redis};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::desk::{insist, place, record};

/// Between two rooms.
const INTERVAL: Duration = Duration::from_millis(5);

/// One partition of an engine, as if it were the only one.
pub(crate) struct Part(pub(crate) Arc<Redis>, pub(crate) Partition);

impl Engine for Part {
    fn partitions(&self) -> std::num::NonZeroU16 {
        std::num::NonZeroU16::MIN
    }

    fn ask(&self, _at: Partition, request: Request) -> Answer {
        self.0.ask(self.1, request)
    }

    fn state(&self, _at: Partition) -> PartState {
        self.0.state(self.1)
    }
}

/// Claims that go on until they are stopped.
pub(crate) struct Load {
    told: Arc<Told>,
    tasks: JoinSet<()>,
}

/// What came of them.
struct Told {
    /// Who holds each room, as often as it was told.
    holders: Mutex<BTreeMap<u128, Vec<Record>>>,
    stop: AtomicBool,
    start: Instant,
    /// When it was told last, in milliseconds from `start` on.
    last: AtomicU64,
}

impl Told {
    /// Claims a new room each [`INTERVAL`]; one of two.
    async fn claim_on(self: Arc<Told>, engine: Part, n: u128) {
        for room in 0.. {
            if self.stop.load(Relaxed) {
                return;
            }
            let want = record(if n == 0 { "a" } else { "b" }, 1, 2 * room + n + 1);
            let reply = engine.ask(Partition(0), place(room, &want)).await;
            if let Reply::Placed(Placed::Won(by) | Placed::Held(by)) = reply {
                self.holders.lock().unwrap().entry(room).or_default().push(by);
                let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap();
                self.last.fetch_max(passed, Relaxed);
            }
            sleep(INTERVAL).await;
        }
    }
}

impl Load {
    /// Both engines claim the same rooms, each for a node of its own.
    pub(crate) fn start(engines: [Part; 2]) -> Load {
        let told = Arc::new(Told {
            holders: Mutex::default(),
            stop: AtomicBool::new(false),
            start: Instant::now(),
            last: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        for (n, engine) in (0..).zip(engines) {
            tasks.spawn(told.clone().claim_on(engine, n));
        }
        Load { told, tasks }
    }

    /// Waits until `count` claims more than now are answered.
    pub(crate) async fn more(&self, count: usize) {
        let answered = || self.told.holders.lock().unwrap().len();
        let before = answered();
        crate::desk::until("claims are answered", async || answered() >= before + count).await;
    }

    /// How long ago a claim was answered last.
    pub(crate) fn silence(&self) -> Duration {
        let Told { start, last, .. } = &*self.told;
        start.elapsed().saturating_sub(Duration::from_millis(last.load(Relaxed)))
    }

    /// Stops, and compares what was told with what is there: all of it, by one node each.
    pub(crate) async fn check(mut self, engine: &impl Engine) {
        self.told.stop.store(true, Relaxed);
        while self.tasks.join_next().await.is_some() {}
        let told = std::mem::take(&mut *self.told.holders.lock().unwrap());
        assert!(told.len() > 100, "only {} rooms", told.len());
        for (room, holders) in told {
            let is_one = holders.iter().all(|holder| *holder == holders[0]);
            assert!(is_one, "room {room} was told to be held by {holders:?}");
            let found = insist(engine, Request::Lookup { room: RoomKey(room) }).await;
            assert_eq!(found, Reply::Found(Some(holders[0].clone())), "room {room}");
        }
    }
}

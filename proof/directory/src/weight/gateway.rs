//! One region's gateway as the directory sees it: what it asks, how often, and with how much in flight, through the same
//! machine as a gateway's (`outlast_directory::Caller`). Spans and limits that it has are those of `core/gateway/src/claims`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use outlast_directory::{
    CallId, Caller, CallerOutput, Changes, Failure, Layout, Placed, Reply, Request, Revision,
    RoomKey, Summary,
};
use outlast_engines::{Engine, Partition};
use outlast_model::{RegionName, Time};
use outlast_runtime::Clock;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{rooms::Rooms, tally::Tally};
use crate::chance::Chance;

/// How finely rooms begin and end.
const TICK: Duration = Duration::from_millis(10);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
const HEARTBEAT_TTL: Duration = Duration::from_secs(5);
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// What a directory is told that it does not know comes in batches of so many, with so many in flight.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);
const ANNOUNCE_BATCH: usize = 50;
const ANNOUNCING_MAX: usize = 64;
/// After how long an end that was not answered is asked for again.
const END_AGAIN: Duration = Duration::from_secs(4);
/// How long answers are waited for in the end: claims that nobody knew of are asked about again.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// What gateways do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// They tell of the rooms that stand.
    Fill,
    /// Rooms begin and end.
    Load,
    /// The same, and it is counted.
    Measure,
    /// Answers are waited for.
    Drain,
}

/// What all gateways share.
#[derive(Clone)]
pub(super) struct Counted {
    pub(super) clock: Clock,
    pub(super) phase: watch::Receiver<Phase>,
    tally: Arc<Mutex<Tally>>,
}

impl Counted {
    pub(super) fn new(phase: watch::Receiver<Phase>) -> Counted {
        Counted { clock: Clock::start(), phase, tally: Arc::default() }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_measured(&self) -> bool {
        *self.phase.borrow() == Phase::Measure
    }
}

/// What is left of a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Rooms that it knows to be held.
    pub(super) alive: usize,
    /// Rooms that perhaps are, besides.
    pub(super) perhaps: usize,
    /// Rooms of them that perhaps are not.
    pub(super) perhaps_not: usize,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    Claim(RoomKey),
    Announce(RoomKey),
    End(RoomKey),
    Watch,
    Heartbeat,
}

/// One partition as this gateway uses it.
struct Part {
    caller: Caller,
    revision: Revision,
    watching: bool,
    watch_at: Time,
    announcing: usize,
}

/// An answer on its way to whoever asked.
struct Answered {
    call: CallId,
    operation: &'static str,
    took: Duration,
    is_measured: bool,
    reply: Reply,
}

/// A gateway.
pub(super) struct Gateway {
    counted: Counted,
    engine: Arc<dyn Engine>,
    layout: Layout,
    region: RegionName,
    rooms: Rooms,
    chance: Chance,
    parts: Vec<Part>,
    /// Rooms that stand and have not been told of yet.
    to_fill: u64,
    filled: watch::Sender<u64>,
    purposes: BTreeMap<CallId, Purpose>,
    said: Vec<CallerOutput>,
    answers: FuturesUnordered<BoxFuture<'static, Answered>>,
    heartbeat_at: Time,
    announce_at: Time,
}

impl Gateway {
    /// One that tells of `standing` rooms first, and counts in `filled` how many of them are held.
    pub(super) fn new(
        counted: Counted,
        engine: Arc<dyn Engine>,
        region: RegionName,
        rooms: Rooms,
        mut chance: Chance,
        standing: u64,
        filled: watch::Sender<u64>,
    ) -> Gateway {
        let layout = Layout::Fixed(engine.partitions().get());
        let now = counted.clock.now();
        let part = |at| Part {
            caller: Caller::new(Partition(at), chance.below(u64::MAX)),
            revision: Revision::START,
            watching: false,
            watch_at: now,
            announcing: 0,
        };
        let parts = (0..layout.partitions()).map(part).collect();
        Gateway {
            counted,
            engine,
            layout,
            region,
            rooms,
            parts,
            chance,
            to_fill: standing,
            filled,
            purposes: BTreeMap::new(),
            said: Vec::new(),
            answers: FuturesUnordered::new(),
            heartbeat_at: now,
            announce_at: now,
        }
    }

    /// Goes on until everything asked before the last phase has its answer.
    pub(super) async fn run(mut self) -> Left {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drains = None;
        loop {
            tokio::select! {
                Some(answered) = self.answers.next() => self.answered(answered),
                _ = ticks.tick() => self.wake(),
            }
            let now = self.counted.clock.now();
            if *self.counted.phase.borrow() == Phase::Drain {
                let since = *drains.get_or_insert(now);
                if self.purposes.is_empty() || now.since(since) > DRAIN_MAX {
                    let (perhaps, perhaps_not) = self.rooms.unsure();
                    return Left { alive: self.rooms.alive(), perhaps, perhaps_not };
                }
            }
        }
    }

    fn wake(&mut self) {
        let now = self.counted.clock.now();
        let phase = *self.counted.phase.borrow();
        if phase != Phase::Drain {
            self.watch(now);
            self.heartbeat(now);
            if self.announce_at <= now {
                self.announce_at = now + ANNOUNCE_INTERVAL;
                self.fill(now);
                self.end(now);
            }
        }
        if matches!(phase, Phase::Load | Phase::Measure) {
            for _ in 0..self.rooms.due(now) {
                let (room, want) = self.rooms.begin();
                let at = self.kept_at(room);
                if !self.send(now, at, Request::Place { room, want }, Purpose::Claim(room)) {
                    self.rooms.lost(room);
                    self.counted.tally().shed += u64::from(phase == Phase::Measure);
                }
            }
        }
        for part in &mut self.parts {
            part.caller.wake(now, &mut self.said);
        }
        self.flush(now);
    }

    fn watch(&mut self, now: Time) {
        for at in (0..self.layout.partitions()).map(Partition) {
            let part = &self.parts[usize::from(at.0)];
            if part.watching || part.watch_at > now {
                continue;
            }
            let after = part.revision;
            let watching = self.send(now, at, Request::Watch { after }, Purpose::Watch);
            let jitter = Duration::from_micros(self.chance.below(500_000));
            let part = &mut self.parts[usize::from(at.0)];
            (part.watching, part.watch_at) = (watching, now + WATCH_INTERVAL + jitter);
        }
    }

    fn heartbeat(&mut self, now: Time) {
        if self.heartbeat_at > now {
            return;
        }
        self.heartbeat_at = now + HEARTBEAT_INTERVAL;
        let summary = Summary { region: self.region.clone(), nodes: self.rooms.summary() };
        let at = self.layout.summary(&self.region);
        let beat = Request::Heartbeat { summary, ttl: HEARTBEAT_TTL };
        self.send(now, at, beat, Purpose::Heartbeat);
    }

    /// Tells of a batch of rooms that stand, as after a loss of everything.
    fn fill(&mut self, now: Time) {
        for _ in 0..ANNOUNCE_BATCH.min(usize::try_from(self.to_fill).unwrap_or(usize::MAX)) {
            let (room, want) = self.rooms.begin();
            let at = self.kept_at(room);
            if self.parts[usize::from(at.0)].announcing >= ANNOUNCING_MAX
                || !self.send(now, at, Request::Place { room, want }, Purpose::Announce(room))
            {
                return self.rooms.lost(room);
            }
            self.parts[usize::from(at.0)].announcing += 1;
            self.to_fill -= 1;
        }
    }

    fn end(&mut self, now: Time) {
        for _ in 0..ANNOUNCE_BATCH {
            let Some((room, generation)) = self.rooms.next_end(now) else { return };
            let at = self.kept_at(room);
            let full = self.parts[usize::from(at.0)].announcing >= ANNOUNCING_MAX;
            if full || !self.send(now, at, Request::End { room, generation }, Purpose::End(room)) {
                self.rooms.end_again(now, room);
                return;
            }
            self.parts[usize::from(at.0)].announcing += 1;
        }
    }

    fn kept_at(&self, room: RoomKey) -> Partition {
        self.layout.order(room).first().copied().unwrap_or_default()
    }

    fn send(&mut self, now: Time, at: Partition, request: Request, purpose: Purpose) -> bool {
        let caller = &mut self.parts[usize::from(at.0)].caller;
        let Ok(call) = caller.ask(now, request, &mut self.said) else { return false };
        self.purposes.insert(call, purpose);
        self.flush(now);
        true
    }

    fn answered(&mut self, answered: Answered) {
        let now = self.counted.clock.now();
        let Answered { call, operation, took, is_measured, reply } = answered;
        if is_measured {
            self.counted.tally().answered(operation, reply.outcome(), took);
        }
        let caller = &mut self.parts[usize::from(call.at.0)].caller;
        caller.reply(now, call, reply, &mut self.said);
        self.flush(now);
    }

    fn flush(&mut self, now: Time) {
        while !self.said.is_empty() {
            for said in std::mem::take(&mut self.said) {
                match said {
                    CallerOutput::Send { call, request } => self.ask(call, request),
                    CallerOutput::Answer { call, reply } => self.told(now, call, reply),
                    CallerOutput::Resolved { call, reply } => {
                        let purpose = self.purposes.remove(&call);
                        self.resolved(now, purpose, &reply);
                    }
                    // Nothing here wipes a directory.
                    CallerOutput::Wiped { .. } => {}
                }
            }
        }
    }

    fn ask(&mut self, call: CallId, request: Request) {
        let (operation, asked_at) = (request.operation(), self.counted.clock.now());
        let is_measured = self.counted.is_measured();
        if is_measured {
            self.counted.tally().asked(operation);
        }
        let clock = self.counted.clock;
        let answer = self.engine.ask(call.at, request).map(move |reply| {
            let took = clock.now().since(asked_at);
            Answered { call, operation, took, is_measured, reply }
        });
        self.answers.push(answer.boxed());
    }

    /// What came of a call, at the latest when nobody waits for it any longer.
    fn told(&mut self, now: Time, call: CallId, reply: Reply) {
        let Some(purpose) = self.purposes.get(&call).copied() else { return };
        let part = &mut self.parts[usize::from(call.at.0)];
        let unknown = reply == Reply::Failed(Failure::Unknown);
        if matches!(purpose, Purpose::Announce(_) | Purpose::End(_)) {
            part.announcing -= 1;
        }
        match (purpose, reply) {
            (Purpose::Claim(_) | Purpose::Announce(_), _) if unknown => {
                // Its resolution comes.
                let is_join = matches!(purpose, Purpose::Claim(_));
                let counts = is_join && self.counted.is_measured();
                self.counted.tally().late += u64::from(counts);
                return;
            }
            (Purpose::Claim(_) | Purpose::Announce(_), reply) => {
                self.resolved(now, Some(purpose), &reply)
            }
            (Purpose::End(room), Reply::Done) => self.rooms.ended(room),
            (Purpose::End(room), _) => self.rooms.end_again(now + END_AGAIN, room),
            (Purpose::Watch, Reply::Changes(changes)) => {
                part.watching = false;
                self.changed(now, call.at, &changes);
            }
            (Purpose::Watch, _) => part.watching = false,
            (Purpose::Heartbeat, _) => {}
        }
        self.purposes.remove(&call);
    }

    /// What came of a claim is known, or never will be.
    fn resolved(&mut self, now: Time, purpose: Option<Purpose>, reply: &Reply) {
        let (room, stands) = match purpose {
            Some(Purpose::Claim(room)) => (room, false),
            Some(Purpose::Announce(room)) => (room, true),
            _ => return,
        };
        match reply {
            Reply::Placed(Placed::Won(_)) => {
                self.rooms.held(now, room, stands);
                self.filled.send_modify(|filled| *filled += u64::from(stands));
            }
            Reply::Failed(Failure::Unknown) => {}
            _ => {
                self.rooms.lost(room);
                self.to_fill += u64::from(stands);
            }
        }
    }

    fn changed(&mut self, now: Time, at: Partition, changes: &Changes) {
        let part = &mut self.parts[usize::from(at.0)];
        part.revision = changes.revision;
        if !changes.events.is_empty() {
            part.watch_at = now;
        }
        if self.counted.is_measured() {
            self.counted.tally().heard += changes.events.len() as u64;
        }
    }
}

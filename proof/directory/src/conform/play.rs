//! Plays a trace on an engine and on the table, step by step, and stops at the first difference.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use outlast_directory::{
    Changes, Event, Failure, InstanceId, PlacementId, Record, Reply, Request, Revision, RoomKey,
    SUMMARY_TTL_MAX, Summary, Table,
};
use outlast_engines::Engine;
use outlast_model::{Epoch, Generation, Time};
use outlast_runtime::Clock;

use super::{
    follower::Follower,
    ground::Ground,
    trace::{Act, FOLLOWERS, REGIONS, ROOMS, Trace},
};
use crate::words;

/// How long an engine without faults may take for an answer that tells something, and its replicas to catch up.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// Between two questions for the same.
const PAUSE: Duration = Duration::from_millis(10);
/// Pages that a follower goes through before it counts as one that never comes to the end.
const PAGES_MAX: usize = 20_000;
/// Longest trace that can be compared: later on, the first summaries may have run out.
const TRACE_MAX: Duration = SUMMARY_TTL_MAX.saturating_sub(Duration::from_secs(10));
/// A room that nobody ever asks for.
const GHOST: RoomKey = RoomKey(ROOMS as u128);

/// What an engine's lookups, summaries and watches may be answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// From the present.
    Exact,
    /// From any earlier state, as long as they catch up within [`ANSWER_DEADLINE`].
    Late,
}

/// What a trace came to when there was no difference.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Requests sent, repetitions and pages included.
    pub requests: u64,
    /// Answers that told nothing (`Unknown`, `Unavailable`); each was asked for again.
    pub silent: u64,
    /// Reads that were answered from an earlier state.
    pub late: u64,
}

impl Tally {
    /// Adds what another trace came to.
    pub fn add(&mut self, more: Tally) {
        self.requests += more.requests;
        self.silent += more.silent;
        self.late += more.late;
    }
}

/// The first difference between an engine and the table.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The step of the trace; as many as it has: found when it was over.
    pub at: usize,
    /// Every request with its answer, the difference last.
    pub lines: Vec<String>,
}

/// Plays `trace` on `ground` of `engine`.
///
/// # Errors
/// The first difference.
pub async fn play(
    engine: &Arc<dyn Engine>,
    trace: &Trace,
    ground: &Ground,
    reads: Reads,
) -> Result<Tally, Difference> {
    let mut play = Play {
        engine,
        ground,
        reads,
        clock: Clock::start(),
        parts: Vec::new(),
        tally: Tally::default(),
        lines: Vec::new(),
    };
    let mut at = 0;
    match play.all(trace, &mut at).await {
        Ok(()) => Ok(play.tally),
        Err(what) => {
            play.lines.push(format!("=> {what}"));
            Err(Difference { at, lines: play.lines })
        }
    }
}

struct Play<'a> {
    engine: &'a Arc<dyn Engine>,
    ground: &'a Ground,
    reads: Reads,
    clock: Clock,
    parts: Vec<Part>,
    tally: Tally,
    lines: Vec<String>,
}

/// What is known of one partition.
struct Part {
    table: Table,
    instance: InstanceId,
    followers: Vec<Follower>,
    /// Every state that a room has had: who held it.
    past: BTreeMap<RoomKey, BTreeSet<Option<Key>>>,
    /// Every answer about summaries that was right at some time.
    summaries: Vec<Vec<Summary>>,
}

/// A record's identity, for sets: generation, id, node, epoch, provisional.
type Key = (Generation, PlacementId, String, Epoch, bool);

fn key(record: &Record) -> Key {
    let Record { node, epoch, generation, id, provisional } = record;
    (*generation, *id, node.as_str().to_owned(), *epoch, *provisional)
}

impl Play<'_> {
    async fn all(&mut self, trace: &Trace, at: &mut usize) -> Result<(), String> {
        for part in 0..self.ground.parts() {
            self.begin(part).await?;
        }
        for (n, step) in trace.steps.iter().enumerate() {
            *at = n;
            let part = step.part % self.ground.parts();
            self.step(part, &step.act).await?;
            if self.clock.now().since(Time::ZERO) > TRACE_MAX {
                return Err(format!("the trace took longer than {TRACE_MAX:?}"));
            }
        }
        *at = trace.steps.len();
        let told = self.lines.len();
        for part in 0..self.ground.parts() {
            for follower in 0..FOLLOWERS {
                self.follow(part, follower).await?;
                // What was as it should be in the end is not worth a line.
                self.lines.truncate(told);
            }
            for room in (0..ROOMS).map(|room| RoomKey(room.into())) {
                self.read(part, &Request::Lookup { room }, Reads::Exact).await?;
                self.lines.truncate(told);
            }
            self.read(part, &Request::Summaries, Reads::Exact).await?;
            self.lines.truncate(told);
        }
        Ok(())
    }

    /// Regions have a summary from the traces before: it begins with one that both sides know.
    async fn begin(&mut self, part: usize) -> Result<(), String> {
        let instance = match self.ask(part, &Request::Instance).await? {
            Reply::Instance(instance) => instance,
            other => return Err(format!("an instance is asked for: {}", words::reply(&other))),
        };
        self.parts.push(Part {
            table: Table::new(instance),
            instance,
            followers: vec![Follower::new(); FOLLOWERS],
            past: (0..ROOMS).map(|room| (RoomKey(room.into()), BTreeSet::from([None]))).collect(),
            summaries: Vec::new(),
        });
        for region in 0..REGIONS {
            let summary = Summary { region: region.to_string().into(), nodes: Vec::new() };
            let heartbeat = Request::Heartbeat { summary, ttl: SUMMARY_TTL_MAX };
            self.decide(part, &heartbeat).await?;
        }
        self.read(part, &Request::Summaries, Reads::Exact).await?;
        self.parts[part].remember();
        self.lines.clear();
        Ok(())
    }

    async fn step(&mut self, part: usize, act: &Act) -> Result<(), String> {
        match act {
            Act::Ask(request @ (Request::Lookup { .. } | Request::Summaries)) => {
                self.read(part, request, self.reads).await
            }
            Act::Ask(request) => self.decide(part, request).await,
            Act::Watch(follower) => {
                self.say(part, format!("follower {follower} asks once"));
                self.page(part, *follower).await.map(|_| ())
            }
            Act::Follow(follower) => self.follow(part, *follower).await,
            Act::Fork { from, to } => {
                self.say(part, format!("follower {to} becomes follower {from} as it is now"));
                let copy = self.parts[part].followers[*from].clone();
                self.parts[part].followers[*to] = copy;
                Ok(())
            }
            Act::Restart(follower, place) => {
                self.say(part, format!("follower {follower} goes on from {place:?}"));
                let room = self.ground.room(part, GHOST);
                let part = &mut self.parts[part];
                part.followers[*follower].restart(*place, part.instance, (room, ghost()));
                Ok(())
            }
        }
    }

    /// A request with one right answer.
    async fn decide(&mut self, part: usize, request: &Request) -> Result<(), String> {
        let wanted = self.parts[part].table.apply(Time::ZERO, request);
        self.parts[part].remember();
        let reply = self.ask(part, request).await?;
        self.say(part, format!("{:<70} {}", words::request(request), words::reply(&reply)));
        // The text is for logs, and each engine's own.
        let is_bad = |reply: &Reply| matches!(reply, Reply::Failed(Failure::Bad(_)));
        if reply == wanted || (is_bad(&reply) && is_bad(&wanted)) {
            return Ok(());
        }
        Err(format!("the table says: {}", words::reply(&wanted)))
    }

    /// A lookup or a question for summaries. An exact one that is late is asked again until it is not.
    async fn read(&mut self, part: usize, request: &Request, reads: Reads) -> Result<(), String> {
        let wanted = self.parts[part].table.apply(Time::ZERO, request);
        let deadline = self.clock.now() + ANSWER_DEADLINE;
        loop {
            let reply = match self.ask(part, request).await? {
                Reply::Summaries(all) => {
                    if !all.is_sorted_by(|a, b| a.region < b.region) {
                        return Err("summaries are not in the order of their regions".to_owned());
                    }
                    Reply::Summaries(self.ground.summaries(all))
                }
                other => other,
            };
            let line = format!("{:<70} {}", words::request(request), words::reply(&reply));
            if reply == wanted {
                self.say(part, line);
                return Ok(());
            }
            let was_right = self.reads == Reads::Late && self.parts[part].was(request, &reply);
            if was_right && reads == Reads::Late {
                self.tally.late += 1;
                self.say(part, line + "  (late)");
                return Ok(());
            }
            // Before the first summaries are known, those of traces before may still be told.
            let is_beginning = self.parts[part].summaries.is_empty();
            let may_come = (was_right || is_beginning) && self.reads == Reads::Late;
            if !may_come || self.clock.now() > deadline {
                self.say(part, line);
                let never = if was_right { " (and it did not catch up)" } else { "" };
                return Err(format!("the table says: {}{never}", words::reply(&wanted)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A follower asks until it hears nothing new, and knows then what is held.
    async fn follow(&mut self, part: usize, follower: usize) -> Result<(), String> {
        self.say(part, format!("follower {follower} follows to the end"));
        let deadline = self.clock.now() + ANSWER_DEADLINE;
        loop {
            let mut pages = 0;
            while self.page(part, follower).await? {
                pages += 1;
                if pages > PAGES_MAX {
                    return Err(format!("no end after {PAGES_MAX} pages"));
                }
            }
            let Some(wrong) = self.misbelief(part, follower) else { return Ok(()) };
            if self.reads == Reads::Exact || self.clock.now() > deadline {
                return Err(wrong);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn page(&mut self, part: usize, follower: usize) -> Result<bool, String> {
        let request = self.parts[part].followers[follower].request();
        match self.ask(part, &request).await? {
            Reply::Changes(changes) => {
                let part = &mut self.parts[part];
                part.followers[follower].take(changes, part.instance)
            }
            other => Err(format!("a watch is answered: {}", words::reply(&other))),
        }
    }

    /// What a follower that has come to the end knows wrongly.
    fn misbelief(&mut self, part: usize, follower: usize) -> Option<String> {
        let truth = self.parts[part].truth();
        let part_now = &self.parts[part];
        let knows = &part_now.followers[follower].rooms;
        let of_others = (0..self.ground.parts()).filter(|other| *other != part).find(|other| {
            let rooms = (0..ROOMS).map(|room| RoomKey(room.into()));
            rooms.into_iter().any(|room| self.ground.event(*other, room, knows).is_some())
        });
        if let Some(other) = of_others {
            return Some(format!("partition {part} tells of a room of partition {other}"));
        }
        for room in (0..=ROOMS).map(|room| RoomKey(room.into())) {
            let believed = self.ground.event(part, room, knows);
            let is_right = match (truth.get(&room), believed) {
                (Some(Event::Held { record: held, .. }), Some(Event::Held { record, .. })) => {
                    held == record
                }
                (
                    Some(Event::Ended { generation, .. }),
                    Some(Event::Ended { generation: told, .. }),
                ) => generation == told,
                // An end of which it need not hear, since it never heard of the room.
                (Some(Event::Ended { .. }) | None, None) => true,
                _ => false,
            };
            if !is_right {
                let say = |event: Option<&Event>| event.map_or("nothing".to_owned(), words::event);
                return Some(format!(
                    "follower {follower} of partition {part} knows of room {}: {}; the table: {}",
                    room.0,
                    say(believed),
                    say(truth.get(&room))
                ));
            }
        }
        None
    }

    /// Asks the engine until it tells something.
    async fn ask(&mut self, part: usize, request: &Request) -> Result<Reply, String> {
        let deadline = self.clock.now() + ANSWER_DEADLINE;
        loop {
            self.tally.requests += 1;
            let at = self.ground.partition(part);
            let answer = self.engine.ask(at, self.ground.request(part, request));
            let reply = match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
                Ok(Reply::Failed(Failure::Unknown | Failure::Unavailable)) => {
                    self.tally.silent += 1;
                    None
                }
                Ok(reply) => Some(reply),
                Err(_) => None,
            };
            if let Some(reply) = reply {
                return Ok(reply);
            }
            if self.clock.now() > deadline {
                let state = self.engine.state(at);
                return Err(format!(
                    "no answer to {} for {ANSWER_DEADLINE:?}: {state:?}",
                    words::request(request)
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn say(&mut self, part: usize, line: String) {
        let part =
            if self.ground.parts() > 1 { format!("partition {part}  ") } else { String::new() };
        self.lines.push(part + &line);
    }
}

impl Part {
    /// Keeps the table's present state as one that a late read may be answered from.
    fn remember(&mut self) {
        for (room, past) in &mut self.past {
            if let Reply::Found(now) =
                self.table.apply(Time::ZERO, &Request::Lookup { room: *room })
            {
                past.insert(now.as_ref().map(key));
            }
        }
        if let Reply::Summaries(now) = self.table.apply(Time::ZERO, &Request::Summaries)
            && now.len() == REGIONS
            && self.summaries.last() != Some(&now)
        {
            self.summaries.push(now);
        }
    }

    /// Whether `reply` to `request` was right at some time.
    fn was(&self, request: &Request, reply: &Reply) -> bool {
        match (request, reply) {
            (Request::Lookup { room }, Reply::Found(found)) => {
                self.past[room].contains(&found.as_ref().map(key))
            }
            (_, Reply::Summaries(told)) => self.summaries.contains(told),
            _ => false,
        }
    }

    /// What the table has of each room.
    fn truth(&mut self) -> BTreeMap<RoomKey, Event> {
        let watch = Request::Watch { after: Revision::START };
        let Reply::Changes(Changes { events, .. }) = self.table.apply(Time::ZERO, &watch) else {
            return BTreeMap::new();
        };
        let by_room = events.into_iter().map(|event| {
            let (Event::Held { room, .. } | Event::Ended { room, .. }) = event;
            (room, event)
        });
        by_room.collect()
    }
}

fn ghost() -> Record {
    Record {
        node: "ghost".into(),
        epoch: Epoch(1),
        generation: Generation(1),
        id: PlacementId(1),
        provisional: false,
    }
}

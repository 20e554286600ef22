//! The directory as a table in memory: the embedded engine, the simulator's, and the definition of what every other
//! engine does. Those may be slower, may answer a lookup from an older state, and may answer `Unavailable` or
//! `Unknown`.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use outlast_model::{Generation, RegionName, Time};

use crate::{
    Changes, Event, Failure, InstanceId, Placed, Record, Reply, Request, Revision, RoomKey,
    Summary, key::BuildKeyHasher,
};

/// Most rooms held at a time; a claim of one more is `Bad`. About what an engine bears that keeps history in memory.
pub const ROOMS_MAX: usize = 2_000_000;
/// How long the generation of a room that ended is kept. Lower: a claim that was under way all the time brings an ended
/// room back; higher: more of them are kept for nothing.
pub const TOMBSTONE_KEPT: Duration = Duration::from_secs(600);
/// Most tombstones kept; the oldest are forgotten before their time.
pub const TOMBSTONES_MAX: usize = 200_000;
/// Most regions with a summary that has not run out; that of one more is `Bad`.
pub const SUMMARIES_MAX: usize = 64;
/// Most nodes in a summary.
pub const SUMMARY_NODES_MAX: usize = 1_000;
/// Longest time to live of a summary.
pub const SUMMARY_TTL_MAX: Duration = Duration::from_secs(60);
/// Most events in the answer to a watch.
pub const EVENTS_PER_REPLY_MAX: usize = 1_000;

/// The table. Its whole behaviour is that of [`Table::apply`].
///
/// A room is in one of three states: *held* by a record; *ended*, with the highest generation that it had (a tombstone,
/// forgotten after a while); or *unknown*. Its generation only rises for as long as it is not unknown.
///
/// | request | unknown | ended under `e` | held by `h` |
/// |---|---|---|---|
/// | `Place{want}` | held by `want`: `Won(want)` | `want.generation > e`: as unknown; else `Fenced(e)` | `h.id == want.id`: `Won(h)`; else `Held(h)` |
/// | `Replace{expected, want}` | as `Place` | as `Place` | `h.id == want.id`: `Won(h)`; `h.generation == expected`: held by `want`, `Won(want)`; else `Held(h)` |
/// | `End{generation}` | ended under `generation` | ended under `generation` if it is higher than `e` | ended under `generation` unless it is lower than `h.generation` |
/// | `Lookup` | `Found(None)` | `Found(None)` | `Found(Some(h))` |
#[derive(Clone, Debug)]
pub struct Table {
    instance: InstanceId,
    limits: Limits,
    /// Only ever asked for one room: whatever goes through several follows `order`.
    rooms: HashMap<RoomKey, Slot, BuildKeyHasher>,
    /// How many of them are held.
    held: usize,
    /// Changes of rooms so far.
    revision: u64,
    /// Every room in `rooms`, by its last change.
    order: BTreeMap<u64, RoomKey>,
    /// Those in `order` that are tombstones, each with the time of its end.
    ended: BTreeMap<u64, Time>,
    /// The last change among tombstones that were forgotten.
    forgotten: u64,
    /// Each with the time when it runs out.
    summaries: BTreeMap<RegionName, (Summary, Time)>,
}

#[derive(Clone, Debug)]
struct Slot {
    /// Its last change.
    revision: u64,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Held(Record),
    Ended(Generation),
}

/// The named limits, smaller in tests.
#[derive(Clone, Copy, Debug)]
struct Limits {
    rooms: usize,
    tombstones: usize,
    events: usize,
}

const LIMITS: Limits =
    Limits { rooms: ROOMS_MAX, tombstones: TOMBSTONES_MAX, events: EVENTS_PER_REPLY_MAX };

impl Table {
    /// An empty directory. `instance` is drawn at random for each, so that nobody takes it for the one before.
    pub fn new(instance: InstanceId) -> Table {
        Table::with_limits(instance, LIMITS)
    }

    fn with_limits(instance: InstanceId, limits: Limits) -> Table {
        Table {
            instance,
            limits,
            rooms: HashMap::default(),
            held: 0,
            revision: 0,
            order: BTreeMap::new(),
            ended: BTreeMap::new(),
            forgotten: 0,
            summaries: BTreeMap::new(),
        }
    }

    /// Which content this is.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Rooms that are held.
    pub fn rooms(&self) -> usize {
        self.held
    }

    /// Generations kept of rooms that have ended.
    pub fn tombstones(&self) -> usize {
        self.ended.len()
    }

    /// Applies one request and answers it.
    ///
    /// **Atomicity.** A request takes effect at one moment between its arrival and its answer, or never. Place,
    /// replace, end and instance are linearizable: whoever asks after an answer sees its effect. No request spans two
    /// rooms. The instance must be read the way claims are decided, since it stands for them when a gateway tries
    /// whether the engine is back.
    ///
    /// **Idempotence.** Any request may be applied twice, at once or later. A claim is known by its placement id: while
    /// that placement is held, asking again wins again, with the record as it was first made, and changes nothing; once
    /// it is superseded or ended, asking again is `Held` or `Fenced`, and never brings it back. Ends that are late or
    /// double change nothing.
    ///
    /// **Fencing.** What is held is superseded by a replace that names its generation, and by nothing else; of two that
    /// name the same, one wins. A replace of a room that is not held is a place: this directory has been wiped since,
    /// or the room was placed without it, and there is nothing to compare with.
    ///
    /// **Tombstones.** An end leaves its generation behind also where nothing was held, so that it fences a claim which
    /// it has overtaken on the way. It is kept for [`TOMBSTONE_KEPT`] from the moment it was made or raised, by the
    /// engine's own clock; a claim of a higher generation takes its place at once. Above [`TOMBSTONES_MAX`] the oldest
    /// goes first.
    ///
    /// **Heartbeats.** The last one of a region counts, until its time to live is over (an engine with coarse timers:
    /// up to a second later, never earlier). Nothing else depends on them.
    ///
    /// **Watch.** The answer has the rooms whose last change is later than the revision that was given, each as it is
    /// now, oldest change first, a page at a time; states between may be passed over, and an event may come twice. When
    /// the revision is of another instance, or later than all changes, or an end after it has been forgotten, then
    /// [`Changes::resync`] is set and the answer begins with the first room. A watcher that asks on until there are no
    /// events knows every room that is held, and no other.
    ///
    /// **Lookups** of an engine may be answered from any earlier state of the room.
    ///
    /// **Errors.** `Fenced` as above. `Bad`, without any effect, for a name that is empty or longer than
    /// [`NAME_BYTES_MAX`](crate::NAME_BYTES_MAX), placement id 0, a generation of 0 or 2^64-1, a replace by a generation that is not above the
    /// expected one, more than [`SUMMARY_NODES_MAX`] nodes, a time to live of zero or over [`SUMMARY_TTL_MAX`], and for
    /// one room more than [`ROOMS_MAX`] or one region more than [`SUMMARIES_MAX`]. Never `Unavailable` and never
    /// `Unknown`: those tell of the way to an engine.
    pub fn apply(&mut self, now: Time, request: &Request) -> Reply {
        self.forget(now);
        if let Err(what) = request.check() {
            return bad(&what);
        }
        match request {
            Request::Heartbeat { summary, ttl } => self.heartbeat(now, summary, *ttl),
            Request::Place { room, want } => self.claim(*room, None, want),
            Request::Replace { room, expected, want } => self.claim(*room, Some(*expected), want),
            Request::End { room, generation } => self.end(now, *room, *generation),
            Request::Lookup { room } => Reply::Found(self.record(*room).cloned()),
            Request::Summaries => Reply::Summaries(self.summaries(now)),
            Request::Instance => Reply::Instance(self.instance),
            Request::Watch { after } => Reply::Changes(self.changes(*after)),
        }
    }

    /// Who holds `room`; what a lookup would answer.
    pub fn record(&self, room: RoomKey) -> Option<&Record> {
        match &self.rooms.get(&room)?.state {
            State::Held(record) => Some(record),
            State::Ended(_) => None,
        }
    }

    fn claim(&mut self, room: RoomKey, expected: Option<Generation>, want: &Record) -> Reply {
        match self.rooms.get(&room).map(|slot| &slot.state) {
            Some(State::Held(held)) if held.id == want.id => {
                return Reply::Placed(Placed::Won(held.clone()));
            }
            Some(State::Held(held)) if expected != Some(held.generation) => {
                return Reply::Placed(Placed::Held(held.clone()));
            }
            Some(State::Ended(generation)) if want.generation <= *generation => {
                return Reply::Failed(Failure::Fenced(*generation));
            }
            Some(State::Held(_)) => {}
            Some(State::Ended(_)) | None if self.held < self.limits.rooms => {}
            Some(State::Ended(_)) | None => return bad("one room too many"),
        }
        self.write(room, State::Held(want.clone()));
        Reply::Placed(Placed::Won(want.clone()))
    }

    fn end(&mut self, now: Time, room: RoomKey, generation: Generation) -> Reply {
        let is_news = self.rooms.get(&room).is_none_or(|slot| match &slot.state {
            State::Held(held) => held.generation <= generation,
            State::Ended(highest) => *highest < generation,
        });
        if is_news {
            self.write(room, State::Ended(generation));
            self.ended.insert(self.revision, now);
            self.forget(now);
        }
        Reply::Done
    }

    /// The next change: `room` is in `state` now.
    fn write(&mut self, room: RoomKey, state: State) {
        self.revision += 1;
        self.held += usize::from(matches!(state, State::Held(_)));
        self.order.insert(self.revision, room);
        let slot = Slot { revision: self.revision, state };
        let Some(before) = self.rooms.insert(room, slot) else { return };
        self.order.remove(&before.revision);
        match before.state {
            State::Held(_) => self.held -= 1,
            State::Ended(_) => {
                self.ended.remove(&before.revision);
            }
        }
    }

    fn forget(&mut self, now: Time) {
        while let Some((&revision, &at)) = self.ended.first_key_value()
            && (self.ended.len() > self.limits.tombstones || now.since(at) >= TOMBSTONE_KEPT)
        {
            self.ended.remove(&revision);
            let room = self.order.remove(&revision).expect("a tombstone is in the order");
            self.rooms.remove(&room);
            self.forgotten = revision;
        }
    }

    fn heartbeat(&mut self, now: Time, summary: &Summary, ttl: Duration) -> Reply {
        self.summaries.retain(|_, (_, until)| now < *until);
        if self.summaries.len() >= SUMMARIES_MAX && !self.summaries.contains_key(&summary.region) {
            return bad("one region too many");
        }
        self.summaries.insert(summary.region.clone(), (summary.clone(), now + ttl));
        Reply::Done
    }

    fn summaries(&self, now: Time) -> Vec<Summary> {
        let live = self.summaries.values().filter(|(_, until)| now < *until);
        live.map(|(summary, _)| summary.clone()).collect()
    }

    /// A revision's mark is `forgotten` as it was when the listing began that the watcher is in, or has gone through:
    /// an end that had been forgotten by then was never in it.
    fn changes(&self, after: Revision) -> Changes {
        let resync = after.instance != self.instance
            || after.number > self.revision
            || u128::from(self.forgotten) > after.mark.max(u128::from(after.number));
        let (number, mark) =
            if resync { (0, u128::from(self.forgotten)) } else { (after.number, after.mark) };
        let later = self.order.range((Excluded(number), Unbounded)).take(self.limits.events);
        let mut revision = Revision { instance: self.instance, number, mark };
        let events = later
            .map(|(number, room)| {
                revision.number = *number;
                self.event(*room)
            })
            .collect();
        Changes { events, revision, resync, instance: self.instance }
    }

    fn event(&self, room: RoomKey) -> Event {
        match &self.rooms.get(&room).expect("a room in the order is known").state {
            State::Held(record) => Event::Held { room, record: record.clone() },
            State::Ended(generation) => Event::Ended { room, generation: *generation },
        }
    }
}

fn bad(what: &str) -> Reply {
    Reply::Failed(Failure::Bad(what.to_owned()))
}

#[cfg(test)]
mod tests;

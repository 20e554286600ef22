//! What has changed lately, for those who watch. The log has every change from its start on, so a watcher within it misses
//! nothing; every other one gets a listing of all rooms as of one revision first, and goes on from there.
//!
//! A room's key is deleted by the lease of its tombstone and by nothing else; whoever deletes rooms by hand deletes the
//! instance too, which makes all of it another directory. So a deletion is never news: a watcher within the log is given the
//! end itself, and a listing from after the deletion is one without the room.

use std::collections::VecDeque;

use outlast_directory::{Changes, EVENTS_PER_REPLY_MAX, Event, InstanceId, Revision, RoomKey};

/// Most changes kept. Lower: who has not asked for a while must list all rooms again; higher: memory, some 200 bytes each.
pub(super) const LOG_EVENTS_MAX: usize = 50_000;

/// In a revision's number: the watcher is in a listing as of the rest of the number, and has come to the room that is the
/// mark. etcd's revisions are positive 64-bit integers with a sign.
const LISTING: u64 = 1 << 63;

/// The log.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// The content it is of; `None` while nothing is followed.
    instance: Option<InstanceId>,
    /// It has all changes after this one,
    start: u64,
    /// up to this one.
    complete: u64,
    /// The highest revision that this directory is known to have had.
    seen: u64,
    /// The last change that was made through this engine.
    own: u64,
    /// Each with its revision, oldest first.
    events: VecDeque<(u64, Event)>,
    limit: usize,
}

/// How a watch is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing is followed yet.
    NotYet,
    /// From memory.
    Changes(Changes),
    /// By the next page of a listing.
    List {
        /// Of which content.
        instance: InstanceId,
        /// As of which revision, and after which room; `None` for a new one, as of now.
        from: Option<(u64, RoomKey)>,
    },
}

impl Log {
    pub(super) fn new(limit: usize) -> Log {
        Log {
            instance: None,
            start: 0,
            complete: 0,
            seen: 0,
            own: 0,
            events: VecDeque::new(),
            limit,
        }
    }

    pub(super) fn instance(&self) -> Option<InstanceId> {
        self.instance
    }

    /// Whether `instance` is what it is of, and is ahead of `revision`.
    pub(super) fn is_ahead(&self, instance: InstanceId, revision: u64) -> bool {
        self.instance == Some(instance) && self.complete > revision
    }

    /// Everything is complete that a watch must have to tell of what this engine has changed.
    pub(super) fn has_own(&self) -> bool {
        self.instance.is_some() && self.complete >= self.own
    }

    /// What this engine has changed does not come; it is waited for no longer.
    pub(super) fn forget_own(&mut self) {
        self.own = 0;
    }

    /// `instance` is followed, and stood at `revision` just now. Returns after which revision changes are wanted.
    pub(super) fn begin(&mut self, instance: InstanceId, revision: u64) -> u64 {
        if self.instance != Some(instance) {
            *self = Log {
                instance: Some(instance),
                start: revision,
                complete: revision,
                seen: revision,
                ..Log::new(self.limit)
            };
        }
        self.complete
    }

    /// Nothing of it counts any more: changes were missed, or the content is another.
    pub(super) fn void(&mut self) {
        *self = Log::new(self.limit);
    }

    /// Adds all changes up to `complete` that are not in it yet.
    pub(super) fn append(&mut self, events: Vec<(u64, Event)>, complete: u64) {
        self.events.extend(events);
        self.complete = self.complete.max(complete);
        self.seen = self.seen.max(complete);
        while self.events.len() > self.limit
            && let Some((revision, _)) = self.events.pop_front()
        {
            self.start = revision;
        }
    }

    /// A member has answered as of `revision`.
    pub(super) fn saw(&mut self, revision: u64) {
        self.seen = self.seen.max(revision);
    }

    /// This engine has changed a room at `revision`.
    pub(super) fn made(&mut self, revision: u64) {
        self.own = self.own.max(revision);
        self.saw(revision);
    }

    /// Whether a listing of `instance` as of `revision` can be gone on from.
    pub(super) fn reaches(&self, instance: InstanceId, revision: u64) -> bool {
        self.instance == Some(instance) && self.start <= revision
    }

    /// The oldest revision that a new listing may be of.
    pub(super) fn floor(&self) -> u64 {
        self.start.max(self.own)
    }

    /// What to answer a watcher that has come to `after`.
    pub(super) fn after(&self, after: Revision) -> Next {
        let Some(instance) = self.instance else { return Next::NotYet };
        let number = after.number & !LISTING;
        let is_listing = after.number & LISTING != 0;
        // So many changes of the revision `number` itself have been seen, 0 for all of them.
        let part = if is_listing { 0 } else { after.mark };
        let is_lost = after.instance != instance
            || number > self.complete.max(self.seen)
            || number < self.start
            || (number == self.start && part != 0);
        if is_lost {
            return Next::List { instance, from: None };
        }
        if is_listing {
            return Next::List { instance, from: Some((number, RoomKey(after.mark))) };
        }
        let first = if part == 0 {
            self.events.partition_point(|(revision, _)| *revision <= number)
        } else {
            let of_number = self.events.partition_point(|(revision, _)| *revision < number);
            of_number.saturating_add(usize::try_from(part).unwrap_or(usize::MAX))
        };
        let events: Vec<_> = self.events.iter().skip(first).take(EVENTS_PER_REPLY_MAX).collect();
        let revision = self.position(instance, number, first + events.len());
        let events = events.into_iter().map(|(_, event)| event.clone()).collect();
        Next::Changes(Changes { events, revision, resync: false, instance })
    }

    /// Where a watcher is that came from `number` and has seen the first `count` changes of the log. One revision may have
    /// several.
    fn position(&self, instance: InstanceId, number: u64, count: usize) -> Revision {
        let Some((next, _)) = self.events.get(count) else {
            return Revision { instance, number: number.max(self.complete), mark: 0 };
        };
        let last = count.checked_sub(1).and_then(|last| self.events.get(last));
        let number = last.map_or(number, |(last, _)| *last);
        let of_number = self.events.partition_point(|(revision, _)| *revision < number);
        let seen = count.saturating_sub(of_number);
        let mark = if *next == number { u128::try_from(seen).unwrap_or(0) } else { 0 };
        Revision { instance, number, mark }
    }

    /// Where a watcher is after a page of a listing as of `revision`; `room` is the last that was on it, `None` when there
    /// are no more.
    pub(super) fn listed(instance: InstanceId, revision: u64, room: Option<RoomKey>) -> Revision {
        match room {
            Some(room) => Revision { instance, number: revision | LISTING, mark: room.0 },
            None => Revision { instance, number: revision, mark: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use outlast_model::Generation;

    use super::*;

    const ONE: InstanceId = InstanceId(1);

    fn ended(n: u64) -> Event {
        Event::Ended { room: RoomKey(n.into()), generation: Generation(n + 1) }
    }

    fn at(number: u64) -> Revision {
        Revision { instance: ONE, number, mark: 0 }
    }

    fn changes(log: &Log, after: Revision) -> (Vec<Event>, Revision) {
        match log.after(after) {
            Next::Changes(changes) => (changes.events, changes.revision),
            other => panic!("{after:?} is answered by {other:?}"),
        }
    }

    const ANEW: Next = Next::List { instance: ONE, from: None };

    #[test]
    fn a_watcher_within_the_log_is_told_what_comes_after_it() {
        let mut log = Log::new(100);
        assert_eq!(log.after(Revision::START), Next::NotYet);
        assert_eq!(log.begin(ONE, 10), 10);
        assert_eq!(log.after(at(9)), ANEW);
        assert_eq!(changes(&log, at(10)), (vec![], at(10)));
        log.append(vec![(12, ended(1)), (14, ended(2))], 14);
        assert_eq!(changes(&log, at(10)), (vec![ended(1), ended(2)], at(14)));
        assert_eq!(changes(&log, at(12)), (vec![ended(2)], at(14)));
        assert_eq!(log.after(at(15)), ANEW, "later than all changes");
        assert_eq!(log.after(Revision { instance: InstanceId(2), ..at(12) }), ANEW);
        log.saw(20);
        log.append(vec![(18, ended(3))], 18);
        assert_eq!(changes(&log, at(20)), (vec![], at(20)), "listed as of later");
        assert_eq!(log.begin(ONE, 30), 18, "it goes on where it was");
        assert_eq!(log.begin(InstanceId(2), 5), 5);
        assert_eq!(log.after(at(5)), Next::List { instance: InstanceId(2), from: None });
    }

    #[test]
    fn what_is_dropped_is_asked_for_in_vain() {
        let mut log = Log::new(3);
        log.begin(ONE, 1);
        log.append((2..7).map(|n| (n, ended(n))).collect(), 6);
        assert_eq!(log.after(at(2)), ANEW);
        assert_eq!(changes(&log, at(3)).0, [4, 5, 6].map(ended));
        assert!(log.reaches(ONE, 3) && !log.reaches(ONE, 2) && !log.reaches(InstanceId(2), 3));
    }

    #[test]
    fn a_revision_of_many_changes_comes_in_pages() {
        let count = 2 * EVENTS_PER_REPLY_MAX as u64 + 7;
        let mut log = Log::new(usize::MAX);
        log.begin(ONE, 1);
        log.append(vec![(2, ended(0))], 2);
        log.append((1..=count).map(|n| (3, ended(n))).collect(), 3);
        log.append(vec![(4, ended(count + 1))], 9);
        let (mut position, mut told) = (at(1), Vec::new());
        loop {
            let (events, next) = changes(&log, position);
            if events.is_empty() {
                break;
            }
            assert!(events.len() <= EVENTS_PER_REPLY_MAX);
            told.extend(events);
            position = next;
        }
        assert_eq!(told, (0..count + 2).map(ended).collect::<Vec<_>>());
        assert_eq!(position, at(9));
    }

    #[test]
    fn a_listing_goes_on_by_room_and_then_by_revision() {
        let mut log = Log::new(3);
        log.begin(ONE, 5);
        let page = Log::listed(ONE, 5, Some(RoomKey(u128::MAX)));
        let from = Some((5, RoomKey(u128::MAX)));
        assert_eq!(log.after(page), Next::List { instance: ONE, from });
        assert_eq!(changes(&log, Log::listed(ONE, 5, None)), (vec![], at(5)));
        log.append((6..10).map(|n| (n, ended(n))).collect(), 9);
        assert_eq!(log.after(page), ANEW, "what changed meanwhile is no longer known");
    }
}

//! One partition of the directory as this gateway uses it: who asks it, how far its changes are known, what it is to be told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use outlast_control::Home;
use outlast_directory::{Caller, Partition, Revision, RoomKey};
use outlast_model::{RoomName, Time};

use super::announce::ANNOUNCING_MAX;
use crate::PartFacts;

/// A record of a room that nobody has named here, or that is kept in another partition.
#[derive(Clone, Debug)]
pub(super) struct Stray {
    pub(super) held: Home,
    /// Since when that is known.
    pub(super) since: Time,
    /// The room is kept in another partition: it was here while that one was away.
    pub(super) misplaced: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) caller: Caller,
    pub(super) strays: BTreeMap<RoomKey, Stray>,
    pub(super) revision: Revision,
    pub(super) watching: bool,
    pub(super) watch_at: Time,
    queue: VecDeque<RoomName>,
    queued: BTreeSet<RoomName>,
    pub(super) announcing: usize,
    pub(super) was_away: bool,
    /// When its changes were last heard of.
    pub(super) seen_at: Time,
    /// Requests that were not sent, by why.
    pub(super) shed: [u64; 2],
}

impl Part {
    pub(super) fn new(at: Partition, seed: u64, now: Time) -> Part {
        Part {
            caller: Caller::new(at, seed),
            strays: BTreeMap::new(),
            revision: Revision::START,
            watching: false,
            watch_at: now,
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            announcing: 0,
            was_away: false,
            seen_at: now,
            shed: [0; 2],
        }
    }

    pub(super) fn facts(&self, now: Time) -> PartFacts {
        PartFacts { away: self.is_away(), view_age: now.since(self.seen_at), shed: self.shed }
    }

    pub(super) fn is_away(&self) -> bool {
        self.caller.is_open()
    }

    /// The partition may not know what is true of `room`. Returns whether that is news.
    pub(super) fn note(&mut self, room: &RoomName) -> bool {
        let news = self.queued.insert(room.clone());
        if news {
            self.queue.push_back(room.clone());
        }
        news
    }

    /// Whether `room` waits to be looked at.
    pub(super) fn is_noted(&self, room: &RoomName) -> bool {
        self.queued.contains(room)
    }

    /// The next room to be looked at.
    pub(super) fn next(&mut self) -> Option<RoomName> {
        let room = self.queue.pop_front()?;
        self.queued.remove(&room);
        Some(room)
    }

    /// When the next announcements are due; `announce_at` for all partitions.
    pub(super) fn announces_at(&self, announce_at: Time) -> Option<Time> {
        (!self.queue.is_empty() && !self.is_away() && self.announcing < ANNOUNCING_MAX)
            .then_some(announce_at)
    }

    pub(super) fn wake_at(&self, announce_at: Time) -> Option<Time> {
        let watch = (!self.watching && !self.is_away()).then_some(self.watch_at);
        Time::first([self.caller.wake_at(), self.announces_at(announce_at), watch])
    }

    /// Whether nothing is to be done before [`Part::wake_at`].
    pub(super) fn is_quiet(&self, now: Time, announce_at: Time) -> bool {
        let back = self.was_away != self.is_away();
        let watches = !self.watching && self.watch_at <= now;
        let announces = !self.queue.is_empty() && !self.is_away() && announce_at <= now;
        !(back || watches || announces)
    }
}

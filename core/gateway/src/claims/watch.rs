//! What others tell the directory, followed by its changes: whoever finds a record that is wrong can set it right.

use std::time::Duration;

use outlast_control::Home;
use outlast_directory::{Changes, Event, Partition, Request, Revision, RoomKey};
use outlast_model::Time;

use super::{Known, Purpose, Stray, home_of};
use crate::Role;

/// Span between two looks at what has changed. Shorter: an engine is busy with gateways that ask; longer: a wrong record stays.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// After how long a record is ended whose node lives and does not have the room.
const STRAY_KEPT: Duration = Duration::from_secs(30);
/// Most records kept of rooms that nobody has named here, in each partition; of further ones nothing is done.
const STRAYS_MAX: usize = 50_000;

impl Role {
    /// Asks what has changed, where it is time.
    pub(super) fn watch(&mut self, now: Time) {
        for at in (0..self.claims.layout.partitions()).map(Partition) {
            let part = self.claims.part(at);
            if part.watching || part.watch_at > now {
                continue;
            }
            let request = Request::Watch { after: part.revision };
            let watching = self.claims.send(now, at, request, Purpose::Watch);
            let watch_at = now + WATCH_INTERVAL + self.jitter.within(WATCH_INTERVAL / 4);
            let part = self.claims.part_mut(at);
            (part.watching, part.watch_at) = (watching, watch_at);
        }
    }

    /// Nothing came of the last question: the next waits a while, also when it is due because this process stood still.
    pub(super) fn unwatched(&mut self, now: Time, at: Partition) {
        let part = self.claims.part_mut(at);
        part.watch_at = part.watch_at.max(now + WATCH_INTERVAL / 4);
    }

    /// Looks whether a partition that was away is back: it is told everything again, and watched from the start.
    pub(super) fn look_at_return(&mut self, now: Time, at: Partition) {
        let part = self.claims.part_mut(at);
        let away = part.is_away();
        if std::mem::replace(&mut part.was_away, away) == away || away {
            return;
        }
        // A replica may have taken over that lacks what was written last: its changes are counted as before.
        part.revision = Revision::START;
        self.note_all(Some(at));
        self.misplace(now, at);
    }

    /// What other partitions have of rooms that are kept in `at` again is to be ended there.
    fn misplace(&mut self, now: Time, at: Partition) {
        let Some(keyer) = self.claims.keyer.filter(|_| self.claims.parts.len() > 1) else { return };
        let elsewhere = |room: &_, (kept_at, _): &mut (Partition, Known)| {
            *kept_at != at && self.claims.layout.order(keyer.key(room)).first() == Some(&at)
        };
        let moved: Vec<_> = self.claims.known.extract_if(.., elsewhere).collect();
        for (room, (kept_at, known)) in moved {
            if let Known::Held(held) = known {
                let stray = Stray { held, since: now, misplaced: true };
                self.claims.part_mut(kept_at).strays.insert(keyer.key(&room), stray);
            }
        }
    }

    /// Takes what has changed, and asks for more if there may be some.
    pub(super) fn changed(&mut self, now: Time, at: Partition, changes: Changes) {
        let part = self.claims.part_mut(at);
        (part.revision, part.seen_at) = (changes.revision, now);
        if !changes.events.is_empty() {
            part.watch_at = now;
        }
        if changes.resync {
            part.strays.clear();
            self.claims.known.retain(|_, (kept_at, _)| *kept_at != at);
            self.note_all(Some(at));
        }
        for event in changes.events {
            match event {
                Event::Held { room, record } => self.record_seen(now, at, room, home_of(&record)),
                Event::Ended { room, generation } => {
                    self.claims.part_mut(at).strays.remove(&room);
                    if let Some(name) = self.claims.names.get(&room).cloned()
                        && self.claims.kept_at(room) == at
                    {
                        self.claims.known.insert(name.clone(), (at, Known::Ended(generation)));
                        self.claims.note(&name);
                    }
                }
            }
        }
    }

    fn record_seen(&mut self, now: Time, at: Partition, room: RoomKey, held: Home) {
        let misplaced = self.claims.kept_at(room) != at;
        if let Some(name) = self.claims.names.get(&room).filter(|_| !misplaced).cloned() {
            self.claims.known.insert(name.clone(), (at, Known::Held(held)));
            return self.claims.note(&name);
        }
        let strays = &mut self.claims.part_mut(at).strays;
        if strays.len() < STRAYS_MAX {
            strays.insert(room, Stray { held, since: now, misplaced });
        }
    }

    /// Ends records of rooms that nobody has, or that are kept elsewhere.
    pub(super) fn end_strays(&mut self, now: Time) {
        for at in (0..self.claims.layout.partitions()).map(Partition) {
            let due = |(room, stray): (&RoomKey, &Stray)| {
                let gone = if stray.misplaced {
                    self.claims.kept_at(*room) != at
                } else {
                    self.would_know(now, &stray.held.node)
                };
                let over = now.since(stray.since) >= STRAY_KEPT && gone;
                over.then_some((*room, stray.held.generation))
            };
            let strays: Vec<_> =
                self.claims.part(at).strays.iter().filter_map(due).take(64).collect();
            for (room, generation) in strays {
                if self.claims.send(now, at, Request::End { room, generation }, Purpose::Heartbeat)
                {
                    self.claims.part_mut(at).strays.remove(&room);
                }
            }
        }
    }
}

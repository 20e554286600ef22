//! What others tell the directory, followed by its changes: whoever finds a record that is wrong can set it right.

use std::time::Duration;

use outlast_directory::{Changes, Event, Request, RoomKey};
use outlast_model::Time;

use super::{Known, Purpose, home_of};
use crate::Role;

/// Span between two looks at what has changed. Shorter: an engine is busy with gateways that ask; longer: a wrong record stays.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// After how long a record is ended whose node lives and does not have the room.
const STRAY_KEPT: Duration = Duration::from_secs(30);
/// Most records kept of rooms that nobody has named here; of further ones nothing is done.
const STRAYS_MAX: usize = 50_000;

impl Role {
    /// Asks what has changed, when it is time.
    pub(super) fn watch(&mut self, now: Time) {
        if self.claims.watching || self.claims.watch_at > now {
            return;
        }
        let request = Request::Watch { after: self.claims.revision };
        self.claims.watching = self.claims.send(now, request, Purpose::Watch);
        self.claims.watch_at = now + WATCH_INTERVAL + self.jitter.within(WATCH_INTERVAL / 4);
    }

    /// Takes what has changed, and asks for more if there may be some.
    pub(super) fn changed(&mut self, now: Time, changes: Changes) {
        self.claims.revision = changes.revision;
        if changes.resync {
            self.claims.known.clear();
            self.claims.strays.clear();
            self.note_all();
        }
        if !changes.events.is_empty() {
            self.claims.watch_at = now;
        }
        for event in changes.events {
            match event {
                Event::Held { room, record } => {
                    let held = home_of(&record);
                    if let Some(name) = self.claims.names.get(&room).cloned() {
                        self.claims.known.insert(name.clone(), Known::Held(held));
                        self.claims.note(&name);
                    } else if self.claims.strays.len() < STRAYS_MAX {
                        self.claims.strays.insert(room, (held, now));
                    }
                }
                Event::Ended { room, generation } => {
                    self.claims.strays.remove(&room);
                    if let Some(name) = self.claims.names.get(&room).cloned() {
                        self.claims.known.insert(name.clone(), Known::Ended(generation));
                        self.claims.note(&name);
                    }
                }
            }
        }
    }

    /// Ends records of rooms that nobody has.
    pub(super) fn end_strays(&mut self, now: Time) {
        let due = |(key, (home, since)): (&RoomKey, &(outlast_control::Home, Time))| {
            let over = now.since(*since) >= STRAY_KEPT && self.would_know(now, &home.node);
            over.then_some((*key, home.generation))
        };
        let strays: Vec<_> = self.claims.strays.iter().filter_map(due).take(64).collect();
        for (room, generation) in strays {
            if self.claims.send(now, Request::End { room, generation }, Purpose::Heartbeat) {
                self.claims.strays.remove(&room);
            }
        }
    }
}

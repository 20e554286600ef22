//! What the directory is told so that it is right: which rooms live where, which have ended, and how a region's nodes are.

use std::time::Duration;

use outlast_control::{Health, Home};
use outlast_directory::{NodeSummary, Partition, Request, Summary};
use outlast_model::{Generation, Jitter, RoomName, Time};

use super::Purpose;
use crate::Role;

/// Most announcements of a batch: with the interval, 1,000 a second. More: a directory that has just come back goes away again.
const ANNOUNCE_BATCH: usize = 50;
/// Most rooms looked at for a batch: of most of them the directory knows what is right, or another gateway tells it.
const ANNOUNCE_LOOKS: usize = 2_000;
/// Most announcements in flight; the rest of the calls is for joins.
pub(super) const ANNOUNCING_MAX: usize = 64;
/// How long a gateway waits for another one to announce what is that one's to announce.
const OVERDUE_AFTER: Duration = Duration::from_secs(4);
/// Between two looks at a room whose home may have lost it.
const UNPROVEN_INTERVAL: Duration = Duration::from_secs(1);
/// How long a summary lasts.
const HEARTBEAT_TTL: Duration = Duration::from_secs(5);

/// What is to be told of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    /// Nothing, or it is not this gateway's to tell.
    Nothing,
    /// The directory has been asked.
    Asked,
    /// It cannot be asked now.
    Waits,
}

impl Role {
    /// Every room, or those kept in one partition, is looked at again, paced.
    pub(super) fn note_all(&mut self, only: Option<Partition>) {
        let only = only.filter(|_| self.claims.parts.len() > 1);
        let rooms = self.view.room_names().chain(self.claims.known.keys());
        let rooms: Vec<_> = rooms
            .filter(|room| only.is_none_or(|at| self.claims.at(room) == Some(at)))
            .cloned()
            .collect();
        for room in rooms {
            self.claims.note(&room);
        }
    }

    /// A batch for each partition that is there.
    pub(super) fn announce_batches(&mut self, now: Time) {
        for at in (0..self.claims.layout.partitions()).map(Partition) {
            if !self.claims.part(at).is_away() {
                self.announce_batch(now, at);
            }
        }
    }

    fn announce_batch(&mut self, now: Time, at: Partition) {
        let mut asked = 0;
        for _ in 0..ANNOUNCE_LOOKS {
            if asked >= ANNOUNCE_BATCH || self.claims.part(at).announcing >= ANNOUNCING_MAX {
                return;
            }
            let Some(room) = self.claims.part_mut(at).next() else { return };
            match self.announce(now, &room) {
                Announced::Nothing => {}
                Announced::Asked => asked += 1,
                Announced::Waits => return self.claims.note(&room),
            }
        }
    }

    /// Tells the directory what is true of `room`, if it does not know and it is this gateway's to tell.
    fn announce(&mut self, now: Time, room: &RoomName) -> Announced {
        if self.claims.is_pending(room) || self.view.planned(room).is_some() {
            return Announced::Nothing;
        }
        let Some(home) = self.view.home(room) else { return self.announce_end(now, room) };
        let node = self.view.node(&home.node);
        // A dead node's rooms are claimed by whoever moves them.
        let lives = node.is_some_and(|node| node.health != Health::Down);
        if !lives {
            return Announced::Nothing;
        }
        let home = home.clone();
        if self.claims.known(room).is_some_and(|known| known.is_right(&home)) {
            self.claims.wrong_since.remove(room);
            return Announced::Nothing;
        }
        // It may have lost the room while nothing was heard of it; others may know.
        if self.is_unproven(now, room, &home.node) {
            self.claims.recheck.insert((now + UNPROVEN_INTERVAL, room.clone()));
            return Announced::Nothing;
        }
        if !self.is_mine(now, room, &home) && !self.is_overdue(now, room) {
            return Announced::Nothing;
        }
        let (home, known) = (&home, self.claims.known(room));
        // A higher generation at the same node harms nobody, and nothing else takes the place of another's.
        let above = known.map_or(Generation(0), |known| known.above(home));
        let want = Home { node: home.node.clone(), generation: home.generation.max(above) };
        let Some((at, request)) = self.claim_request(room, &want, true) else {
            return Announced::Nothing;
        };
        self.send_announcement(now, at, request, Purpose::Announce(room.clone()))
    }

    /// Whether the gateway that is to announce `room` has not for so long that any other may: it may be cut off from the
    /// directory itself.
    fn is_overdue(&mut self, now: Time, room: &RoomName) -> bool {
        let since = *self.claims.wrong_since.entry(room.clone()).or_insert(now);
        let over = now.since(since) >= OVERDUE_AFTER;
        if !over {
            let at = since + OVERDUE_AFTER + self.jitter.within(OVERDUE_AFTER / 4);
            self.claims.recheck.insert((at, room.clone()));
        }
        over
    }

    fn announce_end(&mut self, now: Time, room: &RoomName) -> Announced {
        let (Some(held), Some(keyer)) = (self.claims.held(room), &self.claims.keyer) else {
            self.claims.forget(room);
            return Announced::Nothing;
        };
        if !self.would_know(now, &held.node) {
            return Announced::Nothing;
        }
        // Others may have moved it since.
        let last = Generation(self.view.next_generation(room).0.saturating_sub(1));
        let generation = held.generation.max(last);
        let key = keyer.key(room);
        let request = Request::End { room: key, generation };
        let at = self.claims.kept_at(key);
        self.send_announcement(now, at, request, Purpose::End(room.clone()))
    }

    fn send_announcement(
        &mut self,
        now: Time,
        at: Partition,
        request: Request,
        purpose: Purpose,
    ) -> Announced {
        if !self.claims.send(now, at, request, purpose) {
            return Announced::Waits;
        }
        self.claims.part_mut(at).announcing += 1;
        Announced::Asked
    }

    /// Of the gateways that are heard, one tells the directory of a room: one in the room's region if there is one.
    fn is_mine(&self, now: Time, room: &RoomName, home: &Home) -> bool {
        let Some(region) = self.view.node(&home.node).map(|node| &node.facts.region) else {
            return false;
        };
        let mut candidates: Vec<_> = self.outlooks.fresh_in(now, Some(region)).collect();
        if self.region == *region {
            candidates.push(&self.id);
        }
        if candidates.is_empty() {
            candidates.extend(self.outlooks.fresh_in(now, None));
            candidates.push(&self.id);
        }
        let score = |gateway: &str| {
            let bytes = room.as_str().bytes().chain([0xff]).chain(gateway.bytes());
            let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            Jitter::new(hash).bits()
        };
        candidates.into_iter().max_by_key(|gateway| score(gateway.as_str())) == Some(&self.id)
    }

    /// Once a second, by one gateway of a region, what its nodes are like.
    pub(super) fn heartbeat(&mut self, now: Time) {
        let mut others = self.outlooks.fresh_in(now, Some(&self.region));
        if others.any(|other| *other < self.id) {
            return;
        }
        let nodes = self.view.nodes().filter(|node| node.facts.region == self.region);
        let nodes = nodes.filter(|node| node.health != Health::Down).map(|node| NodeSummary {
            node: node.facts.id.clone(),
            epoch: self.nodes[&node.facts.id].watch.epoch().unwrap_or_default(),
            draining: node.draining,
            load_permille: node.load_permille,
            rooms: u32::try_from(node.rooms()).unwrap_or(u32::MAX),
        });
        let summary = Summary { region: self.region.clone(), nodes: nodes.collect() };
        let at = self.claims.layout.summary(&self.region);
        let request = Request::Heartbeat { summary, ttl: HEARTBEAT_TTL };
        self.claims.send(now, at, request, Purpose::Heartbeat);
    }
}

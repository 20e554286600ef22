//! What this gateway knew before it was started anew, from a file: where to look for a room until its node has named it. The
//! least of all that is known: whatever a node, a gateway or the directory says counts instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::Duration,
};

use outlast_control::{ENDED_KEPT, Home, Placement};
use outlast_model::{Epoch, NodeId, RoomName, Time};
use outlast_wire::{RoomFrame, Snapshot, SnapshotNode, SnapshotWriter};

use crate::Role;

/// How long a hint is kept. Every node that lives has named its rooms by then.
pub const HINTS_KEPT: Duration = Duration::from_secs(120);
/// From this age on a snapshot is of no use: nodes have forgotten which rooms ended since, and would open them again.
pub const SNAPSHOT_AGE_MAX: Duration = ENDED_KEPT.saturating_sub(HINTS_KEPT);
/// Most rooms taken from a snapshot; further ones wait for their nodes.
pub const HINTS_MAX: usize = 1_000_000;

/// Hints, by room and by node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    rooms: BTreeMap<RoomName, Home>,
    /// Of which start each node was that has not named all its rooms yet, and those of them that nobody has named.
    nodes: BTreeMap<NodeId, (Epoch, BTreeSet<RoomName>)>,
    until: Time,
}

impl Hints {
    /// Rooms of which no more is known than this.
    pub(crate) fn len(&self) -> usize {
        self.nodes.values().map(|(_, rooms)| rooms.len()).sum()
    }

    /// When they are forgotten.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        (!self.nodes.is_empty() || !self.rooms.is_empty()).then_some(self.until)
    }

    /// `room` is not where it was.
    pub(crate) fn forget(&mut self, room: &RoomName) {
        self.named(room);
        self.rooms.remove(room);
    }

    /// A node has `room`: more is known of it than the hint, whatever becomes of it there.
    pub(crate) fn named(&mut self, room: &RoomName) {
        let Some(home) = self.rooms.get(room) else { return };
        if let Some((_, rooms)) = self.nodes.get_mut(&home.node) {
            rooms.remove(room);
        }
    }

    fn insert(&mut self, room: RoomName, home: Home) {
        // Two nodes had it: the later one counts.
        if self.rooms.get(&room).is_some_and(|other| other.generation >= home.generation) {
            return;
        }
        self.forget(&room);
        if self.rooms.len() < HINTS_MAX
            && let Some((_, rooms)) = self.nodes.get_mut(&home.node)
        {
            rooms.insert(room.clone());
            self.rooms.insert(room, home);
        }
    }
}

/// How far a snapshot has come: see [`Role::remember`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// This node's rooms up to this one, and all of the nodes before it; all of it without a room.
    Rooms(NodeId, Option<RoomName>),
    /// All rooms that live, and those that have ended up to this one.
    Ended(Option<RoomName>),
}

impl Role {
    /// Takes over what the last start of this gateway has written `age` ago. To be called before anything is heard. Returns how
    /// many rooms are looked for where they were; none when the snapshot is older than [`SNAPSHOT_AGE_MAX`].
    pub fn restore(&mut self, now: Time, snapshot: Snapshot, age: Duration) -> usize {
        if age >= SNAPSHOT_AGE_MAX {
            return 0;
        }
        self.hints.until = now + HINTS_KEPT;
        for node in snapshot.nodes {
            if self.nodes.contains_key(&node.id) {
                self.restore_node(now, node);
            }
        }
        for (room, generation) in snapshot.ended {
            self.view.fence(now, &room, generation);
        }
        self.wake_at = self.next_wake();
        self.hints.len()
    }

    fn restore_node(&mut self, now: Time, SnapshotNode { id, epoch, frames }: SnapshotNode) {
        self.hints.nodes.entry(id.clone()).or_insert_with(|| (epoch, BTreeSet::new()));
        for frame in frames {
            match frame {
                RoomFrame::Hosted { room, generation, settings } => {
                    let home = Home { node: id.clone(), generation };
                    self.view.set_settings(now, &room, &home, settings.map(Arc::new));
                    self.hints.insert(room, home);
                }
                RoomFrame::Ruled { room, generation, identity, ruling } => {
                    let home = Home { node: id.clone(), generation };
                    self.view.rule(now, &room, &home, (&identity, ruling));
                }
                RoomFrame::Started { .. } | RoomFrame::Closed { .. } | RoomFrame::Synced => {}
            }
        }
    }

    /// Where `room` was, if nobody has said anything of it since, and the node lives, is the same process as then, and has not
    /// named all its rooms yet.
    pub(crate) fn hinted(&self, room: &RoomName) -> Option<Placement> {
        let Home { node, generation } = self.hints.rooms.get(room)?;
        let (epoch, _) = self.hints.nodes.get(node)?;
        let state = self.nodes.get(node)?;
        let view = self.view.node(node)?;
        let fits = view.keeps_rooms()
            && state.start == Some(*epoch)
            && self.view.home_and_plan(room) == (None, None)
            && !self.claims.is_pending(room)
            && self.view.next_generation(room) <= *generation
            && self.claims.stray(room).is_none_or(|held| held.generation <= *generation);
        fits.then(|| Placement { node: node.clone(), generation: *generation, home: true })
    }

    /// Whether nobody has to be waited for to know where `room` is: it was known before, and where it is now is no older.
    pub(crate) fn is_known(&self, room: &RoomName) -> bool {
        let Some(hint) = self.hints.rooms.get(room) else { return false };
        let home = self.view.home(room);
        let newer = home.is_some_and(|home| home.generation >= hint.generation);
        newer && self.living_home(room).is_some() || self.hinted(room).is_some()
    }

    /// `node` has named all its rooms: it has those and no others. What was said of the others is over, unless somebody has
    /// named them: how long it is kept is then for what became of them there.
    pub(crate) fn hints_synced(&mut self, node: &NodeId) {
        let Some((epoch, rooms)) = self.hints.nodes.remove(node) else { return };
        let same = self.nodes.get(node).and_then(|state| state.start) == Some(epoch);
        for room in rooms {
            let Some(hint) = self.hints.rooms.remove(&room) else { continue };
            // It was over when this gateway was not there; a node that has begun anew has lost it, and its people come back, as
            // they do to a room that has had another home since.
            if same && self.view.next_generation(&room) <= hint.generation.next() {
                self.view.forget_kept(&room);
            }
        }
    }

    pub(crate) fn expire_hints(&mut self, now: Time) {
        if self.hints.wake_at().is_some_and(|until| until <= now) {
            self.hints = Hints::default();
        }
    }

    /// Writes what is known of the next `count` rooms or so, and returns how far that goes; `None` when that was all.
    pub fn remember(
        &self,
        from: Option<Remembered>,
        count: usize,
        into: &mut SnapshotWriter,
    ) -> Option<Remembered> {
        match from {
            None => {
                let first = self.nodes.keys().next();
                self.remember_rooms(first?, None, count, into)
            }
            Some(Remembered::Rooms(node, Some(room))) => {
                self.remember_rooms(&node, Some(&room), count, into)
            }
            Some(Remembered::Rooms(node, None)) => {
                let mut after = self.nodes.range((Excluded(node), Unbounded));
                match after.next() {
                    Some((next, _)) => self.remember_rooms(next, None, count, into),
                    None => Some(Remembered::Ended(None)),
                }
            }
            Some(Remembered::Ended(after)) => {
                let mut last = None;
                for (room, generation) in self.view.ended(after.as_ref()).take(count) {
                    into.ended(room, generation);
                    last = Some(room);
                }
                last.map(|room| Remembered::Ended(Some(room.clone())))
            }
        }
    }

    fn remember_rooms(
        &self,
        node: &NodeId,
        after: Option<&RoomName>,
        count: usize,
        into: &mut SnapshotWriter,
    ) -> Option<Remembered> {
        let epoch = self.nodes.get(node).and_then(|state| state.start);
        let mut last = None;
        for (room, generation) in self.view.homed_at(node, after).take(count) {
            if last.is_none() {
                into.node(node, epoch.unwrap_or_default());
            }
            let settings = self.view.settings(room).map(|settings| (**settings).clone());
            into.frame(&RoomFrame::Hosted { room: room.clone(), generation, settings });
            // What only others have said is not this one's to end.
            for (identity, ruling, generation) in self.view.rulings(room, node) {
                into.frame(&RoomFrame::Ruled {
                    room: room.clone(),
                    generation,
                    identity: identity.clone(),
                    ruling: Some(ruling.clone()),
                });
            }
            last = Some(room.clone());
        }
        Some(Remembered::Rooms(node.clone(), last))
    }
}

//! What is kept of rooms for the case that a room's home dies: what it is set to, and its rulings. Whoever takes the room next
//! is given them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use outlast_model::{Generation, Identity, NodeId, RoomName, RoomSettings, Ruling, Rulings, Time};

use crate::{ENDED_KEPT, Home};

/// Most rooms of which something is kept.
pub const KEPT_ROOMS_MAX: usize = 200_000;
/// Most bytes of metadata and rulings of all of them.
pub const KEPT_BYTES_MAX: usize = 256 << 20;
/// How long that outlives a room that a healthy node has closed. It may have been moved by somebody whose news have not come
/// yet; longer, and the next room of that name would start with what was said of the last.
pub const CLOSED_KEPT: Duration = Duration::from_secs(5);
/// For so long after one of several homes of a room has lost it no other ends a stay: who was there is on the way. Lower: they
/// come without their ruling; higher: who leaves for good meanwhile is known by it for the room's life.
const ON_THE_WAY_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct Setting {
    settings: Arc<RoomSettings>,
    /// Under which it was said.
    generation: Generation,
    /// The node that has said so; `None` once it has named the room without.
    by: Option<NodeId>,
}

#[derive(Clone, Debug, Default)]
struct Room {
    setting: Option<Setting>,
    rulings: Rulings,
    /// When one of several homes has lost it last.
    merged_at: Option<Time>,
    /// `None` while the room has a home.
    until: Option<Time>,
}

impl Room {
    fn bytes(&self) -> usize {
        let metadata = self.setting.as_ref().map_or(0, |setting| setting.settings.metadata.len());
        metadata + self.rulings.bytes()
    }
}

/// What is kept, by room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    rooms: BTreeMap<RoomName, Room>,
    /// Those without a home, by the time at which they are forgotten.
    due: BTreeSet<(Time, RoomName)>,
    bytes: usize,
}

impl Kept {
    pub(crate) fn settings(&self, room: &RoomName) -> Option<&Arc<RoomSettings>> {
        self.rooms.get(room)?.setting.as_ref().map(|setting| &setting.settings)
    }

    /// Whether what `room` is set to is what `node` has said.
    pub(crate) fn is_by(&self, room: &RoomName, node: &NodeId) -> bool {
        let setting = self.rooms.get(room).and_then(|room| room.setting.as_ref());
        setting.is_some_and(|setting| setting.by.as_ref() == Some(node))
    }

    pub(crate) fn rulings(
        &self,
        room: &RoomName,
        home: &NodeId,
    ) -> impl Iterator<Item = (&Identity, &Ruling, Generation)> {
        self.rooms.get(room).into_iter().flat_map(|room| room.rulings.said_by(home))
    }

    pub(crate) fn ruling(&self, room: &RoomName, identity: &Identity) -> Option<&Ruling> {
        self.rooms.get(room)?.rulings.get(identity)
    }

    /// `node` has the room, and has said nothing of what it is set to: it has begun anew, or was
    /// opened by somebody who did not know. Returns whether settings are kept.
    pub(crate) fn disclaim(&mut self, room: &RoomName, node: &NodeId) -> bool {
        let setting = self.rooms.get_mut(room).and_then(|room| room.setting.as_mut());
        let Some(setting) = setting else { return false };
        setting.by.take_if(|by| by == node);
        true
    }

    /// `node` does not have the room any more: what it said counts on, until somebody who has it says otherwise.
    pub(crate) fn orphan(&mut self, room: &RoomName, node: &NodeId) {
        self.disclaim(room, node);
        if let Some(room) = self.rooms.get_mut(room) {
            room.rulings.orphan(node);
        }
    }

    /// The home that counts for `room` has this number: nothing that was said under a higher one is above what it says.
    pub(crate) fn lower(&mut self, room: &RoomName, generation: Generation) {
        let Some(room) = self.rooms.get_mut(room) else { return };
        if let Some(setting) = &mut room.setting {
            setting.generation = setting.generation.min(generation);
        }
        self.bytes -= room.rulings.bytes();
        room.rulings.lower(generation);
        self.bytes += room.rulings.bytes();
    }

    /// One of several homes has lost `room`.
    pub(crate) fn merge(&mut self, now: Time, room: &RoomName) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.merged_at = Some(now);
        }
    }

    /// Whether people may be on the way from a home of `room` that has lost it to another.
    pub(crate) fn is_merging(&self, now: Time, room: &RoomName) -> bool {
        let merged_at = self.rooms.get(room).and_then(|room| room.merged_at);
        merged_at.is_some_and(|at| now.since(at) < ON_THE_WAY_MAX)
    }

    /// That a stay has ended in `room` is not known any more.
    pub(crate) fn forget_end(&mut self, room: &RoomName, identity: &Identity) {
        let Some(room) = self.rooms.get_mut(room) else { return };
        self.bytes -= room.rulings.bytes();
        room.rulings.forget_end(identity);
        self.bytes += room.rulings.bytes();
    }

    /// Keeps what `room` is set to according to `by`, while it has a home or for [`ENDED_KEPT`] without one. Returns
    /// whether it did: not when a later generation has spoken, nor when there are too many and all have homes.
    pub(crate) fn set(
        &mut self,
        now: Time,
        room: &RoomName,
        by: &Home,
        settings: Arc<RoomSettings>,
        homed: bool,
    ) -> bool {
        let before = self.rooms.get(room).and_then(|room| room.setting.as_ref());
        if before.is_some_and(|before| before.generation > by.generation) {
            return false;
        }
        let more = settings.metadata.len();
        let (generation, by) = (by.generation, Some(by.node.clone()));
        let setting = Setting { settings, generation, by };
        self.change(now, room, more, homed, |room| room.setting = Some(setting))
    }

    /// Keeps what `home` says of `identity` in `room`, by the rules of [`Rulings::hear`], as long as
    /// settings are kept. Returns whether it did: not when there are too many rooms and all have homes.
    pub(crate) fn rule(
        &mut self,
        now: Time,
        room: &RoomName,
        home: &Home,
        (identity, ruling): (&Identity, Option<Ruling>),
        homed: bool,
    ) -> bool {
        if ruling.is_none() && !self.rooms.contains_key(room) {
            return false;
        }
        let permission = ruling.as_ref().map_or(0, |ruling| ruling.permission.len());
        let more = identity.as_str().len() + permission;
        self.change(now, room, more, homed, |room| {
            room.rulings.hear((home.generation, &home.node), identity, ruling);
        })
    }

    /// `home` has named all its rulings of `room`, `named`: see [`Rulings::retain`].
    pub(crate) fn retain_rulings(
        &mut self,
        room: &RoomName,
        home: &Home,
        named: impl Fn(&Identity) -> bool,
    ) {
        let Some(room) = self.rooms.get_mut(room) else { return };
        self.bytes -= room.bytes();
        room.rulings.retain((home.generation, &home.node), named);
        self.bytes += room.bytes();
    }

    /// Changes what is kept of `room`, by `more` bytes at most, if there is space for them.
    fn change(
        &mut self,
        now: Time,
        room: &RoomName,
        more: usize,
        homed: bool,
        change: impl FnOnce(&mut Room),
    ) -> bool {
        // Nobody is to be pushed out by itself.
        self.hold(room);
        let new = usize::from(!self.rooms.contains_key(room));
        let mut fits = true;
        while self.rooms.len() + new > KEPT_ROOMS_MAX || self.bytes + more > KEPT_BYTES_MAX {
            let Some((_, oldest)) = self.due.first().cloned() else {
                fits = false;
                break;
            };
            self.forget(&oldest);
        }
        if fits {
            let kept = self.rooms.entry(room.clone()).or_default();
            self.bytes -= kept.bytes();
            change(kept);
            self.bytes += kept.bytes();
        }
        if !homed {
            self.leave(now, room, ENDED_KEPT);
        }
        fits
    }

    /// `room` has a home.
    pub(crate) fn hold(&mut self, room: &RoomName) {
        let Some(kept) = self.rooms.get_mut(room) else { return };
        if let Some(until) = kept.until.take() {
            self.due.remove(&(until, room.clone()));
        }
    }

    /// `room` has no home any more.
    pub(crate) fn leave(&mut self, now: Time, room: &RoomName, kept: Duration) {
        let Some(left) = self.rooms.get_mut(room) else { return };
        let until = now + kept;
        if let Some(before) = left.until.replace(until) {
            self.due.remove(&(before, room.clone()));
        }
        self.due.insert((until, room.clone()));
    }

    pub(crate) fn forget(&mut self, room: &RoomName) {
        let Some(forgotten) = self.rooms.remove(room) else { return };
        self.bytes -= forgotten.bytes();
        if let Some(until) = forgotten.until {
            self.due.remove(&(until, room.clone()));
        }
    }

    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.due.first().map(|(until, _)| *until)
    }

    pub(crate) fn expire(&mut self, now: Time) {
        while let Some((until, room)) = self.due.first()
            && *until <= now
        {
            let room = room.clone();
            self.forget(&room);
        }
    }
}

#[cfg(test)]
mod tests {
    use outlast_model::RulingVersion;

    use super::*;

    fn by(generation: u64) -> Home {
        Home { node: "n".into(), generation: Generation(generation) }
    }

    fn settings(bytes: usize) -> Arc<RoomSettings> {
        Arc::new(RoomSettings { metadata: "m".repeat(bytes), ..RoomSettings::default() })
    }

    fn second(second: u64) -> Time {
        Time::from_millis(second * 1_000)
    }

    #[test]
    fn settings_of_homed_rooms_stay_and_the_others_go_in_time() {
        let mut kept = Kept::default();
        let (homed, left) = (RoomName::from("homed"), RoomName::from("left"));
        assert!(kept.set(second(0), &homed, &by(1), settings(3), true));
        assert!(kept.set(second(0), &left, &by(1), settings(4), false));
        assert_eq!(kept.wake_at(), Some(second(600)));
        kept.leave(second(10), &left, CLOSED_KEPT);
        assert_eq!(kept.wake_at(), Some(second(15)));
        kept.expire(second(15));
        assert!(kept.settings(&left).is_none() && kept.settings(&homed).is_some());
        assert_eq!((kept.bytes, kept.wake_at()), (3, None));
        kept.leave(second(20), &homed, ENDED_KEPT);
        kept.hold(&homed);
        kept.expire(second(10_000));
        assert!(kept.settings(&homed).is_some());
    }

    #[test]
    fn an_older_life_does_not_set_a_newer_one() {
        let (mut kept, room) = (Kept::default(), RoomName::from("r"));
        assert!(kept.set(second(0), &room, &by(2), settings(1), true));
        assert!(!kept.set(second(0), &room, &by(1), settings(2), true));
        assert!(kept.set(second(0), &room, &by(2), settings(3), true));
        assert_eq!(kept.settings(&room).unwrap().metadata.len(), 3);
    }

    #[test]
    fn too_much_pushes_out_the_homeless_and_never_the_homed() {
        let mut kept = Kept::default();
        let big = settings(KEPT_BYTES_MAX / 2);
        let mut set = |second_: u64, room: &str, homed: bool| {
            kept.set(second(second_), &room.into(), &by(1), big.clone(), homed)
        };
        assert!(set(0, "old", false) && set(1, "newer", false) && set(2, "homed", true));
        assert!(set(3, "also homed", true));
        assert!(!set(4, "one more", true));
        assert_eq!((kept.rooms.len(), kept.bytes, kept.due.len()), (2, KEPT_BYTES_MAX, 0));
    }

    #[test]
    fn rulings_are_kept_with_the_settings_and_as_long() {
        let (mut kept, room) = (Kept::default(), RoomName::from("r"));
        let ruling = |count| {
            let version = RulingVersion { generation: Generation(1), count };
            Ruling { version, permission: [1, 2].into() }
        };
        let (ann, bob) = (Identity::from("ann"), Identity::from("bob"));
        assert!(!kept.rule(second(0), &room, &by(1), (&ann, None), true));
        assert!(kept.rule(second(0), &room, &by(1), (&ann, Some(ruling(1))), true));
        assert!(kept.set(second(0), &room, &by(2), settings(4), true));
        assert_eq!((kept.bytes, kept.ruling(&room, &ann)), (9, Some(&ruling(1))));
        kept.rule(second(0), &room, &by(2), (&bob, Some(ruling(2))), true);
        kept.retain_rulings(&room, &by(2), |_| false);
        assert_eq!((kept.ruling(&room, &bob), kept.bytes), (None, 12), "its name is kept");
        kept.leave(second(0), &room, CLOSED_KEPT);
        // News of a home that is not known yet, or not any more.
        kept.rule(second(1), &room, &by(1), (&ann, Some(ruling(3))), false);
        assert_eq!(kept.wake_at(), Some(second(601)));
        kept.expire(second(600));
        assert_eq!(kept.ruling(&room, &ann), Some(&ruling(3)));
        kept.expire(second(601));
        assert_eq!((kept.ruling(&room, &ann), kept.bytes, kept.rooms.len()), (None, 0, 0));
    }
}

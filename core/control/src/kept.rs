//! Settings of rooms, kept for the case that a room's home dies: whoever takes the room next is given them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use outlast_model::{Generation, NodeId, RoomName, RoomSettings, Time};

use crate::{ENDED_KEPT, Home};

/// Most rooms whose settings are kept.
pub const SETTINGS_MAX: usize = 200_000;
/// Most bytes of metadata in all of them.
pub const SETTINGS_BYTES_MAX: usize = 256 << 20;
/// How long settings outlive a room that a healthy node has closed. It may have been moved by somebody whose news have not
/// come yet; longer, and the next room of that name would start with the settings of the last.
pub const CLOSED_KEPT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct Setting {
    settings: Arc<RoomSettings>,
    /// Under which it was said.
    generation: Generation,
    /// The node that has said so; `None` once it has named the room without.
    by: Option<NodeId>,
    /// `None` while the room has a home.
    until: Option<Time>,
}

/// Settings by room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    rooms: BTreeMap<RoomName, Setting>,
    /// Those without a home, by the time at which they are forgotten.
    due: BTreeSet<(Time, RoomName)>,
    bytes: usize,
}

impl Kept {
    pub(crate) fn get(&self, room: &RoomName) -> Option<&Arc<RoomSettings>> {
        self.rooms.get(room).map(|setting| &setting.settings)
    }

    /// Whether what is kept of `room` is what `node` has said.
    pub(crate) fn is_by(&self, room: &RoomName, node: &NodeId) -> bool {
        self.rooms.get(room).is_some_and(|setting| setting.by.as_ref() == Some(node))
    }

    /// `node` has the room, and has said nothing of what it is set to: it has begun anew. Returns whether something is
    /// kept that it does not know.
    pub(crate) fn disclaim(&mut self, room: &RoomName, node: &NodeId) -> bool {
        let Some(setting) = self.rooms.get_mut(room) else { return false };
        setting.by.take_if(|by| by == node);
        true
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
        if self.rooms.get(room).is_some_and(|before| before.generation > by.generation) {
            return false;
        }
        self.forget(room);
        let bytes = settings.metadata.len();
        while self.rooms.len() >= SETTINGS_MAX || self.bytes + bytes > SETTINGS_BYTES_MAX {
            let Some((_, oldest)) = self.due.first().cloned() else { return false };
            self.forget(&oldest);
        }
        self.bytes += bytes;
        self.rooms.insert(
            room.clone(),
            Setting { settings, generation: by.generation, by: Some(by.node.clone()), until: None },
        );
        if !homed {
            self.leave(now, room, ENDED_KEPT);
        }
        true
    }

    /// `room` has a home.
    pub(crate) fn hold(&mut self, room: &RoomName) {
        let Some(setting) = self.rooms.get_mut(room) else { return };
        if let Some(until) = setting.until.take() {
            self.due.remove(&(until, room.clone()));
        }
    }

    /// `room` has no home any more.
    pub(crate) fn leave(&mut self, now: Time, room: &RoomName, kept: Duration) {
        let Some(setting) = self.rooms.get_mut(room) else { return };
        let until = now + kept;
        if let Some(before) = setting.until.replace(until) {
            self.due.remove(&(before, room.clone()));
        }
        self.due.insert((until, room.clone()));
    }

    pub(crate) fn forget(&mut self, room: &RoomName) {
        let Some(setting) = self.rooms.remove(room) else { return };
        self.bytes -= setting.settings.metadata.len();
        if let Some(until) = setting.until {
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
        assert!(kept.get(&left).is_none() && kept.get(&homed).is_some());
        assert_eq!((kept.bytes, kept.wake_at()), (3, None));
        kept.leave(second(20), &homed, ENDED_KEPT);
        kept.hold(&homed);
        kept.expire(second(10_000));
        assert!(kept.get(&homed).is_some());
    }

    #[test]
    fn an_older_life_does_not_set_a_newer_one() {
        let (mut kept, room) = (Kept::default(), RoomName::from("r"));
        assert!(kept.set(second(0), &room, &by(2), settings(1), true));
        assert!(!kept.set(second(0), &room, &by(1), settings(2), true));
        assert!(kept.set(second(0), &room, &by(2), settings(3), true));
        assert_eq!(kept.get(&room).unwrap().metadata.len(), 3);
    }

    #[test]
    fn too_much_pushes_out_the_homeless_and_never_the_homed() {
        let mut kept = Kept::default();
        let big = settings(SETTINGS_BYTES_MAX / 2);
        let mut set = |second_: u64, room: &str, homed: bool| {
            kept.set(second(second_), &room.into(), &by(1), big.clone(), homed)
        };
        assert!(set(0, "old", false) && set(1, "newer", false) && set(2, "homed", true));
        assert!(set(3, "also homed", true));
        assert!(!set(4, "one more", true));
        assert_eq!((kept.rooms.len(), kept.bytes, kept.due.len()), (2, SETTINGS_BYTES_MAX, 0));
    }
}

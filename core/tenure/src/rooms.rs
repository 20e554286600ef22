//! The rooms that live here, each with the highest generation that the node knows, and those that do no more.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use outlast_model::{Generation, Identity, NodeId, RoomName, RoomSettings, Ruling, Time};
use outlast_wire::{RoomFrame, Steer};

use crate::ended::{End, Ended, Tombstone};

/// Most rooms; beyond, new ones are refused. Gateways follow as many of one node.
pub const ROOMS_MAX: usize = 100_000;
/// How long a room that somebody was admitted to may take to open: the join is on its way inside the process.
pub const PROMISE_KEPT: Duration = Duration::from_secs(5);

/// All rooms of the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rooms {
    rooms: BTreeMap<RoomName, Room>,
    /// By time; an entry whose room has opened since, or was promised anew, is void.
    promises: VecDeque<(Time, RoomName)>,
    ended: Ended,
}

#[derive(Clone, Debug)]
struct Room {
    /// The highest known.
    generation: Generation,
    life: Life,
}

#[derive(Clone, Debug)]
enum Life {
    /// Somebody was admitted to it, and no shard has opened it yet.
    Promised { at: Time },
    /// A shard holds it, for all it has heard under `held`.
    Open { held: Generation, settings: Option<RoomSettings>, rulings: BTreeMap<Identity, Ruling> },
}

/// What a generation that somebody believes in is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The room lives here, under this generation or a lower one.
    Here,
    /// It does not, and may, as far as this node knows.
    Absent { known: Generation },
    /// It is out of date.
    Past { known: Generation },
}

impl Standing {
    /// The highest generation known when the room is not here under a lower one.
    pub(crate) fn known(self, asked: Generation) -> Generation {
        match self {
            Standing::Here => asked,
            Standing::Absent { known } | Standing::Past { known } => known,
        }
    }
}

/// What a room that was opened means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Nothing new.
    Known,
    /// It is to be told.
    News,
    /// It has no right to be here: generations up to this one are lost.
    Lost { generation: Generation, winner: Option<NodeId> },
}

/// A room that went to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It was not here, or is here under a higher generation.
    None,
    /// A join to it was on its way to a shard.
    Promised,
    /// It was open, and told under this generation.
    Open(Generation),
}

impl Rooms {
    /// Rooms that live here or are about to.
    pub(crate) fn len(&self) -> usize {
        self.rooms.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// The open ones, by name.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&RoomName, Generation)> {
        let open = self.rooms.iter().filter(|(_, room)| matches!(room.life, Life::Open { .. }));
        open.map(|(name, room)| (name, room.generation))
    }

    /// The generation of an open room.
    pub(crate) fn generation(&self, name: &RoomName) -> Option<Generation> {
        let room = self.rooms.get(name)?;
        matches!(room.life, Life::Open { .. }).then_some(room.generation)
    }

    /// The generation of a room that is open, or about to be.
    pub(crate) fn generation_or_promised(&self, name: &RoomName) -> Option<Generation> {
        self.rooms.get(name).map(|room| room.generation)
    }

    /// Every open room as a frame, by name, and behind it its rulings.
    pub(crate) fn frames(&self) -> impl Iterator<Item = RoomFrame> {
        self.rooms
            .iter()
            .flat_map(|(name, room)| hosted(name, room).into_iter().chain(ruled(name, room)))
    }

    /// One open room as a frame, and behind it its rulings: they hold under its generation, and an older home that has said
    /// them before has no word in them any more.
    pub(crate) fn frames_of(&self, name: &RoomName) -> impl Iterator<Item = RoomFrame> {
        let room = self.rooms.get_key_value(name).into_iter();
        room.flat_map(|(name, room)| hosted(name, room).into_iter().chain(ruled(name, room)))
    }

    pub(crate) fn standing(&self, now: Time, name: &RoomName, generation: Generation) -> Standing {
        if let Some(room) = self.rooms.get(name) {
            let known = room.generation;
            return if generation < known { Standing::Past { known } } else { Standing::Here };
        }
        match self.ended.get(now, name) {
            Some(last) if generation <= last.generation => {
                Standing::Past { known: last.generation }
            }
            Some(last) => Standing::Absent { known: last.generation },
            None => Standing::Absent { known: Generation(0) },
        }
    }

    /// A room that is here has this generation now, if it is a higher one. Returns whether that is to be told.
    pub(crate) fn adopt(&mut self, name: &RoomName, generation: Generation) -> bool {
        let Some(room) = self.rooms.get_mut(name).filter(|room| room.generation < generation)
        else {
            return false;
        };
        room.generation = generation;
        matches!(room.life, Life::Open { .. })
    }

    /// Somebody was admitted to a room that is not here yet.
    pub(crate) fn promise(&mut self, now: Time, name: RoomName, generation: Generation) {
        self.promises.push_back((now, name.clone()));
        self.rooms.insert(name, Room { generation, life: Life::Promised { at: now } });
    }

    /// Forgets the promises that nothing came of.
    pub(crate) fn forget(&mut self, now: Time) {
        while let Some((at, name)) = self.promises.front()
            && now.since(*at) >= PROMISE_KEPT
        {
            let void = |room: &Room| matches!(room.life, Life::Promised { at: of } if of == *at);
            if self.rooms.get(name).is_some_and(void) {
                self.rooms.remove(name);
            }
            self.promises.pop_front();
        }
    }

    /// A shard holds a room.
    pub(crate) fn opened(
        &mut self,
        now: Time,
        name: &RoomName,
        generation: Generation,
        settings: Option<RoomSettings>,
    ) -> Opening {
        let open = self.generation(name).is_some();
        if !open && let Some(lost) = self.lost(now, name, generation) {
            return lost;
        }
        let Some(room) = self.rooms.get_mut(name) else {
            let life = Life::Open { held: generation, settings, rulings: BTreeMap::new() };
            self.rooms.insert(name.clone(), Room { generation, life });
            return Opening::News;
        };
        let (same, rulings) = match &mut room.life {
            Life::Open { settings: told, rulings, .. } => {
                (*told == settings, std::mem::take(rulings))
            }
            Life::Promised { .. } => (false, BTreeMap::new()),
        };
        let raised = generation > room.generation;
        room.generation = room.generation.max(generation);
        room.life = Life::Open { held: generation, settings, rulings };
        if same && !raised { Opening::Known } else { Opening::News }
    }

    /// A shard says which ruling counts for somebody in a room. Returns the generation to tell it under; `None` when the room
    /// is not open, or nobody needs to be told.
    pub(crate) fn ruled(
        &mut self,
        name: &RoomName,
        identity: &Identity,
        ruling: Option<Ruling>,
    ) -> Option<Generation> {
        let room = self.rooms.get_mut(name)?;
        let Life::Open { rulings, .. } = &mut room.life else { return None };
        let before = match ruling.clone() {
            Some(ruling) => rulings.insert(identity.clone(), ruling),
            None => rulings.remove(identity),
        };
        (before != ruling).then_some(room.generation)
    }

    /// Why a room that a shard has just opened must not be here; `None` when it may.
    fn lost(&self, now: Time, name: &RoomName, generation: Generation) -> Option<Opening> {
        let last = self.ended.get(now, name).filter(|last| generation <= last.generation)?;
        match &last.end {
            // Admitted while it was open, arrived when it had just closed.
            End::Closed if generation == last.generation => None,
            End::Closed => Some(Opening::Lost { generation, winner: None }),
            End::Lost { winner } => {
                Some(Opening::Lost { generation: last.generation, winner: winner.clone() })
            }
        }
    }

    /// A shard holds a room no more. Returns the generation that was told of it; `None` when it is not open, or what closed
    /// is an older life of it.
    pub(crate) fn closed(
        &mut self,
        now: Time,
        name: &RoomName,
        generation: Generation,
    ) -> Option<Generation> {
        let room = self.rooms.get(name)?;
        if !matches!(room.life, Life::Open { held, .. } if held <= generation) {
            return None;
        }
        let known = room.generation;
        self.rooms.remove(name);
        self.ended.insert(now, name, Tombstone { generation: known, end: End::Closed });
        Some(known)
    }

    /// Another node holds a room.
    pub(crate) fn steered(&mut self, now: Time, steer: &Steer) -> Loss {
        let (name, generation) = (&steer.room, steer.generation);
        let loss = match self.rooms.get(name) {
            Some(room) if room.generation > generation => return Loss::None,
            Some(Room { life: Life::Promised { .. }, .. }) => Loss::Promised,
            Some(room) => Loss::Open(room.generation),
            None => Loss::None,
        };
        self.rooms.remove(name);
        self.lose(now, name, generation, Some(&steer.node));
        loss
    }

    /// What may come of a room under this generation, or a lower one, has no right to be here.
    pub(crate) fn lose(
        &mut self,
        now: Time,
        name: &RoomName,
        generation: Generation,
        winner: Option<&NodeId>,
    ) {
        let tombstone = Tombstone { generation, end: End::Lost { winner: winner.cloned() } };
        if self.ended.get(now, name) != Some(&tombstone) {
            self.ended.insert(now, name, tombstone);
        }
    }

    /// All rooms are lost at once. Says of the open ones under which generation they were told.
    pub(crate) fn lose_all(&mut self, now: Time, mut was_open: impl FnMut(RoomName, Generation)) {
        self.promises.clear();
        for (name, room) in std::mem::take(&mut self.rooms) {
            self.lose(now, &name, room.generation, None);
            if matches!(room.life, Life::Open { .. }) {
                was_open(name, room.generation);
            }
        }
    }
}

fn hosted(name: &RoomName, room: &Room) -> Option<RoomFrame> {
    let Life::Open { settings, .. } = &room.life else { return None };
    let settings = settings.clone();
    Some(RoomFrame::Hosted { room: name.clone(), generation: room.generation, settings })
}

fn ruled(name: &RoomName, room: &Room) -> impl Iterator<Item = RoomFrame> {
    let rulings = match &room.life {
        Life::Open { rulings, .. } => Some(rulings),
        Life::Promised { .. } => None,
    };
    let each = rulings.into_iter().flatten();
    each.map(|(identity, ruling)| RoomFrame::Ruled {
        room: name.clone(),
        generation: room.generation,
        identity: identity.clone(),
        ruling: Some(ruling.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_000);

    fn generation(number: u64) -> Generation {
        Generation(number)
    }

    fn open(number: u64) -> (Rooms, RoomName) {
        let (mut rooms, room) = (Rooms::default(), RoomName::from("r"));
        assert_eq!(rooms.opened(NOW, &room, generation(number), None), Opening::News);
        (rooms, room)
    }

    #[test]
    fn settings_are_news_and_the_same_again_is_not() {
        let (mut rooms, room) = open(3);
        assert_eq!(rooms.opened(NOW, &room, generation(3), None), Opening::Known);
        let settings = Some(RoomSettings { max_participants: 2, ..RoomSettings::default() });
        assert_eq!(rooms.opened(NOW, &room, generation(3), settings.clone()), Opening::News);
        assert_eq!(rooms.opened(NOW, &room, generation(2), settings.clone()), Opening::Known);
        let frame = RoomFrame::Hosted { room, generation: generation(3), settings };
        assert_eq!(rooms.frames().collect::<Vec<_>>(), [frame]);
    }

    #[test]
    fn a_shard_that_has_not_heard_of_the_new_generation_closes_the_room_all_the_same() {
        let (mut rooms, room) = open(3);
        assert!(rooms.adopt(&room, generation(5)));
        assert!(!rooms.adopt(&room, generation(5)));
        assert_eq!(rooms.closed(NOW, &room, generation(2)), None, "an older life");
        assert_eq!(rooms.closed(NOW, &room, generation(3)), Some(generation(5)));
        assert_eq!(
            rooms.standing(NOW, &room, generation(5)),
            Standing::Past { known: generation(5) }
        );
        // The join that raised it was on its way.
        assert_eq!(rooms.opened(NOW, &room, generation(5), None), Opening::News);
        assert_eq!(rooms.standing(NOW, &room, generation(5)), Standing::Here);
    }

    #[test]
    fn a_promise_that_nothing_came_of_is_forgotten() {
        let (mut rooms, room) = (Rooms::default(), RoomName::from("r"));
        rooms.promise(NOW, room.clone(), generation(4));
        assert_eq!(rooms.frames().count(), 0, "nothing to tell yet");
        assert_eq!(rooms.standing(NOW, &room, generation(4)), Standing::Here);
        assert_eq!(rooms.closed(NOW, &room, generation(3)), None, "an older life's end");
        rooms.forget(NOW + PROMISE_KEPT - Duration::from_nanos(1));
        assert_eq!(rooms.len(), 1);
        rooms.forget(NOW + PROMISE_KEPT);
        assert_eq!((rooms.len(), rooms.promises.len()), (0, 0));
        rooms.promise(NOW, room.clone(), generation(4));
        assert_eq!(rooms.opened(NOW, &room, generation(4), None), Opening::News);
        rooms.forget(NOW + PROMISE_KEPT);
        assert_eq!(rooms.generation(&room), Some(generation(4)));
    }

    #[test]
    fn what_was_lost_is_not_opened_again_by_somebody_on_the_way() {
        let (mut rooms, room) = open(3);
        let steer = |number| Steer {
            room: "r".into(),
            generation: generation(number),
            node: "other".into(),
        };
        assert_eq!(rooms.steered(NOW, &steer(2)), Loss::None, "ours is newer");
        assert_eq!(rooms.steered(NOW, &steer(4)), Loss::Open(generation(3)));
        let lost = Opening::Lost { generation: generation(4), winner: Some("other".into()) };
        assert_eq!(rooms.opened(NOW, &room, generation(3), None), lost);
        assert_eq!(rooms.opened(NOW, &room, generation(4), None), lost);
        assert_eq!(rooms.opened(NOW, &room, generation(5), None), Opening::News);
        rooms.closed(NOW, &room, generation(5));
        let older = Opening::Lost { generation: generation(4), winner: None };
        assert_eq!(rooms.opened(NOW, &room, generation(4), None), older);
        // Nor does it stand in for the life that was promised since.
        rooms.promise(NOW, room.clone(), generation(6));
        assert_eq!(rooms.opened(NOW, &room, generation(4), None), older);
        assert_eq!(rooms.opened(NOW, &room, generation(6), None), Opening::News);
    }

    #[test]
    fn a_room_that_is_steered_before_it_came_does_not_come() {
        let (mut rooms, room) = (Rooms::default(), RoomName::from("r"));
        let steer = Steer { room: room.clone(), generation: generation(1), node: "other".into() };
        assert_eq!(rooms.steered(NOW, &steer), Loss::None);
        assert_eq!(
            rooms.standing(NOW, &room, generation(1)),
            Standing::Past { known: generation(1) }
        );
        rooms.promise(NOW, room.clone(), generation(2));
        let steer = Steer { generation: generation(2), ..steer };
        assert_eq!(rooms.steered(NOW, &steer), Loss::Promised);
        assert!(rooms.is_empty());
    }
}

//! Generations of rooms that have ended: the next life of a room must not get a number that one of them had, or two nodes
//! would each hold the room under it.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    time::Duration,
};

use outlast_model::{Generation, RoomName, Time};

/// How long an ended room's generation is kept: longer than any join, resume or room stream may be under way.
pub const ENDED_KEPT: Duration = Duration::from_secs(600);
/// Most generations kept, a few dozen megabytes; the oldest go first.
const ENDED_MAX: usize = 200_000;

/// Ended rooms, each with the highest generation it had.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    rooms: BTreeMap<RoomName, (Generation, Time)>,
    /// By time; an entry whose time is not its room's was renewed since.
    order: VecDeque<(Time, RoomName)>,
}

impl Ended {
    /// The highest generation under which `room` has ended; 0 when none is kept.
    pub(crate) fn generation(&self, room: &RoomName) -> Generation {
        self.rooms.get(room).map_or(Generation(0), |(generation, _)| *generation)
    }

    /// Those after `after`, by name, each with the highest generation it had.
    pub(crate) fn after(
        &self,
        after: Option<&RoomName>,
    ) -> impl Iterator<Item = (&RoomName, Generation)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let after = self.rooms.range::<RoomName, _>((from, Bound::Unbounded));
        after.map(|(room, (generation, _))| (room, *generation))
    }

    /// `room` has ended under `generation`.
    pub(crate) fn insert(&mut self, now: Time, room: &RoomName, generation: Generation) {
        let highest = generation.max(self.generation(room));
        self.rooms.insert(room.clone(), (highest, now));
        self.order.push_back((now, room.clone()));
        self.forget(now);
    }

    fn forget(&mut self, now: Time) {
        while let Some((at, room)) = self.order.front()
            && (now.since(*at) >= ENDED_KEPT || self.order.len() > ENDED_MAX)
        {
            if self.rooms.get(room).is_some_and(|(_, renewed)| renewed == at) {
                self.rooms.remove(room);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_generation_is_kept_for_its_time_from_the_last_end() {
        let (mut ended, room) = (Ended::default(), RoomName::from("r"));
        let end = |ended: &mut Ended, second: u64, room: &str, generation: u64| {
            ended.insert(Time::from_millis(second * 1_000), &room.into(), Generation(generation));
        };
        end(&mut ended, 0, "r", 4);
        end(&mut ended, 300, "r", 2);
        end(&mut ended, 700, "other", 1);
        assert_eq!(ended.generation(&room), Generation(4));
        end(&mut ended, 900, "other", 1);
        assert_eq!(ended.generation(&room), Generation(0));
        assert_eq!(ended.generation(&"other".into()), Generation(1));
    }

    #[test]
    fn a_flood_of_rooms_pushes_out_the_oldest() {
        let mut ended = Ended::default();
        for n in 0..=ENDED_MAX {
            ended.insert(Time::from_millis(1), &format!("room {n}").as_str().into(), Generation(1));
        }
        assert_eq!((ended.rooms.len(), ended.order.len()), (ENDED_MAX, ENDED_MAX));
        assert_eq!(ended.generation(&"room 0".into()), Generation(0));
    }
}

//! The model as the checker sees it, and what must hold in every state.

use stateright::{Model, Property};

use crate::{
    bounds::{Bounds, Rules},
    settling::{Outcome, Unsettled, calmed, settle},
    state::{Placements, Room, State, World},
    trouble::{self, Action},
};

/// Since it was last wiped, the directory has confirmed a generation of a room to one node at most.
pub const ONE_OWNER: &str = "one owner of a generation";
/// A node serves a room under no lower generation than it has heard of, by a join or a steer, since its process began.
pub const HIGHEST_HEARD: &str = "nobody serves below what it has heard";
/// A node serves nothing between the end of its lease, or a standstill, and the next echo.
pub const RIGHT_TO_SERVE: &str = "nobody serves whose right is over";
/// No end and no replace that was meant for a lower generation takes a higher one from the directory.
pub const NEWER_STAYS: &str = "the directory keeps the newer";
/// If the trouble ended now, every schedule would end, with one home for each room, all its clients there, and the
/// directory in the know.
pub const SETTLES: &str = "it settles";
/// If the trouble ended now, no schedule would move a client twice.
pub const MOVED_ONCE: &str = "the settling moves nobody twice";

/// Seen: two nodes serve one room.
pub const TWO_HOMES: &str = "seen: two homes";
/// Seen: they do it under one generation.
pub const TIE: &str = "seen: two homes of one generation";
/// Seen: a room is served that has ended before.
pub const LIVES_AGAIN: &str = "seen: a second life";

/// Claim, lease and merge within bounds.
#[derive(Clone, Debug)]
pub struct Ownership {
    /// How far it goes.
    pub bounds: Bounds,
    /// The safeguards that it has.
    pub rules: Rules,
}

impl Ownership {
    fn rooms<'s>(&self, state: &'s State) -> impl Iterator<Item = &'s Room> {
        state.rooms.iter().take(self.bounds.rooms)
    }

    /// What comes of the rooms if the trouble ends now.
    ///
    /// # Errors
    /// That of the first room that may go wrong.
    pub fn settled(&self, state: &State) -> Result<Vec<Outcome>, Unsettled> {
        let calmed = self.rooms(state).map(|room| calmed(self.rules, &state.world, room));
        calmed.map(|room| settle(self.rules, &room)).collect()
    }

    fn moves_once(&self, state: &State) -> bool {
        // What does not settle is another property's matter.
        let mut calmed = self.rooms(state).map(|room| calmed(self.rules, &state.world, room));
        calmed.all(|room| {
            settle(self.rules, &room).map_or(true, |outcome| outcome.moves.iter().all(|m| *m <= 1))
        })
    }

    fn always() -> Vec<Property<Ownership>> {
        vec![
            Property::always(ONE_OWNER, |model: &Ownership, state: &State| {
                model.rooms(state).all(|room| !room.confirmed.has_tie())
            }),
            Property::always(HIGHEST_HEARD, |model: &Ownership, state: &State| {
                let mut held = model.rooms(state).flat_map(|room| room.held);
                held.all(|held| held.serving == 0 || held.serving >= held.heard)
            }),
            Property::always(RIGHT_TO_SERVE, |model: &Ownership, state: &State| {
                let mut serving = model.rooms(state).flat_map(Room::serving);
                serving.all(|(node, _)| !state.world.over[usize::from(node)])
            }),
            Property::always(NEWER_STAYS, |model: &Ownership, state: &State| {
                model.rooms(state).all(|room| !room.removed_newer)
            }),
            Property::always(SETTLES, |model: &Ownership, state: &State| {
                let mut calmed =
                    model.rooms(state).map(|room| calmed(model.rules, &state.world, room));
                calmed.all(|room| settle(model.rules, &room).is_ok())
            }),
            Property::always(MOVED_ONCE, Ownership::moves_once),
        ]
    }

    /// What shows that the trouble bites.
    fn sometimes() -> Vec<Property<Ownership>> {
        vec![
            Property::sometimes(TWO_HOMES, |model: &Ownership, state: &State| {
                model.rooms(state).any(|room| room.serving().count() > 1)
            }),
            Property::sometimes(TIE, |model: &Ownership, state: &State| {
                model.rooms(state).any(|room| {
                    let mut serving = Placements::default();
                    room.serving().for_each(|(node, generation)| serving.insert(node, generation));
                    serving.has_tie()
                })
            }),
            Property::sometimes(LIVES_AGAIN, |model: &Ownership, state: &State| {
                let mut rooms = model.rooms(state).filter(|room| !room.ended.is_empty());
                rooms.any(|room| room.serving().any(|(_, serving)| serving > room.ended.highest()))
            }),
        ]
    }
}

impl Model for Ownership {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { world: World::new(self.bounds.budget), rooms: Default::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        trouble::actions(&self.bounds, self.rules, state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        trouble::next(&self.bounds, self.rules, state, action)
    }

    fn properties(&self) -> Vec<Property<Ownership>> {
        [Ownership::always(), Ownership::sometimes()].concat()
    }
}

//! A last look at a plan before anybody acts on it: whatever made it, it must not do harm.

use std::collections::{BTreeMap, BTreeSet};

use outlast_model::{Generation, NodeId, RoomName};

use crate::{
    GRANT_PERMILLE, MOVES_PER_TICK_MAX, Move, NodeView, Plan, View,
    failover::{TARGET_PERMILLE_MAX, needs_home},
};

/// What is wrong with a plan: the first that was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// More than [`MOVES_PER_TICK_MAX`] moves.
    #[error("{0} moves, more than {MOVES_PER_TICK_MAX}")]
    TooMany(usize),
    /// A room that moves twice, and would have two homes.
    #[error("room {0} moves twice")]
    Twice(RoomName),
    /// A generation that is not above every known one: the room would have a second home.
    #[error("room {room} gets generation {}, and {} is the lowest free", generation.0, free.0)]
    Used {
        /// Which room.
        room: RoomName,
        /// What the plan gives it.
        generation: Generation,
        /// What it would have to have at least.
        free: Generation,
    },
    /// The room is where it can stay.
    #[error("room {0} has a home that is fine")]
    HomeIsFine(RoomName),
    /// The node that the room leaves.
    #[error("room {0} moves to where it leaves")]
    MovesBack(RoomName),
    /// A target that is unknown, not alive, or draining.
    #[error("node {0} takes no rooms")]
    TakesNoRooms(NodeId),
    /// A target that says it is full, or that would get more than it can carry.
    #[error("node {0} would be overfull")]
    Overfull(NodeId),
}

/// Whether `plan` may be carried out on `view`.
///
/// # Errors
/// See [`Flaw`].
pub fn check(plan: &Plan, view: &View) -> Result<(), Flaw> {
    if plan.moves.len() > MOVES_PER_TICK_MAX {
        return Err(Flaw::TooMany(plan.moves.len()));
    }
    let mut seen = BTreeSet::new();
    let mut granted: BTreeMap<&NodeId, u32> = BTreeMap::new();
    for step in &plan.moves {
        if !seen.insert(&step.room) {
            return Err(Flaw::Twice(step.room.clone()));
        }
        check_room(step, view)?;
        if has_it(step, view) {
            continue;
        }
        let more = granted.entry(&step.to).or_default();
        *more += GRANT_PERMILLE;
        check_target(step, view, plan.arbitrated.then_some(*more))?;
    }
    Ok(())
}

fn check_room(step: &Move, view: &View) -> Result<(), Flaw> {
    let room = &step.room;
    if !needs_home(view, room) {
        return Err(Flaw::HomeIsFine(room.clone()));
    }
    let free = view.next_generation(room);
    if step.generation < free {
        return Err(Flaw::Used { room: room.clone(), generation: step.generation, free });
    }
    let mut left = step.from.iter().chain(view.home(room));
    if left.any(|home| home.node == step.to) {
        return Err(Flaw::MovesBack(room.clone()));
    }
    Ok(())
}

/// Whether the target has the room already, since a split: it needs to take nothing.
fn has_it(step: &Move, view: &View) -> bool {
    view.hosts(&step.room).iter().any(|host| host.node == step.to)
        && view.node(&step.to).is_some_and(NodeView::keeps_rooms)
}

/// `granted` is what the plan adds to the target up to here, when load counts.
fn check_target(step: &Move, view: &View, granted: Option<u32>) -> Result<(), Flaw> {
    let target = view.node(&step.to).filter(|node| node.takes_rooms());
    let Some(target) = target else { return Err(Flaw::TakesNoRooms(step.to.clone())) };
    let overfull = granted.is_some_and(|granted| {
        target.predicted_permille().saturating_add(granted) > TARGET_PERMILLE_MAX
    });
    if target.full || overfull {
        return Err(Flaw::Overfull(step.to.clone()));
    }
    Ok(())
}

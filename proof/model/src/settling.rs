//! What follows when all trouble is over: everybody reaches everybody, all nodes run, and gateways know what nodes serve.
//! Rooms then no longer touch each other, so every schedule of one room's steps is walked, once for each room as the
//! trouble may have left it.

use std::{cell::RefCell, collections::HashMap};

use crate::{
    bounds::{CLIENTS, Rules, Tie},
    protocol::counts_before,
    state::{GENERATION_MAX, Life, OUT, Placements, Room, World},
};

/// More steps than any settling takes; a longer one counts as endless.
const STEPS_MAX: u16 = 200;

/// What all schedules from a room have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Steps of the longest one.
    pub steps: u16,
    /// The most often that one client is moved.
    pub moves: [u8; CLIENTS],
}

/// Why a room does not settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// A schedule ends so, which is wrong.
    Wrong(Room),
    /// A schedule that comes by here need not end.
    Endless(Room),
}

type Walked = HashMap<(Rules, Room), Result<Outcome, Unsettled>>;

thread_local! {
    static WALKED: RefCell<Walked> = RefCell::default();
}

/// `room` when all trouble is over: nodes that are dead come back empty, those that stand still wake, and joins that were
/// under way have arrived or are lost.
pub(crate) fn calmed(rules: Rules, world: &World, room: &Room) -> Room {
    let mut room = *room;
    for node in World::nodes() {
        if world.lives[usize::from(node)] == Life::Frozen && rules.pause {
            room.close(node, true);
        }
    }
    (room.issued, room.confirmed) = (Placements::default(), Placements::default());
    room.removed_newer = false;
    room
}

/// Walks all schedules from a calmed room.
///
/// # Errors
/// When one of them goes wrong.
pub(crate) fn settle(rules: Rules, room: &Room) -> Result<Outcome, Unsettled> {
    WALKED.with_borrow_mut(|walked| walk(rules, room, walked, 0))
}

fn walk(rules: Rules, room: &Room, walked: &mut Walked, depth: u16) -> Result<Outcome, Unsettled> {
    if let Some(outcome) = walked.get(&(rules, *room)) {
        return *outcome;
    }
    let endless = Err(Unsettled::Endless(*room));
    if depth > STEPS_MAX || room.record.generation >= GENERATION_MAX {
        return endless;
    }
    // Whoever comes by here again before this entry is overwritten has gone in a circle.
    walked.insert((rules, *room), endless);
    let next = steps(rules, room);
    let mut outcome = match next.is_empty() && !has_converged(room) {
        true => Err(Unsettled::Wrong(*room)),
        false => Ok(Outcome::default()),
    };
    for after in next {
        let Ok(so_far) = outcome else { break };
        outcome = walk(rules, &after, walked, depth + 1).map(|rest| so_far.or(room, &after, rest));
    }
    walked.insert((rules, *room), outcome);
    outcome
}

impl Outcome {
    /// Of all schedules so far, and of those that go on with the step from `room` to `after`.
    fn or(mut self, room: &Room, after: &Room, rest: Outcome) -> Outcome {
        self.steps = self.steps.max(rest.steps + 1);
        for client in 0..CLIENTS {
            let moved = room.at[client] != OUT && after.at[client] == OUT;
            self.moves[client] = self.moves[client].max(rest.moves[client] + u8::from(moved));
        }
        self
    }
}

/// Exactly one home, everybody there, and the directory knows.
fn has_converged(room: &Room) -> bool {
    let mut serving = room.serving();
    let (Some((home, generation)), None) = (serving.next(), serving.next()) else { return false };
    let known = room.record.holder() == Some(home) && room.record.generation >= generation;
    known && room.at == [home; CLIENTS]
}

/// The home that counts to a gateway that knows what all nodes serve, and `holder` of the directory.
fn home(rules: Rules, room: &Room, holder: Option<u8>) -> Option<(u8, u8)> {
    room.serving().reduce(
        |best, other| {
            if counts_before(rules, other, best, holder) { other } else { best }
        },
    )
}

/// All that may come next.
fn steps(rules: Rules, room: &Room) -> Vec<Room> {
    let mut next = Vec::new();
    let mut push = |after: Room| {
        if after != *room && !next.contains(&after) {
            next.push(after);
        }
    };
    let known = room.record.holder();
    let holders = if rules.tie == Tie::HolderIfKnown { vec![known, None] } else { vec![known] };
    for holder in holders {
        if let Some(home) = home(rules, room, holder) {
            join_home(rules, room, home, &mut push);
            announce(rules, room, home, &mut push);
            if rules.merge {
                merge(rules, room, home, &mut push);
            }
        }
    }
    if room.serving().next().is_none() {
        claim(rules, room, &mut push);
    }
    for (node, _) in room.serving().filter(|(node, _)| !room.at.contains(node)) {
        let mut after = *room;
        after.close(node, false);
        push(after);
    }
    for (_, generation) in room.ended.iter() {
        let mut after = *room;
        after.record.end(rules, generation);
        push(after);
    }
    next
}

/// Whoever is out joins the home, under the generation that its node has named or the directory's.
fn join_home(rules: Rules, room: &Room, (home, serving): (u8, u8), push: &mut impl FnMut(Room)) {
    let placed = room.record.holder() == Some(home);
    let placed = if placed { room.record.generation } else { serving };
    for generation in [serving, placed] {
        join(rules, room, home, generation, push);
    }
}

/// Every client that is out asks `node`. Returns whether it would be admitted.
fn join(rules: Rules, room: &Room, node: u8, generation: u8, push: &mut impl FnMut(Room)) -> bool {
    let admits = room.held[usize::from(node)].admits(rules, generation);
    for client in (0..CLIENTS).filter(|client| admits && room.at[*client] == OUT) {
        let mut after = *room;
        after.held[usize::from(node)].open(generation);
        after.at[client] = node;
        push(after);
    }
    admits
}

/// Nobody serves the room: to where the directory has it; when that is nowhere, or it is refused there, a claim for any
/// node, by a gateway that has kept the generations that ended, or by one that has just started.
fn claim(rules: Rules, room: &Room, push: &mut impl FnMut(Room)) {
    let record = room.record;
    let refused = match record.holder() {
        Some(node) if join(rules, room, node, record.generation, push) => return,
        Some(node) => room.held[usize::from(node)].heard,
        None => 0,
    };
    let least = record.generation + 1;
    let kept = least.max(room.ended.highest() + 1).max(refused + 1);
    for node in World::nodes() {
        for generation in [least, kept] {
            let mut after = *room;
            after.record.replace(rules, record.generation, node, generation);
            push(after);
        }
    }
}

/// The directory hears where the room is. When it holds another placement that is not lower, or has fenced the home's
/// generation, the home gets one above.
fn announce(rules: Rules, room: &Room, (home, serving): (u8, u8), push: &mut impl FnMut(Room)) {
    let mut after = *room;
    let (record, known) = (&mut after.record, room.record.generation);
    let right = record.holder() == Some(home) && known >= serving;
    let fenced = record.holder().is_none() && known >= serving;
    if right || fenced && !rules.raise {
        return;
    }
    record.replace(rules, known, home, serving.max(known + 1));
    push(after);
}

/// Every other node that serves the room is steered, or its clients are told one by one by their own gateways. Of a tie
/// the home hears as well that it has the next generation now.
fn merge(rules: Rules, room: &Room, (home, serving): (u8, u8), push: &mut impl FnMut(Room)) {
    let losers = || room.serving().filter(|(node, _)| *node != home);
    let tie = losers().any(|(_, generation)| generation == serving);
    let generation = if tie && rules.lift { serving + 1 } else { serving };
    if generation > serving {
        let mut after = *room;
        after.held[usize::from(home)].open(generation);
        push(after);
    }
    for (node, _) in losers() {
        let mut after = *room;
        if after.steer(rules, node, generation) {
            push(after);
        }
    }
    for client in (0..CLIENTS).filter(|client| room.at[*client] != home) {
        let mut after = *room;
        after.at[client] = OUT;
        push(after);
    }
}

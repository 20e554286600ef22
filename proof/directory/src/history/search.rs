//! Whether one room's history is linearizable: Wing and Gong's search (1993) with Lowe's memory of configurations (2017).
//! `stateright`'s tester has no memory and no requests that may take effect after their answer, so this is our own.
//!
//! Three things keep it small. A request that fits, changes nothing and would change nothing later either is put as early as it
//! can be: moving it there never spoils an order. An unknown one is considered only where it changes something. Lookups may be answered from any earlier
//! state, so theirs begin with time.

use std::collections::{BTreeSet, HashMap, HashSet};

use outlast_directory::{Failure, Placed, Reply, Request};
use outlast_model::Time;

use super::room::{Room, State, StateId};

/// Most configurations looked at for one room before the search gives up.
pub const SEARCH_CONFIGURATIONS_MAX: usize = 200_000;

/// Something that happens to a room.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Takes effect after this...
    pub(super) start: Time,
    /// ...and before this; `None`: at any time later, or never.
    pub(super) end: Option<Time>,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A request.
    Asked(Box<Asked>),
    /// The content was taken away.
    Wiped,
}

/// A request with its answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    /// `None`: any answer fits, since none was told.
    pub(super) reply: Option<Reply>,
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is an order; with the least number of losses, each of which takes the room back to an earlier state. The indices
    /// of the events that were undone.
    Explained { losses: usize, undone: Vec<usize> },
    /// There is none. The event at which the longest try was stuck, and the room's state then.
    Not { stuck: usize, state: State },
    /// Too many possibilities.
    GaveUp,
}

/// Looks for an order of `events`, which are sorted by their start, with as few losses as possible, at most `losses_max`.
pub(super) fn search(room: &mut Room, events: &[Event], losses_max: usize) -> Verdict {
    let mut last = Verdict::GaveUp;
    for losses in 0..=losses_max {
        let mut search =
            Search { room, events, seen: HashSet::new(), trail: Vec::new(), furthest: None };
        match search.run(losses) {
            Some(true) => return Verdict::Explained { losses, undone: search.undone() },
            Some(false) => {
                let (_, stuck, state) = search.furthest.unwrap_or_default();
                last = Verdict::Not { stuck, state: room.state(state).clone() };
            }
            None => return Verdict::GaveUp,
        }
    }
    last
}

/// How far an order has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Configuration {
    state: StateId,
    losses_left: usize,
    /// States that the room has been in, to which a loss may take it back; sorted, empty when there are no losses left.
    visited: Vec<StateId>,
    /// All events below are done, unless they are unknown.
    base: u32,
    /// Those done from `base` on, and unknown ones below; sorted.
    done: Vec<u32>,
}

/// One step of an order, to the state that it leads to.
#[derive(Clone, Copy, Debug)]
enum Move {
    Event(u32, StateId),
    Loss(StateId),
}

impl Move {
    fn leads_to(&self, state: StateId) -> bool {
        let (Move::Event(_, to) | Move::Loss(to)) = self;
        *to == state
    }
}

impl Configuration {
    /// Goes on in another state.
    fn leave_for(&mut self, state: StateId) {
        if self.losses_left > 0
            && let Err(place) = self.visited.binary_search(&self.state)
        {
            self.visited.insert(place, self.state);
        }
        self.state = state;
    }
}

struct Search<'a> {
    room: &'a mut Room,
    events: &'a [Event],
    seen: HashSet<Configuration>,
    trail: Vec<Move>,
    /// Events done, the one that was stuck, the state.
    furthest: Option<(usize, usize, StateId)>,
}

/// A configuration on the way of the depth-first search, and what is left to try from it.
struct Level {
    at: Configuration,
    moves: Vec<Move>,
    trail: usize,
}

impl Search<'_> {
    /// Whether there is an order; `None` when it gives up.
    fn run(&mut self, losses: usize) -> Option<bool> {
        let start = Configuration {
            state: Room::UNKNOWN,
            losses_left: losses,
            visited: Vec::new(),
            base: 0,
            done: Vec::new(),
        };
        let Some(first) = self.level(start) else { return Some(true) };
        let mut levels = vec![first];
        while let Some(level) = levels.last_mut() {
            let Some(step) = level.moves.pop() else {
                self.trail.truncate(level.trail);
                levels.pop();
                continue;
            };
            let trail = self.trail.len();
            let mut next = level.at.clone();
            match step {
                Move::Event(event, state) => {
                    next.leave_for(state);
                    self.mark(&mut next, event);
                }
                Move::Loss(state) => {
                    next.leave_for(state);
                    next.losses_left -= 1;
                    if next.losses_left == 0 {
                        next.visited.clear();
                    }
                }
            }
            self.trail.push(step);
            match self.level(next) {
                None => return Some(true),
                Some(level) if self.seen.insert(level.at.clone()) => {
                    levels.push(Level { trail, ..level });
                }
                Some(_) => self.trail.truncate(trail),
            }
            if self.seen.len() > SEARCH_CONFIGURATIONS_MAX {
                return None;
            }
        }
        Some(false)
    }

    /// Does at once whatever changes nothing, and lists what may come next; `None` when all is done.
    fn level(&mut self, mut at: Configuration) -> Option<Level> {
        let trail = self.trail.len();
        loop {
            let (limit, stuck) = self.limit(&at)?;
            let only_rises = at.losses_left == 0 && self.is_wiped(&at);
            let mut moves = Vec::new();
            let mut is_further = false;
            for event in self.open(&at, limit) {
                let Some(to) = self.fits(at.state, event) else { continue };
                let changes = to != at.state;
                let is_unknown = self.events[event as usize].end.is_none();
                if changes || (!is_unknown && !only_rises && !self.never_changes(event)) {
                    moves.push(Move::Event(event, to));
                } else if !is_unknown {
                    self.mark(&mut at, event);
                    is_further = true;
                }
            }
            if is_further {
                continue;
            }
            // Tried last: the order without the loss comes first, and the latest states before older ones.
            let other = at.visited.iter().filter(|state| **state != at.state);
            let mut back: Vec<_> = other.copied().collect();
            back.sort_by_key(|state| self.trail.iter().rposition(|step| step.leads_to(*state)));
            moves.splice(0..0, back.into_iter().map(Move::Loss));
            let done = at.base as usize + at.done.len();
            if self.furthest.is_none_or(|(most, ..)| done > most) {
                self.furthest = Some((done, stuck, at.state));
            }
            return Some(Level { at, moves, trail });
        }
    }

    /// The first end among those that must still be done, and whose it is.
    fn limit(&self, at: &Configuration) -> Option<(Time, usize)> {
        let rest = (at.base..self.count()).filter(|event| at.done.binary_search(event).is_err());
        rest.filter_map(|event| Some((self.events[event as usize].end?, event as usize))).min()
    }

    /// What is not done and may have begun by `limit`.
    fn open(&self, at: &Configuration, limit: Time) -> Vec<u32> {
        let begun = |event: &u32| self.events[*event as usize].start <= limit;
        let unknown = |event: &u32| self.events[*event as usize].end.is_none();
        let before = (0..at.base).filter(unknown);
        let after = (at.base..self.count()).take_while(begun);
        before.chain(after).filter(|event| at.done.binary_search(event).is_err()).collect()
    }

    /// The state after `event`, if its answer can have been given in `state`.
    fn fits(&mut self, state: StateId, event: u32) -> Option<StateId> {
        match &self.events[event as usize].what {
            What::Wiped => Some(Room::UNKNOWN),
            What::Asked(asked) => {
                let (to, reply) = self.room.step(state, event, &asked.request);
                let is_bad = |reply: &Reply| matches!(reply, Reply::Failed(Failure::Bad(_)));
                let fits = asked
                    .reply
                    .as_ref()
                    .is_none_or(|told| told == reply || (is_bad(told) && is_bad(reply)));
                fits.then_some(to)
            }
        }
    }

    /// Whether all wipes are behind: from now on a room's generation only rises, and what changes nothing now would change
    /// nothing later.
    fn is_wiped(&self, at: &Configuration) -> bool {
        let wipes = (at.base..self.count())
            .filter(|event| matches!(self.events[*event as usize].what, What::Wiped));
        wipes.into_iter().all(|event| at.done.binary_search(&event).is_ok())
    }

    /// Whether an event changes no state that it fits.
    fn never_changes(&self, event: u32) -> bool {
        let What::Asked(asked) = &self.events[event as usize].what else { return false };
        !matches!(asked.reply, None | Some(Reply::Done | Reply::Placed(Placed::Won(_))))
    }

    fn mark(&self, at: &mut Configuration, event: u32) {
        if let Err(place) = at.done.binary_search(&event) {
            at.done.insert(place, event);
        }
        let is_unknown = |event: u32| self.events[event as usize].end.is_none();
        while at.base < self.count() {
            match at.done.binary_search(&at.base) {
                Ok(place) if !is_unknown(at.base) => drop(at.done.remove(place)),
                Err(_) if !is_unknown(at.base) => break,
                _ => {}
            }
            at.base += 1;
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.events.len()).expect("a history is shorter than 2^32")
    }

    /// What was done and answered, and is not among what led to the last state.
    fn undone(&self) -> Vec<usize> {
        let mut ways: HashMap<StateId, BTreeSet<u32>> = HashMap::new();
        let mut way = BTreeSet::new();
        ways.insert(Room::UNKNOWN, way.clone());
        for step in &self.trail {
            match step {
                Move::Event(event, state) => {
                    way.insert(*event);
                    ways.insert(*state, way.clone());
                }
                Move::Loss(state) => way = ways.get(state).cloned().unwrap_or_default(),
            }
        }
        let done = self.trail.iter().filter_map(|step| match step {
            Move::Event(event, _) => Some(*event),
            Move::Loss(_) => None,
        });
        done.filter(|event| !way.contains(event) && self.events[*event as usize].end.is_some())
            .map(|event| event as usize)
            .collect()
    }
}

//! A room that the directory says nothing of: before it is placed all the same, the nodes where every gateway looks first are
//! asked whether they have it. Another gateway, with other nodes in its configuration or in its view, may have placed it
//! a moment ago.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use outlast_control::{Home, rank};
use outlast_model::{NodeId, RoomName, Time};
use outlast_wire::{PROBE_NAME_BYTES_MAX, Probe, Probed};

use super::Claim;
use crate::{AskId, Output, Role};

/// How long answers are waited for. Lower: nodes an ocean away are not heard; higher: who opens a room without the directory
/// waits longer while one of them is dead.
pub(super) const PROBE_MAX: Duration = Duration::from_millis(150);
/// Nodes that are asked, the first of the shared ranking.
const NODES: usize = 4;
/// Most rooms asked for at a time; further ones are placed unasked.
const PROBES_MAX: usize = 1_024;

/// All questions that are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probes {
    ever: u64,
    by_number: BTreeMap<u64, RoomName>,
    by_room: BTreeMap<RoomName, Question>,
    /// Those whose answers are still waited for.
    ends: BTreeSet<(Time, RoomName)>,
    /// Claims during which the question is to be asked, and when.
    due: BTreeSet<(Time, RoomName)>,
    said: Vec<Output>,
    /// Rooms that were found so.
    pub(crate) found: u64,
}

/// One room's.
#[derive(Clone, Debug)]
pub(super) struct Question {
    number: u64,
    until: Time,
    waiting: BTreeSet<NodeId>,
    found: Option<Home>,
    /// What waits for the answers; `None` while the directory may still say.
    claim: Option<Claim>,
}

/// What has become of a question.
enum Word {
    /// Nobody has been asked, or all have answered in vain.
    Nobody,
    At(Home),
    /// The claim waits for answers now.
    Waits,
}

impl Probes {
    pub(super) fn wake_at(&self) -> Option<Time> {
        let first = |times: &BTreeSet<(Time, RoomName)>| times.first().map(|(at, _)| *at);
        Time::first([first(&self.ends), first(&self.due)])
    }

    /// During a claim of `room` the question is to be asked at `at`.
    pub(super) fn plan(&mut self, at: Time, room: &RoomName) {
        self.due.insert((at, room.clone()));
    }

    /// It need not be asked then.
    pub(super) fn unplan(&mut self, at: Time, room: &RoomName) {
        self.due.remove(&(at, room.clone()));
    }

    /// Whether `room` waits for answers alone.
    pub(super) fn decides(&self, room: &RoomName) -> bool {
        self.by_room.get(room).is_some_and(|question| question.claim.is_some())
    }

    /// Somebody else wants into a room that waits for answers. `false` when it does not.
    pub(super) fn join(&mut self, room: &RoomName, ask: Option<AskId>) -> bool {
        let claim = self.by_room.get_mut(room).and_then(|question| question.claim.as_mut());
        let Some(claim) = claim else { return false };
        claim.asks.extend(ask);
        true
    }

    /// Answers are of no use any more.
    pub(super) fn end(&mut self, room: &RoomName) -> Option<Question> {
        let question = self.by_room.remove(room)?;
        self.by_number.remove(&question.number);
        self.ends.remove(&(question.until, room.clone()));
        Some(question)
    }

    fn ask(&mut self, now: Time, room: &RoomName, nodes: Vec<NodeId>) -> bool {
        if nodes.is_empty() || self.by_room.len() >= PROBES_MAX {
            return false;
        }
        self.ever += 1;
        let (number, until) = (self.ever, now + PROBE_MAX);
        for node in &nodes {
            let probe = Probe { number, room: room.clone() };
            self.said.push(Output::Probe { node: node.clone(), probe });
        }
        let waiting = nodes.into_iter().collect();
        self.by_number.insert(number, room.clone());
        self.ends.insert((until, room.clone()));
        let question = Question { number, until, waiting, found: None, claim: None };
        self.by_room.insert(room.clone(), question);
        true
    }

    pub(super) fn take_said(&mut self, out: &mut Vec<Output>) {
        out.append(&mut self.said);
    }
}

impl Role {
    /// Asks for `room`, unless that was done. `false` when there is nobody to ask.
    fn probe(&mut self, now: Time, room: &RoomName) -> bool {
        if self.claims.probes.by_room.contains_key(room) {
            return true;
        }
        // A room that had a home here is named by its node, and moves as fast as it can.
        let asked = self.policy.arbitrated
            && room.as_str().len() <= PROBE_NAME_BYTES_MAX
            && self.view.home(room).is_none();
        if !asked {
            return false;
        }
        let first = rank(&self.view, &self.shared, room).take(NODES);
        let nodes = first.map(|node| node.facts.id.clone()).collect();
        self.claims.probes.ask(now, room, nodes)
    }

    /// The directory does not say where `room` is; what do the nodes say?
    fn word(&mut self, now: Time, room: &RoomName, claim: &Claim) -> Word {
        if claim.asks.is_empty() || !self.probe(now, room) {
            return Word::Nobody;
        }
        let probes = &mut self.claims.probes;
        let Some(question) = probes.by_room.get_mut(room) else { return Word::Nobody };
        if question.found.is_none() && !question.waiting.is_empty() && now < question.until {
            question.claim = Some(claim.clone());
            return Word::Waits;
        }
        let found = probes.end(room).and_then(|question| question.found);
        found.map_or(Word::Nobody, Word::At)
    }

    /// The directory does not say where `room` is, or not in time.
    pub(super) fn claim_without(
        &mut self,
        now: Time,
        room: &RoomName,
        claim: Claim,
        out: &mut Vec<Output>,
    ) {
        match self.word(now, room, &claim) {
            Word::Waits => {}
            Word::Nobody => self.place_without(now, room, claim, out),
            Word::At(home) => {
                let keeps = self.view.node(&home.node).is_some_and(|node| node.keeps(room));
                if keeps && home.generation >= self.view.next_generation(room) {
                    self.claims.probes.found += 1;
                    self.claimed(now, room, home, claim.asks, out);
                } else {
                    self.view.fence(now, room, home.generation);
                    self.place_without(now, room, claim, out);
                }
            }
        }
    }

    /// A claim that the directory does not take at all. `false`: nobody is asked, it is placed at once.
    pub(super) fn claim_by_probe(&mut self, now: Time, room: &RoomName, claim: &Claim) -> bool {
        matches!(self.word(now, room, claim), Word::Waits)
    }

    /// A node has answered.
    pub(crate) fn probed(
        &mut self,
        now: Time,
        node: &NodeId,
        probed: Probed,
        out: &mut Vec<Output>,
    ) {
        let probes = &mut self.claims.probes;
        let Some(room) = probes.by_number.get(&probed.number).cloned() else { return };
        let Some(question) = probes.by_room.get_mut(&room) else { return };
        if !question.waiting.remove(node) {
            return;
        }
        if let Some(generation) = probed.generation {
            let better = |found: &Home| (found.generation, node) > (generation, &found.node);
            if !question.found.as_ref().is_some_and(better) {
                question.found = Some(Home { node: node.clone(), generation });
            }
        }
        if let Some(claim) = question.claim.take() {
            self.decide(now, &room, claim, out);
        }
    }

    fn decide(&mut self, now: Time, room: &RoomName, claim: Claim, out: &mut Vec<Output>) {
        if self.has_home(room) {
            // The room's own node was faster.
            self.claims.probes.end(room);
            self.claims.note(room);
            return self.look_again(now, claim.asks, out);
        }
        self.claim_without(now, room, claim, out);
    }

    /// Asks what is due to be asked, and gives up waiting where it has been long enough.
    pub(super) fn wake_probes(&mut self, now: Time, out: &mut Vec<Output>) {
        while self.claims.probes.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, room)) = self.claims.probes.due.pop_first()
        {
            let waits = self.claims.pending.get(&room).filter(|claim| !claim.asks.is_empty());
            if waits.is_some() {
                self.probe(now, &room);
            }
        }
        while self.claims.probes.ends.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, room)) = self.claims.probes.ends.pop_first()
        {
            let question = self.claims.probes.by_room.get_mut(&room);
            if let Some(claim) = question.and_then(|question| question.claim.take()) {
                self.decide(now, &room, claim, out);
            }
        }
    }
}

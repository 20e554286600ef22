//! Clients that want in: one node after the other is asked, under one budget, until one takes the client.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use outlast_control::{PlaceError, Placement, Policy, Spread, place};
use outlast_model::{Generation, Identity, NodeId, RegionName, RoomName, Time};

use crate::{AskId, Goal, NodeRefusal, Output, Role, Unplaced, claims::Claimed};

/// From the request to the node's answer. A frozen node is given up after 2 s, and the next one wants a second; SDKs wait
/// five or fifteen.
pub const REACH_MAX: Duration = Duration::from_millis(3_500);
/// Most clients that wait for a place at a time. More: a herd holds memory; fewer: clients of a large region are turned away.
pub const ASKS_MAX: usize = 8_192;
/// Of them those who join: the rest is for those who resume, whose media is up still.
pub const JOINS_MAX: usize = 6_144;
/// Between two looks at the view, or two tries of the same node.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause after the refusal of a room's home: it will have said why in its next beat.
const HOME_PAUSE: Duration = Duration::from_millis(200);
/// How often a room's home may refuse a client before it hears of it.
const HOME_REFUSALS_MAX: u32 = 4;
/// Least time after which a client that was not placed may try again.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// Jitter on top of it. It reaches clients in whole seconds.
const RETRY_AFTER_JITTER: Duration = Duration::from_secs(3);

/// What a client wants.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) room: RoomName,
    pub(crate) client: Identity,
    pub(crate) goal: Goal,
    /// The region that it is near, where that is known.
    pub(crate) near: Option<RegionName>,
}

/// One client that wants in.
#[derive(Clone, Debug)]
struct Ask {
    room: RoomName,
    client: Identity,
    goal: Goal,
    near: Option<RegionName>,
    tried: Vec<NodeId>,
    refusals: u32,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Looks at the view again then.
    Looking(Time),
    /// Its room is being claimed.
    Claiming,
    /// This node has been asked.
    Going { node: NodeId, generation: Generation, home: bool },
}

/// All clients that want in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asks {
    asks: BTreeMap<AskId, Ask>,
    /// By the end of their budget; who is not waiting any more is passed over.
    order: VecDeque<(Time, AskId)>,
    looking: BTreeSet<(Time, AskId)>,
    by_room: BTreeSet<(RoomName, AskId)>,
}

impl Asks {
    pub(crate) fn len(&self) -> usize {
        self.asks.len()
    }

    pub(crate) fn wake_at(&self) -> Option<Time> {
        let looking = self.looking.first().map(|(at, _)| *at);
        Time::first([looking, self.order.front().map(|(at, _)| *at)])
    }

    /// The nodes that have refused a client.
    pub(crate) fn tried(&self, id: AskId) -> &[NodeId] {
        self.asks.get(&id).map_or(&[], |ask| &ask.tried)
    }

    fn near(&self, id: AskId) -> Option<&RegionName> {
        self.asks.get(&id)?.near.as_ref()
    }

    fn insert(&mut self, now: Time, id: AskId, wish: Wish) {
        let Wish { room, client, goal, near } = wish;
        self.by_room.insert((room.clone(), id));
        let state = State::Looking(now);
        let ask = Ask { room, client, goal, near, tried: Vec::new(), refusals: 0, state };
        self.asks.insert(id, ask);
        self.looking.insert((now, id));
        self.order.push_back((now + REACH_MAX, id));
    }

    fn set(&mut self, id: AskId, state: State) {
        let Some(ask) = self.asks.get_mut(&id) else { return };
        if let State::Looking(at) = ask.state {
            self.looking.remove(&(at, id));
        }
        if let State::Looking(at) = state {
            self.looking.insert((at, id));
        }
        ask.state = state;
    }

    fn remove(&mut self, id: AskId) -> Option<Ask> {
        let ask = self.asks.remove(&id)?;
        if let State::Looking(at) = ask.state {
            self.looking.remove(&(at, id));
        }
        self.by_room.remove(&(ask.room.clone(), id));
        while self.order.pop_front_if(|(_, id)| !self.asks.contains_key(id)).is_some() {}
        Some(ask)
    }

    /// Those who wait for `room`.
    fn of_room(&self, room: &RoomName) -> impl Iterator<Item = (AskId, &Ask)> {
        let of_room = self.by_room.range((room.clone(), AskId(0))..);
        let of_room = of_room.take_while(move |(other, _)| other == room);
        of_room.filter_map(|(_, id)| Some((*id, self.asks.get(id)?)))
    }

    /// Those who have asked `node`.
    fn going_to(&self, node: &NodeId) -> Vec<AskId> {
        let going = self
            .asks
            .iter()
            .filter(|(_, ask)| matches!(&ask.state, State::Going { node: to, .. } if to == node));
        going.map(|(id, _)| *id).collect()
    }
}

impl Role {
    pub(crate) fn ask(&mut self, now: Time, id: AskId, wish: Wish, out: &mut Vec<Output>) {
        let most = if wish.goal == Goal::Resume { ASKS_MAX } else { JOINS_MAX };
        if self.draining || self.asks.len() >= most {
            self.say_unplaced(id, Unplaced::Shed, out);
            return;
        }
        self.asks.insert(now, id, wish);
        self.look(now, id, out);
    }

    /// Finds the next node to be asked, or waits, or gives up.
    pub(crate) fn look(&mut self, now: Time, id: AskId, out: &mut Vec<Output>) {
        let Some(ask) = self.asks.asks.get(&id) else { return };
        if !self.is_known(&ask.room) && !self.settled(now) {
            self.asks.set(id, State::Looking(now + PAUSE));
            return;
        }
        match ask.goal {
            Goal::Join if let Some(placement) = self.hinted(&ask.room) => {
                self.go(id, placement, out)
            }
            Goal::Resume => match self.resume(&ask.room) {
                Ok(placement) => self.go(id, placement, out),
                Err(_) => self.unplaced(id, Unplaced::Gone, out),
            },
            Goal::Join => match self.place_for(&ask.room, Some(id)) {
                Ok(placement) if placement.home || self.is_planned(&ask.room, &placement) => {
                    self.go(id, placement, out);
                }
                Ok(placement) => {
                    let room = ask.room.clone();
                    self.asks.set(id, State::Claiming);
                    match self.claim(now, &room, &placement.node, placement.generation, Some(id)) {
                        Claimed::Here => self.go(id, placement, out),
                        Claimed::Asked => self.flush_callers(now, out),
                        Claimed::Waits => {}
                    }
                }
                Err(PlaceError::NoNode) => self.asks.set(id, State::Looking(now + PAUSE)),
                Err(PlaceError::AllTried) => self.unplaced(id, Unplaced::NoNode, out),
            },
        }
    }

    /// The place for `room` as the client of `ask` is to have it: near that client, and not where it has been refused.
    pub(crate) fn place_for(
        &self,
        room: &RoomName,
        ask: Option<AskId>,
    ) -> Result<Placement, PlaceError> {
        let (policy, tried) = (self.policy(room), ask.map_or(&[][..], |id| self.asks.tried(id)));
        let near = ask.and_then(|id| self.asks.near(id));
        match (near, &policy.spread) {
            (Some(near), Spread::Nearest(order)) => {
                let order = [near].into_iter().chain(order).cloned().collect();
                let policy = Policy { spread: Spread::Nearest(order), ..*policy };
                place(&self.view, &policy, room, tried)
            }
            _ => place(&self.view, policy, room, tried),
        }
    }

    fn is_planned(&self, room: &RoomName, placement: &Placement) -> bool {
        self.view.planned(room).is_some_and(|planned| {
            planned.node == placement.node && planned.generation == placement.generation
        })
    }

    pub(crate) fn go(&mut self, id: AskId, placement: Placement, out: &mut Vec<Output>) {
        let Some(ask) = self.asks.asks.get(&id) else { return };
        let draining = self.view.node(&placement.node).is_some_and(|node| node.draining);
        let settings = self.view.settings_for(&ask.room, &placement).cloned();
        // Whoever resumes is still there, with all that it may do.
        let joins = ask.goal == Goal::Join;
        let ruling = joins.then(|| self.view.ruling(&ask.room, &ask.client).cloned()).flatten();
        let Placement { node, generation, home } = placement.clone();
        let same = State::Going { node, generation, home };
        if ask.state == same {
            return;
        }
        self.asks.set(id, same);
        out.push(Output::Go { ask: id, placement, nowhere_else: draining, settings, ruling });
    }

    pub(crate) fn refused(
        &mut self,
        now: Time,
        id: AskId,
        why: NodeRefusal,
        out: &mut Vec<Output>,
    ) {
        let Some((room, node, home)) = self.going(id) else { return };
        if let NodeRefusal::Stale(known) = why {
            self.stale(now, id, known, out);
        } else if home || self.is_at(&room, &node) {
            self.look_later(id, now + HOME_PAUSE, out);
        } else {
            self.next_node(now, id, out);
        }
    }

    /// The node knows `known` of the room, and what this gateway has sent the client with is out of date.
    fn stale(&mut self, now: Time, id: AskId, known: Generation, out: &mut Vec<Output>) {
        let Some(Ask { room, goal, state: State::Going { node, generation, .. }, .. }) =
            self.asks.asks.get(&id).cloned()
        else {
            return;
        };
        if goal == Goal::Resume && known <= generation {
            // The room is not there, and the client's session with it.
            return self.unplaced(id, Unplaced::Gone, out);
        }
        // Another gateway has placed it, and this one has heard of that, or is about to.
        let heard = self.view.home(&room).is_some_and(|home| home.generation >= known);
        // A plan counts as a generation in use: it goes first, or what it was refused for is not remembered.
        self.view.unplan(&room, &node);
        self.hints.forget(&room);
        self.view.fence(now, &room, known);
        self.look_later(id, if heard { now } else { now + HOME_PAUSE }, out);
    }

    /// The room's home has refused: it will say more soon, or have room for another.
    fn look_later(&mut self, id: AskId, at: Time, out: &mut Vec<Output>) {
        let Some(ask) = self.asks.asks.get_mut(&id) else { return };
        ask.refusals += 1;
        if ask.refusals >= HOME_REFUSALS_MAX {
            self.unplaced(id, Unplaced::NoNode, out);
        } else {
            self.asks.set(id, State::Looking(at));
        }
    }

    /// Whether `room` lives at `node`, by what the node has said or by who was let in there.
    fn is_at(&self, room: &RoomName, node: &NodeId) -> bool {
        self.view.home(room).is_some_and(|home| home.node == *node) || self.has_session(room, node)
    }

    pub(crate) fn unreached(&mut self, now: Time, id: AskId, out: &mut Vec<Output>) {
        let Some((room, node, home)) = self.going(id) else { return };
        if home || self.is_at(&room, &node) {
            self.asks.set(id, State::Looking(now + PAUSE));
        } else {
            self.next_node(now, id, out);
        }
    }

    /// Where a client has been sent to: its room, the node, and whether that is the room's home.
    pub(crate) fn going(&self, id: AskId) -> Option<(RoomName, NodeId, bool)> {
        let ask = self.asks.asks.get(&id)?;
        let State::Going { node, home, .. } = &ask.state else { return None };
        Some((ask.room.clone(), node.clone(), *home))
    }

    /// The node that was asked does not take the client, and has not had the room so far.
    fn next_node(&mut self, now: Time, id: AskId, out: &mut Vec<Output>) {
        let Some(ask) = self.asks.asks.get_mut(&id) else { return };
        let State::Going { node, generation, .. } = ask.state.clone() else { return };
        ask.tried.push(node.clone());
        let room = ask.room.clone();
        self.view.unplan(&room, &node);
        // It may have let in this client or another one all the same: whoever is asked next comes before it.
        self.view.fence(now, &room, generation);
        self.asks.set(id, State::Looking(now));
        self.look(now, id, out);
    }

    pub(crate) fn withdrawn(&mut self, id: AskId) {
        self.asks.remove(id);
    }

    /// The room of these clients has been claimed, or could not be.
    pub(crate) fn look_again(&mut self, now: Time, ids: Vec<AskId>, out: &mut Vec<Output>) {
        for id in ids {
            if self.is_claiming(id) {
                self.look(now, id, out);
            }
        }
    }

    pub(crate) fn is_claiming(&self, id: AskId) -> bool {
        self.asks.asks.get(&id).is_some_and(|ask| ask.state == State::Claiming)
    }

    /// Something has changed about `node`: who waits for it may have somewhere better to go.
    pub(crate) fn reconsider(&mut self, now: Time, node: &NodeId, out: &mut Vec<Output>) {
        for id in self.asks.going_to(node) {
            let Some(ask) = self.asks.asks.get(&id) else { continue };
            let better = match ask.goal {
                Goal::Resume => self.resume(&ask.room).map(|placement| placement.node != *node),
                // Nowhere better to go is no reason to stop waiting here.
                Goal::Join => Ok(self
                    .place_for(&ask.room, Some(id))
                    .is_ok_and(|placement| placement.node != *node)),
            };
            if better.unwrap_or(true) {
                self.look(now, id, out);
            }
        }
    }

    /// A node is back, or takes rooms again: who waits for one that is down, because there was no other, may go there.
    pub(crate) fn reconsider_stranded(&mut self, now: Time, out: &mut Vec<Output>) {
        let going = self.asks.asks.values().filter_map(|ask| match &ask.state {
            State::Going { node, .. } => Some(node),
            State::Looking(_) | State::Claiming => None,
        });
        let dead: BTreeSet<NodeId> = going.filter(|node| !self.lives(node)).cloned().collect();
        for node in dead {
            self.reconsider(now, &node, out);
        }
    }

    /// Who waits for `room` elsewhere looks again: it has another home.
    pub(crate) fn reconsider_room(&mut self, now: Time, room: &RoomName, out: &mut Vec<Output>) {
        let Some(home) = self.view.home(room) else { return };
        let elsewhere = |state: &State| {
            matches!(state, State::Going { node, generation, .. }
                if *node != home.node
                    && (*generation, &home.node) < (home.generation, node))
        };
        let waiting = self.asks.of_room(room).filter(|(_, ask)| elsewhere(&ask.state));
        let ids: Vec<_> = waiting.map(|(id, _)| id).collect();
        for id in ids {
            self.look(now, id, out);
        }
    }

    pub(crate) fn wake_asks(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some((_, id)) = self.asks.order.pop_front_if(|(at, _)| *at <= now) {
            self.unplaced(id, Unplaced::NoNode, out);
        }
        if self.asks.looking.first().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let settled = self.settled(now);
        while let Some((_, id)) = self.asks.looking.first().copied().filter(|(at, _)| *at <= now) {
            if settled || self.wants_known(id) {
                self.look(now, id, out);
            } else {
                self.asks.set(id, State::Looking(now + PAUSE));
            }
        }
    }

    fn wants_known(&self, id: AskId) -> bool {
        self.asks.asks.get(&id).is_some_and(|ask| self.is_known(&ask.room))
    }

    fn unplaced(&mut self, id: AskId, why: Unplaced, out: &mut Vec<Output>) {
        if self.asks.remove(id).is_some() {
            self.say_unplaced(id, why, out);
        }
    }

    fn say_unplaced(&mut self, ask: AskId, why: Unplaced, out: &mut Vec<Output>) {
        let retry_after = RETRY_AFTER_MIN + self.jitter.within(RETRY_AFTER_JITTER);
        out.push(Output::Unplaced { ask, why, retry_after });
    }
}

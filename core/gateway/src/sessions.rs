//! The signalling sockets that this gateway carries, and who of their clients is told to come back.

use std::collections::{BTreeMap, BTreeSet};

use outlast_control::{Health, Home, Plan, check, plan};
use outlast_model::{NodeId, RoomName, SessionId, Time};

use crate::{
    AskId, Output, Role, Session, Why, breaks::BREAK_WAIT, claims::Claimed, nodes::Stream,
};

/// One session, and since when.
struct Seat {
    at: Session,
    opened_at: Time,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Seats {
    seats: BTreeMap<SessionId, Seat>,
    by_room: BTreeSet<(RoomName, SessionId)>,
    /// By node, then by room.
    by_node: BTreeMap<NodeId, BTreeSet<(RoomName, SessionId)>>,
}

impl Seats {
    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.seats.get(&id).map(|seat| &seat.at)
    }

    fn insert(&mut self, now: Time, id: SessionId, at: Session) {
        let key = (at.room.clone(), id);
        self.by_node.entry(at.node.clone()).or_default().insert(key.clone());
        self.by_room.insert(key);
        self.seats.insert(id, Seat { at, opened_at: now });
    }

    fn remove(&mut self, id: SessionId) -> Option<Session> {
        let Seat { at, .. } = self.seats.remove(&id)?;
        let key = (at.room.clone(), id);
        self.by_room.remove(&key);
        if let Some(here) = self.by_node.get_mut(&at.node) {
            here.remove(&key);
            if here.is_empty() {
                self.by_node.remove(&at.node);
            }
        }
        Some(at)
    }

    pub(crate) fn of_room(&self, room: &RoomName) -> impl Iterator<Item = SessionId> {
        of_room(&self.by_room, room)
    }

    /// Room by room.
    fn at_node(&self, node: &NodeId) -> impl Iterator<Item = &(RoomName, SessionId)> {
        self.by_node.get(node).into_iter().flatten()
    }
}

fn of_room(
    keys: &BTreeSet<(RoomName, SessionId)>,
    room: &RoomName,
) -> impl Iterator<Item = SessionId> {
    let from = keys.range((room.clone(), SessionId(0))..);
    from.take_while(move |(other, _)| other == room).map(|(_, id)| *id)
}

impl Role {
    /// Whether a client of this gateway was let into `room` at `node`.
    pub(crate) fn has_session(&self, room: &RoomName, node: &NodeId) -> bool {
        let here = self.sessions.by_node.get(node);
        here.is_some_and(|here| of_room(here, room).next().is_some())
    }

    pub(crate) fn opened(&mut self, now: Time, id: SessionId, ask: AskId, session: Session) {
        self.withdrawn(ask);
        let down = !self.lives(&session.node);
        let follow = self.must_follow(now, &session);
        let room = session.room.clone();
        self.sessions.insert(now, id, session);
        // The world went on while the node was thinking.
        if self.draining {
            self.pace.push(id, Why::GatewayLeaving);
        } else if down {
            self.pace.push(id, Why::NodeDown);
        } else if let Some(follow) = follow {
            self.follow(now, id, &room, follow);
        }
    }

    /// A client's own socket to the node broke: the node may have ended this one session, or be gone. The node is only under
    /// suspicion when several did, or its room stream as well. The client hears of it when the rest has had time to break.
    pub(crate) fn link_lost(&mut self, now: Time, id: SessionId, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.get(id) else { return };
        self.broken.push_back((now + BREAK_WAIT, id));
        let node = session.node.clone();
        let Some(state) = self.nodes.get_mut(&node) else { return };
        let several = state.breaks.add(now, &session.client);
        if several || matches!(state.stream, Stream::Lost) {
            let change = state.watch.link_lost(now);
            self.turn(now, &node, change, out);
        }
    }

    /// What to tell a session whose connection broke.
    fn why_broken(&self, session: &Session) -> Why {
        let fine = self.nodes.get(&session.node).is_some_and(|state| {
            // Alive: beats are fresh, and nothing speaks against the node.
            state.watch.health() == Health::Alive && state.is_followed()
        });
        if fine { Why::LinkReset } else { Why::LinkLost }
    }

    pub(crate) fn closed(&mut self, id: SessionId) {
        if self.sessions.remove(id).is_some() {
            self.outcomes.closed(id);
            self.pace.forget(id);
        }
    }

    pub(crate) fn wake_sessions(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some((_, id)) = self.broken.pop_front_if(|(due, _)| *due <= now) {
            if let Some(session) = self.sessions.get(id) {
                self.pace.push(id, self.why_broken(session));
            }
        }
        self.set_pace(now);
        while let Some((session, mut why)) = self.pace.pop(now) {
            if let (Why::LinkReset, Some(at)) = (why, self.sessions.get(session)) {
                // The node may have died while the session waited for its turn.
                why = self.why_broken(at);
            }
            self.told[why.index()] += 1;
            out.push(Output::Tell { session, why });
        }
        if self.draining && !self.drained && self.sessions.len() + self.asks.len() == 0 {
            self.drained = true;
            out.push(Output::Drained);
        }
    }

    /// Everybody is told. Room by room, and rooms in the same order at every gateway: who is told moves the room, and the
    /// others of it are to follow at once.
    pub(crate) fn tell_all(&mut self, why: Why) {
        for (_, id) in &self.sessions.by_room {
            self.pace.push(*id, why);
        }
    }

    /// Everybody at `node` is told.
    pub(crate) fn tell_node(&mut self, node: &NodeId, why: Why) {
        for (_, id) in self.sessions.at_node(node) {
            self.pace.push(*id, why);
        }
    }

    /// Whoever came to `node` up to `until` is told.
    pub(crate) fn tell_older(&mut self, node: &NodeId, until: Time, why: Why) {
        for (_, id) in self.sessions.at_node(node) {
            if self.sessions.seats.get(id).is_some_and(|seat| seat.opened_at <= until) {
                self.pace.push(*id, why);
            }
        }
    }

    /// Whoever came to `node` up to `until` is told whose room is none of those that it has `named` since: it came to an earlier start,
    /// after its last beat.
    pub(crate) fn tell_left_behind(
        &mut self,
        node: &NodeId,
        until: Time,
        named: &BTreeSet<RoomName>,
    ) {
        for (room, id) in self.sessions.at_node(node) {
            let came = self.sessions.seats.get(id).is_some_and(|seat| seat.opened_at <= until);
            if came && !named.contains(room) {
                self.pace.push(*id, Why::NodeRestarted);
            }
        }
    }

    /// The rooms of `node` with sessions here get new homes, and the sessions are told.
    pub(crate) fn rehome(&mut self, node: &NodeId, why: Why) {
        for (room, _) in self.sessions.at_node(node) {
            if !self.moving.contains(room) {
                self.moving.insert(room.clone());
            }
        }
        self.tell_node(node, why);
    }

    /// Claims new homes for rooms that have lost theirs, before their clients ask: one claim a room, however many come.
    pub(crate) fn wake_moves(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.moving.is_empty() || self.move_at > now {
            return;
        }
        self.move_at = now + crate::role::MOVE_INTERVAL;
        let moving = std::mem::take(&mut self.moving);
        let (arbitrated, shared): (BTreeSet<_>, BTreeSet<_>) =
            moving.into_iter().partition(|room| self.policy(room).arbitrated);
        for mut rooms in [arbitrated, shared] {
            let Some(first) = rooms.first() else { continue };
            let plan = plan(&self.view, self.policy(first), &rooms);
            let left = match check(&plan, &self.view) {
                Ok(()) => self.carry_out(now, &plan, out),
                // The clients' own joins place them one by one.
                Err(_) => {
                    self.flaws += 1;
                    None
                }
            };
            // What the plan has passed over is fine, or finds no node; its clients will say.
            self.moving.extend(left.into_iter().flat_map(|left| rooms.split_off(&left)));
        }
        self.flush_callers(now, out);
    }

    /// Returns the first room that has to wait for the next plan.
    fn carry_out(&mut self, now: Time, plan: &Plan, out: &mut Vec<Output>) -> Option<RoomName> {
        for step in &plan.moves {
            if self.claims.is_pending(&step.room) {
                continue;
            }
            if !self.claims.takes_move() {
                return Some(step.room.clone());
            }
            self.moves += 1;
            if self.claim(now, &step.room, &step.to, step.generation, None) == Claimed::Here {
                let home = Home { node: step.to.clone(), generation: step.generation };
                self.tell_raised(&step.room, &home, out);
            }
        }
        // A full plan may have left some out.
        let full = plan.moves.len() >= outlast_control::MOVES_PER_TICK_MAX;
        plan.moves.last().filter(|_| full).map(|step| step.room.clone())
    }
}

/// Whether a session is not at the home that counts. Its own placement may be newer than what its node's stream has said so
/// far.
pub(crate) fn is_superseded(session: &Session, home: &Home) -> bool {
    home.node != session.node && (home.generation, &session.node) > (session.generation, &home.node)
}

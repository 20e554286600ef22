//! Rooms that more than one node holds: who makes way for whom, and when nobody does yet.
//!
//! A gateway that hears both homes tells the older one to make way. While some other gateway hears one of them alone, that
//! does not last: its clients cannot follow, it opens the room anew where they were, under a higher generation, and now the
//! other home makes way, to and fro. So both are left alone while the regions are known to be parted, or when it happens.

use std::{collections::BTreeMap, time::Duration};

use outlast_control::{Health, Home};
use outlast_model::{NodeId, RegionName, RoomName, SessionId, Time};
use outlast_wire::Steer;

use crate::{Output, Role, Session, Why, nodes::Stream, sessions::is_superseded};

/// After a pause of so long streams may have broken without the end of them having come through.
pub(crate) const LONG_PAUSE: Duration = Duration::from_secs(10);
/// By then one that has broken is noticed: a ping more is not answered.
pub(crate) const PROVEN_AFTER: Duration = Duration::from_secs(4);
/// Span between two looks at rooms that could not be made one.
const UNITE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a room is left at homes in two regions for the sake of a gateway there that has fewer nodes than this one.
const PATIENCE: Duration = Duration::from_secs(3);
/// A node that has the room again so soon after it made way was given it by somebody who does not reach the home.
const FEUD_SPAN: Duration = Duration::from_secs(10);
/// How long both keep it then, at least; twice as long with each further time. Shorter: people are moved to and fro.
const FEUD_MIN: Duration = Duration::from_secs(2);
/// And at most, unless every gateway concerned sees as much as this one before.
const FEUD_MAX: Duration = Duration::from_secs(30);
/// After so long without another time it begins anew.
const FEUD_FORGOTTEN: Duration = Duration::from_secs(60);

/// Who was told to make way, and where that did not last.
#[derive(Debug, Default)]
pub(crate) struct Feuds {
    /// By room: the node told last, and when; those of the last [`FEUD_SPAN`].
    steered: BTreeMap<RoomName, (NodeId, Time)>,
    feuds: BTreeMap<RoomName, Feud>,
    /// Since when rooms are known to have two homes that could not be made one.
    since: BTreeMap<RoomName, Time>,
}

#[derive(Clone, Copy, Debug)]
struct Feud {
    returned_at: Time,
    times: u32,
}

impl Feud {
    /// Whether both homes are left alone; with `calm` everybody concerned sees as much as this gateway.
    fn is_on(self, now: Time, calm: impl FnOnce() -> bool) -> bool {
        let span = now.since(self.returned_at);
        let least = FEUD_MIN.saturating_mul(1 << self.times.min(5)).min(FEUD_MAX);
        span < least || (span < FEUD_MAX && !calm())
    }
}

impl Feuds {
    fn told(&mut self, now: Time, room: &RoomName, node: &NodeId) {
        self.steered.insert(room.clone(), (node.clone(), now));
    }

    /// Whether `node` has had to give `room` away a moment ago.
    fn has_made_way(&self, now: Time, room: &RoomName, node: &NodeId) -> bool {
        let told = self.steered.get(room);
        told.is_some_and(|(told, at)| told == node && now.since(*at) < FEUD_SPAN)
    }

    /// `node` has `room` anew, while its home is elsewhere.
    fn returned(&mut self, now: Time, room: &RoomName, node: &NodeId) {
        if self.has_made_way(now, room, node) {
            let times = self.feuds.get(room).map_or(0, |feud| feud.times + 1);
            self.feuds.insert(room.clone(), Feud { returned_at: now, times });
        }
    }

    fn is_empty(&self) -> bool {
        self.steered.is_empty() && self.feuds.is_empty()
    }

    fn forget(&mut self, now: Time) {
        self.steered.retain(|_, (_, at)| now.since(*at) < FEUD_SPAN);
        self.feuds.retain(|_, feud| now.since(feud.returned_at) < FEUD_FORGOTTEN);
    }
}

/// What a session that is not at its room's home is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Go there.
    Now,
    /// Wait for the home's node, which is down, or has not answered since this process stood still.
    WhenBack,
    /// Wait until the homes can be made one.
    WhenTogether,
}

impl Role {
    /// Tells those who hold `room` and are not its home: `node` that has just named it, and with `news` the others too. Of
    /// two with one generation the home gets the next: whoever ends the other must not end this one.
    pub(crate) fn steer(
        &mut self,
        now: Time,
        node: &NodeId,
        room: &RoomName,
        news: bool,
        out: &mut Vec<Output>,
    ) {
        let [Home { node: winner, generation }, losers @ ..] = self.view.hosts(room) else {
            return;
        };
        if losers.is_empty() {
            return;
        }
        // A home that is gone takes nobody in; the room is about to get another, or it comes back. Two that live do not wait
        // for that, though nobody here was at the one that is gone.
        if !self.reigns(winner) {
            let living = losers.iter().filter(|home| self.lives(&home.node));
            if living.count() > 1 && !self.lives(winner) {
                self.moving.insert(room.clone());
            }
            self.split.insert(room.clone());
            return;
        }
        if self.is_unproven(now, room, winner) {
            return self.leave_apart(now, room);
        }
        let tie = losers.iter().any(|loser| loser.generation == *generation);
        let generation = if tie { generation.next() } else { *generation };
        let told = |home: &&Home| news || home.node == *node;
        // Nor is one told whom this gateway does not hear: others may, and it may be where people cannot follow.
        let heard = |home: &&Home| self.reigns(&home.node);
        let (told, unheard): (Vec<_>, Vec<_>) = losers.iter().filter(told).partition(heard);
        let stays = |home: &&Home| self.may_stay(now, room, &home.node, winner);
        let (islands, told): (Vec<_>, Vec<_>) = told.into_iter().partition(stays);
        let steer = |to: &NodeId| {
            let steer = Steer { room: room.clone(), generation, node: winner.clone() };
            Output::Steer { node: to.clone(), steer }
        };
        let raised = tie && !told.is_empty();
        out.extend(told.iter().map(|told| steer(&told.node)));
        if raised {
            out.push(steer(winner));
        }
        if !unheard.is_empty() {
            self.split.insert(room.clone());
        }
        let (told, apart) = (told.last().map(|told| told.node.clone()), !islands.is_empty());
        if let Some(told) = told {
            self.makes_way(now, room, &told);
        }
        if apart {
            self.leave_apart(now, room);
        }
    }

    /// `node` has `room` under a generation that was not known. When it made way a moment ago, for a home that still has
    /// it, somebody has given it the room who does not reach that home, and would again.
    pub(crate) fn look_for_feud(&mut self, now: Time, node: &NodeId, room: &RoomName) {
        if self.feuds.has_made_way(now, room, node) {
            self.view.entrust(node, room);
        }
        if let [home, others @ ..] = self.view.hosts(room)
            && home.node == *node
            && others.iter().any(|other| self.lives(&other.node))
        {
            self.feuds.returned(now, room, node);
        }
    }

    /// `room` gets a new home, `to`. When it leaves one that is ejected, others may not have found that one wanting: if they
    /// give the room back, it stays there.
    pub(crate) fn take_away(&mut self, now: Time, room: &RoomName, to: &NodeId) {
        let Some(Home { node, .. }) = self.view.home(room) else { return };
        if node != to && self.view.node(node).is_some_and(|node| node.ejected) {
            self.makes_way(now, room, &node.clone());
        }
    }

    /// `room` is to be at `home`. When that node has it already, beside others, it is told the number that makes it count, or it
    /// would be one of several until somebody comes.
    pub(crate) fn tell_raised(&self, room: &RoomName, home: &Home, out: &mut Vec<Output>) {
        let hosts = self.view.hosts(room);
        let older = |host: &Home| host.node == home.node && host.generation < home.generation;
        if hosts.len() > 1 && hosts.iter().any(older) && self.reigns(&home.node) {
            let Home { node, generation } = home.clone();
            let steer = Steer { room: room.clone(), generation, node: node.clone() };
            out.push(Output::Steer { node, steer });
        }
    }

    /// Whether `room` is left at `node` although its home is another: people who are there could not follow it.
    fn may_stay(&self, now: Time, room: &RoomName, node: &NodeId, home: &NodeId) -> bool {
        let (Some(here), Some(there)) = (self.region_of(node), self.region_of(home)) else {
            return false;
        };
        let calm = || self.outlooks.see_as_much(now, [here, there], self.shrink.alive());
        if self.feuds.feuds.get(room).is_some_and(|feud| feud.is_on(now, calm)) {
            return true;
        }
        if here == there {
            return false;
        }
        // After a heal some hear the other region before others do.
        let since = self.feuds.since.get(room).copied().unwrap_or(now);
        let waits = now.since(since) < PATIENCE && !calm();
        waits || self.outlooks.are_parted(now, &self.regions, here, there)
    }

    /// `node` is not the home of `room` any more, as far as this gateway can bring that about.
    fn makes_way(&mut self, now: Time, room: &RoomName, node: &NodeId) {
        self.watch_splits(now);
        self.feuds.told(now, room, node);
    }

    /// There is, or was, nothing to look at again: the next look is a whole interval away.
    fn watch_splits(&mut self, now: Time) {
        if self.splits_wake_at().is_none() {
            self.unite_at = now + UNITE_INTERVAL;
        }
    }

    /// `room` has two homes for now, and is looked at again soon.
    fn leave_apart(&mut self, now: Time, room: &RoomName) {
        self.watch_splits(now);
        self.feuds.since.entry(room.clone()).or_insert(now);
        self.apart.insert(room.clone());
    }

    fn region_of(&self, node: &NodeId) -> Option<&RegionName> {
        self.view.node(node).map(|node| &node.facts.region)
    }

    pub(crate) fn lives(&self, node: &NodeId) -> bool {
        self.view.node(node).is_some_and(|node| node.health != Health::Down)
    }

    /// Whether others may be told to make way for `node`: it lives, and it has been heard since this process stood still
    /// last. What the view says of nodes is as old as that, until they have answered.
    pub(crate) fn reigns(&self, node: &NodeId) -> bool {
        self.lives(node)
            && self.nodes.get(node).is_some_and(|state| state.echoed >= self.resumed_at)
    }

    /// Whether that `node` has `room` may be over: it has missed beats, and may be dead, so that who made way for it would have
    /// to go on; its room stream is broken, and nobody knows what it would have said; it is naming its rooms again, and has not
    /// named this one; or this process has stood still for so long that the stream may have broken on the way, without the
    /// last words on it, and has run for a moment only.
    pub(crate) fn is_unproven(&self, now: Time, room: &RoomName, node: &NodeId) -> bool {
        if self.view.node(node).is_some_and(|node| node.health == Health::Suspect) {
            return true;
        }
        match self.nodes.get(node).map(|state| &state.stream) {
            Some(Stream::Never | Stream::Lost | Stream::Opened { .. }) | None => true,
            Some(Stream::Naming { named, .. }) => !named.contains(room),
            Some(Stream::Synced { since, .. }) => now < self.proven_at && *since < self.resumed_at,
        }
    }

    /// The sessions of `room` that are not at the home that counts follow it.
    pub(crate) fn supersede(&mut self, now: Time, room: &RoomName) {
        let ids: Vec<_> = self.sessions.of_room(room).collect();
        for id in ids {
            let session = self.sessions.get(id);
            if let Some(follow) = session.and_then(|session| self.must_follow(now, session)) {
                self.follow(now, id, room, follow);
            }
        }
    }

    /// A session is told to follow its room, or its room is looked at again.
    pub(crate) fn follow(&mut self, now: Time, id: SessionId, room: &RoomName, follow: Follow) {
        match follow {
            Follow::Now => self.pace.push(id, Why::Superseded),
            Follow::WhenBack => drop(self.split.insert(room.clone())),
            Follow::WhenTogether => self.leave_apart(now, room),
        }
    }

    /// Whether a session must follow its room to another home; `None` when it is there.
    pub(crate) fn must_follow(&self, now: Time, session: &Session) -> Option<Follow> {
        let Session { room, node, .. } = session;
        let home = self.view.home(room).filter(|home| is_superseded(session, home))?;
        if !self.reigns(&home.node) {
            return Some(Follow::WhenBack);
        }
        if self.is_unproven(now, room, &home.node) {
            return Some(Follow::WhenTogether);
        }
        let hosted = self.view.hosts(room).iter().any(|home| home.node == *node);
        let stays = hosted && self.may_stay(now, room, node, &home.node);
        Some(if stays { Follow::WhenTogether } else { Follow::Now })
    }

    /// A node is back, or has answered: rooms that wait for one are made one, if they can be now.
    pub(crate) fn unite(&mut self, now: Time, out: &mut Vec<Output>) {
        for room in std::mem::take(&mut self.split) {
            self.unite_room(now, &room, out);
        }
    }

    fn unite_room(&mut self, now: Time, room: &RoomName, out: &mut Vec<Output>) {
        if let Some(home) = self.view.home(room).cloned() {
            self.supersede(now, room);
            self.steer(now, &home.node, room, true, out);
        }
    }

    /// When rooms of two homes are looked at again.
    pub(crate) fn splits_wake_at(&self) -> Option<Time> {
        (!self.apart.is_empty() || !self.feuds.is_empty()).then_some(self.unite_at)
    }

    pub(crate) fn wake_splits(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.splits_wake_at().is_none_or(|at| at > now) {
            return;
        }
        self.unite_at = now + UNITE_INTERVAL;
        self.feuds.forget(now);
        for room in std::mem::take(&mut self.apart) {
            self.unite_room(now, &room, out);
        }
        self.feuds.since.retain(|room, _| self.apart.contains(room));
    }
}

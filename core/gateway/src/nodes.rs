//! What is heard of nodes and of other gateways, and what follows from it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use outlast_control::{Change, Ejection, Health, Home, Link, RegionChange, Seen, Watch};
use outlast_model::{BEAT_INTERVAL, Epoch, GatewayId, Identity, NodeId, RoomName, Time};
use outlast_wire::{Beat, Echo, Echoed, Outlook, RoomFrame};

use crate::{Output, Role, StreamEvent, Why, breaks::Breaks};

/// How long a dead node's rooms are kept as its own: whoever was in them has come back or given up by then.
const DOWN_KEPT: Duration = Duration::from_secs(120);

/// What this gateway keeps of a node beside the view.
#[derive(Default)]
pub(crate) struct NodeState {
    pub(crate) watch: Watch,
    pub(crate) heard_at: Time,
    /// The youngest stamp of this gateway that it has sent back.
    pub(crate) echoed: Time,
    /// The latest start that a beat or the room stream has told of: whatever an earlier one said is over.
    pub(crate) start: Option<Epoch>,
    /// It has started anew, and has not named its rooms since.
    pub(crate) renewed: bool,
    pub(crate) stream: Stream,
    pub(crate) rtt: Option<Duration>,
    pub(crate) breaks: Breaks,
    /// Since when the view has it down, while it has rooms.
    pub(crate) down_since: Option<Time>,
}

/// A node's room stream, `since` when it is open, and of which start of the node it is.
#[derive(Default)]
pub(crate) enum Stream {
    #[default]
    Never,
    Lost,
    /// Has not said of which start it is.
    Opened {
        since: Time,
    },
    Naming {
        since: Time,
        start: Epoch,
        named: BTreeSet<RoomName>,
        ruled: BTreeSet<(RoomName, Identity)>,
    },
    Synced {
        since: Time,
        start: Epoch,
    },
}

impl NodeState {
    /// Whether the room stream is open and of the node's latest start, as far as is known.
    pub(crate) fn is_followed(&self) -> bool {
        match self.stream {
            Stream::Naming { start, .. } | Stream::Synced { start, .. } => {
                Some(start) == self.start
            }
            Stream::Never | Stream::Lost | Stream::Opened { .. } => false,
        }
    }

    /// Whether all its rooms are known.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_followed() && matches!(self.stream, Stream::Synced { .. })
    }
}

/// What this gateway keeps of another one.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerState {
    /// The start and stamp heard last, and when.
    heard: Option<(Epoch, u64, Time)>,
}

impl Role {
    /// Returns whether it was news: whether anything is to be done because of it.
    pub(crate) fn beat(
        &mut self,
        now: Time,
        node: &NodeId,
        (epoch, sequence): (Epoch, u64),
        beat: &Beat,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(state) = self.nodes.get_mut(node) else { return false };
        if state.start.is_some_and(|known| epoch < known) {
            // Late, and of an earlier start.
            return false;
        }
        let echo = Echo { heard_epoch: epoch, heard_sequence: sequence, stamp: now.as_nanos() };
        out.push(Output::Echo { node: node.clone(), echo });
        let echoed = beat.echoed.filter(|echoed| echoed.epoch == self.epoch);
        if let Some(echoed) = echoed {
            let sample = now.since(Time::from_nanos(echoed.stamp)).saturating_sub(echoed.held);
            state.rtt = Some(state.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        }
        // Only a beat that has passed every shard says that media flows.
        if !beat.ticked {
            return false;
        }
        let stamp = echoed.map(|echoed| Time::from_nanos(echoed.stamp));
        let unproven = state.echoed < self.resumed_at;
        state.echoed = state.echoed.max(stamp.unwrap_or_default());
        let reigns = unproven && state.echoed >= self.resumed_at;
        let mutual = state.watch.is_mutual(now, epoch, stamp);
        let restarted = self.starts(now, node, epoch);
        let state = self.nodes.get_mut(node).expect("it was there");
        if mutual {
            state.heard_at = now;
        }
        let mut change = state.watch.beat(now, epoch, mutual);
        if mutual && self.shrink.holds(node) {
            change = state.watch.acquit(now).or(change);
        }
        let due = state.watch.wake_at();
        self.watch_at = Time::first([self.watch_at, due]);
        if change.is_some() {
            self.turn(now, node, change, out);
        }
        if reigns {
            self.unite(now, out);
        }
        let view = self.view.node_mut(node).expect("states and view have the same nodes");
        view.report(beat.load_permille);
        view.joins_per_second = beat.joins_per_second;
        let drains = beat.draining && !view.draining;
        let opens = view.draining && !beat.draining || view.full && !beat.full;
        (view.full, view.draining) = (beat.full, beat.draining);
        if drains {
            self.reconsider(now, node, out);
        }
        if opens {
            self.reconsider_stranded(now, out);
        }
        restarted || change.is_some() || drains || opens || reigns
    }

    /// A beat or the room stream of `node` is of this start. If it is a later one than any before, the node is another
    /// process, or has been fenced and has begun anew: what it had is gone. Returns whether that was news.
    fn starts(&mut self, now: Time, node: &NodeId, start: Epoch) -> bool {
        let Some(state) = self.nodes.get_mut(node) else { return false };
        let before = state.start;
        state.start = before.max(Some(start));
        if before.is_none_or(|before| before >= start) {
            return false;
        }
        state.renewed = true;
        let heard_at = state.heard_at;
        self.tell_older(node, heard_at, Why::NodeRestarted);
        self.view.orphan(node);
        self.forget_rooms(now, node, &BTreeSet::new());
        true
    }

    fn forget_rooms(&mut self, now: Time, node: &NodeId, named: &BTreeSet<RoomName>) {
        for room in self.view.retain(now, node, named) {
            self.claims.note(&room);
        }
    }

    pub(crate) fn stream(
        &mut self,
        now: Time,
        node: &NodeId,
        event: StreamEvent,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.nodes.get_mut(node) else { return };
        match event {
            StreamEvent::Connected => state.stream = Stream::Opened { since: now },
            StreamEvent::Lost => {
                state.stream = Stream::Lost;
                self.view.doubt(node);
                let change = state.watch.link_lost(now);
                self.turn(now, node, change, out);
            }
            StreamEvent::Stale => {
                state.stream = Stream::Lost;
                self.view.doubt(node);
            }
            StreamEvent::Frame(RoomFrame::Started { epoch: start }) => {
                if let Stream::Opened { since }
                | Stream::Naming { since, .. }
                | Stream::Synced { since, .. } = state.stream
                {
                    let (named, ruled) = Default::default();
                    state.stream = Stream::Naming { since, start, named, ruled };
                    self.starts(now, node, start);
                }
            }
            // What an earlier start had is gone, whatever of it is still on its way; its numbers were used all the same.
            StreamEvent::Frame(frame) if state.is_followed() => {
                self.room_frame(now, node, frame, out);
            }
            StreamEvent::Frame(
                RoomFrame::Hosted { room, generation, .. }
                | RoomFrame::Closed { room, generation, .. },
            ) => self.view.fence(now, &room, generation),
            StreamEvent::Frame(_) => {}
        }
    }

    /// A frame of the node's latest start.
    fn room_frame(&mut self, now: Time, node: &NodeId, frame: RoomFrame, out: &mut Vec<Output>) {
        let Some(state) = self.nodes.get_mut(node) else { return };
        match frame {
            RoomFrame::Started { .. } => {}
            RoomFrame::Hosted { room, generation, settings } => {
                if let Stream::Naming { named, .. } = &mut state.stream {
                    named.insert(room.clone());
                }
                let news = self.view.opened(node, &room, generation);
                self.hints.named(&room);
                let by = Home { node: node.clone(), generation };
                self.view.set_settings(now, &room, &by, settings.map(Arc::new));
                self.hosted(now, node, &room, news, out);
            }
            RoomFrame::Closed { room, generation, lost } => {
                if let Stream::Naming { named, .. } = &mut state.stream {
                    named.remove(&room);
                }
                self.view.closed(now, node, &room, generation, lost);
                self.claims.note(&room);
            }
            RoomFrame::Ruled { room, generation, identity, ruling } => {
                if let Stream::Naming { ruled, .. } = &mut state.stream {
                    ruled.insert((room.clone(), identity.clone()));
                }
                let home = Home { node: node.clone(), generation };
                self.view.rule(now, &room, &home, (&identity, ruling));
            }
            RoomFrame::Synced => {
                if let Stream::Naming { since, start, named, ruled } = &mut state.stream {
                    let (named, ruled) = (std::mem::take(named), std::mem::take(ruled));
                    let (since, start) = (*since, *start);
                    state.stream = Stream::Synced { since, start };
                    if std::mem::take(&mut state.renewed) {
                        self.tell_left_behind(node, since, &named);
                    }
                    for room in &named {
                        let said = |who: &Identity| ruled.contains(&(room.clone(), who.clone()));
                        self.view.retain_rulings(now, node, room, said);
                    }
                    self.forget_rooms(now, node, &named);
                    self.hints_synced(node);
                }
            }
        }
    }

    /// `node` hosts `room`, and what follows from that if it is news.
    fn hosted(
        &mut self,
        now: Time,
        node: &NodeId,
        room: &RoomName,
        news: bool,
        out: &mut Vec<Output>,
    ) {
        if news {
            self.claims.note(room);
            self.look_for_feud(now, node, room);
            self.supersede(now, room);
            self.reconsider_room(now, room, out);
        }
        self.steer(now, node, room, news, out);
    }

    /// Whether a room that is not in the view is not at `node` either.
    pub(crate) fn would_know(&self, now: Time, node: &NodeId) -> bool {
        let (Some(state), Some(view)) = (self.nodes.get(node), self.view.node(node)) else {
            return true;
        };
        if view.health == Health::Down {
            return state.down_since.is_none_or(|since| now.since(since) >= DOWN_KEPT);
        }
        state.watch.health() != Health::Down && state.is_synced()
    }

    /// The watch of `node` has changed its mind. That it is down is believed later, by [`Role::believe`].
    pub(crate) fn turn(
        &mut self,
        now: Time,
        node: &NodeId,
        change: Option<Change>,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.nodes.get(node) else { return };
        let due = state.watch.wake_at();
        self.watch_at = Time::first([self.watch_at, due]);
        let Some(change) = change else { return };
        let linked = state.watch.link() != Link::Whole;
        self.shrink.turned(now, node, change.to, linked);
        let view = self.view.node_mut(node).expect("states and view have the same nodes");
        view.probation = change.probation;
        if change.to == Health::Down || view.health == change.to {
            return;
        }
        let from = std::mem::replace(&mut view.health, change.to);
        if from == Health::Down {
            let region = view.facts.region.clone();
            self.regions.node_turned(&region, true);
            self.nodes.get_mut(node).expect("it was there").down_since = None;
            for room in self.view.unbury(node) {
                self.hosted(now, node, &room, true, out);
            }
            // While it was down, nothing was told of its rooms, whatever others made of them.
            for room in self.view.rooms_at(node) {
                self.claims.note(room);
            }
            self.unite(now, out);
        }
        if change.to == Health::Alive {
            self.reconsider_stranded(now, out);
        }
        out.push(Output::Verdict { node: node.clone(), change: Change { from, ..change } });
    }

    /// Takes for down what may be taken for down: see [`outlast_control::Shrink`].
    pub(crate) fn believe(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.shrink.is_quiet() {
            return;
        }
        let mut down = std::mem::take(&mut self.scratch.nodes);
        let outlooks = &self.outlooks;
        let witnessed = || outlooks.is_empty() || outlooks.says_shrunk(now);
        self.shrink.believe(now, witnessed, &mut down);
        for node in down.drain(..) {
            self.down(now, &node, out);
        }
        self.scratch.nodes = down;
    }

    fn down(&mut self, now: Time, node: &NodeId, out: &mut Vec<Output>) {
        let Some(view) = self.view.node_mut(node) else { return };
        let from = std::mem::replace(&mut view.health, Health::Down);
        if from == Health::Down {
            return;
        }
        let region = view.facts.region.clone();
        self.regions.node_turned(&region, false);
        let state = self.nodes.get_mut(node).expect("states and view have the same nodes");
        state.down_since = Some(now);
        self.down_due.insert((now + DOWN_KEPT, node.clone()));
        let change = Change {
            from,
            to: Health::Down,
            silence: now.since(state.heard_at),
            probation: state.watch.is_on_probation(),
        };
        out.push(Output::Verdict { node: node.clone(), change });
        self.rehome(node, Why::NodeDown);
        self.reconsider(now, node, out);
    }

    /// Rooms of nodes that have been down for long are nobody's.
    pub(crate) fn forget_dead(&mut self, now: Time) {
        while let Some((_, node)) = self.down_due.first().filter(|(at, _)| *at <= now) {
            let node = node.clone();
            self.down_due.pop_first();
            let since = self.nodes.get(&node).and_then(|state| state.down_since);
            if since.is_some_and(|since| now.since(since) >= DOWN_KEPT) {
                for room in self.view.bury(now, &node) {
                    self.claims.note(&room);
                }
            }
        }
    }

    pub(crate) fn wake_outcomes(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.outcomes.wake_at().is_none_or(|at| at > now) {
            return;
        }
        let mut ejections = Vec::new();
        self.outcomes.wake(now, &self.view, &mut ejections);
        for Ejection { node, ejected } in ejections {
            if let Some(view) = self.view.node_mut(&node) {
                view.eject(ejected);
            }
            out.push(Output::Ejection { node: node.clone(), ejected });
            if ejected {
                self.rehome(&node, Why::NodeEjected);
                self.reconsider(now, &node, out);
            }
        }
    }

    /// Another gateway's outlook.
    pub(crate) fn outlook(
        &mut self,
        now: Time,
        gateway: &GatewayId,
        epoch: Epoch,
        outlook: &Outlook,
    ) {
        let Some(peer) = self.peers.get_mut(gateway) else { return };
        let before = peer.heard.map(|(epoch, stamp, _)| (epoch, stamp));
        if before.is_some_and(|before| (epoch, outlook.stamp) < before) {
            return;
        }
        let new = before.is_none_or(|(before, _)| before < epoch);
        peer.heard = Some((epoch, outlook.stamp, now));
        let echoed = outlook.echoed.filter(|echoed| echoed.epoch == self.epoch);
        let age = echoed.map(|echoed| now.since(Time::from_nanos(echoed.stamp)));
        // A gateway that does not hear this one is not asked for its opinion: both are to judge alike.
        if !new && age.is_none_or(|age| age >= outlast_control::OUTLOOK_FRESH) {
            return;
        }
        let seen = Seen {
            regions_digest: outlook.regions_digest,
            hears: outlook.hears,
            alive: outlook.alive,
            known: outlook.known,
            flapping: outlook.flapping,
            shrunk: outlook.shrunk,
        };
        self.outlooks.hear(now, gateway, seen);
    }

    pub(crate) fn send_outlooks(&mut self, now: Time, out: &mut Vec<Output>) {
        if !self.sends_outlooks() || self.outlook_at > now {
            return;
        }
        self.outlook_at = now + BEAT_INTERVAL;
        let seen = Outlook {
            regions_digest: self.regions.digest(),
            hears: self.regions.hears(now, &self.outlooks),
            alive: u16::try_from(self.shrink.alive()).unwrap_or(u16::MAX),
            known: u16::try_from(self.nodes.len()).unwrap_or(u16::MAX),
            shrunk: self.shrink.is_shrunk(),
            stamp: now.as_nanos(),
            flapping: self.regions.flapping(now),
            closed: self.draining || !self.settled(now),
            doors: self.regions.doors(now, &self.outlooks),
            nearest: if self.name_servers { self.nearest_regions() } else { Default::default() },
            echoed: None,
        };
        if self.name_servers {
            out.push(Output::Bulletin { outlook: seen });
        }
        for (gateway, peer) in &self.peers {
            let echoed =
                peer.heard.map(|(epoch, stamp, at)| Echoed { epoch, stamp, held: now.since(at) });
            out.push(Output::Outlook {
                gateway: gateway.clone(),
                outlook: Outlook { echoed, ..seen },
            });
        }
    }

    pub(crate) fn wake_regions(&mut self, now: Time, out: &mut Vec<Output>) {
        if !self.regions.is_due(now, &self.outlooks) {
            return;
        }
        let mut changes = std::mem::take(&mut self.scratch.regions);
        self.regions.wake(now, &self.outlooks, &mut changes);
        for RegionChange { region, from, to, probation } in changes.drain(..) {
            self.view.set_region_probation(&region, probation);
            if from != to {
                // Others are to know before they hear what comes of it.
                self.outlook_at = now;
                out.push(Output::RegionVerdict { region, health: to });
            }
        }
        self.scratch.regions = changes;
    }
}

//! The gateway as a machine: `handle(now, input, out)` and `wake_at()`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use outlast_control::{
    Health, Link, NodeView, Outcomes, Outlooks, Placement, Policy, RegionChange, RegionHealth,
    Regions, SUSPECT_AFTER, Shrink, Spread, View,
};
use outlast_model::{Epoch, GatewayId, Jitter, NodeId, RegionName, RoomName, SessionId, Time};
use outlast_wire::NEAREST_MAX;

use crate::{
    Facts, Input, Located, Output, RoleConfig, Why,
    asks::{Asks, Wish},
    claims::Claims,
    door::count_nodes,
    hints::Hints,
    nodes::{NodeState, PeerState},
    sessions::Seats,
    split::Feuds,
    split::{LONG_PAUSE, PROVEN_AFTER},
    tell::Pace,
};

/// Longest wait, after a start, for the nodes to name their rooms.
pub const SETTLE_MAX: Duration = Duration::from_secs(2);
/// How long after a start a node that has not been heard yet may live, and have rooms to name: a beat, the way, and some jitter.
/// Lower: rooms of far nodes get a second home; higher: who opens a room waits longer at a gateway that starts while a region is
/// gone.
const FIRST_BEAT_MAX: Duration = SUSPECT_AFTER;
/// A wake-up later than this means that this process stood still, not the nodes.
const OWN_PAUSE_MIN: Duration = Duration::from_millis(500);
/// Span between two plans.
pub(crate) const MOVE_INTERVAL: Duration = Duration::from_millis(100);
/// Span between two looks at which regions are nearest.
const NEAREST_INTERVAL: Duration = Duration::from_secs(2);

/// A room that cannot be resumed: its home is unknown, down, or giving its rooms away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Buffers that are empty between two calls.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) regions: Vec<RegionChange>,
}

/// The gateway's mind.
pub struct Role {
    pub(crate) id: GatewayId,
    pub(crate) region: RegionName,
    /// All of them.
    names: BTreeSet<RegionName>,
    pub(crate) epoch: Epoch,
    started: Time,
    pub(crate) view: View,
    pub(crate) policy: Policy,
    /// Places by the ranking alone.
    pub(crate) shared: Policy,
    pub(crate) nodes: BTreeMap<NodeId, NodeState>,
    /// No watch has anything to say before; it may have nothing to say then.
    pub(crate) watch_at: Option<Time>,
    pub(crate) peers: BTreeMap<GatewayId, PeerState>,
    pub(crate) shrink: Shrink,
    pub(crate) regions: Regions,
    pub(crate) outlooks: Outlooks,
    pub(crate) outcomes: Outcomes,
    pub(crate) outlook_at: Time,
    pub(crate) name_servers: bool,
    nearest_at: Time,
    /// When what a dead node hosted is forgotten.
    pub(crate) down_due: BTreeSet<(Time, NodeId)>,
    /// Rooms that are also elsewhere than at the home that counts, and wait for a node to come back.
    pub(crate) split: BTreeSet<RoomName>,
    /// Rooms that are left at two homes for now.
    pub(crate) apart: BTreeSet<RoomName>,
    pub(crate) feuds: Feuds,
    /// When they are looked at again.
    pub(crate) unite_at: Time,
    /// When this process last went on after it had stood still.
    pub(crate) resumed_at: Time,
    /// From then on what streams have said counts that were there before the last long pause.
    pub(crate) proven_at: Time,
    pub(crate) asks: Asks,
    pub(crate) claims: Claims,
    pub(crate) hints: Hints,
    /// Rooms with sessions here that have lost their home.
    pub(crate) moving: BTreeSet<RoomName>,
    pub(crate) move_at: Time,
    pub(crate) sessions: Seats,
    pub(crate) pace: Pace,
    /// Sessions whose connection to the node broke, in the order in which their time to be told comes.
    pub(crate) broken: VecDeque<(Time, SessionId)>,
    pub(crate) told: [u64; Why::ALL.len()],
    pub(crate) moves: u64,
    pub(crate) flaws: u64,
    pub(crate) draining: bool,
    /// And that nobody is left has been said.
    pub(crate) drained: bool,
    pub(crate) jitter: Jitter,
    pub(crate) scratch: Scratch,
    /// As of the last input.
    pub(crate) wake_at: Option<Time>,
}

impl Role {
    /// A gateway that has heard nothing yet.
    pub fn new(config: RoleConfig, now: Time) -> Role {
        let names = config.nodes.iter().map(|node| node.region.clone());
        let names = names.chain(config.gateways.iter().map(|gateway| gateway.region.clone()));
        let names: BTreeSet<_> = names.chain([config.region.clone()]).collect();
        let regions = Regions::new(&config.region, names.iter().cloned());
        let nodes = config.nodes.iter().map(|facts| (facts.id.clone(), NodeState::default()));
        let peers = config.gateways.iter().map(|peer| (peer.id.clone(), PeerState::default()));
        // Placement ids come of it: they must not come again after a start.
        let mut jitter = Jitter::new(config.seed ^ config.epoch.0.rotate_left(32));
        let arbitrated = config.directory.as_ref().is_some_and(|directory| directory.arbitrates);
        let mut role = Role {
            epoch: config.epoch,
            started: now,
            nodes: nodes.collect(),
            watch_at: None,
            peers: peers.collect(),
            outlooks: Outlooks::new(&regions, config.gateways.iter().cloned()),
            regions,
            view: View::new(config.nodes),
            shared: Policy::default(),
            policy: Policy { spread: config.spread, arbitrated },
            shrink: Shrink::default(),
            outcomes: Outcomes::default(),
            outlook_at: now,
            name_servers: config.name_servers,
            nearest_at: now,
            down_due: BTreeSet::new(),
            split: BTreeSet::new(),
            apart: BTreeSet::new(),
            feuds: Feuds::default(),
            unite_at: now,
            resumed_at: Time::ZERO,
            proven_at: Time::ZERO,
            asks: Asks::default(),
            claims: Claims::new(config.directory, jitter.bits(), now),
            hints: Hints::default(),
            moving: BTreeSet::new(),
            move_at: now,
            sessions: Seats::default(),
            pace: Pace::new(config.tell_per_second),
            broken: VecDeque::new(),
            told: Default::default(),
            moves: 0,
            flaws: 0,
            draining: false,
            drained: false,
            jitter,
            scratch: Scratch::default(),
            wake_at: None,
            id: config.id,
            region: config.region,
            names,
        };
        role.find_nearest(now);
        role.wake_at = role.next_wake();
        role
    }

    /// Takes one input, and adds to `out` what follows from it.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        self.forgive_own_pause(now);
        let mut news = true;
        match input {
            Input::Beat { node, epoch, sequence, beat } => {
                news = self.beat(now, &node, (epoch, sequence), &beat, out);
            }
            Input::Outlook { gateway, epoch, outlook } => {
                self.outlook(now, &gateway, epoch, &outlook);
                news = false;
            }
            Input::Stream { node, event } => self.stream(now, &node, event, out),
            Input::Ask { ask, room, client, goal, near } => {
                self.ask(now, ask, Wish { room, client, goal, near }, out);
            }
            Input::Refused { ask, why } => self.refused(now, ask, why, out),
            Input::Unreached { ask, connection_refused } => {
                if let Some((_, node, _)) = self.going(ask).filter(|_| connection_refused) {
                    self.connection_refused(now, &node, out);
                }
                self.unreached(now, ask, out);
            }
            Input::Withdrawn { ask } => self.withdrawn(ask),
            Input::Opened { session, ask, at } => self.opened(now, session, ask, at),
            Input::Answered { session } => {
                if let Some(at) = self.sessions.get(session) {
                    self.outcomes.answered(now, session, &at.node, &at.client);
                }
            }
            Input::Reached { session } => self.outcomes.reached(session),
            Input::LinkLost { session } => self.link_lost(now, session, out),
            Input::Closed { session } => self.closed(session),
            Input::ConnectionRefused { node } => self.connection_refused(now, &node, out),
            Input::Directory { call, reply } => self.directory(now, call, reply, out),
            Input::Probed { node, probed } => self.probed(now, &node, probed, out),
            Input::Deleted { room } => self.view.forget_kept(&room),
            Input::Wake => {}
            Input::Drain => {
                self.draining = true;
                if self.name_servers {
                    self.outlook_at = now;
                }
                self.tell_all(Why::GatewayLeaving);
            }
        }
        // Most of what is heard is that all is as it was.
        if !news && self.is_quiet(now) {
            debug_assert_eq!(self.wake_at, self.next_wake(), "no deadline has come nearer");
            return;
        }
        self.wake(now, out);
        self.wake_at = self.next_wake();
    }

    /// Whether [`Role::wake`] has nothing to do, unless the input itself has changed something. What `wake` does at any input
    /// must be asked for here, and whatever else it does must be in [`Role::next_wake`].
    fn is_quiet(&self, now: Time) -> bool {
        self.wake_at.is_none_or(|at| now < at)
            && !self.looks_for_nearest(now)
            && self.shrink.is_quiet()
            && !self.regions.is_due(now, &self.outlooks)
            && self.claims.is_quiet(now)
    }

    /// When [`Input::Wake`] is due: later than the last input.
    pub fn wake_at(&self) -> Option<Time> {
        self.wake_at
    }

    pub(crate) fn next_wake(&self) -> Option<Time> {
        let outlook = self.sends_outlooks().then_some(self.outlook_at);
        let moves = (!self.moving.is_empty()).then_some(self.move_at);
        Time::first([
            self.watch_at,
            outlook,
            self.splits_wake_at(),
            moves,
            self.broken.front().map(|(due, _)| *due),
            self.down_due.first().map(|(due, _)| *due),
            self.pace.wake_at(),
            self.asks.wake_at(),
            self.claims.wake_at(),
            self.hints.wake_at(),
            self.outcomes.wake_at(),
            self.regions.wake_at(),
            self.shrink.wake_at(),
            self.view.wake_at(),
        ])
    }

    /// The home of a room that a client was in.
    ///
    /// # Errors
    /// When it is unknown, down, or gives its rooms away while another node takes rooms: the client has to join anew.
    pub fn resume(&self, room: &RoomName) -> Result<Placement, Gone> {
        let (placement, leaves) = self.living_home(room).ok_or(Gone)?;
        let takes_it =
            |node: &NodeView| node.takes_rooms() && !node.full && node.facts.id != placement.node;
        if leaves && self.view.nodes().any(takes_it) { Err(Gone) } else { Ok(placement) }
    }

    /// Where a room is, for a call to the server API: at a draining home too, as long as it is there.
    pub fn locate(&self, room: &RoomName) -> Located {
        match self.living_home(room) {
            Some((placement, _)) => Located::At(placement),
            None if self.view.home(room).is_some() => Located::Down,
            None => Located::Unknown,
        }
    }

    /// The room's home if it is not down, and whether it gives its rooms away.
    pub(crate) fn living_home(&self, room: &RoomName) -> Option<(Placement, bool)> {
        let Some(home) = self.view.home(room) else {
            return self.hinted(room).map(|placement| (placement, false));
        };
        let node = self.view.node(&home.node).filter(|node| node.health != Health::Down)?;
        let placement =
            Placement { node: home.node.clone(), generation: home.generation, home: true };
        Some((placement, !node.keeps(room)))
    }

    /// Whether the view is as good as it gets: every node that lives, or may live, has been heard and has named its rooms, and there
    /// is one, or [`SETTLE_MAX`] has passed since the start. Before, an unknown room may well exist, and one whose node has not been
    /// heard looks like one whose node is down.
    pub fn settled(&self, now: Time) -> bool {
        let age = now.since(self.started);
        if age >= SETTLE_MAX {
            return true;
        }
        let may_live = |state: &&NodeState| {
            let is_unheard =
                || state.watch.epoch().is_none() && state.watch.link() != Link::Refused;
            state.watch.health() != Health::Down || (age < FIRST_BEAT_MAX && is_unheard())
        };
        let mut living = self.nodes.values().filter(may_live).peekable();
        let is_there =
            |state: &NodeState| state.watch.health() != Health::Down && state.is_synced();
        living.peek().is_some() && living.all(is_there)
    }

    /// Nodes and rooms as known.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What is believed of `region`.
    pub fn region_health(&self, region: &RegionName) -> RegionHealth {
        self.regions.health(region)
    }

    /// Smoothed round trip of datagrams to the nearest node of `region`; `None` before the first echo came back.
    pub fn rtt(&self, region: &RegionName) -> Option<Duration> {
        let here = self.view.nodes().filter(|node| node.facts.region == *region);
        here.filter_map(|node| self.nodes.get(&node.facts.id)?.rtt).min()
    }

    /// Counts for metrics.
    pub fn facts(&self, now: Time) -> Facts {
        let (nodes, ejected) = count_nodes(&self.view);
        let mut regions = [0; 3];
        for region in &self.names {
            regions[self.regions.health(region) as usize] += 1;
        }
        Facts {
            nodes,
            ejected,
            regions,
            gateways: self.outlooks.heard(now),
            rooms: self.view.rooms(),
            hints: self.hints.len(),
            sessions: self.sessions.len(),
            asks: self.asks.len(),
            told: self.told,
            moves: self.moves,
            flaws: self.flaws,
            provisional: self.claims.provisional,
            probes_found: self.claims.probes.found,
            directory_away: self.claims.away(),
            directory_parts: self.claims.part_facts(now),
            directory_deadline: self.claims.longest(),
        }
    }

    fn connection_refused(&mut self, now: Time, node: &NodeId, out: &mut Vec<Output>) {
        let change = self.nodes.get_mut(node).and_then(|state| state.watch.refused(now));
        self.turn(now, node, change, out);
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        self.wake_watches(now, out);
        self.believe(now, out);
        self.wake_regions(now, out);
        self.wake_splits(now, out);
        self.wake_outcomes(now, out);
        if self.view.wake_at().is_some_and(|at| at <= now) {
            self.view.expire(now);
        }
        self.forget_dead(now);
        self.expire_hints(now);
        self.find_nearest(now);
        self.wake_moves(now, out);
        self.wake_asks(now, out);
        // After all that may have asked the directory something.
        self.wake_claims(now, out);
        self.wake_sessions(now, out);
        self.send_outlooks(now, out);
    }

    /// Looks at all watches when the first may be due. Beats put deadlines off one by one, so that is a few times a second,
    /// however many nodes there are.
    fn wake_watches(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.watch_at.is_none_or(|at| at > now) {
            return;
        }
        let mut changes = Vec::new();
        for (node, state) in &mut self.nodes {
            if let Some(change) = state.watch.wake(now) {
                changes.push((node.clone(), change));
            }
        }
        for (node, change) in changes {
            self.turn(now, &node, Some(change), out);
        }
        self.watch_at = self.nodes.values().filter_map(|state| state.watch.wake_at()).min();
    }

    /// Where the directory arbitrates, new rooms go to the nearest region: gateways need not agree beforehand.
    fn find_nearest(&mut self, now: Time) {
        if !self.looks_for_nearest(now) {
            return;
        }
        self.nearest_at = now + NEAREST_INTERVAL;
        self.policy.spread = Spread::Nearest(self.by_rtt());
    }

    /// All regions that have nodes: this gateway's own, then by the round trip to their nearest node.
    fn by_rtt(&self) -> Vec<RegionName> {
        let mut nearest: BTreeMap<&RegionName, Duration> = BTreeMap::new();
        for node in self.view.nodes() {
            let rtt = self.nodes.get(&node.facts.id).and_then(|state| state.rtt);
            let rtt = rtt.unwrap_or(Duration::MAX);
            let least = nearest.entry(&node.facts.region).or_insert(rtt);
            *least = rtt.min(*least);
        }
        let mut order: Vec<_> = nearest
            .into_iter()
            .map(|(region, rtt)| (*region != self.region, rtt, region.clone()))
            .collect();
        order.sort();
        order.into_iter().map(|(_, _, region)| region).collect()
    }

    /// All gateways, this one too, in the order in which a client near that region (or else this one's) is to try them: by region, the
    /// nearest first, and of each region the one that is heard first. Those that are not heard come last.
    pub fn doors(&self, now: Time, near: Option<&RegionName>) -> Vec<(GatewayId, RegionName)> {
        let order = self.by_rtt();
        let far = |region: &RegionName| match near {
            Some(near) if near == region => 0,
            _ => 1 + order.iter().position(|name| name == region).unwrap_or(order.len()),
        };
        let fresh: BTreeSet<_> = self.outlooks.fresh_in(now, None).collect();
        let others = self.outlooks.all().map(|(id, region)| (!fresh.contains(id), id, region));
        let own = [(self.draining, &self.id, &self.region)];
        let mut doors: Vec<_> = others.chain(own).collect();
        doors.sort_by_key(|(silent, id, region)| (*silent, far(region), (*id).clone()));
        doors.into_iter().map(|(_, id, region)| (id.clone(), region.clone())).collect()
    }

    /// The other regions as an outlook names them.
    pub(crate) fn nearest_regions(&self) -> [u8; NEAREST_MAX] {
        let mut nearest = [0; NEAREST_MAX];
        let others = self.by_rtt().into_iter().filter(|region| *region != self.region);
        let bits = others.filter_map(|region| self.regions.bit(&region));
        for (place, bit) in nearest.iter_mut().zip(bits) {
            *place = bit + 1;
        }
        nearest
    }

    pub(crate) fn sends_outlooks(&self) -> bool {
        self.name_servers || !self.peers.is_empty()
    }

    fn looks_for_nearest(&self, now: Time) -> bool {
        self.policy.arbitrated && self.nearest_at <= now
    }

    /// A process that was stopped hears its nodes' silence only because it did not listen.
    fn forgive_own_pause(&mut self, now: Time) {
        let Some(due) = self.wake_at else { return };
        let late = now.since(due);
        if late < OWN_PAUSE_MIN {
            return;
        }
        self.resumed_at = now;
        if late >= LONG_PAUSE {
            self.proven_at = now + PROVEN_AFTER;
        }
        for state in self.nodes.values_mut() {
            state.watch.forgive(now, late);
        }
    }
}

//! A gateway's role in simulated time: the beats of its nodes, the outlooks of other gateways, a directory, and all that it
//! says. What must hold in every story is checked with every input.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use outlast_directory::{CallId, Reply, Request};
use outlast_gateway_core::{
    AskId, DirectoryUse, GatewayFacts, Goal, Health, Input, NodeFacts, NodeRefusal, Output,
    Placement, Role, RoleConfig, Session, Spread, StreamEvent, Unplaced, Why,
};
use outlast_model::{
    BEAT_INTERVAL, Epoch, GatewayId, Generation, NodeId, RegionName, RoomSettings, SessionId, Time,
};
use outlast_wire::{Beat, Echoed, Outlook, Probe, Probed, RoomFrame, Steer};

use crate::engine::{Part, keyer, layout, parts};

/// This gateway.
pub(crate) const SELF: &str = "eu-g1";
/// Its start.
pub(crate) const EPOCH: Epoch = Epoch(7);
/// One way, to gateways, and to nodes unless they say otherwise.
const LATENCY: Duration = Duration::from_millis(15);

/// What the configuration says. A name's first two letters are its region.
pub(crate) struct Setup<'s> {
    pub(crate) nodes: &'s [&'s str],
    /// The other gateways.
    pub(crate) gateways: &'s [&'s str],
    /// Whether there is a directory, and whether it arbitrates.
    pub(crate) directory: Option<bool>,
    /// The regions of its shards, if it has any.
    pub(crate) shards: &'s [&'s str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Setup { nodes: &["eu-1", "eu-2", "us-1"], gateways: &[], directory: None, shards: &[] }
    }
}

/// A node as this gateway meets it.
pub(crate) struct Node {
    id: NodeId,
    /// Epoch and next beat; `None` while it is silent.
    beats: Option<(Epoch, Time)>,
    /// Whether this gateway's echoes reach it.
    pub(crate) hears: bool,
    pub(crate) draining: bool,
    pub(crate) full: bool,
    /// 0: it does not say.
    pub(crate) joins_per_second: u32,
    /// One way.
    pub(crate) latency: Duration,
    /// Rooms that it has and has not named here.
    pub(crate) unnamed: BTreeMap<String, u64>,
    /// The stamp of the last echo that reached it in this life.
    echoed: Option<Time>,
}

/// Another gateway.
pub(crate) struct Other {
    id: GatewayId,
    /// Its next outlook; `None` while it is silent.
    next_at: Option<Time>,
    /// The regions that it hears.
    pub(crate) hears: Vec<&'static str>,
    pub(crate) shrunk: bool,
    /// Nodes alive there.
    pub(crate) alive: u16,
    /// Whether this gateway's outlooks reach it.
    pub(crate) hears_us: bool,
    echoed: Option<Time>,
}

/// The story so far.
pub(crate) struct World {
    pub(crate) role: Role,
    pub(crate) now: Time,
    nodes: Vec<Node>,
    others: Vec<Other>,
    regions: Vec<RegionName>,
    digest: u32,
    /// There is a directory.
    asks_first: bool,
    /// The directory's partitions.
    pub(crate) parts: Vec<Part>,
    pub(crate) answers: BTreeMap<(Time, u64), (CallId, Reply)>,
    /// On their way from nodes that were probed.
    probed: BTreeMap<(Time, NodeId), Probed>,
    /// All that the directory was asked, answered or not.
    pub(crate) requests: Vec<(Time, Request)>,
    pub(crate) said: Vec<(Time, Output)>,
    pub(crate) sequence: u64,
    asks: u64,
    /// Wishes that have not ended, and their rooms.
    waiting: BTreeMap<u64, String>,
    /// How often the role has been woken.
    pub(crate) wakes: usize,
    /// Where each wish was sent last; `Err` when it has ended unplaced.
    went: BTreeMap<u64, Result<Placement, Unplaced>>,
    open: BTreeSet<u64>,
    told: BTreeSet<u64>,
}

impl World {
    /// A fleet that has been up for a second, with no rooms.
    pub(crate) fn new(setup: &Setup<'_>) -> World {
        let now = Time::from_millis(5_000);
        let mut world = World::unheard(setup, now);
        world.run(1_000);
        for node in setup.nodes {
            world.connects(node, 1);
            world.stream(node, StreamEvent::Frame(RoomFrame::Synced));
        }
        assert!(world.role.settled(world.now));
        world
    }

    /// The gateway starts at `now`, and has heard nothing.
    pub(crate) fn unheard(setup: &Setup<'_>, now: Time) -> World {
        let region = |id: &str| RegionName::from(&id[..2]);
        let facts = setup.nodes.iter().map(|id| NodeFacts {
            id: (*id).into(),
            region: region(id),
            capacity: 1,
        });
        let gateways =
            setup.gateways.iter().map(|id| GatewayFacts { id: (*id).into(), region: region(id) });
        let ids = setup.nodes.iter().chain(setup.gateways).chain([&SELF]);
        let regions: BTreeSet<_> = ids.map(|id| region(id)).collect();
        let layout = layout(setup.shards);
        let config = RoleConfig {
            id: SELF.into(),
            region: region(SELF),
            epoch: EPOCH,
            nodes: facts.collect(),
            gateways: gateways.collect(),
            name_servers: !setup.gateways.is_empty(),
            tell_per_second: None,
            spread: Spread::Everywhere,
            directory: setup.directory.map(|arbitrates| DirectoryUse {
                keyer: keyer(),
                layout: layout.clone(),
                arbitrates,
            }),
            seed: 7,
        };
        // Beats come at different phases.
        let phase = |n: usize| now + Duration::from_millis(130 * n as u64 % 400);
        let nodes = setup.nodes.iter().enumerate().map(|(n, id)| Node {
            id: (*id).into(),
            beats: Some((Epoch(1), phase(n))),
            hears: true,
            draining: false,
            full: false,
            joins_per_second: 0,
            latency: LATENCY,
            unnamed: BTreeMap::new(),
            echoed: None,
        });
        let others = setup.gateways.iter().enumerate().map(|(n, id)| Other {
            id: (*id).into(),
            next_at: Some(phase(n) + Duration::from_millis(70)),
            hears: vec!["ap", "eu", "us"],
            shrunk: false,
            alive: u16::MAX,
            hears_us: true,
            echoed: None,
        });
        World {
            role: Role::new(config, now),
            now,
            nodes: nodes.collect(),
            others: others.collect(),
            regions: regions.into_iter().collect(),
            digest: 0,
            asks_first: setup.directory.is_some(),
            parts: parts(&layout),
            answers: BTreeMap::new(),
            probed: BTreeMap::new(),
            requests: Vec::new(),
            said: Vec::new(),
            sequence: 0,
            asks: 0,
            waiting: BTreeMap::new(),
            wakes: 0,
            went: BTreeMap::new(),
            open: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    pub(crate) fn handle(&mut self, input: Input) {
        match &input {
            Input::Withdrawn { ask } | Input::Opened { ask, .. } => {
                self.waiting.remove(&ask.0);
            }
            _ => {}
        }
        let heard = matches!(input, Input::Beat { .. } | Input::Outlook { .. });
        let due = self.role.wake_at();
        let mut out = Vec::new();
        self.role.handle(self.now, input, &mut out);
        assert!(
            self.role.wake_at().is_none_or(|at| at > self.now),
            "asks to be woken now: a busy loop"
        );
        if heard && out.len() < 2 && self.role.wake_at() == due {
            // The role has taken it for no news: then it has nothing to do.
            let before = out.len();
            self.role.handle(self.now, Input::Wake, &mut out);
            assert_eq!(out.len(), before, "something was due, or was news after all: {out:?}");
            assert_eq!(self.role.wake_at(), due, "a deadline came nearer unseen");
        }
        let mut sent = BTreeSet::new();
        for output in out {
            if let Output::Go { ask, .. } = &output {
                sent.insert(ask.0);
            }
            self.take(&output);
            self.said.push((self.now, output));
        }
        for ask in sent {
            if let (Some(room), Some(Ok(placement))) = (self.waiting.get(&ask), self.went.get(&ask))
            {
                self.check_placement(room, placement);
            }
        }
    }

    fn take(&mut self, output: &Output) {
        match output {
            Output::Echo { node, echo } => {
                let node = self.nodes.iter_mut().find(|other| other.id == *node).unwrap();
                let own = node.beats.is_some_and(|(epoch, _)| epoch == echo.heard_epoch);
                if node.hears && own {
                    node.echoed = Some(Time::from_nanos(echo.stamp));
                }
            }
            Output::Outlook { gateway, outlook } => {
                self.digest = outlook.regions_digest;
                let other = self.others.iter_mut().find(|other| other.id == *gateway).unwrap();
                if other.hears_us {
                    other.echoed = Some(Time::from_nanos(outlook.stamp));
                }
            }
            Output::Go { ask, placement, .. } => {
                assert!(self.waiting.contains_key(&ask.0), "{ask:?} had ended");
                self.went.insert(ask.0, Ok(placement.clone()));
            }
            Output::Unplaced { ask, why, retry_after } => {
                assert!(self.waiting.remove(&ask.0).is_some(), "{ask:?} had ended");
                self.went.insert(ask.0, Err(*why));
                assert!((1_000..=4_000).contains(&retry_after.as_millis()), "{retry_after:?}");
            }
            Output::Tell { session, .. } => {
                assert!(self.open.contains(&session.0), "{session:?} is not there");
                assert!(self.told.insert(session.0), "{session:?} is told twice");
            }
            Output::Directory { call, request } => self.carry(*call, request),
            Output::Probe { node, probe } => self.probe(node, probe),
            Output::Bulletin { .. }
            | Output::Steer { .. }
            | Output::Verdict { .. }
            | Output::Ejection { .. }
            | Output::RegionVerdict { .. }
            | Output::Drained => {}
        }
    }

    /// Nobody is sent to a node that is down while another would do (and the directory need not be asked before), nor under a generation that is not above all that are
    /// known elsewhere.
    fn check_placement(&self, room: &str, placement: &Placement) {
        let Placement { node, generation, home } = placement;
        let view = self.role.view();
        let down = view.node(node).unwrap().health == Health::Down;
        assert!(
            !down || self.asks_first || !view.nodes().any(|node| node.takes_rooms() && !node.full),
            "{room}: {placement:?}, {:?}, {:?}",
            view.hosts(&room.into()),
            view.planned(&room.into())
        );
        for host in view.hosts(&room.into()) {
            let older = host.generation < *generation
                || host.generation == *generation && (*home || host.node == *node);
            assert!(older, "{placement:?}, and {host:?} is known");
        }
    }

    /// Lets `millis` pass: beats, outlooks and answers arrive, the role wakes when it asked to.
    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let beat = self.nodes.iter().filter_map(|node| Some(node.beats?.1)).min();
            let outlook = self.others.iter().filter_map(|other| other.next_at).min();
            let answer = self.answers.keys().next().map(|(at, _)| *at);
            let probed = self.probed.keys().next().map(|(at, _)| *at);
            let wake = self.role.wake_at().map(|at| at.max(self.now));
            let times = [beat, outlook, answer, probed, wake];
            let Some(next) = times.into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = next;
            if beat == Some(next) {
                self.beat(next);
            } else if outlook == Some(next) {
                self.outlook(next);
            } else if answer == Some(next) {
                let (_, (call, reply)) = self.answers.pop_first().unwrap();
                self.handle(Input::Directory { call, reply });
            } else if probed == Some(next) {
                let ((_, node), probed) = self.probed.pop_first().unwrap();
                self.handle(Input::Probed { node, probed });
            } else {
                self.wakes += 1;
                self.handle(Input::Wake);
            }
        }
        self.now = end;
    }

    /// A living node is asked whether it has a room.
    fn probe(&mut self, node: &NodeId, probe: &Probe) {
        let it = self.nodes.iter().find(|other| other.id == *node).unwrap();
        if it.beats.is_some() {
            let generation = it.unnamed.get(probe.room.as_str()).copied().map(Generation);
            let probed = Probed { number: probe.number, generation };
            self.probed.insert((self.now + it.latency * 2, node.clone()), probed);
        }
    }

    fn beat(&mut self, due: Time) {
        let node = self.nodes.iter_mut().find(|node| node.beats.is_some_and(|(_, at)| at == due));
        let node = node.unwrap();
        let (epoch, at) = node.beats.as_mut().unwrap();
        *at = *at + BEAT_INTERVAL;
        let (id, epoch) = (node.id.clone(), *epoch);
        let echoed = node.echoed.map(|stamp| Echoed {
            epoch: EPOCH,
            stamp: stamp.as_nanos(),
            held: due.since(stamp + node.latency * 2),
        });
        let beat = Beat {
            ticked: true,
            draining: node.draining,
            full: node.full,
            joins_per_second: node.joins_per_second,
            echoed,
            ..Beat::default()
        };
        self.sequence += 1;
        self.handle(Input::Beat { node: id, epoch, sequence: self.sequence, beat });
    }

    fn outlook(&mut self, due: Time) {
        let other = self.others.iter_mut().find(|other| other.next_at == Some(due)).unwrap();
        other.next_at = Some(due + BEAT_INTERVAL);
        let heard = |name: &RegionName| other.hears.contains(&name.as_str());
        let bits = self.regions.iter().enumerate().filter(|(_, name)| heard(name));
        let outlook = Outlook {
            regions_digest: self.digest,
            hears: bits.fold(0, |bits, (n, _)| bits | 1 << n),
            shrunk: other.shrunk,
            alive: other.alive,
            stamp: due.as_nanos(),
            echoed: other.echoed.map(|stamp| Echoed {
                epoch: EPOCH,
                stamp: stamp.as_nanos(),
                held: due.since(stamp + LATENCY * 2),
            }),
            ..Outlook::default()
        };
        let gateway = other.id.clone();
        self.handle(Input::Outlook { gateway, epoch: Epoch(1), outlook });
    }

    // Nodes.

    pub(crate) fn node(&mut self, id: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id.as_str() == id).unwrap()
    }

    /// `node` is frozen, or its beats are lost.
    pub(crate) fn silence(&mut self, node: &str) {
        self.node(node).beats = None;
    }

    /// `node` beats from now on, as of `epoch`.
    pub(crate) fn start(&mut self, node: &str, epoch: u64) {
        let now = self.now;
        let node = self.node(node);
        (node.beats, node.echoed) = (Some((Epoch(epoch), now)), None);
    }

    /// `node` goes on after a silence.
    pub(crate) fn wake_up(&mut self, node: &str) {
        let now = self.now;
        self.node(node).beats = Some((Epoch(1), now));
    }

    /// All beats that are due come so much later than now: this process stood still.
    pub(crate) fn stand_still(&mut self, pause: Duration) {
        self.now = self.now + pause;
        let later = self.now + Duration::from_millis(300);
        for node in &mut self.nodes {
            node.beats = node.beats.map(|(epoch, _)| (epoch, later));
        }
    }

    pub(crate) fn stream(&mut self, node: &str, event: StreamEvent) {
        self.handle(Input::Stream { node: node.into(), event });
    }

    /// The room stream of `node` begins anew, by its `start`.
    pub(crate) fn connects(&mut self, node: &str, start: u64) {
        self.stream(node, StreamEvent::Connected);
        self.starts(node, start);
    }

    /// The room stream of `node` goes on as that of its `start`.
    pub(crate) fn starts(&mut self, node: &str, start: u64) {
        let frame = RoomFrame::Started { epoch: Epoch(start) };
        self.stream(node, StreamEvent::Frame(frame));
    }

    pub(crate) fn hosts(&mut self, node: &str, room: &str, generation: u64) {
        self.hosts_with(node, room, generation, None);
    }

    pub(crate) fn hosts_with(
        &mut self,
        node: &str,
        room: &str,
        generation: u64,
        settings: Option<RoomSettings>,
    ) {
        let (room, generation) = (room.into(), Generation(generation));
        self.stream(node, StreamEvent::Frame(RoomFrame::Hosted { room, generation, settings }));
    }

    pub(crate) fn closes(&mut self, node: &str, room: &str, generation: u64) {
        let (room, generation) = (room.into(), Generation(generation));
        let frame = RoomFrame::Closed { room, generation, lost: false };
        self.stream(node, StreamEvent::Frame(frame));
    }

    /// `node` gives the room up because of its lease, or for a newer home.
    pub(crate) fn loses(&mut self, node: &str, room: &str, generation: u64) {
        let (room, generation) = (room.into(), Generation(generation));
        let frame = RoomFrame::Closed { room, generation, lost: true };
        self.stream(node, StreamEvent::Frame(frame));
    }

    pub(crate) fn health(&self, node: &str) -> Health {
        self.role.view().node(&node.into()).unwrap().health
    }

    // Other gateways.

    pub(crate) fn other(&mut self, id: &str) -> &mut Other {
        self.others.iter_mut().find(|other| other.id.as_str() == id).unwrap()
    }

    pub(crate) fn wake_gateway(&mut self, id: &str) {
        let now = self.now;
        self.other(id).next_at = Some(now);
    }

    pub(crate) fn silence_gateway(&mut self, id: &str) {
        self.other(id).next_at = None;
    }

    // Clients.

    /// Somebody wants to join `room`; the wish's number.
    pub(crate) fn join(&mut self, room: &str) -> u64 {
        self.ask(room, Goal::Join)
    }

    pub(crate) fn ask(&mut self, room: &str, goal: Goal) -> u64 {
        let client = format!("client {}", self.asks + 1);
        self.wish(&client, room, goal, None)
    }

    /// `client` wants in, and is known to be near a region or not; the wish's number.
    pub(crate) fn wish(&mut self, client: &str, room: &str, goal: Goal, near: Option<&str>) -> u64 {
        self.asks += 1;
        self.waiting.insert(self.asks, room.to_owned());
        let (ask, near) = (AskId(self.asks), near.map(RegionName::from));
        self.handle(Input::Ask { ask, room: room.into(), client: client.into(), goal, near });
        self.asks
    }

    /// The node that the wish was sent to last, the generation, and whether it is the room's home; `None` while there is
    /// none.
    pub(crate) fn went(&self, ask: u64) -> Option<(&str, u64, bool)> {
        let Some(Ok(placement)) = self.went.get(&ask) else { return None };
        Some((placement.node.as_str(), placement.generation.0, placement.home))
    }

    pub(crate) fn unplaced(&self, ask: u64) -> Option<Unplaced> {
        self.went.get(&ask).and_then(|went| went.clone().err())
    }

    /// Where a wish that has not ended wants to.
    pub(crate) fn room_of(&self, ask: u64) -> Option<String> {
        self.waiting.get(&ask).cloned()
    }

    /// Wishes that have not ended.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Where somebody who joined `room` now would be sent at once.
    pub(crate) fn place(&mut self, room: &str) -> Option<(String, u64, bool)> {
        let ask = self.join(room);
        let went = self.went(ask).map(|(node, generation, home)| (node.into(), generation, home));
        self.withdraw(ask);
        went
    }

    pub(crate) fn withdraw(&mut self, ask: u64) {
        self.handle(Input::Withdrawn { ask: AskId(ask) });
    }

    pub(crate) fn refuse(&mut self, ask: u64, why: NodeRefusal) {
        self.handle(Input::Refused { ask: AskId(ask), why });
    }

    pub(crate) fn unreached(&mut self, ask: u64, connection_refused: bool) {
        self.handle(Input::Unreached { ask: AskId(ask), connection_refused });
    }

    /// The node takes the client: a session of the wish's number.
    pub(crate) fn admit(&mut self, ask: u64, room: &str) {
        let (node, generation, _) = self.went(ask).unwrap();
        let node = node.to_owned();
        self.open_for(ask, ask, room, &node, generation);
    }

    /// A session that is there, without a wish that anybody saw.
    pub(crate) fn open(&mut self, session: u64, room: &str, node: &str, generation: u64) {
        self.open_for(session, 1_000_000 + session, room, node, generation);
    }

    fn open_for(&mut self, session: u64, ask: u64, room: &str, node: &str, generation: u64) {
        let (client, generation) = (format!("client {session}").into(), Generation(generation));
        let at = Session { room: room.into(), client, node: node.into(), generation };
        self.opens(session, ask, at);
    }

    pub(crate) fn opens(&mut self, session: u64, ask: u64, at: Session) {
        self.open.insert(session);
        self.handle(Input::Opened { session: SessionId(session), ask: AskId(ask), at });
    }

    pub(crate) fn close(&mut self, session: u64) {
        self.open.remove(&session);
        self.told.remove(&session);
        self.handle(Input::Closed { session: SessionId(session) });
    }

    pub(crate) fn break_link(&mut self, session: u64) {
        self.handle(Input::LinkLost { session: SessionId(session) });
    }

    // What was said.

    /// Everybody told since the last look: how long after `since`, who, why.
    pub(crate) fn told(&mut self, since: Time) -> Vec<(u128, u64, Why)> {
        let told = self.said.drain(..).filter_map(|(at, output)| match output {
            Output::Tell { session, why } => Some((at.since(since).as_millis(), session.0, why)),
            _ => None,
        });
        told.collect()
    }

    /// Everybody steered since the last look: who, and to which home.
    pub(crate) fn steered(&mut self) -> Vec<(String, String, u64)> {
        let steered = self.said.drain(..).filter_map(|(_, output)| match output {
            Output::Steer { node, steer: Steer { generation, node: winner, .. } } => {
                Some((node.to_string(), winner.to_string(), generation.0))
            }
            _ => None,
        });
        steered.collect()
    }
}

//! The gateway as a machine: `handle(now, input, out)` and `wake_at()`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use outlast_control::{Change, Health, NodeFacts, PlaceError, Placement, View, Watch, place};
use outlast_model::{Epoch, Generation, Identity, NodeId, RegionName, RoomName, SessionId, Time};
use outlast_wire::{Beat, Echo, RoomFrame};

use crate::{
    breaks::{BREAK_WAIT, Breaks},
    tell::{Pace, Why},
};

/// Longest wait, after a start, for the nodes to name their rooms.
pub const SETTLE_MAX: Duration = Duration::from_secs(2);
/// A wake-up later than this means that this process stood still, not the nodes.
const OWN_PAUSE_MIN: Duration = Duration::from_millis(500);

/// What the configuration says.
#[derive(Clone, Debug)]
pub struct RoleConfig {
    /// This gateway's start.
    pub epoch: Epoch,
    /// Every node of every region.
    pub nodes: Vec<NodeFacts>,
    /// RECONNECTs a second.
    pub tell_per_second: u32,
}

/// A proxied signalling connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its room.
    pub room: RoomName,
    /// Whose it is.
    pub client: Identity,
    /// The node behind it.
    pub node: NodeId,
    /// The placement under which it was admitted.
    pub generation: Generation,
}

/// What happens to a gateway.
#[derive(Clone, Debug)]
pub enum Input {
    /// An authentic, new beat of a node.
    Beat {
        /// Whose.
        node: NodeId,
        /// Of which start.
        epoch: Epoch,
        /// Its sequence number.
        sequence: u64,
        /// What it says.
        beat: Beat,
    },
    /// Something on a node's room stream.
    Stream {
        /// Whose.
        node: NodeId,
        /// What.
        event: StreamEvent,
    },
    /// A node has admitted a client; frames flow.
    Opened {
        /// The shell's number for it.
        session: SessionId,
        /// Where it is.
        at: Session,
    },
    /// The connection to the node broke without a word; the client is still there.
    LinkLost {
        /// Which session.
        session: SessionId,
    },
    /// A session is over, however.
    Closed {
        /// Which session.
        session: SessionId,
    },
    /// A node's machine refused a connection.
    Refused {
        /// Whose.
        node: NodeId,
    },
    /// Time has passed.
    Wake,
    /// This gateway is to stop: everybody is told, paced.
    Drain,
}

/// What a room stream does.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// It begins; the node will name every room.
    Connected,
    /// A frame.
    Frame(RoomFrame),
    /// It broke.
    Lost,
}

/// What a gateway wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Seal and send this to the node.
    Echo {
        /// To whom.
        node: NodeId,
        /// What.
        echo: Echo,
    },
    /// Send the client `leave{RECONNECT}` and close; only close when [`Why::resumes`].
    Tell {
        /// Whom.
        session: SessionId,
        /// Why.
        why: Why,
    },
    /// A change of mind about a node, for the log.
    Verdict {
        /// About whom.
        node: NodeId,
        /// What.
        change: Change,
    },
    /// After [`Input::Drain`]: no session is left.
    Drained,
}

/// A room that cannot be resumed: its home is unknown, down, or giving its rooms away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Where a room is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// Nobody has named it.
    Unknown,
    /// Its home is down; its clients are about to move it.
    Down,
    /// At its home.
    At(Placement),
}

/// Counts for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Nodes that live, are suspect, are down.
    pub nodes: [usize; 3],
    /// Rooms known.
    pub rooms: usize,
    /// Sessions proxied.
    pub sessions: usize,
    /// Sessions told so far, by [`Why::index`].
    pub told: [u64; Why::ALL.len()],
}

#[derive(Default)]
struct NodeState {
    watch: Watch,
    heard_at: Time,
    stream: Stream,
    rtt: Option<Duration>,
    breaks: Breaks,
}

#[derive(Default)]
enum Stream {
    #[default]
    Never,
    Lost,
    Naming {
        since: Time,
        named: BTreeSet<RoomName>,
    },
    Synced {
        since: Time,
    },
}

/// The gateway's mind.
pub struct Role {
    epoch: Epoch,
    started: Time,
    view: View,
    nodes: BTreeMap<NodeId, NodeState>,
    sessions: BTreeMap<SessionId, (Session, Time)>,
    by_room: BTreeMap<RoomName, BTreeSet<SessionId>>,
    pace: Pace,
    /// Sessions whose connection to the node broke, in the order in which their time to be told comes.
    broken: VecDeque<(Time, SessionId)>,
    told: [u64; Why::ALL.len()],
    draining: bool,
}

impl Role {
    /// A gateway that has heard nothing yet.
    pub fn new(config: RoleConfig, now: Time) -> Role {
        let nodes = config.nodes.iter().map(|facts| (facts.id.clone(), NodeState::default()));
        Role {
            epoch: config.epoch,
            started: now,
            nodes: nodes.collect(),
            view: View::new(config.nodes),
            sessions: BTreeMap::new(),
            by_room: BTreeMap::new(),
            pace: Pace::new(config.tell_per_second),
            broken: VecDeque::new(),
            told: Default::default(),
            draining: false,
        }
    }

    /// Takes one input, and adds to `out` what follows from it.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        self.forgive_own_pause(now);
        match input {
            Input::Beat { node, epoch, sequence, beat } => {
                self.beat(now, &node, epoch, sequence, &beat, out);
            }
            Input::Stream { node, event } => self.stream(now, &node, event, out),
            Input::Opened { session, at } => self.opened(now, session, at),
            Input::LinkLost { session } => self.link_lost(now, session, out),
            Input::Closed { session } => self.closed(session),
            Input::Refused { node } => {
                let change = self.nodes.get_mut(&node).and_then(|state| state.watch.refused(now));
                self.apply(&node, change, out);
            }
            Input::Wake => {}
            Input::Drain => {
                self.draining = true;
                self.tell_where(Why::GatewayLeaving, |_, _| true);
            }
        }
        self.wake(now, out);
    }

    /// When [`Input::Wake`] is due.
    pub fn wake_at(&self) -> Option<Time> {
        let watches = self.nodes.values().filter_map(|state| state.watch.wake_at());
        let broken = self.broken.front().map(|(due, _)| *due);
        watches.chain(self.pace.wake_at()).chain(broken).min()
    }

    /// A node for a fresh join; see [`outlast_control::place`].
    ///
    /// # Errors
    /// When there is none now.
    pub fn place(&self, room: &RoomName, tried: &[NodeId]) -> Result<Placement, PlaceError> {
        place(&self.view, room, tried)
    }

    /// The home of a room that a client was in.
    ///
    /// # Errors
    /// When it is unknown, down, or drains while another node takes rooms: the client has to join anew.
    pub fn resume(&self, room: &RoomName) -> Result<Placement, Gone> {
        let (placement, draining) = self.living_home(room).ok_or(Gone)?;
        if draining && self.takes_rooms() { Err(Gone) } else { Ok(placement) }
    }

    /// Where a room is, for a call to the server API: at a draining home too, as long as it is there.
    pub fn locate(&self, room: &RoomName) -> Located {
        match self.living_home(room) {
            Some((placement, _)) => Located::At(placement),
            None if self.view.home(room).is_some() => Located::Down,
            None => Located::Unknown,
        }
    }

    /// The room's home if it is not down, and whether it drains.
    fn living_home(&self, room: &RoomName) -> Option<(Placement, bool)> {
        let home = self.view.home(room)?;
        let node = self.view.node(&home.node).filter(|node| node.health != Health::Down)?;
        let placement = Placement { node: home.node, generation: home.generation, home: true };
        Some((placement, node.draining))
    }

    fn takes_rooms(&self) -> bool {
        self.view.nodes().any(outlast_control::NodeView::takes_rooms)
    }

    /// Whether the view is as good as it gets: every node that lives has named its rooms, and one lives, or
    /// [`SETTLE_MAX`] has passed since the start. Before, an unknown room may well exist.
    pub fn settled(&self, now: Time) -> bool {
        let mut alive =
            self.nodes.values().filter(|state| state.watch.health() != Health::Down).peekable();
        now.since(self.started) >= SETTLE_MAX
            || alive.peek().is_some()
                && alive.all(|state| matches!(state.stream, Stream::Synced { .. }))
    }

    /// Nodes and rooms as known.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Smoothed round trip of datagrams to the nearest node of `region`; `None` before the first echo came back.
    pub fn rtt(&self, region: &RegionName) -> Option<Duration> {
        let here = self.view.nodes().filter(|node| node.facts.region == *region);
        here.filter_map(|node| self.nodes.get(&node.facts.id)?.rtt).min()
    }

    /// Counts for metrics.
    pub fn facts(&self) -> Facts {
        let mut nodes = [0; 3];
        for state in self.nodes.values() {
            nodes[state.watch.health() as usize] += 1;
        }
        Facts { nodes, rooms: self.view.rooms(), sessions: self.sessions.len(), told: self.told }
    }

    fn beat(
        &mut self,
        now: Time,
        node: &NodeId,
        epoch: Epoch,
        sequence: u64,
        beat: &Beat,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.nodes.get_mut(node) else { return };
        let echo = Echo { heard_epoch: epoch, heard_sequence: sequence, stamp: now.as_nanos() };
        out.push(Output::Echo { node: node.clone(), echo });
        if let Some(echoed) = beat.echoed.filter(|echoed| echoed.epoch == self.epoch) {
            let sample = now.since(Time::from_nanos(echoed.stamp)).saturating_sub(echoed.held);
            state.rtt = Some(state.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        }
        // Only a beat that has passed every shard says that media flows.
        if !beat.ticked {
            return;
        }
        let heard_before = std::mem::replace(&mut state.heard_at, now);
        let (restarted, change) = state.watch.beat(now, epoch);
        if restarted {
            self.restarted(now, node, heard_before);
        }
        self.apply(node, change, out);
        let view = self.view.node_mut(node).expect("states and view have the same nodes");
        view.load_permille = beat.load_permille;
        let drains_now = beat.draining && !view.draining;
        view.draining = beat.draining;
        if drains_now && self.takes_rooms() {
            self.tell_where(Why::NodeDraining, |session, _| session.node == *node);
        }
    }

    /// The node's process is another one than that last heard at `heard_before`; what is younger belongs to the new one.
    fn restarted(&mut self, now: Time, node: &NodeId, heard_before: Time) {
        self.tell_where(Why::NodeRestarted, |session, opened_at| {
            session.node == *node && opened_at <= heard_before
        });
        let state = self.nodes.get(node).expect("the caller has it");
        match state.stream {
            Stream::Naming { since, .. } | Stream::Synced { since } if since > heard_before => {}
            _ => {
                self.view.retain(now, node, &BTreeSet::new());
            }
        }
    }

    fn stream(&mut self, now: Time, node: &NodeId, event: StreamEvent, out: &mut Vec<Output>) {
        let Some(state) = self.nodes.get_mut(node) else { return };
        match event {
            StreamEvent::Connected => {
                state.stream = Stream::Naming { since: now, named: BTreeSet::new() };
            }
            StreamEvent::Lost => {
                state.stream = Stream::Lost;
                let change = state.watch.link_lost(now);
                self.apply(node, change, out);
            }
            StreamEvent::Frame(RoomFrame::Hosted { room, generation }) => {
                if let Stream::Naming { named, .. } = &mut state.stream {
                    named.insert(room.clone());
                }
                if self.view.opened(node, &room, generation) {
                    self.supersede(&room);
                }
            }
            StreamEvent::Frame(RoomFrame::Closed { room, generation }) => {
                if let Stream::Naming { named, .. } = &mut state.stream {
                    named.remove(&room);
                }
                self.view.closed(now, node, &room, generation);
            }
            StreamEvent::Frame(RoomFrame::Synced) => {
                if let Stream::Naming { since, named } = &mut state.stream {
                    let (since, named) = (*since, std::mem::take(named));
                    state.stream = Stream::Synced { since };
                    self.view.retain(now, node, &named);
                }
            }
        }
    }

    /// The sessions of `room` that are not at the home that counts.
    fn supersede(&mut self, room: &RoomName) {
        let Some(sessions) = self.by_room.get(room) else { return };
        for id in sessions {
            if self.is_superseded(*id) {
                self.pace.push(*id, Why::Superseded);
            }
        }
    }

    fn is_superseded(&self, id: SessionId) -> bool {
        let Some((session, _)) = self.sessions.get(&id) else { return false };
        let Some(home) = self.view.home(&session.room) else { return false };
        // The session's own placement may be newer than what its node's stream has said so far.
        home.node != session.node
            && (home.generation > session.generation
                || home.generation == session.generation && home.node < session.node)
    }

    fn opened(&mut self, now: Time, id: SessionId, session: Session) {
        let down = self.nodes.get(&session.node).is_none_or(|s| s.watch.health() == Health::Down);
        self.by_room.entry(session.room.clone()).or_default().insert(id);
        self.sessions.insert(id, (session, now));
        // The world went on while the node was thinking.
        if self.draining {
            self.pace.push(id, Why::GatewayLeaving);
        } else if down {
            self.pace.push(id, Why::NodeDown);
        } else if self.is_superseded(id) {
            self.pace.push(id, Why::Superseded);
        }
    }

    /// One connection that breaks is as likely the client's doing as the node's; what counts against the node is that
    /// several did, or its room stream as well. The client hears of it when the rest has had time to break.
    fn link_lost(&mut self, now: Time, id: SessionId, out: &mut Vec<Output>) {
        let Some((session, _)) = self.sessions.get(&id) else { return };
        self.broken.push_back((now + BREAK_WAIT, id));
        let node = session.node.clone();
        let Some(state) = self.nodes.get_mut(&node) else { return };
        let several = state.breaks.add(now, &session.client);
        if several || matches!(state.stream, Stream::Lost) {
            let change = state.watch.link_lost(now);
            self.apply(&node, change, out);
        }
    }

    /// What to tell a session whose connection broke.
    fn why_broken(&self, session: &Session) -> Why {
        let fine = self.nodes.get(&session.node).is_some_and(|state| {
            // Alive: beats are fresh, and nothing speaks against the node.
            state.watch.health() == Health::Alive
                && matches!(state.stream, Stream::Naming { .. } | Stream::Synced { .. })
        });
        if fine { Why::LinkReset } else { Why::LinkLost }
    }

    fn closed(&mut self, id: SessionId) {
        let Some((session, _)) = self.sessions.remove(&id) else { return };
        self.pace.forget(id);
        if let Some(sessions) = self.by_room.get_mut(&session.room) {
            sessions.remove(&id);
            if sessions.is_empty() {
                self.by_room.remove(&session.room);
            }
        }
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        let changes: Vec<_> = self
            .nodes
            .iter_mut()
            .filter_map(|(node, state)| Some((node.clone(), state.watch.wake(now)?)))
            .collect();
        for (node, change) in changes {
            self.apply(&node, Some(change), out);
        }
        while let Some((_, id)) = self.broken.pop_front_if(|(due, _)| *due <= now) {
            if let Some((session, _)) = self.sessions.get(&id) {
                self.pace.push(id, self.why_broken(session));
            }
        }
        while let Some((session, mut why)) = self.pace.pop(now) {
            if let (Why::LinkReset, Some((at, _))) = (why, self.sessions.get(&session)) {
                // The node may have died while the session waited for its turn.
                why = self.why_broken(at);
            }
            self.told[why.index()] += 1;
            out.push(Output::Tell { session, why });
        }
        if self.draining && self.sessions.is_empty() {
            out.push(Output::Drained);
        }
    }

    fn apply(&mut self, node: &NodeId, change: Option<Change>, out: &mut Vec<Output>) {
        let Some(change) = change else { return };
        self.view.node_mut(node).expect("states and view have the same nodes").health = change.to;
        out.push(Output::Verdict { node: node.clone(), change });
        if change.to == Health::Down {
            self.tell_where(Why::NodeDown, |session, _| session.node == *node);
        }
    }

    /// Room by room, and rooms in the same order at every gateway: who is told moves the room, and the others of it are
    /// to follow at once.
    fn tell_where(&mut self, why: Why, mut chosen: impl FnMut(&Session, Time) -> bool) {
        for id in self.by_room.values().flatten() {
            let (session, opened_at) =
                self.sessions.get(id).expect("rooms name sessions that are there");
            if chosen(session, *opened_at) {
                self.pace.push(*id, why);
            }
        }
    }

    /// A process that was stopped hears its nodes' silence only because it did not listen.
    fn forgive_own_pause(&mut self, now: Time) {
        let Some(due) = self.wake_at() else { return };
        let late = now.since(due);
        if late < OWN_PAUSE_MIN {
            return;
        }
        for state in self.nodes.values_mut() {
            state.watch.forgive(late);
        }
    }
}

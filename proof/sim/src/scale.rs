//! The second grain: a whole internet of it. Real gateways' roles, real nodes' tenures, the real table; people are rows, paths
//! are fixed spans, datagrams arrive at once. A region is lost, and what that costs is counted.

mod growth;
mod meter;
mod outcome;
mod plots;
mod report;
mod setup;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use outlast_directory::{CallId, Reply, Request, RoomKeyer, Table};
use outlast_gateway_core::{
    AskId, Goal, Input, NodeRefusal, Output, Placement, Role, Session, StreamEvent, Unplaced,
};
use outlast_model::{
    BEAT_INTERVAL, GatewayId, Generation, Identity, NodeId, RoomName, SessionId, Time,
};
use outlast_tenure::{
    Admission, Goal as NodeGoal, Input as NodeInput, Output as NodeOutput, Tenure, Why as Refused,
};

use crate::{chance::Stream, retry::Sdk};

use meter::Meter;
pub(crate) use report::Scale;

/// Resumes are noticed by pings: three seconds and a bit.
const PING_NOTICE: Duration = Duration::from_millis(3_300);
/// What a join takes of a client beside round trips.
const MEDIA_WORK: Duration = Duration::from_millis(60);
/// A round trip between regions, for everything that is not worth more.
const ROUND_TRIP: Duration = Duration::from_millis(120);
/// What a join takes of a node's one core, one after the other: as `docs/benchmarks.md` has it.
const JOIN_WORK: Duration = Duration::from_micros(305);

/// What happens.
#[derive(Clone, Debug)]
enum Happens {
    Tick(usize),
    Wake(usize),
    Lost,
    /// A client asks its gateway.
    Asks(u32, Goal),
    /// A node is asked.
    AtNode {
        gateway: usize,
        ask: AskId,
        placement: Placement,
    },
    /// Its answer is back.
    Answered {
        gateway: usize,
        ask: AskId,
        placement: Placement,
        admission: Admission,
    },
    Directory {
        gateway: usize,
        call: CallId,
        reply: Reply,
    },
    /// A client's media is up.
    Up(u32),
}

struct Planned(Time, u64, Happens);

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// A person.
#[derive(Clone, Copy, Debug)]
struct Person {
    room: u32,
    gateway: u16,
    tries: u8,
    sdk: Sdk,
    /// The node that carries its media, or has before it went out.
    node: u32,
    out_since: Option<Time>,
}

/// What one gateway has handled and spent so far.
#[derive(Clone, Copy, Debug, Default)]
struct Effort {
    /// Beats in, and as many echoes out.
    beats: u64,
    /// Outlooks in, and as many out.
    outlooks: u64,
    /// Frames of room streams, in.
    frames: u64,
    /// Calls of the directory that were answered.
    calls: u64,
    /// Joins and resumes of clients.
    asks: u64,
    told: u64,
    /// CPU time of its role.
    spent: Duration,
    /// The most of it for one input.
    longest: Duration,
}

struct Gateway {
    role: Role,
    region: usize,
    lives: bool,
    wake: Option<Time>,
    effort: Effort,
    out: Vec<Output>,
}

struct Node {
    tenure: Tenure,
    region: usize,
    lives: bool,
    participants: u32,
    rooms: u32,
    /// Joins that it has admitted are worked off by then.
    busy_until: Time,
    out: Vec<NodeOutput>,
}

/// The world at this grain.
struct Globe {
    now: Time,
    /// When the region is lost, once that is known.
    lost_at: Time,
    planned: u64,
    heap: BinaryHeap<Reverse<Planned>>,
    gateways: Vec<Gateway>,
    nodes: Vec<Node>,
    people: Vec<Person>,
    /// The person of each ask and each session.
    asks: Vec<u32>,
    sessions: Vec<u32>,
    table: Table,
    keyer: RoomKeyer,
    room_names: Vec<RoomName>,
    node_ids: Vec<NodeId>,
    gateway_ids: Vec<GatewayId>,
    identities: Vec<Identity>,
    chance: Stream,
    meter: Meter,
    /// Longest wait of an admitted join for its node's core.
    core_wait: Duration,
    /// When each person that was out was back, in milliseconds after the loss.
    back: Vec<u32>,
    out: u64,
    lost: u64,
    unplaced: u64,
    refused: u64,
}

impl Globe {
    fn at(&mut self, time: Time, happens: Happens) {
        self.planned += 1;
        self.heap.push(Reverse(Planned(time, self.planned, happens)));
    }

    fn run(&mut self, until: Time) {
        while self.heap.peek().is_some_and(|Reverse(next)| next.0 <= until)
            && let Some(Reverse(Planned(time, _, happens))) = self.heap.pop()
        {
            self.now = time;
            self.happen(happens);
        }
    }

    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::Tick(node) => self.tick(node),
            Happens::Wake(gateway) => {
                if self.gateways[gateway].wake == Some(self.now) {
                    self.gateways[gateway].wake = None;
                    self.tell(gateway, Input::Wake);
                }
            }
            Happens::Lost => self.lose_region(),
            Happens::Asks(person, goal) => self.asks(person, goal),
            Happens::AtNode { gateway, ask, placement } => self.at_node(gateway, ask, placement),
            Happens::Answered { gateway, ask, placement, admission } => {
                self.answered(gateway, ask, placement, admission);
            }
            Happens::Directory { gateway, call, reply } => {
                self.gateways[gateway].effort.calls += 1;
                self.tell(gateway, Input::Directory { call, reply });
            }
            Happens::Up(person) => self.up(person),
        }
    }

    /// Region 0 is gone, with its nodes and gateways.
    fn lose_region(&mut self) {
        for node in &mut self.nodes {
            node.lives &= node.region != 0;
        }
        for gateway in &mut self.gateways {
            gateway.lives &= gateway.region != 0;
        }
        for person in 0..self.people.len() {
            let it = self.people[person];
            if !self.gateways[it.gateway as usize].lives {
                // Its media is elsewhere and goes on; its signalling resumes through another gateway.
                let living = self.gateways.iter().filter(|gateway| gateway.lives).count();
                let next = self.chance.index(living);
                let next = (0..self.gateways.len()).filter(|g| self.gateways[*g].lives).nth(next);
                self.people[person].gateway = next.unwrap_or(0) as u16;
                let spread = self.chance.millis(0, 1_500);
                let at = self.now + PING_NOTICE + spread;
                self.at(at, Happens::Asks(person as u32, Goal::Resume));
            }
        }
    }

    fn tick(&mut self, node: usize) {
        if !self.nodes[node].lives {
            return;
        }
        self.at(self.now + BEAT_INTERVAL, Happens::Tick(node));
        let it = &self.nodes[node];
        let ticked = NodeInput::Ticked {
            load_permille: (it.participants / 4).min(1_000) as u16,
            cpu_permille: 200,
            rooms: it.rooms,
            participants: it.participants,
            joins_admitted: 0,
            joins_connected: 0,
        };
        self.hold(node, ticked);
    }

    /// Tells a node's machine something, and does what it says.
    fn hold(&mut self, node: usize, input: NodeInput) -> Option<Admission> {
        let mut out = std::mem::take(&mut self.nodes[node].out);
        self.nodes[node].tenure.handle(self.now, input, &mut out);
        let mut answer = None;
        for output in out.drain(..) {
            match output {
                NodeOutput::Beat { gateway, epoch, sequence, beat } => {
                    let to = gateway_number(&gateway);
                    let node = self.node_ids[node].clone();
                    if self.gateways[to].lives {
                        self.gateways[to].effort.beats += 1;
                        self.tell(to, Input::Beat { node, epoch, sequence, beat });
                    }
                }
                NodeOutput::Probed { gateway, probed, .. } => {
                    let (to, node) = (gateway_number(&gateway), self.node_ids[node].clone());
                    self.tell(to, Input::Probed { node, probed });
                }
                NodeOutput::Answer { answer: admission, .. } => answer = Some(admission),
                NodeOutput::Frame { follower, frame } => {
                    let to = follower as usize;
                    if self.gateways[to].lives {
                        self.gateways[to].effort.frames += 1;
                        let node = self.node_ids[node].clone();
                        let event = StreamEvent::Frame(frame);
                        self.tell(to, Input::Stream { node, event });
                    }
                }
                _ => {}
            }
        }
        self.nodes[node].out = out;
        answer
    }

    /// Tells a gateway's role something, and does what it says.
    fn tell(&mut self, gateway: usize, input: Input) {
        let it = &mut self.gateways[gateway];
        if !it.lives {
            return;
        }
        let mut out = std::mem::take(&mut it.out);
        let began = meter::cpu();
        it.role.handle(self.now, input, &mut out);
        let spent = self.meter.since(began);
        it.effort.spent += spent;
        it.effort.longest = it.effort.longest.max(spent);
        for output in out.drain(..) {
            self.does(gateway, output);
        }
        let it = &mut self.gateways[gateway];
        it.out = out;
        if let Some(due) = it.role.wake_at().map(|due| due.max(self.now))
            && it.wake.is_none_or(|planned| due < planned)
        {
            it.wake = Some(due);
            self.at(due, Happens::Wake(gateway));
        }
    }

    fn does(&mut self, gateway: usize, output: Output) {
        match output {
            Output::Echo { node, echo } => {
                let node = node_number(&node);
                let id = self.gateway_ids[gateway].clone();
                if self.nodes[node].lives {
                    let epoch = setup::GATEWAY_EPOCH;
                    self.hold(node, NodeInput::Echo { gateway: id, epoch, echo });
                }
            }
            Output::Outlook { gateway: to, outlook } => {
                let to = gateway_number(&to);
                self.gateways[to].effort.outlooks += 1;
                let from = self.gateway_ids[gateway].clone();
                let epoch = setup::GATEWAY_EPOCH;
                self.tell(to, Input::Outlook { gateway: from, epoch, outlook });
            }
            Output::Probe { node, probe } => {
                let node = node_number(&node);
                let id = self.gateway_ids[gateway].clone();
                if self.nodes[node].lives {
                    self.hold(node, NodeInput::Probe { gateway: id, probe });
                }
            }
            Output::Go { ask, placement, .. } => {
                self.at(self.now + ROUND_TRIP, Happens::AtNode { gateway, ask, placement });
            }
            Output::Unplaced { ask, why, .. } => self.unplaced(ask, why),
            Output::Tell { session, .. } => {
                self.gateways[gateway].effort.told += 1;
                let person = self.sessions[session.0 as usize];
                self.goes_out(person);
                let it = &mut self.people[person as usize];
                it.tries = 0;
                let at = self.now + it.sdk.pause_when_told() + ROUND_TRIP;
                self.at(at, Happens::Asks(person, Goal::Join));
                self.tell(gateway, Input::Closed { session });
            }
            Output::Directory { call, request } => self.directory(gateway, call, &request),
            Output::Bulletin { .. }
            | Output::Steer { .. }
            | Output::Verdict { .. }
            | Output::Ejection { .. }
            | Output::RegionVerdict { .. }
            | Output::Drained => {}
        }
    }

    fn directory(&mut self, gateway: usize, call: CallId, request: &Request) {
        let reply = self.table.apply(self.now, request);
        self.at(self.now + ROUND_TRIP, Happens::Directory { gateway, call, reply });
    }

    fn asks(&mut self, person: u32, goal: Goal) {
        let it = self.people[person as usize];
        let gateway = it.gateway as usize;
        let ask = AskId(self.asks.len() as u64);
        self.asks.push(person);
        self.gateways[gateway].effort.asks += 1;
        let room = self.room_names[it.room as usize].clone();
        let client = self.identities[person as usize].clone();
        self.tell(gateway, Input::Ask { ask, room, client, goal, near: None });
    }

    fn at_node(&mut self, gateway: usize, ask: AskId, placement: Placement) {
        let node = node_number(&placement.node);
        if !self.nodes[node].lives {
            // Nothing answers; the role will think of another.
            return;
        }
        let person = self.asks[ask.0 as usize] as usize;
        let room = self.room_names[self.people[person].room as usize].clone();
        let generation = placement.generation;
        let goal =
            if self.people[person].out_since.is_some() { NodeGoal::Join } else { NodeGoal::Resume };
        let asked = NodeInput::Ask { ask: ask.0, room: room.clone(), generation, goal };
        let Some(admission) = self.hold(node, asked) else { return };
        if let Admission::Admit { generation } = admission
            && self.nodes[node].tenure.generation(&room).is_none()
        {
            self.nodes[node].rooms += 1;
            self.hold(node, NodeInput::Opened { room, generation, settings: None });
        }
        let mut back = self.now + ROUND_TRIP / 2;
        if let Admission::Admit { .. } = admission {
            let busy = &mut self.nodes[node].busy_until;
            self.core_wait = self.core_wait.max(busy.since(self.now));
            *busy = (*busy).max(self.now) + JOIN_WORK;
            back = *busy + ROUND_TRIP / 2;
        }
        self.at(back, Happens::Answered { gateway, ask, placement, admission });
    }

    fn answered(&mut self, gateway: usize, ask: AskId, placement: Placement, admission: Admission) {
        let person = self.asks[ask.0 as usize];
        match admission {
            Admission::Admit { generation } => {
                let session = SessionId(self.sessions.len() as u64);
                self.sessions.push(person);
                let it = self.people[person as usize];
                let at = Session {
                    room: self.room_names[it.room as usize].clone(),
                    client: self.identities[person as usize].clone(),
                    node: placement.node.clone(),
                    generation,
                };
                self.tell(gateway, Input::Opened { session, ask, at });
                if it.out_since.is_some() {
                    let node = node_number(&placement.node);
                    let before =
                        std::mem::replace(&mut self.people[person as usize].node, node as u32);
                    self.nodes[before as usize].participants -= 1;
                    self.nodes[node].participants += 1;
                    self.at(self.now + 2 * ROUND_TRIP + MEDIA_WORK, Happens::Up(person));
                }
            }
            Admission::Refuse(refusal) => {
                self.refused += 1;
                let why = match refusal.why {
                    Refused::Stale => NodeRefusal::Stale(refusal.known),
                    Refused::Full => NodeRefusal::Full,
                    Refused::Draining => NodeRefusal::Draining,
                    Refused::Busy => NodeRefusal::Busy,
                    Refused::Fenced => NodeRefusal::Other,
                };
                self.tell(gateway, Input::Refused { ask, why });
            }
        }
    }

    fn unplaced(&mut self, ask: AskId, why: Unplaced) {
        self.unplaced += 1;
        let person = self.asks[ask.0 as usize];
        self.goes_out(person);
        let it = &mut self.people[person as usize];
        it.tries += 1;
        if it.tries >= crate::retry::TRIES_MAX {
            self.lost += 1;
            return;
        }
        let (sdk, tries) = (it.sdk, it.tries);
        let pause = match why {
            Unplaced::Gone => sdk.pause_when_gone(),
            Unplaced::NoNode | Unplaced::Shed => sdk.pause(tries, &mut self.chance),
        };
        self.at(self.now + pause + ROUND_TRIP, Happens::Asks(person, Goal::Join));
    }

    fn goes_out(&mut self, person: u32) {
        let since = &mut self.people[person as usize].out_since;
        if since.is_none() {
            *since = Some(self.lost_at);
            self.out += 1;
        }
    }

    fn up(&mut self, person: u32) {
        if let Some(since) = self.people[person as usize].out_since.take() {
            self.back.push(self.now.since(since).as_millis() as u32);
        }
    }
}

fn node_number(id: &NodeId) -> usize {
    number(id.as_str())
}

fn gateway_number(id: &GatewayId) -> usize {
    number(id.as_str())
}

/// Ids here end with a number.
fn number(id: &str) -> usize {
    let digits = id.rsplit('-').next().unwrap_or_default();
    digits.parse().expect("an id ends with its number")
}

/// The generation of every room before the loss.
const FIRST: Generation = Generation(1);

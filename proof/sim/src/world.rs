//! The whole world of one run, and its loop: the next event, what follows from it, what the observer makes of it.

use std::time::Duration;

use outlast_directory::RoomKeyer;
use outlast_model::{GatewayId, NodeId, RegionName, RoomName, Time};

use crate::{
    chance::Stream,
    client::Client,
    conn::{Conns, Frame, Purpose},
    disk::Disk,
    engine::{Engine, EngineAnswer, EngineCall},
    event::{ConnId, Event, Side, Slots, Timer},
    flaps::Flaps,
    gateway::Gateway,
    geography,
    names::NameServers,
    network::Network,
    node::Node,
    observer::Observer,
    packet::Packet,
    process::{Clock, Process, State},
    queue::Queue,
    retry::Sdk,
    rights::Operators,
    schedule::{Names, Schedule, What},
    trace::Trace,
};

/// Most events of one moment; more is a machine that wants to be woken at once, again and again.
const AT_ONCE_MAX: u32 = 20_000;

/// Times further apart on a process's clock are in the same order in the world's: [`Clock::world`] is exact to microseconds.
const CLOCK_GRAIN: Duration = Duration::from_millis(1);

/// What is switched off on purpose, to see that it is missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Knobs {
    /// Gateways tell nobody, and rooms stay where they were placed first.
    pub(crate) no_failover: bool,
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) end: Time,
    pub(crate) knobs: Knobs,
    pub(crate) schedule: Schedule,
    pub(crate) names: Names,
    pub(crate) queue: Queue,
    pub(crate) net: Network,
    pub(crate) conns: Conns,
    pub(crate) packets: Slots<Packet>,
    pub(crate) calls: Slots<EngineCall>,
    pub(crate) answers: Slots<EngineAnswer>,
    /// Gateways first, then nodes; also the numbers of their hosts.
    pub(crate) processes: Vec<Process>,
    pub(crate) gateways: Vec<Gateway>,
    /// By gateway; they outlast processes.
    pub(crate) disks: Vec<Disk>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) engine: Engine,
    pub(crate) dns: NameServers,
    pub(crate) phases: Stream,
    pub(crate) people: Stream,
    pub(crate) sdk_chance: Stream,
    pub(crate) room_names: Vec<RoomName>,
    pub(crate) node_ids: Vec<NodeId>,
    pub(crate) gateway_ids: Vec<GatewayId>,
    pub(crate) region_names: Vec<RegionName>,
    pub(crate) keyer: RoomKeyer,
    pub(crate) members: u32,
    pub(crate) observer: Observer,
    pub(crate) flaps: Flaps,
    pub(crate) operators: Operators,
    pub(crate) trace: Trace,
}

impl World {
    /// The world of `schedule`, before anything has happened.
    pub(crate) fn new(schedule: Schedule, knobs: Knobs, telling: bool) -> World {
        let seed = schedule.seed;
        let shape = &schedule.world;
        let names = Names::of(shape);
        let cities: Vec<_> = shape
            .regions
            .iter()
            .map(|name| geography::city(name).expect("the schedule was checked"))
            .collect();
        let mut net = Network::new(&cities, shape.loss_permille, Stream::named(seed, "network"));
        let mut phases = Stream::named(seed, "phases");
        let processes: Vec<Process> = names
            .processes
            .iter()
            .map(|(_, region)| {
                let host = net.add(*region);
                Process::new(host, *region, clock(&mut phases, Time::ZERO, shape.clock_ppm))
            })
            .collect();
        let regions = cities.len();
        // Whoever runs a directory puts it where the longest way to it is shortest.
        let longest = |at: usize| (0..regions).map(|from| net.zone_latency(from, at)).max();
        let engine_region = (0..regions).min_by_key(|at| longest(*at)).unwrap_or(0);
        let engine_host = net.add(engine_region);
        let mut people = Stream::named(seed, "people");
        let clients = clients(&schedule, &mut net, &mut people);
        let id = |at: usize| names.processes[at].0.as_str();
        let nodes = names.gateways..names.processes.len();
        let mut world = World {
            now: Time::ZERO,
            end: Time::from_millis(schedule.seconds * 1_000),
            knobs,
            queue: Queue::default(),
            conns: Conns::default(),
            packets: Slots::default(),
            calls: Slots::default(),
            answers: Slots::default(),
            gateways: (0..names.gateways).map(|_| Gateway::default()).collect(),
            disks: vec![Disk::default(); names.gateways],
            nodes: nodes.clone().map(|_| Node::default()).collect(),
            clients,
            engine: Engine::new(engine_host, seed),
            dns: NameServers::default(),
            sdk_chance: Stream::named(seed, "sdk"),
            room_names: (0..shape.rooms).map(|n| format!("room-{n}").into()).collect(),
            node_ids: nodes.map(|at| id(at).into()).collect(),
            gateway_ids: (0..names.gateways).map(|at| id(at).into()).collect(),
            region_names: shape.regions.iter().map(|name| name.as_str().into()).collect(),
            keyer: RoomKeyer::new([7; 16]),
            members: 0,
            observer: Observer::new(&schedule),
            flaps: Flaps::new(names.gateways, names.regions.len()),
            operators: Operators::new(seed, shape.clients),
            trace: Trace::new(telling),
            net,
            processes,
            phases,
            people,
            names,
            schedule,
        };
        world.plan();
        world
    }

    /// Everything whose time is known beforehand.
    fn plan(&mut self) {
        self.name_servers_start();
        for process in 0..self.processes.len() {
            self.processes[process].old =
                self.schedule.world.mixed_versions && self.phases.hits(400);
            self.start(process);
        }
        for (fault, told) in self.schedule.faults.iter().enumerate() {
            let (at, end) = told.span();
            let fault = fault as u16;
            if told.what == What::DirectoryFailover {
                self.queue.at(at - crate::engine::REPLICA_BEHIND, Event::Replicate);
            }
            self.queue.at(at, Event::Begin { fault });
            self.queue.at(end, Event::End { fault });
        }
        for client in 0..self.clients.len() {
            self.plan_person(client);
        }
        self.plan_rulings();
        self.queue.at(self.now + crate::names::LOOK_INTERVAL, Event::Names);
        self.queue.at(self.now + crate::observer::STOCK_INTERVAL, Event::Stock);
    }

    /// When a person comes, and whether they go and come again.
    fn plan_person(&mut self, client: usize) {
        let came = self.now + self.people.millis(1_500, 9_000);
        let calm = self.end - Duration::from_secs(70);
        let mut plan = vec![(came, Timer::Come)];
        let mut at = came;
        while self.schedule.world.restless && self.people.hits(450) {
            let leaves = at + self.people.millis(20_000, 150_000);
            let comes = leaves + self.people.millis(2_000, 40_000);
            if comes > calm {
                break;
            }
            plan.extend([(leaves, Timer::Leave), (comes, Timer::Come)]);
            at = comes;
        }
        for (at, timer) in plan {
            self.queue.at(at, Event::Client { client: client as u16, timer, token: 0 });
        }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) {
        let mut at_once = 0_u32;
        while let Some((time, event)) = self.queue.pop() {
            if time > self.end || self.observer.is_violated() {
                break;
            }
            at_once = if time == self.now { at_once + 1 } else { 0 };
            if at_once > AT_ONCE_MAX {
                self.violated("spins", |_| format!("no time passes any more: {event:?}"));
                break;
            }
            self.now = time;
            self.observer.events += 1;
            self.trace.event(time, &event);
            self.happen(event);
        }
        self.now = self.end;
        if !self.observer.is_violated() {
            self.look_at_the_end();
        }
    }

    /// The process that an event is for, if it is for one: a frozen one's kernel keeps it.
    fn process_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Wake { process, .. } | Event::Tick { process, .. } => Some(*process as usize),
            Event::Stream { gateway, .. } => Some(*gateway as usize),
            Event::Datagram { slot } => Some(self.packets.get(*slot).to),
            Event::EngineReply { slot } => Some(self.answers.get(*slot).gateway),
            Event::RuleCall { slot } => {
                Some(self.operators.calls.get(*slot).processes(self.names.gateways)[1])
            }
            Event::RuleAnswer { slot } => {
                Some(self.operators.calls.get(*slot).processes(self.names.gateways)[0])
            }
            Event::Dial { conn } => self.server(self.conns.get(*conn).ends[1]),
            Event::Dialled { conn, .. } | Event::DialLate { conn } => {
                self.server(self.conns.get(*conn).ends[0])
            }
            Event::Arrive { conn, side } => {
                self.server(self.conns.get(*conn).ends[1 - *side as usize])
            }
            Event::Reset { conn, side } => self.server(self.conns.get(*conn).ends[*side as usize]),
            Event::Worked { conn, .. } => self.server(self.conns.get(*conn).ends[1]),
            _ => None,
        }
    }

    fn server(&self, host: usize) -> Option<usize> {
        (host < self.processes.len()).then_some(host)
    }

    fn happen(&mut self, event: Event) {
        if let Some(process) = self.process_of(&event)
            && matches!(self.processes[process].state, State::Frozen { .. })
        {
            return self.processes[process].hold(event);
        }
        match event {
            Event::Wake { process, life } => self.wake(process as usize, life),
            Event::Tick { process, life } => self.tick(process as usize, life),
            Event::Datagram { slot } => self.datagram(slot),
            Event::Dial { conn } => self.dial(conn),
            Event::Dialled { conn, accepted } => self.dialled(conn, accepted),
            Event::DialLate { conn } => self.dial_late(conn),
            Event::Arrive { conn, side } => self.arrive(conn, side as usize),
            Event::Resend { conn, side } => {
                let end = (conn, side as usize);
                self.conns.resend(&mut self.net, &mut self.queue, self.now, end);
            }
            Event::Reset { conn, side } => self.reset(conn, side as usize),
            Event::Stream { gateway, node, life } => {
                self.look_after_stream(gateway as usize, node as usize, life);
            }
            Event::Worked { conn, life } => self.worked(conn, life),
            Event::Client { client, timer, token } => {
                self.client_timer(client as usize, timer, token);
            }
            Event::EngineCall { slot } => self.engine_called(slot),
            Event::EngineReply { slot } => self.engine_replied(slot),
            Event::Begin { fault } => self.begin(fault as usize),
            Event::End { fault } => self.heal(fault as usize),
            Event::Flip { fault } => self.flip(fault as usize),
            Event::Restart { process, life } => self.restart(process as usize, life),
            Event::Rule { client } => self.operator_rules(client as usize),
            Event::RuleCall { slot } => self.rule_called(slot),
            Event::RuleAnswer { slot } => self.rule_answered(slot),
            Event::Names => self.look_for_gateways(),
            Event::Stock => self.take_stock(),
            Event::Replicate => self.engine_replicates(),
        }
    }

    // Processes.

    pub(crate) fn is_gateway(&self, process: usize) -> bool {
        process < self.names.gateways
    }

    /// The process of a node.
    pub(crate) fn node(&self, node: usize) -> &Process {
        &self.processes[self.names.gateways + node]
    }

    /// A process begins a new life.
    pub(crate) fn start(&mut self, process: usize) {
        let ppm = self.schedule.world.clock_ppm;
        let it = &mut self.processes[process];
        it.clock = clock(&mut self.phases, self.now, ppm);
        it.life += 1;
        it.started_at = self.now;
        (it.state, it.wake, it.off) = (State::Up, None, false);
        it.held.clear();
        if self.is_gateway(process) {
            self.start_gateway(process);
        } else {
            self.start_node(process - self.names.gateways);
        }
    }

    /// A process ends. `silent`: its machine as well, so that nobody answers for it.
    pub(crate) fn kill(&mut self, process: usize, silent: bool) {
        let it = &mut self.processes[process];
        it.off |= silent;
        if it.state == State::Dead {
            return;
        }
        (it.state, it.wake) = (State::Dead, None);
        let (host, held) = (it.host, std::mem::take(&mut it.held));
        for event in held {
            self.forget(event);
        }
        for end in self.conns.of(host) {
            self.conns.abort(&self.net, &mut self.queue, self.now, end, silent);
        }
        if self.is_gateway(process) {
            self.gateways[process] = Gateway::default();
        } else {
            self.nodes[process - self.names.gateways] = Node::default();
        }
    }

    /// What the kernel kept for a process that will not read it.
    fn forget(&mut self, event: Event) {
        match event {
            Event::Datagram { slot } => drop(self.packets.take(slot)),
            Event::EngineReply { slot } => drop(self.answers.take(slot)),
            Event::RuleCall { slot } | Event::RuleAnswer { slot } => {
                let _unread = self.operators.calls.take(slot);
            }
            Event::Dial { conn } => self.conns.dial_again(&mut self.queue, self.now, conn),
            _ => {}
        }
    }

    /// Plans the role's next wake-up, when it is earlier than the one that is planned.
    pub(crate) fn plan_wake(&mut self, process: usize, local: Option<Time>) {
        let it = &mut self.processes[process];
        let Some(local) = local else { return };
        // Most inputs leave it as it was, or put it off.
        let no_earlier = |asked| local == asked || local >= asked + CLOCK_GRAIN;
        if it.wake.is_some() && it.wake_asked.is_some_and(no_earlier) {
            return;
        }
        let at = it.clock.world(local).max(self.now);
        if it.wake.is_none_or(|planned| at < planned) {
            (it.wake, it.wake_asked) = (Some(at), Some(local));
            self.queue.at(at, Event::Wake { process: process as u16, life: it.life });
        }
    }

    fn wake(&mut self, process: usize, life: u16) {
        let it = &mut self.processes[process];
        if it.life != life || it.state == State::Dead || it.wake.is_none_or(|at| at > self.now) {
            return;
        }
        it.wake = None;
        if self.is_gateway(process) {
            self.wake_gateway(process);
        } else {
            self.wake_node(process - self.names.gateways);
        }
    }

    // Connections.

    pub(crate) fn send(&mut self, conn: ConnId, side: Side, frame: Frame) {
        self.conns.send(&mut self.net, &mut self.queue, self.now, (conn, side), frame);
    }

    pub(crate) fn close(&mut self, conn: ConnId, side: Side) {
        self.conns.close(&mut self.net, &mut self.queue, self.now, (conn, side));
    }

    pub(crate) fn abort(&mut self, conn: ConnId, side: Side) {
        self.conns.abort(&self.net, &mut self.queue, self.now, (conn, side), false);
    }

    fn dial(&mut self, id: ConnId) {
        let conn = self.conns.get(id);
        if conn.dropped || conn.made {
            return;
        }
        let ends = conn.ends;
        let target = &self.processes[ends[1]];
        if target.off || !self.net.connects(ends[0], ends[1]) {
            return self.conns.dial_again(&mut self.queue, self.now, id);
        }
        let there = self.net.segment(self.now, ends[0], ends[1]);
        let back = self.net.segment(there, ends[1], ends[0]);
        let accepted = target.is_up() && !target.untrusted;
        if accepted {
            let conn = self.conns.get_mut(id);
            (conn.made, conn.open[1]) = (true, true);
            // TLS is one more round trip.
            let later = back + back.since(self.now);
            return self.queue.at(later, Event::Dialled { conn: id, accepted });
        }
        let conn = self.conns.get_mut(id);
        (conn.made, conn.open[0]) = (true, false);
        self.queue.at(back, Event::Dialled { conn: id, accepted });
    }

    fn dialled(&mut self, id: ConnId, accepted: bool) {
        let conn = self.conns.get(id);
        let accepted = accepted && conn.open[0];
        if conn.dropped {
            return;
        }
        match conn.purpose {
            Purpose::Signal { client } => self.client_dialled(client as usize, id, accepted),
            Purpose::Proxy { gateway, visit, .. } => {
                self.proxy_dialled(gateway as usize, visit, id, accepted);
            }
            Purpose::Rooms { gateway, node } => {
                self.stream_dialled(gateway as usize, node as usize, id, accepted);
            }
        }
    }

    fn arrive(&mut self, id: ConnId, side: Side) {
        let to = 1 - side;
        let Some(frame) = self.conns.arrived(id, side) else { return };
        let conn = self.conns.get(id);
        let host = conn.ends[to];
        if !conn.open[to] {
            // Nobody has this connection any more: the kernel says so, if the machine has power.
            let off = self.server(host).is_some_and(|process| self.processes[process].off);
            if conn.open[side] && !off && self.net.passes(host, conn.ends[side]) {
                let at = self.now + self.net.latency(host, conn.ends[side]);
                self.queue.at(at, Event::Reset { conn: id, side: side as u8 });
            }
            return;
        }
        let purpose = conn.purpose;
        if matches!(frame, Frame::Fin) {
            self.conns.get_mut(id).open[to] = false;
        }
        match (purpose, to) {
            (Purpose::Signal { client }, 0) => self.client_frame(client as usize, id, frame),
            (Purpose::Signal { .. }, _) => self.signal_frame(host, id, frame),
            (Purpose::Proxy { gateway, visit, .. }, 0) => {
                self.proxy_frame(gateway as usize, visit, id, frame);
            }
            (Purpose::Proxy { node, .. }, _) => self.node_frame(node as usize, id, frame),
            (Purpose::Rooms { gateway, node }, 0) => {
                self.stream_frame(gateway as usize, node as usize, id, frame);
            }
            (Purpose::Rooms { node, .. }, _) => self.follower_frame(node as usize, id, frame),
        }
    }

    fn reset(&mut self, id: ConnId, side: Side) {
        let conn = self.conns.get_mut(id);
        if !std::mem::replace(&mut conn.open[side], false) {
            return;
        }
        let host = conn.ends[side];
        match (conn.purpose, side) {
            (Purpose::Signal { client }, 0) => self.client_reset(client as usize, id),
            (Purpose::Signal { .. }, _) => self.signal_frame(host, id, Frame::Fin),
            (Purpose::Proxy { gateway, visit, .. }, 0) => {
                self.proxy_lost(gateway as usize, visit, id);
            }
            (Purpose::Proxy { node, .. }, _) => self.node_frame(node as usize, id, Frame::Fin),
            (Purpose::Rooms { gateway, node }, 0) => {
                self.stream_frame(gateway as usize, node as usize, id, Frame::Fin);
            }
            (Purpose::Rooms { node, .. }, _) => {
                self.follower_frame(node as usize, id, Frame::Fin);
            }
        }
    }

    // Words.

    /// A line of the timeline.
    pub(crate) fn note(&mut self, say: impl FnOnce(&World) -> String) {
        if self.trace.is_telling() {
            let line = say(self);
            self.trace.tell(self.now, line);
        }
    }

    pub(crate) fn process_name(&self, process: usize) -> &str {
        &self.names.processes[process].0
    }

    /// The number of a node.
    pub(crate) fn node_number(&self, id: &NodeId) -> usize {
        let same = |known: &NodeId| known.as_str().as_ptr() == id.as_str().as_ptr();
        let found = self.node_ids.iter().position(same);
        found
            .or_else(|| self.node_ids.iter().position(|known| known == id))
            .expect("roles name nodes that were configured")
    }

    /// The number of a room: its name ends with it.
    pub(crate) fn room_number(&self, room: &RoomName) -> usize {
        let digits = room.as_str().strip_prefix("room-").expect("all rooms are called so");
        digits.parse().expect("and end with their number")
    }
}

fn clock(phases: &mut Stream, world: Time, ppm_max: i64) -> Clock {
    let base = Time::from_nanos(phases.between(1_000_000_000, 3_000_000_000_000));
    let ppm = phases.below(2 * ppm_max.unsigned_abs() + 1) as i64 - ppm_max;
    Clock::new(world, base, ppm)
}

fn clients(schedule: &Schedule, net: &mut Network, people: &mut Stream) -> Vec<Client> {
    let shape = &schedule.world;
    let regions = shape.regions.len();
    (0..shape.clients)
        .map(|n| {
            let place = people.index(regions);
            let host = net.add(regions + place);
            // Every room has somebody, and some have many.
            let room = if n < shape.rooms { n } else { people.index(shape.rooms) };
            let sdk = if people.hits(500) { Sdk::Js } else { Sdk::Rust };
            Client::new(host, place, room, sdk, format!("client-{n}").into())
        })
        .collect()
}

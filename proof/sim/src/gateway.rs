//! A gateway in the world: the real [`Role`], with a shell that dials what it says and reports what came of it.

use std::{collections::BTreeSet, time::Duration};

use outlast_directory::{CallId, InstanceId, Layout, PlacementId, Reply, Table};
use outlast_gateway_core::{
    DirectoryUse, GatewayFacts, Health, Input, NodeFacts, Output, Role, RoleConfig, Spread,
};
use outlast_model::{Epoch, Generation, NodeId, RulingVersion, Time};
use outlast_wire::Echo;

use crate::{
    conn::Frame,
    event::ConnId,
    packet::{Content, Heard, Packet},
    stream::Stream,
    visit::{Order, Stage, Visit},
    world::World,
};

/// A gateway's process.
#[derive(Default)]
pub(crate) struct Gateway {
    pub(crate) role: Option<Role>,
    pub(crate) epoch: Epoch,
    pub(crate) visits: Vec<Visit>,
    pub(crate) streams: Vec<Stream>,
    heard: Heard,
    sequence: u64,
    /// It is to stop; name servers see that.
    pub(crate) leaving: bool,
    /// Nobody is left: its process ends.
    empty: bool,
    /// Where each room was sent first: without failover it stays there.
    pub(crate) first_homes: Vec<Option<NodeId>>,
    /// When it changed its mind about each node last.
    pub(crate) judged_at: Vec<Time>,
    /// When it gave each node up, the last two times.
    pub(crate) falls: Vec<[Option<Time>; 2]>,
    /// Nodes that it has ejected while something kept clients from them.
    pub(crate) ejected: Vec<bool>,
    /// What it is doing now says that a node's health has changed.
    pub(crate) judging: bool,
    /// When a node has told it of each room last.
    pub(crate) heard_of: Vec<Time>,
    /// The highest generation of each room that a node has told it is over or lost.
    pub(crate) ended: Vec<Generation>,
    /// Rooms whose settings it was told.
    pub(crate) told_settings: Vec<bool>,
    /// The node, if any, that has named each room last without settings.
    pub(crate) bare_at: Vec<Option<usize>>,
    /// The newest ruling of each client that it was told.
    pub(crate) told_rulings: Vec<RulingVersion>,
    /// Every placement that it has asked for.
    pub(crate) claimed: BTreeSet<PlacementId>,
    /// When it turned the last ones away that got the same time to come back, which is this.
    pub(crate) turned_away: Vec<(Time, Duration)>,
    /// Its own directory, in worlds where each has one.
    pub(crate) table: Option<Table>,
    out: Vec<Output>,
}

impl Gateway {
    /// Sessions that are open.
    pub(crate) fn sessions(&self) -> usize {
        self.visits.iter().filter(|visit| visit.stage == Stage::Open).count()
    }

    pub(crate) fn role(&self) -> Option<&Role> {
        self.role.as_ref()
    }
}

impl World {
    pub(crate) fn start_gateway(&mut self, gateway: usize) {
        let process = &self.processes[gateway];
        let local = process.clock.local(self.now);
        let epoch = Epoch(u64::from(process.life) << 20);
        let nodes = self.node_ids.iter().enumerate().map(|(node, id)| NodeFacts {
            id: id.clone(),
            region: self.region_names[self.node(node).region].clone(),
            capacity: 1,
        });
        let others = (0..self.names.gateways).filter(|other| *other != gateway);
        let gateways = others.map(|other| GatewayFacts {
            id: self.gateway_ids[other].clone(),
            region: self.region_names[self.processes[other].region].clone(),
        });
        let config = RoleConfig {
            id: self.gateway_ids[gateway].clone(),
            region: self.region_names[process.region].clone(),
            epoch,
            nodes: nodes.collect(),
            gateways: gateways.collect(),
            name_servers: false,
            tell_per_second: None,
            spread: self.spread(),
            directory: self.directory_use(),
            seed: self.phases.next(),
        };
        let instance = (u128::from(self.schedule.seed) << 8 | gateway as u128) << 16;
        let instance = InstanceId(instance | u128::from(process.life));
        let streams = vec![Stream::default(); self.nodes.len()];
        let told_settings = vec![false; self.room_names.len()];
        self.gateways[gateway] = Gateway {
            role: Some(Role::new(config, local)),
            epoch,
            streams,
            told_settings,
            bare_at: vec![None; self.room_names.len()],
            told_rulings: vec![RulingVersion::default(); self.clients.len()],
            claimed: BTreeSet::new(),
            turned_away: Vec::new(),
            judged_at: vec![Time::ZERO; self.nodes.len()],
            ejected: vec![false; self.nodes.len()],
            heard_of: vec![Time::ZERO; self.room_names.len()],
            falls: vec![[None; 2]; self.nodes.len()],
            ended: vec![Generation::default(); self.room_names.len()],
            first_homes: vec![None; self.room_names.len()],
            table: self.schedule.world.embedded.then(|| Table::new(instance)),
            ..Gateway::default()
        };
        self.read_disk(gateway, local);
        self.start_streams(gateway);
        self.gateway(gateway, Input::Wake);
    }

    fn spread(&self) -> Spread {
        Spread::Everywhere
    }

    fn directory_use(&self) -> Option<DirectoryUse> {
        let (keyer, shape) = (self.keyer, &self.schedule.world);
        (shape.directory || shape.embedded).then_some(DirectoryUse {
            keyer,
            layout: Layout::Fixed(1),
            arbitrates: shape.directory,
        })
    }

    /// Tells the role something, and does what it says.
    pub(crate) fn gateway(&mut self, gateway: usize, input: Input) {
        let local = self.processes[gateway].clock.local(self.now);
        let it = &mut self.gateways[gateway];
        let Some(role) = &mut it.role else { return };
        let mut out = std::mem::take(&mut it.out);
        role.handle(local, input, &mut out);
        it.judging = out.iter().any(|output| matches!(output, Output::Verdict { .. }));
        for output in out.drain(..) {
            self.gateway_does(gateway, output);
        }
        self.gateways[gateway].out = out;
        if self.gateways[gateway].empty {
            // It ends when what is under way is done.
            return self.plan_wake(gateway, Some(local));
        }
        let wake = self.gateways[gateway].role.as_ref().and_then(Role::wake_at);
        self.look_at_deadline(gateway, wake.is_none_or(|at| at > local));
        self.plan_wake(gateway, wake);
    }

    pub(crate) fn wake_gateway(&mut self, gateway: usize) {
        if self.gateways[gateway].empty {
            self.note(|world| format!("{} is empty, and ends", world.gateway_ids[gateway]));
            return self.kill(gateway, false);
        }
        self.gateway(gateway, Input::Wake);
        self.look_at_disk(gateway);
    }

    pub(crate) fn gateway_hears(&mut self, packet: Packet) {
        let gateway = packet.to;
        if !self.gateways[gateway].heard.accepts(&packet) {
            return;
        }
        let Packet { from, epoch, sequence, content, .. } = packet;
        match content {
            Content::Beat(beat) => {
                let node = self.node_ids[from - self.names.gateways].clone();
                self.gateway(gateway, Input::Beat { node, epoch, sequence, beat });
            }
            Content::Outlook(outlook) => {
                let other = self.gateway_ids[from].clone();
                self.gateway(gateway, Input::Outlook { gateway: other, epoch, outlook });
            }
            Content::Probed(probed) => {
                let node = self.node_ids[from - self.names.gateways].clone();
                self.gateway(gateway, Input::Probed { node, probed });
            }
            Content::Echo(_) | Content::Probe(..) => {}
        }
    }

    pub(crate) fn gateway_replied(&mut self, gateway: usize, call: CallId, reply: Reply) {
        self.gateway(gateway, Input::Directory { call, reply });
    }

    pub(crate) fn drain_gateway(&mut self, gateway: usize) {
        if !self.processes[gateway].is_up() {
            // Nobody takes the order.
            return;
        }
        self.gateways[gateway].leaving = true;
        self.gateway(gateway, Input::Drain);
    }

    fn gateway_does(&mut self, gateway: usize, output: Output) {
        match output {
            Output::Echo { node, echo } => self.echo(gateway, &node, echo),
            Output::Outlook { gateway: to, outlook } => {
                let to = self.gateway_number(&to);
                self.seal(gateway, to, Content::Outlook(outlook));
            }
            Output::Probe { node, probe } => {
                let content = Content::Probe(probe.number, self.room_number(&probe.room));
                self.seal(gateway, self.names.gateways + self.node_number(&node), content);
            }
            Output::Go { ask, placement, nowhere_else, settings, ruling } => {
                let it = &self.gateways[gateway];
                let told = it.told_rulings[it.visits[ask.0 as usize].client];
                let at = self.now;
                let order = Order { placement, nowhere_else, settings, ruling, told, at };
                self.go(gateway, ask.0 as usize, order);
            }
            Output::Unplaced { ask, why, retry_after } => {
                self.look_at_pause(gateway, retry_after);
                self.unplaced(gateway, ask.0 as usize, why);
            }
            Output::Tell { session, why } => self.tell(gateway, session.0 as usize, why),
            Output::Steer { node, steer } => {
                self.note(|world| {
                    let (name, to) = (&world.gateway_ids[gateway], &steer.node);
                    format!(
                        "{name} steers {node} to {to} with {} of {}",
                        steer.room, steer.generation.0
                    )
                });
                let node = self.node_number(&node);
                if let Some(conn) = self.gateways[gateway].streams[node].open() {
                    self.send(conn, 0, Frame::Steer(Box::new(steer)));
                }
            }
            Output::Directory { call, request } => {
                self.look_at_claim(gateway, &request);
                self.ask_engine(gateway, call, request);
            }
            Output::Verdict { node, change } => {
                self.note(|world| {
                    let name = &world.gateway_ids[gateway];
                    format!("{name} finds {node} {:?} after {:?}", change.to, change.silence)
                });
                let node = self.node_number(&node);
                let it = &mut self.gateways[gateway];
                it.judged_at[node] = self.now;
                if change.to == Health::Down {
                    it.falls[node] = [it.falls[node][1], Some(self.now)];
                }
                self.judged(gateway, node, &change);
            }
            Output::Ejection { node, ejected } => {
                self.note(|world| {
                    let name = &world.gateway_ids[gateway];
                    format!("{name} {} {node}", if ejected { "ejects" } else { "takes back" })
                });
                self.ejects(gateway, self.node_number(&node), ejected);
            }
            Output::RegionVerdict { region, health } => {
                self.note(|world| {
                    format!("{} finds region {region} {health:?}", world.gateway_ids[gateway])
                });
                if let Some(region) = self.names.zone(region.as_str()) {
                    self.region_judged(gateway, region, health);
                }
            }
            Output::Bulletin { .. } => {}
            Output::Drained => self.gateways[gateway].empty = true,
        }
    }

    fn echo(&mut self, gateway: usize, node: &NodeId, echo: Echo) {
        let to = self.names.gateways + self.node_number(node);
        self.seal(gateway, to, Content::Echo(echo));
    }

    fn seal(&mut self, from: usize, to: usize, content: Content) {
        let it = &mut self.gateways[from];
        it.sequence += 1;
        let (epoch, sequence) = (it.epoch, it.sequence);
        self.send_packet(Packet { from, to, epoch, sequence, content });
    }

    /// Whether frames get from a client to its node and back.
    pub(crate) fn signalling_flows(&self, client: usize) -> bool {
        let Some(conn) = self.clients[client].conn else { return false };
        let link = self.conns.get(conn);
        let gateway = link.ends[1];
        let Some(visit) = self.gateways[gateway].visits.get(link.tag as usize) else {
            return false;
        };
        let Some(proxy) = visit.proxy.filter(|_| visit.stage == Stage::Open) else { return false };
        self.flows(conn) && self.flows(proxy)
    }

    /// Whether a ping over this connection is answered now.
    pub(crate) fn flows(&self, conn: ConnId) -> bool {
        let link = self.conns.get(conn);
        let [a, b] = link.ends;
        let there = &self.processes[b];
        let here = self.processes.get(a).is_none_or(|process| process.is_up());
        link.open == [true, true]
            && link.flows()
            && here
            && there.is_up()
            && (self.is_gateway(b) || self.nodes[b - self.names.gateways].hung_since.is_none())
            && self.net.connects(a, b)
            && !self.net.clogged(self.now, a, b)
            && !self.net.clogged(self.now, b, a)
    }

    /// How long a role has run.
    pub(crate) fn role_at(&self, gateway: usize) -> Option<(&Role, Time)> {
        let role = self.gateways[gateway].role()?;
        Some((role, self.processes[gateway].clock.local(self.now)))
    }
}

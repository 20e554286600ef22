//! A node in the world: the real [`Tenure`], with a shard that does as it says and a shell that does no more than the real
//! one.

use std::time::Duration;

use outlast_model::{BEAT_INTERVAL, Epoch, GatewayId, Generation, RoomName, SHARD_PAUSE_MAX, Time};
use outlast_tenure::{Admission, Goal, Input, Output, Tenure, TenureConfig, Why as Refused};
use outlast_wire::{Probe, RoomFrame};

use crate::{
    conn::{Enter, Frame, Leave, No, Purpose, Want},
    event::{ConnId, Event},
    oracle::LEASE,
    packet::{Content, Heard, Packet, aged},
    process::State,
    shard::{Entered, Member, Shard},
    world::World,
};

/// Drained participants told a second; these worlds are small.
const DRAIN_PACE: u32 = 20;

/// How long after a beat its node may send at most, if it is echoed. Clocks may be slow by two percent, and the observer looks
/// in steps.
const LEASE_AT_MOST: Duration =
    Duration::from_millis(LEASE.as_millis() as u64 * 1_025 / 1_000 + 50);

/// An admitted join that the shard has not got to yet.
#[derive(Clone, Debug)]
struct Admitted {
    conn: ConnId,
    enter: Enter,
    epoch: Epoch,
}

/// A node's process.
#[derive(Default)]
pub(crate) struct Node {
    tenure: Option<Tenure>,
    pub(crate) epoch: Epoch,
    pub(crate) shard: Shard,
    /// By the node's own clock; `None` before the first.
    pub(crate) lease_until: Option<Time>,
    admitted: Vec<Admitted>,
    asks: u64,
    /// Requests that wait for their answer, by number: it comes at once.
    asking: Option<(ConnId, Enter)>,
    heard: Heard,
    pub(crate) joins_admitted: u32,
    pub(crate) joins_connected: u32,
    pub(crate) hung_since: Option<Time>,
    pub(crate) gray: bool,
    pub(crate) overloaded: bool,
    pub(crate) draining: bool,
    /// When the drain began, and when everybody should have been told to go.
    pub(crate) drain: Option<(Time, Time)>,
    out: Vec<Output>,
    /// What a shard that hangs was told.
    unheard: Vec<Output>,
    /// Rooms that shards have closed and the machine has not heard of.
    pub(crate) closed: Vec<(RoomName, Generation)>,
    /// For the observer: the highest generation of each room that has ended here in this life.
    pub(crate) ended: Vec<Generation>,
    /// For the observer: when each beat was sent, in the world's time, by its number.
    sent: Vec<(u64, Time)>,
    /// And until when it may serve, by the world's time; `None` while nothing limits it.
    pub(crate) truth_until: Option<Time>,
}

impl Node {
    /// The generation under which its machine knows a room.
    pub(crate) fn generation(&self, room: &RoomName) -> Option<Generation> {
        self.tenure.as_ref()?.generation(room)
    }
}

impl World {
    pub(crate) fn start_node(&mut self, node: usize) {
        let process = self.names.gateways + node;
        let local = self.processes[process].clock.local(self.now);
        // A later start has a later epoch; the node numbers its fences below that.
        let epoch = Epoch(u64::from(self.processes[process].life) << 20);
        let (id, gateways) = (self.node_ids[node].clone(), self.gateway_ids.clone());
        let config = TenureConfig::new(id, epoch, gateways, self.phases.next());
        let tenure = Some(Tenure::new(config, local));
        let ended = vec![Generation::default(); self.room_names.len()];
        self.nodes[node] = Node { tenure, epoch, ended, ..Node::default() };
        let phase = self.phases.millis(0, 400);
        let life = self.processes[process].life;
        self.queue.at(self.now + phase, Event::Tick { process: process as u16, life });
    }

    pub(crate) fn tenure(&mut self, node: usize, input: Input) {
        let process = self.names.gateways + node;
        let local = self.processes[process].clock.local(self.now);
        let it = &mut self.nodes[node];
        let Some(tenure) = &mut it.tenure else { return };
        let mut out = std::mem::take(&mut it.out);
        tenure.handle(local, input, &mut out);
        for output in out.drain(..) {
            self.node_does(node, output);
        }
        self.nodes[node].out = out;
        for (room, generation) in std::mem::take(&mut self.nodes[node].closed) {
            self.tenure(node, Input::Closed { room, generation });
        }
        let wake = self.nodes[node].tenure.as_ref().and_then(Tenure::wake_at);
        self.look_at_deadline(process, wake.is_none_or(|at| at > local));
        self.plan_wake(process, wake);
    }

    pub(crate) fn wake_node(&mut self, node: usize) {
        self.tenure(node, Input::Wake);
    }

    /// The beat interval is over: housekeeping, and a beat if all shards have run.
    pub(crate) fn tick(&mut self, process: usize, life: u16) {
        if self.processes[process].life != life || self.processes[process].state == State::Dead {
            return;
        }
        let node = process - self.names.gateways;
        let clock = &self.processes[process].clock;
        let next = clock.world(clock.local(self.now) + BEAT_INTERVAL);
        self.queue.at(next, Event::Tick { process: process as u16, life });
        let it = &self.nodes[node];
        if it.hung_since.is_some() {
            return;
        }
        self.keep_house(node);
        let it = &self.nodes[node];
        let ticked = Input::Ticked {
            load_permille: (it.shard.participants() * 40).min(1_000) as u16,
            cpu_permille: if it.overloaded { 990 } else { 100 },
            rooms: it.shard.rooms.len() as u32,
            participants: it.shard.participants() as u32,
            joins_admitted: it.joins_admitted,
            joins_connected: it.joins_connected,
        };
        self.tenure(node, ticked);
    }

    /// It was not run since `since`: the loops find that before they do anything else.
    pub(crate) fn node_wakes_up(&mut self, node: usize, since: Time) {
        for output in std::mem::take(&mut self.nodes[node].unheard) {
            self.node_does(node, output);
        }
        let clock = &self.processes[self.names.gateways + node].clock;
        let pause = clock.local(self.now).since(clock.local(since));
        if pause > SHARD_PAUSE_MAX {
            self.tenure(node, Input::Paused { pause });
            self.woken(node);
        }
        self.tenure(node, Input::Wake);
    }

    fn node_does(&mut self, node: usize, output: Output) {
        match output {
            Output::Beat { gateway, epoch, sequence, beat } => {
                self.beat(node, &gateway, (epoch, sequence), beat);
            }
            Output::Probed { gateway, epoch, sequence, probed } => {
                let (from, to) = (self.names.gateways + node, self.gateway_number(&gateway));
                let content = Content::Probed(probed);
                self.send_packet(Packet { from, to, epoch, sequence, content });
            }
            Output::Answer { ask: _, answer } => self.node_answers(node, answer),
            Output::Frame { follower, frame } => {
                let conn = follower as ConnId;
                let old = self.node(node).old || self.processes[self.conns.get(conn).ends[0]].old;
                let frame = if old { aged_frame(frame) } else { frame };
                self.send(conn, 1, Frame::Rooms(Box::new(frame)));
            }
            Output::Lease { until } => {
                self.look_at_lease(node);
                self.nodes[node].lease_until = Some(until);
            }
            // A shard that hangs does nothing that it is told.
            Output::FenceRoom { .. } | Output::MoveAway { .. }
                if self.nodes[node].hung_since.is_some() =>
            {
                self.nodes[node].unheard.push(output);
            }
            Output::FenceRoom { room, generation, winner } => {
                let room = self.room_number(&room);
                self.note(|world| {
                    let name = &world.node_ids[node];
                    format!("{name} gives up room-{room} of {} for {winner:?}", generation.0)
                });
                self.fence(node, |open| open.room == room && open.generation <= generation);
            }
            Output::FenceAll { epoch } => {
                self.note(|world| format!("{} gives up everything", world.node_ids[node]));
                self.fenced(node);
                self.nodes[node].epoch = epoch;
                if self.nodes[node].hung_since.is_some() {
                    self.nodes[node].unheard.push(output);
                } else {
                    self.fence(node, |_| true);
                }
            }
            Output::MoveAway { count } => self.move_away(node, count),
            Output::Drained | Output::Undrained | Output::DrainLate => {
                self.note(|world| format!("{}: {output:?}", world.node_ids[node]));
            }
        }
    }

    fn beat(
        &mut self,
        node: usize,
        gateway: &GatewayId,
        (epoch, sequence): (Epoch, u64),
        beat: outlast_wire::Beat,
    ) {
        let from = self.names.gateways + node;
        let to = self.gateway_number(gateway);
        let sent = &mut self.nodes[node].sent;
        assert!(sent.last().is_none_or(|(last, _)| *last < sequence), "a number is used once");
        sent.push((sequence, self.now));
        let content = Content::Beat(beat);
        self.send_packet(Packet { from, to, epoch, sequence, content });
    }

    /// Gives a datagram to the network.
    pub(crate) fn send_packet(&mut self, mut packet: Packet) {
        let (from, to) = (&self.processes[packet.from], &self.processes[packet.to]);
        if from.old || to.old {
            let Some(content) = aged(packet.content) else { return };
            packet.content = content;
        }
        if let Some(at) = self.net.datagram(self.now, from.host, to.host) {
            let slot = self.packets.put(packet);
            self.queue.at(at, Event::Datagram { slot });
        }
    }

    /// A datagram has arrived.
    pub(crate) fn datagram(&mut self, slot: u32) {
        let packet = self.packets.take(slot);
        if !self.processes[packet.to].is_up() {
            return;
        }
        if self.is_gateway(packet.to) {
            return self.gateway_hears(packet);
        }
        let node = packet.to - self.names.gateways;
        if !self.nodes[node].heard.accepts(&packet) {
            return;
        }
        let gateway = self.gateway_ids[packet.from].clone();
        match packet.content {
            Content::Echo(echo) => {
                self.prove(node, &echo);
                self.tenure(node, Input::Echo { gateway, epoch: packet.epoch, echo });
            }
            Content::Probe(number, room) => {
                let probe = Probe { number, room: self.room_names[room].clone() };
                self.tenure(node, Input::Probe { gateway, probe });
            }
            Content::Beat(_) | Content::Outlook(_) | Content::Probed(_) => {}
        }
    }

    /// For the observer: what this echo allows at most.
    fn prove(&mut self, node: usize, echo: &outlast_wire::Echo) {
        let it = &mut self.nodes[node];
        let at = it.sent.binary_search_by_key(&echo.heard_sequence, |(sequence, _)| *sequence);
        let Ok(at) = at else { return };
        let until = it.sent[at].1 + LEASE_AT_MOST;
        it.truth_until = it.truth_until.max(Some(until));
    }

    // Signalling.

    /// Something on a connection from a gateway.
    pub(crate) fn node_frame(&mut self, node: usize, conn: ConnId, frame: Frame) {
        match frame {
            Frame::Enter(enter) => self.node_asked(node, conn, enter),
            Frame::Bye => {
                if let Some(member) = self.nodes[node].shard.member_at(conn) {
                    let (number, client) = (member.number, member.client);
                    self.remove_members(node, None, |_, member| member.number == number);
                    self.end_stay(node, self.clients[client].room, client);
                }
            }
            Frame::Fin => self.node_socket_closed(node, conn),
            _ => {}
        }
    }

    fn node_asked(&mut self, node: usize, conn: ConnId, enter: Enter) {
        let it = &mut self.nodes[node];
        if it.hung_since.is_some() {
            // The shard does not answer, and so nobody does.
            return;
        }
        it.asks += 1;
        let ask = it.asks;
        let room = self.room_names[self.clients[enter.client as usize].room].clone();
        let goal = match enter.want {
            Want::Resume => Goal::Resume,
            Want::Join if enter.nowhere_else => Goal::JoinNowhereElse,
            Want::Join => Goal::Join,
        };
        let generation = enter.generation;
        it.asking = Some((conn, enter));
        self.tenure(node, Input::Ask { ask, room, generation, goal });
        assert!(self.nodes[node].asking.is_none(), "an ask is answered at once");
    }

    fn node_answers(&mut self, node: usize, answer: Admission) {
        let (conn, enter) =
            self.nodes[node].asking.take().expect("only what was asked is answered");
        match answer {
            Admission::Admit { generation } => {
                self.look_at_admission(node, &enter, generation);
                let epoch = self.nodes[node].epoch;
                let enter = Enter { generation, ..enter };
                self.nodes[node].admitted.push(Admitted { conn, enter, epoch });
                let work = self.phases.millis(1, 15);
                let life = self.processes[self.names.gateways + node].life;
                self.queue.at(self.now + work, Event::Worked { conn, life });
            }
            Admission::Refuse(refusal) => {
                let why = match refusal.why {
                    Refused::Stale => No::Stale { known: refusal.known },
                    Refused::Full => No::Full,
                    Refused::Draining => No::Draining,
                    Refused::Busy => No::Busy,
                    Refused::Fenced => No::Fenced,
                };
                self.refuse(node, conn, why);
            }
        }
    }

    fn refuse(&mut self, node: usize, conn: ConnId, why: No) {
        self.note(|world| format!("{} refuses: {why:?}", world.node_ids[node]));
        self.send(conn, 1, Frame::Refused { why });
        self.close(conn, 1);
    }

    /// The shard has come to an admitted join.
    pub(crate) fn worked(&mut self, conn: ConnId, life: u16) {
        let Purpose::Proxy { node, .. } = self.conns.get(conn).purpose else { return };
        let node = node as usize;
        if self.processes[self.names.gateways + node].life != life {
            return;
        }
        let admitted = &mut self.nodes[node].admitted;
        let Some(at) = admitted.iter().position(|admitted| admitted.conn == conn) else { return };
        let Admitted { enter, epoch, .. } = admitted.remove(at);
        if !self.conns.get(conn).open[1] {
            return;
        }
        if epoch != self.nodes[node].epoch {
            return self.refuse(node, conn, No::Stale { known: Generation(0) });
        }
        match enter.want {
            Want::Join => self.shard_joins(node, conn, &enter),
            Want::Resume => self.shard_resumes(node, conn, &enter),
        }
    }

    fn shard_joins(&mut self, node: usize, conn: ConnId, enter: &Enter) {
        let client = enter.client as usize;
        let room = self.clients[client].room;
        self.members += 1;
        let member = Member {
            number: self.members,
            client,
            conn: Some(conn),
            token: enter.token,
            connected: false,
            joined_at: self.now,
            heard_at: self.now,
            lost_at: None,
        };
        let settings = enter.settings.as_deref().cloned();
        let settings = settings.or_else(|| self.first_settings(room));
        if self.nodes[node].shard.room(room).is_none() {
            self.look_at_opening(node, enter.nowhere_else);
        }
        let at = (room, enter.generation);
        let it = &mut self.nodes[node];
        let coming = (member, &self.clients[client].identity, enter.ruling.clone());
        match it.shard.enter(self.now, at, settings, coming) {
            Entered::Stale => {
                let known = it.shard.room(room).map_or(Generation(0), |open| open.generation);
                self.refuse(node, conn, No::Stale { known });
            }
            Entered::Full => {
                self.violated("room-full", |world| {
                    format!("{} finds room-{room} full", world.node_ids[node])
                });
            }
            Entered::In { opened, dropped, ruled } => {
                it.joins_admitted += 1;
                if opened {
                    self.room_opened(node, room);
                }
                if let Some(conn) = dropped.and_then(|before| before.conn) {
                    self.close(conn, 1);
                }
                if ruled.is_some() {
                    let identity = self.clients[client].identity.clone();
                    let room = self.room_names[room].clone();
                    self.tenure(node, Input::Ruled { room, identity, ruling: ruled });
                }
                self.take(node, conn, self.members, false);
                self.look_at_admitted(conn, node, self.members);
            }
        }
    }

    fn room_opened(&mut self, node: usize, room: usize) {
        let now = self.now;
        let it = &mut self.nodes[node];
        let open = it.shard.room(room).expect("it was opened just now");
        let (generation, settings) = (open.generation, open.settings.clone());
        // A node that was never echoed has its first lease from its first room.
        let young = now + LEASE.mul_f64(1.025) + Duration::from_millis(450);
        it.truth_until.get_or_insert(young);
        self.note(|world| {
            format!("{} opens room-{room} of {}", world.node_ids[node], generation.0)
        });
        self.room_opens(node, room, generation);
        let room = self.room_names[room].clone();
        self.tenure(node, Input::Opened { room, generation, settings });
    }

    fn shard_resumes(&mut self, node: usize, conn: ConnId, enter: &Enter) {
        let client = enter.client as usize;
        let wanted = self.clients[client].media.map(|(_, member)| member);
        let room = self.clients[client].room;
        let now = self.now;
        let same = |member: &&mut Member| Some(member.number) == wanted;
        let Some(member) = self.nodes[node].shard.member_of(room, client).filter(same) else {
            self.send(conn, 1, Frame::Leave(Leave::Reconnect));
            return self.close(conn, 1);
        };
        (member.heard_at, member.lost_at) = (now, None);
        let number = member.number;
        let old = member.conn.replace(conn);
        if let Some(old) = old {
            self.close(old, 1);
        }
        self.take(node, conn, number, true);
    }

    fn take(&mut self, node: usize, conn: ConnId, member: u32, resumed: bool) {
        let token = self.session(node, member).map(|(_, token)| token);
        let Some(token) = token else { return };
        self.send(conn, 1, Frame::Taken { node: node as u16, member, resumed, token });
    }

    /// A participant's media is up; the gateway sees it pass by.
    pub(crate) fn member_connected(&mut self, node: usize, member: u32) {
        self.member_spoke(node, member);
        let now = self.now;
        let it = &mut self.nodes[node];
        let Some(member) = it.shard.member(member) else { return };
        member.heard_at = now;
        if std::mem::replace(&mut member.connected, true) {
            return;
        }
        let conn = member.conn;
        it.joins_connected += 1;
        if let Some(conn) = conn {
            self.send(conn, 1, Frame::Active);
        }
    }

    /// Something that a client said over a session has arrived.
    pub(crate) fn member_spoke(&mut self, node: usize, member: u32) {
        let old = self.nodes[node].shard.spoke(member);
        if let Some(conn) = old.and_then(|old| old.conn) {
            self.send(conn, 1, Frame::Leave(Leave::Disconnect));
            self.close(conn, 1);
        }
    }

    fn node_socket_closed(&mut self, node: usize, conn: ConnId) {
        let it = &mut self.nodes[node];
        it.admitted.retain(|admitted| admitted.conn != conn);
        let Some(member) = it.shard.member_at(conn) else { return };
        member.conn = None;
        if !member.connected {
            let number = member.number;
            self.remove_members(node, None, |_, member| member.number == number);
        }
    }

    // Room streams.

    /// A gateway's room stream begins, says something, or ends.
    pub(crate) fn follower_frame(&mut self, node: usize, conn: ConnId, frame: Frame) {
        let follower = u64::from(conn);
        match frame {
            Frame::Follow => self.tenure(node, Input::Follow { follower }),
            Frame::Steer(steer) => self.tenure(node, Input::Steer(*steer)),
            Frame::Fin => self.tenure(node, Input::Unfollow { follower }),
            _ => {}
        }
    }

    pub(crate) fn drain_node(&mut self, node: usize, deadline: Duration) {
        if !self.node(node).is_up() {
            // Nobody takes the order.
            return;
        }
        self.nodes[node].draining = true;
        self.drain_begins(node, deadline);
        self.tenure(node, Input::Drain { pace_per_second: DRAIN_PACE, deadline });
    }

    pub(crate) fn undrain(&mut self, node: usize) {
        (self.nodes[node].draining, self.nodes[node].drain) = (false, None);
        let process = self.names.gateways + node;
        self.processes[process].stood_until = self.now;
        self.tenure(node, Input::Undrain);
    }

    pub(crate) fn gateway_number(&self, id: &GatewayId) -> usize {
        let same = |known: &GatewayId| known.as_str().as_ptr() == id.as_str().as_ptr();
        let found = self.gateway_ids.iter().position(same);
        found
            .or_else(|| self.gateway_ids.iter().position(|known| known == id))
            .expect("nodes name gateways that were configured")
    }
}

/// A frame of the room stream as it is after it has passed a process of the version before.
pub(crate) fn aged_frame(frame: RoomFrame) -> RoomFrame {
    match frame {
        RoomFrame::Hosted { room, generation, .. } => {
            RoomFrame::Hosted { room, generation, settings: None }
        }
        RoomFrame::Closed { room, generation, .. } => {
            RoomFrame::Closed { room, generation, lost: false }
        }
        other => other,
    }
}

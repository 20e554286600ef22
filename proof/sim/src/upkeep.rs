//! What a node's shards do with time and with orders: rooms that are given up or end, participants that fell silent, and what
//! the world sees of the media.

use outlast_model::Generation;
use outlast_tenure::Input;

use crate::{
    conn::{Frame, Leave},
    shard::{CONSENT, DEPARTURE_SPAN, JOIN_SPAN, Member, RESUME_SPAN, Room, SILENT_SPAN},
    world::World,
};

impl World {
    /// Closes rooms; their participants are told to join anew.
    pub(crate) fn fence(&mut self, node: usize, gone: impl FnMut(&Room) -> bool) {
        for open in self.nodes[node].shard.close(gone) {
            for member in open.sessions() {
                self.observer.forced += 1;
                if let Some(conn) = member.conn {
                    self.send(conn, 1, Frame::Leave(Leave::Reconnect));
                    self.close(conn, 1);
                }
            }
            self.room_closed(node, open.room, open.generation);
        }
    }

    pub(crate) fn room_closed(&mut self, node: usize, room: usize, generation: Generation) {
        self.room_ended_at(node, room, generation);
        let room = self.room_names[room].clone();
        // Outputs are being carried out: the machine hears of it when that is done.
        self.nodes[node].closed.push((room, generation));
    }

    pub(crate) fn move_away(&mut self, node: usize, count: u32) {
        let mut left = count;
        self.remove_members(node, Some(Leave::Reconnect), |_, _| {
            let goes = left > 0;
            left = left.saturating_sub(1);
            goes
        });
    }

    pub(crate) fn remove_members(
        &mut self,
        node: usize,
        told: Option<Leave>,
        gone: impl FnMut(usize, &Member) -> bool,
    ) {
        let removed = self.nodes[node].shard.remove(self.now, gone);
        for member in removed {
            let Some(conn) = member.conn else { continue };
            if let Some(leave) = told {
                self.send(conn, 1, Frame::Leave(leave));
            }
            self.close(conn, 1);
        }
    }

    pub(crate) fn keep_house(&mut self, node: usize) {
        let now = self.now;
        let mut silent = Vec::new();
        for at in 0..self.nodes[node].shard.rooms.len() {
            for index in 0..self.nodes[node].shard.rooms[at].members.len() {
                let member = &self.nodes[node].shard.rooms[at].members[index];
                // Its client pings as soon as it is answered; media comes after.
                let pings = !member.connected && member.conn.is_some_and(|conn| self.flows(conn));
                let heard = pings || self.checks_arrive(node, member);
                let member = &mut self.nodes[node].shard.rooms[at].members[index];
                if heard {
                    member.heard_at = now;
                } else if member.connected
                    && member.lost_at.is_none()
                    && now.since(member.heard_at) >= CONSENT
                {
                    member.lost_at = Some(now);
                    silent.extend(member.conn.take());
                }
            }
        }
        for conn in silent {
            self.send(conn, 1, Frame::Leave(Leave::Resume));
            self.close(conn, 1);
        }
        for conn in self.nodes[node].shard.tire(now).into_iter().filter_map(|member| member.conn) {
            self.close(conn, 1);
        }
        self.remove_members(node, None, |_, member| {
            member.lost_at.is_some_and(|at| now.since(at) >= RESUME_SPAN)
        });
        self.remove_members(node, None, |_, member| {
            !member.connected && now.since(member.heard_at) >= SILENT_SPAN
        });
        self.remove_members(node, Some(Leave::Disconnect), |_, member| {
            !member.connected && now.since(member.joined_at) >= JOIN_SPAN
        });
        self.end_stays(node);
        let empty = self.nodes[node]
            .shard
            .close(|open| open.idle_since.is_some_and(|since| now.since(since) >= DEPARTURE_SPAN));
        for open in empty {
            self.note(|world| format!("{} closes room-{}", world.node_ids[node], open.room));
            self.observer.rooms[open.room].closed = Some((now, node));
            self.room_ends(open.room);
            self.tenure(
                node,
                Input::Closed {
                    room: self.room_names[open.room].clone(),
                    generation: open.generation,
                },
            );
        }
    }

    /// Whether a participant's ICE checks reach the node.
    fn checks_arrive(&self, node: usize, member: &Member) -> bool {
        let client = &self.clients[member.client];
        client.media == Some((node, member.number))
            && !self.nodes[node].gray
            && self.net.passes(client.host, self.node(node).host)
    }

    // What the world sees of it.

    /// Whether the node sends media at all now.
    pub(crate) fn sends(&self, node: usize) -> bool {
        let (process, it) = (self.node(node), &self.nodes[node]);
        process.is_up()
            && it.hung_since.is_none()
            && it.lease_until.is_none_or(|until| process.clock.local(self.now) < until)
    }

    /// Whether media passes between a client and the node that it is at.
    pub(crate) fn media_flows(&self, client: usize) -> bool {
        let client = &self.clients[client];
        let Some((node, member)) = client.media else { return false };
        self.sends(node)
            && !self.nodes[node].gray
            && self.net.connects(client.host, self.node(node).host)
            && self.nodes[node].shard.has_member(member)
    }
}

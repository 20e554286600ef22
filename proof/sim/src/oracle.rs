//! What must hold of the directory's content, of drains, and of where gateways send people: each is judged from both sides of
//! one step, so that a mistake is seen when it is made, and not only when somebody suffers from it.

use std::{collections::BTreeMap, time::Duration};

use outlast_directory::{Placed, Record, Reply, Request, RoomKey};
use outlast_gateway_core::{Health, REACH_MAX};
use outlast_model::{Generation, Time};
use outlast_tenure::DRAIN_TELL_PERCENT;

use crate::{visit::Stage, world::World};

/// When everybody should have been told to go, a drained node that runs has nobody left of those who were there before.
const DRAIN_SLACK: Duration = Duration::from_secs(2);
/// From a join that was admitted to its room: what was admitted before a drain may still come.
const ADMITTED_MAX: Duration = Duration::from_millis(50);
/// Nobody waits for longer for a node that the gateway has given up, while there are others.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The highest generation under which each room has ended in the directory's present content.
pub(crate) type Ends = BTreeMap<RoomKey, Generation>;

impl World {
    fn record(&mut self, room: RoomKey) -> Option<Record> {
        match self.engine.table.apply(self.now, &Request::Lookup { room }) {
            Reply::Found(record) => record,
            _ => None,
        }
    }

    /// Lets the directory carry out a request, and looks at what that did to the room.
    pub(crate) fn apply_watched(&mut self, request: &Request) -> Reply {
        let (Request::Place { room, .. }
        | Request::Replace { room, .. }
        | Request::End { room, .. }) = request
        else {
            return self.engine.table.apply(self.now, request);
        };
        let before = self.record(*room);
        let reply = self.engine.table.apply(self.now, request);
        let after = self.record(*room);
        let ended = self.engine.ends.get(room).copied().unwrap_or_default();
        let wrong = match (request, &before, &after) {
            (Request::End { generation, .. }, Some(before), None) => {
                (before.generation > *generation).then_some("a later life is ended")
            }
            (Request::End { .. }, before, after) => {
                (before != after).then_some("an end changes a record")
            }
            (_, Some(_), None) => Some("a record vanishes"),
            (_, None, Some(after)) => {
                (after.generation <= ended).then_some("an ended generation is issued again")
            }
            (Request::Replace { expected, .. }, Some(before), Some(after)) if before != after => {
                let right = before.generation == *expected && after.generation > before.generation;
                (!right).then_some("another's placement is overwritten")
            }
            (_, Some(before), Some(after)) if before != after => Some("a held room is placed"),
            _ => None,
        };
        let won =
            matches!(&reply, Reply::Placed(Placed::Won(record)) if after.as_ref() != Some(record));
        let wrong = wrong.or_else(|| won.then_some("who has won does not hold it"));
        if let (Some(before), None) = (&before, &after) {
            self.engine.ends.insert(*room, ended.max(before.generation));
        }
        if let Some(wrong) = wrong {
            self.violated("record", |_| format!("{wrong}: {request:?} on {before:?}: {after:?}"));
        }
        reply
    }

    /// A node begins to drain, to be empty after `deadline`.
    pub(crate) fn drain_begins(&mut self, node: usize, deadline: Duration) {
        let all_told = self.now + deadline * DRAIN_TELL_PERCENT / 100;
        self.nodes[node].drain = Some((self.now, all_told));
    }

    /// A room is opened for somebody at `node`, who might have gone elsewhere.
    pub(crate) fn look_at_opening(&mut self, node: usize, nowhere_else: bool) {
        let Some((since, _)) = self.nodes[node].drain else { return };
        if !nowhere_else && self.now.since(since) > ADMITTED_MAX {
            self.violated("drain", |world| {
                format!("{} drains, and a new room is opened there", world.node_ids[node])
            });
        }
    }

    pub(crate) fn look_at_drain(&mut self, node: usize) {
        let it = &self.nodes[node];
        let Some((since, until)) = it.drain else { return };
        if self.now.since(until) < DRAIN_SLACK
            || it.hung_since.is_some()
            || self.stood_still_since(node, since)
        {
            return;
        }
        let mut members = it.shard.rooms.iter().flat_map(|open| &open.members);
        if let Some(stays) = members.find(|member| member.joined_at < since) {
            let client = stays.client;
            self.violated("drain", |world| {
                let (node, who) = (&world.node_ids[node], &world.clients[client].identity);
                format!("{who} is still at {node}, which was to be empty")
            });
        }
    }

    /// Whether the node's process was not run for a while at or after `since`.
    fn stood_still_since(&self, node: usize, since: Time) -> bool {
        let process = self.node(node);
        !process.is_up() || process.stood_until >= since
    }

    /// Who waits at a gateway for a node that it has given up.
    pub(crate) fn look_at_waiting(&mut self, gateway: usize) {
        let process = &self.processes[gateway];
        // What came while it stood still is read first.
        if !process.is_up() || self.now.since(process.stood_until) < WAIT_MAX {
            return;
        }
        let Some((role, _)) = self.role_at(gateway) else { return };
        let view = role.view();
        let dead = |node: &outlast_model::NodeId| {
            view.node(node).is_some_and(|node| node.health == Health::Down)
        };
        let judged_at = &self.gateways[gateway].judged_at;
        let long_since = |since: Time| self.now.since(since) > WAIT_MAX;
        let others = view.nodes().any(|node| {
            let number = self.node_number(&node.facts.id);
            // One that took nobody lately may take nobody yet.
            let sound = !self.nodes[number].overloaded
                && self.now.since(self.node(number).stood_until) > REACH_MAX;
            node.takes_rooms() && !node.full && long_since(judged_at[number]) && sound
        });
        let waits = |visit: &&crate::visit::Visit| {
            // Who was sent elsewhere before may have been refused there.
            let first = visit.stage == Stage::Asking && visit.orders == 1;
            let order = visit.order.as_ref().filter(|_| first);
            order.is_some_and(|order| {
                let node = self.node_number(&order.placement.node);
                let since = judged_at[node].max(order.at);
                dead(&order.placement.node) && long_since(since)
            })
        };
        let found = self.gateways[gateway].visits.iter().find(waits).filter(|_| others);
        if let Some(client) = found.map(|visit| visit.client) {
            self.violated("waits", |world| {
                let (gateway, who) = (&world.gateway_ids[gateway], &world.clients[client].identity);
                format!("{gateway} lets {who} wait for a node that it has given up")
            });
        }
    }
}

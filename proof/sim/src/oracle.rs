//! What must hold of the directory's content, of drains, and of where gateways send people: each is judged from both sides of
//! one step, so that a mistake is seen when it is made, and not only when somebody suffers from it.

use std::{collections::BTreeMap, time::Duration};

use outlast_control::{CALM_MIN, NodeView};
use outlast_directory::{Placed, Record, Reply, Request, RoomKey};
use outlast_gateway_core::{Health, Placement, REACH_MAX};
use outlast_model::{Generation, NodeId, Time};
use outlast_tenure::DRAIN_TELL_PERCENT;

use crate::{
    conn::{Enter, Want},
    process::Process,
    schedule::What,
    visit::{Order, Stage, Visit},
    world::World,
};

/// By then after its last fault the directory has what is true.
const RESTORED_MAX: Duration = Duration::from_secs(10);
/// How long a node may serve after a beat that a gateway has answered. The rules' own number: what is built may not move it.
pub(crate) const LEASE: Duration = Duration::from_secs(6);
/// By then a gateway has given up a node that it hears and that does not hear it, or the other way round, however many it
/// lost at once.
const CUT_NOTICED_MAX: Duration = Duration::from_secs(6);
/// By then everybody is told who was in at a node that was given up; few enough are in these worlds.
const UNTOLD_MAX: Duration = Duration::from_secs(3);
/// The same of whose room has gone elsewhere. The node tells them too, if it can.
const STRAYED_MAX: Duration = Duration::from_secs(1);
/// By then whoever stood still believes what it knew of the others: they have answered, and streams that broke meanwhile are
/// found broken.
const PROVEN_MAX: Duration = Duration::from_secs(5);
/// By then somebody whose way to the node has broken is told what to do.
const BROKEN_MAX: Duration = Duration::from_millis(1_500);
/// When everybody should have been told to go, a drained node that runs has nobody left of those who were there before.
const DRAIN_SLACK: Duration = Duration::from_secs(2);
/// From a join that was admitted to its room: what was admitted before a drain may still come.
const ADMITTED_MAX: Duration = Duration::from_millis(50);
/// Who is turned away within this span of each other is turned away together.
const UNISON_MAX: Duration = Duration::from_secs(10);
/// Nobody waits for longer for a node that the gateway has given up, while there are others: a second, and for the directory,
/// which is asked a last time before the longest span for that is over.
const WAIT_MAX: Duration = Duration::from_secs(1 + 2 * outlast_directory::DEADLINE_MAX.as_secs());

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

    /// The directory is right again some time after it came back, or was emptied.
    pub(crate) fn look_at_directory(&mut self) {
        let fit = self.engine.down == 0 && self.engine.slow.is_zero();
        let used = self.schedule.world.directory;
        let long_ago = |at: &Time| self.now.since(*at) >= RESTORED_MAX;
        if !used || !fit || !self.engine.troubled_at.as_ref().is_some_and(long_ago) {
            return;
        }
        self.engine.troubled_at = None;
        let now = self.now;
        let calm = |process: &Process| now.since(process.disturbed_until) >= RESTORED_MAX / 3;
        let gateways = 0..self.names.gateways;
        if !gateways.clone().all(|gateway| {
            let it = &self.processes[gateway];
            it.is_up() && calm(it) && self.net.clean(self.now, it.host, self.engine.host)
        }) {
            return;
        }
        for room in 0..self.room_names.len() {
            // One that has nobody in it yet, or any more, counts as well.
            let open = |node: &usize| self.nodes[*node].shard.room(room).is_some();
            let mut homes = (0..self.nodes.len()).filter(open);
            let (Some(node), None) = (homes.next(), homes.next()) else { continue };
            let opened_at = self.nodes[node].shard.room(room).map_or(self.now, |it| it.opened_at);
            let heard = gateways.clone().all(|gateway| self.talks(gateway, node));
            // Another home that has just died may be what the directory was told last.
            let alone = self.has_not_been_split_for(room, RESTORED_MAX);
            let settled = alone && self.now.since(opened_at) >= RESTORED_MAX;
            // To gateways one that is dead may still be the home, above this one: until it has been away for long, or somebody comes.
            let dead = |gateway: usize| {
                let view = self.role_at(gateway)?.0.view();
                let home = view.node(&view.home(&self.room_names[room])?.node)?;
                Some(home.health == Health::Down)
            };
            let above = gateways.clone().any(|gateway| dead(gateway) == Some(true));
            if !heard || above || !calm(self.node(node)) || !settled {
                continue;
            }
            let record = self.record(self.keyer.key(&self.room_names[room]));
            let just_lost = record.as_ref().is_some_and(|record| {
                let holder = self.node(self.node_number(&record.node));
                now.since(holder.disturbed_until) < RESTORED_MAX
            });
            let wrong = record.as_ref().is_none_or(|record| record.node != self.node_ids[node]);
            if wrong && !just_lost {
                self.violated("directory", |world| {
                    let node = &world.node_ids[node];
                    format!("room-{room} is at {node}; the directory, long back: {record:?}")
                });
            }
        }
    }

    /// A machine has said when it wants to be woken, and whether that is `later` than now: what is due was to be done.
    pub(crate) fn look_at_deadline(&mut self, process: usize, later: bool) {
        if !later {
            self.violated("spins", |world| {
                format!("{} wants to be woken for what it did not do", world.process_name(process))
            });
        }
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
    pub(crate) fn look_at_visits(&mut self, gateway: usize) {
        let process = &self.processes[gateway];
        // What came while it stood still is read first.
        if !process.is_up() || self.now.since(process.stood_until) < WAIT_MAX {
            return;
        }
        self.look_for_broken(gateway);
        self.look_for_untold(gateway);
        self.look_at_waiting(gateway);
    }

    /// Whose link to the node broke, and who was told nothing since.
    fn look_for_broken(&mut self, gateway: usize) {
        let long = |at: Time| self.now.since(at) > BROKEN_MAX;
        let broken = |visit: &&Visit| visit.stage == Stage::Broken && long(visit.broken_at);
        let found = self.gateways[gateway].visits.iter().find(broken);
        if let Some(client) = found.map(|visit| visit.client) {
            self.violated("broken", |world| {
                let (gateway, who) = (&world.gateway_ids[gateway], &world.clients[client].identity);
                format!("{gateway} tells {who} nothing, whose way to the node has broken")
            });
        }
    }

    /// Whether a node has taken people all the time lately. One that did not may have refused those who wait now.
    fn is_sound(&self, node: usize) -> bool {
        let it = &self.nodes[node];
        !it.overloaded && self.now.since(self.node(node).stood_until) > REACH_MAX
    }

    /// Who was in at a node that was given up, and has not been told.
    fn look_for_untold(&mut self, gateway: usize) {
        let Some((role, _)) = self.role_at(gateway) else { return };
        let it = &self.gateways[gateway];
        let dead = |node: &NodeId| {
            let known = role.view().node(node).is_some_and(|node| node.health == Health::Down);
            known && self.now.since(it.judged_at[self.node_number(node)]) > UNTOLD_MAX
        };
        // Its room has left the node, and is at another that this gateway hears, by all that it was told.
        let strayed = |room: usize, order: &Order| {
            let node = self.node_number(&order.placement.node);
            // What a dead one had nobody knows until it counts as dead, and then it is told for that.
            let up = self.processes[self.names.gateways + node].is_up();
            if !up || self.nodes[node].shard.room(room).is_some() {
                return false;
            }
            let hosts = role.view().hosts(&self.room_names[room]);
            let lives = |node: &NodeView| node.health == Health::Alive;
            // One that stood still follows nobody who has not answered since.
            let proven_at = self.processes[gateway].stood_until + PROVEN_MAX;
            // One that has been down for a moment is told of when it is found to be another process.
            let trouble = self.node(node).disturbed_until;
            let heard_at = it.heard_of[room].max(order.at).max(proven_at).max(trouble);
            hosts.first().is_some_and(|home| role.view().node(&home.node).is_some_and(lives))
                && hosts.iter().all(|home| home.node != order.placement.node)
                && self.now.since(heard_at) > STRAYED_MAX
        };
        let untold = it.visits.iter().find(|visit| {
            let order = visit.order.as_ref().filter(|_| visit.stage == Stage::Open);
            let room = self.clients[visit.client].room;
            order.is_some_and(|order| dead(&order.placement.node) || strayed(room, order))
        });
        if let Some(client) = untold.map(|visit| visit.client) {
            self.violated("untold", |world| {
                let (gateway, who) = (&world.gateway_ids[gateway], &world.clients[client].identity);
                format!("{gateway} does not tell {who}, whose room is not where they are")
            });
        }
    }

    /// Who waits for a node that was given up.
    fn look_at_waiting(&mut self, gateway: usize) {
        let Some((role, _)) = self.role_at(gateway) else { return };
        let view = role.view();
        let dead = |node: &NodeId| view.node(node).is_some_and(|node| node.health == Health::Down);
        let judged_at = &self.gateways[gateway].judged_at;
        let long_since = |since: Time| self.now.since(since) > WAIT_MAX;
        let others = view.nodes().any(|node| {
            let number = self.node_number(&node.facts.id);
            let sound = self.is_sound(number);
            node.takes_rooms() && !node.full && long_since(judged_at[number]) && sound
        });
        let waits = |visit: &&Visit| {
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

    /// A gateway sends a client, for the first time, to a node.
    pub(crate) fn look_at_order(&mut self, gateway: usize, client: usize, to: &Placement) {
        let room = self.clients[client].room;
        if !to.home && to.generation <= self.gateways[gateway].ended[room] {
            self.violated("tombstone", |world| {
                let (gateway, generation) = (&world.gateway_ids[gateway], to.generation.0);
                format!("{gateway} opens room-{room} of {generation}, which has ended")
            });
        }
        let it = &self.gateways[gateway];
        // What the role had not found yet when it sent the client is not held against it.
        let Some((role, _)) = self.role_at(gateway).filter(|_| !it.judging) else { return };
        let down = role.view().node(&to.node).is_some_and(|node| node.health == Health::Down);
        if down && role.view().nodes().any(|node| node.takes_rooms() && !node.full) {
            self.violated("dead-end", |world| {
                let (gateway, who) = (&world.gateway_ids[gateway], &world.clients[client].identity);
                format!("{gateway} sends {who} to {}, which it has given up", to.node)
            });
        }
    }

    /// A gateway asks the directory for a room that it has not heard of: not for a node that comes and goes.
    pub(crate) fn look_at_claim(&mut self, gateway: usize, request: &Request) {
        let Request::Place { room, want } = request else { return };
        // Asked again, because nobody knows what came of it.
        if !self.gateways[gateway].claimed.insert(want.id) {
            return;
        }
        let node = &want.node;
        let Some((role, _)) = self.role_at(gateway) else { return };
        let number = self.node_number(node);
        let lately = |at: &Option<Time>| at.is_some_and(|at| self.now.since(at) < CALM_MIN);
        if !self.gateways[gateway].falls[number].iter().all(lately) {
            return;
        }
        let better = role.view().nodes().any(|other| {
            let number = self.node_number(&other.facts.id);
            let calm = !other.probation && !other.region_probation && !other.ejected;
            let sound = self.is_sound(number) && calm;
            other.facts.id != *node && other.takes_rooms() && !other.full && sound
        });
        let mut names = self.room_names.iter();
        let name = names.find(|name| self.keyer.key(name) == *room);
        // What it has heard of it announces.
        let known = name.is_some_and(|name| role.view().home(name).is_some());
        let refused = self.gateways[gateway].visits.iter().any(|visit| {
            let here = self.keyer.key(&self.room_names[self.clients[visit.client].room]) == *room;
            visit.stage == Stage::Asking && visit.orders > 0 && here
        });
        if better && !known && !refused {
            self.violated("flapping", |world| {
                format!(
                    "{} puts a new room at {node}, which comes and goes",
                    world.gateway_ids[gateway]
                )
            });
        }
    }

    /// A node lets somebody in who asks for it under one generation of the room, `under` another, or the same.
    pub(crate) fn look_at_admission(&mut self, node: usize, enter: &Enter, under: Generation) {
        let room = self.clients[enter.client as usize].room;
        let it = &self.nodes[node];
        let known = it.generation(&self.room_names[room]).unwrap_or_default();
        let ended = it.ended[room];
        let joins = enter.want == Want::Join;
        if joins && under < enter.generation {
            self.violated("tenure", |world| {
                let (node, asked) = (&world.node_ids[node], enter.generation.0);
                format!("{node} keeps room-{room} under {}, and was told of {asked}", under.0)
            });
        }
        if joins && (enter.generation < known || enter.generation <= ended) {
            self.violated("tombstone", |world| {
                let (node, generation) = (&world.node_ids[node], enter.generation.0);
                format!("{node} lets somebody into room-{room} of {generation}, which is over")
            });
        }
    }

    /// A room is over at a node, or was taken from it.
    pub(crate) fn room_ended_at(&mut self, node: usize, room: usize, generation: Generation) {
        let ended = &mut self.nodes[node].ended[room];
        *ended = (*ended).max(generation);
    }

    /// Whether the node's machine knows its rooms under the generations that its shard serves them under.
    pub(crate) fn look_at_generations(&mut self, node: usize) {
        let it = &self.nodes[node];
        if it.hung_since.is_some() {
            return;
        }
        let known = |room: usize| it.generation(&self.room_names[room]).unwrap_or_default();
        let older = it.shard.rooms.iter().find(|open| known(open.room) < open.generation);
        if let Some(room) = older.map(|open| open.room) {
            self.violated("tenure", |world| {
                format!("{} serves room-{room} and does not know how late", world.node_ids[node])
            });
        }
    }

    /// A node's lease is renewed. One that was over has ended all that the node had.
    pub(crate) fn look_at_lease(&mut self, node: usize) {
        let it = &self.nodes[node];
        let local = self.node(node).clock.local(self.now);
        let over = it.lease_until.is_some_and(|until| until < local);
        if over && it.hung_since.is_none() && !it.shard.rooms.is_empty() {
            self.violated("lease", |world| {
                format!("{} goes on with what it had when its lease ended", world.node_ids[node])
            });
        }
    }

    /// A client is told when to come back. Those who are turned away together must not come back together; three may by chance.
    pub(crate) fn look_at_pause(&mut self, gateway: usize, pause: Duration) {
        let told = &mut self.gateways[gateway].turned_away;
        told.retain(|(at, same)| *same == pause && self.now.since(*at) < UNISON_MAX);
        told.push((self.now, pause));
        if told.len() > 3 {
            self.violated("unison", |world| {
                let name = &world.gateway_ids[gateway];
                format!("{name} tells four clients to come back after the same {pause:?}")
            });
        }
    }

    /// A fault of the network is about to heal. Whom it has parted for long enough, if only one way, has noticed.
    pub(crate) fn look_at_cut(&mut self, fault: usize, what: &What) {
        let began = World::world_time(self.schedule.faults[fault].at);
        let machine = match what {
            What::Deaf { who } | What::Mute { who } => Some(self.process_called(who)),
            What::RegionDark { .. }
            | What::RegionAlone { .. }
            | What::OneWay { .. }
            | What::Cut { .. } => None,
            _ => return,
        };
        if self.now.since(began) < CUT_NOTICED_MAX {
            return;
        }
        let cuts = self.cuts(what);
        let zone = |process: usize| self.net.zone(self.processes[process].host);
        let parts = |a: usize, b: usize| {
            machine.map_or_else(
                || cuts.contains(&(zone(a), zone(b))) || cuts.contains(&(zone(b), zone(a))),
                |machine| machine == a || machine == b,
            )
        };
        let ran = |process: &usize| {
            let it = &self.processes[*process];
            it.is_up() && it.started_at < began && it.stood_until < began
        };
        let (gateways, all) = (self.names.gateways, self.processes.len());
        let believed = (0..gateways).filter(ran).find_map(|gateway| {
            let (role, _) = self.role_at(gateway)?;
            let lives = |node: &usize| {
                let id = &self.node_ids[node - gateways];
                // One that begins anew is trusted for a moment; what else has cut it off may have hidden that it is deaf.
                let judged_at = self.gateways[gateway].judged_at[node - gateways];
                let new = self.now.since(judged_at) < CUT_NOTICED_MAX;
                !new && role.view().node(id).is_some_and(|node| node.health != Health::Down)
            };
            let mut nodes = (gateways..all).filter(ran).filter(|node| parts(gateway, *node));
            Some((gateway, nodes.find(lives)?))
        });
        if let Some((gateway, node)) = believed {
            self.violated("blind", |world| {
                let (gateway, node) = (world.process_name(gateway), world.process_name(node));
                format!("{gateway} has not noticed that {node} is cut off from it")
            });
        }
    }
}

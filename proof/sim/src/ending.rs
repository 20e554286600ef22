//! What must hold after the calm that ends each run: nothing of all the faults is left.

use outlast_gateway_core::Health;
use outlast_model::Generation;

use crate::{client::Stage, world::World};

impl World {
    /// After the calm: nothing of all the faults is left.
    pub(crate) fn look_at_the_end(&mut self) {
        for client in 0..self.clients.len() {
            let it = &self.clients[client];
            if it.is_present() && !(it.stage == Stage::In && self.media_flows(client)) {
                self.violated("stuck", |world| {
                    let it = &world.clients[client];
                    format!("{} is not in the call in the end ({:?})", it.identity, it.stage)
                });
            }
        }
        let unforced = self.observer.unforced as usize;
        if unforced > 2 * self.clients.len() {
            self.violated("moves", |world| {
                format!("{unforced} moves from nodes that were fine, of {}", world.clients.len())
            });
        }
        for room in 0..self.room_names.len() {
            self.look_at_room_in_the_end(room);
        }
        for gateway in 0..self.names.gateways {
            self.look_at_gateway_in_the_end(gateway);
        }
    }

    fn look_at_room_in_the_end(&mut self, room: usize) {
        let hosts: Vec<usize> = self.hosts(room).collect();
        let people = self.clients.iter().filter(|it| it.room == room && it.is_present()).count();
        let members: usize = hosts
            .iter()
            .filter_map(|node| self.nodes[*node].shard.room(room))
            .map(|open| open.members.len())
            .sum();
        if members != people || hosts.len() > 1 {
            self.violated("not-one-room", |_| {
                format!("room-{room} has {members} participants at {hosts:?}, and {people} people")
            });
        }
        let Some(node) = hosts.first() else { return };
        let node = *node;
        let known = self.nodes[node].generation(&self.room_names[room]);
        let Some(generation) = known else {
            return self.violated("tenure", |world| {
                format!("{} serves room-{room} and does not know it", world.node_ids[node])
            });
        };
        for gateway in 0..self.names.gateways {
            let Some((role, _)) = self.role_at(gateway) else { continue };
            let home = role.view().home(&self.room_names[room]).cloned();
            let right = home.as_ref().is_some_and(|home| {
                home.node == self.node_ids[node] && home.generation == generation
            });
            if !right {
                self.violated("view", |world| {
                    let gateway = &world.gateway_ids[gateway];
                    format!(
                        "{gateway} has room-{room} at {home:?}, not at {} under {}",
                        world.node_ids[node], generation.0
                    )
                });
            }
        }
        self.look_at_record(room, node, generation);
    }

    fn look_at_record(&mut self, room: usize, node: usize, generation: Generation) {
        if !self.schedule.world.directory {
            return;
        }
        let room_key = self.keyer.key(&self.room_names[room]);
        let request = outlast_directory::Request::Lookup { room: room_key };
        let reply = self.engine.table.apply(self.now, &request);
        let right = matches!(&reply, outlast_directory::Reply::Found(Some(record))
            if record.node == self.node_ids[node] && record.generation >= generation);
        if !right {
            self.violated("directory", |world| {
                let node = &world.node_ids[node];
                format!("room-{room} is at {node} under {}; the directory: {reply:?}", generation.0)
            });
        }
    }

    fn look_at_gateway_in_the_end(&mut self, gateway: usize) {
        let Some((role, local)) = self.role_at(gateway) else { return };
        let facts = role.facts(local);
        let open = self.gateways[gateway].sessions();
        let down: Vec<String> = role
            .view()
            .nodes()
            .filter(|node| node.health == Health::Down || node.draining)
            .map(|node| node.facts.id.to_string())
            .collect();
        if facts.sessions != open {
            self.violated("sessions", |world| {
                let gateway = &world.gateway_ids[gateway];
                format!("{gateway} counts {} sessions of {open}", facts.sessions)
            });
        }
        if !down.is_empty() {
            self.violated("view", |world| {
                format!("{} does not have {} back", world.gateway_ids[gateway], down.join(", "))
            });
        }
    }
}

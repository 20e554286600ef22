//! A globe in its steady state: every room has its home, every person is in, every gateway knows it.

use std::{collections::BinaryHeap, time::Duration};

use outlast_directory::{InstanceId, Layout, PlacementId, Record, Request, RoomKeyer, Table};
use outlast_gateway_core::{
    AskId, DirectoryUse, GatewayFacts, Input, NodeFacts, Role, RoleConfig, Session, Spread,
    StreamEvent,
};
use outlast_model::{Epoch, GatewayId, NodeId, RegionName, SessionId, Time};
use outlast_tenure::{Input as NodeInput, Tenure, TenureConfig};

use super::{FIRST, Gateway, Globe, Happens, Node, Person, Scale, meter::Meter};
use crate::{chance::Stream, retry::Sdk};

/// Every gateway's start.
pub(super) const GATEWAY_EPOCH: Epoch = Epoch(1);
const NODE_EPOCH: Epoch = Epoch(1 << 20);

impl Globe {
    /// The globe that `scale` describes, at rest.
    pub(super) fn new(scale: &Scale) -> Globe {
        let region_names: Vec<RegionName> =
            (0..scale.regions).map(|n| format!("region-{n}").into()).collect();
        let count = scale.regions * scale.gateways;
        let gateway_ids: Vec<GatewayId> = (0..count).map(|n| format!("g-{n}").into()).collect();
        let node_ids: Vec<NodeId> = (0..scale.nodes).map(|n| format!("n-{n}").into()).collect();
        let mut chance = Stream::named(scale.seed, "globe");
        let keyer = RoomKeyer::new([7; 16]);
        let facts: Vec<NodeFacts> = node_ids
            .iter()
            .enumerate()
            .map(|(n, id)| NodeFacts {
                id: id.clone(),
                region: region_names[n % scale.regions].clone(),
                capacity: 1,
            })
            .collect();
        let config = |n: usize| {
            let others = (0..count).filter(|other| *other != n).map(|other| GatewayFacts {
                id: gateway_ids[other].clone(),
                region: region_names[other % scale.regions].clone(),
            });
            RoleConfig {
                id: gateway_ids[n].clone(),
                region: region_names[n % scale.regions].clone(),
                epoch: GATEWAY_EPOCH,
                nodes: facts.clone(),
                gateways: others.collect(),
                name_servers: false,
                tell_per_second: Some(scale.tell_per_second).filter(|pace| *pace > 0),
                spread: Spread::Everywhere,
                directory: Some(DirectoryUse { keyer, layout: Layout::Fixed(1), arbitrates: true }),
                seed: n as u64,
            }
        };
        let gateways = (0..count).map(|n| gateway(config(n), n % scale.regions)).collect();
        let tenure = |n: usize| {
            TenureConfig::new(node_ids[n].clone(), NODE_EPOCH, gateway_ids.clone(), n as u64)
        };
        let nodes = (0..scale.nodes).map(|n| node(tenure(n), n % scale.regions)).collect();
        let mut globe = Globe {
            now: Time::ZERO,
            lost_at: Time::ZERO,
            planned: 0,
            heap: BinaryHeap::new(),
            nodes,
            gateways,
            people: people(scale, &mut chance),
            asks: Vec::new(),
            sessions: Vec::new(),
            table: Table::new(InstanceId(1)),
            keyer,
            room_names: (0..scale.rooms).map(|n| format!("room-{n}").into()).collect(),
            identities: (0..scale.clients).map(|n| format!("p{n}").into()).collect(),
            node_ids,
            gateway_ids,
            chance,
            back: Vec::new(),
            out: 0,
            lost: 0,
            unplaced: 0,
            refused: 0,
            meter: Meter::new(),
            core_wait: Duration::ZERO,
        };
        globe.settle(scale);
        globe
    }

    /// Beats have come, streams are synced, rooms are told, people are in.
    fn settle(&mut self, scale: &Scale) {
        for node in 0..self.nodes.len() {
            let phase = self.chance.millis(0, 400);
            self.at(Time::ZERO + phase, Happens::Tick(node));
        }
        for gateway in 0..self.gateways.len() {
            self.tell(gateway, Input::Wake);
        }
        self.run(Time::from_millis(1_500));
        for node in 0..self.nodes.len() {
            for room in (node..scale.rooms).step_by(scale.nodes) {
                self.nodes[node].rooms += 1;
                let name = self.room_names[room].clone();
                let want = Record {
                    node: self.node_ids[node].clone(),
                    epoch: NODE_EPOCH,
                    generation: FIRST,
                    id: PlacementId(room as u128 + 1),
                    provisional: false,
                };
                let room = self.keyer.key(&name);
                self.table.apply(self.now, &Request::Place { room, want });
                let opened = NodeInput::Opened { room: name, generation: FIRST, settings: None };
                self.hold(node, opened);
            }
            for gateway in 0..self.gateways.len() {
                let id = self.node_ids[node].clone();
                let event = StreamEvent::Connected;
                self.tell(gateway, Input::Stream { node: id, event });
                self.hold(node, NodeInput::Follow { follower: gateway as u64 });
            }
        }
        for person in 0..self.people.len() {
            let it = self.people[person];
            let node = it.node as usize;
            self.nodes[node].participants += 1;
            let at = Session {
                room: self.room_names[it.room as usize].clone(),
                client: self.identities[person].clone(),
                node: self.node_ids[node].clone(),
                generation: FIRST,
            };
            let session = SessionId(self.sessions.len() as u64);
            self.sessions.push(person as u32);
            let ask = AskId(self.asks.len() as u64);
            self.asks.push(person as u32);
            self.tell(it.gateway as usize, Input::Opened { session, ask, at });
        }
    }
}

fn gateway(config: RoleConfig, region: usize) -> Gateway {
    Gateway {
        role: Role::new(config, Time::ZERO),
        region,
        lives: true,
        wake: None,
        effort: super::Effort::default(),
        out: Vec::new(),
    }
}

fn node(config: TenureConfig, region: usize) -> Node {
    Node {
        tenure: Tenure::new(config, Time::ZERO),
        region,
        lives: true,
        participants: 0,
        rooms: 0,
        busy_until: Time::ZERO,
        out: Vec::new(),
    }
}

/// People are in rooms of their region, and their gateway is in the next one: never both are lost.
fn people(scale: &Scale, chance: &mut Stream) -> Vec<Person> {
    (0..scale.clients)
        .map(|n| {
            let room = n % scale.rooms;
            let region = room % scale.nodes % scale.regions;
            let beside = (region + 1 + chance.index(scale.regions - 1)) % scale.regions;
            let door = beside + scale.regions * chance.index(scale.gateways);
            let sdk = if chance.hits(500) { Sdk::Js } else { Sdk::Rust };
            Person {
                room: room as u32,
                gateway: door as u16,
                tries: 0,
                sdk,
                node: (room % scale.nodes) as u32,
                out_since: None,
            }
        })
        .collect()
}

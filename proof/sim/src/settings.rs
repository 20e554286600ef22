//! What a room is set to goes with it: one room of each run is made by the server API, and whoever opens it anew is to be told
//! what it was made as.

use outlast_gateway_core::Placement;
use outlast_model::RoomSettings;

use crate::world::World;

impl World {
    /// What a room is made as that nobody has told anything of: one of them is made by the server API.
    pub(crate) fn first_settings(&mut self, room: usize) -> Option<RoomSettings> {
        let truth = &mut self.observer.rooms[room];
        if room == 0 && truth.settings.is_none() {
            let made = RoomSettings {
                empty_timeout_s: 300,
                departure_timeout_s: 20,
                max_participants: 50,
                metadata: "made by the server API".to_owned(),
                created_unix_ms: 1_800_000_000_000,
                by_api: true,
            };
            truth.settings = Some(made.clone());
            return Some(made);
        }
        None
    }

    /// A room has ended where it was, since nobody was left in it.
    pub(crate) fn room_ends(&mut self, room: usize) {
        if self.nodes.iter().all(|node| node.shard.room(room).is_none()) {
            self.stays_end(room);
            self.observer.rooms[room].settings = None;
            for gateway in &mut self.gateways {
                if let Some(told) = gateway.told_settings.get_mut(room) {
                    *told = false;
                }
            }
        }
    }

    /// A gateway sends somebody to a new home, with the room's settings if it was told them; to a home that it knows, if that
    /// has named the room without.
    pub(crate) fn check_settings(
        &mut self,
        gateway: usize,
        room: usize,
        placement: &Placement,
        settings: Option<&RoomSettings>,
    ) {
        let Some(made) = &self.observer.rooms[room].settings else { return };
        let (node, gateway_) = (self.node_number(&placement.node), &self.gateways[gateway]);
        let told = gateway_.told_settings[room];
        let there = self.nodes[node].shard.room(room);
        let knows = placement.home
            && (gateway_.bare_at[room] != Some(node)
                || there.is_none_or(|open| open.settings.is_some()));
        if told && !knows && settings != Some(made) {
            self.violated("settings", |world| {
                let (gateway, node) = (&world.gateway_ids[gateway], &placement.node);
                format!("{gateway} moves room-{room} to {node} without its settings")
            });
        }
    }
}

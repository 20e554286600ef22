//! The server API (`livekit.RoomService`) for rooms of this shard. Grants have been checked at the gateway.

use outlast_livekit::{self as proto, Message as _};
use outlast_model::{Generation, METADATA_BYTES_MAX, NAME_CHARS_MAX, RULINGS_MAX, RoomName, Time};
use proto::{
    DisconnectReason, leave_request::Action, request_response::Reason, signal_response::Message,
};

use crate::{
    announce::Reach,
    door::{ApiError, ApiRequest, Out},
    participant::ParticipantKey,
    room::{Origin, RoomKey},
    shard::Shard,
};

type Answer = Result<Vec<u8>, ApiError>;

fn fail<T>(code: &'static str, message: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError { code, message: message.into() })
}

impl Shard {
    pub(crate) fn api(&mut self, now: Time, request: ApiRequest, out: &mut Out) -> Answer {
        match request {
            ApiRequest::CreateRoom { request, generation, created_unix_ms } => {
                self.create_room(now, &request, (generation, created_unix_ms), out)
            }
            ApiRequest::ListRooms(request) => {
                let asked = |name: &RoomName| {
                    request.names.is_empty() || request.names.iter().any(|n| n == name.as_str())
                };
                let rooms = self.room_names.iter().filter(|(name, _)| asked(name));
                let rooms = rooms.map(|(_, key)| self.room_info(*key)).collect();
                Ok(proto::ListRoomsResponse { rooms }.encode_to_vec())
            }
            ApiRequest::DeleteRoom(request) => {
                let key = self.room_by_name(&request.room)?;
                self.close_room(key, DisconnectReason::RoomDeleted, out);
                Ok(proto::DeleteRoomResponse {}.encode_to_vec())
            }
            ApiRequest::ListParticipants(request) => {
                let key = self.room_by_name(&request.room)?;
                let participants = self.rooms[key]
                    .members
                    .values()
                    .filter_map(|member| self.participants.get(*member))
                    .map(|participant| participant.info(self.config.region.as_str()))
                    .collect();
                Ok(proto::ListParticipantsResponse { participants }.encode_to_vec())
            }
            ApiRequest::GetParticipant(request) => {
                let key = self.member(&request.room, &request.identity)?;
                Ok(self.participants[key].info(self.config.region.as_str()).encode_to_vec())
            }
            ApiRequest::RemoveParticipant(request) => {
                let key = self.member(&request.room, &request.identity)?;
                let participant = &self.participants[key];
                let (room, identity) = (participant.room, participant.identity.clone());
                let waiting = self.rooms[room].successors.get(&identity).copied();
                let reason = DisconnectReason::ParticipantRemoved;
                for key in waiting.into_iter().chain([key]) {
                    self.tell_leave(key, Action::Disconnect, reason, out);
                    self.remove(key, reason, out);
                }
                self.end_stay(room, &identity, out);
                Ok(proto::RemoveParticipantResponse {}.encode_to_vec())
            }
            ApiRequest::MutePublishedTrack(request) => self.mute_published(&request, out),
            ApiRequest::SendData(request) => {
                let key = self.room_by_name(&request.room)?;
                self.send_data(now, key, request, out);
                Ok(proto::SendDataResponse {}.encode_to_vec())
            }
            ApiRequest::UpdateParticipant(request) => self.update_participant(request, out),
            ApiRequest::UpdateRoomMetadata(request) => self.update_room_metadata(request, out),
        }
    }

    fn create_room(
        &mut self,
        now: Time,
        request: &proto::CreateRoomRequest,
        (generation, created_unix_ms): (Generation, Option<i64>),
        out: &mut Out,
    ) -> Answer {
        let name = RoomName::from(request.name.as_str());
        if request.name.is_empty() || request.name.chars().count() > NAME_CHARS_MAX {
            return fail("invalid_argument", format!("name: 1 to {NAME_CHARS_MAX} characters"));
        }
        if request.metadata.len() > METADATA_BYTES_MAX {
            return fail("invalid_argument", format!("metadata: over {METADATA_BYTES_MAX} bytes"));
        }
        let Ok((key, news)) = self.open_room(now, &name, generation, created_unix_ms) else {
            return fail("unavailable", "the room was placed anew: ask again");
        };
        let before = self.rooms[key].settings();
        self.set_up_room(key, request);
        if news || self.rooms[key].settings() != before {
            self.tell_opened(key, out);
        }
        Ok(self.room_info(key).encode_to_vec())
    }

    fn update_room_metadata(
        &mut self,
        request: proto::UpdateRoomMetadataRequest,
        out: &mut Out,
    ) -> Answer {
        let key = self.room_by_name(&request.room)?;
        if request.metadata.len() > METADATA_BYTES_MAX {
            return fail("invalid_argument", format!("metadata: over {METADATA_BYTES_MAX} bytes"));
        }
        let room = &mut self.rooms[key];
        room.metadata = request.metadata;
        if room.origin == Origin::Joined {
            room.origin = Origin::Changed;
        }
        self.tell_opened(key, out);
        let room = self.room_info(key);
        let update = Message::RoomUpdate(proto::RoomUpdate { room: Some(room.clone()) });
        self.tell_room(key, &update, None, out);
        Ok(room.encode_to_vec())
    }

    fn room_by_name(&self, name: &str) -> Result<RoomKey, ApiError> {
        match self.room_names.get(name) {
            Some(key) => Ok(*key),
            None => fail("not_found", "requested room does not exist"),
        }
    }

    fn member(&self, room: &str, identity: &str) -> Result<ParticipantKey, ApiError> {
        let room = self.room_by_name(room)?;
        match self.rooms[room].members.get(identity) {
            Some(key) => Ok(*key),
            None => fail("not_found", "participant does not exist"),
        }
    }

    /// Sets what is not zero; an existing room is changed, not made anew.
    fn set_up_room(&mut self, key: RoomKey, request: &proto::CreateRoomRequest) {
        let span = |seconds: u32| std::time::Duration::from_secs(seconds.into());
        let room = &mut self.rooms[key];
        (room.origin, room.changed) = (Origin::Api, true);
        if request.empty_timeout > 0 {
            room.empty_timeout = span(request.empty_timeout);
        }
        if request.departure_timeout > 0 {
            room.departure_timeout = span(request.departure_timeout);
        }
        if request.max_participants > 0 {
            room.max_participants = request.max_participants;
        }
        if !request.metadata.is_empty() {
            room.metadata.clone_from(&request.metadata);
        }
    }

    fn mute_published(&mut self, request: &proto::MuteRoomTrackRequest, out: &mut Out) -> Answer {
        let key = self.member(&request.room, &request.identity)?;
        if !request.muted {
            // A microphone that somebody else can open is a privacy hole.
            return fail("failed_precondition", "remote unmute not enabled");
        }
        if !self.mute(key, &request.track_sid, true, out) {
            return fail("not_found", "track is not published");
        }
        let told = proto::MuteTrackRequest { sid: request.track_sid.clone(), muted: true };
        self.tell(key, Message::Mute(told), out);
        let track =
            self.participants[key].track(&request.track_sid).map(|track| track.info.clone());
        Ok(proto::MuteRoomTrackResponse { track }.encode_to_vec())
    }

    fn update_participant(
        &mut self,
        request: proto::UpdateParticipantRequest,
        out: &mut Out,
    ) -> Answer {
        let key = self.member(&request.room, &request.identity)?;
        let participant = &self.participants[key];
        let (room, identity) = (participant.room, participant.identity.clone());
        if request.permission.is_some() && !self.rooms[room].stays.takes(&identity) {
            let most = format!("permissions of {RULINGS_MAX} people of this room are changed");
            return fail("resource_exhausted", most);
        }
        let set = self.set_metadata(key, &request.name, &request.metadata, &request.attributes);
        if set != Reason::Ok {
            return fail("invalid_argument", "name, metadata or attributes are over their limits");
        }
        if let Some(permission) = request.permission {
            self.rule(room, &identity, &permission, out);
        }
        self.announce(key, Reach::All, out);
        Ok(self.participants[key].info(self.config.region.as_str()).encode_to_vec())
    }

    /// Replaces all permissions; rights that were lost end what they allowed, at once.
    pub(crate) fn set_permission(
        &mut self,
        key: ParticipantKey,
        permission: proto::ParticipantPermission,
        out: &mut Out,
    ) {
        let participant = &mut self.participants[key];
        let may = |source: i32| {
            let sources = &permission.can_publish_sources;
            permission.can_publish && (sources.is_empty() || sources.contains(&source))
        };
        let lost: Vec<_> = participant
            .tracks
            .iter()
            .filter(|track| !may(track.info.source))
            .map(|track| track.sid.clone())
            .collect();
        let subscribed: Vec<_> = participant.subscriptions.keys().cloned().collect();
        let can_subscribe = permission.can_subscribe;
        participant.permission = permission;
        participant.refresh_at = self.clock;
        self.refresh_token(self.clock, key, out);
        for sid in lost {
            self.unpublish(key, &sid, out);
            let told = proto::TrackUnpublishedResponse { track_sid: sid.to_string() };
            self.tell(key, Message::TrackUnpublished(told), out);
        }
        if can_subscribe {
            self.subscribe_to_all(key);
        } else {
            for sid in subscribed {
                self.unsubscribe(key, &sid);
            }
            self.participants[key].data_subscriptions.clear();
        }
    }
}

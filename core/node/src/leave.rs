//! Going away: one participant, one socket, one room, or everybody.

use outlast_livekit as proto;
use outlast_model::{Epoch, Generation, RoomName, SessionId, Time};
use proto::{DisconnectReason, leave_request::Action, signal_response::Message};

use crate::{
    door::{Out, Told},
    participant::ParticipantKey,
    room::RoomKey,
    shard::{Shard, frame},
};

/// `leave` with this action; `can_reconnect` is what SDKs older than protocol 13 read.
pub(crate) fn leave(action: Action, reason: DisconnectReason) -> Message {
    Message::Leave(proto::LeaveRequest {
        can_reconnect: action != Action::Disconnect,
        reason: reason.into(),
        action: action.into(),
        regions: None,
    })
}

impl Shard {
    pub(crate) fn tell_leave(
        &self,
        key: ParticipantKey,
        action: Action,
        reason: DisconnectReason,
        out: &mut Out,
    ) {
        self.tell(key, leave(action, reason), out);
    }

    /// Tells a participant to join anew: it is served elsewhere from now on.
    pub(crate) fn send_away(&self, key: ParticipantKey, reason: DisconnectReason, out: &mut Out) {
        self.tell_leave(key, Action::Reconnect, reason, out);
    }

    /// Closes a participant's socket and keeps the participant: it may resume.
    pub(crate) fn detach(&mut self, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        if let Some(session) = participant.session.take() {
            self.sessions.remove(&session);
            out.told.push(Told::Close { session });
        }
    }

    /// The socket ended without a `leave`. Media goes on if it had begun: its silence will decide.
    pub(crate) fn socket_closed(&mut self, _now: Time, session: SessionId, out: &mut Out) {
        let Some(key) = self.sessions.remove(&session) else { return };
        let Some(participant) = self.participants.get_mut(key) else { return };
        participant.session = None;
        if !participant.is_connected() {
            self.remove(key, DisconnectReason::SignalClose, out);
        }
    }

    /// Removes a participant and tells the others.
    pub(crate) fn remove(&mut self, key: ParticipantKey, reason: DisconnectReason, out: &mut Out) {
        self.detach(key, out);
        let Some(participant) = self.participants.remove(key) else { return };
        self.forget_path(key, &participant);
        self.plane.remove_peer(participant.peer);
        let sids: Vec<_> = participant.tracks.iter().map(|track| track.sid.clone()).collect();
        for sid in &sids {
            self.end_subscriptions(sid);
        }
        for other in self.participants.values_mut() {
            other.data_subscriptions.retain(|subscription| subscription.publisher != key);
        }
        let now = self.clock;
        let Some(room) = self.rooms.get_mut(participant.room) else { return };
        if participant.waiting.is_some() {
            // Nobody has heard of it.
            room.successors.remove(&participant.identity);
            return;
        }
        // A session whose join panicked has no place.
        if room.members.get(&participant.identity) == Some(&key) {
            room.members.remove(&participant.identity);
        }
        let members: Vec<_> = room.members.values().copied().collect();
        let kept = members.iter().any(|member| {
            self.participants.get(*member).is_some_and(|other| !other.is_dependent())
        });
        if !kept && room.idle_since.is_none() {
            room.idle_since = Some(now);
        }
        // A newer session's own update has switched them already; a late one for the old would remove the new.
        if reason == DisconnectReason::DuplicateIdentity || participant.permission.hidden {
            return;
        }
        let mut info = participant.info(self.config.region.as_str());
        info.version += 1;
        info.state = proto::participant_info::State::Disconnected.into();
        info.disconnect_reason = reason.into();
        info.tracks.clear();
        info.data_tracks.clear();
        if let Some(room) = self.rooms.get_mut(participant.room) {
            room.departed.note(now, info.clone());
            room.changed = true;
        }
        self.announce_info(participant.room, info, None, out);
    }

    /// Ends a room: everybody is told to leave for good.
    pub(crate) fn close_room(&mut self, key: RoomKey, reason: DisconnectReason, out: &mut Out) {
        let Some(room) = self.rooms.get(key) else { return };
        let members: Vec<_> = room.sessions().collect();
        for member in members {
            self.tell_leave(member, Action::Disconnect, reason, out);
            self.remove(member, reason, out);
        }
        self.forget_room(key, out);
    }

    fn forget_room(&mut self, key: RoomKey, out: &mut Out) {
        let Some(room) = self.rooms.remove(key) else { return };
        self.room_names.remove(&room.name);
        out.told.push(Told::RoomClosed { room: room.name, generation: room.generation });
    }

    /// Tells so many participants to join anew elsewhere. Whole rooms: who is moved first opens the room elsewhere, which
    /// takes it from here, and until the others follow they do not hear each other.
    pub(crate) fn move_away(&mut self, count: u32, out: &mut Out) {
        let mut chosen = Vec::new();
        for room in self.room_names.values().filter_map(|room| self.rooms.get(*room)) {
            if chosen.len() >= count as usize {
                break;
            }
            chosen.extend(room.sessions());
        }
        for key in chosen {
            self.send_away(key, DisconnectReason::ServerShutdown, out);
            self.remove(key, DisconnectReason::ServerShutdown, out);
        }
    }

    /// The room belongs to another node now, up to and with this generation.
    pub(crate) fn fence_room(&mut self, name: &RoomName, generation: Generation, out: &mut Out) {
        let Some(key) = self.room_names.get(name).copied() else { return };
        let room = &self.rooms[key];
        if room.generation > generation {
            return;
        }
        let members: Vec<_> = room.sessions().collect();
        let reason = DisconnectReason::StateMismatch;
        // All sockets first: nobody is to hear that the others have left.
        for member in &members {
            self.send_away(*member, reason, out);
            self.detach(*member, out);
        }
        for member in members {
            self.remove(member, reason, out);
        }
        self.forget_room(key, out);
    }

    /// Everything here belongs to another node now. Sockets that still live are told; no media packet is sent.
    pub(crate) fn fence(&mut self, epoch: Epoch, out: &mut Out) {
        self.config.epoch = epoch;
        for session in self.sessions.keys() {
            let message = leave(Action::Reconnect, DisconnectReason::StateMismatch);
            out.told.push(frame(*session, message));
            out.told.push(Told::Close { session: *session });
        }
        self.sessions.clear();
        let gone: Vec<_> = self.participants.drain().collect();
        for (key, participant) in &gone {
            self.forget_path(*key, participant);
            self.plane.remove_peer(participant.peer);
        }
        for (_, room) in self.rooms.drain() {
            out.told.push(Told::RoomClosed { room: room.name, generation: room.generation });
        }
        self.room_names.clear();
        out.batch.clear();
    }
}

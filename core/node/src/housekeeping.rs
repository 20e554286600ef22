//! What happens because time passes: rooms that end, clients that went silent, tokens.

use std::time::Duration;

use outlast_livekit::{self as proto, signal_response};
use outlast_media::PlaneEvent;
use outlast_model::Time;

use crate::{
    door::Out,
    participant::{ParticipantKey, Track},
    shard::Shard,
};

/// Span between two rounds of housekeeping.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);
/// Least span between two wake-ups of one transport.
pub(crate) const TIMER_GRAIN: Duration = Duration::from_millis(1);
/// How long a participant may take until its media is up (LiveKit's server: 60 s).
const JOIN_SPAN: Duration = Duration::from_secs(60);
/// How long it may be silent until then: SDKs ping each second as soon as they have their answer. The path to a client whose
/// machine or gateway lost its power says nothing, and the others would see it for a minute.
const SILENT_SPAN: Duration = Duration::from_secs(15);
/// How long a participant whose media was lost may take to resume (LiveKit's server: 5 s).
const RESUME_SPAN: Duration = Duration::from_secs(5);
/// Least span between two updates about one room's counts (LiveKit's server: 5 s).
const ROOM_UPDATE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a section may wait for the track that names it before it gets one that has no other.
const NAMED_SPAN: Duration = Duration::from_millis(500);
/// Span between two refreshed tokens (LiveKit's server: 5 min).
pub(crate) const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

impl Shard {
    pub(crate) fn housekeeping(&mut self, now: Time, out: &mut Out) {
        let keys: Vec<ParticipantKey> = self.participants.keys().collect();
        for key in keys {
            self.isolated(key, out, |shard, out| shard.look_after(now, key, out));
        }
        let expired: Vec<_> =
            self.rooms.iter().filter(|(_, room)| room.expired(now)).map(|(key, _)| key).collect();
        for key in expired {
            self.close_room(key, proto::DisconnectReason::RoomClosed, out);
        }
        let keys: Vec<_> = self.rooms.keys().collect();
        for key in keys {
            let Some(room) = self.rooms.get_mut(key) else { continue };
            room.replay.forget(now);
            room.departed.forget(now);
            if room.changed && now.since(room.told_at) >= ROOM_UPDATE_INTERVAL {
                (room.changed, room.told_at) = (false, now);
                let room = Some(self.room_info(key));
                let update = signal_response::Message::RoomUpdate(proto::RoomUpdate { room });
                self.tell_room(key, &update, None, out);
            }
            self.end_stays(now, key, out);
        }
    }

    fn look_after(&mut self, now: Time, key: ParticipantKey, out: &mut Out) {
        if self.waits(now, key, out) {
            return;
        }
        let Some(participant) = self.participants.get(key) else { return };
        if !participant.is_connected() {
            let late = now.since(participant.joined_at) >= JOIN_SPAN;
            let silent = now.since(participant.spoke_at) >= SILENT_SPAN;
            if late && !silent {
                self.tell_leave(
                    key,
                    proto::leave_request::Action::Disconnect,
                    proto::DisconnectReason::JoinFailure,
                    out,
                );
            }
            if late || silent {
                return self.remove(key, proto::DisconnectReason::JoinFailure, out);
            }
        }
        let silent = participant
            .link
            .as_ref()
            .is_some_and(|link| link.connected && !link.transport.has_consent(now));
        match participant.lost_at {
            Some(lost_at) if now.since(lost_at) >= RESUME_SPAN => {
                self.remove(key, proto::DisconnectReason::ConnectionTimeout, out);
            }
            Some(_) => {}
            None if silent => self.media_lost(now, key, out),
            None => {
                self.look_at_hush(now, key, out);
                self.nudge(now, key, out);
                self.refresh_token(now, key, out);
                self.late_tracks(now, key, out);
            }
        }
    }

    /// Rust-core SDKs hold their pings back until a resume is complete, three seconds later, while the timer that takes a
    /// silent server for lost is running already: without a word from us, whichever of the two is first decides whether
    /// they keep their media or start anew.
    fn nudge(&mut self, now: Time, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        if participant.nudge_at.is_none_or(|at| at > now) {
            return;
        }
        participant.nudge_at = Some(now + self.config.ping_interval);
        let room = Some(self.room_info(self.participants[key].room));
        let update = signal_response::Message::RoomUpdate(proto::RoomUpdate { room });
        self.tell(key, update, out);
    }

    /// Binds what no name brought together, and drops announcements that no section has followed.
    fn late_tracks(&mut self, now: Time, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let waits =
            |track: &Track, span| track.bound.is_none() && now.since(track.added_at) >= span;
        participant.tracks.retain(|track| !waits(track, JOIN_SPAN));
        if participant.tracks.iter().any(|track| waits(track, NAMED_SPAN)) {
            self.bind_parked(key, true);
            self.settle_tracks(key, out);
        }
    }

    /// The client's ICE checks have stopped, or its transport failed: nothing more is sent, and it may resume.
    pub(crate) fn media_lost(&mut self, now: Time, key: ParticipantKey, out: &mut Out) {
        self.set_path(key, None);
        let Some(participant) = self.participants.get_mut(key) else { return };
        if participant.lost_at.is_none() {
            participant.lost_at = Some(now);
        }
        if participant.session.is_none() {
            self.remove(key, proto::DisconnectReason::ConnectionTimeout, out);
            return;
        }
        self.tell_leave(
            key,
            proto::leave_request::Action::Resume,
            proto::DisconnectReason::ConnectionTimeout,
            out,
        );
        self.detach(key, out);
    }

    /// Sends a fresh token when it is time: the call outlives the token that it began with.
    pub(crate) fn refresh_token(&mut self, now: Time, key: ParticipantKey, out: &mut Out) {
        let unix = self.unix(now);
        let Some(participant) = self.participants.get_mut(key) else { return };
        if now < participant.refresh_at {
            return;
        }
        participant.refresh_at = now + REFRESH_INTERVAL;
        let token = self.config.api_keys.refresh(&participant.claims, unix);
        self.tell(key, signal_response::Message::RefreshToken(token), out);
    }

    pub(crate) fn plane_event(&mut self, event: PlaneEvent, out: &mut Out) {
        match event {
            PlaneEvent::Speakers { levels } => self.speakers(&levels, out),
            PlaneEvent::FirstPacket(_) => {}
        }
    }
}

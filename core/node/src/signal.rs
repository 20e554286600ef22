//! Signalling messages of a client in a room, each to its place.

use std::collections::HashMap;

use outlast_livekit::{self as proto, Message as _};
use outlast_model::{ATTRIBUTES_BYTES_MAX, METADATA_BYTES_MAX, NAME_CHARS_MAX, SessionId, Time};
use proto::{
    DisconnectReason, leave_request::Action, request_response::Reason, signal_request,
    signal_response, simulate_scenario::Scenario,
};
use signal_response::Message;

use crate::{
    announce::Reach,
    door::Out,
    join::{attribute_bytes, millis},
    participant::ParticipantKey,
    shard::Shard,
};

impl Shard {
    /// Takes one frame of a session. What cannot be decoded, and kinds that are not known, are ignored: a newer SDK
    /// may send what this server has not heard of.
    pub(crate) fn signal(
        &mut self,
        now: Time,
        session: SessionId,
        key: ParticipantKey,
        bytes: &[u8],
        out: &mut Out,
    ) {
        let Ok(proto::SignalRequest { message: Some(message) }) =
            proto::SignalRequest::decode(bytes)
        else {
            return;
        };
        if !self.is_current(key, session) {
            return;
        }
        self.participants[key].spoke_at = now;
        use signal_request::Message as Request;
        if !matches!(message, Request::Leave(_)) {
            self.spoke(key, out);
        }
        match message {
            Request::Offer(description) => self.offer_message(now, key, &description, out),
            Request::AddTrack(request) => self.add_track(key, request, out),
            Request::Mute(request) => self.mute_own(key, request, out),
            Request::Subscription(request) => self.update_subscription(key, &request, out),
            Request::TrackSetting(request) => self.track_setting(key, &request),
            Request::SubscriptionPermission(request) => {
                self.subscription_permission(key, request, out);
            }
            Request::Leave(_) => {
                let participant = &self.participants[key];
                let (room, identity) = (participant.room, participant.identity.clone());
                self.remove(key, DisconnectReason::ClientInitiated, out);
                self.end_stay(room, &identity, out);
            }
            Request::Ping(_) => {
                self.participants[key].nudge_at = None;
                self.tell(key, Message::Pong(millis(self.unix(now))), out);
            }
            Request::PingReq(ping) => {
                self.participants[key].nudge_at = None;
                let timestamp = millis(self.unix(now));
                let pong = proto::Pong { last_ping_timestamp: ping.timestamp, timestamp };
                self.tell(key, Message::PongResp(pong), out);
            }
            Request::UpdateMetadata(request) => self.update_metadata(key, request, out),
            Request::UpdateAudioTrack(request) => {
                self.change_track(key, &request.track_sid, out, |info| {
                    info.audio_features = request.features;
                });
            }
            Request::UpdateVideoTrack(request) => {
                self.change_track(key, &request.track_sid, out, |info| {
                    (info.width, info.height) = (request.width, request.height);
                });
            }
            Request::PublishDataTrackRequest(request) => self.publish_data_track(key, request, out),
            Request::UnpublishDataTrackRequest(request) => {
                self.unpublish_data_track(key, request, out);
            }
            Request::UpdateDataSubscription(request) => {
                self.update_data_subscription(key, &request, out);
            }
            Request::SyncState(state) => self.sync_state(key, state, out),
            Request::Simulate(request) => self.simulate(key, request, out),
            // ICE-lite learns the client's addresses from its checks; answers have no offer of ours to answer.
            _ => {}
        }
    }

    fn mute_own(&mut self, key: ParticipantKey, request: proto::MuteTrackRequest, out: &mut Out) {
        let known = self.mute(key, &request.sid, request.muted, out);
        if !known {
            let about = proto::request_response::Request::Mute(request);
            self.respond(key, 0, Reason::NotFound, Some(about), out);
        }
    }

    pub(crate) fn respond(
        &self,
        key: ParticipantKey,
        request_id: u32,
        reason: Reason,
        request: Option<proto::request_response::Request>,
        out: &mut Out,
    ) {
        let response = proto::RequestResponse {
            request_id,
            reason: reason.into(),
            request,
            ..Default::default()
        };
        self.tell(key, Message::RequestResponse(response), out);
    }

    fn update_metadata(
        &mut self,
        key: ParticipantKey,
        request: proto::UpdateParticipantMetadata,
        out: &mut Out,
    ) {
        let Some(participant) = self.participants.get(key) else { return };
        let (id, allowed) = (request.request_id, participant.permission.can_update_metadata);
        if !allowed {
            self.respond(key, id, Reason::NotAllowed, None, out);
            return;
        }
        let reason = self.set_metadata(key, &request.name, &request.metadata, &request.attributes);
        if reason == Reason::Ok {
            self.announce(key, Reach::All, out);
        }
        self.respond(key, id, reason, None, out);
    }

    /// Sets what is not empty; an attribute with an empty value is deleted.
    pub(crate) fn set_metadata(
        &mut self,
        key: ParticipantKey,
        name: &str,
        metadata: &str,
        attributes: &HashMap<String, String>,
    ) -> Reason {
        let Some(participant) = self.participants.get_mut(key) else { return Reason::NotFound };
        if attribute_bytes(attributes) > ATTRIBUTES_BYTES_MAX {
            return Reason::LimitExceeded;
        }
        let mut merged = participant.attributes.clone();
        merged.extend(attributes.clone());
        merged.retain(|_, value| !value.is_empty());
        let total: usize = merged.iter().map(|(key, value)| key.len() + value.len()).sum();
        if metadata.len() > METADATA_BYTES_MAX
            || total > ATTRIBUTES_BYTES_MAX
            || name.chars().count() > NAME_CHARS_MAX
        {
            return Reason::LimitExceeded;
        }
        if !name.is_empty() {
            name.clone_into(&mut participant.name);
        }
        if !metadata.is_empty() {
            metadata.clone_into(&mut participant.metadata);
        }
        participant.attributes = merged;
        Reason::Ok
    }

    fn change_track(
        &mut self,
        key: ParticipantKey,
        sid: &str,
        out: &mut Out,
        change: impl FnOnce(&mut proto::TrackInfo),
    ) {
        let Some(track) = self.participants.get_mut(key).and_then(|p| p.track_mut(sid)) else {
            return;
        };
        change(&mut track.info);
        if track.live {
            self.announce(key, Reach::Others, out);
        }
    }

    /// What a client that resumed believes to be so. If it publishes what is not known here, it has to start anew.
    fn sync_state(&mut self, key: ParticipantKey, state: proto::SyncState, out: &mut Out) {
        let Some(participant) = self.participants.get(key) else { return };
        let published = state.publish_tracks.iter().filter_map(|response| response.track.as_ref());
        if published.into_iter().any(|track| participant.track(&track.sid).is_none()) {
            self.send_away(key, DisconnectReason::StateMismatch, out);
            self.detach(key, out);
            return;
        }
        let disabled = proto::UpdateTrackSettings {
            track_sids: state.track_sids_disabled,
            disabled: true,
            ..Default::default()
        };
        self.track_setting(key, &disabled);
        if let Some(subscription) = state.subscription {
            self.update_subscription(key, &subscription, out);
        }
        if let Some(subscription) = state.data_subscription {
            self.update_data_subscription(key, &subscription, out);
        }
        self.replay_after(key, &state.datachannel_receive_states, out);
    }

    /// Faults that an SDK asks for in order to test itself.
    fn simulate(&mut self, key: ParticipantKey, request: proto::SimulateScenario, out: &mut Out) {
        let reason = DisconnectReason::StateMismatch;
        match request.scenario {
            Some(Scenario::ServerLeave(true)) => {
                self.tell_leave(key, Action::Disconnect, DisconnectReason::ServerShutdown, out);
                self.remove(key, DisconnectReason::ServerShutdown, out);
            }
            Some(Scenario::NodeFailure(true) | Scenario::Migration(true)) => {
                self.send_away(key, reason, out);
                self.remove(key, reason, out);
            }
            Some(Scenario::LeaveRequestFullReconnect(true)) => {
                self.send_away(key, reason, out);
                self.detach(key, out);
            }
            Some(Scenario::DisconnectSignalOnResume(true)) => self.detach(key, out),
            _ => {}
        }
    }
}

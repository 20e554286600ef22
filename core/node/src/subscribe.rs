//! Subscribing: who receives which track at which size.

use outlast_livekit as proto;
use outlast_media::Wanted;
use outlast_model::TrackSid;
use proto::{SubscriptionError, TrackType, VideoQuality, signal_response::Message};

use crate::{
    door::Out,
    participant::{ParticipantKey, SectionUse, Subscription},
    shard::Shard,
};

/// Most subscriptions of one participant; each takes a media section, of which there are
/// [`outlast_model::SDP_SECTIONS_MAX`].
const SUBSCRIPTIONS_MAX: usize = 180;

impl Shard {
    /// Subscribes everybody who subscribes automatically to a track that has appeared.
    pub(crate) fn subscribe_all(&mut self, publisher: ParticipantKey, sid: &TrackSid) {
        let room = self.participants.get(publisher).and_then(|p| self.rooms.get(p.room));
        let Some(room) = room else { return };
        let members: Vec<_> = room.members.values().copied().collect();
        for member in members {
            let wishes = self
                .participants
                .get(member)
                .is_some_and(|other| other.auto_subscribe && !other.declined.contains_key(sid));
            if member != publisher && wishes {
                self.subscribe(member, publisher, sid);
            }
        }
    }

    /// Subscribes a participant that subscribes automatically to all that is published.
    pub(crate) fn subscribe_to_all(&mut self, key: ParticipantKey) {
        let Some(participant) = self.participants.get(key) else { return };
        let Some(room) = self.rooms.get(participant.room).filter(|_| participant.auto_subscribe)
        else {
            return;
        };
        let published = |other: &ParticipantKey| {
            let tracks = self.participants.get(*other).map(|p| p.tracks.as_slice());
            let live = tracks.unwrap_or_default().iter().filter(|track| track.live);
            live.map(|track| (*other, track.sid.clone())).collect::<Vec<_>>()
        };
        let others = room.members.iter().filter(|(identity, _)| **identity != participant.identity);
        let tracks: Vec<_> = others.flat_map(|(_, other)| published(other)).collect();
        for (publisher, sid) in tracks {
            self.subscribe(key, publisher, &sid);
        }
    }

    /// Subscribes `key` to a live track, if both sides' permissions allow it. `false` when they do not.
    pub(crate) fn subscribe(
        &mut self,
        key: ParticipantKey,
        publisher: ParticipantKey,
        sid: &TrackSid,
    ) -> bool {
        let (Some(participant), Some(source)) =
            (self.participants.get(key), self.participants.get(publisher))
        else {
            return false;
        };
        let Some(track) = source.track(sid.as_str()).filter(|track| track.live) else {
            return false;
        };
        if !participant.permission.can_subscribe
            || !source.lets(participant, sid)
            || participant.subscriptions.len() >= SUBSCRIPTIONS_MAX
        {
            return false;
        }
        if participant.subscriptions.contains_key(sid) {
            return true;
        }
        let quality =
            if participant.adaptive_stream { VideoQuality::Low } else { VideoQuality::High };
        let (width, height) = size_of(&track.info, quality);
        let audio = track.info.r#type() == TrackType::Audio;
        let wanted = Wanted { enabled: true, width, height };
        let subscription = Subscription { publisher, audio, wanted, sending: None };
        let participant = &mut self.participants[key];
        participant.subscriptions.insert(sid.clone(), subscription);
        self.unsettled.push(key);
        true
    }

    /// Ends one subscription; its section is said to be inactive in the next answer, and free after it.
    pub(crate) fn unsubscribe(&mut self, key: ParticipantKey, sid: &TrackSid) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let Some(subscription) = participant.subscriptions.remove(sid) else { return };
        if let Some(sending) = subscription.sending {
            self.plane.unsubscribe(sending.key);
            participant.negotiation.uses.insert(sending.mid, SectionUse::Ended);
            self.unsettled.push(key);
        }
    }

    /// The client has taken a section for what it sends: its subscription waits for another one.
    pub(crate) fn requeue(&mut self, key: ParticipantKey, sid: &TrackSid) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let Some(subscription) = participant.subscriptions.get_mut(sid) else { return };
        if let Some(sending) = subscription.sending.take() {
            self.plane.unsubscribe(sending.key);
            participant.negotiation.uses.remove(&sending.mid);
            self.unsettled.push(key);
        }
    }

    /// Ends all subscriptions to a track.
    pub(crate) fn end_subscriptions(&mut self, sid: &TrackSid) {
        let subscribers: Vec<_> = self
            .participants
            .iter()
            .filter(|(_, participant)| participant.subscriptions.contains_key(sid))
            .map(|(key, _)| key)
            .collect();
        for key in subscribers {
            self.unsubscribe(key, sid);
        }
    }

    /// `subscription`: toggles tracks by their sids.
    pub(crate) fn update_subscription(
        &mut self,
        key: ParticipantKey,
        request: &proto::UpdateSubscription,
        out: &mut Out,
    ) {
        let in_groups = request.participant_tracks.iter().flat_map(|group| &group.track_sids);
        for sid in request.track_sids.iter().chain(in_groups) {
            let sid = TrackSid::from(sid.as_str());
            let Some(participant) = self.participants.get_mut(key) else { return };
            if request.subscribe {
                participant.declined.remove(&sid);
                self.subscribe_by_sid(key, &sid, out);
                continue;
            }
            if participant.declined.len() < SUBSCRIPTIONS_MAX {
                participant.declined.insert(sid.clone(), ());
            }
            self.unsubscribe(key, &sid);
        }
    }

    fn subscribe_by_sid(&mut self, key: ParticipantKey, sid: &TrackSid, out: &mut Out) {
        let room = self.participants.get(key).map(|participant| participant.room);
        match room.and_then(|room| self.publisher_of(room, sid)) {
            Some(publisher) if publisher != key => {
                self.subscribe(key, publisher, sid);
            }
            Some(_) => {}
            None => {
                let response = proto::SubscriptionResponse {
                    track_sid: sid.to_string(),
                    err: SubscriptionError::SeTrackNotfound.into(),
                };
                self.tell(key, Message::SubscriptionResponse(response), out);
            }
        }
    }

    fn publisher_of(&self, room: crate::room::RoomKey, sid: &TrackSid) -> Option<ParticipantKey> {
        let members = self.rooms.get(room)?.members.values();
        members.copied().find(|key| {
            self.participants.get(*key).is_some_and(|p| p.track(sid.as_str()).is_some())
        })
    }

    /// `track_setting`: what the client shows, and how large.
    pub(crate) fn track_setting(
        &mut self,
        key: ParticipantKey,
        request: &proto::UpdateTrackSettings,
    ) {
        let now = self.clock;
        for sid in &request.track_sids {
            let Some(participant) = self.participants.get(key) else { return };
            let Some(subscription) = participant.subscriptions.get(sid.as_str()) else { continue };
            let publisher = self.participants.get(subscription.publisher);
            let Some(track) = publisher.and_then(|publisher| publisher.track(sid)) else {
                continue;
            };
            let (width, height) = match (request.width, request.height) {
                (0, 0) => size_of(&track.info, request.quality()),
                size => size,
            };
            let wanted = Wanted {
                enabled: !request.disabled && request.quality() != VideoQuality::Off,
                width,
                height,
            };
            let participant = &mut self.participants[key];
            let Some(subscription) = participant.subscriptions.get_mut(sid.as_str()) else {
                continue;
            };
            subscription.wanted = wanted;
            if let Some(sending) = &subscription.sending {
                self.plane.set_wanted(now, sending.key, wanted);
            }
        }
    }

    /// `subscription_permission`: who may receive this publisher's tracks.
    pub(crate) fn subscription_permission(
        &mut self,
        key: ParticipantKey,
        request: proto::SubscriptionPermission,
        out: &mut Out,
    ) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        participant.audience = (!request.all_participants).then_some(request.track_permissions);
        let publisher_sid = participant.sid.to_string();
        let sids: Vec<_> =
            participant.tracks.iter().filter(|t| t.live).map(|track| track.sid.clone()).collect();
        let Some(room) = self.rooms.get(participant.room) else { return };
        let members: Vec<_> =
            room.members.values().copied().filter(|other| *other != key).collect();
        for member in members {
            for sid in &sids {
                let Some(allowed) = self.apply_permission(member, key, sid) else { continue };
                let update = proto::SubscriptionPermissionUpdate {
                    participant_sid: publisher_sid.clone(),
                    track_sid: sid.to_string(),
                    allowed,
                };
                self.tell(member, Message::SubscriptionPermissionUpdate(update), out);
            }
        }
    }

    /// Ends or begins what a publisher's permission now forbids or allows one subscriber; `None` is no change.
    fn apply_permission(
        &mut self,
        member: ParticipantKey,
        publisher: ParticipantKey,
        sid: &TrackSid,
    ) -> Option<bool> {
        let other = self.participants.get(member)?;
        let allowed = self.participants.get(publisher)?.lets(other, sid);
        let subscribed = other.subscriptions.contains_key(sid);
        let wishes = other.auto_subscribe && !other.declined.contains_key(sid);
        match (allowed, subscribed) {
            (true, false) if wishes => {
                self.subscribe(member, publisher, sid);
            }
            (false, true) => self.unsubscribe(member, sid),
            _ => return None,
        }
        Some(allowed)
    }

    /// Tells a publisher once that somebody receives its track.
    pub(crate) fn first_heard(&mut self, publisher: ParticipantKey, sid: &TrackSid, out: &mut Out) {
        let source = self.participants.get_mut(publisher);
        let Some(track) = source.and_then(|source| source.track_mut(sid.as_str())) else { return };
        if std::mem::replace(&mut track.heard, true) {
            return;
        }
        let message =
            Message::TrackSubscribed(proto::TrackSubscribed { track_sid: sid.to_string() });
        self.tell(publisher, message, out);
    }
}

/// The size that a quality stands for; 0 x 0 is the largest there is.
fn size_of(info: &proto::TrackInfo, quality: VideoQuality) -> (u32, u32) {
    let layer = info.layers.iter().find(|layer| layer.quality() == quality);
    match (quality, layer) {
        (VideoQuality::High | VideoQuality::Off, _) | (_, None) => (0, 0),
        (_, Some(layer)) => (layer.width, layer.height),
    }
}

//! Data tracks: named streams of small frames over the `_data_track` channel. Publishers and subscribers number their
//! tracks by handles of their own; a relayed frame differs from what came in its handle alone.

use outlast_livekit as proto;
use outlast_model::{NAME_CHARS_MAX, Time, TrackSid};
use proto::{
    data_track_subscriber_handles::PublishedDataTrack,
    request_response::{Reason, Request},
    signal_response::Message,
};

use crate::{announce::Reach, door::Out, participant::ParticipantKey, shard::Shard};

/// Most data tracks that one participant publishes.
const PUBLISHED_MAX: usize = 64;
/// Most data tracks that one participant subscribes to.
const SUBSCRIBED_MAX: usize = 256;
/// Bytes 2 and 3 of a frame are the handle (big endian); a frame has at least its fixed header.
const HANDLE: std::ops::Range<usize> = 2..4;
const HEADER_BYTES: usize = 12;

/// A published data track.
pub(crate) struct DataTrack {
    pub(crate) handle: u16,
    pub(crate) info: proto::DataTrackInfo,
}

/// A subscription to one; the subscriber knows it by `handle`.
pub(crate) struct DataSubscription {
    pub(crate) handle: u16,
    pub(crate) track: TrackSid,
    pub(crate) publisher: ParticipantKey,
}

impl Shard {
    pub(crate) fn publish_data_track(
        &mut self,
        key: ParticipantKey,
        request: proto::PublishDataTrackRequest,
        out: &mut Out,
    ) {
        let Some(participant) = self.participants.get(key) else { return };
        let taken = |named: &dyn Fn(&DataTrack) -> bool| participant.data_tracks.iter().any(named);
        let handle = u16::try_from(request.pub_handle).unwrap_or(0);
        let refused = if !participant.permission.can_publish_data {
            Some(Reason::NotAllowed)
        } else if handle == 0 {
            Some(Reason::InvalidHandle)
        } else if request.name.is_empty() || request.name.chars().count() > NAME_CHARS_MAX {
            Some(Reason::InvalidName)
        } else if taken(&|track| track.handle == handle) {
            Some(Reason::DuplicateHandle)
        } else if taken(&|track| track.info.name == request.name) {
            Some(Reason::DuplicateName)
        } else if participant.data_tracks.len() >= PUBLISHED_MAX {
            Some(Reason::LimitExceeded)
        } else {
            None
        };
        if let Some(reason) = refused {
            self.respond(key, 0, reason, Some(Request::PublishDataTrack(request)), out);
            return;
        }
        let info = proto::DataTrackInfo {
            pub_handle: request.pub_handle,
            sid: self.fresh_id("DTR_"),
            name: request.name,
            encryption: request.encryption,
            frame_encoding: request.frame_encoding,
            schema: request.schema,
        };
        self.participants[key].data_tracks.push(DataTrack { handle, info: info.clone() });
        let response = proto::PublishDataTrackResponse { info: Some(info) };
        self.tell(key, Message::PublishDataTrackResponse(response), out);
        self.announce(key, Reach::Others, out);
    }

    pub(crate) fn unpublish_data_track(
        &mut self,
        key: ParticipantKey,
        request: proto::UnpublishDataTrackRequest,
        out: &mut Out,
    ) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let known = |track: &DataTrack| u32::from(track.handle) == request.pub_handle;
        let Some(at) = participant.data_tracks.iter().position(known) else {
            self.respond(
                key,
                0,
                Reason::InvalidHandle,
                Some(Request::UnpublishDataTrack(request)),
                out,
            );
            return;
        };
        let track = participant.data_tracks.remove(at);
        let sid = TrackSid::from(track.info.sid.as_str());
        for other in self.participants.values_mut() {
            other.data_subscriptions.retain(|subscription| subscription.track != sid);
        }
        let response = proto::UnpublishDataTrackResponse { info: Some(track.info) };
        self.tell(key, Message::UnpublishDataTrackResponse(response), out);
        self.announce(key, Reach::Others, out);
    }

    /// Toggles subscriptions and tells all handles that hold from now on.
    pub(crate) fn update_data_subscription(
        &mut self,
        key: ParticipantKey,
        request: &proto::UpdateDataSubscription,
        out: &mut Out,
    ) {
        for update in &request.updates {
            let sid = TrackSid::from(update.track_sid.as_str());
            let publisher = self.data_publisher(key, &sid);
            let Some(participant) = self.participants.get_mut(key) else { return };
            let subscriptions = &mut participant.data_subscriptions;
            let present = subscriptions.iter().position(|subscription| subscription.track == sid);
            match (update.subscribe, present, publisher) {
                (false, Some(at), _) => {
                    subscriptions.remove(at);
                }
                (true, None, Some(publisher))
                    if participant.permission.can_subscribe
                        && subscriptions.len() < SUBSCRIBED_MAX =>
                {
                    let free = |handle: &u16| subscriptions.iter().all(|s| s.handle != *handle);
                    let handle = (1..=u16::MAX).find(free).unwrap_or(u16::MAX);
                    subscriptions.push(DataSubscription { handle, track: sid, publisher });
                }
                _ => {}
            }
        }
        let handles = proto::DataTrackSubscriberHandles { sub_handles: self.handles(key) };
        self.tell(key, Message::DataTrackSubscriberHandles(handles), out);
    }

    fn handles(&self, key: ParticipantKey) -> std::collections::HashMap<u32, PublishedDataTrack> {
        let subscriptions = self.participants.get(key).map(|p| p.data_subscriptions.as_slice());
        let named = |subscription: &DataSubscription| {
            let publisher = self.participants.get(subscription.publisher)?;
            let published = PublishedDataTrack {
                publisher_identity: publisher.identity.to_string(),
                publisher_sid: publisher.sid.to_string(),
                track_sid: subscription.track.to_string(),
            };
            Some((u32::from(subscription.handle), published))
        };
        subscriptions.unwrap_or_default().iter().filter_map(named).collect()
    }

    fn data_publisher(&self, key: ParticipantKey, sid: &TrackSid) -> Option<ParticipantKey> {
        let room = self.rooms.get(self.participants.get(key)?.room)?;
        let publishes = |other: &ParticipantKey| {
            let tracks = self.participants.get(*other).map(|p| p.data_tracks.as_slice());
            tracks.unwrap_or_default().iter().any(|track| track.info.sid == sid.as_str())
        };
        room.members.values().copied().find(|other| *other != key && publishes(other))
    }

    /// Relays one frame of a data track to its subscribers.
    pub(crate) fn data_frame(
        &mut self,
        now: Time,
        key: ParticipantKey,
        frame: &[u8],
        out: &mut Out,
    ) {
        let Some(participant) = self.participants.get(key) else { return };
        let handle = frame.get(HANDLE).filter(|_| frame.len() >= HEADER_BYTES);
        let Some(Ok(handle)) = handle.map(<[u8; 2]>::try_from) else { return };
        let handle = u16::from_be_bytes(handle);
        let track = participant.data_tracks.iter().find(|track| track.handle == handle);
        let Some(track) = track.filter(|_| participant.permission.can_publish_data) else { return };
        let sid = TrackSid::from(track.info.sid.as_str());
        let Some(room) = self.rooms.get(participant.room) else { return };
        let subscriber = |member: &ParticipantKey| {
            let subscriptions = &self.participants.get(*member)?.data_subscriptions;
            let subscription =
                subscriptions.iter().find(|subscription| subscription.track == sid)?;
            Some((*member, subscription.handle))
        };
        let subscribers: Vec<_> = room.members.values().filter_map(subscriber).collect();
        let mut frame = frame.to_vec();
        for (member, handle) in subscribers {
            frame[HANDLE].copy_from_slice(&handle.to_be_bytes());
            self.isolated(member, out, |shard, out| {
                let channel = shard.participants.get(member).and_then(|p| p.channels.data_track);
                if let Some(channel) = channel {
                    shard.write_lossy(now, member, channel, &frame, out);
                }
            });
        }
    }
}

//! Who is told what about whom. SDKs force the order: a participant before its tracks, and nothing about an older
//! session of an identity once the newer one is known.

use outlast_livekit::{self as proto, Message as _};
use outlast_media::PeerKey;
use proto::signal_response::Message;

use crate::{
    door::{Out, Told},
    participant::{Participant, ParticipantKey},
    room::{Counts, RoomKey},
    shard::Shard,
};

/// Who hears of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Everybody but the participant itself.
    Others,
    /// Everybody.
    All,
}

impl Shard {
    /// Tells of a participant's present state, after raising its version.
    pub(crate) fn announce(&mut self, key: ParticipantKey, reach: Reach, out: &mut Out) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        participant.version += 1;
        let info = participant.info(self.config.region.as_str());
        let (room, hidden) = (participant.room, participant.permission.hidden);
        if reach == Reach::All {
            let update = proto::ParticipantUpdate { participants: vec![info.clone()] };
            self.tell(key, Message::Update(update), out);
        }
        if !hidden {
            self.announce_info(room, info, Some(key), out);
        }
    }

    /// Tells everybody in a room but `except`; encoded once.
    pub(crate) fn announce_info(
        &self,
        room: RoomKey,
        info: proto::ParticipantInfo,
        except: Option<ParticipantKey>,
        out: &mut Out,
    ) {
        let update = proto::ParticipantUpdate { participants: vec![info] };
        let message = Message::Update(update);
        self.tell_those(room, &message, |key| Some(key) != except && !self.is_hushed(key), out);
    }

    /// Sends one message to everybody in a room but `except`.
    pub(crate) fn tell_room(
        &self,
        room: RoomKey,
        message: &Message,
        except: Option<ParticipantKey>,
        out: &mut Out,
    ) {
        self.tell_those(room, message, |key| Some(key) != except, out);
    }

    fn tell_those(
        &self,
        room: RoomKey,
        message: &Message,
        chosen: impl Fn(ParticipantKey) -> bool,
        out: &mut Out,
    ) {
        let Some(room) = self.rooms.get(room) else { return };
        let bytes = proto::SignalResponse { message: Some(message.clone()) }.encode_to_vec();
        let sessions = room
            .members
            .values()
            .filter(|member| chosen(**member))
            .filter_map(|member| self.participants.get(*member)?.session);
        out.told.extend(sessions.map(|session| Told::Frame { session, bytes: bytes.clone() }));
    }

    /// Everybody else whom a participant may see.
    pub(crate) fn others(&self, key: ParticipantKey) -> Vec<proto::ParticipantInfo> {
        let Some(participant) = self.participants.get(key) else { return Vec::new() };
        let Some(room) = self.rooms.get(participant.room) else { return Vec::new() };
        room.members
            .values()
            .filter_map(|member| self.participants.get(*member))
            // An older session of its own is nobody else.
            .filter(|other| other.identity != participant.identity)
            .filter(|other| !other.permission.hidden)
            .map(|other| other.info(self.config.region.as_str()))
            .collect()
    }

    pub(crate) fn counts(&self, room: RoomKey) -> Counts {
        let mut counts = Counts::default();
        let Some(room) = self.rooms.get(room) else { return counts };
        let seen = |member: &ParticipantKey| self.participants.get(*member);
        for other in room.members.values().filter_map(seen).filter(|o| !o.permission.hidden) {
            counts.participants += 1;
            counts.publishers += u32::from(other.tracks.iter().any(|track| track.live));
        }
        counts
    }

    pub(crate) fn room_info(&self, key: RoomKey) -> proto::Room {
        self.rooms.get(key).map(|room| room.info(self.counts(key))).unwrap_or_default()
    }

    /// Tells who started, changed or stopped speaking, to those who receive them and to themselves.
    pub(crate) fn speakers(&mut self, levels: &[(PeerKey, f32)], out: &mut Out) {
        for (peer, level) in levels {
            let Some(key) = self.by_peer.get(*peer).copied() else { continue };
            let Some(participant) = self.participants.get_mut(key) else { continue };
            participant.speaking = *level > 0.0;
            if participant.permission.hidden {
                continue;
            }
            let speaker = proto::SpeakerInfo {
                sid: participant.sid.to_string(),
                level: *level,
                active: participant.speaking,
            };
            let room = participant.room;
            let speakers = proto::SpeakersChanged { speakers: vec![speaker] };
            let message = Message::SpeakersChanged(speakers);
            for listener in self.listeners(room, key) {
                self.tell(listener, message.clone(), out);
            }
        }
    }

    /// A speaker and those who receive its sound.
    fn listeners(&self, room: RoomKey, speaker: ParticipantKey) -> Vec<ParticipantKey> {
        let hears = |other: &Participant| {
            other.subscriptions.values().any(|s| s.publisher == speaker && s.audio)
        };
        let members = self.rooms.get(room).into_iter().flat_map(|room| room.members.values());
        members
            .copied()
            .filter(|key| *key == speaker || self.participants.get(*key).is_some_and(hears))
            .collect()
    }
}

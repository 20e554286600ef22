//! A room: its settings and who is in it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use outlast_livekit as proto;
use outlast_model::{Generation, Identity, RoomName, RoomSettings, RoomSid, Stays, Time};
use slotmap::new_key_type;

use crate::{data::Replay, participant::ParticipantKey};

new_key_type! {
    /// A room of this shard.
    pub(crate) struct RoomKey;
}

/// How long a room that nobody has joined is kept, by default (LiveKit's server: 300 s).
pub(crate) const EMPTY_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a room is kept after its last participant left, by default (LiveKit's server: 20 s).
pub(crate) const DEPARTURE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long departures are kept for those who resume: longer than any SDK tries.
const DEPARTED_SPAN: Duration = Duration::from_secs(60);
/// Most departures kept in one room.
const DEPARTED_MAX: usize = 1_000;

/// A room of this shard.
pub(crate) struct Room {
    pub(crate) name: RoomName,
    pub(crate) sid: RoomSid,
    pub(crate) generation: Generation,
    pub(crate) empty_timeout: Duration,
    pub(crate) departure_timeout: Duration,
    /// 0 is unlimited.
    pub(crate) max_participants: u32,
    pub(crate) metadata: String,
    pub(crate) created_unix_ms: i64,
    pub(crate) origin: Origin,
    pub(crate) members: BTreeMap<Identity, ParticipantKey>,
    /// Newer sessions of members, which wait for their place; one an identity.
    pub(crate) successors: BTreeMap<Identity, ParticipantKey>,
    pub(crate) stays: Stays,
    /// Since when nobody who keeps the room alive is in it.
    pub(crate) idle_since: Option<Time>,
    /// Somebody who keeps it alive has been in it.
    pub(crate) used: bool,
    pub(crate) replay: Replay,
    pub(crate) departed: Departed,
    /// Its counts have changed since the last `room_update`.
    pub(crate) changed: bool,
    pub(crate) told_at: Time,
    /// Nonces of the latest user packets that carried one; a packet that was sent twice is relayed once.
    pub(crate) nonces: VecDeque<Vec<u8>>,
}

/// Whose settings a room has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Everybody's: it was opened by whoever joined first.
    Joined,
    /// It was opened so, and the server API has changed it since.
    Changed,
    /// The server API made it, or gave it settings.
    Api,
}

/// Who has left lately: a client that resumes must be told, or JS keeps showing them.
#[derive(Default)]
pub(crate) struct Departed(VecDeque<(Time, proto::ParticipantInfo)>);

impl Departed {
    pub(crate) fn note(&mut self, now: Time, info: proto::ParticipantInfo) {
        self.0.push_back((now, info));
        if self.0.len() > DEPARTED_MAX {
            self.0.pop_front();
        }
    }

    pub(crate) fn forget(&mut self, now: Time) {
        while self.0.front().is_some_and(|(at, _)| now.since(*at) > DEPARTED_SPAN) {
            self.0.pop_front();
        }
    }

    pub(crate) fn infos(&self) -> impl Iterator<Item = &proto::ParticipantInfo> {
        self.0.iter().map(|(_, info)| info)
    }
}

impl Room {
    pub(crate) fn expired(&self, now: Time) -> bool {
        let keep = if self.used { self.departure_timeout } else { self.empty_timeout };
        self.idle_since.is_some_and(|since| now.since(since) >= keep)
    }

    /// All sessions: of members, and those that wait for a place.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = ParticipantKey> {
        self.members.values().chain(self.successors.values()).copied()
    }

    /// Whether a session of `identity` is here, in its place or waiting for it.
    pub(crate) fn has(&self, identity: &Identity) -> bool {
        self.members.contains_key(identity) || self.successors.contains_key(identity)
    }

    /// What must follow the room when it moves; `None` when every node would give it the same.
    pub(crate) fn settings(&self) -> Option<RoomSettings> {
        (self.origin != Origin::Joined).then(|| RoomSettings {
            empty_timeout_s: seconds(self.empty_timeout),
            departure_timeout_s: seconds(self.departure_timeout),
            max_participants: self.max_participants,
            metadata: self.metadata.clone(),
            created_unix_ms: self.created_unix_ms,
            by_api: self.origin == Origin::Api,
        })
    }

    /// The room as clients see it.
    pub(crate) fn info(&self, counts: Counts) -> proto::Room {
        proto::Room {
            sid: self.sid.to_string(),
            name: self.name.to_string(),
            empty_timeout: seconds(self.empty_timeout),
            departure_timeout: seconds(self.departure_timeout),
            max_participants: self.max_participants,
            creation_time: self.created_unix_ms / 1000,
            creation_time_ms: self.created_unix_ms,
            enabled_codecs: publish_codecs(),
            metadata: self.metadata.clone(),
            num_participants: counts.participants,
            num_publishers: counts.publishers,
            ..Default::default()
        }
    }
}

/// Who is in a room, hidden participants left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) participants: u32,
    pub(crate) publishers: u32,
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

/// Codecs that participants may publish, in the order of preference that SDKs fall back by.
pub(crate) fn publish_codecs() -> Vec<proto::Codec> {
    ["video/VP8", "video/H264", "video/VP9", "video/AV1", "audio/opus", "audio/red"]
        .into_iter()
        .map(|mime| proto::Codec { mime: mime.to_owned(), fmtp_line: String::new() })
        .collect()
}

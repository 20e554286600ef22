//! One joined client: who it is, what it publishes and receives, how it is reached.

use std::{collections::BTreeMap, net::SocketAddr};

use outlast_livekit as proto;
use outlast_media::{
    Channel, Credentials, Path, PeerKey, PublicationKey, SubscriptionKey, Transport, Wanted,
};
use outlast_model::{Identity, ParticipantSid, SessionId, Time, TrackSid};
use outlast_sdp::{Codec, Direction, Extension, Offer, Section, SectionKind};
use outlast_token::Claims;
use slotmap::new_key_type;

use crate::{
    data_track::{DataSubscription, DataTrack},
    hush::Hush,
    room::RoomKey,
    succession::Waiting,
};

new_key_type! {
    /// A participant of this shard.
    pub(crate) struct ParticipantKey;
}

/// Most tracks announced by `add_track` and not yet negotiated, per participant (LiveKit's server: 20).
pub(crate) const TRACKS_PENDING_MAX: usize = 20;
/// Most published tracks per participant.
pub(crate) const TRACKS_MAX: usize = 64;

/// Most addresses that one client may be found under at a time.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// One joined client.
pub(crate) struct Participant {
    pub(crate) room: RoomKey,
    pub(crate) sid: ParticipantSid,
    pub(crate) identity: Identity,
    /// The signalling socket; `None` while it is broken and the client may resume.
    pub(crate) session: Option<SessionId>,
    pub(crate) claims: Claims,
    pub(crate) permission: proto::ParticipantPermission,
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) kind: i32,
    pub(crate) client: proto::ClientInfo,
    pub(crate) auto_subscribe: bool,
    pub(crate) adaptive_stream: bool,
    /// Increases with each change that others see; SDKs drop what is not newer.
    pub(crate) version: u32,
    pub(crate) joined_unix_ms: i64,
    pub(crate) joined_at: Time,
    /// When its client last said something over its socket; at first when it joined.
    pub(crate) spoke_at: Time,
    /// When signalling or media was lost; cleared by a resume.
    pub(crate) lost_at: Option<Time>,
    pub(crate) refresh_at: Time,
    pub(crate) hush: Hush,
    /// When a client that has resumed and does not ping yet is sent something.
    pub(crate) nudge_at: Option<Time>,
    pub(crate) peer: PeerKey,
    pub(crate) link: Option<Link>,
    /// `None` when the session has the place of its identity, which is what others see.
    pub(crate) waiting: Option<Waiting>,
    pub(crate) negotiation: Negotiation,
    pub(crate) tracks: Vec<Track>,
    pub(crate) subscriptions: BTreeMap<TrackSid, Subscription>,
    /// Tracks that the client asked not to receive, though it subscribes automatically.
    pub(crate) declined: BTreeMap<TrackSid, ()>,
    /// Who may receive this participant's tracks; `None` is everybody.
    pub(crate) audience: Option<Vec<proto::TrackPermission>>,
    pub(crate) channels: Channels,
    /// Highest `sequence` of a reliable data packet taken from this participant.
    pub(crate) data_sequence: u32,
    pub(crate) speaking: bool,
    pub(crate) data_tracks: Vec<DataTrack>,
    pub(crate) data_subscriptions: Vec<DataSubscription>,
}

/// How a participant is reached once it has offered.
pub(crate) struct Link {
    pub(crate) transport: Transport,
    pub(crate) local: Credentials,
    pub(crate) remote: Credentials,
    /// ICE and DTLS have been up.
    pub(crate) connected: bool,
    /// Where datagrams are sent to.
    pub(crate) path: Option<Path>,
    /// Addresses that the client has proved to be its own, the latest last; media is taken from these alone.
    pub(crate) validated: Vec<SocketAddr>,
    /// When the shard has promised to wake the transport.
    pub(crate) timer_at: Option<Time>,
}

impl Link {
    /// Whether a pair was proved later than the one in use.
    pub(crate) fn is_newer(&self, pair: Path) -> bool {
        let place = |address: SocketAddr| self.validated.iter().position(|other| *other == address);
        self.path.is_some_and(|path| place(pair.address) > place(path.address))
    }
}

/// What has been agreed on in SDP.
#[derive(Default)]
pub(crate) struct Negotiation {
    pub(crate) session_id: u64,
    pub(crate) version: u64,
    /// Use of each media section, by mid.
    pub(crate) uses: BTreeMap<String, SectionUse>,
    /// An offer has been answered.
    pub(crate) answered: bool,
    /// `media_sections_requirement` was sent and no offer has come since.
    pub(crate) asked: bool,
    /// The last answer gave sections to subscriptions, and nothing shows yet that the client has applied it. Its next offer will:
    /// SDKs send none while an answer is due. That the first was applied is shown by the transport, which comes up.
    pub(crate) unproven: bool,
    /// Sections of the last offer that could carry a track to the client and do not: audio, video.
    pub(crate) free: (u32, u32),
}

impl Negotiation {
    pub(crate) fn free(&self, audio: bool) -> u32 {
        if audio { self.free.0 } else { self.free.1 }
    }

    /// Counts the free sections of an offer that has been answered.
    pub(crate) fn count_free(&mut self, offer: &Offer) {
        let count = |kind: SectionKind| {
            let free = |section: &&Section| {
                section.kind == kind
                    && !section.rejected
                    && section.direction == Direction::RecvOnly
                    && !self.uses.contains_key(&section.mid)
            };
            u32::try_from(offer.sections.iter().filter(free).count()).unwrap_or(u32::MAX)
        };
        self.free = (count(SectionKind::Audio), count(SectionKind::Video));
    }
}

/// What a media section carries.
pub(crate) enum SectionUse {
    /// The client sends a track that no `add_track` has announced yet.
    Parked(Box<Parked>),
    /// The client sends this track.
    Publishes(TrackSid),
    /// We send this track.
    Sends(TrackSid),
    /// What we sent has ended; the next answer says inactive, and then the section is free.
    Ended,
}

/// A section answered before its track was announced.
pub(crate) struct Parked {
    pub(crate) section: Section,
    pub(crate) codecs: Vec<Codec>,
}

/// A published track.
pub(crate) struct Track {
    pub(crate) sid: TrackSid,
    pub(crate) cid: String,
    pub(crate) info: proto::TrackInfo,
    /// `None` until its section is negotiated.
    pub(crate) bound: Option<Bound>,
    pub(crate) added_at: Time,
    /// Others have been told.
    pub(crate) live: bool,
    /// The publisher has been told of its first subscriber.
    pub(crate) heard: bool,
}

/// The negotiated half of a track.
pub(crate) struct Bound {
    pub(crate) mid: String,
    pub(crate) codecs: Vec<Codec>,
    pub(crate) publication: PublicationKey,
}

/// One participant's receipt of one track.
pub(crate) struct Subscription {
    pub(crate) publisher: ParticipantKey,
    pub(crate) audio: bool,
    pub(crate) wanted: Wanted,
    /// `None` until a section of the client is free for it.
    pub(crate) sending: Option<SendingUse>,
}

/// A subscription that has a section.
pub(crate) struct SendingUse {
    pub(crate) mid: String,
    pub(crate) key: SubscriptionKey,
    pub(crate) codecs: Vec<Codec>,
    pub(crate) extensions: Vec<Extension>,
    /// Of the publisher when the section was taken; part of the msid.
    pub(crate) publisher_sid: ParticipantSid,
}

/// The client's data channels, by label.
#[derive(Default)]
pub(crate) struct Channels {
    pub(crate) reliable: Option<Channel>,
    pub(crate) lossy: Option<Channel>,
    pub(crate) data_track: Option<Channel>,
}

impl Channels {
    pub(crate) fn opened(&mut self, channel: Channel, label: &str) {
        match label {
            "_reliable" => self.reliable = Some(channel),
            "_lossy" => self.lossy = Some(channel),
            "_data_track" => self.data_track = Some(channel),
            // Channels that applications open by themselves have no receiver.
            _ => {}
        }
    }

    pub(crate) fn closed(&mut self, channel: Channel) {
        for slot in [&mut self.reliable, &mut self.lossy, &mut self.data_track] {
            if *slot == Some(channel) {
                *slot = None;
            }
        }
    }
}

impl Participant {
    /// The participant as others see it; `state` is derived.
    pub(crate) fn info(&self, region: &str) -> proto::ParticipantInfo {
        let state = match &self.link {
            Some(link) if link.connected => proto::participant_info::State::Active,
            _ => proto::participant_info::State::Joined,
        };
        let tracks: Vec<_> =
            self.tracks.iter().filter(|track| track.live).map(|track| track.info.clone()).collect();
        proto::ParticipantInfo {
            sid: self.sid.to_string(),
            identity: self.identity.to_string(),
            state: state.into(),
            is_publisher: !tracks.is_empty(),
            tracks,
            metadata: self.metadata.clone(),
            joined_at: self.joined_unix_ms / 1000,
            joined_at_ms: self.joined_unix_ms,
            name: self.name.clone(),
            version: self.version,
            permission: Some(self.permission.clone()),
            region: region.to_owned(),
            kind: self.kind,
            attributes: self.attributes.clone().into_iter().collect(),
            data_tracks: self.data_tracks.iter().map(|track| track.info.clone()).collect(),
            client_protocol: self.client.client_protocol,
            capabilities: self.client.capabilities.clone(),
            ..Default::default()
        }
    }

    /// Neither keeps a room alive nor counts against its size (agents, recorders).
    pub(crate) fn is_dependent(&self) -> bool {
        self.permission.agent || self.permission.recorder
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.connected)
    }

    pub(crate) fn track(&self, sid: &str) -> Option<&Track> {
        self.tracks.iter().find(|track| track.sid.as_str() == sid)
    }

    pub(crate) fn track_mut(&mut self, sid: &str) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.sid.as_str() == sid)
    }

    /// Whether `other` may receive `track` by this publisher's `subscription_permission`.
    pub(crate) fn lets(&self, other: &Participant, track: &TrackSid) -> bool {
        let Some(audience) = &self.audience else { return true };
        audience.iter().any(|allowed| {
            let named = allowed.participant_sid == other.sid.as_str()
                || (!allowed.participant_identity.is_empty()
                    && allowed.participant_identity == other.identity.as_str());
            named
                && (allowed.all_tracks
                    || allowed.track_sids.iter().any(|sid| sid == track.as_str()))
        })
    }
}

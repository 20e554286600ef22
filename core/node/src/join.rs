//! Coming in: a fresh join, or the resume of a participant whose socket broke.

use std::time::Duration;

use outlast_livekit as proto;
use outlast_model::{
    ATTRIBUTES_BYTES_MAX, Generation, METADATA_BYTES_MAX, NAME_CHARS_MAX, ParticipantSid, RoomName,
    RoomSid, SessionId, Stays, Time,
};
use outlast_token::Claims;
use proto::{
    DisconnectReason, leave_request::Action, participant_info::Kind, signal_response::Message,
};
use rand::RngExt as _;

use crate::{
    PROTOCOL,
    data::Replay,
    door::{Join, Out, Told},
    hush::Hush,
    leave::leave,
    participant::{Channels, Negotiation, Participant, ParticipantKey},
    room::{DEPARTURE_TIMEOUT, Departed, EMPTY_TIMEOUT, Origin, Room, RoomKey, publish_codecs},
    shard::{Shard, frame},
};

/// Why a client may not come in: HTTP status and text. 5xx is our trouble and is tried again; SDKs end the session
/// for good on 401, 403 and 404.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// For a developer.
    pub text: String,
    /// What a gateway can make of it.
    pub about: About,
}

/// What a [`Refusal`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The request, the room, or trouble of ours; another node is no remedy.
    Request,
    /// The shard holds as many participants as it may: another node may take them.
    Shard,
    /// The room has been placed anew, under this generation.
    Generation(Generation),
}

impl Refusal {
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into(), about: About::Request }
    }
}

impl Shard {
    pub(crate) fn join(&mut self, now: Time, join: Join, out: &mut Out) {
        let session = join.session;
        let result = if join.request.reconnect {
            self.resume(now, &join, out)
        } else {
            self.join_fresh(now, join, out)
        };
        if let Err(refusal) = result {
            out.told.push(Told::Refused { session, refusal });
        }
    }

    fn join_fresh(&mut self, now: Time, mut join: Join, out: &mut Out) -> Result<(), Refusal> {
        check_join(&join.claims, &join.request)?;
        if self.participants.len() >= self.config.participants_max {
            let about = About::Shard;
            return Err(Refusal { about, ..Refusal::new(503, "this node is full") });
        }
        let offer = match &join.request.publisher_offer {
            Some(description) => {
                let offer = outlast_sdp::parse_offer(&description.sdp).map_err(|error| {
                    Refusal::new(400, format!("join_request.publisher_offer: {error}"))
                })?;
                Some((offer, description.id))
            }
            None => None,
        };
        let name = RoomName::from(join.claims.video.room.as_str());
        let (room, news) = self.open_room(now, &name, join.generation, None)?;
        if news {
            self.tell_opened(room, out);
        }
        self.inherit(room, &mut join, out)?;
        self.check_space(room, &join)?;
        let (session, tracks) = (join.session, join.request.add_track_requests.clone());
        let key = self.admit(now, room, join);
        self.stats.joins += 1;
        self.line_up(key, out);
        out.told.push(Told::Admitted { session });
        let response = self.join_response(key);
        out.told.push(frame(session, Message::Join(response)));
        self.isolated(key, out, |shard, out| {
            shard.refresh_token(now, key, out);
            // Before the offer: its answer may already carry what is published.
            shard.subscribe_to_all(key);
            for track in tracks {
                shard.add_track(key, track, out);
            }
            if let Some((offer, id)) = offer {
                shard.offer(now, key, offer, id, out);
            }
        });
        Ok(())
    }

    /// The room of this name, opened if it is not there, and whether that, or its generation, is news to be told. A new one
    /// was made at `created_unix_ms`, or now.
    pub(crate) fn open_room(
        &mut self,
        now: Time,
        name: &RoomName,
        generation: Generation,
        created_unix_ms: Option<i64>,
    ) -> Result<(RoomKey, bool), Refusal> {
        if let Some(key) = self.room_names.get(name).copied() {
            let room = &mut self.rooms[key];
            if generation < room.generation {
                let about = About::Generation(room.generation);
                let text = "the room was placed anew: ask again";
                return Err(Refusal { about, ..Refusal::new(409, text) });
            }
            let raised = generation > room.generation;
            if raised {
                room.generation = generation;
                room.stays.wait_anew();
            }
            return Ok((key, raised));
        }
        let sid = RoomSid::from(self.fresh_id("RM_"));
        let room = Room {
            name: name.clone(),
            sid,
            generation,
            empty_timeout: EMPTY_TIMEOUT,
            departure_timeout: DEPARTURE_TIMEOUT,
            max_participants: 0,
            metadata: String::new(),
            created_unix_ms: created_unix_ms.unwrap_or_else(|| millis(self.unix(now))),
            origin: Origin::Joined,
            members: std::collections::BTreeMap::new(),
            successors: std::collections::BTreeMap::new(),
            stays: Stays::default(),
            idle_since: Some(now),
            used: false,
            replay: Replay::default(),
            departed: Departed::default(),
            changed: false,
            told_at: now,
            nonces: std::collections::VecDeque::new(),
        };
        let key = self.rooms.insert(room);
        self.room_names.insert(name.clone(), key);
        Ok((key, true))
    }

    /// Says that the room is here, under which generation, and what it is set to.
    pub(crate) fn tell_opened(&self, key: RoomKey, out: &mut Out) {
        let Some(room) = self.rooms.get(key) else { return };
        let (generation, settings) = (room.generation, room.settings());
        out.told.push(Told::RoomOpened { room: room.name.clone(), generation, settings });
    }

    fn check_space(&self, room: RoomKey, join: &Join) -> Result<(), Refusal> {
        let room = &self.rooms[room];
        let grant = &join.claims.video;
        if room.max_participants == 0
            || grant.agent
            || grant.recorder
            || room.members.contains_key(&join.claims.identity)
        {
            return Ok(());
        }
        let counted = room
            .members
            .values()
            .filter(|key| self.participants.get(**key).is_some_and(|other| !other.is_dependent()))
            .count();
        if counted < room.max_participants as usize {
            return Ok(());
        }
        Err(Refusal::new(503, "the room has reached its max_participants"))
    }

    fn admit(&mut self, now: Time, room: RoomKey, join: Join) -> ParticipantKey {
        let Join { session, claims, request, user_agent, client_ip, .. } = join;
        let sid = ParticipantSid::from(self.fresh_id("PA_"));
        let peer = self.plane.add_peer();
        let settings = request.connection_settings.unwrap_or_default();
        let mut client = request.client_info.unwrap_or_default();
        client.address = client_ip.map(|address| address.to_string()).unwrap_or_default();
        if client.browser.is_empty() {
            client.browser = user_agent.chars().take(NAME_CHARS_MAX).collect();
        }
        let hush = Hush::of(now, &client, claims.refreshed);
        let mut attributes = claims.attributes.clone();
        attributes.extend(request.participant_attributes);
        attributes.retain(|_, value| !value.is_empty());
        let metadata =
            if request.metadata.is_empty() { claims.metadata.clone() } else { request.metadata };
        let participant = Participant {
            room,
            sid,
            identity: claims.identity.clone(),
            session: Some(session),
            permission: permission(&claims),
            name: claims.name.clone(),
            metadata,
            attributes,
            kind: kind(&claims.kind).into(),
            client,
            auto_subscribe: settings.auto_subscribe,
            adaptive_stream: settings.adaptive_stream,
            version: 1,
            joined_unix_ms: millis(self.unix(now)),
            joined_at: now,
            spoke_at: now,
            lost_at: None,
            refresh_at: now,
            nudge_at: None,
            hush,
            peer,
            link: None,
            waiting: None,
            negotiation: Negotiation {
                session_id: self.rng.random::<u64>() >> 1,
                ..Negotiation::default()
            },
            tracks: Vec::new(),
            subscriptions: std::collections::BTreeMap::new(),
            declined: std::collections::BTreeMap::new(),
            audience: None,
            channels: Channels::default(),
            data_sequence: 0,
            speaking: false,
            data_tracks: Vec::new(),
            data_subscriptions: Vec::new(),
            claims,
        };
        let key = self.participants.insert(participant);
        self.by_peer.insert(peer, key);
        self.sessions.insert(session, key);
        key
    }

    fn join_response(&self, key: ParticipantKey) -> proto::JoinResponse {
        let participant = &self.participants[key];
        let info = self.server_info();
        proto::JoinResponse {
            room: Some(self.room_info(participant.room)),
            participant: Some(participant.info(self.config.region.as_str())),
            other_participants: self.others(key),
            server_version: info.version.clone(),
            server_region: info.region.clone(),
            subscriber_primary: false,
            ping_interval: seconds(self.config.ping_interval),
            ping_timeout: seconds(self.config.ping_timeout),
            server_info: Some(info),
            enabled_publish_codecs: publish_codecs(),
            fast_publish: participant.permission.can_publish,
            ..Default::default()
        }
    }

    fn server_info(&self) -> proto::ServerInfo {
        proto::ServerInfo {
            version: crate::SERVER_VERSION.to_owned(),
            protocol: PROTOCOL,
            region: self.config.region.to_string(),
            node_id: self.config.node.to_string(),
            debug_info: format!("outlast {}", self.config.version),
            ..Default::default()
        }
    }

    /// Gives a participant its new socket; whoever is not held here is told to join anew.
    fn resume(&mut self, now: Time, join: &Join, out: &mut Out) -> Result<(), Refusal> {
        check_join(&join.claims, &join.request)?;
        let session = join.session;
        out.told.push(Told::Admitted { session });
        let Some(key) = self.resumable(join) else {
            let message = leave(Action::Reconnect, DisconnectReason::StateMismatch);
            out.told.push(frame(session, message));
            out.told.push(Told::Close { session });
            return Ok(());
        };
        self.detach(key, out);
        self.stats.resumes += 1;
        let info = self.server_info();
        let participant = &mut self.participants[key];
        participant.session = Some(session);
        participant.lost_at = None;
        if let Some(link) = &mut participant.link {
            link.transport.renew_consent(now);
        }
        participant.refresh_at = now;
        participant.nudge_at = Some(now + self.config.ping_interval);
        // An offer that was lost with the old socket will not come.
        participant.negotiation.asked = false;
        let last_message_seq = participant.data_sequence;
        let room = participant.room;
        self.sessions.insert(session, key);
        let response = proto::ReconnectResponse {
            server_info: Some(info),
            last_message_seq,
            ..Default::default()
        };
        out.told.push(frame(session, Message::Reconnect(response)));
        // A resume is told everything below.
        self.end_hush(key, out);
        let gone = self.departures(key);
        if !gone.is_empty() {
            let update = proto::ParticipantUpdate { participants: gone };
            out.told.push(frame(session, Message::Update(update)));
        }
        // Rust-core SDKs take whoever is not named between a resume's start and end for gone.
        let mut participants = self.others(key);
        participants.push(self.participants[key].info(self.config.region.as_str()));
        let update = proto::ParticipantUpdate { participants };
        out.told.push(frame(session, Message::Update(update)));
        let room = Some(self.room_info(room));
        out.told.push(frame(session, Message::RoomUpdate(proto::RoomUpdate { room })));
        self.refresh_token(now, key, out);
        self.unsettled.push(key);
        Ok(())
    }

    /// Who has left lately and is not back under a newer sid.
    pub(crate) fn departures(&self, key: ParticipantKey) -> Vec<proto::ParticipantInfo> {
        let Some(room) = self.participants.get(key).and_then(|p| self.rooms.get(p.room)) else {
            return Vec::new();
        };
        let gone = room.departed.infos();
        gone.filter(|info| !room.members.contains_key(info.identity.as_str())).cloned().collect()
    }

    fn resumable(&self, join: &Join) -> Option<ParticipantKey> {
        let room = self.room_names.get(join.claims.video.room.as_str())?;
        let key = *self.rooms[*room].members.get(&join.claims.identity)?;
        let participant = &self.participants[key];
        let sid = &join.request.participant_sid;
        let same = sid.is_empty() || sid == participant.sid.as_str();
        (same && participant.link.is_some()).then_some(key)
    }

    /// The session's own socket was replaced or ended since its message was sent.
    pub(crate) fn is_current(&self, key: ParticipantKey, session: SessionId) -> bool {
        self.participants.get(key).is_some_and(|participant| participant.session == Some(session))
    }
}

/// Checks what must hold of every join, whatever the room; `/rtc/v1/validate` asks the same without joining.
///
/// # Errors
/// The token grants too little (401), or names and sizes are out of bounds (400).
pub fn check_join(claims: &Claims, request: &proto::JoinRequest) -> Result<(), Refusal> {
    if !claims.video.room_join {
        return Err(Refusal::new(401, "the token does not grant roomJoin"));
    }
    let (room, identity) = (&claims.video.room, claims.identity.as_str());
    for (what, text) in [("room", room.as_str()), ("identity", identity), ("name", &claims.name)] {
        if text.is_empty() && what != "name" {
            return Err(Refusal::new(400, format!("the token names no {what}")));
        }
        if text.chars().count() > NAME_CHARS_MAX {
            let text = format!("the token's {what} is longer than {NAME_CHARS_MAX} characters");
            return Err(Refusal::new(400, text));
        }
    }
    let changes = !request.metadata.is_empty() || !request.participant_attributes.is_empty();
    if changes && !claims.video.may_update_own_metadata() {
        return Err(Refusal::new(401, "the token does not grant canUpdateOwnMetadata"));
    }
    if request.metadata.len() > METADATA_BYTES_MAX || claims.metadata.len() > METADATA_BYTES_MAX {
        return Err(Refusal::new(400, format!("metadata is over {METADATA_BYTES_MAX} bytes")));
    }
    let own: usize = claims.attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    if own + attribute_bytes(&request.participant_attributes) > ATTRIBUTES_BYTES_MAX {
        return Err(Refusal::new(400, format!("attributes are over {ATTRIBUTES_BYTES_MAX} bytes")));
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, clippy::iter_over_hash_type, reason = "a sum has no order")]
pub(crate) fn attribute_bytes(attributes: &std::collections::HashMap<String, String>) -> usize {
    attributes.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// The token's grants as LiveKit's permission message.
pub(crate) fn permission(claims: &Claims) -> proto::ParticipantPermission {
    let grant = &claims.video;
    let sources = grant.can_publish_sources.iter().filter_map(|source| {
        proto::TrackSource::from_str_name(&source.to_ascii_uppercase()).map(i32::from)
    });
    let sources: Vec<i32> = sources.collect();
    // No source means all of them; a list that names none we know must not be widened to that.
    let unknown_only = sources.is_empty() && !grant.can_publish_sources.is_empty();
    proto::ParticipantPermission {
        can_subscribe: grant.may_subscribe(),
        can_publish: grant.may_publish() && !unknown_only,
        can_publish_data: grant.may_publish_data(),
        can_publish_sources: sources,
        hidden: grant.hidden,
        recorder: grant.recorder,
        can_update_metadata: grant.may_update_own_metadata(),
        agent: grant.agent,
        can_subscribe_metrics: grant.can_subscribe_metrics,
        can_manage_agent_session: grant.can_manage_agent_session,
    }
}

fn kind(name: &str) -> Kind {
    Kind::from_str_name(&name.to_ascii_uppercase()).unwrap_or(Kind::Standard)
}

pub(crate) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn seconds(span: Duration) -> i32 {
    i32::try_from(span.as_secs().max(1)).unwrap_or(i32::MAX)
}

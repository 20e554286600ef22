//! The shard's door: everything that goes in and everything that comes out. Values only; nothing here acts.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use outlast_livekit as proto;
use outlast_media::Batch;
use outlast_model::{
    Epoch, Generation, Identity, NodeId, RegionName, RoomName, RoomSettings, Ruling, SessionId,
};
use outlast_token::{ApiKeys, Claims};

use crate::join::Refusal;

/// What a shard is told once, when it starts.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// This shard's index, from 0.
    pub shard: usize,
    /// UDP port that this shard's candidates carry.
    pub media_port: u16,
    /// Addresses of the shard's bound sockets, by socket index.
    pub sockets: Vec<SocketAddr>,
    /// Addresses that clients reach this node by; one host candidate each.
    pub advertise: Vec<IpAddr>,
    /// The node's name, told to clients in `server_info`.
    pub node: NodeId,
    /// The node's region, told to clients in `server_info`.
    pub region: RegionName,
    /// This start of the node.
    pub epoch: Epoch,
    /// How often clients ping (whole seconds on the wire).
    pub ping_interval: Duration,
    /// After how long a silence clients take the signalling for lost (whole seconds on the wire).
    pub ping_timeout: Duration,
    /// Keys that refreshed tokens are signed with.
    pub api_keys: ApiKeys,
    /// `server_info.version`; SDKs read features from it, see [`crate::SERVER_VERSION`].
    pub version: &'static str,
    /// Unix time at [`outlast_model::Time::ZERO`]; for `joined_at` and token expiry only, never for liveness.
    pub unix_start: Duration,
    /// The `Instant` at [`outlast_model::Time::ZERO`], for the engine behind `outlast_media::Transport`.
    pub instant_zero: Instant,
    /// Most participants on this shard.
    pub participants_max: usize,
}

/// What a shard is asked to do, besides forwarding datagrams.
#[derive(Debug)]
pub enum Command {
    /// A client wants in; answered by [`Told::Admitted`] or [`Told::Refused`].
    Join(Box<Join>),
    /// One binary signalling frame, not yet decoded (but scanned for amplification).
    Signal {
        /// From whom.
        session: SessionId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// The session's socket ended without a `leave`; its media goes on and it may resume.
    Closed {
        /// Whose.
        session: SessionId,
    },
    /// An operator's request; answered by [`Told::Api`] with the same `call`.
    Api {
        /// Chosen by the caller.
        call: u64,
        /// Boxed: these messages are large and rare.
        request: Box<ApiRequest>,
    },
    /// Proof of life: answered by [`Told::Ticked`].
    Tick(u64),
    /// Moves participants away: `leave{RECONNECT}` to so many of them, or to all when there are fewer. A room that is begun
    /// is moved whole, even if those are more. Rooms stay open until their time is up.
    MoveAway {
        /// How many.
        count: u32,
    },
    /// A room has been placed elsewhere: if it is here under this generation or an older one, its participants get
    /// `leave{RECONNECT}` and not one media packet more, and it is closed ([`Told::RoomClosed`]).
    FenceRoom {
        /// Which.
        room: RoomName,
        /// Up to and with which generation.
        generation: Generation,
    },
    /// Rooms of this shard have been placed elsewhere while it was not run: forgets everything and sends no media
    /// packet more; sockets that still live get `leave{RECONNECT}`.
    Fence {
        /// The node's new epoch.
        epoch: Epoch,
    },
    /// Debug hook: panics inside the session of this identity.
    Panic {
        /// Whose session.
        identity: String,
    },
}

/// A client that wants to join or to resume.
#[derive(Debug)]
pub struct Join {
    /// Name of this signalling connection.
    pub session: SessionId,
    /// The verified token.
    pub claims: Claims,
    /// LiveKit's join request.
    pub request: proto::JoinRequest,
    /// Under which the gateway believes the room to live here.
    pub generation: Generation,
    /// What the gateway has last heard that the server API said of the client's permission.
    pub ruling: Option<Ruling>,
    /// Where the client comes from, as the gateway saw it.
    pub client_ip: Option<IpAddr>,
    /// The client's `User-Agent`, empty when it sent none.
    pub user_agent: String,
}

/// Requests of the server API (`livekit.RoomService`) for one room, or for all rooms of this shard.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants are LiveKit's methods, documented there")]
pub enum ApiRequest {
    CreateRoom {
        request: Box<proto::CreateRoomRequest>,
        generation: Generation,
        /// When a room that moves here was made, in milliseconds of Unix time; `None` is now.
        created_unix_ms: Option<i64>,
    },
    ListRooms(proto::ListRoomsRequest),
    DeleteRoom(proto::DeleteRoomRequest),
    ListParticipants(proto::ListParticipantsRequest),
    GetParticipant(proto::RoomParticipantIdentity),
    RemoveParticipant(proto::RoomParticipantIdentity),
    MutePublishedTrack(proto::MuteRoomTrackRequest),
    SendData(proto::SendDataRequest),
    UpdateParticipant(proto::UpdateParticipantRequest),
    UpdateRoomMetadata(proto::UpdateRoomMetadataRequest),
}

impl ApiRequest {
    /// The room that the request is about; `None` is every room.
    pub fn room(&self) -> Option<RoomName> {
        let name = match self {
            ApiRequest::CreateRoom { request, .. } => &request.name,
            ApiRequest::ListRooms(_) => return None,
            ApiRequest::DeleteRoom(request) => &request.room,
            ApiRequest::ListParticipants(request) => &request.room,
            ApiRequest::GetParticipant(request) | ApiRequest::RemoveParticipant(request) => {
                &request.room
            }
            ApiRequest::MutePublishedTrack(request) => &request.room,
            ApiRequest::SendData(request) => &request.room,
            ApiRequest::UpdateParticipant(request) => &request.room,
            ApiRequest::UpdateRoomMetadata(request) => &request.room,
        };
        Some(RoomName::from(name.as_str()))
    }
}

/// Why a server API request failed, in Twirp's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// Twirp's error code, e.g. `not_found`.
    pub code: &'static str,
    /// For the operator.
    pub message: String,
}

/// What a shard says, besides datagrams. Per session: `Admitted` or `Refused` first, then frames in order.
#[derive(Clone, Debug)]
pub enum Told {
    /// The join was accepted; frames follow.
    Admitted {
        /// Who asked.
        session: SessionId,
    },
    /// The join was refused, before the WebSocket is upgraded.
    Refused {
        /// Who asked.
        session: SessionId,
        /// Why.
        refusal: Refusal,
    },
    /// One encoded `SignalResponse`.
    Frame {
        /// To whom.
        session: SessionId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// The session is over: the socket is closed after the frames before.
    Close {
        /// Whose.
        session: SessionId,
    },
    /// The answer to [`Command::Api`].
    Api {
        /// Of the request.
        call: u64,
        /// The encoded response message.
        result: Result<Vec<u8>, ApiError>,
    },
    /// The answer to [`Command::Tick`].
    Ticked(u64),
    /// A room lives here now; told again when its generation or its settings change.
    RoomOpened {
        /// Which.
        room: RoomName,
        /// Under which generation.
        generation: Generation,
        /// What it is set to, once the server API has made or changed it. Others have the settings that any node gives.
        settings: Option<RoomSettings>,
    },
    /// Another ruling counts in a room that lives here, or none any more.
    Ruled {
        /// Which room.
        room: RoomName,
        /// Of whom.
        identity: Identity,
        /// What the server API has last said; `None` when the stay that it was for is over.
        ruling: Option<Ruling>,
    },
    /// A room has ended here.
    RoomClosed {
        /// Which.
        room: RoomName,
        /// Under which generation.
        generation: Generation,
    },
    /// A session of this shard panicked and was ended; an ERROR for the log.
    Panicked {
        /// What the panic said.
        message: String,
    },
}

/// What comes out of a shard; reused, so that the packet path allocates nothing.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "a buffer of ciphertext")]
pub struct Out {
    /// Datagrams to send, in runs.
    pub batch: Batch,
    /// Everything else.
    pub told: Vec<Told>,
}

/// Counters and gauges of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Rooms alive.
    pub rooms: usize,
    /// Participants joined.
    pub participants: usize,
    /// Published tracks.
    pub tracks: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Joins accepted since the start.
    pub joins: u64,
    /// Those of them whose media came up.
    pub connected: u64,
    /// Resumes accepted since the start.
    pub resumes: u64,
    /// Sessions ended by a panic since the start.
    pub panics: u64,
    /// Datagrams that belonged to nobody, since the start.
    pub strays: u64,
    /// The packet plane's own counters.
    pub plane: outlast_media::Counters,
}

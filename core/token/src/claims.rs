//! What a token says, and the defaults that LiveKit gives to what it does not say.

use std::{collections::BTreeMap, fmt};

use outlast_model::{Identity, RoomName, RulingVersion};

/// The claims of one access token. Claim names on the wire are lowerCamel; unknown ones are ignored.
#[derive(Clone, PartialEq)]
pub struct Claims {
    /// The API key that signed it (`iss`).
    pub issuer: String,
    /// Who the participant is: `sub`, else `jti`. Empty in tokens that only call the server API.
    pub identity: Identity,
    /// Display name.
    pub name: String,
    /// First participant metadata.
    pub metadata: String,
    /// First participant attributes; empty values are kept here and dropped on joining.
    pub attributes: BTreeMap<String, String>,
    /// `standard`, `ingress`, `egress`, `sip`, `agent`, ...; empty means `standard`.
    pub kind: String,
    /// Names of details of the kind, as they came.
    pub kind_details: Vec<String>,
    /// What the holder may do.
    pub video: VideoGrant,
    /// End of validity (`exp`), in seconds of Unix time, without leeway.
    pub expires_at: u64,
    /// Start of validity (`nbf`), in seconds of Unix time, without leeway.
    pub not_before: Option<u64>,
    /// Name of a room configuration that the server keeps; empty when absent.
    pub room_preset: String,
    /// `RoomConfiguration` as JSON, unread.
    pub room_config: Option<serde_json::Value>,
    /// Digest of a webhook's body; empty in all other tokens.
    pub sha256: String,
    /// Made by [`ApiKeys::refresh`](crate::ApiKeys::refresh): its holder has been in the room before. Not a claim of
    /// LiveKit's.
    pub refreshed: bool,
    /// The server API's last word on the grant that this token has taken up; zero when the grant is the application's own.
    /// Not a claim of LiveKit's.
    pub ruling: RulingVersion,
}

/// The `video` grant. A field that a token leaves out is `false`, empty or `None`; the methods apply LiveKit's
/// defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VideoGrant {
    /// May join `room`.
    pub room_join: bool,
    /// The room that joining and `room_admin` are limited to.
    pub room: String,
    /// May create and delete rooms.
    pub room_create: bool,
    /// May list rooms.
    pub room_list: bool,
    /// May administer `room`.
    pub room_admin: bool,
    /// May start and stop recordings.
    pub room_record: bool,
    /// May use the ingress API.
    pub ingress_admin: bool,
    /// With `room_admin`: where participants may be moved or forwarded to.
    pub destination_room: String,
    /// May publish tracks; absent means yes.
    pub can_publish: Option<bool>,
    /// `camera`, `microphone`, `screen_share`, `screen_share_audio`; empty means all.
    pub can_publish_sources: Vec<String>,
    /// May send data; absent means as `can_publish`.
    pub can_publish_data: Option<bool>,
    /// May receive tracks; absent means yes.
    pub can_subscribe: Option<bool>,
    /// May change its own name, metadata and attributes; absent means no.
    pub can_update_own_metadata: Option<bool>,
    /// May receive metrics packets.
    pub can_subscribe_metrics: bool,
    /// May control agent sessions.
    pub can_manage_agent_session: bool,
    /// Is never shown to others.
    pub hidden: bool,
    /// Records: does not keep the room alive.
    pub recorder: bool,
    /// Is an agent: does not keep the room alive.
    pub agent: bool,
}

impl VideoGrant {
    /// Whether tracks may be published at all.
    pub fn may_publish(&self) -> bool {
        self.can_publish.unwrap_or(true)
    }

    /// Whether a track of `source` (a lower-case name as in `can_publish_sources`) may be published.
    pub fn may_publish_source(&self, source: &str) -> bool {
        self.may_publish()
            && (self.can_publish_sources.is_empty()
                || self.can_publish_sources.iter().any(|allowed| allowed == source))
    }

    /// Whether data packets and data tracks may be sent.
    pub fn may_publish_data(&self) -> bool {
        self.can_publish_data.unwrap_or_else(|| self.may_publish())
    }

    /// Whether tracks may be received.
    pub fn may_subscribe(&self) -> bool {
        self.can_subscribe.unwrap_or(true)
    }

    /// Whether the holder may change its own name, metadata and attributes.
    pub fn may_update_own_metadata(&self) -> bool {
        self.can_update_own_metadata.unwrap_or(false)
    }

    /// Whether the holder may join `room`.
    pub fn may_join(&self, room: &RoomName) -> bool {
        self.room_join && !self.room.is_empty() && self.room == room.as_str()
    }

    /// Whether the holder may administer `room`.
    pub fn may_admin(&self, room: &RoomName) -> bool {
        self.room_admin && !self.room.is_empty() && self.room == room.as_str()
    }
}

impl Default for Claims {
    fn default() -> Self {
        Claims {
            issuer: String::new(),
            identity: Identity::from(""),
            name: String::new(),
            metadata: String::new(),
            attributes: BTreeMap::new(),
            kind: String::new(),
            kind_details: Vec::new(),
            video: VideoGrant::default(),
            expires_at: 0,
            not_before: None,
            room_preset: String::new(),
            room_config: None,
            sha256: String::new(),
            refreshed: false,
            ruling: RulingVersion::default(),
        }
    }
}

impl fmt::Debug for Claims {
    // Metadata and attributes are people's data: a log gets their sizes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("issuer", &self.issuer)
            .field("identity", &self.identity)
            .field("kind", &self.kind)
            .field("video", &self.video)
            .field("expires_at", &self.expires_at)
            .field("metadata_bytes", &self.metadata.len())
            .field("attributes", &self.attributes.len())
            .finish_non_exhaustive()
    }
}

//! The words between the packet plane and those who steer it. No logic.

use std::net::SocketAddr;

use slotmap::new_key_type;

new_key_type! {
    /// One peer connection.
    pub struct PeerKey;
    /// One published track with all its layers.
    pub struct PublicationKey;
    /// One peer's receipt of one publication.
    pub struct SubscriptionKey;
}

/// The CNAME in all our source descriptions; an SDP's `a=ssrc:... cname` says the same.
pub const CNAME: &str = "outlast";

/// Where a peer's datagrams go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Index of the shard's socket.
    pub socket: u8,
    /// The peer's address.
    pub address: SocketAddr,
}

/// The header extension ids (RFC 8285) of one peer connection, the same both ways; `None`: not negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`.
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`.
    pub repaired_rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    pub audio_level: Option<u8>,
    /// Transport-wide sequence number, draft-holmer-rmcat-transport-wide-cc-extensions-01.
    pub transport_cc: Option<u8>,
    /// Abs-send-time. Neither read nor written: transport-cc serves both ways.
    pub abs_send_time: Option<u8>,
    /// Abs-capture-time, passed on.
    pub abs_capture_time: Option<u8>,
    /// AV1's dependency descriptor, passed on.
    pub dependency_descriptor: Option<u8>,
    /// `urn:3gpp:video-orientation`, passed on.
    pub video_orientation: Option<u8>,
    /// Playout-delay, passed on.
    pub playout_delay: Option<u8>,
}

/// Sound or picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Small packets, forwarded as they come; no layers, no key frames.
    Audio,
    /// Key frames, layers, retransmissions.
    Video,
}

/// What the plane must know of a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaCodec {
    /// Opus (RFC 7587).
    Opus,
    /// Redundant audio (RFC 2198) with Opus in it.
    Red,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// H.264 (RFC 6184).
    H264,
    /// AV1 (AOM's RTP specification 1.0).
    Av1,
    /// Any other audio; forwarded as it comes.
    OtherAudio,
    /// Any other video: every packet passes for the start of a key frame, as the plane cannot see one.
    OtherVideo,
}

/// One payload type of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecSpec {
    /// The publisher's payload type.
    pub pt: u8,
    /// Its retransmission payload type (RFC 4588).
    pub rtx_pt: Option<u8>,
    /// What it carries.
    pub codec: MediaCodec,
    /// Timestamp units per second.
    pub clock_rate: u32,
}

/// One encoding of a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerConfig {
    /// Restriction id (RFC 8851) that its packets carry; `None` when it is the only layer or known by SSRC.
    pub rid: Option<String>,
    /// From the SDP, when it says.
    pub ssrc: Option<u32>,
    /// The retransmission stream's, from the SDP, when it says.
    pub rtx_ssrc: Option<u32>,
    /// Width in pixels; 0 when not known.
    pub width: u32,
    /// Height in pixels; 0 when not known.
    pub height: u32,
}

/// What a peer publishes as one track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationConfig {
    /// Sound or picture.
    pub kind: Kind,
    /// The SDP's media id; packets with this id (and a layer's rid) bind their SSRC to the publication.
    pub mid: String,
    /// Every payload type that may come.
    pub codecs: Vec<CodecSpec>,
    /// Lowest first; at most [`LAYERS_MAX`], more are ignored.
    pub layers: Vec<LayerConfig>,
    /// Whether lost packets are asked for again.
    pub nack: bool,
}

/// Most layers of one publication.
pub const LAYERS_MAX: usize = 8;

/// How one peer receives one publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionConfig {
    /// (publisher's payload type, this peer's). Packets of other types are not forwarded, but RED falls back to Opus.
    pub pt_map: Vec<(u8, u8)>,
    /// (this peer's payload type, its retransmission type).
    pub rtx_pts: Vec<(u8, u8)>,
    /// Whether this peer's NACKs are answered.
    pub nack: bool,
}

/// What a subscriber wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// False pauses the subscription.
    pub enabled: bool,
    /// In pixels; 0: the highest layer.
    pub width: u32,
    /// In pixels; 0: the highest layer.
    pub height: u32,
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted { enabled: true, width: 0, height: 0 }
    }
}

/// What the plane has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum PlaneEvent {
    /// Speech levels that changed, 0..=1 in steps of 1/8; 0: stopped speaking.
    Speakers {
        /// Who, and how loud now.
        levels: Vec<(PeerKey, f32)>,
    },
    /// The first authenticated packet of a publication came.
    FirstPacket(PublicationKey),
}

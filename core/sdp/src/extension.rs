//! The RTP header extensions that Outlast reads or writes, by their URI.

/// Media section of a packet (RFC 8843 §15).
pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// Layer of a packet (RFC 8852 §3.1).
pub const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
/// Layer that a retransmission repairs (RFC 8852 §3.2).
pub const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
/// Loudness of an audio packet (RFC 6464).
pub const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// Transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01).
pub const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Send time in 6.18 fixed point seconds.
pub const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
/// NTP time at which a frame was captured.
pub const ABS_CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
/// Frame dependencies of an AV1 or VP9 packet (AV1 RTP specification, appendix A).
pub const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
/// Rotation of a video frame (3GPP TS 26.114 §7.4.5).
pub const VIDEO_ORIENTATION: &str = "urn:3gpp:video-orientation";
/// Bounds of the receiver's playout delay.
pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// Largest id of the one-byte header form, the only one that Outlast writes (RFC 8285 §4.2).
pub const ID_MAX: u8 = 14;

//! What an offer says, as values: the words that parser, choices and answer writer share.

use outlast_model::{SDP_BYTES_MAX, SDP_SECTIONS_MAX};
use thiserror::Error;

use crate::Word;

/// Most payload types in one section.
pub(crate) const CODECS_MAX: usize = 64;
/// Most header extensions in one section.
pub(crate) const EXTENSIONS_MAX: usize = 64;
/// Most feedback types of one codec.
pub(crate) const FEEDBACK_MAX: usize = 16;
/// Most synchronisation sources in one section: three layers with retransmission need six.
pub(crate) const SSRCS_MAX: usize = 32;
/// Most layers in one section: SDKs use three.
pub(crate) const RIDS_MAX: usize = 8;

/// A client's offer. Every section shares one transport, so credentials appear once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// ICE user name fragment, 4 to 256 bytes (RFC 8839 §5.4).
    pub ufrag: String,
    /// ICE password, 22 to 256 bytes.
    pub pwd: String,
    /// Digest of the client's DTLS certificate.
    pub fingerprint: Fingerprint,
    /// Who may open DTLS.
    pub setup: Setup,
    /// Media sections in the offer's order; at least one.
    pub sections: Vec<Section>,
    /// Mids of the BUNDLE group in its order, without those that have no section.
    pub bundle: Vec<String>,
    /// One-byte and two-byte header extensions may be mixed (RFC 8285 §6).
    pub extmap_allow_mixed: bool,
}

/// Digest of a certificate (RFC 8122 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Lower-case name of the digest: `sha-256`, rarely another.
    pub algorithm: String,
    /// The digest itself, 16 to 64 bytes.
    pub bytes: Vec<u8>,
}

/// The offerer's DTLS role (RFC 8842 §5). `passive` is refused: we answer `passive`, and somebody must begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Either role.
    ActPass,
    /// The client opens.
    Active,
}

/// One media section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Identification; empty only in a rejected section.
    pub mid: String,
    /// What it carries.
    pub kind: SectionKind,
    /// Seen from the client.
    pub direction: Direction,
    /// Cannot be answered other than by rejecting it: stopped (port 0 without `bundle-only`), outside of the BUNDLE
    /// group, or over a protocol that we do not speak.
    pub rejected: bool,
    /// In the client's order of preference, `rtx` included.
    pub codecs: Vec<Codec>,
    /// Header extensions with ids from 1 to 255.
    pub extensions: Vec<Extension>,
    /// The track that the client sends here.
    pub msid: Option<Msid>,
    /// Announced sources, in order of appearance.
    pub ssrcs: Vec<u32>,
    /// Media source and the source of its retransmissions (`ssrc-group:FID`).
    pub rtx_pairs: Vec<(u32, u32)>,
    /// Sources of layers, lowest first, of clients that do not use rids (`ssrc-group:SIM`).
    pub sim_ssrcs: Vec<u32>,
    /// Layers that the client sends, in the order of `a=simulcast:send`: browsers begin with the lowest, the Rust and
    /// Python SDKs with the highest. See [`Section::layers`].
    pub send_rids: Vec<String>,
    /// Port of the data section.
    pub sctp_port: Option<u16>,
    /// Largest message that the client takes; 0 is no limit (RFC 8841 §6).
    pub max_message_size: Option<u64>,
    /// Compound RTCP may be left out (RFC 5506).
    pub rtcp_rsize: bool,
    /// First word of the `m=` line, as offered.
    pub media: Word,
    /// Transport of the `m=` line, as offered.
    pub protocol: Word,
    /// First format of the `m=` line, as offered.
    pub format: Word,
}

impl Section {
    /// The rids of [`Section::send_rids`], lowest layer first. LiveKit's SDKs name layers `q`, `h`, `f` or `2`, `1`, `0`;
    /// with any other name among them the offer's order stays.
    pub fn layers(&self) -> Vec<&str> {
        let mut rids: Vec<&str> = self.send_rids.iter().map(String::as_str).collect();
        for names in [["q", "h", "f"], ["2", "1", "0"]] {
            if rids.iter().all(|rid| names.contains(rid)) {
                rids.sort_by_key(|rid| names.iter().position(|name| name == rid));
            }
        }
        rids
    }
}

/// What a section carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectionKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Data channels.
    Application,
    /// Something that we always reject.
    Other,
}

/// Direction of media, seen from whoever wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// From the writer.
    SendOnly,
    /// To the writer.
    RecvOnly,
    /// Neither way.
    Inactive,
}

impl Direction {
    /// The writer sends.
    pub const fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// The writer receives.
    pub const fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The attribute's name (RFC 8866 §6.7).
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Direction> {
        Some(match name {
            "sendrecv" => Direction::SendRecv,
            "sendonly" => Direction::SendOnly,
            "recvonly" => Direction::RecvOnly,
            "inactive" => Direction::Inactive,
            _ => return None,
        })
    }
}

/// One payload type of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Payload type, at most 127.
    pub pt: u8,
    /// Lower-case encoding name: `opus`, `red`, `vp8`, `rtx` and so on.
    pub name: Word,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Audio channels; 1 when not said.
    pub channels: u8,
    /// Format parameters as offered; empty when there are none.
    pub fmtp: Word,
    /// Feedback types as offered, e.g. `nack pli`.
    pub feedback: Vec<Word>,
    /// Payload type of its retransmissions (RFC 4588).
    pub rtx_pt: Option<u8>,
}

impl Codec {
    /// Value of one `;`-separated format parameter; its name compares without case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One RTP header extension (RFC 8285 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Id in packets, 1 to 255; above 14 only in the two-byte form.
    pub id: u8,
    /// Its name; see [`crate::extension`].
    pub uri: Word,
}

/// Names of a track and of the stream that it belongs to (RFC 8830).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Msid {
    /// Tracks of one stream play in sync; `-` is no stream.
    pub stream: String,
    /// The track; empty when not said.
    pub track: String,
}

/// Why an offer is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OfferError {
    /// Longer than the limit.
    #[error("the offer is longer than {SDP_BYTES_MAX} bytes")]
    TooLong,
    /// More `m=` lines than the limit.
    #[error("the offer has more than {SDP_SECTIONS_MAX} sections")]
    TooManySections,
    /// Not SDP.
    #[error("line {line} of the offer is not SDP")]
    Syntax {
        /// From 1.
        line: usize,
    },
    /// No `m=` line.
    #[error("the offer has no section")]
    Empty,
    /// A live section without `a=mid`, or one that is not a token of 1 to 64 characters.
    #[error("section {index} has no usable mid")]
    Mid {
        /// Position in the offer, from 0.
        index: usize,
    },
    /// Two live sections with one mid.
    #[error("section {index} repeats a mid")]
    MidRepeated {
        /// Position of the second in the offer, from 0.
        index: usize,
    },
    /// A payload type that is no number or above 127.
    #[error("section {index} has a malformed payload type")]
    PayloadType {
        /// Position in the offer, from 0.
        index: usize,
    },
    /// One payload type listed twice.
    #[error("section {index} lists payload type {pt} twice")]
    PayloadTypeRepeated {
        /// Position in the offer, from 0.
        index: usize,
        /// The payload type.
        pt: u8,
    },
    /// More of something in one section than any client needs.
    #[error("section {index} has more than {limit} {what}")]
    TooMany {
        /// Position in the offer, from 0.
        index: usize,
        /// What there is too much of.
        what: &'static str,
        /// How many are accepted.
        limit: usize,
    },
    /// No ICE credentials, or ones outside of RFC 8839 §5.4.
    #[error("the offer has no usable ICE credentials")]
    Ice,
    /// No certificate fingerprint, or a malformed one.
    #[error("the offer has no usable fingerprint")]
    Fingerprint,
    /// A DTLS role that cannot be answered by `passive`.
    #[error("the offer's setup is neither actpass nor active")]
    Setup,
}

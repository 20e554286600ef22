//! The answer as text. It decides nothing but what the offer forces: a section that must be rejected is, and a direction
//! never exceeds what the client offered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::offer::{Codec, Direction, Extension, Fingerprint, Msid, Offer, Section, SectionKind};

/// Largest data channel message that we take, in bytes; what our SCTP is built with.
pub const MESSAGE_BYTES_MAX: u64 = 256 * 1024;

/// Our end of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// Digest of our DTLS certificate.
    pub fingerprint: Fingerprint,
    /// `candidate:...` values, without `a=`. They are all there are: `end-of-candidates` follows.
    pub candidates: Vec<String>,
    /// Constant over a connection's answers; below 2^62 (RFC 9429 §5.2.1).
    pub session_id: u64,
    /// Grows by one with each answer of a connection.
    pub session_version: u64,
}

/// What we answer to one section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerSection {
    /// The offered section's.
    pub mid: String,
    /// Seen from us.
    pub direction: Direction,
    /// A part of the offer's codecs, best first. Their `rtx` is written because of `rtx_pt`, not listed.
    pub codecs: Vec<Codec>,
    /// A part of the offer's extensions.
    pub extensions: Vec<Extension>,
    /// What we send; without it nothing is sent, whatever `direction` says.
    pub send: Option<Sending>,
    /// Layers that we accept, in the offer's order.
    pub recv_rids: Vec<String>,
    /// Port 0, out of the BUNDLE group. Final for a data section and, in practice, for media too.
    pub rejected: bool,
}

/// A track that we send in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Names of stream and track.
    pub msid: Msid,
    /// RTCP's canonical name, one for all tracks that play in sync (RFC 3550 §6.5.1).
    pub cname: String,
    /// Media source.
    pub ssrc: u32,
    /// Source of retransmissions.
    pub rtx_ssrc: Option<u32>,
}

/// The answer: one section for each offered one in the offer's order, ICE-lite, DTLS passive, candidates in the section
/// that owns the transport. A section that has no entry in `sections` (by mid), or no codec left, is rejected. Control
/// characters in values are dropped, so no value can add a line.
pub fn write_answer(offer: &Offer, local: &Local, sections: &[AnswerSection]) -> String {
    // A stopped section may share its mid with a live one.
    let by_mid: BTreeMap<&str, &AnswerSection> = sections
        .iter()
        .filter(|section| !section.rejected)
        .map(|section| (section.mid.as_str(), section))
        .collect();
    let accepted: Vec<Option<&AnswerSection>> = offer
        .sections
        .iter()
        .map(|section| {
            let answer = by_mid.get(section.mid.as_str()).copied()?;
            let empty = answer.codecs.is_empty() && section.kind != SectionKind::Application;
            (!section.rejected && !empty).then_some(answer)
        })
        .collect();
    let live: BTreeSet<&str> =
        accepted.iter().flatten().map(|answer| answer.mid.as_str()).collect();
    let bundle: Vec<&str> =
        offer.bundle.iter().map(String::as_str).filter(|mid| live.contains(mid)).collect();

    let mut out = Writer(String::with_capacity(512 + offer.sections.len() * 1536));
    out.session(offer, local, &bundle);
    let transport = transport(local);
    // The first mid of the group tags the section whose transport all use (RFC 8843 §7.2).
    let owner = bundle.first().copied().or_else(|| live.first().copied());
    for (section, answer) in offer.sections.iter().zip(accepted) {
        match answer {
            Some(answer) => {
                out.section(section, answer, &transport);
                if Some(section.mid.as_str()) == owner {
                    out.candidates(local);
                }
            }
            None => out.rejected(section),
        }
    }
    out.0
}

/// The lines about the transport, which every section repeats.
fn transport(local: &Local) -> String {
    let mut out = Writer(String::with_capacity(256));
    out.line(format_args!("a=ice-ufrag:{}", local.ufrag));
    out.line(format_args!("a=ice-pwd:{}", local.pwd));
    let Fingerprint { algorithm, bytes } = &local.fingerprint;
    let digest: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    out.line(format_args!("a=fingerprint:{algorithm} {}", digest.join(":")));
    out.line(format_args!("a=setup:passive"));
    out.0
}

struct Writer(String);

impl Writer {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        let start = self.0.len();
        fmt::Write::write_fmt(&mut self.0, line).expect("a String takes every write");
        // Most lines are ASCII, and bytes are quicker to look at than characters.
        let plain = |byte: u8| matches!(byte, b' '..=b'~');
        if !self.0.as_bytes()[start..].iter().copied().all(plain) {
            let clean: String = self.0[start..].chars().filter(|c| !c.is_control()).collect();
            self.0.replace_range(start.., &clean);
        }
        self.0.push_str("\r\n");
    }

    fn session(&mut self, offer: &Offer, local: &Local, bundle: &[&str]) {
        self.line(format_args!("v=0"));
        let (id, version) = (local.session_id, local.session_version);
        self.line(format_args!("o=- {id} {version} IN IP4 0.0.0.0"));
        self.line(format_args!("s=-"));
        self.line(format_args!("t=0 0"));
        if !bundle.is_empty() {
            self.line(format_args!("a=group:BUNDLE {}", bundle.join(" ")));
        }
        if offer.extmap_allow_mixed {
            self.line(format_args!("a=extmap-allow-mixed"));
        }
        self.line(format_args!("a=msid-semantic:WMS *"));
        self.line(format_args!("a=ice-lite"));
    }

    fn rejected(&mut self, section: &Section) {
        let Section { media, protocol, format, .. } = section;
        self.line(format_args!("m={media} 0 {protocol} {format}"));
        self.line(format_args!("c=IN IP4 0.0.0.0"));
        if !section.mid.is_empty() {
            self.line(format_args!("a=mid:{}", section.mid));
        }
        self.line(format_args!("a=inactive"));
    }

    fn section(&mut self, section: &Section, answer: &AnswerSection, transport: &str) {
        let Section { media, protocol, .. } = section;
        if section.kind == SectionKind::Application {
            self.line(format_args!("m={media} 9 {protocol} webrtc-datachannel"));
        } else {
            let pts =
                answer.codecs.iter().flat_map(|codec| [Some(codec.pt), codec.rtx_pt]).flatten();
            let mut list = String::with_capacity(4 * 2 * answer.codecs.len());
            for pt in pts {
                fmt::Write::write_fmt(&mut list, format_args!(" {pt}")).expect("as above");
            }
            self.line(format_args!("m={media} 9 {protocol}{list}"));
        }
        self.line(format_args!("c=IN IP4 0.0.0.0"));
        self.line(format_args!("a=mid:{}", section.mid));
        self.0.push_str(transport);
        if section.kind == SectionKind::Application {
            self.line(format_args!("a=sctp-port:5000"));
            self.line(format_args!("a=max-message-size:{MESSAGE_BYTES_MAX}"));
        } else {
            self.media(section, answer);
        }
    }

    fn media(&mut self, section: &Section, answer: &AnswerSection) {
        let client = section.direction;
        let sending =
            answer.send.as_ref().filter(|_| answer.direction.sends() && client.receives());
        let receiving = answer.direction.receives() && client.sends();
        let direction = match (sending.is_some(), receiving) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        };
        self.line(format_args!("a={}", direction.as_str()));
        self.line(format_args!("a=rtcp-mux"));
        if section.rtcp_rsize {
            self.line(format_args!("a=rtcp-rsize"));
        }
        for codec in &answer.codecs {
            self.codec(section.kind, codec);
        }
        for Extension { id, uri } in &answer.extensions {
            self.line(format_args!("a=extmap:{id} {uri}"));
        }
        if receiving && !answer.recv_rids.is_empty() {
            for rid in &answer.recv_rids {
                self.line(format_args!("a=rid:{rid} recv"));
            }
            self.line(format_args!("a=simulcast:recv {}", answer.recv_rids.join(";")));
        }
        if let Some(sending) = sending {
            self.sending(sending);
        }
    }

    fn codec(&mut self, kind: SectionKind, codec: &Codec) {
        let Codec { pt, clock_rate, channels, .. } = codec;
        let name = written_name(&codec.name);
        if kind == SectionKind::Audio && *channels > 1 {
            self.line(format_args!("a=rtpmap:{pt} {name}/{clock_rate}/{channels}"));
        } else {
            self.line(format_args!("a=rtpmap:{pt} {name}/{clock_rate}"));
        }
        for feedback in &codec.feedback {
            self.line(format_args!("a=rtcp-fb:{pt} {feedback}"));
        }
        if !codec.fmtp.is_empty() {
            self.line(format_args!("a=fmtp:{pt} {}", codec.fmtp));
        }
        if let Some(rtx) = codec.rtx_pt {
            self.line(format_args!("a=rtpmap:{rtx} rtx/{clock_rate}"));
            self.line(format_args!("a=fmtp:{rtx} apt={pt}"));
        }
    }

    fn sending(&mut self, sending: &Sending) {
        let Sending { cname, ssrc, rtx_ssrc, msid } = sending;
        let (stream, track, cname) = (word(&msid.stream), word(&msid.track), word(cname));
        self.line(format_args!("a=msid:{stream} {track}"));
        if let Some(rtx) = rtx_ssrc {
            self.line(format_args!("a=ssrc-group:FID {ssrc} {rtx}"));
        }
        for ssrc in [Some(*ssrc), *rtx_ssrc].into_iter().flatten() {
            self.line(format_args!("a=ssrc:{ssrc} cname:{cname}"));
            self.line(format_args!("a=ssrc:{ssrc} msid:{stream} {track}"));
        }
    }

    fn candidates(&mut self, local: &Local) {
        if local.candidates.is_empty() {
            return;
        }
        for candidate in &local.candidates {
            self.line(format_args!("a={candidate}"));
        }
        self.line(format_args!("a=end-of-candidates"));
    }
}

/// The spelling that clients use themselves; names compare without case, but not in every application's script.
fn written_name(name: &str) -> &str {
    match name {
        "vp8" => "VP8",
        "vp9" => "VP9",
        "h264" => "H264",
        "h265" => "H265",
        "av1" => "AV1",
        name => name,
    }
}

/// A value that must stay one token: part of it comes from applications.
fn word(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}

//! What an answer accepts, chosen by fixed rules: payload types and extension ids are always the offer's own.

use crate::{
    Word, extension as ext,
    offer::{Codec, Extension, Section, SectionKind},
    profile::{is_common_h264, same_codec},
};

/// Video codecs that are forwarded.
const VIDEO: [&str; 4] = ["vp8", "h264", "vp9", "av1"];
/// Feedback that the packet plane gives or obeys. `goog-remb` is left out: estimates come from transport-wide feedback.
const VIDEO_FEEDBACK: [&str; 4] = ["transport-cc", "ccm fir", "nack", "nack pli"];
const AUDIO_EXTENSIONS: [&str; 4] = [ext::MID, ext::RID, ext::AUDIO_LEVEL, ext::ABS_CAPTURE_TIME];
const VIDEO_EXTENSIONS: [&str; 8] = [
    ext::MID,
    ext::RID,
    ext::REPAIRED_RID,
    ext::TRANSPORT_CC,
    ext::ABS_SEND_TIME,
    ext::ABS_CAPTURE_TIME,
    ext::DEPENDENCY_DESCRIPTOR,
    ext::PLAYOUT_DELAY,
];
/// Opus parameters that are ours to say, not the offer's to repeat.
const OPUS_OURS: [&str; 4] = ["usedtx", "stereo", "sprop-stereo", "maxaveragebitrate"];

/// What the publisher of a track asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecPolicy {
    /// Codec or MIME type to put first (`vp8`, `video/VP8`); others follow in the offer's order.
    pub preferred: Option<String>,
    /// Opus without redundancy.
    pub disable_red: bool,
    /// Opus in stereo at up to 510 kbit/s.
    pub stereo: bool,
    /// Opus may stop in silence.
    pub dtx: bool,
}

impl Default for CodecPolicy {
    fn default() -> Self {
        CodecPolicy { preferred: None, disable_red: false, stereo: false, dtx: true }
    }
}

/// What we accept from a section in which the client publishes; also right for one that is idle.
pub fn receive(section: &Section, policy: &CodecPolicy) -> (Vec<Codec>, Vec<Extension>) {
    let codecs = match section.kind {
        SectionKind::Audio => receive_audio(section, policy),
        SectionKind::Video => receive_video(section, policy),
        SectionKind::Application | SectionKind::Other => Vec::new(),
    };
    (codecs, extensions(section))
}

/// How a published track goes out in a section in which the client receives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendChoice {
    /// The section's codecs that the publisher may send, in the publisher's order; empty when they have none in common.
    pub codecs: Vec<Codec>,
    /// Header extensions that were accepted; rids among them, though one layer goes out without a rid.
    pub extensions: Vec<Extension>,
    /// Publisher's payload type and this section's, for each of `incoming` that the section knows.
    pub pt_map: Vec<(u8, u8)>,
}

/// Chooses for forwarding a track whose publisher was answered with `incoming`.
pub fn send(section: &Section, incoming: &[Codec]) -> SendChoice {
    let (known, extensions) = receive(section, &CodecPolicy::default());
    let mut choice = SendChoice { extensions, ..SendChoice::default() };
    for theirs in incoming {
        let Some(ours) = known.iter().find(|ours| same_codec(ours, theirs)) else { continue };
        choice.pt_map.push((theirs.pt, ours.pt));
        if !choice.codecs.iter().any(|codec| codec.pt == ours.pt) {
            // What the client says of its own decoder holds unchanged.
            let offered = section.codecs.iter().find(|codec| codec.pt == ours.pt);
            let fmtp = offered.map(|codec| codec.fmtp.clone()).unwrap_or_default();
            choice.codecs.push(Codec { fmtp, ..ours.clone() });
        }
    }
    // Redundancy repairs by itself; retransmissions on top would cost twice.
    if choice.codecs.iter().any(|codec| codec.name == "red") {
        choice.codecs.iter_mut().for_each(|codec| codec.feedback.clear());
    }
    choice
}

fn receive_audio(section: &Section, policy: &CodecPolicy) -> Vec<Codec> {
    let Some(offered) = section.codecs.iter().find(|codec| codec.name == "opus") else {
        return Vec::new();
    };
    let red = section.codecs.iter().find(|codec| {
        let carries = codec.fmtp.split(['/', ' ']).next().and_then(|pt| pt.parse().ok());
        codec.name == "red" && carries == Some(offered.pt) && !policy.disable_red
    });
    let mut opus = Codec { feedback: vec!["nack".into()], ..offered.clone() };
    opus.fmtp = opus_parameters(&offered.fmtp, policy).into();
    let red = red.map(|red| Codec { feedback: Vec::new(), rtx_pt: None, ..red.clone() });
    red.into_iter().chain([opus]).collect()
}

fn opus_parameters(offered: &str, policy: &CodecPolicy) -> String {
    let kept = offered.split(';').map(str::trim).filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && !OPUS_OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    });
    let dtx = policy.dtx.then_some("usedtx=1");
    let stereo = policy.stereo.then_some("stereo=1;maxaveragebitrate=510000");
    kept.chain(dtx).chain(stereo).collect::<Vec<_>>().join(";")
}

fn receive_video(section: &Section, policy: &CodecPolicy) -> Vec<Codec> {
    let preferred = policy.preferred.as_deref().unwrap_or_default();
    let preferred = preferred.rsplit('/').next().unwrap_or_default();
    let mut codecs: Vec<Codec> = section
        .codecs
        .iter()
        .filter(|codec| VIDEO.contains(&&*codec.name))
        .map(|codec| {
            let known = |feedback: &&Word| VIDEO_FEEDBACK.contains(&&***feedback);
            Codec {
                name: codec.name.clone(),
                fmtp: codec.fmtp.clone(),
                feedback: codec.feedback.iter().filter(known).cloned().collect(),
                ..*codec
            }
        })
        .collect();
    // Browsers send the first codec of the answer whatever the application asked for. Chromium lists an H.264 profile
    // first that Firefox does not decode.
    codecs.sort_by_key(|codec| {
        let wanted = codec.name.eq_ignore_ascii_case(preferred);
        (!wanted, !(wanted && is_common_h264(codec)))
    });
    codecs
}

/// The same for both directions: libwebrtc offers in a new section what earlier ones of its kind were answered, so a
/// playing section without the rid extensions makes the client's next simulcast offer invalid.
fn extensions(section: &Section) -> Vec<Extension> {
    let known: &[&str] = match section.kind {
        SectionKind::Audio => &AUDIO_EXTENSIONS,
        SectionKind::Video => &VIDEO_EXTENSIONS,
        SectionKind::Application | SectionKind::Other => &[],
    };
    section
        .extensions
        .iter()
        .filter(|extension| extension.id <= ext::ID_MAX)
        .filter(|extension| known.contains(&&*extension.uri))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_offer;

    const HEAD: &str = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
        a=fingerprint:sha-1 00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13\r\n";
    const FEEDBACK: &str = "goog-remb|transport-cc|ccm fir|nack|nack pli";

    /// A section from `pt name/clock fmtp` lines; every codec with all feedback.
    fn section(media: &str, codecs: &[&str]) -> Section {
        let split = |codec: &&str| -> (String, String, String) {
            let mut words = codec.splitn(3, ' ').map(str::to_owned);
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default())
        };
        let pts: Vec<_> = codecs.iter().map(|codec| split(codec).0).collect();
        let mut text = format!("{HEAD}m={media} 9 UDP/TLS/RTP/SAVPF {}\r\n", pts.join(" "));
        text += "a=mid:0\r\na=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid\r\n";
        text += "a=extmap:15 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=extmap:4 urn:x\r\n";
        for (pt, name, fmtp) in codecs.iter().map(split) {
            text += &format!("a=rtpmap:{pt} {name}\r\na=fmtp:{pt} {fmtp}\r\n");
            for feedback in FEEDBACK.split('|') {
                text += &format!("a=rtcp-fb:{pt} {feedback}\r\n");
            }
        }
        parse_offer(&text).unwrap().sections.remove(0)
    }

    fn shown(codecs: &[Codec]) -> Vec<String> {
        let show = |codec: &Codec| {
            let rtx = codec.rtx_pt.map(|pt| format!("+{pt}")).unwrap_or_default();
            format!("{}{rtx} {} {}", codec.pt, codec.name, codec.fmtp).trim_end().to_owned()
        };
        codecs.iter().map(show).collect()
    }

    fn check_audio(policy: &CodecPolicy, expected: &[&str]) {
        let offered = [
            "111 opus/48000/2 minptime=10; stereo=1;useinbandfec=1;UseDTX=0",
            "63 red/48000/2 111/111",
            "9 G722/8000",
            "110 telephone-event/48000",
        ];
        assert_eq!(shown(&receive(&section("audio", &offered), policy).0), expected);
    }

    #[test]
    fn audio_obeys_the_options_of_its_track() {
        let policy = CodecPolicy::default();
        let opus = "111 opus minptime=10;useinbandfec=1";
        check_audio(&policy, &["63 red 111/111", &format!("{opus};usedtx=1")]);
        let plain = CodecPolicy { disable_red: true, dtx: false, ..policy.clone() };
        check_audio(&plain, &[opus]);
        let stereo = CodecPolicy { stereo: true, ..plain };
        check_audio(&stereo, &[&format!("{opus};stereo=1;maxaveragebitrate=510000")]);
    }

    #[test]
    fn redundancy_for_another_codec_is_left_out() {
        let odd = section("audio", &["111 opus/48000/2", "63 red/48000/2 110/110"]);
        assert_eq!(shown(&receive(&odd, &CodecPolicy::default()).0), ["111 opus usedtx=1"]);
        let none = section("audio", &["9 G722/8000"]);
        assert!(receive(&none, &CodecPolicy::default()).0.is_empty());
    }

    const H264: &str = "H264/90000 packetization-mode=1;profile-level-id=";

    fn browser() -> Section {
        let (baseline, common) = (format!("102 {H264}42001f"), format!("108 {H264}42e01f"));
        section(
            "video",
            &[
                "96 VP8/90000",
                "97 rtx/90000 apt=96",
                &baseline,
                &common,
                "98 VP9/90000 profile-id=0",
                "118 red/90000",
                "49 flexfec-03/90000",
            ],
        )
    }

    #[test]
    fn the_announced_codec_comes_first() {
        let order = |mime: &str| {
            let policy = CodecPolicy { preferred: Some(mime.to_owned()), ..CodecPolicy::default() };
            let (codecs, _) = receive(&browser(), &policy);
            codecs.iter().map(|codec| codec.pt).collect::<Vec<_>>()
        };
        assert_eq!(order("video/VP9"), [98, 96, 102, 108]);
        assert_eq!(order("h264"), [108, 102, 96, 98]);
        assert_eq!(order("video/AV1"), [96, 102, 108, 98]);
    }

    #[test]
    fn only_known_feedback_and_short_ids_are_accepted() {
        let (codecs, extensions) = receive(&browser(), &CodecPolicy::default());
        assert_eq!(codecs[0].feedback, ["transport-cc", "ccm fir", "nack", "nack pli"]);
        assert_eq!(extensions, [Extension { id: 3, uri: ext::MID.into() }]);
    }

    #[test]
    fn forwarding_translates_payload_types() {
        let (baseline, common) = (format!("126 {H264}42001f"), format!("97 {H264}42e034"));
        let subscriber =
            section("video", &["120 VP8/90000", "124 rtx/90000 apt=120", &baseline, &common]);
        let (incoming, _) = receive(&browser(), &CodecPolicy::default());
        let choice = send(&subscriber, &incoming);
        assert_eq!(choice.pt_map, [(96, 120), (102, 126), (108, 97)]);
        assert_eq!(choice.codecs.iter().map(|c| c.pt).collect::<Vec<_>>(), [120, 126, 97]);
        assert_eq!(choice.codecs[0].rtx_pt, Some(124));
        assert!(send(&section("video", &["45 AV1/90000"]), &incoming).codecs.is_empty());
    }

    #[test]
    fn redundant_audio_is_not_retransmitted() {
        let publisher = section("audio", &["111 opus/48000/2", "63 red/48000/2 111/111"]);
        let (incoming, _) = receive(&publisher, &CodecPolicy::default());
        let plain = send(&section("audio", &["109 opus/48000/2 useinbandfec=1"]), &incoming);
        assert_eq!(plain.pt_map, [(111, 109)]);
        assert_eq!(shown(&plain.codecs), ["109 opus useinbandfec=1"]);
        assert_eq!(plain.codecs[0].feedback, ["nack"]);
        let both = send(&publisher, &incoming);
        assert_eq!(both.pt_map, [(63, 63), (111, 111)]);
        assert!(both.codecs.iter().all(|codec| codec.feedback.is_empty()));
    }
}

//! A server in miniature for golden tests and the `answer` example: takes all that is published, plays one track of each
//! kind into the first section that can take it, leaves other sections idle.

use outlast_sdp::{
    AnswerSection, Codec, Direction, Fingerprint, Local, Msid, Offer, Section, SectionKind,
    Sending,
    choose::{self, CodecPolicy},
    write_answer,
};

/// The whole answer, the same for the same offer. Published video is asked for in `preferred` where it is offered.
pub(crate) fn answer(offer: &Offer, preferred: Option<&str>) -> String {
    let policy = CodecPolicy { preferred: preferred.map(str::to_owned), ..CodecPolicy::default() };
    let local = Local {
        ufrag: "OutlastUfrag".to_owned(),
        pwd: "OutlastPasswordOutlastPw".to_owned(),
        fingerprint: Fingerprint { algorithm: "sha-256".to_owned(), bytes: (0..32).collect() },
        candidates: vec!["candidate:1 1 udp 2130706431 192.0.2.1 7900 typ host".to_owned()],
        session_id: 4_611_686_018_427_387_903,
        session_version: 1,
    };
    let mut taken = Vec::new();
    let sections: Vec<AnswerSection> =
        offer.sections.iter().map(|section| answer_section(section, &policy, &mut taken)).collect();
    write_answer(offer, &local, &sections)
}

fn answer_section(
    section: &Section,
    policy: &CodecPolicy,
    taken: &mut Vec<SectionKind>,
) -> AnswerSection {
    let (codecs, extensions) = choose::receive(section, policy);
    let mut answer = AnswerSection {
        mid: section.mid.clone(),
        direction: Direction::Inactive,
        codecs,
        extensions,
        send: None,
        recv_rids: Vec::new(),
        rejected: section.rejected,
    };
    if section.direction.sends() {
        answer.direction = Direction::RecvOnly;
        answer.recv_rids.clone_from(&section.send_rids);
    } else if section.direction.receives() && !taken.contains(&section.kind) {
        let choice = choose::send(section, &published(section.kind));
        if !choice.codecs.is_empty() {
            taken.push(section.kind);
            answer.direction = Direction::SendOnly;
            answer.send = Some(sending(section.kind));
            answer.codecs = choice.codecs;
            answer.extensions = choice.extensions;
        }
    }
    answer
}

/// What a publisher in Chromium was answered.
fn published(kind: SectionKind) -> Vec<Codec> {
    let codec = |pt, name: &str, clock_rate, channels, fmtp: &str| Codec {
        pt,
        name: name.to_owned().into(),
        clock_rate,
        channels,
        fmtp: fmtp.to_owned().into(),
        feedback: Vec::new(),
        rtx_pt: None,
    };
    if kind == SectionKind::Audio {
        vec![
            codec(63, "red", 48_000, 2, "111/111"),
            codec(111, "opus", 48_000, 2, "minptime=10;useinbandfec=1"),
        ]
    } else {
        let h264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
        vec![
            codec(96, "vp8", 90_000, 1, ""),
            codec(103, "h264", 90_000, 1, h264),
            codec(98, "vp9", 90_000, 1, "profile-id=0"),
            codec(45, "av1", 90_000, 1, "level-idx=5;profile=0;tier=0"),
        ]
    }
}

fn sending(kind: SectionKind) -> Sending {
    let (track, ssrc, rtx_ssrc) = match kind {
        SectionKind::Audio => ("TR_AMgolden", 1001, None),
        _ => ("TR_VCgolden", 2001, Some(2002)),
    };
    let msid = Msid { stream: format!("PA_golden|{track}"), track: track.to_owned() };
    Sending { msid, cname: "PA_golden".to_owned(), ssrc, rtx_ssrc }
}

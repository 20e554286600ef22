//! What a hostile client can put into an offer: always an offer within the limits or an error, never a panic, and never a
//! line of its own in the answer.

#![allow(clippy::unwrap_used, reason = "a test's functions outside of #[test] fail the same way")]

use outlast_sdp::{
    AnswerSection, Direction, Fingerprint, Local, Msid, Offer, OfferError, Section, SectionKind,
    Sending,
    choose::{self, CodecPolicy},
    parse_offer, write_answer,
};
use proptest::prelude::*;

const OFFERS: [&str; 4] = [
    include_str!("fixtures/chromium-first.sdp"),
    include_str!("fixtures/chromium-screen-share.sdp"),
    include_str!("fixtures/chromium-republished.sdp"),
    include_str!("fixtures/python-mic-camera.sdp"),
];

const HEAD: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
    a=fingerprint:sha-1 00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13\r\n";

fn parse(sections: &str) -> Result<Offer, OfferError> {
    parse_offer(&format!("{HEAD}{sections}"))
}

fn video(lines: &str) -> String {
    format!("m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:0\r\na=rtpmap:96 VP8/90000\r\n{lines}")
}

fn only(lines: &str) -> Section {
    parse(&video(lines)).unwrap().sections.remove(0)
}

fn local() -> Local {
    Local {
        ufrag: "abcd".to_owned(),
        pwd: "0123456789012345678901".to_owned(),
        fingerprint: Fingerprint { algorithm: "sha-256".to_owned(), bytes: vec![7; 32] },
        candidates: vec!["candidate:1 1 udp 1 192.0.2.1 7900 typ host".to_owned()],
        session_id: 1,
        session_version: 2,
    }
}

/// Accepts all that is sent and plays a track into all that can receive.
fn answers(offer: &Offer, stream: &str) -> Vec<AnswerSection> {
    let answer = |section: &Section| {
        let (codecs, extensions) = choose::receive(section, &CodecPolicy::default());
        AnswerSection {
            mid: section.mid.clone(),
            direction: Direction::SendRecv,
            codecs,
            extensions,
            send: Some(Sending {
                msid: Msid { stream: stream.to_owned(), track: stream.to_owned() },
                cname: stream.to_owned(),
                ssrc: 1,
                rtx_ssrc: Some(2),
            }),
            recv_rids: section.send_rids.clone(),
            rejected: false,
        }
    };
    offer.sections.iter().map(answer).collect()
}

#[test]
fn a_thousand_sections_are_refused() {
    let thousand = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(1000);
    assert_eq!(parse(&thousand), Err(OfferError::TooManySections));
    assert_eq!(parse(&" ".repeat(300_000)), Err(OfferError::TooLong));
    assert_eq!(parse(""), Err(OfferError::Empty));
}

#[test]
fn limits_of_one_section() {
    let many =
        |line: fn(usize) -> String, count| parse(&video(&(0..count).map(line).collect::<String>()));
    let limit = |result: Result<Offer, OfferError>| match result {
        Err(OfferError::TooMany { index: 0, what, limit }) => (what, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(limit(many(|i| format!("a=ssrc:{i} cname:a\r\n"), 33)), ("sources", 32));
    assert_eq!(limit(many(|i| format!("a=rid:r{i} send\r\n"), 9)), ("layers", 8));
    assert_eq!(
        limit(many(|i| format!("a=extmap:{} urn:{i}\r\n", i + 1), 65)),
        ("header extensions", 64)
    );
    assert_eq!(
        limit(many(|i| format!("a=rtcp-fb:* x{i}\r\n"), 17)),
        ("feedback types of a codec", 16)
    );
    let pts: String = (0..65).map(|pt| format!(" {pt}")).collect();
    let wide = parse(&format!("m=audio 9 UDP/TLS/RTP/SAVPF{pts}\r\na=mid:0\r\n"));
    assert_eq!(limit(wide), ("payload types", 64));
    // Repetition is not abundance.
    assert_eq!(many(|_| "a=ssrc:5 cname:a\r\n".to_owned(), 9000).unwrap().sections[0].ssrcs, [5]);
    assert!(many(|i| format!("a=rtcp-fb:* x{}\r\n", i % 16), 9000).is_ok());
}

#[test]
fn payload_types_are_numbers_up_to_127_and_unique() {
    let audio = |pts: &str| parse(&format!("m=audio 9 UDP/TLS/RTP/SAVPF {pts}\r\na=mid:0\r\n"));
    assert_eq!(audio("128"), Err(OfferError::PayloadType { index: 0 }));
    assert_eq!(audio("-1"), Err(OfferError::PayloadType { index: 0 }));
    assert_eq!(audio("96 96"), Err(OfferError::PayloadTypeRepeated { index: 0, pt: 96 }));
    let codecs = audio("0 127").unwrap().sections.remove(0).codecs;
    assert_eq!(codecs.len(), 1, "127 has no name: {codecs:?}");
    assert_eq!((&*codecs[0].name, codecs[0].clock_rate), ("pcmu", 8000));
}

#[test]
fn retransmission_of_an_unknown_payload_type_is_ignored() {
    let rtx = |apt: &str| only(&format!("a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt={apt}\r\n"));
    assert_eq!(rtx("96").codecs[0].rtx_pt, Some(97));
    for apt in ["97", "98", "300", "x", ""] {
        assert_eq!(rtx(apt).codecs[0].rtx_pt, None, "{apt}");
    }
}

#[test]
fn mids_must_exist_once() {
    let section = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n";
    let bundle = |mids: &str, sections: &str| {
        parse_offer(&format!("{HEAD}a=group:BUNDLE {mids}\r\n{sections}"))
    };
    assert_eq!(parse(section), Err(OfferError::Mid { index: 0 }));
    assert_eq!(parse(&format!("{section}a=mid:a;b\r\n")), Err(OfferError::Mid { index: 0 }));
    let twice = format!("{section}a=mid:0\r\n{section}a=mid:0\r\n");
    assert_eq!(bundle("0", &twice), Err(OfferError::MidRepeated { index: 1 }));
    let offer = bundle("9 1 0 0", &format!("{section}a=mid:0\r\n{section}a=mid:1\r\n")).unwrap();
    assert_eq!(offer.bundle, ["1", "0"]);
}

#[test]
fn what_cannot_share_the_transport_is_rejected() {
    let rejected = |group: &str, sections: &str| -> Vec<bool> {
        let offer = parse_offer(&format!("{HEAD}{group}{sections}")).unwrap();
        offer.sections.iter().map(|section| section.rejected).collect()
    };
    let rtp = "UDP/TLS/RTP/SAVPF 96\r\n";
    let two = format!("m=video 9 {rtp}a=mid:0\r\nm=audio 9 {rtp}a=mid:1\r\n");
    assert_eq!(rejected("", &two), [false, true]);
    assert_eq!(rejected("a=group:BUNDLE 1\r\n", &two), [true, false]);
    assert_eq!(rejected("a=group:BUNDLE 0 1\r\n", &two), [false, false]);
    let odd = format!(
        "m=video 0 {rtp}m=video 0 {rtp}a=mid:1\r\na=bundle-only\r\nm=text 9 {rtp}a=mid:2\r\n\
         m=audio 9 RTP/AVP 0\r\na=mid:3\r\nm=application 9 DTLS/SCTP 5000\r\na=mid:4\r\n"
    );
    let group = "a=group:BUNDLE 1 2 3 4\r\n";
    assert_eq!(rejected(group, &odd), [true, false, true, true, true]);
}

#[test]
fn credentials_come_from_the_first_live_section_or_the_session() {
    let lines = "a=ice-ufrag:media\r\na=ice-pwd:media56789012345678901\r\n";
    assert_eq!(parse(&video("")).unwrap().ufrag, "abcd");
    assert_eq!(parse(&video("a=ice-ufrag:alone\r\n")).unwrap().ufrag, "abcd");
    assert_eq!(parse(&video(lines)).unwrap().ufrag, "media");
    let bad = |old: &str, new: &str| parse_offer(&(HEAD.replace(old, new) + &video("")));
    assert_eq!(bad("ice-ufrag:abcd", "ice-ufrag:abc"), Err(OfferError::Ice));
    assert_eq!(bad("a=ice-pwd", "a=other"), Err(OfferError::Ice));
    assert_eq!(bad("a=setup:actpass", "a=setup:passive"), Err(OfferError::Setup));
    assert_eq!(bad("a=fingerprint", "a=other"), Err(OfferError::Fingerprint));
    assert_eq!(bad(":12:13", ":12"), Err(OfferError::Fingerprint));
    assert_eq!(bad(":12:13", ":12:+3"), Err(OfferError::Fingerprint));
    assert_eq!(bad("sha-1 ", "md5 "), Err(OfferError::Fingerprint));
    let sha256 = format!("a=fingerprint:SHA-256 {}\r\n", ["AB"; 32].join(":"));
    let both = parse_offer(&format!("{HEAD}{sha256}{}", video(""))).unwrap();
    assert_eq!(both.fingerprint.algorithm, "sha-256");
}

#[test]
fn layers_need_a_declaration_and_keep_the_simulcast_order() {
    let rids = |lines: &str| only(lines).send_rids;
    let declared = "a=rid:a send\r\na=rid:b send pt=96\r\na=rid:c recv\r\n";
    let with = |simulcast: &str| rids(&format!("{declared}a=simulcast:{simulcast}\r\n"));
    assert_eq!(with("send b;a"), ["b", "a"]);
    assert_eq!(with("recv c send ~a;b,a"), ["a", "b"]);
    assert_eq!(with("send c;x;a"), ["a"]);
    assert!(with("recv a;b").is_empty());
    assert!(rids("a=simulcast:send a;b\r\n").is_empty());
}

#[test]
fn names_from_applications_add_no_line_and_no_word() {
    let offer = parse(&video("")).unwrap();
    let stream = "camera x\r\na=setup:active\r\n";
    let answer = write_answer(&offer, &local(), &answers(&offer, stream));
    assert!(answer.contains("a=msid:camera_x__a=setup:active__ camera_x__a=setup:active__\r\n"));
    assert!(!answer.contains("\na=setup:active"));
    let mut local = local();
    local.candidates = vec!["candidate:1\r\na=x".to_owned()];
    assert!(write_answer(&offer, &local, &[]).ends_with("a=mid:0\r\na=inactive\r\n"));
    let answer = write_answer(&offer, &local, &answers(&offer, "s"));
    assert!(answer.ends_with("a=candidate:1a=x\r\na=end-of-candidates\r\n"));
}

/// One edit of a text, by lines or by bytes; positions wrap.
#[derive(Clone, Debug)]
enum Edit {
    Delete(usize, usize),
    Repeat(usize, usize),
    Swap(usize, usize),
    Insert(usize, String),
    Replace(usize, usize, String),
    Truncate(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let token = prop_oneof![
        Just("a=mid:0".to_owned()),
        Just("a=group:BUNDLE 0 1".to_owned()),
        Just("a=simulcast:send ;;~,".to_owned()),
        Just("m=video 0 UDP/TLS/RTP/SAVPF 96".to_owned()),
        Just("a=fmtp:96 apt=96".to_owned()),
        Just("4294967296".to_owned()),
        "[ -~]{0,20}",
        "\\PC{0,8}",
    ];
    prop_oneof![
        (any::<usize>(), 1..40_usize).prop_map(|(at, count)| Edit::Delete(at, count)),
        (any::<usize>(), 2..70_usize).prop_map(|(at, count)| Edit::Repeat(at, count)),
        (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Edit::Swap(one, other)),
        (any::<usize>(), token.clone()).prop_map(|(at, line)| Edit::Insert(at, line)),
        (any::<usize>(), 0..12_usize, token).prop_map(|(at, n, text)| Edit::Replace(at, n, text)),
        any::<usize>().prop_map(Edit::Truncate),
    ]
}

fn apply(lines: &mut Vec<String>, edit: Edit) {
    if lines.is_empty() {
        return;
    }
    let count = lines.len();
    match edit {
        Edit::Delete(at, n) => {
            let at = at % count;
            lines.drain(at..count.min(at + n));
        }
        Edit::Repeat(at, n) => {
            let line = lines[at % count].clone();
            lines.splice(at % count..at % count, std::iter::repeat_n(line, n));
        }
        Edit::Swap(one, other) => lines.swap(one % count, other % count),
        Edit::Insert(at, line) => lines.insert(at % count, line),
        Edit::Replace(at, n, text) => {
            let line = &mut lines[at % count];
            let kept: String = line.chars().take(at % (line.chars().count() + 1)).collect();
            let rest: String = line.chars().skip(kept.chars().count() + n).collect();
            *line = kept + &text + &rest;
        }
        Edit::Truncate(at) => lines.truncate(at % count),
    }
}

/// What holds for every accepted offer, and for whatever is answered to it.
fn check_accepted(offer: &Offer) {
    assert!((1..=200).contains(&offer.sections.len()));
    let mut mids = std::collections::BTreeSet::new();
    for section in &offer.sections {
        assert!(section.rejected || mids.insert(&section.mid), "{} twice", section.mid);
        assert!(section.codecs.len() <= 64 && section.send_rids.len() <= 8);
        assert!(section.codecs.iter().all(|codec| codec.pt <= 127 && codec.clock_rate > 0));
        let choice = choose::send(section, &section.codecs);
        for codec in &choice.codecs {
            assert!(section.codecs.iter().any(|offered| offered.pt == codec.pt));
        }
        assert!(choice.pt_map.iter().all(|(_, to)| choice.codecs.iter().any(|c| c.pt == *to)));
    }
    let answer = write_answer(offer, &local(), &answers(offer, "stream"));
    let session = sdp_types::Session::parse(answer.as_bytes()).unwrap();
    assert_eq!(session.medias.len(), offer.sections.len());
    for (media, section) in session.medias.iter().zip(&offer.sections) {
        assert_eq!((&*media.media, &*media.proto), (&*section.media, &*section.protocol));
        assert!(media.port == 9 || media.port == 0);
        assert!(media.port == 0 || !section.rejected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_an_offer_or_an_error(text in "\\PC{0,300}", lines in "([a-z]=[ -~]{0,30}\n){0,40}") {
        let _ = parse_offer(&text);
        let _ = parse(&lines);
        let _ = parse(&video(&lines));
    }

    #[test]
    fn mutated_offers_are_offers_or_errors(
        which in 0..OFFERS.len(),
        edits in proptest::collection::vec(edit(), 1..8),
    ) {
        let mut lines: Vec<String> = OFFERS[which].lines().map(str::to_owned).collect();
        edits.into_iter().for_each(|edit| apply(&mut lines, edit));
        if let Ok(offer) = parse_offer(&lines.join("\r\n")) {
            check_accepted(&offer);
        }
    }

    /// An answer read as an offer says what was written, whatever part of the sections is accepted.
    #[test]
    fn what_is_written_can_be_read(which in 0..OFFERS.len(), accepted in any::<u32>()) {
        let offer = parse_offer(OFFERS[which]).unwrap();
        let mut sections = answers(&offer, "stream");
        for (index, section) in sections.iter_mut().enumerate() {
            section.rejected = accepted >> (index % 32) & 1 == 0;
        }
        let answer = write_answer(&offer, &local(), &sections);
        let read = parse_offer(&answer.replace("setup:passive", "setup:actpass"));
        if sections.iter().all(|section| section.rejected) {
            prop_assert_eq!(read, Err(OfferError::Ice));
            return Ok(());
        }
        let read = read.unwrap();
        prop_assert_eq!(&read.ufrag, &local().ufrag);
        prop_assert_eq!(&read.fingerprint, &local().fingerprint);
        let live: Vec<&String> =
            sections.iter().filter(|section| !section.rejected).map(|s| &s.mid).collect();
        prop_assert_eq!(read.bundle.iter().collect::<Vec<_>>(), live);
        for (read, written) in read.sections.iter().zip(&sections) {
            prop_assert_eq!(read.rejected, written.rejected);
            if written.rejected || read.kind == SectionKind::Application {
                continue;
            }
            let media: Vec<_> =
                read.codecs.iter().filter(|codec| codec.name != "rtx").cloned().collect();
            prop_assert_eq!(&media, &written.codecs);
            prop_assert_eq!(&read.extensions, &written.extensions);
            if read.direction.sends() {
                prop_assert_eq!(&read.ssrcs, &[1, 2]);
                prop_assert_eq!(&read.rtx_pairs, &[(1, 2)]);
                prop_assert_eq!(&read.msid.as_ref().unwrap().track, "stream");
            }
        }
    }
}

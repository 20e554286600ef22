//! Offers recorded from LiveKit's SDKs (livekit-client 2.23.0 in Chromium 156, Python livekit 1.2.1) and the answers that
//! both accepted. `OUTLAST_BLESS=1 cargo test -p outlast-sdp` writes the answers anew; look at the difference.

#![allow(clippy::unwrap_used, reason = "a test's functions outside of #[test] fail the same way")]

mod answerer;

use std::{env, fs, path::PathBuf};

use outlast_sdp::{Direction, Offer, Section, SectionKind, Setup, parse_offer};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read(name: &str) -> String {
    let bytes = fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    String::from_utf8(bytes).unwrap()
}

fn offer(fixture: &str) -> Offer {
    parse_offer(&read(&format!("{fixture}.sdp"))).unwrap()
}

/// The answer to a recorded offer is the recorded answer, and is well-formed SDP with the offer's sections.
fn check(fixture: &str, preferred: Option<&str>) {
    let offer = offer(fixture);
    let answer = answerer::answer(&offer, preferred);
    let parsed = sdp_types::Session::parse(answer.as_bytes()).unwrap();
    let mids: Vec<_> =
        parsed.medias.iter().map(|m| m.get_first_attribute_value("mid").unwrap()).collect();
    let offered: Vec<_> = offer.sections.iter().map(|s| Some(s.mid.as_str())).collect();
    assert_eq!(mids, offered);

    let name = format!("{fixture}.answer.sdp");
    if env::var_os("OUTLAST_BLESS").is_some() {
        fs::write(path(&name), &answer).unwrap();
    }
    let golden = read(&name);
    for (number, (ours, expected)) in answer.lines().zip(golden.lines()).enumerate() {
        assert_eq!(ours, expected, "{name}, line {}", number + 1);
    }
    assert_eq!(answer, golden, "{name}: one of the two goes on");
}

#[test]
fn first_offer_of_livekit_client_in_chromium() {
    check("chromium-first", None);
    let offer = offer("chromium-first");
    assert_eq!(offer.setup, Setup::ActPass);
    assert_eq!(offer.fingerprint.algorithm, "sha-256");
    assert_eq!(offer.bundle, ["0", "1", "2", "3", "4", "5", "6"]);
    assert!(offer.extmap_allow_mixed);
    let kinds: Vec<_> = offer.sections.iter().map(|section| section.kind).collect();
    use SectionKind::{Application, Audio, Video};
    assert_eq!(kinds, [Audio, Audio, Audio, Video, Video, Video, Application]);
    assert!(offer.sections[..6].iter().all(|section| section.direction == Direction::RecvOnly));
    assert_eq!(offer.sections[6].sctp_port, Some(5000));
    assert_eq!(offer.sections[6].max_message_size, Some(262_144));
}

#[test]
fn second_offer_of_livekit_client_brings_stereo_and_candidates() {
    check("chromium-second", None);
}

fn publishing(fixture: &str) -> Section {
    let mut offer = offer(fixture);
    offer.sections.retain(|s| s.kind == SectionKind::Video && s.direction == Direction::SendOnly);
    offer.sections.remove(0)
}

#[test]
fn microphone_and_simulcast_camera_from_chromium() {
    check("chromium-mic-camera", None);
    let camera = publishing("chromium-mic-camera");
    assert_eq!(camera.send_rids, ["q", "h", "f"]);
    assert_eq!(camera.layers(), ["q", "h", "f"]);
    assert_eq!(camera.msid.unwrap().track, "954ac9df-e9b5-47aa-913e-3a94a99e3810");
    assert_eq!(camera.codecs[0].name, "vp8");
    assert_eq!(camera.codecs[0].rtx_pt, Some(97));
}

#[test]
fn screen_share_beside_a_camera_from_chromium() {
    check("chromium-screen-share", None);
}

#[test]
fn vp9_is_put_first_because_chromium_sends_what_comes_first() {
    check("chromium-vp9", Some("video/VP9"));
    let camera = publishing("chromium-vp9");
    assert_eq!(camera.rtx_pairs, [(3_253_247_176, 185_745_815)]);
    assert_eq!(camera.ssrcs, [3_253_247_176, 185_745_815]);
    assert!(camera.send_rids.is_empty());
}

#[test]
fn an_unpublished_section_stays_idle_beside_its_successor() {
    check("chromium-republished", Some("vp9"));
}

#[test]
fn first_offer_of_the_python_sdk() {
    check("python-first", None);
}

#[test]
fn microphone_and_simulcast_camera_from_python() {
    check("python-mic-camera", None);
    let camera = publishing("python-mic-camera");
    assert_eq!(camera.send_rids, ["f", "h", "q"]);
    assert_eq!(camera.layers(), ["q", "h", "f"]);
    assert_eq!(camera.codecs.len(), 1);
    assert_eq!(camera.codecs[0].rtx_pt, None);
    assert_eq!(camera.msid.unwrap().stream, "-");
}

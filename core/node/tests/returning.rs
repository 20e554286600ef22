//! A JS client that has just come back hears of others when its SDK passes it on: at once, or when its own two seconds
//! are over.
#![allow(dead_code, reason = "the world is shared with other tests")]

mod world;

use std::time::Duration;

use outlast_livekit as proto;
use proto::{client_info::Sdk, signal_response::Message};
use str0m::media::MediaKind;
use world::{World, claims};

/// A room with alice, who sends sound, and bob, who joins with the SDK's name and a token.
fn joins(sdk: Sdk, returned: bool) -> (World, usize, usize) {
    let mut world = World::new();
    let alice = world.join("room", "alice");
    world.until("alice is connected", |world| world.clients[alice].connected);
    world.publish(alice, MediaKind::Audio, "mic");
    world.run(Duration::from_millis(50));
    let client_info = Some(proto::ClientInfo { sdk: sdk.into(), ..Default::default() });
    let request = proto::JoinRequest { client_info, ..Default::default() };
    let claims = outlast_token::Claims { refreshed: returned, ..claims("room", "bob") };
    let bob = world.join_with(claims, request);
    assert_eq!(world.clients[bob].tracks_by_mid().len(), 1, "the first answer has what is there");
    world.until("bob is connected", |world| world.clients[bob].connected);
    (world, alice, bob)
}

/// What bob has heard of a camera that alice sends from now on: her update, and a question for an offer.
fn hears_of_a_camera(world: &mut World, alice: usize, bob: usize, span: Duration) -> (bool, bool) {
    let asked = |world: &World| {
        let inbox = world.clients[bob].inbox.iter();
        inbox.filter(|message| matches!(message, Message::MediaSectionsRequirement(_))).count()
    };
    let (updates, questions) = (world.clients[bob].updates().len(), asked(world));
    world.publish(alice, MediaKind::Video, "cam");
    world.run(span);
    let news = world.clients[bob].updates().split_off(updates);
    let told = news.iter().any(|info| info.identity == "alice" && info.tracks.len() == 2);
    (told, asked(world) > questions)
}

#[test]
fn a_js_client_that_returns_hears_of_late_tracks_when_its_sdk_no_longer_drops_them() {
    let (mut world, alice, bob) = joins(Sdk::Js, true);
    let span = Duration::from_millis(1_500);
    assert_eq!(hears_of_a_camera(&mut world, alice, bob, span), (false, false));
    assert_eq!(world.clients[bob].tracks_by_mid().len(), 1);
    world.until("it is told and given the track", |world| {
        let updates = world.clients[bob].updates();
        updates.iter().any(|info| info.identity == "alice" && info.tracks.len() == 2)
            && world.clients[bob].tracks_by_mid().len() == 2
    });
    let later = hears_of_a_camera_again(&mut world, alice, bob);
    assert!(later, "the span comes once");
}

fn hears_of_a_camera_again(world: &mut World, alice: usize, bob: usize) -> bool {
    world.publish(alice, MediaKind::Video, "screen");
    world.run(Duration::from_millis(200));
    world.clients[bob].tracks_by_mid().len() == 3
}

#[test]
fn who_joins_for_the_first_time_or_runs_another_sdk_hears_at_once() {
    for (sdk, returned) in [(Sdk::Js, false), (Sdk::Python, true), (Sdk::Rust, true)] {
        let (mut world, alice, bob) = joins(sdk, returned);
        let span = Duration::from_millis(200);
        let heard = hears_of_a_camera(&mut world, alice, bob, span);
        assert_eq!(heard, (true, true), "{sdk:?} {returned}");
    }
}

#[test]
fn who_left_in_the_meantime_is_told_as_gone() {
    let (mut world, alice, bob) = joins(Sdk::Js, true);
    world.signal(alice, proto::signal_request::Message::Leave(proto::LeaveRequest::default()));
    world.run(Duration::from_millis(500));
    assert!(world.clients[bob].updates().iter().all(|info| info.state() != GONE));
    world.until("bob is told", |world| {
        world.clients[bob].updates().iter().any(|info| info.state() == GONE)
    });
}

const GONE: proto::participant_info::State = proto::participant_info::State::Disconnected;

//! A JS client that has just come back: when it may say that it has, and that it hears of others when its SDK passes it on, before
//! that or when its own two seconds are over.
#![allow(dead_code, reason = "the world is shared with other tests")]

mod world;

use std::time::Duration;

use outlast_livekit as proto;
use proto::{client_info::Sdk, signal_response::Message};
use str0m::media::MediaKind;
use world::{World, claims};

/// The identity joins with the SDK's name and a token.
fn comes(world: &mut World, identity: &str, sdk: Sdk, returned: bool) -> usize {
    let client_info = Some(proto::ClientInfo { sdk: sdk.into(), ..Default::default() });
    let request = proto::JoinRequest { client_info, ..Default::default() };
    let claims = outlast_token::Claims { refreshed: returned, ..claims("room", identity) };
    world.join_with(claims, request)
}

/// A room with alice, who sends sound, and bob, who joins later and sends some as well.
fn joins(sdk: Sdk, returned: bool) -> (World, usize, usize) {
    let mut world = World::new();
    let alice = world.join("room", "alice");
    world.until("alice is connected", |world| world.clients[alice].connected);
    world.publish(alice, MediaKind::Audio, "mic");
    world.run(Duration::from_millis(50));
    let bob = comes(&mut world, "bob", sdk, returned);
    assert_eq!(world.clients[bob].tracks_by_mid().len(), 1, "the first answer has what is there");
    world.until("bob is connected", |world| world.clients[bob].connected);
    world.publish(bob, MediaKind::Audio, "mic");
    (world, alice, bob)
}

/// How many of its tracks the client has been told that they are published.
fn published(world: &World, who: usize) -> usize {
    let inbox = world.clients[who].inbox.iter();
    inbox.filter(|message| matches!(message, Message::TrackPublished(_))).count()
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
    world.until("it may say that it is back", |world| published(world, bob) == 1);
    let span = Duration::from_millis(1_000);
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
fn it_may_not_say_that_it_is_back_before_it_knows_who_came_with_it_and_is_heard_all_the_same() {
    let mut world = World::new();
    let alice = comes(&mut world, "alice", Sdk::Js, true);
    world.until("alice is connected", |world| world.clients[alice].connected);
    world.publish(alice, MediaKind::Audio, "mic");
    world.run(Duration::from_millis(200));
    assert_eq!(published(&world, alice), 0);
    let bob = comes(&mut world, "bob", Sdk::Js, true);
    assert_eq!(world.clients[bob].tracks_by_mid().len(), 1, "its media waits for nothing");
    world.until("bob is connected", |world| world.clients[bob].connected);
    world.publish(bob, MediaKind::Audio, "mic");
    world.until("alice is given bob's track", |world| {
        world.clients[alice].tracks_by_mid().len() == 1
    });
    assert_eq!((published(&world, alice), published(&world, bob)), (0, 0));
    world.run(Duration::from_millis(450));
    assert_eq!((published(&world, alice), published(&world, bob)), (1, 1));
}

#[test]
fn it_may_not_say_that_it_is_back_before_it_has_applied_what_it_was_answered() {
    let mut world = World::new();
    let alice = comes(&mut world, "alice", Sdk::Js, true);
    world.until("alice is connected", |world| world.clients[alice].connected);
    world.publish(alice, MediaKind::Audio, "mic");
    world.run(Duration::from_millis(100));
    // From here on alice's machine is busy.
    world.clients[alice].slow = true;
    let bob = comes(&mut world, "bob", Sdk::Js, true);
    world.until("bob is connected", |world| world.clients[bob].connected);
    world.publish(bob, MediaKind::Audio, "mic");
    world.until("alice is answered with bob's track", |world| {
        world.clients[alice].tracks_by_mid().len() == 1
    });
    world.run(Duration::from_millis(1_200));
    assert_eq!((published(&world, alice), published(&world, bob)), (0, 1));
    world.hurry(alice);
    world.run(Duration::from_millis(60));
    assert_eq!(published(&world, alice), 1);
}

#[test]
fn who_does_not_get_through_is_not_waited_for_longer_than_a_second() {
    let (mut world, _, bob) = joins(Sdk::Js, true);
    // Its transport never comes up: nothing reads what it is sent.
    let silent = comes(&mut world, "silent", Sdk::Js, true);
    world.clients[silent].unplugged = true;
    world.run(Duration::from_millis(700));
    assert_eq!(published(&world, bob), 0);
    world.run(Duration::from_millis(400));
    assert_eq!(published(&world, bob), 1);
}

#[test]
fn who_sends_nothing_is_kept_from_nothing() {
    let mut world = World::new();
    let alice = world.join("room", "alice");
    world.until("alice is connected", |world| world.clients[alice].connected);
    let bob = comes(&mut world, "bob", Sdk::Js, true);
    world.until("bob is connected", |world| world.clients[bob].connected);
    world.publish(alice, MediaKind::Audio, "mic");
    world.run(Duration::from_millis(200));
    let heard = hears_of_a_camera(&mut world, alice, bob, Duration::from_millis(200));
    assert_eq!(heard, (true, true), "it says that it is back after its two seconds");
}

#[test]
fn who_joins_for_the_first_time_or_runs_another_sdk_hears_at_once() {
    for (sdk, returned) in [(Sdk::Js, false), (Sdk::Python, true), (Sdk::Rust, true)] {
        let (mut world, alice, bob) = joins(sdk, returned);
        world.run(Duration::from_millis(20));
        assert_eq!(published(&world, bob), 1, "{sdk:?} {returned}");
        let span = Duration::from_millis(200);
        let heard = hears_of_a_camera(&mut world, alice, bob, span);
        assert_eq!(heard, (true, true), "{sdk:?} {returned}");
    }
}

#[test]
fn who_left_in_the_meantime_is_told_as_gone() {
    let (mut world, alice, bob) = joins(Sdk::Js, true);
    world.until("it may say that it is back", |world| published(world, bob) == 1);
    world.signal(alice, proto::signal_request::Message::Leave(proto::LeaveRequest::default()));
    world.run(Duration::from_millis(500));
    assert!(world.clients[bob].updates().iter().all(|info| info.state() != GONE));
    world.until("bob is told", |world| {
        world.clients[bob].updates().iter().any(|info| info.state() == GONE)
    });
}

const GONE: proto::participant_info::State = proto::participant_info::State::Disconnected;

//! Somebody joins, and the media never comes up: whoever is there and says so has a minute, a silent one a quarter of that.
#![allow(dead_code, reason = "the world is shared with other tests")]

mod world;

use std::time::Duration;

use outlast_livekit as proto;
use proto::{
    DisconnectReason, leave_request::Action, participant_info::State,
    signal_request::Message as Request,
};
use world::World;

/// Alice, who is connected and says nothing from then on, and bob, whose datagrams all get lost from the start.
fn joins() -> (World, usize, usize) {
    let mut world = World::new();
    let alice = world.join("room", "alice");
    world.until("alice is connected", |world| world.clients[alice].connected);
    let bob = world.join("room", "bob");
    world.clients[bob].unplugged = true;
    (world, alice, bob)
}

/// What alice was told of bob last.
fn seen(world: &World, alice: usize) -> State {
    let updates = world.clients[alice].updates();
    updates.iter().rfind(|info| info.identity == "bob").expect("she was told of him").state()
}

fn is_in(world: &World, alice: usize, bob: usize) -> bool {
    let here = !world.clients[bob].closed;
    assert_eq!(seen(world, alice) != State::Disconnected, here, "alice sees what is");
    assert_eq!(world.shard.participants(), if here { 2 } else { 1 });
    here
}

#[test]
fn who_says_nothing_and_does_not_connect_is_gone_after_fifteen_seconds_and_may_come_again() {
    let (mut world, alice, bob) = joins();
    world.run(Duration::from_millis(14_900));
    assert!(is_in(&world, alice, bob));
    world.run(Duration::from_millis(400));
    assert!(!is_in(&world, alice, bob));
    // A message that arrived after all would end its call for good, when it may just have been cut off.
    assert_eq!(world.clients[bob].leave(), None);
    world.run(Duration::from_secs(15));
    assert!(!world.clients[alice].closed, "whose media is up may be silent");
}

#[test]
fn who_pings_may_take_a_minute_to_connect_and_is_told_that_it_has_failed() {
    let (mut world, alice, bob) = joins();
    for second in 0..59 {
        assert!(is_in(&world, alice, bob), "after {second} s");
        world.signal(bob, Request::PingReq(proto::Ping::default()));
        world.run(Duration::from_secs(1));
    }
    assert_eq!(world.clients[bob].leave(), None);
    world.run(Duration::from_millis(1_400));
    assert!(!is_in(&world, alice, bob));
    let leave = world.clients[bob].leave().expect("it is told");
    let told = (leave.action(), leave.reason());
    assert_eq!(told, (Action::Disconnect, DisconnectReason::JoinFailure));
}

#[test]
fn the_fifteen_seconds_begin_with_the_last_word() {
    let (mut world, alice, bob) = joins();
    world.run(Duration::from_secs(10));
    world.signal(bob, Request::PingReq(proto::Ping::default()));
    world.run(Duration::from_millis(14_900));
    assert!(is_in(&world, alice, bob));
    world.run(Duration::from_millis(400));
    assert!(!is_in(&world, alice, bob));
    assert_eq!(world.clients[bob].leave(), None);
}

//! What the server API has said of people's rights goes along with them.

use outlast_gateway_core::{Goal, Input, Output, StreamEvent};
use outlast_model::{Generation, Ruling, RulingVersion};
use outlast_wire::RoomFrame;

use crate::world::{Setup, World};

/// What `node` says of ann in `room` under `generation`: the first and only permission byte, or that her stay is over.
fn rules(world: &mut World, node: &str, room: &str, generation: u64, permission: Option<u8>) {
    let (room, generation) = (room.into(), Generation(generation));
    let ruling = permission.map(|byte| Ruling {
        version: RulingVersion { generation: Generation(1), count: byte.into() },
        permission: [byte].into(),
    });
    let identity = "ann".into();
    let frame = RoomFrame::Ruled { room, generation, identity, ruling };
    world.stream(node, StreamEvent::Frame(frame));
}

/// The permission that goes with somebody who comes to `room` now.
fn carried(world: &mut World, client: &str, room: &str, goal: Goal) -> Option<u8> {
    let ask = world.wish(client, room, goal, None);
    let said = world.said.iter().rev().find_map(|(_, output)| match output {
        Output::Go { ask: of, ruling, .. } if of.0 == ask => Some(ruling.clone()),
        _ => None,
    });
    said.expect("a node").map(|ruling| ruling.permission[0])
}

fn joins(world: &mut World, client: &str, room: &str) -> Option<u8> {
    carried(world, client, room, Goal::Join)
}

#[test]
fn a_ruling_goes_with_each_join_of_its_identity_and_outlives_the_home() {
    let mut world = World::new(&Setup::default());
    world.hosts("eu-1", "a", 1);
    rules(&mut world, "eu-1", "a", 1, Some(1));
    rules(&mut world, "eu-1", "a", 1, Some(2));
    assert_eq!(joins(&mut world, "ann", "a"), Some(2), "also to a home that knows it itself");
    assert_eq!(joins(&mut world, "bob", "a"), None);
    assert_eq!(carried(&mut world, "ann", "a", Goal::Resume), None, "she is still there");
    world.silence("eu-1");
    world.run(3_000);
    assert_eq!(joins(&mut world, "ann", "a"), Some(2));
    // The new home is opened by somebody else, and ann's ruling is not known there before she comes.
    world.hosts("eu-2", "a", 2);
    world.run(130_000);
    assert_eq!(joins(&mut world, "ann", "a"), Some(2));
    world.handle(Input::Deleted { room: "a".into() });
    assert_eq!(joins(&mut world, "ann", "a"), None);
}

#[test]
fn a_stay_is_over_when_the_home_that_counts_says_so() {
    let mut world = World::new(&Setup::default());
    world.hosts("eu-1", "a", 1);
    rules(&mut world, "eu-1", "a", 1, Some(1));
    world.hosts("eu-2", "a", 2);
    rules(&mut world, "eu-2", "a", 2, Some(1));
    rules(&mut world, "eu-1", "a", 1, None);
    assert_eq!(joins(&mut world, "ann", "a"), Some(1), "not there any more");
    rules(&mut world, "eu-2", "a", 2, None);
    assert_eq!(
        joins(&mut world, "ann", "a"),
        Some(1),
        "the other has the room still, and may have her"
    );
    world.loses("eu-1", "a", 1);
    rules(&mut world, "eu-2", "a", 2, None);
    assert_eq!(joins(&mut world, "ann", "a"), Some(1), "she may be on the way from there");
    world.run(5_000);
    rules(&mut world, "eu-2", "a", 2, None);
    assert_eq!(joins(&mut world, "ann", "a"), None);
    rules(&mut world, "eu-1", "a", 1, Some(1));
    assert_eq!(joins(&mut world, "ann", "a"), None, "it has not heard of that");
}

#[test]
fn rulings_of_a_room_that_is_over_go_soon_and_of_one_that_is_lost_stay() {
    let mut world = World::new(&Setup::default());
    for room in ["over", "lost"] {
        world.hosts("eu-1", room, 1);
        rules(&mut world, "eu-1", room, 1, Some(1));
    }
    world.closes("eu-1", "over", 1);
    world.loses("eu-1", "lost", 1);
    world.run(4_000);
    assert_eq!(joins(&mut world, "ann", "over"), Some(1), "its news may be late");
    world.run(2_000);
    assert_eq!(joins(&mut world, "ann", "over"), None);
    assert_eq!(joins(&mut world, "ann", "lost"), Some(1));
    world.run(601_000);
    assert_eq!(joins(&mut world, "ann", "lost"), None);
}

#[test]
fn a_stream_that_begins_anew_names_what_is_left() {
    let mut world = World::new(&Setup::default());
    for (node, room, generation) in [("eu-1", "a", 1), ("eu-1", "b", 1), ("eu-2", "c", 1)] {
        world.hosts(node, room, generation);
        rules(&mut world, node, room, generation, Some(1));
    }
    // Long enough after the start to send people on while a stream is not whole.
    world.run(3_000);
    // Its next home, which has not seen ann.
    world.hosts("eu-1", "c", 2);
    world.stream("eu-1", StreamEvent::Lost);
    world.connects("eu-1", 1);
    for (room, generation) in [("a", 1), ("b", 1), ("c", 2)] {
        world.hosts("eu-1", room, generation);
    }
    rules(&mut world, "eu-1", "a", 1, Some(1));
    assert_eq!(joins(&mut world, "ann", "b"), Some(1), "it may come yet");
    world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
    assert_eq!(joins(&mut world, "ann", "a"), Some(1));
    assert_eq!(joins(&mut world, "ann", "b"), None, "she has left meanwhile");
    assert_eq!(joins(&mut world, "ann", "c"), Some(1), "another home said so");
}

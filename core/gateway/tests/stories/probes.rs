//! Rooms that the directory says nothing of: the first nodes of the ranking are asked before they are placed.

use std::time::Duration;

use outlast_gateway_core::Output;

use crate::{
    engine::Way,
    world::{Setup, World},
};

const NODES: [&str; 6] = ["ap-1", "ap-2", "eu-1", "eu-2", "us-1", "us-2"];

fn world() -> World {
    World::new(&Setup { directory: Some(true), nodes: &NODES, ..Setup::default() })
}

/// The directory counts as away.
fn without_directory() -> World {
    let mut world = world();
    world.parts[0].way = Way::Refuses;
    world.run(5_000);
    assert_eq!(world.role.facts(world.now).directory_away, 1);
    world.said.clear();
    world
}

/// Who was asked whether it has `room`, first things first.
fn asked<'w>(world: &'w World, room: &str) -> Vec<&'w str> {
    let probes = world.said.iter().filter_map(|(_, output)| match output {
        Output::Probe { node, probe } if probe.room.as_str() == room => Some(node.as_str()),
        _ => None,
    });
    probes.collect()
}

/// The nodes that are asked for `room`, in the order of the ranking.
fn ranking(room: &str) -> Vec<String> {
    let mut world = without_directory();
    world.join(room);
    asked(&world, room).into_iter().map(str::to_owned).collect()
}

#[test]
fn four_nodes_are_asked_and_the_first_gets_a_room_that_none_has() {
    let mut world = without_directory();
    let ask = world.join("a");
    assert_eq!(world.went(ask), None);
    // Whoever comes while it is asked waits with the first, and causes no questions.
    let second = world.join("a");
    let nodes = ranking("a");
    assert_eq!((asked(&world, "a").len(), nodes.len()), (4, 4));
    world.run(29);
    assert_eq!(world.went(ask), None);
    world.run(1);
    assert_eq!(world.went(ask), Some((nodes[0].as_str(), 1, false)));
    assert_eq!(world.went(second), world.went(ask));
    let facts = world.role.facts(world.now);
    assert_eq!((facts.provisional, facts.probes_found), (1, 0));
}

/// Another gateway, with other nodes in its configuration, has placed the room, and its node's stream has not said so yet.
#[test]
fn whoever_has_it_keeps_it() {
    let nodes = ranking("a");
    let mut world = without_directory();
    world.node(&nodes[2]).unnamed.insert("a".to_owned(), 3);
    world.node(&nodes[3]).latency = Duration::from_millis(60);
    let ask = world.join("a");
    world.run(30);
    assert_eq!(world.went(ask), Some((nodes[2].as_str(), 3, false)), "nobody else is waited for");
    let facts = world.role.facts(world.now);
    assert_eq!((facts.provisional, facts.probes_found), (0, 1));
}

#[test]
fn a_node_that_does_not_answer_is_not_waited_for_any_longer_than_150_ms() {
    let nodes = ranking("a");
    let mut world = without_directory();
    world.silence(&nodes[1]);
    let ask = world.join("a");
    world.run(149);
    assert_eq!(world.went(ask), None);
    world.run(1);
    assert_eq!(world.went(ask), Some((nodes[0].as_str(), 1, false)));
    // What comes later is of no use, and no harm.
    world.node(&nodes[0]).latency = Duration::from_millis(200);
    world.join("b");
    world.run(1_000);
    assert_eq!(world.role.facts(world.now).asks, 2);
}

#[test]
fn a_room_s_own_stream_counts_more_than_an_answer() {
    let nodes = ranking("a");
    let mut world = without_directory();
    let ask = world.join("a");
    world.run(10);
    world.hosts(&nodes[5 % nodes.len()], "a", 7);
    world.run(20);
    assert_eq!(world.went(ask), Some((nodes[5 % nodes.len()].as_str(), 7, true)));
}

#[test]
fn while_the_directory_is_late_the_nodes_answer_within_its_time() {
    let nodes = ranking("a");
    let mut world = world();
    world.node(&nodes[1]).unnamed.insert("a".to_owned(), 2);
    world.parts[0].way = Way::Black;
    let ask = world.join("a");
    world.run(249);
    assert_eq!(asked(&world, "a"), Vec::<&str>::new(), "it may still answer");
    world.run(2);
    assert_eq!(asked(&world, "a").len(), 4);
    world.run(148);
    assert_eq!(world.went(ask), None, "the directory may know better");
    world.run(1);
    assert_eq!(world.went(ask), Some((nodes[1].as_str(), 2, false)));
    // One that answers in time is what counts.
    let mut world = self::world();
    world.parts[0].way = Way::Up(300);
    world.node(&nodes[1]).unnamed.insert("a".to_owned(), 2);
    let ask = world.join("a");
    world.run(300);
    assert!(world.went(ask).is_some());
    assert_eq!(world.role.facts(world.now).provisional, 0);
}

#[test]
fn nobody_is_asked_where_the_directory_answers_or_the_room_is_known() {
    let mut world = world();
    let ask = world.join("a");
    world.run(500);
    assert!(world.went(ask).is_some());
    let nodes = ranking("b");
    world.parts[0].way = Way::Refuses;
    world.hosts(&nodes[0], "b", 1);
    world.run(5_000);
    // Its home is gone: it moves as fast as it can.
    world.silence(&nodes[0]);
    world.run(5_000);
    let ask = world.join("b");
    assert_eq!(world.went(ask).map(|(_, generation, _)| generation), Some(2));
    assert_eq!((asked(&world, "a").len(), asked(&world, "b").len()), (0, 0));
}

//! Claims whose answer comes late or never, and what has become of the room or its node meanwhile.

use std::time::Duration;

use outlast_directory::{DEADLINE_MIN, Request};
use outlast_gateway_core::{Health, Input, NodeRefusal, Output};

use crate::{
    claims::{end, place, sent, world},
    engine::Way,
    world::{Setup, World},
};

#[test]
fn a_late_answer_is_not_waited_for_and_sorts_itself_out() {
    let mut world = world();
    world.parts[0].way = Way::Up(700);
    let (asked, ask) = (world.now, world.join("a"));
    world.run(399);
    assert_eq!(world.went(ask), None);
    world.run(1);
    let (node, generation, _) = world.went(ask).unwrap();
    assert_eq!((world.now.since(asked), generation), (DEADLINE_MIN, 1));
    let node = node.to_owned();
    assert_eq!(world.role.facts(world.now).provisional, 1);
    world.parts[0].way = Way::Up(20);
    world.admit(ask, "a");
    world.hosts(&node, "a", 1);
    world.run(2_000);
    assert_eq!(world.held("a"), Some((node.as_str(), 1)));
    // Nobody is sent a second time to a node that has refused.
    world.parts[0].way = Way::Up(700);
    let ask = world.join("refused");
    world.run(400);
    let first = world.went(ask).unwrap().0.to_owned();
    world.refuse(ask, NodeRefusal::Full);
    world.run(400);
    assert!(world.went(ask).is_some_and(|(second, ..)| second != first));
    assert_eq!(sent(&world, "refused"), 2);
    world.parts[0].way = Way::Up(20);
    world.run(3_000);
    // An answer that never comes, to a claim that was applied: asked again, and found.
    world.parts[0].way = Way::Mute;
    let ask = world.join("b");
    world.run(400);
    let node = world.went(ask).unwrap().0.to_owned();
    world.parts[0].way = Way::Up(20);
    world.hosts(&node, "b", 1);
    world.run(3_000);
    assert_eq!(world.held("b").unwrap().0, node);
}

/// Seed 833554: a room was claimed anew for the node that had hosted it when it was claimed first.
#[test]
fn a_claim_that_is_tried_again_is_for_a_node_that_takes_rooms_by_then() {
    let mut world = world();
    world.parts[0].way = Way::Up(300);
    end(&mut world, "a", 4);
    let ask = world.join("a");
    let Some((_, Request::Place { want, .. })) = world.requests.last() else { unreachable!() };
    let first = want.node.to_string();
    world.node(&first).draining = true;
    world.run(395);
    assert_eq!((world.went(ask), sent(&world, "a")), (None, 2), "fenced, and asked again");
    world.run(300);
    let (second, generation, _) = world.went(ask).unwrap();
    assert!(second != first && generation == 5);
}

#[test]
fn a_directory_that_becomes_slow_delays_joins_until_it_counts_as_away_and_then_as_long_as_nodes_take()
 {
    let mut world = world();
    world.parts[0].way = Way::Up(205);
    for n in 0..40 {
        world.join(&format!("before {n}"));
        world.run(300);
    }
    let budget = world.role.facts(world.now).directory_deadline;
    assert_eq!(budget, Duration::from_micros(512_500), "two and a half times what it takes");
    world.parts[0].way = Way::Up(800);
    let (slow, mut delays) = (world.now, Vec::new());
    for n in 0..40 {
        let (asked, ask) = (world.now, world.join(&format!("slow {n}")));
        while world.went(ask).is_none() {
            world.run(1);
        }
        delays.push((asked.since(slow), world.now.since(asked)));
        world.run(50);
    }
    // A round trip to the nodes.
    let usual = Duration::from_millis(30);
    let delayed: Vec<_> = delays.iter().filter(|(_, delay)| *delay != usual).collect();
    assert!((1..=3).contains(&delayed.len()), "{delayed:?}");
    let late = budget + Duration::from_millis(1);
    assert!(delayed.iter().all(|(_, delay)| *delay < late), "{delayed:?}");
    assert!(delayed.iter().all(|(asked, _)| asked.as_secs() < 3), "{delayed:?}");
    assert_eq!(world.role.facts(world.now).directory_away, 1);
}

#[test]
fn one_budget_is_for_all_tries_of_a_join() {
    let mut world = world();
    world.parts[0].way = Way::Up(300);
    place(&mut world, "a", "strange", 4);
    let ask = world.join("a");
    world.run(150);
    end(&mut world, "a", 8);
    world.run(449);
    assert_eq!(world.went(ask), None);
    world.run(1);
    assert_eq!(
        world.went(ask).unwrap().1,
        9,
        "above what is told, and without asking a third time"
    );
    assert_eq!(sent(&world, "a"), 2);
    world.parts[0].way = Way::Up(150);
    place(&mut world, "b", "strange", 4);
    let ask = world.join("b");
    world.run(100);
    end(&mut world, "b", 8);
    world.run(350);
    assert_eq!((world.went(ask).unwrap().1, sent(&world, "b")), (9, 3));
}

#[test]
fn news_of_the_room_overtake_the_answer() {
    let mut world = world();
    world.parts[0].way = Way::Up(200);
    let ask = world.join("a");
    world.run(50);
    world.hosts("us-1", "a", 3);
    world.run(150);
    assert_eq!(world.went(ask), Some(("us-1", 3, true)));
    world.parts[0].way = Way::Up(20);
    world.run(1_000);
    assert_eq!(world.held("a"), Some(("us-1", 3)), "and the directory hears of it");
}

/// Seed 157424: a gateway that had stood still sent people to a life of their room that it had just heard the end of.
#[test]
fn what_is_won_too_late_is_claimed_again() {
    let mut world = world();
    world.parts[0].way = Way::Up(200);
    let ask = world.join("a");
    world.run(50);
    // Another gateway has placed it under the same number, and moved it on.
    world.hosts("us-1", "a", 1);
    world.loses("us-1", "a", 1);
    world.run(160);
    assert_eq!(world.went(ask), None);
    world.run(200);
    assert_eq!(world.went(ask).map(|(_, generation, _)| generation), Some(2));
    assert_eq!(world.held("a").map(|(_, generation)| generation), Some(2));
}

#[test]
fn a_node_that_dies_while_its_claim_is_on_the_way_does_not_get_the_client() {
    let mut world = World::new(&Setup {
        nodes: &["eu-1", "us-1"],
        directory: Some(true),
        gateways: &[],
        shards: &[],
    });
    world.run(1_000);
    world.silence("eu-1");
    world.run(750);
    assert_eq!(world.health("eu-1"), Health::Alive);
    world.parts[0].way = Way::Up(240);
    let ask = world.join("a");
    world.handle(Input::ConnectionRefused { node: "eu-1".into() });
    world.run(200);
    assert_eq!(world.health("eu-1"), Health::Down);
    world.run(400);
    assert_eq!(world.went(ask), Some(("us-1", 2, false)));
    assert_eq!(world.held("a"), Some(("us-1", 2)));
    let goes = world.said.iter().filter(|(_, said)| matches!(said, Output::Go { .. })).count();
    assert_eq!(goes, 1);
}

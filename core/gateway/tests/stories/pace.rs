//! How fast those are told who have to come back.

use outlast_gateway_core::{Input, Why};

use crate::world::{Setup, World};

const NODES: [&str; 4] = ["eu-1", "eu-2", "us-1", "ap-1"];

/// Another gateway is there; every node says that it takes `joins_per_second`; many are at the first.
fn world(joins_per_second: u32) -> World {
    let setup = Setup { nodes: &NODES, gateways: &["us-g1"], ..Setup::default() };
    let mut world = World::new(&setup);
    for node in NODES {
        world.node(node).joins_per_second = joins_per_second;
    }
    for session in 0..9_000 {
        world.open(session, &format!("room {:03}", session % 300), "eu-1", 1);
    }
    world.run(3_000);
    world
}

/// Clients told in a second from now on.
fn told(world: &mut World) -> usize {
    let now = world.now;
    world.told(now);
    world.run(1_000);
    let told = world.told(now);
    assert!(told.iter().all(|(.., why)| [Why::NodeDown, Why::GatewayLeaving].contains(why)));
    told.len()
}

#[track_caller]
fn assert_pace(world: &mut World, expected: usize) {
    let told = told(world);
    assert!((expected - 2..=expected + 2).contains(&told), "{told} told, not {expected}");
}

#[test]
fn the_nodes_that_are_left_set_the_pace_and_the_gateways_share_it() {
    let mut world = world(1_000);
    world.silence("eu-1");
    world.run(2_500);
    // 60 % of three times a thousand, and there are two gateways.
    assert_pace(&mut world, 900);
    world.node("us-1").draining = true;
    world.run(1_000);
    assert_pace(&mut world, 600);
    // One that is full takes nobody either: a single node is left, and no gateway is slower than the least pace.
    world.node("ap-1").full = true;
    world.run(1_000);
    assert_pace(&mut world, 500);
    world.silence_gateway("us-g1");
    world.run(3_000);
    assert_pace(&mut world, 600);
}

#[test]
fn a_gateway_tells_no_more_than_can_come_back_through_it() {
    let mut world = world(100_000);
    world.silence("eu-1");
    world.run(2_500);
    assert_pace(&mut world, 2_000);
}

#[test]
fn nodes_that_do_not_say_what_they_take_count_for_the_default() {
    let mut world = world(0);
    world.node("us-1").joins_per_second = 2_500;
    world.silence("eu-1");
    world.run(2_500);
    assert_pace(&mut world, (2_500 + 2 * 250) * 6 / 10 / 2);
}

#[test]
fn a_gateway_that_stops_does_not_share_with_those_that_go_on() {
    let mut world = world(500);
    world.handle(Input::Drain);
    world.run(500);
    assert_pace(&mut world, 4 * 500 * 6 / 10);
}

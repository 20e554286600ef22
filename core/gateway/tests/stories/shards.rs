//! A directory in shards, one a region: the rooms of one that is away go to the next, and come home.

use crate::{
    claims::sent,
    engine::Way,
    world::{Setup, World},
};

const SHARDS: [&str; 3] = ["ap", "eu", "us"];

fn world() -> World {
    World::new(&Setup { directory: Some(true), shards: &SHARDS, ..Setup::default() })
}

/// A room that is kept in this shard, and the shard that is next.
fn room_of(first: usize) -> (String, usize) {
    let layout = crate::engine::layout(&SHARDS);
    let rooms = (0..).map(|n| format!("room-{n}"));
    let order = |room: &String| layout.order(World::key(room));
    let room = rooms.into_iter().find(|room| usize::from(order(room)[0].0) == first).unwrap();
    let second = usize::from(order(&room)[1].0);
    (room, second)
}

/// The shard is seen to be away.
fn lose(world: &mut World, shard: usize) {
    world.parts[shard].way = Way::Black;
    world.run(5_000);
    assert_eq!(world.role.facts(world.now).directory_away, 1);
}

#[test]
fn each_room_is_claimed_in_its_own_shard() {
    let mut world = world();
    for shard in 0..SHARDS.len() {
        let (room, _) = room_of(shard);
        let ask = world.join(&room);
        world.run(20);
        let (node, generation, _) = world.went(ask).unwrap();
        let node = node.to_owned();
        for other in 0..SHARDS.len() {
            let held = (other == shard).then_some((node.as_str(), generation));
            assert_eq!(world.held_at(other, &room), held);
        }
    }
}

#[test]
fn the_rooms_of_a_shard_that_is_away_are_claimed_in_the_next_and_come_home() {
    let mut world = world();
    lose(&mut world, 1);
    let (room, second) = room_of(1);
    let ask = world.join(&room);
    assert_eq!(world.went(ask), None, "somebody arbitrates still");
    world.run(20);
    let (node, generation, _) = world.went(ask).unwrap();
    let (node, provisional) = (node.to_owned(), world.role.facts(world.now).provisional);
    assert_eq!(world.held_at(second, &room), Some((node.as_str(), generation)));
    assert_eq!(provisional, 0);
    world.hosts(&node, &room, generation);
    // The others' rooms are where they were.
    let (other, _) = room_of(0);
    world.join(&other);
    world.run(20);
    assert!(world.held_at(0, &other).is_some());
    // The gateway has seen all of its own doing.
    world.run(5_000);

    world.parts[1].way = Way::Up(20);
    world.run(10_000);
    assert_eq!(world.role.facts(world.now).directory_away, 0);
    assert_eq!(world.held_at(1, &room), Some((node.as_str(), generation)));
    world.run(40_000);
    assert_eq!(world.held_at(second, &room), None, "nobody looks there any more");
    assert_eq!(world.held_at(1, &room), Some((node.as_str(), generation)));
}

#[test]
fn a_shard_that_comes_back_with_an_older_home_is_corrected() {
    let mut world = world();
    let (room, second) = room_of(1);
    let ask = world.join(&room);
    world.run(20);
    let (node, generation, _) = world.went(ask).unwrap();
    let first = node.to_owned();
    world.hosts(&first, &room, generation);
    lose(&mut world, 1);
    world.silence(&first);
    world.run(5_000);
    let ask = world.join(&room);
    world.run(100);
    let (node, higher, _) = world.went(ask).unwrap();
    let node = node.to_owned();
    assert!(node != first && higher > generation);
    assert_eq!(world.held_at(second, &room), Some((node.as_str(), higher)));
    assert_eq!(world.held_at(1, &room), Some((first.as_str(), generation)), "it is away");
    world.hosts(&node, &room, higher);
    world.parts[1].way = Way::Up(20);
    world.run(10_000);
    assert_eq!(world.held_at(1, &room), Some((node.as_str(), higher)));
}

#[test]
fn a_shard_that_is_wiped_is_told_its_own_rooms_and_no_others() {
    let mut world = world();
    for shard in 0..SHARDS.len() {
        let (room, _) = room_of(shard);
        let ask = world.join(&room);
        world.run(20);
        let (node, generation, _) = world.went(ask).unwrap();
        let node = node.to_owned();
        world.hosts(&node, &room, generation);
    }
    world.run(5_000);
    world.requests.clear();
    world.parts[1].table = outlast_directory::Table::new(outlast_directory::InstanceId(99));
    world.run(10_000);
    let (room, _) = room_of(1);
    assert!(world.held_at(1, &room).is_some());
    for shard in [0, 2] {
        assert_eq!(sent(&world, &room_of(shard).0), 0);
    }
}

#[test]
fn without_any_shard_rooms_are_placed_as_without_a_directory() {
    let mut world = world();
    for shard in 0..SHARDS.len() {
        world.parts[shard].way = Way::Refuses;
    }
    world.run(5_000);
    assert_eq!(world.role.facts(world.now).directory_away, 3);
    let (room, _) = room_of(2);
    let ask = world.join(&room);
    assert!(world.went(ask).is_some(), "nobody waits");
    assert_eq!(world.role.facts(world.now).provisional, 1);
}

//! A directory in shards, one a region: the rooms of one that is away go to the next, and come home.

use outlast_directory::Request;

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
    world.run(30);
    assert!(world.went(ask).is_some(), "nobody waits but for a word of the nodes");
    assert_eq!(world.role.facts(world.now).provisional, 1);
}

#[test]
fn each_shard_is_told_its_rooms_at_its_own_pace() {
    let mut world = world();
    let rooms: Vec<_> = (0..1_200).map(|n| format!("room-{n}")).collect();
    // One shard takes longer to answer than the others, and has as many announcements in its hands as it may.
    for (shard, way) in [(0, 20), (1, 390), (2, 20)] {
        world.parts[shard].way = Way::Up(way);
    }
    world.requests.clear();
    let began = world.now;
    for room in &rooms {
        world.hosts("eu-1", room, 1);
    }
    world.run(1_000);
    let layout = crate::engine::layout(&SHARDS);
    let own = |room| usize::from(layout.order(room)[0].0);
    let mut told = [[0; 20]; 3];
    for (at, request) in &world.requests {
        if let Request::Place { room, .. } = request {
            let batch = at.since(began).as_millis().saturating_sub(1) as usize / 50;
            told[own(*room)][batch.min(19)] += 1;
        }
    }
    let total = told.map(|batches| batches.iter().sum::<usize>());
    assert!(total[0] > 350 && total[2] > 350, "of some 400: {total:?}");
    assert!((64..=3 * 64).contains(&total[1]), "64 each 390 ms: {total:?}");
    assert!(told.iter().flatten().all(|batch| *batch <= 50), "{told:?}");
    world.run(10_000);
    let told = |room: &String| world.held_at(own(World::key(room)), room).is_some();
    assert!(rooms.iter().all(told));
}

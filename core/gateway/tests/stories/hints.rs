//! A gateway that begins anew with what it had on disk, while the directory is away: where it sends whom until the nodes have
//! named their rooms, and that everybody else's word counts more.

use std::time::Duration;

use outlast_gateway_core::{
    Goal, HINTS_KEPT, NodeRefusal, Output, SETTLE_MAX, SNAPSHOT_AGE_MAX, StreamEvent,
};
use outlast_model::{Epoch, Generation, RoomSettings, Ruling, RulingVersion, Time};
use outlast_wire::{ClusterTag, RoomFrame, Snapshot, SnapshotNode, SnapshotWriter};

use crate::{
    engine::Way,
    world::{Setup, World},
};

const CLUSTER: ClusterTag = ClusterTag(1);
const AGE: Duration = Duration::from_secs(6);

fn settings(max_participants: u32) -> RoomSettings {
    RoomSettings { max_participants, ..RoomSettings::default() }
}

fn ruling() -> Ruling {
    let version = RulingVersion { generation: Generation(5), count: 1 };
    Ruling { version, permission: [8, 1].into() }
}

/// `room` at `node` under generation 5, with settings and a ruling about the first client.
fn was(node: &str, room: &str) -> SnapshotNode {
    let hosted = RoomFrame::Hosted {
        room: room.into(),
        generation: Generation(5),
        settings: Some(settings(7)),
    };
    let ruled = RoomFrame::Ruled {
        room: room.into(),
        generation: Generation(5),
        identity: "client 1".into(),
        ruling: Some(ruling()),
    };
    SnapshotNode { id: node.into(), epoch: Epoch(1), frames: vec![hosted, ruled] }
}

/// A gateway that begins with this, `age` later; all of the directory is away, and nobody has been heard yet.
fn restarted(nodes: Vec<SnapshotNode>, ended: &[(&str, u64)], age: Duration) -> World {
    let setup = Setup { directory: Some(true), ..Setup::default() };
    let mut world = World::unheard(&setup, Time::from_millis(5_000));
    world.parts[0].way = Way::Black;
    let ended = ended.iter().map(|(room, generation)| ((*room).into(), Generation(*generation)));
    let snapshot = Snapshot { written_unix_ms: 0, nodes, ended: ended.collect() };
    world.role.restore(world.now, snapshot, age);
    world
}

fn begin(world: &mut World, node: &str) {
    world.connects(node, 1);
}

fn synced(world: &mut World, node: &str) {
    world.stream(node, StreamEvent::Frame(RoomFrame::Synced));
}

/// Whether the room's settings, and a ruling, went along with the last `Go` of `ask`.
fn went_with(world: &World, ask: u64) -> (bool, bool) {
    let mut said = world.said.iter().rev();
    let went = said.find_map(|(_, output)| match output {
        Output::Go { ask: of, settings, ruling, .. } if of.0 == ask => {
            Some((settings.is_some(), ruling.is_some()))
        }
        _ => None,
    });
    went.unwrap()
}

#[test]
fn who_joins_a_room_that_was_known_does_not_wait_until_all_nodes_have_spoken() {
    let mut world = restarted(vec![was("eu-2", "a")], &[], AGE);
    let (began, known) = (world.now, world.join("a"));
    let (back, new) = (world.ask("a", Goal::Resume), world.join("new"));
    assert_eq!(world.went(known), None, "whether the node lives is not in the snapshot");
    while world.went(known).is_none() {
        world.run(10);
    }
    assert!(world.now.since(began) < Duration::from_millis(900), "two beats of it, and a look");
    assert_eq!(world.went(known), Some(("eu-2", 5, true)));
    assert_eq!(went_with(&world, known), (false, true), "the home knows its settings");
    assert_eq!((world.went(back), world.went(new)), (world.went(known), None));
    assert!(!world.role.settled(world.now));
    world.run(2_000);
    assert!(world.went(new).is_some_and(|(_, generation, home)| (generation, home) == (1, false)));
    assert_eq!(world.role.facts(world.now).hints, 1);
    // The node's own word takes the place of the hint.
    begin(&mut world, "eu-2");
    world.hosts("eu-2", "a", 5);
    synced(&mut world, "eu-2");
    assert_eq!(world.role.facts(world.now).hints, 0);
    assert_eq!(world.place("a"), Some(("eu-2".to_owned(), 5, true)));
    // And is believed as fast, while others have not spoken.
    let mut world = restarted(vec![was("eu-2", "a")], &[], AGE);
    world.run(600);
    begin(&mut world, "eu-2");
    world.hosts("eu-2", "a", 5);
    synced(&mut world, "eu-2");
    assert!(!world.role.settled(world.now));
    assert_eq!(world.place("a"), Some(("eu-2".to_owned(), 5, true)));
    world.closes("eu-2", "a", 5);
    assert_eq!(world.place("a"), None);
}

#[test]
fn a_node_that_does_not_speak_for_long_keeps_its_rooms() {
    let mut world = restarted(vec![was("eu-2", "a")], &[], AGE);
    world.run(SETTLE_MAX.as_millis() as u64 + 10_000);
    assert!(world.role.settled(world.now));
    assert_eq!(world.place("a"), Some(("eu-2".to_owned(), 5, true)));
    world.run(HINTS_KEPT.as_millis() as u64);
    assert_eq!(world.role.facts(world.now).hints, 0);
    let ask = world.join("a");
    world.run(30);
    assert_eq!(world.went(ask).map(|(_, generation, _)| generation), Some(1));
}

#[test]
fn a_home_that_is_down_or_another_process_by_now_is_none_and_what_was_said_of_the_room_is_kept() {
    let check = |change: fn(&mut World)| {
        let mut world = restarted(vec![was("eu-2", "a")], &[], AGE);
        change(&mut world);
        let ask = world.join("a");
        world.run(3_000);
        // As if this gateway knew of none: a home that has not been heard yet is not superseded by it.
        let (node, generation, home) = world.went(ask).unwrap();
        assert!(node != "eu-2" || world.health("eu-2") == outlast_gateway_core::Health::Alive);
        assert_eq!((generation, home), (1, false));
        assert_eq!(went_with(&world, ask), (true, true));
    };
    check(|world| world.silence("eu-2"));
    check(|world| {
        world.start("eu-2", 2);
        world.connects("eu-2", 2);
        world.run(100);
        synced(world, "eu-2");
    });
    check(|world| world.node("eu-2").draining = true);
    // It lived, and has died since.
    check(|world| {
        world.run(900);
        assert!(world.role.resume(&"a".into()).is_ok());
        world.silence("eu-2");
        world.run(2_500);
    });
    // It has begun anew, and has not said more than that.
    check(|world| {
        world.start("eu-2", 2);
        world.run(2_000);
    });
}

#[test]
fn whatever_somebody_says_counts_more() {
    // Another node has it, under a higher generation.
    let mut world = restarted(vec![was("eu-2", "a")], &[], AGE);
    world.run(600);
    let ask = world.join("a");
    assert_eq!(world.went(ask), Some(("eu-2", 5, true)));
    begin(&mut world, "us-1");
    world.hosts("us-1", "a", 6);
    assert_eq!(world.went(ask), Some(("us-1", 6, true)), "also who is on the way");
    assert!(!world.role.settled(world.now));
    assert_eq!(world.place("a"), Some(("us-1".to_owned(), 6, true)));
    // Another node has it, under a lower one: it says so now, and what it is set to.
    let mut world = restarted(vec![was("eu-2", "a")], &[], AGE);
    world.run(600);
    begin(&mut world, "us-1");
    world.hosts_with("us-1", "a", 2, Some(settings(9)));
    synced(&mut world, "us-1");
    world.run(2_000);
    assert_eq!(world.place("a"), Some(("us-1".to_owned(), 2, true)));
    let set = world.role.view().settings(&"a".into()).unwrap();
    assert_eq!(set.max_participants, 9);
    // The node itself does not have it, and what was said of it is over with it.
    let mut world = restarted(vec![was("eu-2", "a")], &[], AGE);
    world.run(600);
    begin(&mut world, "eu-2");
    synced(&mut world, "eu-2");
    world.run(2_000);
    let ask = world.join("a");
    world.run(500);
    assert_eq!((world.went(ask).unwrap().1, went_with(&world, ask)), (1, (false, false)));
    // The node knows better, before it says so to everybody.
    let mut world = restarted(vec![was("eu-2", "a")], &[], AGE);
    world.run(600);
    let ask = world.join("a");
    world.refuse(ask, NodeRefusal::Stale(Generation(8)));
    assert_eq!(world.role.facts(world.now).hints, 0);
    world.run(2_500);
    assert_eq!(world.went(ask).unwrap().1, 9);
}

#[test]
fn a_room_that_left_its_home_for_one_that_has_lost_it_since_keeps_what_was_said() {
    // Of a higher number, or of the same: two gateways that did not hear each other had both moved it.
    for generation in [6, 5] {
        let mut world = restarted(vec![was("eu-2", "a")], &[], AGE);
        world.run(600);
        begin(&mut world, "us-1");
        world.hosts("us-1", "a", generation);
        synced(&mut world, "us-1");
        world.start("us-1", 2);
        world.run(500);
        begin(&mut world, "eu-2");
        synced(&mut world, "eu-2");
        world.run(2_000);
        let ask = world.join("a");
        world.run(500);
        let went = (world.went(ask).unwrap().1, went_with(&world, ask));
        assert_eq!(went, (generation + 1, (true, true)));
    }
}

#[test]
fn the_directory_counts_more_if_it_knows_a_later_home() {
    for (generation, hinted) in [(5, true), (6, false)] {
        let mut world = restarted(vec![was("eu-2", "a")], &[], AGE);
        world.parts[0].way = Way::Up(20);
        crate::claims::place(&mut world, "a", "us-1", generation);
        world.run(900);
        assert_eq!(world.place("a").is_some(), hinted, "{generation}");
        world.run(1_200);
        let ask = world.join("a");
        world.run(50);
        let home = if hinted { ("eu-2", 5, true) } else { ("us-1", 6, false) };
        assert_eq!(world.went(ask), Some(home));
    }
}

#[test]
fn a_room_that_had_ended_gets_no_number_that_it_had() {
    let mut world = restarted(vec![was("eu-2", "a")], &[("b", 3), ("a", 5)], AGE);
    world.run(3_000);
    for (room, generation) in [("b", 4), ("a", 6)] {
        let ask = world.join(room);
        world.run(500);
        assert_eq!(world.went(ask).map(|(_, generation, _)| generation), Some(generation));
    }
}

#[test]
fn a_snapshot_that_is_too_old_is_not_used_and_strangers_in_it_are_passed_over() {
    let mut world = restarted(vec![was("eu-2", "a")], &[("b", 3)], SNAPSHOT_AGE_MAX);
    world.run(600);
    assert_eq!((world.role.facts(world.now).hints, world.place("a")), (0, None));
    let mut world = restarted(vec![was("ap-9", "a"), was("eu-2", "b")], &[], AGE);
    world.run(600);
    assert_eq!((world.role.facts(world.now).hints, world.place("a")), (1, None));
    assert_eq!(world.place("b"), Some(("eu-2".to_owned(), 5, true)));
}

#[test]
fn what_is_remembered_in_pieces_of_any_size_is_what_is_restored() {
    let mut world = World::new(&Setup::default());
    for n in 0..40_u64 {
        let node = ["eu-1", "us-1"][n as usize % 2];
        let room = format!("room {n:02}");
        world.hosts_with(node, &room, n + 1, (n % 3 == 0).then(|| settings(9)));
        if n % 4 == 0 {
            let (room, generation) = (room.as_str().into(), Generation(n + 1));
            let identity = "client 1".into();
            let frame = RoomFrame::Ruled { room, generation, identity, ruling: Some(ruling()) };
            world.stream(node, StreamEvent::Frame(frame));
        }
    }
    for n in 0..20 {
        world.hosts("eu-2", &format!("over {n:02}"), n + 1);
        world.closes("eu-2", &format!("over {n:02}"), n + 1);
    }
    // Of two homes the one that counts is remembered.
    world.hosts("us-1", "room 00", 30);
    let whole = |count| {
        let mut writer = SnapshotWriter::new(CLUSTER, 5);
        let (mut from, mut pieces) = (None, 0);
        while let Some(next) = world.role.remember(from.take(), count, &mut writer) {
            from = Some(next);
            pieces += 1;
        }
        let snapshot = Snapshot::decode(&writer.finish(), CLUSTER).unwrap();
        let frames = snapshot.nodes.iter().flat_map(|node| node.frames.iter().cloned());
        (pieces, frames.collect::<Vec<_>>(), snapshot)
    };
    let (pieces, frames, snapshot) = whole(1_000);
    assert_eq!((pieces, frames.len(), snapshot.ended.len()), (7, 40 + 10, 20));
    let (many, same, _) = whole(3);
    assert!(many > 20 && same == frames, "{many}");
    let mut next = World::unheard(&Setup::default(), Time::from_millis(5_000));
    assert_eq!(next.role.restore(next.now, snapshot, AGE), 40);
    next.run(900);
    assert_eq!(next.place("room 00"), Some(("us-1".to_owned(), 30, true)));
    assert_eq!(next.place("room 38"), Some(("eu-1".to_owned(), 39, true)));
    // Of a room with two homes a ruling is only over when it is at the one that has said it.
    next.connects("us-1", 1);
    next.hosts("us-1", "room 00", 30);
    synced(&mut next, "us-1");
    assert_eq!(next.role.view().ruling(&"room 00".into(), &"client 1".into()), Some(&ruling()));
}

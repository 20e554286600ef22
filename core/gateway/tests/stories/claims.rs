//! The directory: who wins a room, what is done without it, and that it is right again soon.

use std::time::Duration;

use outlast_directory::{
    InstanceId, NodeSummary, Placed, PlacementId, Record, Reply, Request, Summary, Table,
};
use outlast_gateway_core::{Goal, Health, NodeRefusal, StreamEvent, Unplaced};
use outlast_model::{Epoch, Generation};
use outlast_wire::RoomFrame;

use crate::{
    engine::Way,
    world::{SELF, Setup, World},
};

/// With a directory that answers at once.
pub(crate) fn world() -> World {
    World::new(&Setup { directory: Some(true), ..Setup::default() })
}

/// Another gateway has claimed `room`.
pub(crate) fn place(world: &mut World, room: &str, node: &str, generation: u64) {
    let want = Record {
        node: node.into(),
        epoch: Epoch(1),
        generation: Generation(generation),
        id: PlacementId(u128::from(generation) + 1_000_000),
        provisional: false,
    };
    let request = Request::Place { room: World::key(room), want };
    let reply = world.parts[0].table.apply(world.now, &request);
    assert!(matches!(reply, Reply::Placed(Placed::Won(_))), "{reply:?}");
}

/// Another gateway has ended `room`.
pub(crate) fn end(world: &mut World, room: &str, generation: u64) {
    let request = Request::End { room: World::key(room), generation: Generation(generation) };
    assert_eq!(world.parts[0].table.apply(world.now, &request), Reply::Done);
}

/// How often the directory was asked about `room`.
pub(crate) fn sent(world: &World, room: &str) -> usize {
    let key = World::key(room);
    let about = |request: &Request| match request {
        Request::Place { room, .. } | Request::Replace { room, .. } | Request::End { room, .. } => {
            *room == key
        }
        _ => false,
    };
    world.requests.iter().filter(|(_, request)| about(request)).count()
}

#[test]
fn one_claim_for_however_many_join_at_once() {
    let mut world = world();
    let asks: Vec<_> = (0..50).map(|_| world.join("a")).collect();
    assert!(asks.iter().all(|ask| world.went(*ask).is_none()));
    world.run(20);
    let first = world.went(asks[0]).unwrap();
    assert!(first.0.starts_with("eu") && first.1 == 1 && !first.2, "the nearest region: {first:?}");
    assert!(asks.iter().all(|ask| world.went(*ask) == Some(first)));
    assert_eq!((sent(&world, "a"), world.held("a")), (1, Some((first.0, 1))));
    let later = world.join("a");
    assert_eq!(world.went(later), world.went(asks[0]), "without asking");
    let facts = world.role.facts(world.now);
    assert_eq!((facts.provisional, facts.asks), (0, 51));
}

#[test]
fn new_rooms_go_to_the_nearest_region_that_takes_them() {
    let nodes = &["ap-1", "eu-1", "us-1"];
    let mut world = World::new(&Setup { nodes, directory: Some(true), gateways: &[], shards: &[] });
    world.node("ap-1").latency = Duration::from_millis(120);
    world.node("eu-1").latency = Duration::from_millis(60);
    world.run(20_000);
    let goes = |world: &mut World, room: &str| {
        let ask = world.join(room);
        world.run(20);
        world.went(ask).unwrap().0.to_owned()
    };
    assert_eq!(goes(&mut world, "a"), "eu-1", "one's own, however slow");
    world.node("eu-1").full = true;
    world.run(500);
    assert_eq!(goes(&mut world, "b"), "us-1");
    world.silence("us-1");
    world.run(3_000);
    assert_eq!(goes(&mut world, "c"), "ap-1");
}

#[test]
fn a_new_room_is_near_its_first_client_and_others_follow() {
    let nodes = &["ap-1", "eu-1", "us-1"];
    let mut world = World::new(&Setup { nodes, directory: Some(true), gateways: &[], shards: &[] });
    let goes = |world: &mut World, ask: u64| {
        world.run(20);
        world.went(ask).unwrap().0.to_owned()
    };
    let far = world.wish("someone", "a", Goal::Join, Some("ap"));
    assert_eq!(goes(&mut world, far), "ap-1");
    let next = world.wish("someone", "a", Goal::Join, Some("us"));
    assert_eq!(goes(&mut world, next), "ap-1", "the room is there");
    // What is near takes no rooms, or is no region of ours: this gateway's own is next.
    world.node("ap-1").full = true;
    world.run(500);
    for (room, near) in [("b", "ap"), ("c", "mars")] {
        let ask = world.wish("someone", room, Goal::Join, Some(near));
        assert_eq!(goes(&mut world, ask), "eu-1");
    }
}

#[test]
fn who_was_faster_keeps_the_room() {
    let mut world = world();
    place(&mut world, "a", "us-1", 1);
    let ask = world.join("a");
    world.run(20);
    assert_eq!((world.went(ask), sent(&world, "a")), (Some(("us-1", 1, false)), 1));
    // Also at the very node that this gateway would have chosen, which is most likely.
    let (node, ..) = {
        let ask = world.join("b");
        world.run(20);
        world.went(ask).map(|(node, generation, _)| (node.to_owned(), generation)).unwrap()
    };
    world.run(6_000);
    world.parts[0].table = Table::new(InstanceId(1));
    place(&mut world, "b", &node, 1);
    let ask = world.join("b");
    world.run(20);
    assert_eq!(world.went(ask), Some((node.as_str(), 1, false)));
}

#[test]
fn what_is_held_where_nobody_is_or_where_it_has_ended_is_superseded() {
    let mut world = world();
    world.silence("us-1");
    world.run(3_000);
    assert_eq!(world.health("us-1"), Health::Down);
    place(&mut world, "a", "us-1", 4);
    place(&mut world, "b", "strange", 4);
    for room in ["a", "b"] {
        let ask = world.join(room);
        world.run(40);
        let (node, generation, home) = world.went(ask).unwrap();
        assert_eq!((generation, home), (5, false));
        assert_eq!(world.held(room), Some((node, 5)));
    }
    // This gateway has heard of the room's end, and the directory has not yet.
    place(&mut world, "c", "eu-1", 2);
    world.hosts("eu-1", "c", 2);
    world.closes("eu-1", "c", 2);
    let ask = world.join("c");
    world.run(40);
    assert_eq!(world.went(ask).unwrap().1, 3);
    // And the other way round.
    place(&mut world, "d", "eu-1", 8);
    end(&mut world, "d", 8);
    let ask = world.join("d");
    world.run(40);
    let (node, generation, _) = world.went(ask).unwrap();
    assert_eq!((generation, world.held("d")), (9, Some((node, 9))));
}

/// Seed 722347: a gateway had moved a room to where nobody came, and sent people there a minute later, past those who were in it.
#[test]
fn what_nobody_came_to_does_not_count_when_only_this_gateway_has_written_it() {
    for arbitrated in [true, false] {
        let mut world = World::new(&Setup { directory: Some(arbitrated), ..Setup::default() });
        world.hosts("us-1", "a", 1);
        world.hosts("eu-1", "a", 2);
        world.run(1_000);
        world.silence("eu-1");
        world.run(3_000);
        end(&mut world, "a", 2);
        place(&mut world, "a", "eu-2", 3);
        let ask = world.join("a");
        world.run(50);
        // Others may be on their way to where another gateway has placed it.
        let went = if arbitrated { ("eu-2", 3, false) } else { ("us-1", 4, false) };
        assert_eq!(world.went(ask), Some(went));
    }
}

#[test]
fn a_node_that_refuses_what_it_was_given_loses_it_to_the_next() {
    let mut world = world();
    let ask = world.join("a");
    world.run(20);
    let first = world.went(ask).map(|(node, ..)| node.to_owned()).unwrap();
    world.refuse(ask, NodeRefusal::Full);
    world.run(20);
    let (second, generation, _) = world.went(ask).unwrap();
    assert!(second != first && generation == 2);
    assert_eq!((world.held("a"), sent(&world, "a")), (Some((second, 2)), 2), "in one call");
    // Another gateway's choice as well.
    place(&mut world, "b", "us-1", 1);
    let ask = world.join("b");
    world.run(20);
    world.refuse(ask, NodeRefusal::Busy);
    world.run(40);
    let (node, generation, _) = world.went(ask).unwrap();
    assert!(node != "us-1" && generation == 2);
}

#[test]
fn without_a_directory_rooms_are_placed_after_a_word_of_the_nodes_and_announced_when_it_is_back() {
    for way in [Way::Refuses, Way::Black] {
        let mut world = world();
        world.hosts("us-1", "old", 1);
        world.run(1_000);
        assert_eq!(world.held("old"), Some(("us-1", 1)));
        world.parts[0].way = way;
        let first = world.join("a");
        world.run(2_500);
        assert!(world.went(first).is_some() && world.role.facts(world.now).directory_away == 1);
        // Nobody waits for a directory that is away, but for the nodes.
        for n in 0..300 {
            let room = format!("room {n:03}");
            let ask = world.join(&room);
            world.run(30);
            let node = world.went(ask).unwrap().0.to_owned();
            world.admit(ask, &room);
            world.hosts(&node, &room, 1);
        }
        assert_eq!(world.held("room 000"), None);
        // One of them ends, and the old one moves, while nobody can be told.
        let node = world.role.view().home(&"room 007".into()).unwrap().node.to_string();
        world.closes(&node, "room 007", 1);
        world.hosts("eu-2", "old", 2);
        world.run(20_000);
        world.requests.clear();
        let back = world.now;
        world.parts[0].way = Way::Up(20);
        while (0..300).any(|n| n != 7 && world.held(&format!("room {n:03}")).is_none())
            || world.held("old") != Some(("eu-2", 2))
        {
            world.run(50);
            assert!(world.now.since(back).as_secs() < 10, "right again within 10 s");
        }
        assert_eq!(world.held("room 007"), None);
        assert_eq!(world.role.facts(world.now).directory_away, 0);
        assert_eq!(world.role.facts(world.now).told, [0; 7], "no session was touched");
        world.run(5_000);
        assert_eq!(sent(&world, "room 100"), 1);
    }
}

#[test]
fn a_wiped_directory_is_filled_again_within_ten_seconds() {
    let mut world = world();
    for n in 0..400 {
        world.hosts(["eu-1", "eu-2", "us-1"][n % 3], &format!("room {n:03}"), 1 + n as u64 % 5);
    }
    world.run(5_000);
    assert_eq!(world.parts[0].table.rooms(), 400);
    let wiped = world.now;
    world.parts[0].table = Table::new(InstanceId(2));
    while world.parts[0].table.rooms() < 400 {
        world.run(50);
        assert!(world.now.since(wiped).as_secs() < 10);
    }
    for n in 0..400 {
        let node = ["eu-1", "eu-2", "us-1"][n % 3];
        assert_eq!(world.held(&format!("room {n:03}")), Some((node, 1 + n as u64 % 5)));
    }
    // Paced: whatever has just come back is not run over.
    let refill: Vec<_> = world.requests.iter().filter(|(at, _)| *at > wiped).collect();
    let most = refill.iter().map(|(at, _)| {
        let second = |other: &outlast_model::Time| other >= at && other.since(*at).as_millis() < 50;
        refill.iter().filter(|(other, _)| second(other)).count()
    });
    assert!(most.max().unwrap() <= 60);
    // A directory that was wiped while it was away.
    world.parts[0].way = Way::Refuses;
    world.run(5_000);
    world.parts[0].table = Table::new(InstanceId(3));
    world.parts[0].way = Way::Up(20);
    world.run(10_000);
    assert_eq!(world.parts[0].table.rooms(), 400);
}

#[test]
fn what_ends_is_ended_in_the_directory_and_nothing_newer_is() {
    let mut world = world();
    let ask = world.join("a");
    world.run(20);
    let node = world.went(ask).unwrap().0.to_owned();
    world.admit(ask, "a");
    world.hosts(&node, "a", 1);
    world.run(1_000);
    world.closes(&node, "a", 1);
    world.run(200);
    assert_eq!((world.held("a"), world.parts[0].table.tombstones()), (None, 1));
    // Another gateway was faster with a new life than this one with the end of the old.
    let ask = world.join("b");
    world.run(20);
    let node = world.went(ask).unwrap().0.to_owned();
    world.hosts(&node, "b", 1);
    end(&mut world, "b", 1);
    place(&mut world, "b", "us-1", 2);
    world.closes(&node, "b", 1);
    world.run(1_000);
    assert_eq!(world.held("b"), Some(("us-1", 2)));
    // Nobody came to a room that was claimed. Whoever does not hear the node does not know that.
    let ask = world.join("c");
    world.run(20);
    let (node, ..) = world.went(ask).unwrap();
    let node = node.to_owned();
    world.stream(&node, StreamEvent::Lost);
    world.withdraw(ask);
    world.run(20_000);
    assert!(world.held("c").is_some());
    world.connects(&node, 1);
    world.stream(&node, StreamEvent::Frame(RoomFrame::Synced));
    let ask = world.join("d");
    world.run(20);
    assert!(world.held("d").is_some());
    world.withdraw(ask);
    world.run(7_000);
    assert_eq!(world.held("d"), None);
    world.run(310_000);
    assert_eq!(world.held("c"), None);
}

#[test]
fn a_directory_that_is_wrong_is_put_right_and_a_quarrel_ends() {
    let mut world = world();
    place(&mut world, "a", "us-1", 7);
    end(&mut world, "b", 5);
    world.requests.clear();
    world.hosts("eu-1", "a", 3);
    world.hosts("eu-1", "b", 3);
    world.run(2_000);
    // A claim must get past what is held, or fenced; at the same node a higher generation harms nobody.
    assert_eq!(world.held("a"), Some(("eu-1", 8)));
    assert_eq!(world.held("b"), Some(("eu-1", 6)));
    assert_eq!((sent(&world, "a"), sent(&world, "b")), (2, 2));
    world.run(20_000);
    assert_eq!((sent(&world, "a"), sent(&world, "b")), (2, 2), "and that is all");
    // What no engine takes is not tried again and again.
    let long = "n".repeat(300);
    let nodes = ["eu-1", &format!("eu-{long}")];
    let mut world =
        World::new(&Setup { nodes: &nodes, directory: Some(true), gateways: &[], shards: &[] });
    world.hosts(nodes[1], "a", 1);
    world.run(20_000);
    assert_eq!((sent(&world, "a"), world.held("a")), (1, None));
}

#[test]
fn of_several_gateways_one_announces_a_room() {
    let gateways = &["eu-g0", "eu-g2", "us-g1"];
    let setup = Setup { directory: Some(true), gateways, ..Setup::default() };
    let mut world = World::new(&setup);
    for n in 0..90 {
        world.hosts(["eu-1", "us-1"][n % 2], &format!("room {n:03}"), 1);
    }
    world.run(3_000);
    let mine = |world: &World, node: usize| {
        (0..90).filter(|n| n % 2 == node && world.held(&format!("room {n:03}")).is_some()).count()
    };
    assert!((5..=25).contains(&mine(&world, 0)), "{} of 45 among three", mine(&world, 0));
    assert_eq!(mine(&world, 1), 0, "there is a gateway in their region");
    let summaries = |world: &World| {
        let asked = world.requests.iter();
        asked.filter(|(_, request)| matches!(request, Request::Heartbeat { .. })).count()
    };
    assert_eq!(summaries(&world), 0, "the first of the region tells of its nodes");
    // What another one tells is not told again; what nobody tells is, after a while: who is to tell may be cut off.
    place(&mut world, "room 001", "us-1", 1);
    world.requests.clear();
    world.run(6_000);
    assert_eq!((mine(&world, 0), mine(&world, 1)), (45, 45));
    assert_eq!((sent(&world, "room 001"), sent(&world, "room 003")), (0, 1));
    // The others fall silent: all that comes is this gateway's.
    for gateway in gateways {
        world.silence_gateway(gateway);
    }
    world.run(3_000);
    world.hosts("us-1", "room 090", 1);
    world.run(100);
    assert_eq!(world.held("room 090"), Some(("us-1", 1)));
    world.run(3_000);
    assert!(summaries(&world) >= 3);
}

#[test]
fn what_others_make_of_the_directory_is_seen_and_put_right() {
    let mut world = world();
    world.hosts("eu-1", "a", 1);
    world.run(1_000);
    // A gateway that does not hear eu-1 has moved the room, and nobody went there.
    let want = Record {
        node: "us-1".into(),
        epoch: Epoch(1),
        generation: Generation(2),
        id: PlacementId(5),
        provisional: false,
    };
    let request = Request::Replace { room: World::key("a"), expected: Generation(1), want };
    world.parts[0].table.apply(world.now, &request);
    // One that has missed the room's end keeps a record of it; one of a node that is down may be right.
    place(&mut world, "stray", "eu-2", 3);
    place(&mut world, "of the dead", "us-1", 3);
    world.run(3_000);
    assert_eq!(world.held("a"), Some(("eu-1", 3)));
    world.silence("us-1");
    world.run(25_000);
    assert!(world.held("stray").is_some(), "a client may be on the way");
    world.run(10_000);
    assert_eq!((world.held("stray"), world.held("of the dead")), (None, Some(("us-1", 3))));
    assert_eq!(
        world.parts[0].table.apply(world.now, &Request::Lookup { room: World::key("stray") }),
        { Reply::Found(None) }
    );
    // What is known to have ended is not ended again.
    world.requests.clear();
    world.run(60_000);
    assert_eq!((sent(&world, "stray"), sent(&world, "a")), (0, 0));
    world.run(60_000);
    assert_eq!(world.held("of the dead"), None, "nobody will come back from there");
}

#[test]
fn a_region_s_nodes_are_summed_up_once_a_second() {
    let mut world = world();
    world.hosts("eu-1", "a", 1);
    world.run(2_000);
    let summary = |node: &str, rooms: u32| NodeSummary {
        node: node.into(),
        epoch: Epoch(1),
        draining: false,
        load_permille: 0,
        rooms,
    };
    let nodes = vec![summary("eu-1", 1), summary("eu-2", 0)];
    let expected = Summary { region: "eu".into(), nodes };
    assert_eq!(
        world.parts[0].table.apply(world.now, &Request::Summaries),
        Reply::Summaries(vec![expected])
    );
    assert_eq!(&SELF[..2], "eu");
}

#[test]
fn moves_leave_the_directory_to_who_joins() {
    let mut world = world();
    for room in 0..800 {
        world.hosts("eu-1", &format!("room {room}"), 1);
        world.open(room, &format!("room {room}"), "eu-1", 1);
    }
    world.run(3_000);
    world.parts[0].way = Way::Up(100);
    world.silence("eu-1");
    while world.health("eu-1") != Health::Down {
        world.run(10);
    }
    let ask = world.join("urgent");
    world.run(100);
    assert!(world.went(ask).is_some_and(|_| world.held("urgent").is_some()), "asked, and answered");
    world.run(2_000);
    let facts = world.role.facts(world.now);
    assert_eq!((facts.moves, facts.provisional, facts.flaws), (800, 0, 0));
    for room in 0..800 {
        let (_, generation) = world.held(&format!("room {room}")).unwrap();
        assert_eq!(generation, 2);
    }
    let resume = world.ask("room 3", Goal::Resume);
    assert_eq!(world.unplaced(resume), Some(Unplaced::Gone));
}

#[test]
fn what_others_made_of_a_node_s_rooms_while_it_was_down_is_put_right_when_it_is_back() {
    let mut world = world();
    let ask = world.join("a");
    world.run(20);
    let (node, generation, _) = world.went(ask).unwrap();
    let node = node.to_owned();
    world.hosts(&node, "a", generation);
    world.run(3_000);
    world.silence(&node);
    world.run(3_000);
    assert_eq!(world.health(&node), Health::Down);
    // Another gateway moves the room, and nobody goes there.
    let want = Record {
        node: "us-1".into(),
        epoch: Epoch(1),
        generation: Generation(generation + 1),
        id: PlacementId(77),
        provisional: false,
    };
    let (room, expected) = (World::key("a"), Generation(generation));
    world.parts[0].table.apply(world.now, &Request::Replace { room, expected, want });
    world.run(5_000);
    assert_eq!(world.held("a"), Some(("us-1", generation + 1)));
    // The node names its rooms on a new stream before its first beat is heard.
    world.connects(&node, 1);
    world.hosts(&node, "a", generation);
    world.stream(&node, StreamEvent::Frame(RoomFrame::Synced));
    world.run(100);
    world.wake_up(&node);
    world.run(10_000);
    assert_eq!(world.held("a"), Some((node.as_str(), generation + 2)));
}

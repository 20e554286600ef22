//! Clients that want in: where they are sent, one node after the other, and when they are sent away.

use std::time::Duration;

use outlast_control::{Health, Policy, rank};
use outlast_gateway_core::{
    ASKS_MAX, Goal, JOINS_MAX, NodeRefusal, Output, REACH_MAX, StreamEvent, Unplaced,
};
use outlast_model::{BEAT_INTERVAL, Generation};

use crate::world::{Setup, World};

/// The nodes in the order in which `room` is offered to them.
fn ranking(world: &World, room: &str) -> Vec<String> {
    let ranking = rank(world.role.view(), &Policy::default(), &room.into());
    ranking.map(|node| node.facts.id.to_string()).collect()
}

fn unplaced_after(world: &World, since: outlast_model::Time) -> Option<u128> {
    world.said.iter().find_map(|(at, output)| match output {
        Output::Unplaced { .. } => Some(at.since(since).as_millis()),
        _ => None,
    })
}

#[test]
fn a_join_goes_down_the_ranking_as_nodes_refuse_and_everybody_follows() {
    let mut world = World::new(&Setup::default());
    let order = ranking(&world, "a");
    let first = world.join("a");
    let second = world.join("a");
    assert_eq!(world.went(first), Some((order[0].as_str(), 1, false)));
    assert_eq!(world.went(second), world.went(first), "one plan for both");
    world.refuse(first, NodeRefusal::Full);
    // What comes after is of a higher generation: the first may have let somebody in.
    assert_eq!(world.went(first), Some((order[1].as_str(), 2, false)));
    let third = world.join("a");
    assert_eq!(world.went(third), world.went(first));
    world.refuse(second, NodeRefusal::Draining);
    assert_eq!(world.went(second), world.went(first));
    world.unreached(first, false);
    assert_eq!(world.went(first), Some((order[2].as_str(), 3, false)));
    world.refuse(first, NodeRefusal::Busy);
    assert_eq!(world.unplaced(first), Some(Unplaced::NoNode));
    assert_eq!(world.unplaced(second), None, "it waits for an answer");
    world.admit(second, "a");
    assert_eq!(world.role.facts(world.now).asks, 1);
}

#[test]
fn where_somebody_was_let_in_others_wait_and_do_not_split_the_room() {
    let mut world = World::new(&Setup::default());
    let (one, two, three) = (world.join("a"), world.join("a"), world.join("a"));
    let at = world.went(one).map(|(node, ..)| node.to_owned()).unwrap();
    world.admit(one, "a");
    // The node has not named the room yet, and takes nobody more for now.
    world.refuse(two, NodeRefusal::Busy);
    world.unreached(three, false);
    world.run(200);
    for ask in [two, three] {
        assert_eq!(world.went(ask), Some((at.as_str(), 1, false)));
    }
    // Or it names it while the client waits for an answer.
    let mut world = World::new(&Setup::default());
    let one = world.join("b");
    let at = world.went(one).map(|(node, ..)| node.to_owned()).unwrap();
    world.hosts(&at, "b", 1);
    world.refuse(one, NodeRefusal::Busy);
    world.run(200);
    assert_eq!(world.went(one), Some((at.as_str(), 1, true)));
}

#[test]
fn a_stale_refusal_fences_the_view() {
    let mut world = World::new(&Setup::default());
    let order = ranking(&world, "a");
    let ask = world.join("a");
    world.refuse(ask, NodeRefusal::Stale(Generation(6)));
    assert_eq!(world.went(ask), Some((order[0].as_str(), 1, false)), "news are on the way");
    world.run(200);
    assert_eq!(world.went(ask), Some((order[0].as_str(), 7, false)), "none came");
    // The news come, of the next one.
    world.hosts("us-1", "b", 1);
    let ask = world.join("b");
    assert_eq!(world.went(ask), Some(("us-1", 1, true)));
    world.refuse(ask, NodeRefusal::Stale(Generation(3)));
    world.hosts("eu-2", "b", 3);
    world.run(200);
    assert_eq!(world.went(ask), Some(("eu-2", 3, true)));
    // They were faster than the refusal.
    let ask = world.join("b");
    world.hosts("eu-1", "b", 4);
    assert_eq!(world.went(ask), Some(("eu-1", 4, true)), "who waits elsewhere goes there at once");
    world.hosts("eu-1", "b", 5);
    world.refuse(ask, NodeRefusal::Stale(Generation(5)));
    assert_eq!(world.went(ask), Some(("eu-1", 5, true)), "without a pause");
}

#[test]
fn a_home_may_refuse_a_client_four_times() {
    let mut world = World::new(&Setup::default());
    world.hosts("eu-1", "a", 1);
    let ask = world.join("a");
    for pause in 0..3 {
        assert_eq!(world.went(ask), Some(("eu-1", 1, true)), "after {pause}");
        let before = world.said.len();
        world.refuse(ask, NodeRefusal::Full);
        world.run(199);
        let goes = world.said[before..].iter();
        assert_eq!(goes.filter(|(_, said)| matches!(said, Output::Go { .. })).count(), 0);
        world.run(1);
    }
    world.refuse(ask, NodeRefusal::Other);
    assert_eq!(world.unplaced(ask), Some(Unplaced::NoNode));
    // A home that cannot be reached is tried for as long as it counts as one.
    let ask = world.join("a");
    world.unreached(ask, false);
    world.run(50);
    world.unreached(ask, false);
    world.run(50);
    assert_eq!(world.went(ask), Some(("eu-1", 1, true)));
}

#[test]
fn nobody_waits_longer_than_the_budget() {
    let mut world = World::new(&Setup::default());
    for node in ["eu-1", "eu-2", "us-1"] {
        world.silence(node);
    }
    world.run(5_000);
    world.said.clear();
    let (asked, ask) = (world.now, world.join("a"));
    world.run(10_000);
    assert_eq!(world.unplaced(ask), Some(Unplaced::NoNode));
    assert_eq!(unplaced_after(&world, asked), Some(REACH_MAX.as_millis()));
    // A node comes up in time.
    let ask = world.join("a");
    world.run(1_000);
    world.start("us-1", 2);
    world.run(60);
    assert_eq!(world.went(ask).unwrap().0, "us-1");
    // It says nothing; the next client does not wait for the first.
    world.said.clear();
    let began = world.now;
    world.run(5_000);
    assert!(unplaced_after(&world, began).unwrap() <= REACH_MAX.as_millis() - 1_000);
    let (left, gone) = (world.join("b"), world.join("b"));
    world.withdraw(gone);
    world.admit(left, "b");
    world.said.clear();
    world.run(5_000);
    assert_eq!(unplaced_after(&world, began), None);
    assert_eq!(world.role.facts(world.now).asks, 0);
}

#[test]
fn too_many_at_once_are_shed_and_a_herd_of_one_room_is_one_placement() {
    let mut world = World::new(&Setup::default());
    let asks: Vec<_> = (0..JOINS_MAX).map(|_| world.join("a")).collect();
    assert!(asks.iter().all(|ask| world.went(*ask) == world.went(asks[0])));
    let shed = world.join("a");
    assert_eq!(world.unplaced(shed), Some(Unplaced::Shed));
    world.admit(asks[0], "a");
    let next = world.join("a");
    assert_eq!(world.went(next), world.went(asks[1]));
    // Whose media is up has its calls to lose.
    world.hosts("eu-1", "b", 1);
    for _ in JOINS_MAX..ASKS_MAX {
        let resume = world.ask("b", Goal::Resume);
        assert_eq!(world.went(resume), Some(("eu-1", 1, true)));
    }
    let shed = world.ask("b", Goal::Resume);
    assert_eq!(world.unplaced(shed), Some(Unplaced::Shed));
}

#[test]
fn a_resume_goes_home_or_hears_that_it_is_gone() {
    let mut world = World::new(&Setup::default());
    let unknown = world.ask("a", Goal::Resume);
    assert_eq!(world.unplaced(unknown), Some(Unplaced::Gone));
    world.hosts("eu-1", "a", 2);
    let resume = world.ask("a", Goal::Resume);
    assert_eq!(world.went(resume), Some(("eu-1", 2, true)));
    // The home knows a newer life of the room, and names it.
    world.refuse(resume, NodeRefusal::Stale(Generation(3)));
    world.hosts("eu-1", "a", 3);
    world.run(200);
    assert_eq!(world.went(resume), Some(("eu-1", 3, true)));
    // The room has just ended there.
    world.refuse(resume, NodeRefusal::Stale(Generation(3)));
    assert_eq!(world.unplaced(resume), Some(Unplaced::Gone));
    // The home dies while the client waits for it.
    let resume = world.ask("a", Goal::Resume);
    world.silence("eu-1");
    world.run(2_000);
    assert_eq!(world.unplaced(resume), Some(Unplaced::Gone));
}

#[test]
fn a_frozen_node_that_is_waited_for_is_left_when_its_room_moves() {
    let mut world = World::new(&Setup::default());
    world.hosts("eu-1", "a", 1);
    world.run(1_000);
    world.silence("eu-1");
    let (joins, other) = (world.join("a"), world.join("a"));
    world.run(500);
    assert_eq!(world.went(joins), Some(("eu-1", 1, true)));
    // Another gateway was faster.
    world.hosts("us-1", "a", 2);
    assert_eq!(world.went(joins), Some(("us-1", 2, true)));
    assert_eq!(world.went(other), world.went(joins));
    // This gateway's own verdict does as well.
    let frozen = world.now;
    world.silence("us-1");
    world.run(2_100);
    let (node, generation, home) = world.went(joins).unwrap();
    assert_eq!((node, generation, home), ("eu-2", 3, false), "the only one left");
    assert!(world.now.since(frozen) < REACH_MAX);
    // Of two homes of one generation it is the lower node's that counts.
    let mut world = World::new(&Setup::default());
    world.hosts("us-1", "b", 1);
    let joins = world.join("b");
    world.hosts("eu-2", "b", 1);
    assert_eq!(world.went(joins), Some(("eu-2", 1, true)));
}

#[test]
fn a_machine_that_refuses_the_connection_is_down_as_soon_as_a_beat_is_missing() {
    let mut world = World::new(&Setup::default());
    world.hosts("eu-1", "a", 1);
    world.run(1_000);
    world.silence("eu-1");
    world.run(450);
    let ask = world.join("a");
    world.unreached(ask, true);
    world.run(100);
    let (node, generation, _) = world.went(ask).unwrap();
    assert!(node != "eu-1" && generation == 2);
}

#[test]
fn a_draining_node_is_asked_only_when_nobody_else_is_there() {
    let goes = |world: &World, ask: u64| {
        let said = world.said.iter().rev().find_map(|(_, output)| match output {
            Output::Go { ask: of, nowhere_else, placement, .. } if of.0 == ask => {
                Some((placement.node.to_string(), *nowhere_else))
            }
            _ => None,
        });
        said.unwrap()
    };
    let mut world = World::new(&Setup::default());
    world.hosts("eu-1", "a", 1);
    world.open(1, "a", "eu-1", 1);
    let drained = world.now;
    let waits = world.join("a");
    world.node("eu-1").draining = true;
    world.run(500);
    // Who waits there is sent elsewhere; who is there is told by the node itself.
    let (node, nowhere_else) = goes(&world, waits);
    assert!(node != "eu-1" && !nowhere_else);
    assert_eq!(world.told(drained), []);
    let resume = world.ask("a", Goal::Resume);
    assert_eq!(world.unplaced(resume), Some(Unplaced::Gone));
    // The others are full: a resume is not torn out of its room for nothing.
    for other in ["eu-2", "us-1"] {
        world.node(other).full = true;
    }
    world.run(6_000);
    let resume = world.ask("a", Goal::Resume);
    assert_eq!(goes(&world, resume), ("eu-1".into(), true));
    let join = world.join("a");
    assert_eq!(goes(&world, join), ("eu-1".into(), true));
    let new = world.join("new");
    assert_eq!(world.went(new), None);
    world.node("us-1").full = false;
    world.run(500);
    assert_eq!(goes(&world, new), ("us-1".into(), false));
    world.node("eu-1").draining = false;
    world.run(500);
    assert_eq!(world.place("a"), Some(("eu-1".into(), 1, true)), "the drain was undone");
}

#[test]
fn news_of_a_room_reach_who_waits_for_it_however_long_the_queue() {
    let mut world = World::new(&Setup::default());
    let others: Vec<_> = (0..500).map(|n| world.join(&format!("room {n:03}"))).collect();
    let before = world.went(others[250]).map(|(node, ..)| node.to_owned()).unwrap();
    let elsewhere = if before == "us-1" { "eu-1" } else { "us-1" };
    world.said.clear();
    world.hosts(elsewhere, "room 250", 9);
    let goes = world.said.iter().filter(|(_, said)| matches!(said, Output::Go { .. })).count();
    assert_eq!((goes, world.went(others[250])), (1, Some((elsewhere, 9, true))));
    world.stream("eu-2", StreamEvent::Lost);
    world.run(Duration::from_secs(4).as_millis() as u64);
    assert_eq!(world.role.facts(world.now).asks, 0);
}

#[test]
fn who_waits_for_a_dead_node_goes_to_the_next_one_that_is_back() {
    let mut world = World::new(&Setup::default());
    world.hosts("us-1", "a", 1);
    for node in ["eu-1", "eu-2"] {
        world.silence(node);
    }
    world.run(5_000);
    let ask = world.join("a");
    assert_eq!(world.went(ask), Some(("us-1", 1, true)));
    world.silence("us-1");
    world.run(2_100);
    assert_eq!(world.went(ask), Some(("us-1", 1, true)), "there is no other");
    world.wake_up("eu-1");
    world.run(1_350);
    let went = world.went(ask).unwrap();
    assert_eq!((went.0, went.1), ("eu-1", 2));
}

#[test]
fn who_waits_for_a_dead_node_goes_on_when_another_takes_rooms_again() {
    type Change = fn(&mut World, bool);
    let changes: [Change; 2] =
        [|world, so| world.node("eu-1").draining = so, |world, so| world.node("eu-1").full = so];
    for change in changes {
        let mut world = World::new(&Setup::default());
        world.hosts("us-1", "a", 1);
        change(&mut world, true);
        world.silence("eu-2");
        world.run(5_000);
        let ask = world.join("a");
        world.silence("us-1");
        world.run(2_100);
        assert_eq!(world.went(ask), Some(("us-1", 1, true)), "nobody else takes it");
        change(&mut world, false);
        // Its next beat says so.
        world.run(BEAT_INTERVAL.as_millis() as u64);
        assert_eq!(world.went(ask), Some(("eu-1", 2, false)));
    }
}

#[test]
fn who_waits_for_a_dead_node_goes_on_when_a_suspect_one_is_fine() {
    let mut world = World::new(&Setup::default());
    world.hosts("us-1", "a", 1);
    world.silence("eu-2");
    world.run(5_000);
    let ask = world.join("a");
    world.silence("us-1");
    world.run(800);
    world.silence("eu-1");
    world.run(1_250);
    assert_eq!((world.health("us-1"), world.health("eu-1")), (Health::Down, Health::Suspect));
    assert_eq!(world.went(ask), Some(("us-1", 1, true)), "nobody else takes it");
    world.wake_up("eu-1");
    world.run(100);
    assert_eq!(world.health("eu-1"), Health::Alive);
    assert_eq!(world.went(ask), Some(("eu-1", 2, false)));
}

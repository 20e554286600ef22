//! Rooms with two homes, rooms that lose theirs, and what goes with a room when it moves.

use std::time::Duration;

use outlast_gateway_core::{Goal, Health, Input, Output, StreamEvent, Unplaced, Why};
use outlast_model::{RoomSettings, Time};
use outlast_wire::RoomFrame;

use crate::world::{Setup, World};

fn steer(to: &str, winner: &str, generation: u64) -> (String, String, u64) {
    (to.to_owned(), winner.to_owned(), generation)
}

#[test]
fn of_two_homes_the_newer_wins_and_the_loser_s_clients_move() {
    let mut world = World::new(&Setup::default());
    world.open(1, "a", "eu-2", 1);
    world.hosts("eu-2", "a", 1);
    world.open(2, "a", "eu-1", 1);
    world.hosts("eu-1", "a", 1);
    let now = world.now;
    assert_eq!(world.told(now), [(0, 1, Why::Superseded)], "the lower id wins");
    world.close(1);
    // A session admitted under a newer generation than its node has told of is not the loser.
    world.open(3, "a", "us-1", 2);
    assert_eq!(world.told(now), []);
    world.hosts("us-1", "a", 2);
    assert_eq!(world.told(now), [(0, 2, Why::Superseded)]);
    // Who was sent to the loser in the meantime is told on arrival; who has been told hears nothing more.
    world.open(4, "a", "eu-1", 1);
    world.hosts("us-1", "a", 3);
    world.silence("eu-1");
    world.handle(Input::Drain);
    world.run(10_000);
    let told = world.told(now);
    let of = |session: u64| told.iter().filter(|(_, told, _)| *told == session).count();
    assert_eq!((of(4), of(2), of(3)), (1, 0, 1), "{told:?}");
}

#[test]
fn every_loser_is_steered_to_the_winner() {
    let mut world = World::new(&Setup::default());
    world.hosts("us-1", "a", 1);
    assert_eq!(world.steered(), []);
    world.hosts("eu-1", "a", 2);
    assert_eq!(world.steered(), [steer("us-1", "eu-1", 2)]);
    // The same again is no news, except from a loser.
    world.hosts("eu-1", "a", 2);
    assert_eq!(world.steered(), []);
    world.hosts("us-1", "a", 1);
    assert_eq!(world.steered(), [steer("us-1", "eu-1", 2)]);
    world.hosts("eu-2", "a", 3);
    assert_eq!(world.steered(), [steer("eu-1", "eu-2", 3), steer("us-1", "eu-2", 3)]);
    // One obeys.
    world.closes("us-1", "a", 1);
    world.hosts("eu-2", "a", 4);
    assert_eq!(world.steered(), [steer("eu-1", "eu-2", 4)]);
}

#[test]
fn of_two_homes_of_one_generation_the_winner_gets_the_next() {
    let mut world = World::new(&Setup::default());
    world.hosts("us-1", "a", 1);
    world.hosts("eu-2", "a", 1);
    // Were both told the same generation, whoever ends the loser could end the winner.
    assert_eq!(world.steered(), [steer("us-1", "eu-2", 2), steer("eu-2", "eu-2", 2)]);
    world.hosts("eu-2", "a", 2);
    assert_eq!(world.steered(), [steer("us-1", "eu-2", 2)]);
    world.closes("us-1", "a", 1);
    assert_eq!(world.place("a"), Some(("eu-2".into(), 2, true)));
}

#[test]
fn nobody_is_sent_to_a_winner_that_is_down_until_it_is_back() {
    let mut world = World::new(&Setup::default());
    world.hosts("eu-1", "a", 2);
    world.run(1_000);
    world.silence("eu-1");
    world.run(2_500);
    world.open(1, "a", "us-1", 1);
    world.hosts("us-1", "a", 1);
    let named = world.now;
    world.run(500);
    assert_eq!(world.told(named), []);
    world.open(2, "a", "us-1", 1);
    assert_eq!((world.told(named), world.steered()), (vec![], vec![]));
    // It wakes before its lease has run out.
    world.wake_up("eu-1");
    world.run(1_500);
    assert_eq!(world.health("eu-1"), Health::Alive);
    let steered: Vec<_> = world
        .said
        .iter()
        .filter_map(|(_, said)| match said {
            Output::Steer { node, .. } => Some(node.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(steered, ["us-1"]);
    let told = world.told(named);
    assert!(told.len() == 2 && told.iter().all(|(.., why)| *why == Why::Superseded), "{told:?}");
}

#[test]
fn who_names_an_old_room_after_a_heal_is_steered_each_time() {
    let mut world = World::new(&Setup::default());
    world.hosts("us-1", "a", 1);
    world.open(1, "a", "us-1", 1);
    // The region is cut off; its room moves.
    world.silence("us-1");
    world.stream("us-1", StreamEvent::Lost);
    world.run(3_000);
    assert_eq!(world.health("us-1"), Health::Down);
    world.close(1);
    world.hosts("eu-1", "a", 2);
    world.steered();
    for _ in 0..2 {
        world.connects("us-1", 1);
        world.hosts("us-1", "a", 1);
        assert_eq!(
            world.steered(),
            [],
            "it is not heard well: people may be there who cannot follow"
        );
        world.wake_up("us-1");
        world.run(1_300);
        assert_eq!(world.health("us-1"), Health::Alive);
        assert_eq!(world.steered(), [steer("us-1", "eu-1", 2)]);
        world.silence("us-1");
        world.stream("us-1", StreamEvent::Lost);
        world.run(3_000);
    }
    world.connects("us-1", 1);
    world.stream("us-1", StreamEvent::Frame(RoomFrame::Synced));
    assert_eq!(world.role.view().hosts(&"a".into()).len(), 1);
    assert_eq!(world.place("a"), Some(("eu-1".into(), 2, true)));
}

#[test]
fn rooms_of_a_dead_node_have_new_homes_before_their_clients_ask() {
    let mut world = World::new(&Setup::default());
    for room in 0..900 {
        world.hosts("eu-1", &format!("room {room}"), 1);
        world.open(room, &format!("room {room}"), "eu-1", 1);
    }
    world.hosts("eu-1", "of others", 1);
    world.run(1_000);
    let frozen = world.now;
    world.silence("eu-1");
    while world.health("eu-1") != Health::Down {
        world.run(10);
    }
    let planned = |world: &World| {
        let rooms = (0..900).map(|room| format!("room {room}"));
        rooms.filter(|room| world.role.view().planned(&room.as_str().into()).is_some()).count()
    };
    assert_eq!((planned(&world), world.role.facts(world.now).moves), (500, 500), "paced");
    world.run(100);
    assert_eq!((planned(&world), world.role.facts(world.now).moves), (900, 900));
    assert!(world.role.view().planned(&"of others".into()).is_none(), "no client of it is here");
    assert_eq!(world.role.facts(world.now).flaws, 0);
    // Everybody finds the room where it was planned, and is told at a pace.
    let ask = world.join("room 7");
    let planned = world.role.view().planned(&"room 7".into()).cloned().unwrap();
    assert_eq!(world.went(ask), Some((planned.node.as_str(), 2, false)));
    world.run(3_000);
    let told = world.told(frozen);
    assert_eq!(told.len(), 900);
    assert!(told.last().unwrap().0 > 3_000, "{:?}", told.last());
}

#[test]
fn settings_go_with_a_room_that_moves_and_not_with_one_that_was_deleted() {
    let settings = RoomSettings { max_participants: 7, by_api: true, ..RoomSettings::default() };
    let carried = |world: &World, ask: u64| {
        let said = world.said.iter().rev().find_map(|(_, output)| match output {
            Output::Go { ask: of, settings, .. } if of.0 == ask => Some(settings.clone()),
            _ => None,
        });
        said.unwrap().map(|settings| settings.max_participants)
    };
    let mut world = World::new(&Setup::default());
    for room in ["a", "b", "c", "d", "e"] {
        world.hosts_with("eu-1", room, 1, Some(settings.clone()));
    }
    // A room that is over leaves nothing behind; one that its node has lost goes on elsewhere.
    world.closes("eu-1", "d", 1);
    world.loses("eu-1", "e", 1);
    world.run(6_000);
    let (over, lost) = (world.join("d"), world.join("e"));
    assert_eq!((carried(&world, over), carried(&world, lost)), (None, Some(7)));
    let at_home = world.join("a");
    assert_eq!(carried(&world, at_home), None, "its home knows");
    // A home that somebody has opened who did not know of them hears of them once.
    world.hosts("eu-2", "c", 2);
    let unknowing = world.join("c");
    assert_eq!(world.went(unknowing), Some(("eu-2", 2, true)));
    assert_eq!(carried(&world, unknowing), Some(7));
    world.hosts_with("eu-2", "c", 2, Some(settings.clone()));
    let knowing = world.join("c");
    assert_eq!(carried(&world, knowing), None);
    // It has begun anew, and somebody who knows nothing opens the room there under the same generation.
    world.hosts("eu-2", "c", 2);
    let anew = world.join("c");
    assert_eq!(carried(&world, anew), Some(7));
    // Its stream has broken: it may have begun anew, and somebody may open the room there before it is heard.
    world.hosts_with("eu-2", "c", 2, Some(settings.clone()));
    world.stream("eu-2", StreamEvent::Lost);
    let doubted = world.join("c");
    assert_eq!(carried(&world, doubted), Some(7));
    world.connects("eu-2", 1);
    world.hosts_with("eu-2", "c", 2, Some(settings.clone()));
    world.stream("eu-2", StreamEvent::Frame(RoomFrame::Synced));
    let back = world.join("c");
    assert_eq!(carried(&world, back), None);
    world.closes("eu-2", "c", 2);
    world.silence("eu-1");
    world.run(3_000);
    let moved = world.join("a");
    assert!(!world.went(moved).unwrap().2);
    assert_eq!(carried(&world, moved), Some(7));
    world.handle(Input::Deleted { room: "b".into() });
    let deleted = world.join("b");
    assert_eq!(carried(&world, deleted), None);
    // The node is forgotten, and what the room was set to outlives that for a while.
    world.run(122_000);
    assert_eq!(world.role.view().rooms(), 0);
    let ask = world.join("c");
    assert_eq!(carried(&world, ask), Some(7));
    world.run(601_000);
    let ask = world.join("c");
    assert_eq!(carried(&world, ask), None);
}

#[test]
fn a_resume_does_not_follow_a_room_to_another_home() {
    let mut world = World::new(&Setup::default());
    world.hosts("eu-1", "a", 1);
    world.open(1, "a", "eu-1", 1);
    world.silence("eu-1");
    world.run(2_200);
    assert!(world.role.view().planned(&"a".into()).is_some());
    let resume = world.ask("a", Goal::Resume);
    assert_eq!(world.unplaced(resume), Some(Unplaced::Gone));
}

#[test]
fn a_plan_that_nobody_takes_up_is_forgotten() {
    let mut world = World::new(&Setup::default());
    let (node, ..) = world.place("a").unwrap();
    assert!(world.role.view().planned(&"a".into()).is_some());
    let planned: Time = world.now;
    world.run(4_999);
    assert!(world.role.view().planned(&"a".into()).is_some());
    world.run(1);
    assert_eq!(world.now.since(planned), Duration::from_secs(5));
    assert!(world.role.view().planned(&"a".into()).is_none());
    assert_eq!(world.place("a"), Some((node, 1, false)), "as ever");
}

//! Nodes that freeze, die, restart and flap, and a gateway that stands still itself.

use std::time::Duration;

use outlast_gateway_core::{
    Goal, Gone, Health, Input, Located, Output, Session, StreamEvent, Unplaced, Why,
};
use outlast_model::{BEAT_INTERVAL, Epoch, Generation, SessionId, Time};
use outlast_wire::{Beat, RoomFrame};

use crate::world::{EPOCH, Setup, World};

fn world() -> World {
    World::new(&Setup::default())
}

fn place(node: &str, generation: u64, home: bool) -> Option<(String, u64, bool)> {
    Some((node.to_owned(), generation, home))
}

#[test]
fn a_frozen_node_is_down_after_five_missed_beats_and_everyone_is_told() {
    let mut world = world();
    world.hosts("eu-1", "a", 1);
    for session in 0..40 {
        world.open(session, "a", "eu-1", 1);
    }
    world.open(40, "b", "us-1", 1);
    world.run(3_210);
    let frozen = world.now;
    world.silence("eu-1");
    world.run(10_000);
    let told = world.told(frozen);
    assert_eq!(told.len(), 40, "and nobody of the other node");
    for (after, session, why) in told {
        assert!((1_600..=2_000).contains(&after), "session {session} told after {after} ms");
        assert_eq!(why, Why::NodeDown);
    }
    let (node, generation, home) = world.place("a").unwrap();
    assert_eq!((generation, home), (2, false));
    assert_ne!(node, "eu-1");
    assert_eq!(world.role.resume(&"a".into()), Err(Gone));

    // It wakes: three beats later it may have new rooms, the old room stays where it went.
    world.hosts(&node, "a", 2);
    world.wake_up("eu-1");
    world.run(500);
    assert_eq!(world.health("eu-1"), Health::Down);
    world.run(1_000);
    assert_eq!(world.health("eu-1"), Health::Alive);
    assert_eq!(world.place("a"), place(&node, 2, true));
}

#[test]
fn a_killed_node_resets_its_sockets_and_its_clients_know_at_once() {
    let mut world = world();
    world.hosts("eu-1", "a", 1);
    world.open(1, "a", "eu-1", 1);
    world.open(2, "a", "eu-1", 1);
    world.run(1_230);
    let killed = world.now;
    world.silence("eu-1");
    world.break_link(1);
    world.run(5);
    world.stream("eu-1", StreamEvent::Lost);
    assert_eq!(world.health("eu-1"), Health::Suspect);
    world.run(95);
    assert_eq!(world.told(killed), [(100, 1, Why::LinkLost)]);
    world.close(1);
    // Its room does not move on one reset alone.
    assert_eq!(world.place("a"), place("eu-1", 1, true));
    world.run(1_000);
    let told = world.told(killed);
    assert_eq!(told.len(), 1, "the one whose socket hangs: {told:?}");
    assert!(told[0].0 <= 900);
    assert_eq!(world.place("a").unwrap().1, 2);
}

#[test]
fn one_broken_connection_to_a_node_that_is_fine_costs_a_resume_and_no_more() {
    let mut world = world();
    world.hosts("eu-1", "a", 1);
    world.open(1, "a", "eu-1", 1);
    world.run(1_000);
    let broken = world.now;
    world.break_link(1);
    world.run(500);
    assert_eq!(world.told(broken), [(100, 1, Why::LinkReset)]);
    assert!(Why::LinkReset.resumes() && !Why::LinkLost.resumes());
    assert!(world.role.resume(&"a".into()).is_ok());
    // One whose node falls silent while it waits for its turn is not sent back there.
    world.close(1);
    world.open(2, "a", "eu-1", 1);
    let killed = world.now;
    world.silence("eu-1");
    world.break_link(2);
    world.run(20);
    world.stream("eu-1", StreamEvent::Lost);
    world.run(300);
    assert_eq!(world.told(killed), [(100, 2, Why::LinkLost)]);
}

#[test]
fn one_client_that_breaks_its_sockets_does_not_degrade_the_node() {
    let mut world = world();
    let session = |world: &mut World, session: u64, client: &str| {
        let (room, client) = (format!("room {session}").into(), client.into());
        let at = Session { room, client, node: "eu-1".into(), generation: Generation(1) };
        world.opens(session, session, at);
        world.break_link(session);
    };
    for n in 0..20 {
        session(&mut world, n, "mallory");
        assert_eq!(world.health("eu-1"), Health::Alive);
    }
    session(&mut world, 20, "ann");
    assert_eq!(world.health("eu-1"), Health::Alive);
    session(&mut world, 21, "bob");
    assert_eq!(world.health("eu-1"), Health::Suspect, "three clients at once");
    world.run(1_000);
    assert_eq!(world.health("eu-1"), Health::Alive);
    // With the room stream gone as well, one is enough.
    world.stream("eu-1", StreamEvent::Lost);
    world.run(1_000);
    assert_eq!(world.health("eu-1"), Health::Alive);
    session(&mut world, 22, "mallory");
    assert_eq!(world.health("eu-1"), Health::Suspect);
}

#[test]
fn a_dead_node_s_room_that_ended_elsewhere_is_unknown_and_its_generation_is_not_used_again() {
    let mut world = world();
    world.hosts("eu-1", "a", 1);
    world.run(1_000);
    world.silence("eu-1");
    world.run(3_000);
    assert_eq!(world.role.locate(&"a".into()), Located::Down);
    world.hosts("eu-2", "a", 2);
    assert!(matches!(world.role.locate(&"a".into()), Located::At(_)));
    world.closes("eu-2", "a", 2);
    assert_eq!(world.role.locate(&"a".into()), Located::Unknown);
    assert_eq!(world.role.resume(&"a".into()), Err(Gone));
    assert_eq!(world.place("a").unwrap().1, 3);
    // After ten minutes nobody remembers; the next end cleans up.
    world.hosts("us-1", "b", 1);
    world.run(600_000);
    world.closes("us-1", "b", 1);
    assert_eq!(world.place("a").unwrap().1, 1);
}

#[test]
fn a_machine_that_refuses_connections_lost_its_node_within_a_beat() {
    let mut world = world();
    world.hosts("eu-1", "a", 1);
    world.run(1_000);
    let killed = world.now;
    world.silence("eu-1");
    world.handle(Input::ConnectionRefused { node: "eu-1".into() });
    while world.health("eu-1") != Health::Down {
        world.run(20);
    }
    assert!(world.now.since(killed) <= Duration::from_millis(520));
    // A refusal while beats go on is somebody else's fault.
    world.handle(Input::ConnectionRefused { node: "us-1".into() });
    world.run(5_000);
    assert_eq!(world.health("us-1"), Health::Alive);
    world.handle(Input::ConnectionRefused { node: "nobody".into() });
}

#[test]
fn a_restarted_node_knows_nothing_of_its_past() {
    let mut world = world();
    world.hosts("eu-1", "a", 1);
    world.open(1, "a", "eu-1", 1);
    world.run(2_000);
    // Faster than any deadline, and no reset arrived.
    let restarted = world.now;
    world.start("eu-1", 2);
    world.run(10);
    assert_eq!(world.told(restarted), [(0, 1, Why::NodeRestarted)]);
    assert_eq!(world.health("eu-1"), Health::Alive);
    assert_eq!(world.role.resume(&"a".into()), Err(Gone));
    let (_, generation, home) = world.place("a").unwrap();
    assert_eq!((generation, home), (2, false), "1 is in use no more");
    // A beat of its former life, late, raises no dead.
    world.handle(Input::Beat {
        node: "eu-1".into(),
        epoch: Epoch(1),
        sequence: 1,
        beat: Beat { ticked: true, draining: true, ..Beat::default() },
    });
    assert!(!world.role.view().node(&"eu-1".into()).unwrap().draining);
}

/// Seed 524195: who was let in between the last beat of a node and its loss of power was never told.
#[test]
fn who_came_after_the_last_beat_of_a_process_is_told_when_the_next_one_does_not_have_the_room() {
    let mut world = world();
    world.run(2_000);
    world.silence("eu-1");
    world.hosts("eu-1", "a", 1);
    world.open(1, "a", "eu-1", 1);
    world.run(1_000);
    // It is back before it counts as dead, and no reset arrived.
    world.start("eu-1", 2);
    world.run(10);
    world.stream("eu-1", StreamEvent::Lost);
    world.connects("eu-1", 2);
    world.hosts("eu-1", "b", 1);
    world.open(2, "b", "eu-1", 1);
    let synced = world.now;
    world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
    world.run(10);
    assert_eq!(world.told(synced), [(0, 1, Why::NodeRestarted)]);
}

#[test]
fn what_the_new_process_took_before_its_first_beat_stays() {
    let mut world = world();
    world.run(2_000);
    world.silence("eu-1");
    world.run(100);
    world.stream("eu-1", StreamEvent::Lost);
    world.connects("eu-1", 2);
    world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
    world.hosts("eu-1", "a", 1);
    world.open(1, "a", "eu-1", 1);
    world.start("eu-1", 2);
    world.run(2_000);
    let since = world.now;
    assert_eq!(world.told(since), []);
    assert!(world.role.resume(&"a".into()).is_ok());
}

#[test]
fn what_a_node_took_after_losing_its_lease_stays_though_its_stream_never_broke() {
    let mut world = world();
    world.hosts("eu-1", "old", 1);
    world.open(1, "old", "eu-1", 1);
    world.run(2_000);
    let lost = world.now;
    world.silence("eu-1");
    world.run(300);
    // It gives up what it had, begins anew, and somebody is let in; its beats come later than its frames.
    world.starts("eu-1", 2);
    world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
    world.hosts("eu-1", "new", 1);
    world.open(2, "new", "eu-1", 1);
    world.start("eu-1", 2);
    world.run(1_000);
    assert_eq!(world.told(lost), [(300, 1, Why::NodeRestarted)]);
    assert_eq!(world.role.locate(&"old".into()), Located::Unknown);
    assert!(world.role.resume(&"new".into()).is_ok(), "it would never be named again");
}

#[test]
fn a_gateway_that_stood_still_blames_nobody() {
    let mut world = world();
    world.open(1, "a", "eu-1", 1);
    world.run(1_000);
    world.stand_still(Duration::from_secs(20));
    let woken = world.now;
    world.handle(Input::Wake);
    world.run(3_000);
    assert_eq!(world.told(woken), []);
    assert_eq!(world.role.facts(world.now).nodes, [3, 0, 0]);
}

#[test]
fn a_node_that_does_not_hear_this_gateway_is_down_although_its_beats_arrive() {
    let mut world = world();
    world.hosts("us-1", "a", 1);
    world.open(1, "a", "us-1", 1);
    world.run(2_000);
    let cut = world.now;
    world.node("us-1").hears = false;
    while world.health("us-1") != Health::Down {
        world.run(20);
        assert!(world.now.since(cut) <= Duration::from_secs(3), "both ends agree within 3 s");
    }
    world.run(20);
    assert_eq!(world.told(cut).len(), 1);
    world.run(10_000);
    assert_eq!(world.health("us-1"), Health::Down, "however many arrive");
    // Three beats with young echoes, and it is back.
    let healed = world.now;
    world.node("us-1").hears = true;
    while world.health("us-1") != Health::Alive {
        world.run(20);
    }
    let after = world.now.since(healed);
    assert!(after >= 2 * BEAT_INTERVAL && after <= 5 * BEAT_INTERVAL, "{after:?}");
}

#[test]
fn who_flaps_gets_no_new_rooms_for_longer_each_time_and_keeps_those_it_has() {
    let mut world = world();
    world.hosts("eu-1", "a", 1);
    for seconds in [30, 60, 120] {
        world.silence("eu-1");
        world.run(3_000);
        assert_eq!(world.health("eu-1"), Health::Down);
        world.wake_up("eu-1");
        while world.health("eu-1") != Health::Alive {
            world.run(10);
        }
        let back = world.now;
        assert_eq!(world.place("a"), place("eu-1", 1, true), "its own room is served");
        let goes_there = |world: &mut World| {
            let now = world.now.as_millis();
            (0..40).any(|n| world.place(&format!("{now} {n}")).unwrap().0 == "eu-1")
        };
        while !goes_there(&mut world) {
            world.run(500);
        }
        let calm = world.now.since(back).as_secs();
        assert!((seconds - 1..=seconds + 1).contains(&calm), "{calm} s, not {seconds}");
    }
    // With nobody else left it is better than nothing.
    world.silence("eu-1");
    world.run(3_000);
    world.wake_up("eu-1");
    world.silence("eu-2");
    world.silence("us-1");
    world.run(5_000);
    assert_eq!(world.place("new").unwrap().0, "eu-1");
}

#[test]
fn what_a_dead_node_hosted_is_forgotten_after_two_minutes() {
    let mut world = world();
    world.hosts("eu-1", "a", 4);
    world.silence("eu-1");
    world.run(2_100);
    let down = world.now;
    world.run(60_000);
    // It is back for a while: the two minutes begin anew.
    world.wake_up("eu-1");
    world.run(30_000);
    world.silence("eu-1");
    world.run(35_000);
    assert_eq!(world.now.since(down).as_secs(), 125);
    assert_eq!((world.role.locate(&"a".into()), world.role.view().rooms()), (Located::Down, 1));
    world.run(90_000);
    assert_eq!((world.role.locate(&"a".into()), world.role.view().rooms()), (Located::Unknown, 0));
    assert_eq!(world.place("a").unwrap().1, 5, "its generation is not");
}

#[test]
fn echoes_measure_the_way_to_a_region() {
    let mut world = world();
    world.run(2_000);
    assert_eq!(world.role.rtt(&"us".into()), Some(Duration::from_millis(30)));
    assert_eq!(world.role.rtt(&"ap".into()), None);
    let echo = world.said.iter().rev().find_map(|(at, output)| match output {
        Output::Echo { echo, .. } => Some((*at, *echo)),
        _ => None,
    });
    let (at, echo) = echo.unwrap();
    assert_eq!((echo.stamp, echo.heard_epoch), (at.as_nanos(), Epoch(1)));
    assert_ne!(EPOCH, Epoch(1));
}

#[test]
fn after_a_start_the_view_settles_when_the_living_have_named_their_rooms() {
    let setup = Setup { nodes: &["eu-1"], ..Setup::default() };
    let start = Time::from_millis(100);
    let mut world = World::unheard(&setup, start);
    assert!(!world.role.settled(start));
    assert!(world.role.settled(start + Duration::from_secs(2)));
    let (asked, other) = (world.join("r"), world.ask("s", Goal::Resume));
    world.connects("eu-1", 1);
    world.hosts("eu-1", "r", 3);
    world.run(10);
    assert_eq!(world.health("eu-1"), Health::Alive);
    assert!(!world.role.settled(world.now));
    world.run(400);
    assert_eq!(world.went(asked), None, "somebody else may have it");
    assert_eq!(world.unplaced(other), None);
    world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
    assert!(world.role.settled(world.now));
    world.run(50);
    assert_eq!(world.went(asked), Some(("eu-1", 3, true)));
    assert_eq!(world.unplaced(other), Some(Unplaced::Gone));
    // Beats that no tick has passed through say nothing of the shards.
    world.silence("eu-1");
    for n in 1..=6 {
        world.run(400);
        let (node, epoch) = ("eu-1".into(), Epoch(1));
        let beat = Beat::default();
        world.handle(Input::Beat { node, epoch, sequence: 100 + n, beat });
    }
    assert_eq!(world.health("eu-1"), Health::Down);
}

/// Found by the fault table, a gateway restarted while the directory was down: the near node had named its rooms before the
/// first beat of a far one came, and rooms of the far one got a second home; or a node's stream had come before its first beat, and
/// its rooms moved away as from one that is down.
#[test]
fn after_a_start_who_has_not_been_heard_yet_may_have_the_room() {
    let setup = Setup { nodes: &["eu-1", "us-1"], ..Setup::default() };
    let names_its_room = |world: &mut World| {
        world.connects("us-1", 1);
        world.run(100);
        world.hosts("us-1", "r", 3);
        world.stream("us-1", StreamEvent::Frame(RoomFrame::Synced));
    };
    // Its stream comes before its first beat, or after it.
    for stream_first in [false, true] {
        let mut world = World::unheard(&setup, Time::from_millis(100));
        world.silence("us-1");
        let asked = world.join("r");
        world.connects("eu-1", 1);
        world.run(10);
        world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
        if stream_first {
            names_its_room(&mut world);
        }
        world.run(390);
        assert_eq!((world.health("eu-1"), world.health("us-1")), (Health::Alive, Health::Down));
        assert_eq!(world.went(asked), None, "the other may be on its way");
        world.start("us-1", 1);
        if !stream_first {
            names_its_room(&mut world);
        }
        world.run(50);
        assert_eq!(world.went(asked), Some(("us-1", 3, true)));
    }
}

#[test]
fn after_a_start_nobody_waits_long_for_who_is_gone() {
    let setup = Setup { nodes: &["eu-1", "us-1"], ..Setup::default() };
    let start = Time::from_millis(100);
    let wait = |refused: bool| {
        let mut world = World::unheard(&setup, start);
        world.silence("us-1");
        if refused {
            world.handle(Input::ConnectionRefused { node: "us-1".into() });
        }
        let asked = world.join("r");
        world.connects("eu-1", 1);
        world.run(10);
        world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
        while world.went(asked).is_none() {
            world.run(10);
        }
        world.now.since(start).as_millis()
    };
    assert!((800..=900).contains(&wait(false)), "{}", wait(false));
    assert!(wait(true) <= 50, "its machine says that nothing runs there: {}", wait(true));
}

#[test]
fn a_gateway_that_stops_tells_everybody_at_its_pace_and_lets_nobody_in() {
    let mut world = world();
    for session in 0..600 {
        let node = ["eu-1", "eu-2", "us-1"][session as usize % 3];
        world.open(session, &format!("room {:03}", session % 100), node, 1);
    }
    let waits = world.join("room 000");
    let stop = world.now;
    world.handle(Input::Drain);
    let late = world.join("room 000");
    assert_eq!(world.unplaced(late), Some(Unplaced::Shed));
    world.run(300);
    let first = world.told(stop);
    let rooms: Vec<u64> = first.iter().map(|(_, session, _)| session % 100).collect();
    assert!(rooms.is_sorted(), "room by room: {rooms:?}");
    // Another gateway's client has moved the last room: those of it here do not wait for their turn.
    world.hosts("eu-2", "room 099", 2);
    world.run(2_000);
    let told = world.told(stop);
    let last = told.iter().take(6).map(|(_, session, why)| (session % 100, *why));
    let expected = (0..600).filter(|n| n % 100 == 99 && n % 3 != 1).count();
    assert!(last.take(expected).eq(std::iter::repeat_n((99, Why::Superseded), expected)));
    assert_eq!(first.len() + told.len(), 600);
    assert!(told.last().unwrap().0 >= 950, "paced: {:?}", told.last());
    // Who had been sent to a node before may still come, and is told on arrival.
    for session in 0..600 {
        world.close(session);
    }
    world.run(1_000);
    let drained = |world: &World| {
        let said = world.said.iter();
        said.filter(|(_, output)| *output == Output::Drained).count()
    };
    assert_eq!(drained(&world), 0, "somebody is on the way");
    world.open(2_000, "room 000", "eu-1", 1);
    world.withdraw(waits);
    world.run(100);
    world.handle(Input::Closed { session: SessionId(2_000) });
    world.run(1_000);
    assert_eq!(drained(&world), 1);
    let facts = world.role.facts(world.now);
    let told = &facts.told;
    assert_eq!(facts.sessions, 0);
    assert_eq!(told[Why::GatewayLeaving.index()] + told[Why::Superseded.index()], 601);
}

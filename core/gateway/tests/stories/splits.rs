//! Rooms that two nodes hold: who makes way, and who is left alone.

use std::time::Duration;

use outlast_control::Health;
use outlast_gateway_core::{Input, Located, StreamEvent};
use outlast_model::Epoch;
use outlast_wire::{Beat, RoomFrame};

use crate::{
    fleet::REGIONS,
    world::{Setup, World},
};

fn steer(node: &str, winner: &str, generation: u64) -> (String, String, u64) {
    (node.to_owned(), winner.to_owned(), generation)
}

/// Everybody is heard well, and nobody has been steered yet.
fn regions() -> World {
    let mut world = World::new(&REGIONS);
    world.run(4_000);
    world.steered();
    world
}

#[test]
fn homes_in_regions_that_do_not_hear_each_other_are_left_alone_until_they_do() {
    let mut world = regions();
    world.other("ap-g1").hears = vec!["ap", "eu"];
    world.run(1_000);
    world.hosts("us-1", "a", 1);
    world.hosts("ap-1", "a", 2);
    world.run(20_000);
    assert_eq!(world.steered(), [], "who is in us could not follow to ap");
    // Whoever comes now goes to the one that counts.
    assert_eq!(world.place("a"), Some(("ap-1".into(), 2, true)));
    world.other("ap-g1").hears = vec!["ap", "eu", "us"];
    world.run(1_500);
    assert_eq!(world.steered().first(), Some(&steer("us-1", "ap-1", 2)));
}

#[test]
fn a_client_at_a_home_that_is_left_alone_stays_there() {
    let mut world = regions();
    world.other("ap-g1").hears = vec!["ap", "eu"];
    world.run(1_000);
    world.hosts("us-1", "a", 1);
    world.open(1, "a", "us-1", 1);
    let since = world.now;
    world.hosts("ap-1", "a", 2);
    world.run(5_000);
    assert_eq!(world.told(since), []);
    world.loses("us-1", "a", 1);
    world.run(1_500);
    assert_eq!(world.told(since).len(), 1, "it is there no more");
}

#[test]
fn whom_this_gateway_does_not_hear_it_does_not_send_away() {
    let mut world = regions();
    world.hosts("us-1", "a", 1);
    world.silence("us-1");
    world.run(3_000);
    assert_eq!(world.health("us-1"), Health::Down);
    world.hosts("ap-1", "a", 2);
    world.run(5_000);
    assert_eq!(world.steered(), []);
    world.wake_up("us-1");
    world.run(2_000);
    assert_eq!(world.steered().first(), Some(&steer("us-1", "ap-1", 2)));
}

#[test]
fn a_room_that_comes_back_to_where_it_made_way_is_left_at_both_homes() {
    let mut world = regions();
    world.hosts("us-1", "a", 1);
    world.hosts("ap-1", "a", 2);
    assert_eq!(world.steered(), [steer("us-1", "ap-1", 2)]);
    world.loses("us-1", "a", 1);
    world.run(500);
    // Somebody does not hear ap-1, although all gateways hear all regions.
    world.other("us-g1").alive = 3;
    world.hosts("us-1", "a", 3);
    world.run(20_000);
    assert_eq!(world.steered(), [], "ap-1's people would bring it back again");
    world.other("us-g1").alive = 4;
    world.run(1_500);
    assert_eq!(world.steered().first(), Some(&steer("ap-1", "us-1", 3)));
    // A second time it takes longer, however calm everybody is.
    world.loses("ap-1", "a", 2);
    world.hosts("ap-1", "a", 4);
    world.run(3_500);
    assert_eq!(world.steered(), []);
    world.run(2_000);
    assert_eq!(world.steered().first(), Some(&steer("us-1", "ap-1", 4)));
}

#[test]
fn after_it_stood_still_it_speaks_for_no_home_that_has_not_answered_since() {
    let mut world = World::new(&Setup::default());
    world.run(4_000);
    world.hosts("us-1", "a", 4);
    world.steered();
    world.stand_still(Duration::from_secs(11));
    // What had piled up comes first: the room lives elsewhere by now, and us-1 may be gone.
    world.hosts("eu-2", "a", 1);
    assert_eq!(world.steered(), []);
    world.run(4_500);
    assert_eq!(world.steered().first(), Some(&steer("eu-2", "us-1", 4)));
}

#[test]
fn what_a_node_hosted_counts_again_when_it_is_back_on_the_same_stream() {
    let mut world = World::new(&Setup::default());
    world.hosts("us-1", "a", 3);
    world.silence("us-1");
    world.run(123_000);
    assert_eq!(world.role.view().rooms(), 0, "it has been down for long");
    world.wake_up("us-1");
    world.run(2_000);
    assert_eq!(world.health("us-1"), Health::Alive);
    assert_eq!(
        world.place("a"),
        Some(("us-1".into(), 3, true)),
        "its stream has said so all along"
    );
}

#[test]
fn nobody_makes_way_for_what_a_node_had_before_it_began_anew() {
    let mut world = World::new(&Setup::default());
    world.hosts("eu-1", "a", 3);
    world.silence("eu-1");
    world.run(5_000);
    world.hosts("eu-2", "a", 1);
    // The new process is heard before it has said what it has.
    world.connects("eu-1", 1);
    world.start("eu-1", 2);
    world.run(2_000);
    assert_eq!(world.health("eu-1"), Health::Alive);
    world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
    world.run(2_000);
    assert_eq!(world.steered(), []);
    assert_eq!(world.place("a").unwrap().0, "eu-2");
}

#[test]
fn what_a_node_named_last_goes_with_its_process_whether_a_beat_or_the_stream_tells_of_the_next() {
    for (streamed, kept) in [(false, false), (true, false), (true, true)] {
        let mut world = World::new(&Setup::default());
        world.run(1_000);
        // Its machine loses power at once, and the stream is not closed; or it is fenced, and says so on it.
        world.silence("eu-1");
        world.hosts("eu-1", "a", 3);
        if streamed {
            world.starts("eu-1", 2);
        }
        if kept {
            world.hosts("eu-1", "a", 3);
        }
        world.start("eu-1", 2);
        world.run(2_000);
        assert_eq!(world.health("eu-1"), Health::Alive);
        world.hosts("eu-2", "a", 1);
        let steered = if kept { vec![steer("eu-2", "eu-1", 3)] } else { Vec::new() };
        assert_eq!(world.steered(), steered);
    }
}

#[test]
fn nobody_makes_way_for_a_home_that_may_be_dead() {
    for back in [true, false] {
        let mut world = World::new(&Setup::default());
        world.hosts("eu-1", "a", 3);
        world.run(1_000);
        world.silence("eu-1");
        world.run(1_200);
        assert_eq!(world.health("eu-1"), Health::Suspect);
        world.hosts("eu-2", "a", 1);
        world.run(300);
        assert_eq!(world.steered(), []);
        if back {
            world.wake_up("eu-1");
        }
        world.run(3_000);
        let steered = if back { vec![steer("eu-2", "eu-1", 3)] } else { Vec::new() };
        assert_eq!(world.steered(), steered);
    }
}

#[test]
fn of_two_homes_found_when_the_third_is_dead_one_becomes_the_home_though_nobody_was_there() {
    for directory in [None, Some(true)] {
        let mut world = World::new(&Setup { directory, ..Setup::default() });
        world.hosts("eu-1", "a", 5);
        world.silence("eu-1");
        world.run(4_000);
        world.hosts("eu-2", "a", 3);
        world.run(1_000);
        assert_eq!(world.steered(), [], "one is no split");
        world.hosts("us-1", "a", 2);
        world.run(1_000);
        assert_eq!(world.steered(), [steer("eu-2", "eu-2", 6)]);
        world.hosts("eu-2", "a", 6);
        world.run(1_000);
        assert_eq!(world.steered(), [steer("us-1", "eu-2", 6)]);
    }
}

#[test]
fn what_is_still_on_its_way_of_an_earlier_start_is_not_believed() {
    let mut world = World::new(&Setup::default());
    world.run(1_000);
    world.start("eu-1", 2);
    world.run(1_000);
    world.hosts("eu-1", "a", 3);
    assert_eq!(world.role.locate(&"a".into()), Located::Unknown);
    assert_eq!(world.role.view().next_generation(&"a".into()).0, 4, "3 was used all the same");
    // Nor what it said on a stream that opens late.
    world.connects("eu-1", 1);
    world.hosts("eu-1", "a", 3);
    world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
    assert_eq!(world.role.locate(&"a".into()), Located::Unknown);
    world.connects("eu-1", 2);
    world.hosts("eu-1", "a", 1);
    assert_eq!(world.place("a"), Some(("eu-1".into(), 1, true)));
    // A beat that was late says nothing either.
    let late = Beat { ticked: true, draining: true, ..Beat::default() };
    world.handle(Input::Beat { node: "eu-1".into(), epoch: Epoch(1), sequence: 99, beat: late });
    assert!(!world.role.view().node(&"eu-1".into()).unwrap().draining);
}

#[test]
fn after_a_long_pause_nobody_makes_way_for_what_a_broken_stream_had_said() {
    for broken in [true, false] {
        let mut world = World::new(&Setup::default());
        world.hosts("eu-1", "a", 2);
        world.run(1_000);
        world.stand_still(Duration::from_secs(30));
        world.hosts("eu-2", "a", 1);
        world.run(3_000);
        assert_eq!(world.steered(), [], "eu-1 may have lost it long ago");
        if broken {
            world.stream("eu-1", StreamEvent::Lost);
            world.connects("eu-1", 1);
            world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
        }
        world.run(3_000);
        let steered = if broken { Vec::new() } else { vec![steer("eu-2", "eu-1", 2)] };
        assert_eq!(world.steered(), steered);
    }
}

/// Seed 626535: a home closed its room while this gateway stood still, and its stream had broken before.
#[test]
fn nobody_makes_way_for_what_was_said_on_a_stream_that_is_broken() {
    for (had_it, broke) in [(true, StreamEvent::Lost), (false, StreamEvent::Stale)] {
        let mut world = World::new(&Setup { directory: Some(true), ..Setup::default() });
        world.hosts("eu-1", "a", 2);
        world.run(2_000);
        world.stream("eu-1", broke);
        world.run(200);
        world.stand_still(Duration::from_secs(9));
        crate::claims::end(&mut world, "a", 2);
        crate::claims::place(&mut world, "a", "eu-2", 5);
        world.hosts("eu-2", "a", 1);
        world.run(3_000);
        assert_eq!((world.steered(), world.held("a")), (Vec::new(), Some(("eu-2", 5))));
        world.connects("eu-1", 1);
        if had_it {
            world.hosts("eu-1", "a", 2);
        }
        world.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
        world.run(3_000);
        let steered = if had_it { vec![steer("eu-2", "eu-1", 2)] } else { Vec::new() };
        assert_eq!(world.steered(), steered);
        assert_eq!(
            world.held("a"),
            Some((if had_it { "eu-1" } else { "eu-2" }, if had_it { 6 } else { 5 }))
        );
    }
}

#[test]
fn of_two_homes_that_a_third_leaves_behind_one_becomes_the_home() {
    let mut world = World::new(&Setup { directory: Some(true), ..Setup::default() });
    for (node, generation) in [("eu-1", 5), ("eu-2", 3), ("us-1", 2)] {
        world.hosts(node, "a", generation);
    }
    world.open(1, "a", "eu-1", 5);
    world.run(1_000);
    world.steered();
    world.silence("eu-1");
    world.run(4_000);
    assert_eq!(world.steered(), [steer("eu-2", "eu-2", 6)]);
    world.hosts("eu-2", "a", 6);
    world.run(1_000);
    assert_eq!(world.steered(), [steer("us-1", "eu-2", 6)]);
}

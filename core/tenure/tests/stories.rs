//! Stories of a node in virtual time: what it may hold, whom it lets in, and what it gives up when.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use outlast_model::{Epoch, Generation, RoomSettings, SHARD_PAUSE_MAX};
use outlast_tenure::{
    DRAIN_STEP, Goal, Input, LEASE, Output, PROMISE_KEPT, RETRY_SPREAD, Refusal, TOMBSTONE_KEPT,
    Why,
};
use outlast_wire::{Echo, Probe, Probed, RoomFrame};

use crate::world::{World, ended, fence, hosted, lost, started};

mod world;

fn stale(known: u64) -> Result<Generation, Refusal> {
    Err(Refusal { why: Why::Stale, known: Generation(known), retry_after: None })
}

fn why(answer: Result<Generation, Refusal>) -> Why {
    answer.unwrap_err().why
}

#[test]
fn a_young_node_is_not_fenced_for_silence_before_it_serves() {
    let mut world = World::new(&["gw"]);
    world.deafen();
    world.run(60_000);
    assert_eq!(world.said(), []);
    assert_eq!((world.tenure.lease_until(), world.tenure.may_serve(world.now)), (None, true));
    world.tenure.handle(world.now, Input::Follow { follower: 1 }, &mut Vec::new());
    let opened = world.now;
    world.host("a", 1);
    let until = opened + LEASE;
    assert_eq!(world.said(), [Output::Lease { until }, hosted(1, "a", 1)]);
    world.run(5_999);
    assert!(world.tenure.may_serve(world.now));
    assert_eq!(world.said(), []);
    world.run(1);
    assert!(!world.tenure.may_serve(world.now));
    let fenced = Output::FenceAll { epoch: Epoch(6) };
    let synced = Output::Frame { follower: 1, frame: RoomFrame::Synced };
    assert_eq!(world.said(), [fenced, lost(1, "a", 1), started(1, 6), synced]);
    assert_eq!((world.held("a"), world.tenure.epoch()), (None, Epoch(6)));
}

#[test]
fn a_probe_hears_of_what_is_open_and_of_what_is_about_to_be() {
    let mut world = World::new(&["gw"]);
    world.run(1_000);
    world.host("open", 3);
    world.ask("promised", 4, Goal::Join).unwrap();
    world.done();
    let mut last = 0;
    for (room, there) in [("open", Some(3)), ("promised", Some(4)), ("strange", None)] {
        let probe = Probe { number: 9, room: room.into() };
        let mut out = Vec::new();
        let gateway = "gw".into();
        world.tenure.handle(world.now, Input::Probe { gateway, probe }, &mut out);
        let [Output::Probed { sequence, probed, .. }] = out[..] else { panic!("{out:?}") };
        assert_eq!(probed, Probed { number: 9, generation: there.map(Generation) });
        assert!(sequence > last);
        last = sequence;
    }
    // What was given up is not here.
    world.deafen();
    world.run(10_000);
    let (probe, mut out) = (Probe { number: 1, room: "open".into() }, Vec::new());
    world.tenure.handle(world.now, Input::Probe { gateway: "gw".into(), probe }, &mut out);
    assert!(matches!(out[..], [Output::Probed { probed: Probed { generation: None, .. }, .. }]));
}

#[test]
fn a_fenced_node_serves_again_when_its_new_start_is_heard_and_its_rooms_need_a_higher_generation() {
    let mut world = World::new(&["gw"]);
    world.run(1_000);
    world.host("a", 3);
    world.deafen();
    world.run(10_000);
    assert!(world.done().contains(&Output::FenceAll { epoch: Epoch(6) }));
    assert_eq!(why(world.ask("b", 1, Goal::Join)), Why::Fenced);
    assert_eq!(why(world.ask("a", 9, Goal::Resume)), Why::Fenced);
    // The shard's own word comes later, and changes nothing.
    world.closed("a", 3);
    // Somebody who was admitted before the fence reaches the shard after it.
    world.opened("a", 3);
    assert_eq!(world.done(), [fence("a", 3, None)]);

    world.gateways.insert("gw", Some(Duration::from_millis(30)));
    world.run(1_000);
    assert!(world.tenure.may_serve(world.now));
    assert_eq!(world.beats()["gw"].lease_ms / 1_000, 5);
    world.opened("a", 3);
    assert_eq!(world.done(), [fence("a", 3, None)]);
    assert_eq!(world.ask("a", 3, Goal::Join), stale(3));
    assert_eq!(world.ask("a", 3, Goal::Resume), stale(3));
    assert_eq!(world.ask("a", 4, Goal::Resume), stale(3), "it is not here");
    world.host("a", 4);
    assert_eq!(world.held("a"), Some(4));
}

#[test]
fn the_lease_runs_from_the_sending_of_what_any_gateway_echoed() {
    let mut world = World::new(&["eu-gw", "us-gw"]);
    world.gateways.insert("eu-gw", None);
    world.gateways.insert("us-gw", Some(Duration::from_millis(170)));
    world.host("a", 1);
    world.said();
    let first = world.now;
    world.run(20_000);
    let moves = world.when(|output| match output {
        Output::Lease { until } => Some(until),
        _ => None,
    });
    // The first beat was sent in the instant in which the room opened, and says no more than that.
    assert_eq!(moves.len(), 49);
    for ((at, until), n) in moves.into_iter().zip(1..) {
        let sent = first + Duration::from_millis(400 * n);
        assert_eq!((at, until), (sent + Duration::from_millis(170), sent + LEASE));
    }
    // It goes silent: the lease lasts as long as what it has proved, to the instant.
    let end = world.tenure.lease_until().unwrap();
    world.deafen();
    world.run(10_000);
    let fenced = world.when(|output| matches!(output, Output::FenceAll { .. }).then_some(()));
    assert_eq!(fenced, [(end, ())]);
}

#[test]
fn echoes_that_prove_nothing_renew_nothing() {
    let mut world = World::new(&["eu-gw", "us-gw"]);
    world.deafen();
    world.host("a", 1);
    world.tick();
    let numbers = world.when(|output| match output {
        Output::Beat { gateway, sequence, .. } => Some((gateway.to_string(), sequence)),
        _ => None,
    });
    let number = |of: &str| numbers.iter().find(|(_, (id, _))| id == of).unwrap().1.1;
    let (to_eu, to_us) = (number("eu-gw"), number("us-gw"));
    world.run(1_000);
    let echo = |heard_epoch, heard_sequence| Echo { heard_epoch, heard_sequence, stamp: 1 };
    let before = world.tenure.lease_until();
    world.said();
    world.echo("eu-gw", echo(Epoch(4), to_eu));
    world.echo("eu-gw", echo(Epoch(5), to_us));
    world.echo("eu-gw", echo(Epoch(5), to_eu + 1_000));
    world.echo("eu-gw", echo(Epoch(5), 0));
    world.echo("nobody", echo(Epoch(5), to_eu));
    assert_eq!((world.said(), world.tenure.lease_until()), (vec![], before));
    // What was sent in the instant that the room opened ends in the same instant as its first lease.
    world.echo("eu-gw", echo(Epoch(5), to_eu));
    assert_eq!(world.tenure.lease_until(), before);
}

#[test]
fn an_echo_that_comes_after_the_end_brings_nothing_back() {
    let mut world = World::new(&["gw"]);
    world.deafen();
    world.host("a", 1);
    world.run(3_000);
    let sequence = world.when(|output| match output {
        Output::Beat { sequence, .. } => Some(sequence),
        _ => None,
    });
    // The process stood still until well past the end; what waits in its socket is newer than the lease.
    world.now = world.now + Duration::from_secs(4);
    let heard_sequence = sequence.last().unwrap().1;
    world.echo("gw", Echo { heard_epoch: Epoch(5), heard_sequence, stamp: 1 });
    assert_eq!(world.said(), [Output::FenceAll { epoch: Epoch(6) }]);
}

#[test]
fn a_node_that_holds_nothing_loses_nothing() {
    let mut world = World::new(&["gw"]);
    world.run(2_000);
    world.deafen();
    world.run(20_000);
    assert_eq!(world.done(), []);
    assert_eq!(world.tenure.epoch(), Epoch(5));
    assert_eq!(why(world.ask("a", 1, Goal::Join)), Why::Fenced);
    world.gateways.insert("gw", Some(Duration::from_millis(30)));
    world.run(500);
    world.host("a", 1);
    // Alone in the world: there is nobody to lose anything to.
    let mut alone = World::new(&[]);
    alone.host("a", 1);
    alone.run(60_000);
    assert_eq!((alone.held("a"), alone.tenure.lease_until()), (Some(1), None));
}

#[test]
fn a_long_pause_is_one_fence_however_many_notice_it() {
    let mut world = World::new(&["gw"]);
    world.run(1_000);
    world.host("a", 1);
    world.said();
    world.handle(Input::Paused { pause: SHARD_PAUSE_MAX });
    assert_eq!((world.done(), world.held("a")), (vec![], Some(1)));
    let pause = SHARD_PAUSE_MAX + Duration::from_millis(1);
    world.now = world.now + pause;
    world.handle(Input::Paused { pause });
    assert_eq!(world.done(), [Output::FenceAll { epoch: Epoch(6) }]);
    assert!(!world.tenure.may_serve(world.now), "until the new start is heard");
    world.run(3);
    world.handle(Input::Paused { pause: pause + Duration::from_millis(3) });
    assert_eq!(world.done(), []);
    world.run(5_000);
    world.host("a", 2);
    world.handle(Input::Paused { pause: Duration::from_secs(2) });
    assert_eq!(world.done(), [Output::FenceAll { epoch: Epoch(7) }]);
    // A pause longer than the lease: two reasons, one fence.
    world.run(1_000);
    world.host("a", 3);
    world.now = world.now + Duration::from_secs(60);
    world.handle(Input::Paused { pause: Duration::from_secs(60) });
    assert_eq!(world.done(), [Output::FenceAll { epoch: Epoch(8) }]);
}

#[test]
fn a_join_carries_the_generation_under_which_the_room_is_believed_to_be_here() {
    let mut world = World::new(&["gw"]);
    world.run(1_000);
    world.handle(Input::Follow { follower: 8 });
    world.host("a", 5);
    world.said();
    assert_eq!(world.ask("a", 4, Goal::Join), stale(5));
    assert_eq!(world.ask("a", 5, Goal::Join), Ok(Generation(5)));
    assert_eq!(world.done(), []);
    assert_eq!(world.ask("a", 7, Goal::Join), Ok(Generation(7)));
    assert_eq!(world.done(), [hosted(8, "a", 7)]);
    assert_eq!(world.ask("a", 6, Goal::Resume), stale(7));
    // The shard follows, and that is no news.
    world.opened("a", 7);
    assert_eq!(world.done(), []);
    assert_eq!(world.ask("a", 9, Goal::Resume), Ok(Generation(9)));
    assert_eq!(world.done(), [hosted(8, "a", 9)]);
}

#[test]
fn the_loser_of_a_room_gives_it_up_once_and_takes_nobody_in_under_it() {
    let mut world = World::new(&["gw"]);
    world.run(1_000);
    world.handle(Input::Follow { follower: 1 });
    world.handle(Input::Follow { follower: 2 });
    world.host("a", 5);
    world.host("b", 5);
    world.said();
    world.steer("a", 4, "us-1");
    assert_eq!(world.done(), [], "the other one is older");
    world.steer("a", 5, "us-1");
    let given_up = [fence("a", 5, Some("us-1")), lost(1, "a", 5), lost(2, "a", 5)];
    assert_eq!(world.done(), given_up);
    // Every gateway says so, the shard too, and then somebody who was on the way.
    world.steer("a", 5, "us-1");
    world.closed("a", 5);
    assert_eq!(world.done(), []);
    assert_eq!(world.ask("a", 5, Goal::Join), stale(5));
    world.opened("a", 5);
    assert_eq!(world.done(), [fence("a", 5, Some("us-1"))]);
    // It comes back, later and higher.
    assert_eq!(world.ask("a", 6, Goal::Join), Ok(Generation(6)));
    world.closed("a", 5);
    world.opened("a", 6);
    assert_eq!(world.done(), [hosted(1, "a", 6), hosted(2, "a", 6)]);
    // A winner that is this node itself.
    world.steer("b", 9, "eu-1");
    assert_eq!(world.done(), [hosted(1, "b", 9), hosted(2, "b", 9)]);
    world.steer("b", 8, "us-1");
    world.steer("b", 8, "eu-1");
    world.steer("nowhere", 8, "eu-1");
    assert_eq!(world.done(), []);
}

#[test]
fn a_join_that_is_on_its_way_to_a_shard_is_lost_with_its_room() {
    let mut world = World::new(&["gw"]);
    world.run(1_000);
    world.said();
    assert_eq!(world.ask("a", 1, Goal::Join), Ok(Generation(1)));
    world.steer("a", 1, "us-1");
    assert_eq!(world.done(), [fence("a", 1, Some("us-1"))]);
    // Nothing came of this one, and nobody minds.
    assert_eq!(world.ask("b", 1, Goal::Join), Ok(Generation(1)));
    assert_eq!(world.ask("b", 2, Goal::Join), Ok(Generation(2)), "its room is as good as here");
    assert_eq!(world.ask("b", 1, Goal::Join), stale(2));
    world.run(PROMISE_KEPT.as_millis() as u64);
    assert_eq!(world.ask("b", 1, Goal::Join), Ok(Generation(1)));
}

#[test]
fn a_room_that_has_ended_begins_again_under_a_higher_generation() {
    let mut world = World::new(&["gw"]);
    world.run(1_000);
    world.handle(Input::Follow { follower: 1 });
    world.host("a", 2);
    // Admitted while it was there; it closes before the join arrives.
    assert_eq!(world.ask("a", 2, Goal::Join), Ok(Generation(2)));
    world.said();
    world.closed("a", 2);
    world.opened("a", 2);
    world.closed("a", 1);
    assert_eq!(world.done(), [ended(1, "a", 2), hosted(1, "a", 2)]);
    world.closed("a", 2);
    assert_eq!(world.ask("a", 2, Goal::Join), stale(2));
    // A gateway that knows nothing of it learns what it takes.
    let refusal = world.ask("a", 1, Goal::Join).unwrap_err();
    assert_eq!(world.ask("a", refusal.known.next().0, Goal::Join), Ok(Generation(3)));
    world.run(TOMBSTONE_KEPT.as_millis() as u64);
    assert_eq!(world.ask("a", 1, Goal::Join), Ok(Generation(1)), "nobody remembers");
}

#[test]
fn a_follower_hears_what_is_there_and_then_what_changes() {
    let mut world = World::new(&["gw"]);
    world.run(1_000);
    world.host("b", 1);
    world.host("a", 4);
    let synced = |follower| Output::Frame { follower, frame: RoomFrame::Synced };
    world.said();
    world.handle(Input::Follow { follower: 1 });
    assert_eq!(world.said(), [started(1, 5), hosted(1, "a", 4), hosted(1, "b", 1), synced(1)]);
    world.handle(Input::Follow { follower: 2 });
    assert_eq!(world.said(), [started(2, 5), hosted(2, "a", 4), hosted(2, "b", 1), synced(2)]);
    world.handle(Input::Unfollow { follower: 1 });
    world.closed("b", 1);
    assert_eq!(world.said(), [ended(2, "b", 1)]);
    let settings = RoomSettings { max_participants: 3, by_api: true, ..RoomSettings::default() };
    let (room, generation, settings) = ("a".into(), Generation(4), Some(settings));
    let opened = Input::Opened { room, generation, settings: settings.clone() };
    world.handle(opened.clone());
    world.handle(opened);
    let frame = RoomFrame::Hosted { room: "a".into(), generation, settings };
    assert_eq!(world.said(), [Output::Frame { follower: 2, frame }]);
}

#[test]
fn beats_give_echoes_back_and_say_how_the_node_is() {
    let mut world = World::new(&["eu-gw", "us-gw"]);
    world.gateways.insert("us-gw", None);
    (world.participants, world.cpu_permille) = (7, 300);
    world.run(1_000);
    world.host("a", 1);
    world.run(1_000);
    let beats = world.beats();
    let echoed = beats["eu-gw"].echoed.unwrap();
    assert_eq!((echoed.epoch, echoed.stamp), (world::GATEWAY_EPOCH, 42));
    assert_eq!(echoed.held, Duration::from_millis(370));
    assert_eq!(beats["us-gw"].echoed, None);
    let beat = beats["us-gw"];
    assert!(beat.ticked && !beat.draining && !beat.full);
    assert_eq!((beat.load_permille, beat.rooms, beat.participants), (300, 1, 7));
    assert_eq!((beat.joins_admitted, beat.joins_connected), (3, 2));
    assert_eq!(beat.joins_per_second, outlast_tenure::JOINS_PER_SECOND);
    // Of the last echo's beat, one interval has passed.
    assert_eq!(beat.lease_ms, 5_600);
    assert_eq!(world.tenure.gateways_heard(world.now), 1);
    world.cpu_permille = 850;
    world.run(400);
    assert!(world.beats()["us-gw"].full && world.tenure.is_full());
    world.ticks = false;
    world.said();
    world.run(2_000);
    assert!(world.beats().is_empty(), "a hung shard is a beat that is not sent");
}

#[test]
fn live_rooms_come_before_new_ones_and_resumes_before_joins() {
    let mut world = World::with(&["gw"], |config| {
        (config.joins_per_second, config.joins_burst) = (10, 100);
    });
    world.run(1_000);
    world.host("a", 1);
    world.run(1_000);
    let mut asked = 0;
    let mut admitted = |world: &mut World, room: &str, goal| {
        let mut count = 0;
        loop {
            asked += 1;
            let room = if room.is_empty() { format!("room {asked}") } else { room.to_owned() };
            match world.ask(&room, 1, goal) {
                Ok(_) => count += 1,
                Err(refusal) => {
                    assert_eq!(refusal.why, Why::Busy);
                    assert!(refusal.retry_after.unwrap() < RETRY_SPREAD + Duration::from_secs(10));
                    return count;
                }
            }
        }
    };
    assert_eq!(admitted(&mut world, "", Goal::Join), 50);
    assert_eq!(admitted(&mut world, "a", Goal::Join), 30);
    assert_eq!(admitted(&mut world, "", Goal::Join), 0);
    assert_eq!(admitted(&mut world, "a", Goal::Resume), 20);
    world.run(1_000);
    assert_eq!(admitted(&mut world, "a", Goal::Join), 0);
    assert_eq!(admitted(&mut world, "a", Goal::Resume), 10);
}

#[test]
fn a_loaded_node_refuses_new_rooms_then_newcomers_and_no_resume() {
    let mut world = World::new(&["gw"]);
    world.run(1_000);
    world.host("a", 1);
    world.cpu_permille = 900;
    world.run(400);
    let refusal = world.ask("b", 1, Goal::Join).unwrap_err();
    assert_eq!((refusal.why, refusal.known), (Why::Full, Generation(0)));
    assert!(refusal.retry_after.is_some());
    assert!(world.ask("a", 1, Goal::Join).is_ok());
    world.cpu_permille = 960;
    world.run(400);
    assert_eq!(why(world.ask("a", 1, Goal::Join)), Why::Full);
    assert!(world.ask("a", 1, Goal::Resume).is_ok());
    world.cpu_permille = 820;
    world.run(400);
    assert_eq!(why(world.ask("b", 1, Goal::Join)), Why::Full, "not at the line again and again");
    world.cpu_permille = 700;
    world.run(400);
    assert!(world.ask("b", 1, Goal::Join).is_ok());
}

#[test]
fn a_drain_moves_everybody_in_time_and_can_be_called_off() {
    let mut world = World::new(&["gw"]);
    world.run(1_000);
    world.host("a", 1);
    world.participants = 1_200;
    world.run(400);
    world.said();
    let began = world.now;
    let deadline = Duration::from_secs(20);
    world.handle(Input::Drain { pace_per_second: 10, deadline });
    assert_eq!(why(world.ask("b", 1, Goal::Join)), Why::Draining);
    assert_eq!(why(world.ask("a", 1, Goal::Join)), Why::Draining);
    assert_eq!(world.ask("a", 1, Goal::Resume), Ok(Generation(1)));
    assert_eq!(world.ask("a", 1, Goal::JoinNowhereElse), Ok(Generation(1)));
    assert_eq!(why(world.ask("b", 1, Goal::JoinNowhereElse)), Why::Draining);
    let mut told = 0;
    while world.participants > 0 {
        world.run(DRAIN_STEP.as_millis() as u64);
        assert!(world.now.since(began) <= deadline.mul_f64(0.6), "{told}");
        for (_, count) in world.when(|output| match output {
            Output::MoveAway { count } => Some(count),
            _ => None,
        }) {
            assert!(count <= 15, "{count} at once");
            told += count;
            world.participants = world.participants.saturating_sub(count);
        }
    }
    assert!(told >= 1_200 && world.now.since(began) > deadline.mul_f64(0.55), "{told}");
    world.run(400);
    assert_eq!(world.done(), [Output::Drained]);
    assert!(world.tenure.is_draining());
    world.run(60_000);
    assert_eq!(world.done(), [], "nobody is late");
    world.handle(Input::Undrain);
    assert_eq!(world.done(), [Output::Undrained]);
    assert!(world.ask("b", 1, Goal::Join).is_ok());
    world.handle(Input::Undrain);
    assert_eq!(world.done(), []);
    world.run(400);
    assert!(!world.beats()["gw"].draining);
}

#[test]
fn a_drain_that_is_called_off_moves_nobody_more_and_one_that_is_late_says_so() {
    let mut world = World::new(&["gw"]);
    world.participants = 100;
    world.run(1_000);
    let deadline = Duration::from_secs(10);
    world.handle(Input::Drain { pace_per_second: 10, deadline });
    world.run(1_000);
    assert!(world.beats()["gw"].draining);
    world.handle(Input::Undrain);
    world.done();
    world.run(20_000);
    assert_eq!(world.done(), []);
    // They do not go.
    world.handle(Input::Drain { pace_per_second: 10, deadline });
    world.run(9_999);
    let said = world.done();
    assert!(said.iter().all(|output| matches!(output, Output::MoveAway { .. })), "{said:?}");
    world.run(10_000);
    let late = world.done();
    let late = late.iter().filter(|output| **output == Output::DrainLate).count();
    assert_eq!(late, 1);
}

//! What is believed of regions, of a view that shrinks, and of nodes that answer and do not deliver.

use std::time::Duration;

use outlast_gateway_core::{Gone, Health, Input, Output, RegionHealth, StreamEvent, Why};
use outlast_model::{BEAT_INTERVAL, Epoch, SessionId, Time};
use outlast_wire::Outlook;

use crate::world::{Setup, World};

pub(crate) const REGIONS: Setup<'_> = Setup {
    nodes: &["eu-1", "eu-2", "us-1", "ap-1"],
    gateways: &["eu-g2", "us-g1", "ap-g1"],
    directory: None,
    shards: &[],
};

fn verdicts(world: &mut World) -> Vec<(String, RegionHealth)> {
    let said = world.said.drain(..).filter_map(|(_, output)| match output {
        Output::RegionVerdict { region, health } => Some((region.to_string(), health)),
        _ => None,
    });
    said.collect()
}

fn down_after(world: &mut World, node: &str, since: Time) -> u128 {
    while world.health(node) != Health::Down {
        world.run(10);
        assert!(world.now.since(since).as_secs() < 10);
    }
    world.now.since(since).as_millis()
}

#[test]
fn a_region_is_down_only_when_most_of_the_others_do_not_hear_it_either() {
    let mut world = World::new(&REGIONS);
    world.run(1_000);
    assert_eq!(world.role.facts(world.now).regions, [3, 0, 0]);
    verdicts(&mut world);
    world.silence("us-1");
    world.run(3_000);
    assert_eq!(verdicts(&mut world), [], "its gateway is there");
    world.silence_gateway("us-g1");
    world.run(3_000);
    assert_eq!(verdicts(&mut world), [("us".into(), RegionHealth::Doubted)]);
    world.run(20_000);
    assert_eq!(verdicts(&mut world), [], "this gateway's word alone is none");
    world.other("ap-g1").hears = vec!["ap", "eu"];
    world.run(500);
    assert_eq!(verdicts(&mut world), [("us".into(), RegionHealth::Down)], "two of three");
    assert_eq!(world.role.region_health(&"us".into()), RegionHealth::Down);
    let facts = world.role.facts(world.now);
    assert_eq!((facts.regions, facts.gateways), ([2, 0, 1], 2));

    // It is back: its rooms are served, and new ones go elsewhere for a while, even to a node that has just started.
    world.start("us-1", 2);
    world.run(2_000);
    assert!(!world.role.view().node(&"us-1".into()).unwrap().probation);
    assert_eq!(verdicts(&mut world), [("us".into(), RegionHealth::Up)]);
    world.connects("us-1", 2);
    world.hosts("us-1", "of us", 1);
    assert_eq!(world.place("of us"), Some(("us-1".into(), 1, true)));
    let gets_new = |world: &mut World| {
        let now = world.now.as_millis();
        (0..40).any(|n| world.place(&format!("{now} {n}")).unwrap().0 == "us-1")
    };
    assert!(!gets_new(&mut world));
    world.run(31_000);
    assert!(gets_new(&mut world));
}

#[test]
fn who_does_not_hear_this_gateway_is_not_asked_for_an_opinion() {
    let mut world = World::new(&REGIONS);
    world.run(2_000);
    world.other("ap-g1").hears_us = false;
    world.other("ap-g1").hears = vec!["ap"];
    world.other("eu-g2").hears_us = false;
    world.silence("us-1");
    world.silence_gateway("us-g1");
    world.run(10_000);
    assert_eq!(world.role.region_health(&"us".into()), RegionHealth::Doubted);
    assert_eq!(world.role.facts(world.now).gateways, 0);
    world.other("ap-g1").hears_us = true;
    world.run(1_000);
    assert_eq!(world.role.region_health(&"us".into()), RegionHealth::Down);
    // What it said in an earlier life, or earlier in this one, and comes late: nothing.
    world.silence_gateway("ap-g1");
    for (epoch, stamp) in [(Epoch(0), u64::MAX), (Epoch(1), 1)] {
        let outlook = Outlook { stamp, ..Outlook::default() };
        world.handle(Input::Outlook { gateway: "ap-g1".into(), epoch, outlook });
        world.run(500);
    }
    let mut stamps = world.said.iter().filter_map(|(_, said)| match said {
        Output::Outlook { gateway, outlook } if gateway.as_str() == "ap-g1" => outlook.echoed,
        _ => None,
    });
    assert!(stamps.all(|echoed| echoed.epoch == Epoch(1) && echoed.stamp > 1));
}

#[test]
fn a_view_that_shrinks_by_more_than_half_is_doubted_without_a_witness() {
    let setup = Setup { gateways: &["us-g1"], ..Setup::default() };
    let both = |world: &mut World, setup: &dyn Fn(&mut World)| {
        world.run(6_000);
        world.open(1, "a", "eu-1", 1);
        let since = world.now;
        world.silence("eu-1");
        world.silence("eu-2");
        setup(world);
        [down_after(world, "eu-1", since), down_after(world, "eu-2", since)]
    };
    // Nobody else has lost them: perhaps this gateway has lost its network.
    let mut world = World::new(&setup);
    let [first, second] = both(&mut world, &|_| {});
    assert!((3_000..=3_500).contains(&first) && first == second, "{first} {second}");
    let shrunk = world.said.iter().any(|(_, said)| {
        matches!(said, Output::Outlook { outlook, .. } if outlook.shrunk && outlook.alive == 1)
    });
    assert!(shrunk, "and it says so");
    // Another gateway has.
    let mut world = World::new(&setup);
    let seen = both(&mut world, &|world| world.other("us-g1").shrunk = true);
    assert!(seen.iter().all(|after| *after <= 2_010), "{seen:?}");
    // Their machines have reset connections.
    let mut world = World::new(&setup);
    let seen = both(&mut world, &|world| {
        world.stream("eu-1", StreamEvent::Lost);
        world.handle(Input::ConnectionRefused { node: "eu-2".into() });
    });
    assert!(seen.iter().all(|after| *after <= 900), "{seen:?}");
    // There is nobody who could have.
    let mut world = World::new(&Setup::default());
    let seen = both(&mut world, &|_| {});
    assert!(seen.iter().all(|after| *after <= 2_010), "{seen:?}");
    // They come back in time: nobody has heard of anything.
    let mut world = World::new(&setup);
    world.run(6_000);
    world.open(1, "a", "eu-1", 1);
    let since = world.now;
    world.silence("eu-1");
    world.silence("eu-2");
    world.run(2_000);
    world.wake_up("eu-1");
    world.wake_up("eu-2");
    world.run(10_000);
    assert_eq!(world.told(since), []);
    assert_eq!(world.health("eu-1"), Health::Alive);
}

#[test]
fn a_node_that_answers_and_does_not_deliver_is_out_within_fifteen_seconds_and_may_come_back() {
    let mut world = World::new(&Setup::default());
    let (began, mut session) = (world.now, 0);
    let join = |world: &mut World, node: &str, session: u64, reached: bool| {
        world.open(session, &format!("at {node}"), node, 1);
        world.handle(Input::Answered { session: SessionId(session) });
        if reached {
            world.handle(Input::Reached { session: SessionId(session) });
        }
    };
    for node in ["eu-1", "eu-2", "us-1"] {
        world.hosts(node, &format!("at {node}"), 1);
    }
    let ejected = |world: &World, ejected: bool| {
        let said = world
            .said
            .iter()
            .find(|(_, said)| *said == Output::Ejection { node: "eu-1".into(), ejected });
        said.map(|(at, _)| *at)
    };
    while ejected(&world, true).is_none() {
        for node in ["eu-1", "eu-2", "us-1"] {
            session += 1;
            join(&mut world, node, session, node != "eu-1");
        }
        world.run(1_000);
        assert!(world.now.since(began).as_secs() <= 15);
    }
    world.run(1_000);
    assert_eq!(world.role.facts(world.now).ejected, 1);
    let out = ejected(&world, true).unwrap();
    let told = world.told(began);
    assert!(!told.is_empty() && told.iter().all(|(.., why)| *why == Why::NodeEjected), "{told:?}");
    assert_eq!(world.role.resume(&"at eu-1".into()), Err(Gone));
    assert!(world.role.view().planned(&"at eu-1".into()).is_some(), "before anybody asks");
    let (node, generation, home) = world.place("at eu-1").unwrap();
    assert!(node != "eu-1" && generation == 2 && !home);
    // It beats as ever, and gets no new rooms; a second one that fails may not go as well.
    let gets_new = |world: &mut World| {
        let now = world.now.as_millis();
        (0..40).any(|n| world.place(&format!("{now} {n}")).unwrap().0 == "eu-1")
    };
    assert!(!gets_new(&mut world) && world.health("eu-1") == Health::Alive);
    while world.role.facts(world.now).ejected > 0 {
        world.run(100);
    }
    assert_eq!(world.now.since(out).as_secs(), 30);
    assert!(gets_new(&mut world));
}

#[test]
fn a_room_that_others_give_back_to_an_ejected_node_stays_there() {
    let mut world = World::new(&Setup::default());
    for node in ["eu-1", "eu-2", "us-1"] {
        world.hosts(node, &format!("at {node}"), 1);
    }
    let mut session = 0;
    while world.role.facts(world.now).ejected == 0 {
        for node in ["eu-1", "eu-2", "us-1"] {
            session += 1;
            world.open(session, &format!("at {node}"), node, 1);
            world.handle(Input::Answered { session: SessionId(session) });
            if node != "eu-1" {
                world.handle(Input::Reached { session: SessionId(session) });
            }
        }
        world.run(1_000);
        assert!(session <= 3 * 15, "15 s");
    }
    world.run(1_000);
    let (home, generation, _) = world.place("at eu-1").unwrap();
    world.hosts(&home, "at eu-1", generation);
    world.run(100);
    // To another gateway the new home is the one that does not deliver.
    world.loses(&home, "at eu-1", generation);
    world.loses("eu-1", "at eu-1", 1);
    world.hosts("eu-1", "at eu-1", 3);
    assert_eq!(world.place("at eu-1"), Some(("eu-1".to_owned(), 3, true)));
    assert_eq!(world.role.resume(&"at eu-1".into()).unwrap().node, "eu-1".into());
    assert_ne!(world.place("new").unwrap().0, "eu-1");
}

#[test]
fn what_this_gateway_sees_it_tells_the_others() {
    let mut world = World::new(&REGIONS);
    world.run(1_000);
    world.said.clear();
    world.silence("ap-1");
    world.silence_gateway("ap-g1");
    world.run(4_000);
    let mut told = world.said.iter().filter_map(|(at, said)| match said {
        Output::Outlook { gateway, outlook } if gateway.as_str() == "us-g1" => {
            Some((*at, *outlook))
        }
        _ => None,
    });
    let (_, first) = told.next().unwrap();
    // Regions by name: ap, eu, us.
    assert_eq!((first.hears, first.alive, first.known, first.shrunk), (0b111, 4, 4, false));
    let (at, last) = told.next_back().unwrap();
    assert_eq!((last.hears, last.alive, last.stamp), (0b110, 3, at.as_nanos()));
    assert!(last.echoed.is_some_and(|echoed| echoed.held.as_millis() <= 400));
}

#[test]
fn a_verdict_on_a_region_is_told_to_the_others_at_once() {
    let mut world = World::new(&REGIONS);
    world.run(1_000);
    world.silence("us-1");
    world.silence_gateway("us-g1");
    world.run(5_000);
    world.said.clear();
    world.other("ap-g1").hears = vec!["ap", "eu"];
    world.run(1_000);
    let judged = |said: &Output| matches!(said, Output::RegionVerdict { health, .. } if *health == RegionHealth::Down);
    let (at, _) = *world.said.iter().find(|(_, said)| judged(said)).unwrap();
    for other in REGIONS.gateways {
        let times = world.said.iter().filter_map(|(at, said)| match said {
            Output::Outlook { gateway, .. } if gateway.as_str() == *other => Some(*at),
            _ => None,
        });
        let times: Vec<_> = times.collect();
        let told = times.iter().position(|time| *time == at).expect("with the verdict");
        assert!(at.since(times[told - 1]) < BEAT_INTERVAL, "none was due");
        assert_eq!(times[told + 1].since(at), BEAT_INTERVAL, "and then as ever");
    }
}

#[test]
fn a_session_that_opens_when_its_node_has_just_died_is_told_at_once() {
    let mut world = World::new(&Setup::default());
    let (node, generation, _) = world.place("a").unwrap();
    world.silence(&node);
    world.run(3_000);
    assert_eq!(world.health(&node), Health::Down);
    let since = world.now;
    world.told(since);
    world.open(1, "a", &node, generation);
    world.run(500);
    let told: Vec<_> = world.told(since).into_iter().map(|(_, who, why)| (who, why)).collect();
    assert_eq!(told, [(1, Why::NodeDown)]);
}

#[test]
fn homes_in_a_region_that_comes_and_goes_are_left_alone_until_it_is_calm() {
    let mut world = World::new(&REGIONS);
    for _ in 0..2 {
        world.run(4_000);
        world.silence("us-1");
        world.silence_gateway("us-g1");
        world.other("ap-g1").hears = vec!["ap", "eu"];
        world.run(4_000);
        assert_eq!(world.role.region_health(&"us".into()), RegionHealth::Down);
        world.other("ap-g1").hears = vec!["ap", "eu", "us"];
        world.wake_gateway("us-g1");
        world.start("us-1", 2);
    }
    world.run(1_000);
    world.connects("us-1", 2);
    world.hosts("eu-1", "a", 1);
    world.hosts("us-1", "a", 2);
    world.run(20_000);
    assert_eq!(world.steered(), [], "us has fallen twice within a minute");
    world.run(15_000);
    assert_eq!(world.steered().first(), Some(&("eu-1".into(), "us-1".into(), 2)));
}

#[test]
fn name_servers_are_told_whether_to_send_clients_and_what_is_near() {
    let setup = Setup {
        nodes: &["ap-1", "eu-1", "us-1"],
        gateways: &["ap-g1", "us-g1"],
        ..Setup::default()
    };
    let last = |world: &World| {
        let bulletins = world.said.iter().rev().filter_map(|(_, said)| match said {
            Output::Bulletin { outlook } => Some(*outlook),
            _ => None,
        });
        bulletins.into_iter().next().unwrap()
    };
    let mut world = World::unheard(&setup, Time::from_millis(5_000));
    world.run(50);
    assert!(last(&world).closed, "it has heard nobody yet");
    let mut world = World::new(&setup);
    world.node("ap-1").latency = Duration::from_millis(120);
    world.node("us-1").latency = Duration::from_millis(60);
    world.run(3_000);
    let bulletin = last(&world);
    assert_eq!((bulletin.closed, bulletin.doors, bulletin.alive), (false, 0b111, 3));
    assert_eq!(bulletin.nearest[..3], [3, 1, 0], "us, then ap; bits from 1");
    // Of ap only the node is heard.
    world.silence_gateway("ap-g1");
    world.run(3_000);
    assert_eq!((last(&world).doors, last(&world).hears), (0b110, 0b111));
    let before = world.said.len();
    world.handle(Input::Drain);
    assert!(
        world.said[before..]
            .iter()
            .any(|(_, said)| { matches!(said, Output::Bulletin { outlook } if outlook.closed) })
    );
}

#[test]
fn clients_are_told_of_near_gateways_first_and_of_silent_ones_last() {
    let setup = Setup {
        nodes: &["ap-1", "eu-1", "us-1"],
        gateways: &["ap-g1", "eu-g2", "us-g1"],
        ..Setup::default()
    };
    let mut world = World::new(&setup);
    world.node("ap-1").latency = Duration::from_millis(120);
    world.node("us-1").latency = Duration::from_millis(60);
    world.run(3_000);
    let doors = |world: &World, near: Option<&str>| -> Vec<String> {
        let near = near.map(Into::into);
        let doors = world.role.doors(world.now, near.as_ref());
        doors.into_iter().map(|(id, _)| id.to_string()).collect()
    };
    assert_eq!(doors(&world, None), ["eu-g1", "eu-g2", "us-g1", "ap-g1"]);
    assert_eq!(doors(&world, Some("ap")), ["ap-g1", "eu-g1", "eu-g2", "us-g1"]);
    world.silence_gateway("us-g1");
    world.run(3_000);
    assert_eq!(doors(&world, Some("us")), ["eu-g1", "eu-g2", "ap-g1", "us-g1"]);
}

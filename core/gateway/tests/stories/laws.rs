//! What holds whatever comes: in any order, at any time, from nodes and directories that do as they like. Most of the laws are
//! checked by [`World`] with every input.

use std::time::Duration;

use outlast_directory::{
    CallId, Failure, InstanceId, Partition, Placed, PlacementId, Record, Reply, Table,
};
use outlast_gateway_core::{Goal, Input, NodeRefusal, Session, StreamEvent};
use outlast_model::{Epoch, Generation, RoomSettings, SessionId, Time};
use outlast_wire::{Beat, RoomFrame, Snapshot, SnapshotNode};
use proptest::prelude::*;

use crate::{
    engine::Way,
    world::{Setup, World},
};

const NODES: [&str; 5] = ["eu-1", "eu-2", "eu-3", "us-1", "us-2"];
const GATEWAYS: [&str; 3] = ["eu-g2", "us-g1", "ap-g1"];

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    StandStill(u64),
    Join(u8, bool),
    Refused(u64, u8),
    Unreached(u64, bool),
    Withdrawn(u64),
    Admitted(u64),
    /// Somebody is in, without a wish.
    Opened(u64, u8, usize, u64),
    Answered(u64, bool),
    LinkLost(u64),
    Closed(u64),
    Silent(usize),
    Awake(usize),
    Restarted(usize, u64),
    Deaf(usize, bool),
    Drains(usize, bool),
    Full(usize, bool),
    HalfBeat(usize, u64),
    Hosts(usize, u8, u64, bool),
    Closes(usize, u8, u64),
    Stream(usize, u8),
    ConnectionRefused(usize),
    Gateway(usize, bool, bool),
    Way(usize, u8),
    Wiped(usize, u128),
    Answer(u16, u64, u8),
    Deleted(u8),
    Drain,
}

/// A partition, if there are so many.
fn part() -> impl Strategy<Value = u16> {
    0..2_u16
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES.len();
    let of = || 0..40_u64;
    let bit = any::<bool>;
    let clients = prop_oneof![
        8 => (0..6_u8, bit()).prop_map(|(room, joins)| Step::Join(room, joins)),
        4 => (of(), 0..6_u8).prop_map(|(ask, why)| Step::Refused(ask, why)),
        2 => (of(), bit()).prop_map(|(ask, refused)| Step::Unreached(ask, refused)),
        1 => of().prop_map(Step::Withdrawn),
        6 => of().prop_map(Step::Admitted),
        1 => (of(), 0..6_u8, node(), 1..6_u64)
            .prop_map(|(session, room, node, generation)| Step::Opened(session, room, node, generation)),
        2 => (of(), bit()).prop_map(|(session, reached)| Step::Answered(session, reached)),
        1 => of().prop_map(Step::LinkLost),
        2 => of().prop_map(Step::Closed),
        1 => (0..6_u8).prop_map(Step::Deleted),
    ];
    let nodes = prop_oneof![
        2 => node().prop_map(Step::Silent),
        3 => node().prop_map(Step::Awake),
        1 => (node(), 1..6_u64).prop_map(|(node, epoch)| Step::Restarted(node, epoch)),
        1 => (node(), bit()).prop_map(|(node, hears)| Step::Deaf(node, hears)),
        1 => (node(), bit()).prop_map(|(node, drains)| Step::Drains(node, drains)),
        1 => (node(), bit()).prop_map(|(node, full)| Step::Full(node, full)),
        1 => (node(), 0..6_u64).prop_map(|(node, epoch)| Step::HalfBeat(node, epoch)),
        6 => (node(), 0..6_u8, 1..8_u64, bit()).prop_map(|(node, room, generation, set)| {
            Step::Hosts(node, room, generation, set)
        }),
        2 => (node(), 0..6_u8, 1..8_u64)
            .prop_map(|(node, room, generation)| Step::Closes(node, room, generation)),
        2 => (node(), 0..6_u8).prop_map(|(node, event)| Step::Stream(node, event)),
        1 => node().prop_map(Step::ConnectionRefused),
    ];
    let rest = prop_oneof![
        12 => prop_oneof![Just(0), 1..500_u64, 1..5_000_u64].prop_map(Step::Pass),
        1 => (0..30_000_u64).prop_map(Step::StandStill),
        1 => (0..3_usize, bit(), bit()).prop_map(|(at, speaks, shrunk)| Step::Gateway(at, speaks, shrunk)),
        2 => (part(), 0..5_u8).prop_map(|(part, way)| Step::Way(part.into(), way)),
        1 => (part(), 1..5_u128).prop_map(|(part, id)| Step::Wiped(part.into(), id)),
        2 => (part(), 1..60_u64, 0..7_u8)
            .prop_map(|(part, call, what)| Step::Answer(part, call, what)),
    ];
    prop_oneof![
        6 => clients,
        5 => nodes,
        5 => rest,
        // Rare: it ends all joins.
        1 => Just(Step::Pass(10)),
        1 => (0..60_u8).prop_map(|chance| if chance == 0 { Step::Drain } else { Step::Pass(20) }),
    ]
}

fn record(node: usize, generation: u64) -> Record {
    Record {
        node: NODES[node].into(),
        epoch: Epoch(1),
        generation: Generation(generation),
        id: PlacementId(77),
        provisional: false,
    }
}

fn room(room: u8) -> String {
    format!("room {room}")
}

fn client(world: &mut World, step: Step) {
    match step {
        Step::Join(of, joins) => {
            world.ask(&room(of), if joins { Goal::Join } else { Goal::Resume });
        }
        Step::Refused(ask, why) => {
            let why = match why {
                0 => NodeRefusal::Full,
                1 => NodeRefusal::Draining,
                2 => NodeRefusal::Busy,
                3 => NodeRefusal::Other,
                stale => NodeRefusal::Stale(Generation(u64::from(stale) + ask % 5)),
            };
            world.refuse(ask, why);
        }
        Step::Unreached(ask, refused) => world.unreached(ask, refused),
        Step::Withdrawn(ask) => world.withdraw(ask),
        Step::Admitted(ask) => {
            if let Some(of) = world.room_of(ask).filter(|_| world.went(ask).is_some()) {
                world.close(ask);
                world.admit(ask, &of);
            }
        }
        Step::Opened(session, of, node, generation) => {
            world.close(session);
            let (room, client) = (room(of).into(), "somebody".into());
            let generation = Generation(generation);
            let at = Session { room, client, node: NODES[node].into(), generation };
            world.opens(session, 1_000_000, at);
        }
        Step::Answered(session, reached) => {
            let session = SessionId(session);
            world.handle(Input::Answered { session });
            if reached {
                world.handle(Input::Reached { session });
            }
        }
        Step::LinkLost(session) => world.break_link(session),
        Step::Closed(session) => world.close(session),
        Step::Deleted(of) => world.handle(Input::Deleted { room: room(of).into() }),
        other => node(world, other),
    }
}

fn node(world: &mut World, step: Step) {
    match step {
        Step::Silent(node) => world.silence(NODES[node]),
        Step::Awake(node) => world.wake_up(NODES[node]),
        Step::Restarted(node, epoch) => world.start(NODES[node], epoch),
        Step::Deaf(node, hears) => world.node(NODES[node]).hears = hears,
        Step::Drains(node, drains) => world.node(NODES[node]).draining = drains,
        Step::Full(node, full) => world.node(NODES[node]).full = full,
        Step::HalfBeat(node, epoch) => world.handle(Input::Beat {
            node: NODES[node].into(),
            epoch: Epoch(epoch),
            sequence: 0,
            beat: Beat { ticked: epoch % 2 == 0, ..Beat::default() },
        }),
        Step::Hosts(node, of, generation, set) => {
            let settings = set.then(RoomSettings::default);
            world.hosts_with(NODES[node], &room(of), generation, settings);
        }
        Step::Closes(node, of, generation) => world.closes(NODES[node], &room(of), generation),
        Step::Stream(node, event) => {
            let event = match event {
                0 => StreamEvent::Connected,
                1 => StreamEvent::Lost,
                2 => StreamEvent::Frame(RoomFrame::Synced),
                start => {
                    StreamEvent::Frame(RoomFrame::Started { epoch: Epoch(u64::from(start) - 2) })
                }
            };
            world.stream(NODES[node], event);
        }
        Step::ConnectionRefused(node) => {
            world.handle(Input::ConnectionRefused { node: NODES[node].into() });
        }
        other => rest(world, other),
    }
}

fn rest(world: &mut World, step: Step) {
    match step {
        Step::Pass(millis) => world.run(millis),
        Step::StandStill(millis) => {
            world.stand_still(Duration::from_millis(millis));
            world.handle(Input::Wake);
        }
        Step::Gateway(at, speaks, shrunk) => {
            world.other(GATEWAYS[at]).shrunk = shrunk;
            world.other(GATEWAYS[at]).hears = if shrunk { vec!["eu"] } else { vec!["eu", "us"] };
            if speaks {
                world.wake_gateway(GATEWAYS[at]);
            } else {
                world.silence_gateway(GATEWAYS[at]);
            }
        }
        Step::Way(part, way) => {
            let part = part % world.parts.len();
            world.parts[part].way =
                [Way::Up(20), Way::Up(300), Way::Black, Way::Refuses, Way::Mute][usize::from(way)];
        }
        Step::Wiped(part, instance) => {
            let part = part % world.parts.len();
            world.parts[part].table = Table::new(InstanceId(instance));
        }
        Step::Answer(part, call, what) => {
            let at = Partition(part % u16::try_from(world.parts.len()).unwrap());
            let reply = match what {
                0 => Reply::Done,
                1 => Reply::Failed(Failure::Unknown),
                2 => Reply::Failed(Failure::Unavailable),
                3 => Reply::Failed(Failure::Fenced(Generation(call % 9))),
                4 => Reply::Failed(Failure::Bad("no".into())),
                5 => Reply::Placed(Placed::Won(record(call as usize % 5, call % 9 + 1))),
                _ => Reply::Placed(Placed::Held(record(call as usize % 5, call % 9 + 1))),
            };
            world.handle(Input::Directory { call: CallId { at, number: call }, reply });
        }
        Step::Drain => world.handle(Input::Drain),
        other => unreachable!("{other:?} is done by others"),
    }
}

/// What this gateway has left behind before it began anew: a room at each node, and one that has ended.
fn left_behind() -> Snapshot {
    let frame = |at: usize| RoomFrame::Hosted {
        room: room(at as u8).into(),
        generation: Generation(at as u64 + 1),
        settings: Some(RoomSettings::default()),
    };
    let nodes = NODES.iter().enumerate().map(|(at, id)| SnapshotNode {
        id: (*id).into(),
        epoch: Epoch(1),
        frames: vec![frame(at)],
    });
    let ended = vec![(room(5).into(), Generation(3))];
    Snapshot { written_unix_ms: 0, nodes: nodes.collect(), ended }
}

fn run(steps: &[Step], directory: Option<bool>, shards: &[&str], restarted: bool) -> World {
    let setup = Setup { nodes: &NODES, gateways: &GATEWAYS, directory, shards };
    let mut world = if restarted {
        let mut world = World::unheard(&setup, Time::from_millis(5_000));
        world.role.restore(world.now, left_behind(), Duration::from_secs(9));
        world
    } else {
        World::new(&setup)
    };
    for step in steps {
        client(&mut world, step.clone());
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_nobody_is_forgotten_and_nothing_spins(
        steps in prop::collection::vec(step(), 1..150),
        directory in prop_oneof![Just(None), any::<bool>().prop_map(Some)],
        sharded: bool,
        restarted: bool,
    ) {
        let shards: &[_] = if sharded { &["eu", "us"] } else { &[] };
        let mut world = run(&steps, directory, shards, restarted);
        let again = run(&steps, directory, shards, restarted);
        prop_assert!(world.said == again.said, "the same inputs, the same outputs");
        // Whoever wants in has been answered one way or the other.
        world.run(4_000);
        prop_assert_eq!(world.role.facts(world.now).asks, 0);
        prop_assert_eq!(world.waiting(), 0);
        // With the directory there, and all nodes well, it is right in the end.
        world.parts.iter_mut().for_each(|part| part.way = Way::Up(20));
        for node in NODES {
            world.wake_up(node);
            world.node(node).hears = true;
        }
        world.run(15_000);
        prop_assert_eq!(world.role.facts(world.now).directory_away, 0);
        // What is left to do is beats, outlooks and the directory's.
        let before = world.wakes;
        world.run(10_000);
        prop_assert!(world.wakes - before < 150, "{} wakes in 10 s", world.wakes - before);
    }
}

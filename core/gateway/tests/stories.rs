//! Stories of faults in simulated time: what clients are told, and when.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use outlast_gateway_core::{
    Facts, Gone, Health, Input, Located, NodeFacts, Output, Role, RoleConfig, Session, StreamEvent,
    Why,
};
use outlast_model::{BEAT_INTERVAL, Epoch, Generation, NodeId, RoomName, SessionId, Time};
use outlast_wire::{Beat, Echoed, RoomFrame};

const NODES: [&str; 3] = ["eu-1", "eu-2", "us-1"];

/// A gateway, its nodes' beats, and what it has said.
struct Story {
    role: Role,
    now: Time,
    /// Epoch and next beat of each node; `None` while it is silent.
    beats: Vec<(NodeId, Option<(Epoch, Time)>)>,
    sequence: u64,
    draining: Option<NodeId>,
    said: Vec<(Time, Output)>,
}

impl Story {
    fn new() -> Story {
        let facts = |id: &str| NodeFacts { id: id.into(), region: id[..2].into(), capacity: 1 };
        let nodes = NODES.map(facts).to_vec();
        let now = Time::from_millis(5_000);
        let role = Role::new(RoleConfig { epoch: Epoch(7), nodes, tell_per_second: 500 }, now);
        // Beats come at different phases.
        let phase = |n: usize| now + Duration::from_millis(130 * n as u64);
        let beats = NODES.iter().enumerate();
        let beats = beats.map(|(n, id)| ((*id).into(), Some((Epoch(1), phase(n))))).collect();
        let mut story = Story { role, now, beats, sequence: 0, draining: None, said: Vec::new() };
        story.run(1_000);
        for node in NODES {
            story.stream(node, StreamEvent::Connected);
            story.stream(node, StreamEvent::Frame(RoomFrame::Synced));
        }
        assert!(story.role.settled(story.now));
        story
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.role.handle(self.now, input, &mut out);
        self.said.extend(out.into_iter().map(|output| (self.now, output)));
    }

    /// Lets `millis` pass: beats arrive, the role wakes when it asked to.
    fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let beat = self.beats.iter().filter_map(|(_, beat)| beat.map(|(_, at)| at)).min();
            let wake = self.role.wake_at().map(|at| at.max(self.now));
            let Some(next) = beat.into_iter().chain(wake).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = next;
            let due =
                self.beats.iter_mut().find(|(_, beat)| beat.is_some_and(|(_, at)| at == next));
            let Some((node, Some((epoch, at)))) = due else {
                self.handle(Input::Wake);
                continue;
            };
            *at = *at + BEAT_INTERVAL;
            let (node, epoch) = (node.clone(), *epoch);
            self.sequence += 1;
            let draining = self.draining.as_ref() == Some(&node);
            let stamp = (self.now - Duration::from_millis(50)).as_nanos();
            let held = Duration::from_millis(20);
            let echoed = Some(Echoed { epoch: Epoch(7), stamp, held });
            let beat = Beat { ticked: true, draining, echoed, ..Beat::default() };
            self.handle(Input::Beat { node, epoch, sequence: self.sequence, beat });
        }
        self.now = end;
    }

    fn stream(&mut self, node: &str, event: StreamEvent) {
        self.handle(Input::Stream { node: node.into(), event });
    }

    fn hosts(&mut self, node: &str, room: &str, generation: u64) {
        let frame = RoomFrame::Hosted { room: room.into(), generation: Generation(generation) };
        self.stream(node, StreamEvent::Frame(frame));
    }

    fn join(&mut self, session: u64, room: &str, node: &str, generation: u64) {
        let client = format!("client {session}").as_str().into();
        let generation = Generation(generation);
        let at = Session { room: room.into(), client, node: node.into(), generation };
        self.handle(Input::Opened { session: SessionId(session), at });
    }

    fn closes(&mut self, node: &str, room: &str, generation: u64) {
        let frame = RoomFrame::Closed { room: room.into(), generation: Generation(generation) };
        self.stream(node, StreamEvent::Frame(frame));
    }

    fn break_link(&mut self, session: u64) {
        self.handle(Input::LinkLost { session: SessionId(session) });
    }

    fn silence(&mut self, node: &str) {
        self.beats.iter_mut().find(|(id, _)| id.as_str() == node).unwrap().1 = None;
    }

    fn start(&mut self, node: &str, epoch: u64) {
        let beat = Some((Epoch(epoch), self.now));
        self.beats.iter_mut().find(|(id, _)| id.as_str() == node).unwrap().1 = beat;
    }

    /// Everybody told since the last call: how long after `since`, who, why.
    fn told(&mut self, since: Time) -> Vec<(u128, u64, Why)> {
        let told = self.said.drain(..).filter_map(|(at, output)| match output {
            Output::Tell { session, why } => Some((at.since(since).as_millis(), session.0, why)),
            Output::Echo { .. } | Output::Verdict { .. } | Output::Drained => None,
        });
        told.collect()
    }

    fn health(&self, node: &str) -> Health {
        self.role.view().node(&node.into()).unwrap().health
    }
}

#[test]
fn a_frozen_node_is_down_after_five_missed_beats_and_everyone_is_told() {
    let mut story = Story::new();
    story.hosts("eu-1", "a", 1);
    for session in 0..40 {
        story.join(session, "a", "eu-1", 1);
    }
    story.join(40, "b", "us-1", 1);
    story.run(3_210);
    let frozen = story.now;
    story.silence("eu-1");
    story.run(10_000);
    let told = story.told(frozen);
    assert_eq!(told.len(), 40, "and nobody of the other node");
    for (after, session, why) in told {
        assert!((1_600..=2_000).contains(&after), "session {session} told after {after} ms");
        assert_eq!(why, Why::NodeDown);
    }
    let place = story.role.place(&"a".into(), &[]).unwrap();
    assert_eq!((place.generation, place.home), (Generation(2), false));
    assert_ne!(place.node, "eu-1".into());
    assert_eq!(story.role.resume(&"a".into()), Err(Gone));

    // It wakes: three beats later it may have new rooms, the old room stays where it went.
    let new_home = place.node.to_string();
    story.hosts(&new_home, "a", 2);
    story.start("eu-1", 1);
    story.run(500);
    assert_eq!(story.health("eu-1"), Health::Down);
    story.run(1_000);
    assert_eq!(story.health("eu-1"), Health::Alive);
    assert_eq!(story.role.place(&"a".into(), &[]).unwrap().node, place.node);
}

#[test]
fn a_killed_node_resets_its_sockets_and_its_clients_know_at_once() {
    let mut story = Story::new();
    story.hosts("eu-1", "a", 1);
    story.join(1, "a", "eu-1", 1);
    story.join(2, "a", "eu-1", 1);
    story.run(1_230);
    let killed = story.now;
    story.silence("eu-1");
    story.break_link(1);
    story.run(5);
    story.stream("eu-1", StreamEvent::Lost);
    assert_eq!(story.health("eu-1"), Health::Suspect);
    story.run(95);
    assert_eq!(story.told(killed), [(100, 1, Why::LinkLost)]);
    story.handle(Input::Closed { session: SessionId(1) });
    // Its room does not move on one reset alone.
    assert_eq!(story.role.place(&"a".into(), &[]).unwrap().node, "eu-1".into());
    story.run(1_000);
    let told = story.told(killed);
    assert_eq!(told.len(), 1, "the one whose socket hangs: {told:?}");
    assert!(told[0].0 <= 900);
    assert_eq!(story.role.place(&"a".into(), &[]).unwrap().generation, Generation(2));
}

#[test]
fn one_broken_connection_to_a_node_that_is_fine_costs_a_resume_and_no_more() {
    let mut story = Story::new();
    story.hosts("eu-1", "a", 1);
    story.join(1, "a", "eu-1", 1);
    story.run(1_000);
    let broken = story.now;
    story.break_link(1);
    story.run(500);
    assert_eq!(story.told(broken), [(100, 1, Why::LinkReset)]);
    assert!(Why::LinkReset.resumes() && !Why::LinkLost.resumes());
    assert!(story.role.resume(&"a".into()).is_ok());
    // One whose node falls silent while it waits for its turn is not sent back there.
    story.handle(Input::Closed { session: SessionId(1) });
    story.join(2, "a", "eu-1", 1);
    let killed = story.now;
    story.silence("eu-1");
    story.break_link(2);
    story.run(20);
    story.stream("eu-1", StreamEvent::Lost);
    story.run(300);
    assert_eq!(story.told(killed), [(100, 2, Why::LinkLost)]);
}

#[test]
fn one_client_that_breaks_its_sockets_does_not_degrade_the_node() {
    let mut story = Story::new();
    let session = |story: &mut Story, session: u64, client: &str| {
        let (room, client) = (format!("room {session}").as_str().into(), client.into());
        let at = Session { room, client, node: "eu-1".into(), generation: Generation(1) };
        story.handle(Input::Opened { session: SessionId(session), at });
        story.break_link(session);
    };
    for n in 0..20 {
        session(&mut story, n, "mallory");
        assert_eq!(story.health("eu-1"), Health::Alive);
    }
    session(&mut story, 20, "ann");
    assert_eq!(story.health("eu-1"), Health::Alive);
    session(&mut story, 21, "bob");
    assert_eq!(story.health("eu-1"), Health::Suspect, "three clients at once");
    story.run(1_000);
    assert_eq!(story.health("eu-1"), Health::Alive);
    // With the room stream gone as well, one is enough.
    story.stream("eu-1", StreamEvent::Lost);
    story.run(1_000);
    assert_eq!(story.health("eu-1"), Health::Alive);
    session(&mut story, 22, "mallory");
    assert_eq!(story.health("eu-1"), Health::Suspect);
}

#[test]
fn a_dead_node_s_room_that_ended_elsewhere_is_unknown_and_its_generation_is_not_used_again() {
    let mut story = Story::new();
    story.hosts("eu-1", "a", 1);
    story.run(1_000);
    story.silence("eu-1");
    story.run(3_000);
    assert_eq!(story.role.locate(&"a".into()), Located::Down);
    story.hosts("eu-2", "a", 2);
    assert!(matches!(story.role.locate(&"a".into()), Located::At(_)));
    story.closes("eu-2", "a", 2);
    assert_eq!(story.role.locate(&"a".into()), Located::Unknown);
    assert_eq!(story.role.resume(&"a".into()), Err(Gone));
    assert_eq!(story.role.place(&"a".into(), &[]).unwrap().generation, Generation(3));
    // After ten minutes nobody remembers; the next end cleans up.
    story.hosts("us-1", "b", 1);
    story.run(600_000);
    story.closes("us-1", "b", 1);
    assert_eq!(story.role.place(&"a".into(), &[]).unwrap().generation, Generation(1));
}

#[test]
fn a_machine_that_refuses_connections_lost_its_node_within_a_beat() {
    let mut story = Story::new();
    story.hosts("eu-1", "a", 1);
    story.run(1_000);
    let killed = story.now;
    story.silence("eu-1");
    story.handle(Input::Refused { node: "eu-1".into() });
    while story.health("eu-1") != Health::Down {
        story.run(20);
    }
    assert!(story.now.since(killed) <= Duration::from_millis(520));
    // A refusal while beats go on is somebody else's fault.
    story.handle(Input::Refused { node: "us-1".into() });
    story.run(5_000);
    assert_eq!(story.health("us-1"), Health::Alive);
}

#[test]
fn a_restarted_node_knows_nothing_of_its_past() {
    let mut story = Story::new();
    story.hosts("eu-1", "a", 1);
    story.join(1, "a", "eu-1", 1);
    story.run(2_000);
    // Faster than any deadline, and no reset arrived.
    let restarted = story.now;
    story.start("eu-1", 2);
    story.run(10);
    assert_eq!(story.told(restarted), [(0, 1, Why::NodeRestarted)]);
    assert_eq!(story.health("eu-1"), Health::Alive);
    assert_eq!(story.role.resume(&"a".into()), Err(Gone));
    let place = story.role.place(&"a".into(), &[]).unwrap();
    assert_eq!((place.generation, place.home), (Generation(2), false), "1 is in use no more");
}

#[test]
fn what_the_new_process_took_before_its_first_beat_stays() {
    let mut story = Story::new();
    story.run(2_000);
    story.silence("eu-1");
    story.run(100);
    story.stream("eu-1", StreamEvent::Lost);
    story.stream("eu-1", StreamEvent::Connected);
    story.stream("eu-1", StreamEvent::Frame(RoomFrame::Synced));
    story.hosts("eu-1", "a", 1);
    story.join(1, "a", "eu-1", 1);
    story.start("eu-1", 2);
    story.run(2_000);
    let since = story.now;
    assert_eq!(story.told(since), []);
    assert!(story.role.resume(&"a".into()).is_ok());
}

#[test]
fn of_two_homes_the_newer_wins_and_the_loser_s_clients_move() {
    let mut story = Story::new();
    story.join(1, "a", "eu-2", 1);
    story.hosts("eu-2", "a", 1);
    story.join(2, "a", "eu-1", 1);
    story.hosts("eu-1", "a", 1);
    let now = story.now;
    assert_eq!(story.told(now), [(0, 1, Why::Superseded)], "the lower id wins");
    story.handle(Input::Closed { session: SessionId(1) });
    // A session admitted under a newer generation than its node has told of is not the loser.
    story.join(3, "a", "us-1", 2);
    assert_eq!(story.told(now), []);
    story.hosts("us-1", "a", 2);
    assert_eq!(story.told(now), [(0, 2, Why::Superseded)]);
    // Who was sent to the loser in the meantime is told on arrival.
    story.join(4, "a", "eu-1", 1);
    story.run(10);
    assert_eq!(story.told(now), [(0, 4, Why::Superseded)]);
}

#[test]
fn a_draining_node_gives_its_rooms_away() {
    let mut story = Story::new();
    story.hosts("eu-1", "a", 1);
    story.join(1, "a", "eu-1", 1);
    story.run(1_000);
    let drained = story.now;
    story.draining = Some("eu-1".into());
    story.run(2_000);
    let told = story.told(drained);
    assert_eq!(told.len(), 1);
    assert!(told[0].0 <= 400 && told[0].2 == Why::NodeDraining, "{told:?}");
    let place = story.role.place(&"a".into(), &[]).unwrap();
    assert!(place.node != "eu-1".into() && place.generation == Generation(2));
}

#[test]
fn a_resume_at_a_draining_home_is_gone_unless_nobody_else_takes_rooms() {
    let mut story = Story::new();
    story.hosts("eu-1", "a", 1);
    story.draining = Some("eu-1".into());
    story.run(1_000);
    assert_eq!(story.role.resume(&"a".into()), Err(Gone));
    assert!(matches!(story.role.locate(&"a".into()), Located::At(_)), "it is there still");
    for other in ["eu-2", "us-1"] {
        story.silence(other);
    }
    story.run(5_000);
    assert_eq!(story.role.resume(&"a".into()).unwrap().node, "eu-1".into());
}

#[test]
fn a_drain_tells_room_by_room_and_a_room_that_has_moved_goes_first() {
    let mut story = Story::new();
    // Neighbours by session number are in different rooms.
    for session in 0..600 {
        story.join(session, &format!("room {:03}", session % 100), "eu-1", 1);
    }
    story.run(1_000);
    let drained = story.now;
    story.draining = Some("eu-1".into());
    story.run(800);
    let told = story.told(drained);
    assert!(told.len() > 100 && told.len() < 590, "{}", told.len());
    let rooms: Vec<u64> = told.iter().map(|(_, session, _)| session % 100).collect();
    assert!(rooms.is_sorted(), "room by room: {rooms:?}");
    // Another gateway's client has moved the last room: those of it here do not wait for their turn.
    story.hosts("eu-2", "room 099", 2);
    story.run(2_000);
    let told = story.told(drained);
    let last_room = told.iter().take(6).map(|(_, session, why)| (session % 100, *why));
    assert!(last_room.eq(std::iter::repeat_n((99, Why::Superseded), 6)), "{told:?}");
    assert!(told[6..].iter().all(|(_, session, _)| session % 100 != 99), "each once");
}

#[test]
fn a_gateway_that_stood_still_blames_nobody() {
    let mut story = Story::new();
    story.join(1, "a", "eu-1", 1);
    story.run(1_000);
    story.now = story.now + Duration::from_secs(20);
    let woken = story.now;
    for (_, beat) in &mut story.beats {
        *beat = beat.map(|(epoch, _)| (epoch, woken + Duration::from_millis(300)));
    }
    story.handle(Input::Wake);
    story.run(3_000);
    assert_eq!(story.told(woken), []);
    assert_eq!(story.role.facts().nodes, [3, 0, 0]);
}

#[test]
fn a_gateway_that_stops_tells_everybody_at_its_pace() {
    let mut story = Story::new();
    for session in 0..600 {
        story.join(session, &format!("room {}", session / 5), NODES[session as usize % 3], 1);
    }
    let stop = story.now;
    story.handle(Input::Drain);
    story.run(1_100);
    let told = story.told(stop);
    assert_eq!(told.len(), 600);
    assert!(told.last().unwrap().0 >= 950, "paced: {:?}", told.last());
    for session in 0..600 {
        story.handle(Input::Closed { session: SessionId(session) });
    }
    assert!(story.said.iter().any(|(_, output)| *output == Output::Drained));
    let Facts { sessions, told, .. } = story.role.facts();
    assert_eq!((sessions, told[Why::GatewayLeaving.index()]), (0, 600));
}

#[test]
fn echoes_measure_the_way_to_a_region() {
    let mut story = Story::new();
    story.run(2_000);
    // 50 ms since the stamp, of which the node held the echo for 20.
    assert_eq!(story.role.rtt(&"us".into()), Some(Duration::from_millis(30)));
    assert_eq!(story.role.rtt(&"ap".into()), None);
    let echo = story.said.iter().rev().find_map(|(at, output)| match output {
        Output::Echo { echo, .. } => Some((*at, *echo)),
        Output::Tell { .. } | Output::Verdict { .. } | Output::Drained => None,
    });
    let (at, echo) = echo.unwrap();
    assert_eq!((echo.stamp, echo.heard_epoch), (at.as_nanos(), Epoch(1)));
}

#[test]
fn after_a_start_the_view_settles_when_the_living_have_named_their_rooms() {
    let nodes = vec![NodeFacts { id: "a".into(), region: "eu".into(), capacity: 1 }];
    let start = Time::from_millis(100);
    let mut role = Role::new(RoleConfig { epoch: Epoch(1), nodes, tell_per_second: 1 }, start);
    assert!(!role.settled(start));
    assert!(role.settled(start + Duration::from_secs(2)));
    let room = RoomName::from("r");
    let out = &mut Vec::new();
    let stream = |event| Input::Stream { node: "a".into(), event };
    role.handle(start, stream(StreamEvent::Connected), out);
    let hosted = RoomFrame::Hosted { room: room.clone(), generation: Generation(3) };
    role.handle(start, stream(StreamEvent::Frame(hosted)), out);
    let beat = Beat { ticked: true, ..Beat::default() };
    role.handle(start, Input::Beat { node: "a".into(), epoch: Epoch(9), sequence: 1, beat }, out);
    assert!(!role.settled(start));
    role.handle(start, stream(StreamEvent::Frame(RoomFrame::Synced)), out);
    assert!(role.settled(start));
    assert_eq!(role.resume(&room).unwrap().generation, Generation(3));
    // Beats that no tick has passed through say nothing of the shards.
    for n in 1..=6 {
        let now = start + BEAT_INTERVAL * n;
        let hung = Beat::default();
        role.handle(
            now,
            Input::Beat { node: "a".into(), epoch: Epoch(9), sequence: n.into(), beat: hung },
            out,
        );
    }
    assert_eq!(role.view().node(&"a".into()).unwrap().health, Health::Down);
}

//! What the server API has said of somebody's permission holds whatever token that comes back with.
#![allow(dead_code, reason = "the world is shared with other tests")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::time::Duration;

use outlast_livekit::{self as proto, Message as _};
use outlast_model::{Generation, RULINGS_MAX, Ruling, RulingVersion, SessionId};
use outlast_node_core::{ApiRequest, Command, Join, Told};
use outlast_token::{ApiKeys, Claims};
use proto::{ParticipantPermission, signal_request::Message as Request, signal_response::Message};
use str0m::media::MediaKind;
use world::{SECRET, World, claims};

fn may(can_publish: bool, can_subscribe: bool) -> ParticipantPermission {
    ParticipantPermission { can_publish, can_subscribe, ..ParticipantPermission::default() }
}

fn rule(world: &mut World, identity: &str, permission: ParticipantPermission) {
    let request = proto::UpdateParticipantRequest {
        room: "room".into(),
        identity: identity.into(),
        permission: Some(permission),
        ..Default::default()
    };
    world.api(ApiRequest::UpdateParticipant(request)).expect("is done");
}

fn identity(identity: &str) -> proto::RoomParticipantIdentity {
    let (room, identity) = ("room".into(), identity.into());
    proto::RoomParticipantIdentity { room, identity, ..Default::default() }
}

/// As a gateway remembers it.
fn ruling(generation: u64, count: u32, permission: &ParticipantPermission) -> Ruling {
    let version = RulingVersion { generation: Generation(generation), count };
    Ruling { version, permission: permission.encode_to_vec().into() }
}

/// What gateways were told since `from`: of whom, the version, and whether publishing is allowed.
fn told(world: &World, from: usize) -> Vec<(String, Option<(String, bool)>)> {
    let told = world.told[from..].iter().filter_map(|told| match told {
        Told::Ruled { identity, ruling, .. } => {
            let said = ruling.as_ref().map(|ruling| {
                let permission = ParticipantPermission::decode(&*ruling.permission).unwrap();
                (ruling.version.to_string(), permission.can_publish)
            });
            Some((identity.to_string(), said))
        }
        _ => None,
    });
    told.collect()
}

/// The token that a client was given last.
fn token(world: &World, client: usize) -> Claims {
    let tokens = world.clients[client].inbox.iter().rev();
    let mut tokens = tokens.filter_map(|message| match message {
        Message::RefreshToken(token) => Some(token),
        _ => None,
    });
    let keys = ApiKeys::new([("devkey", SECRET)]).unwrap();
    keys.verify(tokens.next().unwrap(), Duration::from_secs(1_700_000_000)).unwrap()
}

/// As the client was told on joining: whether it may publish and subscribe.
fn rights(world: &World, client: usize) -> (bool, bool) {
    let join = world.clients[client].join().expect("has joined");
    let permission = join.participant.as_ref().unwrap().permission.as_ref().unwrap();
    assert_eq!(join.fast_publish, permission.can_publish);
    (permission.can_publish, permission.can_subscribe)
}

fn connected(world: &mut World) {
    world.until("all are connected", |world| {
        world.clients.iter().all(|client| client.connected || client.closed)
    });
}

fn leave(world: &mut World, client: usize) {
    world.signal(client, Request::Leave(proto::LeaveRequest::default()));
}

/// Alice, who publishes, and bob.
fn two() -> (World, usize, usize) {
    let mut world = World::new();
    let (alice, bob) = (world.join("room", "alice"), world.join("room", "bob"));
    connected(&mut world);
    world.publish(alice, MediaKind::Audio, "mic");
    world.until("bob receives", |world| world.clients[bob].tracks_by_mid().len() == 1);
    (world, alice, bob)
}

#[test]
fn an_old_token_does_not_bring_back_what_was_taken() {
    let (mut world, alice, bob) = two();
    rule(&mut world, "alice", may(false, true));
    rule(&mut world, "bob", may(true, false));
    for (client, version) in [(alice, "1.1"), (bob, "1.2")] {
        assert_eq!(token(&world, client).ruling.to_string(), version, "before anything else");
    }
    // Both start anew with the tokens that they came with first.
    let (alice, bob) = (world.join("room", "alice"), world.join("room", "bob"));
    assert_eq!((rights(&world, alice), rights(&world, bob)), ((false, true), (true, false)));
    assert_eq!(token(&world, alice).video.can_publish, Some(false));
    connected(&mut world);
    let carol = world.join("room", "carol");
    connected(&mut world);
    let audio = world.publish(carol, MediaKind::Audio, "mic");
    let denied = world.publish(alice, MediaKind::Audio, "mic");
    world.until("alice receives", |world| world.clients[alice].tracks_by_mid().len() == 1);
    for sequence in 0..50 {
        world.write(carol, audio, sequence, &[0xAB; 80]);
        world.write(alice, denied, sequence, &[0xCD; 80]);
        world.run(Duration::from_millis(20));
    }
    assert!(world.clients[alice].packets() > 40, "she may listen");
    assert_eq!((world.clients[bob].packets(), world.clients[carol].packets()), (0, 0));
    assert!(world.clients[bob].tracks_by_mid().is_empty());
}

#[test]
fn the_newest_word_counts_wherever_it_comes_from_and_whichever_way_it_goes() {
    let join = |held: &[bool], sent: Option<Ruling>, token: &str, can_publish| {
        let mut world = World::new();
        world.join("room", "alice");
        held.iter().for_each(|can_publish| rule(&mut world, "alice", may(*can_publish, true)));
        let mut claims = claims("room", "alice");
        claims.ruling = token.parse().unwrap();
        claims.video.can_publish = Some(can_publish);
        let from = world.told.len();
        let alice = world.join_ruled(Generation(1), claims, sent);
        (rights(&world, alice).0, told(&world, from), world)
    };
    let alice = |version: &str, may| vec![("alice".to_owned(), Some((version.to_owned(), may)))];
    let (no, yes) = (may(false, true), may(true, true));
    // The token's version, and what it grants.
    for (held, sent, token, grants, expected, news) in [
        (&[][..], None, "0.0", true, true, vec![]),
        (&[], Some(ruling(1, 1, &no)), "0.0", true, false, alice("1.1", false)),
        (&[], Some(ruling(1, 1, &yes)), "0.0", false, true, alice("1.1", true)),
        (&[false], None, "0.0", true, false, vec![]),
        (&[false, true], None, "0.0", false, true, vec![]),
        (&[false, true], Some(ruling(1, 1, &no)), "0.0", false, true, vec![]),
        (&[true], Some(ruling(1, 2, &no)), "0.0", true, false, alice("1.2", false)),
        (&[false], Some(ruling(1, 1, &no)), "1.2", true, true, alice("1.2", true)),
        (&[true], Some(ruling(1, 3, &yes)), "1.2", false, true, alice("1.3", true)),
        (&[], None, "1.2", false, false, alice("1.2", false)),
        (&[true, false], None, "1.1", true, false, vec![]),
    ] {
        let case = format!("{held:?} {sent:?} {token} {grants}");
        let (may, told, _) = join(held, sent, token, grants);
        assert_eq!((may, told), (expected, news), "{case}");
    }
    // What comes next is above all that anybody has brought.
    let (.., mut world) = join(&[false], None, "7.3", true);
    let from = world.told.len();
    rule(&mut world, "alice", no);
    assert_eq!(told(&world, from), alice("7.4", false));
}

#[test]
fn gateways_know_before_whoever_asked() {
    let (mut world, ..) = two();
    let from = world.told.len();
    rule(&mut world, "alice", may(false, true));
    let place = |is: fn(&Told) -> bool| world.told[from..].iter().position(is);
    let ruled = place(|told| matches!(told, Told::Ruled { .. }));
    assert!(ruled.is_some() && ruled < place(|told| matches!(told, Told::Api { .. })));
    assert!(ruled < place(|told| matches!(told, Told::Frame { .. })));
}

#[test]
fn a_session_that_waits_for_its_place_is_ruled_too() {
    let (mut world, alice, _) = two();
    let newer = world.join("room", "alice");
    rule(&mut world, "alice", may(false, true));
    assert!(world.clients[alice].leave().is_none(), "the newer one has not spoken yet");
    connected(&mut world);
    assert!(world.clients[alice].closed && !world.clients[newer].closed);
    let seen = world.clients[newer].updates().into_iter().rfind(|info| info.identity == "alice");
    let asked = proto::AddTrackRequest { cid: "mic".into(), ..Default::default() };
    world.signal(newer, Request::AddTrack(asked));
    let published = world.clients[newer].inbox.iter();
    assert_eq!(published.filter(|m| matches!(m, Message::TrackPublished(_))).count(), 0);
    assert_eq!(token(&world, newer).ruling.to_string(), "1.1", "{seen:?}");
}

#[test]
fn who_leaves_or_is_removed_comes_back_with_the_rights_of_its_token() {
    let (mut world, alice, _) = two();
    let permission = may(false, false);
    rule(&mut world, "alice", permission.clone());
    rule(&mut world, "bob", permission);
    let from = world.told.len();
    leave(&mut world, alice);
    let who = identity("bob");
    world.api(ApiRequest::RemoveParticipant(who)).expect("removed");
    assert_eq!(told(&world, from), [("alice".to_owned(), None), ("bob".to_owned(), None)]);
    let (alice, bob) = (world.join("room", "alice"), world.join("room", "bob"));
    assert_eq!((rights(&world, alice), rights(&world, bob)), ((true, true), (true, true)));
}

#[test]
fn whoever_was_told_to_start_anew_has_not_left() {
    let (mut world, alice, bob) = two();
    rule(&mut world, "alice", may(false, true));
    rule(&mut world, "bob", may(false, true));
    let from = world.told.len();
    // JS SDKs take leave of the session that they were told to give up.
    let scenario = proto::simulate_scenario::Scenario::LeaveRequestFullReconnect(true);
    let scenario = proto::SimulateScenario { scenario: Some(scenario) };
    world.signal(alice, Request::Simulate(scenario));
    world.command(Command::MoveAway { count: 0 });
    leave(&mut world, alice);
    // And those who start anew by themselves do so while the newer session is there already.
    world.join("room", "bob");
    leave(&mut world, bob);
    assert_eq!(told(&world, from), []);
    let alice = world.join("room", "alice");
    assert_eq!(rights(&world, alice), (false, true));
    world.command(Command::MoveAway { count: 9 });
    assert_eq!(told(&world, from), [], "nor has who was moved");
}

#[test]
fn who_does_not_come_back_has_left_in_the_end() {
    let (mut world, alice, bob) = two();
    rule(&mut world, "alice", may(false, true));
    rule(&mut world, "bob", may(false, true));
    let from = world.told.len();
    world.clients[alice].unplugged = true;
    let session = world.clients[alice].session;
    world.command(Command::Closed { session });
    world.run(Duration::from_secs(40));
    assert_eq!((world.shard.participants(), told(&world, from)), (1, vec![]));
    let back = world.join("room", "alice");
    assert_eq!(rights(&world, back), (false, true));
    connected(&mut world);
    let session = world.clients[back].session;
    world.clients[back].unplugged = true;
    world.command(Command::Closed { session });
    while world.shard.participants() > 1 {
        world.run(Duration::from_millis(100));
    }
    world.run(Duration::from_secs(59));
    assert_eq!(told(&world, from), [], "it was back in between");
    world.run(Duration::from_secs(2));
    assert_eq!(told(&world, from), [("alice".to_owned(), None)]);
    assert!(world.clients[bob].leave().is_none());
}

#[test]
fn what_a_ruling_forbids_is_not_let_in_with_the_request() {
    let mut world = World::new();
    let mut allowed = claims("room", "alice");
    allowed.video.can_update_own_metadata = Some(true);
    let session = SessionId(1_000);
    world.command_unseen(Command::Join(Box::new(Join {
        session,
        claims: allowed.clone(),
        request: proto::JoinRequest { metadata: "mine".into(), ..Default::default() },
        generation: Generation(1),
        ruling: Some(ruling(1, 1, &may(true, true))),
        client_ip: None,
        user_agent: String::new(),
    })));
    let who = identity("alice");
    let info = world.api(ApiRequest::GetParticipant(who)).expect("is there");
    assert_eq!(proto::ParticipantInfo::decode(&*info).unwrap().metadata, "");
    // A ruling that nobody can read lets nobody in.
    let unread = Ruling { permission: [0xff].into(), ..ruling(1, 2, &may(true, true)) };
    let refused = world.join_ruled(Generation(1), allowed, Some(unread));
    assert_eq!(world.clients[refused].refused.as_ref().map(|refusal| refusal.status), Some(500));
}

#[test]
fn sources_that_nobody_knows_do_not_become_all_sources() {
    let (mut world, alice, _) = two();
    let odd = ParticipantPermission { can_publish_sources: vec![77], ..may(true, true) };
    rule(&mut world, "alice", odd);
    let some = vec![2, 2, 99, 1];
    let some = ParticipantPermission { can_publish_sources: some, ..may(true, true) };
    assert_eq!(token(&world, alice).video.can_publish, Some(false));
    rule(&mut world, "bob", some);
    let bob = world.join("room", "bob");
    let join = world.clients[bob].join().unwrap();
    let permission = join.participant.as_ref().unwrap().permission.clone().unwrap();
    assert_eq!((permission.can_publish, permission.can_publish_sources), (true, vec![2, 1]));
}

#[test]
fn rulings_of_one_room_are_bounded() {
    let mut world = World::new();
    let mut sent = |n: usize| {
        let name = format!("{n}");
        let ruling = Some(ruling(1, 1, &may(true, true)));
        world.command_unseen(Command::Join(Box::new(Join {
            session: SessionId(10_000 + n as u64),
            claims: claims("room", &name),
            request: proto::JoinRequest::default(),
            generation: Generation(1),
            ruling,
            client_ip: None,
            user_agent: String::new(),
        })));
        world.command_unseen(Command::Closed { session: SessionId(10_000 + n as u64) });
    };
    (0..RULINGS_MAX).for_each(&mut sent);
    let alice = world.join("room", "alice");
    assert!(world.clients[alice].refused.is_none());
    let request = proto::UpdateParticipantRequest {
        room: "room".into(),
        identity: "alice".into(),
        metadata: "unchanged".into(),
        permission: Some(may(false, false)),
        ..Default::default()
    };
    let error = world.api(ApiRequest::UpdateParticipant(request)).expect_err("too many");
    assert_eq!(error.code, "resource_exhausted");
    let info = world.api(ApiRequest::GetParticipant(identity("alice"))).expect("is there");
    assert_eq!(proto::ParticipantInfo::decode(&*info).unwrap().metadata, "", "all or nothing");
}

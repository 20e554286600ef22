//! Two sessions of one identity: the newer one ousts the older when its client has said something, and not before. A request
//! that comes late, from a client that is long in the call through another gateway, changes nothing for anybody.
#![allow(dead_code, reason = "the world is shared with other tests")]

mod world;

use std::{collections::BTreeMap, time::Duration};

use outlast_livekit as proto;
use outlast_model::Generation;
use outlast_node_core::{ApiRequest, Command};
use proto::{
    DisconnectReason, Message as _, client_info::Sdk, leave_request::Action,
    participant_info::State, signal_request::Message as Request, signal_response::Message,
};
use str0m::media::{MediaKind, Mid};
use world::{World, claims};

/// Longer than a session may wait for its client's first word.
const PATIENCE: Duration = Duration::from_secs(11);

/// Alice, who sends sound, and bob, who receives it.
fn call() -> (World, usize, usize, Mid) {
    let mut world = World::new();
    let (alice, bob) = (world.join("room", "alice"), world.join("room", "bob"));
    world.until("both are connected", |world| world.clients.iter().all(|c| c.connected));
    let mic = world.publish(alice, MediaKind::Audio, "mic");
    world.until("bob receives", |world| world.clients[bob].tracks_by_mid().len() == 1);
    (world, alice, bob, mic)
}

/// A join of alice whose answer reaches nobody.
fn request(world: &mut World) -> usize {
    let late = world.join("room", "alice");
    world.clients[late].unplugged = true;
    late
}

fn speak(world: &mut World, client: usize) {
    world.signal(client, Request::PingReq(proto::Ping::default()));
}

fn told_to_leave(world: &World, client: usize) -> Option<(Action, DisconnectReason)> {
    world.clients[client].leave().map(|leave| (leave.action(), leave.reason()))
}

const OUSTED: Option<(Action, DisconnectReason)> =
    Some((Action::Disconnect, DisconnectReason::DuplicateIdentity));

/// The sids of alice in the server's own list.
fn listed(world: &mut World) -> Vec<String> {
    let request = proto::ListParticipantsRequest { room: "room".into() };
    let answer = world.api(ApiRequest::ListParticipants(request)).expect("the room is there");
    let list = proto::ListParticipantsResponse::decode(&answer[..]).expect("a list");
    let alices = list.participants.into_iter().filter(|info| info.identity == "alice");
    alices.map(|info| info.sid).collect()
}

/// Whom a client has in the room after all updates, by identity, as the SDKs keep them.
fn seen_by(world: &World, client: usize) -> BTreeMap<String, String> {
    let join = world.clients[client].join().expect("has joined");
    let mut seen: BTreeMap<_, _> = join
        .other_participants
        .iter()
        .map(|info| (info.identity.clone(), info.sid.clone()))
        .collect();
    for info in world.clients[client].updates() {
        if info.state() == State::Disconnected {
            seen.remove(&info.identity);
        } else {
            seen.insert(info.identity, info.sid);
        }
    }
    seen
}

#[test]
fn a_late_request_and_its_end_touch_nobody() {
    let (mut world, alice, bob, mic) = call();
    let updates = world.clients[bob].updates().len();
    let late = request(&mut world);
    let join = world.clients[late].join().expect("it is answered");
    let others = join.other_participants.iter().map(|info| info.identity.as_str());
    assert_eq!(others.collect::<Vec<_>>(), ["bob"], "not its own older session");
    assert!(world.clients[late].tracks_by_mid().is_empty(), "nor what that sends");
    assert_eq!(listed(&mut world), [world.clients[alice].sid()]);
    world.run(Duration::from_secs(1));
    let session = world.clients[late].session;
    world.command(Command::Closed { session });
    assert_eq!(world.shard.participants(), 2);
    let packets = world.clients[bob].packets();
    for sequence in 0..50 {
        world.write(alice, mic, sequence, &[0xAB; 80]);
        world.run(Duration::from_millis(20));
    }
    assert!(world.clients[bob].packets() >= packets + 45);
    world.run(PATIENCE);
    assert_eq!((told_to_leave(&world, alice), world.clients[alice].closed), (None, false));
    assert_eq!(world.clients[bob].updates().len(), updates, "bob has heard nothing");
}

#[test]
fn a_late_request_that_never_ends_is_dropped_without_a_word_to_anybody() {
    let (mut world, alice, bob, _) = call();
    let updates = world.clients[bob].updates().len();
    let late = request(&mut world);
    world.run(Duration::from_secs(9));
    assert_eq!((world.shard.participants(), world.clients[late].closed), (3, false));
    world.run(PATIENCE);
    assert_eq!((world.shard.participants(), world.clients[late].closed), (2, true));
    assert_eq!((told_to_leave(&world, late), told_to_leave(&world, alice)), (None, None));
    assert!(!world.clients[alice].closed);
    assert_eq!(world.clients[bob].updates().len(), updates);
}

#[test]
fn a_second_tab_takes_over_with_its_first_check_and_there_is_one_of_them_at_every_moment() {
    let (mut world, alice, bob, _) = call();
    let old = world.clients[alice].sid();
    let tab = world.join("room", "alice");
    let new = world.clients[tab].sid();
    assert_eq!((told_to_leave(&world, alice), listed(&mut world)), (None, vec![old.clone()]));
    let mut rounds = 0;
    while !world.clients[tab].connected {
        world.run(Duration::from_millis(1));
        let ousted = told_to_leave(&world, alice) == OUSTED;
        let sid = if ousted { &new } else { &old };
        assert_eq!(listed(&mut world), std::slice::from_ref(sid));
        assert_eq!(seen_by(&world, bob).get("alice"), Some(sid));
        rounds += 1;
        assert!(rounds < 5_000, "the tab does not connect");
    }
    assert_eq!((told_to_leave(&world, alice), world.clients[alice].closed), (OUSTED, true));
    assert_eq!(told_to_leave(&world, tab), None);
    assert!(world.clients[tab].updates().iter().all(|info| info.sid != old), "a ghost of itself");
    let gone = |info: &proto::ParticipantInfo| info.state() == State::Disconnected;
    assert!(!world.clients[bob].updates().iter().any(gone), "a late end would remove the new one");
    world.publish(tab, MediaKind::Audio, "mic");
    world.until("bob receives the tab", |world| world.clients[bob].tracks_by_mid().len() == 1);
}

#[test]
fn a_signalling_message_is_proof_and_a_goodbye_is_none() {
    let (mut world, alice, bob, _) = call();
    let late = request(&mut world);
    world.signal(late, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!((told_to_leave(&world, alice), world.shard.participants()), (None, 2));
    let tab = request(&mut world);
    speak(&mut world, tab);
    assert_eq!((told_to_leave(&world, alice), world.shard.participants()), (OUSTED, 2));
    assert_eq!(seen_by(&world, bob).get("alice"), Some(&world.clients[tab].sid()));
    world.run(PATIENCE);
    assert!(!world.clients[tab].closed, "who has spoken waits no more");
}

#[test]
fn a_client_whose_old_socket_is_gone_need_not_wait() {
    let (mut world, alice, bob, _) = call();
    let session = world.clients[alice].session;
    world.command(Command::Closed { session });
    let again = request(&mut world);
    assert_eq!(seen_by(&world, bob).get("alice"), Some(&world.clients[again].sid()));
    assert_eq!((told_to_leave(&world, alice), world.shard.participants()), (None, 2));
}

#[test]
fn of_two_that_wait_the_newer_stays_and_neither_is_sent_away_for_good() {
    let (mut world, alice, _, _) = call();
    let (first, second) = (request(&mut world), request(&mut world));
    assert_eq!((world.shard.participants(), told_to_leave(&world, first)), (3, None));
    assert!(world.clients[first].closed && !world.clients[second].closed);
    speak(&mut world, first);
    assert_eq!(told_to_leave(&world, alice), None, "it is not there any more");
    speak(&mut world, second);
    assert_eq!(told_to_leave(&world, alice), OUSTED);
}

#[test]
fn who_waited_is_told_what_has_happened_since_it_was_answered_and_no_more() {
    let (mut world, _, bob, _) = call();
    let (carol, dave) = (world.join("room", "carol"), world.join("room", "dave"));
    let frank = world.join("room", "frank");
    world.until("all are connected", |world| world.clients.iter().all(|c| c.connected));
    world.signal(frank, Request::Leave(proto::LeaveRequest::default()));
    let tab = request(&mut world);
    let erin = world.join("room", "erin");
    world.until("erin is connected", |world| world.clients[erin].connected);
    world.signal(dave, Request::Leave(proto::LeaveRequest::default()));
    world.publish(bob, MediaKind::Video, "cam");
    world.run(Duration::from_millis(50));
    assert!(world.clients[tab].updates().is_empty(), "nothing while it waits");
    speak(&mut world, tab);
    let updates = world.clients[tab].updates();
    let told: Vec<_> = updates
        .iter()
        .map(|info| (info.identity.as_str(), info.state(), info.tracks.len()))
        .collect();
    let (gone, active) = (State::Disconnected, State::Active);
    assert_eq!(told, [("dave", gone, 0), ("bob", active, 1), ("erin", active, 0)]);
    assert_eq!(seen_by(&world, tab).get("carol"), Some(&world.clients[carol].sid()));
    assert_eq!(world.clients[tab].tracks_by_mid().len(), 1, "bob's camera, after an offer");
}

#[test]
fn a_js_client_that_returns_is_told_of_it_before_it_may_say_that_it_is_back() {
    let (mut world, _, bob, _) = call();
    let client_info = Some(proto::ClientInfo { sdk: Sdk::Js.into(), ..Default::default() });
    let request = proto::JoinRequest { client_info, ..Default::default() };
    let claims = outlast_token::Claims { refreshed: true, ..claims("room", "alice") };
    let tab = world.join_with(claims, request);
    world.publish(bob, MediaKind::Video, "cam");
    world.publish(tab, MediaKind::Audio, "mic");
    world.until("the tab is connected", |world| world.clients[tab].connected);
    let published = |world: &World| {
        let mut inbox = world.clients[tab].inbox.iter();
        inbox.any(|message| matches!(message, Message::TrackPublished(_)))
    };
    assert!(world.clients[tab].updates().iter().any(|info| info.identity == "bob"));
    assert!(!published(&world));
    world.until("its SDK may go on", published);
}

#[test]
fn an_older_session_that_leaves_first_is_gone_and_the_newer_one_comes() {
    let (mut world, alice, bob, _) = call();
    let tab = request(&mut world);
    world.signal(alice, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!(seen_by(&world, bob).get("alice"), None);
    assert!(listed(&mut world).is_empty(), "the newer one has not spoken");
    speak(&mut world, tab);
    assert_eq!(seen_by(&world, bob).get("alice"), Some(&world.clients[tab].sid()));
    assert!(!seen_by(&world, tab).contains_key("alice"), "nobody sees themselves");
}

#[test]
fn what_ends_the_older_session_from_outside_ends_the_waiting_one() {
    let alice = proto::RoomParticipantIdentity {
        room: "room".into(),
        identity: "alice".into(),
        ..Default::default()
    };
    let delete = proto::DeleteRoomRequest { room: "room".into() };
    let api = |request| Command::Api { call: 1, request: Box::new(request) };
    let gone = Action::Disconnect;
    let orders = [
        (api(ApiRequest::RemoveParticipant(alice)), gone, 1),
        (api(ApiRequest::DeleteRoom(delete)), gone, 0),
        (Command::MoveAway { count: 1 }, Action::Reconnect, 0),
        (
            Command::FenceRoom { room: "room".into(), generation: Generation(1) },
            Action::Reconnect,
            0,
        ),
    ];
    for (order, action, left) in orders {
        let (mut world, alice, _, _) = call();
        let tab = request(&mut world);
        let what = format!("{order:?}");
        world.command(order);
        for client in [alice, tab] {
            let told = told_to_leave(&world, client).map(|(action, _)| action);
            assert_eq!((told, world.clients[client].closed), (Some(action), true), "{what}");
        }
        assert_eq!(world.shard.participants(), left, "{what}");
    }
}

//! Rooms that go elsewhere, and what they take along: fences of one room, drains, settings and limits.
#![allow(dead_code, reason = "the world is shared with other tests")]

mod world;

use std::time::Duration;

use outlast_livekit as proto;
use outlast_model::{Generation, RoomSettings};
use outlast_node_core::{About, ApiError, ApiRequest, Command, Told};
use proto::{
    DisconnectReason, leave_request::Action, participant_info::State,
    signal_request::Message as Request,
};
use str0m::media::MediaKind;
use world::{World, claims};

fn connected(world: &mut World) {
    world.until("all are connected", |world| world.clients.iter().all(|client| client.connected));
}

fn fence(world: &mut World, room: &str, generation: u64) {
    let generation = Generation(generation);
    world.command(Command::FenceRoom { room: room.into(), generation });
}

/// What was told of rooms since `from`.
fn rooms(world: &World, from: usize) -> Vec<(String, u64, Option<RoomSettings>)> {
    let told = world.told[from..].iter().filter_map(|told| match told {
        Told::RoomOpened { room, generation, settings } => {
            Some((room.to_string(), generation.0, settings.clone()))
        }
        Told::RoomClosed { room, generation } => Some((format!("-{room}"), generation.0, None)),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_fenced_room_is_silent_at_once_and_the_others_go_on() {
    let mut world = World::new();
    let (alice, bob) = (world.join("lost", "alice"), world.join("lost", "bob"));
    let (carol, dave) = (world.join("kept", "carol"), world.join("kept", "dave"));
    connected(&mut world);
    let of_alice = world.publish(alice, MediaKind::Audio, "mic");
    let of_carol = world.publish(carol, MediaKind::Audio, "mic");
    world.until("both receive", |world| {
        [bob, dave].iter().all(|client| world.clients[*client].tracks_by_mid().len() == 1)
    });
    fence(&mut world, "lost", 0);
    assert_eq!(world.shard.stats().rooms, 2, "it is here under a newer generation");
    let (told, updates) = (world.told.len(), world.clients[bob].updates().len());
    fence(&mut world, "lost", 1);
    let packets = world.clients[bob].packets();
    for sequence in 0..50 {
        world.write(alice, of_alice, sequence, &[0xAB; 80]);
        world.write(carol, of_carol, sequence, &[0xAB; 80]);
        world.run(Duration::from_millis(20));
    }
    assert_eq!(world.clients[bob].packets(), packets);
    assert!(world.clients[dave].packets() >= 45, "{}", world.clients[dave].packets());
    for client in [alice, bob] {
        let leave = world.clients[client].leave().expect("told");
        assert_eq!(leave.action(), Action::Reconnect);
        assert_eq!(leave.reason(), DisconnectReason::StateMismatch);
        assert!(world.clients[client].closed);
    }
    assert_eq!(world.clients[bob].updates().len(), updates, "not that the others have left");
    assert_eq!(rooms(&world, told), [("-lost".into(), 1, None)]);
    assert_eq!((world.shard.stats().rooms, world.shard.participants()), (1, 2));
    fence(&mut world, "lost", 1);
    assert_eq!(rooms(&world, told).len(), 1, "once");
}

#[test]
fn a_fenced_room_gets_not_one_datagram_more() {
    let mut world = World::new();
    let (alice, bob) = (world.join("r", "alice"), world.join("r", "bob"));
    connected(&mut world);
    let audio = world.publish(alice, MediaKind::Audio, "mic");
    world.until("bob receives", |world| world.clients[bob].tracks_by_mid().len() == 1);
    fence(&mut world, "r", 7);
    let sent = world.sent;
    for sequence in 0..100 {
        world.write(alice, audio, sequence, &[0xAB; 80]);
        world.run(Duration::from_millis(20));
    }
    assert_eq!(world.sent, sent);
}

#[test]
fn participants_move_away_room_by_room_and_their_rooms_stay_open() {
    let mut world = World::new();
    let second = world.join("b", "dave");
    let first: Vec<_> =
        ["alice", "bob", "carol"].map(|identity| world.join("a", identity)).into_iter().collect();
    connected(&mut world);
    let told = |world: &World, client: usize| {
        world.clients[client].leave().map(|leave| (leave.action(), leave.reason()))
    };
    let away = Some((Action::Reconnect, DisconnectReason::ServerShutdown));
    world.command(Command::MoveAway { count: 0 });
    assert_eq!(world.shard.participants(), 4);
    world.command(Command::MoveAway { count: 1 });
    assert!(first.iter().all(|client| told(&world, *client) == away), "a whole room");
    assert_eq!((told(&world, second), world.shard.participants()), (None, 1));
    world.command(Command::MoveAway { count: 1_000 });
    assert_eq!((told(&world, second), world.shard.participants()), (away, 0));
    assert_eq!(world.shard.stats().rooms, 2);
    // It was called off: nothing of it is left.
    let late = world.join("a", "late");
    assert!(world.clients[late].refused.is_none());
    connected(&mut world);
    world.run(Duration::from_secs(30));
    assert!(world.clients[late].leave().is_none());
}

fn create(
    world: &mut World,
    created_unix_ms: Option<i64>,
    request: proto::CreateRoomRequest,
) -> Result<proto::Room, ApiError> {
    let (request, generation) = (Box::new(request), Generation(4));
    let bytes = world.api(ApiRequest::CreateRoom { request, generation, created_unix_ms })?;
    Ok(proto::Message::decode(&bytes[..]).expect("a room"))
}

#[test]
fn what_the_api_sets_is_told_with_the_room_and_told_again_when_it_changes() {
    let mut world = World::new();
    let request = proto::CreateRoomRequest {
        name: "r".into(),
        empty_timeout: 60,
        departure_timeout: 5,
        max_participants: 2,
        metadata: "first".into(),
        ..Default::default()
    };
    let room = create(&mut world, Some(1_600_000_000_123), request.clone()).expect("made");
    assert_eq!((room.creation_time, room.creation_time_ms), (1_600_000_000, 1_600_000_000_123));
    let settings = RoomSettings {
        empty_timeout_s: 60,
        departure_timeout_s: 5,
        max_participants: 2,
        metadata: "first".into(),
        created_unix_ms: 1_600_000_000_123,
        by_api: true,
    };
    assert_eq!(rooms(&world, 0), [("r".into(), 4, Some(settings.clone()))]);
    let told = world.told.len();
    create(&mut world, None, request).expect("as it is");
    assert_eq!(rooms(&world, told), [], "nothing has changed");
    let larger =
        proto::CreateRoomRequest { name: "r".into(), max_participants: 9, ..Default::default() };
    let room = create(&mut world, None, larger).expect("changed");
    assert_eq!((room.max_participants, room.metadata.as_str()), (9, "first"));
    let metadata = proto::UpdateRoomMetadataRequest { room: "r".into(), metadata: "second".into() };
    world.api(ApiRequest::UpdateRoomMetadata(metadata)).expect("changed");
    let larger = RoomSettings { max_participants: 9, ..settings };
    let renamed = RoomSettings { metadata: "second".into(), ..larger.clone() };
    let expected = [("r".into(), 4, Some(larger)), ("r".into(), 4, Some(renamed))];
    assert_eq!(rooms(&world, told), expected);
}

#[test]
fn a_room_that_somebody_opened_by_joining_is_as_everywhere_until_it_is_changed() {
    let mut world = World::new();
    world.join("r", "alice");
    assert_eq!(rooms(&world, 0), [("r".into(), 1, None)]);
    let told = world.told.len();
    let metadata = proto::UpdateRoomMetadataRequest { room: "r".into(), metadata: "m".into() };
    world.api(ApiRequest::UpdateRoomMetadata(metadata)).expect("changed");
    let news = rooms(&world, told);
    let settings = news[0].2.clone().expect("it has settings of its own now");
    assert_eq!((settings.metadata.as_str(), settings.by_api), ("m", false));
    assert_eq!((settings.empty_timeout_s, settings.departure_timeout_s), (300, 20));
    let made = proto::CreateRoomRequest { name: "r".into(), ..Default::default() };
    create(&mut world, Some(5), made).expect("it is there already");
    let news = rooms(&world, told);
    assert_eq!((news.len(), news[1].1), (2, 4), "under the newer generation");
    let again = news[1].2.clone().expect("settings");
    assert_eq!(again, RoomSettings { by_api: true, ..settings }, "its own time of birth");
}

#[test]
fn a_full_room_refuses_and_agents_and_returning_people_do_not_count() {
    let mut world = World::new();
    let request =
        proto::CreateRoomRequest { name: "r".into(), max_participants: 1, ..Default::default() };
    create(&mut world, None, request).expect("made");
    let join = |world: &mut World, identity: &str, agent: bool| {
        let mut claims = claims("r", identity);
        claims.video.agent = agent;
        let client = world.join_at(Generation(4), claims);
        world.clients[client].refused.clone().map(|refusal| (refusal.status, refusal.about))
    };
    assert_eq!(join(&mut world, "agent", true), None);
    assert_eq!(join(&mut world, "alice", false), None);
    assert_eq!(join(&mut world, "bob", false), Some((503, About::Request)));
    assert_eq!(join(&mut world, "agent2", true), None);
    assert_eq!(join(&mut world, "alice", false), None, "in place of herself");
}

#[test]
fn a_room_nobody_came_to_and_a_room_that_all_have_left_have_times_of_their_own() {
    let mut world = World::new();
    let request = proto::CreateRoomRequest {
        name: "r".into(),
        empty_timeout: 40,
        departure_timeout: 2,
        ..Default::default()
    };
    create(&mut world, None, request.clone()).expect("made");
    let mut agent = claims("r", "agent");
    agent.video.agent = true;
    let agent = world.join_at(Generation(4), agent);
    connected(&mut world);
    world.run(Duration::from_secs(30));
    assert_eq!(world.shard.stats().rooms, 1, "an agent has not begun it");
    assert!(world.clients[agent].leave().is_none());
    world.run(Duration::from_secs(11));
    assert_eq!(world.shard.stats().rooms, 0, "nor does it keep it");
    assert_eq!(world.clients[agent].leave().expect("told").action(), Action::Disconnect);
    create(&mut world, None, request).expect("made anew");
    let alice = world.join_at(Generation(4), claims("r", "alice"));
    world.signal(alice, Request::Leave(proto::LeaveRequest::default()));
    world.run(Duration::from_millis(1_500));
    assert_eq!(world.shard.stats().rooms, 1);
    world.run(Duration::from_secs(1));
    assert_eq!(world.shard.stats().rooms, 0);
}

#[test]
fn joins_are_counted_and_those_whose_media_came_up_too() {
    let mut world = World::new();
    let (alice, bob) = (world.join("room", "alice"), world.join("room", "bob"));
    world.clients[bob].unplugged = true;
    world.until("alice is connected", |world| world.clients[alice].connected);
    world.run(Duration::from_secs(2));
    let stats = world.shard.stats();
    assert_eq!((stats.joins, stats.connected), (2, 1));
    let sid = world.clients[alice].sid();
    let resumed = world.resume(alice, &sid);
    world.run(Duration::from_secs(1));
    assert_eq!(world.clients[resumed].updates().pop().expect("told").state(), State::Active);
    assert_eq!((world.shard.stats().joins, world.shard.stats().connected), (2, 1));
}

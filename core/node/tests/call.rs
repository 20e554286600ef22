//! Whole calls through a shard, in virtual time, with real engines on the clients' side.

#![allow(deprecated, reason = "older SDKs name receivers by sid")]
#![allow(dead_code, reason = "the world is shared with other tests")]

mod world;

use std::time::Duration;

use outlast_livekit as proto;
use outlast_model::{Epoch, Generation};
use outlast_node_core::{About, ApiRequest, Command, Join, Told};
use proto::{
    DisconnectReason, data_packet, leave_request::Action, participant_info::State,
    signal_request::Message as Request, signal_response::Message,
};
use str0m::media::MediaKind;
use world::{World, claims};

fn user_packet(sequence: u32, text: &str, to: &[&str]) -> proto::DataPacket {
    proto::DataPacket {
        sequence,
        destination_identities: to.iter().map(|to| (*to).to_owned()).collect(),
        value: Some(data_packet::Value::User(proto::UserPacket {
            payload: text.as_bytes().to_vec(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn texts(messages: &[Vec<u8>]) -> Vec<(String, String)> {
    let read = |bytes: &Vec<u8>| {
        let packet = <proto::DataPacket as proto::Message>::decode(&bytes[..]).expect("a packet");
        let Some(data_packet::Value::User(user)) = packet.value else { panic!("a user packet") };
        (packet.participant_identity, String::from_utf8(user.payload).expect("text"))
    };
    messages.iter().map(read).collect()
}

/// Two connected participants.
fn two() -> (World, usize, usize) {
    let mut world = World::new();
    let alice = world.join("room", "alice");
    let bob = world.join("room", "bob");
    world.until("both are connected", |world| {
        world.clients.iter().all(|client| client.connected && client.channels.len() == 2)
    });
    (world, alice, bob)
}

#[test]
fn a_join_is_answered_in_the_order_that_sdks_force() {
    let (world, alice, bob) = two();
    let inbox = &world.clients[alice].inbox;
    assert!(matches!(inbox[0], Message::Join(_)), "join comes first");
    assert!(inbox.iter().any(|message| matches!(message, Message::RefreshToken(_))));
    let join = world.clients[bob].join().expect("joined");
    assert_eq!(join.other_participants.len(), 1);
    assert_eq!((join.ping_interval, join.ping_timeout), (1, 3));
    assert!(!join.subscriber_primary);
    assert!(world.clients[alice].updates().iter().any(|info| info.identity == "bob"));
    let last = world.clients[alice].updates().pop().expect("updates");
    assert_eq!((last.identity.as_str(), last.state()), ("bob", State::Active));
}

#[test]
fn audio_and_video_reach_the_other_one_without_a_gap() {
    let (mut world, alice, bob) = two();
    let audio = world.publish(alice, MediaKind::Audio, "mic");
    let video = world.publish(alice, MediaKind::Video, "cam");
    world.until("bob has sections for both", |world| world.clients[bob].tracks_by_mid().len() == 2);
    for sequence in 0..100 {
        world.write(alice, audio, 1000 + sequence, &[0xAB; 80]);
        // A VP8 key frame's first bytes, so that forwarding may begin with it.
        world.write(alice, video, 2000 + sequence, &[0x10, 0, 0, 0, 0x9d, 0x01, 0x2a, 0, 0, 0, 0]);
        world.run(Duration::from_millis(20));
    }
    let received = &world.clients[bob].received;
    assert_eq!(received.len(), 2, "one stream for each track: {received:?}");
    for sequences in received.values() {
        assert!(sequences.len() >= 95, "{} of 100 arrived", sequences.len());
        assert!(sequences.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
    }
    assert_eq!(world.clients[alice].packets(), 0, "nobody receives their own");
    let heard = world.clients[alice].inbox.iter();
    assert_eq!(heard.filter(|message| matches!(message, Message::TrackSubscribed(_))).count(), 2);
}

#[test]
fn a_client_is_asked_for_sections_when_it_has_too_few() {
    let (mut world, alice, bob) = two();
    for number in 0..6 {
        world.publish(alice, MediaKind::Video, &format!("cam{number}"));
        world.publish(alice, MediaKind::Audio, &format!("mic{number}"));
        world.run(Duration::from_millis(30));
    }
    world.until("all twelve tracks have a section", |world| {
        world.clients[bob].tracks_by_mid().len() == 12
    });
}

#[test]
fn a_late_joiner_receives_what_is_there_in_its_first_answer() {
    let mut world = World::new();
    let alice = world.join("room", "alice");
    world.until("connected", |world| world.clients[alice].connected);
    world.publish(alice, MediaKind::Audio, "mic");
    world.run(Duration::from_millis(50));
    let bob = world.join("room", "bob");
    assert_eq!(world.clients[bob].tracks_by_mid().len(), 1, "in the answer to the join's offer");
}

#[test]
fn unpublishing_frees_the_section_for_the_next_track() {
    let (mut world, alice, bob) = two();
    let mid = world.publish(alice, MediaKind::Audio, "mic");
    world.until("bob receives", |world| world.clients[bob].tracks_by_mid().len() == 1);
    let before = world.clients[bob].tracks_by_mid();
    world.stop(alice, mid);
    world.until("bob's section is inactive", |world| world.clients[bob].tracks_by_mid().is_empty());
    let info = world.clients[bob].updates().pop().expect("updates");
    assert!(info.tracks.is_empty(), "bob was told");
    world.publish(alice, MediaKind::Audio, "mic2");
    world.until("bob receives again", |world| world.clients[bob].tracks_by_mid().len() == 1);
    assert_ne!(world.clients[bob].tracks_by_mid(), before, "another track");
}

#[test]
fn data_is_stamped_relayed_and_never_echoed() {
    let (mut world, alice, bob) = two();
    let carol = world.join("room", "carol");
    world.until("carol is connected", |world| world.clients[carol].channels.len() == 2);
    let mut forged = user_packet(1, "to all", &[]);
    forged.participant_identity = "bob".into();
    world.send_data(alice, "_reliable", &forged);
    world.send_data(alice, "_reliable", &user_packet(2, "to bob", &["bob"]));
    world.send_data(alice, "_reliable", &user_packet(2, "again", &[]));
    world.send_data(bob, "_lossy", &user_packet(0, "lossy", &[]));
    world.run(Duration::from_millis(200));
    let seen = |from: &str, text: &str| (from.to_owned(), text.to_owned());
    assert_eq!(
        texts(&world.clients[bob].messages),
        [seen("alice", "to all"), seen("alice", "to bob")]
    );
    let mut carols = texts(&world.clients[carol].messages);
    carols.sort();
    assert_eq!(carols, [seen("alice", "to all"), seen("bob", "lossy")]);
    assert_eq!(texts(&world.clients[alice].messages), [seen("bob", "lossy")]);
}

#[test]
fn a_participant_without_the_grant_publishes_nothing() {
    let mut world = World::new();
    let mut muted = claims("room", "mute");
    muted.video.can_publish = Some(false);
    let mute = world.join_with(muted, proto::JoinRequest::default());
    let bob = world.join("room", "bob");
    world.until("channels", |world| world.clients.iter().all(|c| c.channels.len() == 2));
    world.send_data(mute, "_reliable", &user_packet(1, "hi", &[]));
    world.publish(mute, MediaKind::Audio, "mic");
    world.run(Duration::from_millis(100));
    assert!(world.clients[bob].messages.is_empty());
    assert!(world.clients[bob].tracks_by_mid().is_empty());
    let refused = world.clients[mute].inbox.iter().any(|message| {
        matches!(message, Message::RequestResponse(r) if r.reason()
            == proto::request_response::Reason::NotAllowed)
    });
    assert!(refused);
}

#[test]
fn the_newer_session_of_an_identity_wins_and_no_late_update_removes_it() {
    let (mut world, alice, bob) = two();
    let old_sid = world.clients[alice].sid();
    let again = world.join("room", "alice");
    world.until("the new one is connected", |world| world.clients[again].connected);
    let leave = world.clients[alice].leave().expect("the old one is told");
    assert_eq!(leave.reason(), DisconnectReason::DuplicateIdentity);
    assert_eq!(leave.action(), Action::Disconnect);
    assert!(world.clients[alice].closed);
    let new_sid = world.clients[again].sid();
    let about: Vec<_> =
        world.clients[bob].updates().into_iter().filter(|info| info.identity == "alice").collect();
    let switched =
        about.iter().position(|info| info.sid == new_sid).expect("bob knows the new one");
    assert!(about[switched..].iter().all(|info| info.sid != old_sid), "{about:?}");
    assert!(about.iter().all(|info| info.state() != State::Disconnected));
}

#[test]
fn a_resume_keeps_the_participant_and_names_everybody() {
    let (mut world, alice, _) = two();
    let sid = world.clients[alice].sid();
    let session = world.clients[alice].session;
    world.command(Command::Closed { session });
    world.run(Duration::from_secs(1));
    let resumed = world.resume(alice, &sid);
    let inbox = &world.clients[resumed].inbox;
    assert!(matches!(inbox[0], Message::Reconnect(_)), "reconnect comes first: {:?}", inbox[0]);
    let mut named: Vec<_> =
        world.clients[resumed].updates().into_iter().map(|info| info.identity).collect();
    named.sort();
    assert_eq!(named, ["alice", "bob"]);
    assert!(inbox.iter().any(|message| matches!(message, Message::RoomUpdate(_))));
}

#[test]
fn a_resume_of_somebody_unknown_is_told_to_join_anew() {
    let mut world = World::new();
    world.join("room", "bob");
    let resumed = world.resume_as(claims("room", "alice"), "PA_gone");
    let leave = world.clients[resumed].leave().expect("a leave");
    assert_eq!(leave.action(), Action::Reconnect);
    assert_eq!(leave.reason(), DisconnectReason::StateMismatch);
    assert!(world.clients[resumed].closed);
}

#[test]
fn a_client_that_goes_silent_is_gone_after_its_consent_ends() {
    let (mut world, alice, bob) = two();
    world.clients[alice].unplugged = true;
    let session = world.clients[alice].session;
    world.command(Command::Closed { session });
    world.run(Duration::from_secs(8));
    let last = world.clients[bob].updates().pop().expect("updates");
    assert_ne!(last.state(), State::Disconnected, "too early");
    world.run(Duration::from_secs(4));
    let last = world.clients[bob].updates().pop().expect("updates");
    assert_eq!((last.identity.as_str(), last.state()), ("alice", State::Disconnected));
}

#[test]
fn a_fenced_shard_sends_nothing_more_and_tells_its_sockets() {
    let (mut world, alice, bob) = two();
    let audio = world.publish(alice, MediaKind::Audio, "mic");
    world.until("bob receives", |world| world.clients[bob].tracks_by_mid().len() == 1);
    world.command(Command::Fence { epoch: Epoch(2) });
    let sent = world.sent;
    for sequence in 0..50 {
        world.write(alice, audio, sequence, &[0xAB; 80]);
        world.run(Duration::from_millis(20));
    }
    assert_eq!(world.sent, sent, "not one datagram");
    for client in [alice, bob] {
        let leave = world.clients[client].leave().expect("told");
        assert_eq!(leave.action(), Action::Reconnect);
    }
    assert_eq!(world.shard.stats().participants, 0);
}

#[test]
fn an_older_generation_is_refused_and_a_newer_one_adopted() {
    let mut world = World::new();
    world.join("room", "alice");
    let join = |generation| {
        Command::Join(Box::new(Join {
            session: outlast_model::SessionId(2),
            claims: claims("room", "bob"),
            request: proto::JoinRequest::default(),
            generation: Generation(generation),
            ruling: None,
            client_ip: None,
            user_agent: String::new(),
        }))
    };
    world.command_unseen(join(0));
    let Some(Told::Refused { refusal, .. }) = world.told.last() else { panic!("refused") };
    assert_eq!((refusal.status, refusal.about), (409, About::Generation(Generation(1))));
    world.command_unseen(join(5));
    let adopted = world.told.iter().any(
        |told| matches!(told, Told::RoomOpened { generation, .. } if *generation == Generation(5)),
    );
    assert!(adopted);
}

#[test]
fn a_panic_costs_only_the_session_that_it_is_in() {
    let (mut world, alice, bob) = two();
    let carol = world.join("room", "carol");
    world.until("carol is connected", |world| world.clients[carol].connected);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    world.command(Command::Panic { identity: "alice".into() });
    std::panic::set_hook(hook);
    assert_eq!(world.clients[alice].leave().expect("told").action(), Action::Reconnect);
    assert!(world.told.iter().any(|told| matches!(told, Told::Panicked { .. })));
    let audio = world.publish(bob, MediaKind::Audio, "mic");
    world.until("carol receives bob", |world| world.clients[carol].tracks_by_mid().len() == 1);
    world.write(bob, audio, 1, &[0xAB; 80]);
    world.run(Duration::from_millis(50));
    assert_eq!(world.clients[carol].packets(), 1);
    assert_eq!(world.shard.stats().participants, 2);
}

#[test]
fn hostile_joins_get_the_right_status() {
    let mut world = World::new();
    let mut sections = String::from("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n");
    sections.push_str(&"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n".repeat(1000));
    let bomb = proto::SessionDescription { sdp: sections, ..Default::default() };
    let mut no_join = claims("room", "alice");
    no_join.video.room_join = false;
    let long = "x".repeat(300);
    let metadata = proto::JoinRequest { metadata: "mine".into(), ..Default::default() };
    let offer = proto::JoinRequest { publisher_offer: Some(bomb), ..Default::default() };
    let plain = proto::JoinRequest::default;
    for (claims, request, status) in [
        (no_join, plain(), 401),
        (claims("", "alice"), plain(), 400),
        (claims("room", ""), plain(), 400),
        (claims("room", &long), plain(), 400),
        (claims("room", "alice"), metadata, 401),
        (claims("room", "alice"), offer, 400),
    ] {
        world.command_unseen(Command::Join(Box::new(Join {
            session: outlast_model::SessionId(1),
            claims,
            request,
            generation: Generation(1),
            ruling: None,
            client_ip: None,
            user_agent: String::new(),
        })));
        let Some(Told::Refused { refusal, .. }) = world.told.last() else { panic!("refused") };
        assert_eq!((refusal.status, refusal.about), (status, About::Request));
    }
    assert_eq!(world.shard.stats().participants, 0);
}

#[test]
fn the_server_api_sees_and_changes_the_room() {
    let (mut world, alice, bob) = two();
    world.publish(alice, MediaKind::Audio, "mic");
    world.run(Duration::from_millis(100));
    let list = proto::ListParticipantsRequest { room: "room".into() };
    let bytes = world.api(ApiRequest::ListParticipants(list)).expect("listed");
    let listed: proto::ListParticipantsResponse =
        proto::Message::decode(&bytes[..]).expect("a response");
    assert_eq!(listed.participants.len(), 2);
    let track = listed.participants[0].tracks[0].sid.clone();
    let mute = proto::MuteRoomTrackRequest {
        room: "room".into(),
        identity: "alice".into(),
        track_sid: track,
        muted: true,
    };
    world.api(ApiRequest::MutePublishedTrack(mute)).expect("muted");
    assert!(world.clients[alice].inbox.iter().any(|m| matches!(m, Message::Mute(m) if m.muted)));
    assert!(world.clients[bob].updates().pop().expect("told").tracks[0].muted);
    let data = proto::SendDataRequest {
        room: "room".into(),
        data: b"hello".to_vec(),
        ..Default::default()
    };
    world.api(ApiRequest::SendData(data)).expect("sent");
    world.run(Duration::from_millis(50));
    assert_eq!(texts(&world.clients[bob].messages), [(String::new(), "hello".to_owned())]);
    let who = proto::RoomParticipantIdentity {
        room: "room".into(),
        identity: "bob".into(),
        ..Default::default()
    };
    world.api(ApiRequest::RemoveParticipant(who.clone())).expect("removed");
    let leave = world.clients[bob].leave().expect("told");
    assert_eq!(leave.reason(), DisconnectReason::ParticipantRemoved);
    let gone = world.api(ApiRequest::GetParticipant(who)).expect_err("gone");
    assert_eq!(gone.code, "not_found");
    world
        .api(ApiRequest::DeleteRoom(proto::DeleteRoomRequest { room: "room".into() }))
        .expect("ok");
    assert_eq!(world.clients[alice].leave().expect("told").reason(), DisconnectReason::RoomDeleted);
    assert!(world.told.iter().any(|told| matches!(told, Told::RoomClosed { .. })));
}

#[test]
fn metadata_needs_its_grant_and_answers_its_request() {
    let mut world = World::new();
    let mut allowed = claims("room", "alice");
    allowed.video.can_update_own_metadata = Some(true);
    let alice = world.join_with(allowed, proto::JoinRequest::default());
    let bob = world.join("room", "bob");
    let change = |id| {
        Request::UpdateMetadata(proto::UpdateParticipantMetadata {
            metadata: "here".into(),
            attributes: [("seat".to_owned(), "3".to_owned())].into(),
            request_id: id,
            ..Default::default()
        })
    };
    world.signal(alice, change(4));
    world.signal(bob, change(5));
    let seen = world.clients[bob].updates().pop().expect("told");
    assert_eq!((seen.metadata.as_str(), seen.attributes["seat"].as_str()), ("here", "3"));
    let answer = |world: &World, client: usize| {
        world.clients[client].inbox.iter().find_map(|message| match message {
            Message::RequestResponse(response) => Some((response.request_id, response.reason())),
            _ => None,
        })
    };
    assert_eq!(answer(&world, alice), Some((4, proto::request_response::Reason::Ok)));
    assert_eq!(answer(&world, bob), Some((5, proto::request_response::Reason::NotAllowed)));
}

#[test]
fn rooms_end_when_their_time_is_up() {
    let (mut world, alice, bob) = two();
    for client in [alice, bob] {
        world.signal(client, Request::Leave(proto::LeaveRequest::default()));
    }
    world.run(Duration::from_secs(19));
    assert_eq!(world.shard.stats().rooms, 1);
    world.run(Duration::from_secs(2));
    assert_eq!(world.shard.stats().rooms, 0);
}

#[test]
fn frames_that_cannot_be_decoded_are_ignored() {
    let (mut world, alice, _) = two();
    let session = world.clients[alice].session;
    for bytes in [vec![], vec![0xff; 40], vec![0x0a, 0x02, 0x01]] {
        world.command(Command::Signal { session, bytes });
    }
    world.signal(alice, Request::PingReq(proto::Ping { timestamp: 5, rtt: 0 }));
    let last = world.clients[alice].inbox.last().expect("answered");
    assert!(matches!(last, Message::PongResp(pong) if pong.last_ping_timestamp == 5));
}

#[test]
fn a_resume_tells_who_left_meanwhile() {
    let (mut world, alice, bob) = two();
    let (sid, session) = (world.clients[alice].sid(), world.clients[alice].session);
    world.command(Command::Closed { session });
    world.signal(bob, Request::Leave(proto::LeaveRequest::default()));
    world.run(Duration::from_secs(1));
    let resumed = world.resume(alice, &sid);
    let about_bob =
        world.clients[resumed].updates().into_iter().find(|info| info.identity == "bob");
    assert_eq!(about_bob.expect("bob is named").state(), State::Disconnected);
}

#[test]
fn a_resume_after_lost_media_is_not_undone_before_its_offer_comes() {
    let (mut world, alice, _) = two();
    let sid = world.clients[alice].sid();
    world.clients[alice].unplugged = true;
    world.run(Duration::from_secs(11));
    assert_eq!(world.clients[alice].leave().expect("told").action(), Action::Resume);
    let resumed = world.resume(alice, &sid);
    world.run(Duration::from_secs(1));
    assert!(world.clients[resumed].leave().is_none(), "the offer may take a round trip");
}

#[test]
fn data_tracks_are_listed_and_their_frames_relayed_under_the_subscribers_handle() {
    let (mut world, alice, bob) = two();
    world.open_channel(alice, "_data_track");
    world.open_channel(bob, "_data_track");
    let request =
        proto::PublishDataTrackRequest { pub_handle: 7, name: "pose".into(), ..Default::default() };
    world.signal(alice, Request::PublishDataTrackRequest(request.clone()));
    world.signal(alice, Request::PublishDataTrackRequest(request));
    let refused = world.clients[alice].inbox.iter().any(|message| {
        matches!(message, Message::RequestResponse(r) if r.reason()
            == proto::request_response::Reason::DuplicateHandle)
    });
    assert!(refused, "one handle, one track");
    let listed = world.clients[bob].updates().pop().expect("told").data_tracks;
    let update = proto::update_data_subscription::Update {
        track_sid: listed[0].sid.clone(),
        subscribe: true,
        options: None,
    };
    let update = proto::UpdateDataSubscription { updates: vec![update] };
    world.signal(bob, Request::UpdateDataSubscription(update));
    let handle = world.clients[bob].inbox.iter().find_map(|message| match message {
        Message::DataTrackSubscriberHandles(handles) => {
            handles.sub_handles.clone().into_keys().next()
        }
        _ => None,
    });
    let handle = u16::try_from(handle.expect("a handle")).expect("16 bits").to_be_bytes();
    let mut frame = vec![0x18, 0, 0, 7, 0, 1, 0, 1, 0, 0, 0, 9];
    frame.extend(b"here");
    world.send_bytes(alice, "_data_track", &frame);
    world.run(Duration::from_millis(100));
    frame[2..4].copy_from_slice(&handle);
    assert_eq!(world.clients[bob].messages, [frame]);
    assert!(world.clients[alice].messages.is_empty());
}

#[test]
fn a_packet_for_one_sid_does_not_go_to_everybody() {
    let (mut world, alice, bob) = two();
    let carol = world.join("room", "carol");
    world.until("carol is connected", |world| world.clients[carol].channels.len() == 2);
    let to = |sid: String| proto::DataPacket {
        value: Some(data_packet::Value::User(proto::UserPacket {
            payload: b"secret".to_vec(),
            destination_sids: vec![sid],
            ..Default::default()
        })),
        ..Default::default()
    };
    let bobs = world.clients[bob].sid();
    world.send_data(alice, "_reliable", &to(bobs));
    world.send_data(alice, "_reliable", &to("PA_gone".into()));
    world.run(Duration::from_millis(100));
    assert_eq!(world.clients[bob].messages.len(), 1);
    assert!(world.clients[carol].messages.is_empty());
}

#[test]
fn a_packet_that_was_sent_twice_is_relayed_once() {
    let (mut world, alice, bob) = two();
    let data = proto::SendDataRequest {
        room: "room".into(),
        data: b"once".to_vec(),
        nonce: vec![5; 16],
        ..Default::default()
    };
    for _ in 0..2 {
        world.api(ApiRequest::SendData(data.clone())).expect("sent");
    }
    world.run(Duration::from_millis(100));
    assert_eq!(world.clients[bob].messages.len(), 1);
    assert_eq!(world.clients[alice].messages.len(), 1);
}

#[test]
fn a_list_of_unknown_sources_grants_none() {
    let mut world = World::new();
    let mut odd = claims("room", "alice");
    odd.video.can_publish_sources = vec!["mic".into()];
    let alice = world.join_with(odd, proto::JoinRequest::default());
    let permission = world.clients[alice].join().and_then(|join| join.participant.clone());
    assert!(!permission.and_then(|info| info.permission).expect("a permission").can_publish);
}

#[test]
fn an_attribute_may_be_replaced_by_one_as_large() {
    let mut world = World::new();
    let mut allowed = claims("room", "alice");
    allowed.video.can_update_own_metadata = Some(true);
    let alice = world.join_with(allowed, proto::JoinRequest::default());
    for letter in ["a", "b"] {
        world.signal(
            alice,
            Request::UpdateMetadata(proto::UpdateParticipantMetadata {
                attributes: [("big".to_owned(), letter.repeat(40_000))].into(),
                request_id: 1,
                ..Default::default()
            }),
        );
    }
    let last = world.clients[alice].updates().pop().expect("told");
    assert!(last.attributes["big"].starts_with('b'));
}

#[test]
fn a_client_that_resumed_hears_something_within_each_ping_timeout() {
    let (mut world, alice, _) = two();
    let (sid, session) = (world.clients[alice].sid(), world.clients[alice].session);
    world.command(Command::Closed { session });
    let resumed = world.resume(alice, &sid);
    for _ in 0..5 {
        let before = world.clients[resumed].inbox.len();
        world.run(Duration::from_millis(1500));
        assert!(world.clients[resumed].inbox.len() > before, "silent for half a ping timeout");
    }
    world.signal(resumed, Request::PingReq(proto::Ping::default()));
    let before = world.clients[resumed].inbox.len();
    world.run(Duration::from_secs(4));
    assert_eq!(
        world.clients[resumed].inbox.len(),
        before,
        "its own pings keep it alive from now on"
    );
}

//! A whole node on loopback, reached as a gateway reaches it: hostile requests and frames, who is let in, the room stream,
//! the server API, beats, leases, drains.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::sync::atomic::Ordering;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use outlast_link::{
    Body, DialError, DialLimits,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};
use outlast_livekit::{self as proto, Message as _};
use outlast_model::{Generation, Ruling, SIGNAL_FRAME_BYTES_MAX};
use outlast_wire::{RoomFrame, Steer, ruling_from_text};
use tokio::time::timeout;

mod beats;
mod house;

use crate::house::*;

#[tokio::test]
async fn hostile_requests_are_refused_before_the_upgrade() {
    let house = house().await;
    let good = join_target(&wrap(&proto::JoinRequest::default().encode_to_vec()));
    let headers = house.headers("mallory");
    let status = async |target: &str, headers| house.refusal(target, headers).await.0;
    assert_eq!(status(&good, HeaderMap::new()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("/rtc/v1", headers.clone()).await, StatusCode::BAD_REQUEST);
    let rubbish = "/rtc/v1?join_request=***";
    assert_eq!(status(rubbish, headers.clone()).await, StatusCode::BAD_REQUEST);
    let bomb = join_target(&wrap(&vec![0; 32 << 20]));
    let (refused, text) = house.refusal(&bomb, headers.clone()).await;
    assert_eq!(refused, StatusCode::BAD_REQUEST);
    assert!(text.contains("larger than"), "{text}");
    let empties = join_target(&wrap(&[0x22, 0].repeat(200_000)));
    let (refused, text) = house.refusal(&empties, headers.clone()).await;
    assert_eq!(refused, StatusCode::BAD_REQUEST);
    assert!(text.contains("too many fields"), "{text}");
    assert_eq!(status("/nowhere", headers.clone()).await, StatusCode::NOT_FOUND);

    let plain = Request::get(&good).body(Body::default()).unwrap();
    assert_eq!(house.request(plain).await.0, StatusCode::NOT_FOUND);
    let validate = good.replacen("/rtc/v1", "/rtc/v1/validate", 1);
    let mut request = Request::get(&validate).body(Body::default()).unwrap();
    *request.headers_mut() = headers;
    let (status, body) = house.request(request).await;
    assert_eq!((status, body.as_ref()), (StatusCode::OK, b"success".as_slice()));
    house.node.drain_and_stop().await;
}

#[tokio::test]
async fn hostile_frames_end_their_own_socket_only() {
    let house = house().await;
    let mut bystander = house.join("bystander").await;

    let mut socket = house.join("large").await;
    let large = vec![0; SIGNAL_FRAME_BYTES_MAX + 1];
    socket.send(Message::Binary(large.into())).await.unwrap();
    assert_eq!(close_code(&mut socket).await, CloseCode::Size);

    let mut socket = house.join("empties").await;
    let empties = [0x0a, 0].repeat(100_000);
    socket.send(Message::Binary(empties.into())).await.unwrap();
    assert_eq!(close_code(&mut socket).await, CloseCode::Policy);

    let mut socket = house.join("text").await;
    socket.send(Message::Text("{}".into())).await.unwrap();
    assert_eq!(close_code(&mut socket).await, CloseCode::Unsupported);

    let mut socket = house.join("flood").await;
    let ping = proto::signal_request::Message::Ping(1);
    let ping = proto::SignalRequest { message: Some(ping) }.encode_to_vec();
    for _ in 0..2_000 {
        // It is closed in the middle of the flood.
        if socket.send(Message::Binary(ping.clone().into())).await.is_err() {
            break;
        }
    }
    let mut answers = 0;
    while let Some(Ok(message)) = timeout(PATIENCE, socket.next()).await.unwrap() {
        answers += usize::from(message.is_binary());
    }
    assert!(answers < 1_000, "{answers}");

    bystander.send(Message::Binary(ping.into())).await.unwrap();
    while !matches!(signal(&mut bystander).await, proto::signal_response::Message::Pong(_)) {}
    house.node.drain_and_stop().await;
}

#[tokio::test]
async fn gateways_follow_rooms_call_the_api_and_hear_the_drain() {
    let house = house().await;
    let mut rooms = house.open("/rooms", HeaderMap::new()).await.unwrap();
    assert_eq!(frame(&mut rooms).await, RoomFrame::Synced);
    let mut socket = house.join("ann").await;
    assert_eq!(frame(&mut rooms).await, hosted("r", 3));

    let request = Request::post("/api/ListRooms").body(Body::default()).unwrap();
    let (status, body) = house.request(request).await;
    assert_eq!(status, StatusCode::OK);
    let listed = proto::ListRoomsResponse::decode(body).unwrap();
    assert_eq!(listed.rooms.iter().map(|room| room.name.as_str()).collect::<Vec<_>>(), ["r"]);
    let request = Request::post("/api/Nonsense").body(Body::default()).unwrap();
    let (status, body) = house.request(request).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.starts_with(b"{\"code\":\"bad_route\""), "{body:?}");

    let House { node, ready, .. } = house;
    let drained = tokio::spawn(node.drain_and_stop());
    assert_eq!(leave(&mut socket).await, RECONNECT);
    assert_eq!(close_code(&mut socket).await, CloseCode::Normal);
    timeout(PATIENCE, drained).await.unwrap().unwrap();
    assert!(!ready.load(Ordering::Acquire));
}

#[tokio::test]
async fn who_is_turned_away_is_told_why_in_words_that_gateways_know() {
    let house = house().await;
    let _ann = house.join("ann").await;
    let older = house.headers_under("bob", 2);
    assert_eq!(house.turned_away(&plain_join(), older.clone()).await, because(409, "stale", "3"));
    let resume = resume_of("PA_x");
    assert_eq!(house.turned_away(&resume, older).await, because(409, "stale", "3"));
    // The room is here, and its participant is not.
    let mut resumed = house.open(&resume, house.headers("bob")).await.unwrap();
    assert_eq!(leave(&mut resumed).await, RECONNECT);
    // A herd: some come in, the others are told when to try again.
    let busy = loop {
        match house.open(&plain_join(), house.headers("ann")).await {
            Ok(_) => {}
            Err(DialError::Refused(response)) => break words(&response),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(busy, (503, "busy".to_owned(), String::new(), true));
    house.node.drain_and_stop().await;
}

#[tokio::test]
async fn a_room_that_moves_here_is_made_with_its_settings_first() {
    let house = house().await;
    let _ann = house.join("ann").await;
    let create = async |generation: u64| {
        let request = proto::CreateRoomRequest {
            name: "r".into(),
            max_participants: 1,
            metadata: "m".into(),
            ..Default::default()
        };
        let request = Request::post("/api/CreateRoom")
            .header("outlast-generation", generation)
            .header("outlast-created-unix-ms", "1234")
            .body(Body::from(request.encode_to_vec()))
            .unwrap();
        let limits = DialLimits { response: PATIENCE, connect: PATIENCE, ..DialLimits::default() };
        house.dialer.request(&house.address(), request, &limits).await.unwrap()
    };
    let refused = create(2).await;
    assert_eq!(words(&refused), because(409, "stale", "3"));
    assert!(refused.body().starts_with(b"{\"code\":\"unavailable\""), "{refused:?}");
    assert_eq!(create(4).await.status(), StatusCode::OK);
    let mut rooms = house.open("/rooms", HeaderMap::new()).await.unwrap();
    let RoomFrame::Hosted { generation, settings: Some(settings), .. } = frame(&mut rooms).await
    else {
        panic!("the room with its settings")
    };
    assert_eq!((generation, settings.max_participants, settings.by_api), (Generation(4), 1, true));
    assert_eq!((settings.metadata.as_str(), settings.departure_timeout_s), ("m", 20));
    let refused = house.turned_away(&plain_join(), house.headers_under("bob", 4)).await;
    assert_eq!(refused, because(503, "", ""), "full of ann, which no other node can help");
    house.node.drain_and_stop().await;
}

#[tokio::test]
async fn what_the_api_rules_is_told_on_the_room_streams_and_taken_from_a_join() {
    let house = house().await;
    let mut rooms = house.open("/rooms", HeaderMap::new()).await.unwrap();
    assert_eq!(frame(&mut rooms).await, RoomFrame::Synced);
    let sent = ruling_from_text("3.2:1001").unwrap();
    let mut headers = house.headers("ann");
    headers.insert("outlast-ruling", HeaderValue::from_static("3.2:1001"));
    let mut ann = house.open(&plain_join(), headers).await.unwrap();
    let proto::signal_response::Message::Join(join) = signal(&mut ann).await else {
        panic!("the join first")
    };
    let permission = join.participant.unwrap().permission.unwrap();
    assert!(permission.can_publish && !permission.can_subscribe, "{permission:?}");
    assert_eq!(frame(&mut rooms).await, hosted("r", 3));
    assert_eq!(frame(&mut rooms).await, ruled("ann", Some(&sent)));
    let request = proto::UpdateParticipantRequest {
        room: "r".into(),
        identity: "ann".into(),
        permission: Some(proto::ParticipantPermission::default()),
        ..Default::default()
    };
    let body = Body::from(request.encode_to_vec());
    let request = Request::post("/api/UpdateParticipant").body(body).unwrap();
    assert_eq!(house.request(request).await.0, StatusCode::OK);
    let made = Ruling { version: "3.3".parse().unwrap(), permission: [].into() };
    assert_eq!(frame(&mut rooms).await, ruled("ann", Some(&made)));
    let mut others = house.open("/rooms", HeaderMap::new()).await.unwrap();
    assert_eq!(frame(&mut others).await, hosted("r", 3));
    assert_eq!(frame(&mut others).await, ruled("ann", Some(&made)));
    assert_eq!(frame(&mut others).await, RoomFrame::Synced);
    let mut malformed = house.headers("bob");
    malformed.insert("outlast-ruling", HeaderValue::from_static("3.2"));
    assert_eq!(house.refusal(&plain_join(), malformed).await.0, StatusCode::BAD_REQUEST);
    house.node.drain_and_stop().await;
}

#[tokio::test]
async fn a_gateways_word_that_another_node_holds_a_room_ends_it_here() {
    let house = house().await;
    let mut ann = house.join("ann").await;
    let mut rooms = house.open("/rooms", HeaderMap::new()).await.unwrap();
    let mut others = house.open("/rooms", HeaderMap::new()).await.unwrap();
    for stream in [&mut rooms, &mut others] {
        assert_eq!(frame(stream).await, hosted("r", 3));
        assert_eq!(frame(stream).await, RoomFrame::Synced);
    }
    let mut steer = async |generation, node: &str| {
        let generation = Generation(generation);
        let steer = Steer { room: "r".into(), generation, node: node.into() };
        for bytes in [b"from a later version".to_vec(), steer.encode()] {
            rooms.send(Message::Binary(bytes.into())).await.unwrap();
        }
    };
    steer(2, "n2").await;
    steer(5, "n1").await;
    assert_eq!(frame(&mut others).await, hosted("r", 5), "it is ours under a newer one");
    steer(6, "n2").await;
    assert_eq!(frame(&mut others).await, lost("r", 5));
    assert_eq!(leave(&mut ann).await, RECONNECT);
    assert_eq!(close_code(&mut ann).await, CloseCode::Normal);
    let refused = house.turned_away(&plain_join(), house.headers_under("ann", 6)).await;
    assert_eq!(refused, because(409, "stale", "6"));
    house.node.drain_and_stop().await;
}

#[tokio::test]
async fn a_drain_can_be_looked_at_and_called_off() {
    let house = house().await;
    let state = house.drain(Method::GET, "").await;
    assert_eq!(state, serde_json::json!({"draining": false, "participants": 0, "left_s": 0}));
    let mut ann = house.join("ann").await;
    let participants = async |count: u64| {
        while house.drain(Method::GET, "").await["participants"] != count {
            tokio::task::yield_now().await;
        }
    };
    participants(1).await;
    let state = house.drain(Method::POST, r#"{"deadline_s": 600, "pace": 2}"#).await;
    assert_eq!((&state["draining"], &state["left_s"]), (&true.into(), &600.into()));
    let mut headers = house.headers("bob");
    let refused = house.turned_away(&plain_join(), headers.clone()).await;
    assert_eq!(refused, because(503, "draining", ""));
    let validate = plain_join().replacen("/rtc/v1", "/rtc/v1/validate", 1);
    let mut request = Request::get(&validate).body(Body::default()).unwrap();
    *request.headers_mut() = headers.clone();
    assert_eq!(house.request(request).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(leave(&mut ann).await, RECONNECT);
    participants(0).await;
    // The room is still here, and the gateway knows no other node.
    headers.insert("outlast-nowhere-else", HeaderValue::from_static("1"));
    let bob = house.open(&plain_join(), headers).await.unwrap();
    let state = house.drain(Method::DELETE, "").await;
    assert_eq!((&state["draining"], &state["left_s"]), (&false.into(), &0.into()));
    let _carol = house.join("carol").await;
    drop(bob);
    let request = Request::post("/drain").body(Body::from("{".to_owned())).unwrap();
    assert_eq!(house.request(request).await.0, StatusCode::BAD_REQUEST);
    house.node.drain_and_stop().await;
}

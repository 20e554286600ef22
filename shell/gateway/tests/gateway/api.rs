//! The server API: grants first, then the body, then the room's home, wherever it is.

use outlast_livekit::{CreateRoomRequest, ListRoomsResponse, Message, SendDataRequest};
use outlast_model::{RoomSettings, Ruling};
use outlast_token::VideoGrant;
use serde_json::{Value, json};

use crate::{
    World,
    client::Answer,
    peer::{Life, Peer},
    soon,
};

impl World {
    async fn call(
        &self,
        method: &str,
        grant: VideoGrant,
        content_type: &str,
        body: &str,
    ) -> Answer {
        let token = self.token(grant);
        self.raw(&format!(
            "POST /twirp/livekit.{method} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\ncontent-type: {content_type}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    async fn json(&self, method: &str, grant: VideoGrant, body: &Value) -> (u16, Value) {
        let method = format!("RoomService/{method}");
        let answer = self.call(&method, grant, "application/json", &body.to_string()).await;
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }
}

fn admin(room: &str) -> VideoGrant {
    VideoGrant { room_admin: true, room: room.into(), ..VideoGrant::default() }
}

fn create() -> VideoGrant {
    VideoGrant { room_create: true, ..VideoGrant::default() }
}

fn list() -> VideoGrant {
    VideoGrant { room_list: true, ..VideoGrant::default() }
}

#[tokio::test]
async fn rooms_are_created_listed_over_all_nodes_and_called_at_home() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    for n in 0..6 {
        let (status, room) = world
            .json("CreateRoom", create(), &json!({ "name": format!("r{n}"), "emptyTimeout": 5 }))
            .await;
        assert_eq!((status, &room["num_participants"]), (200, &json!(2)), "{room}");
    }
    soon(|| world.metric("rooms") == Some(6)).await;
    // A room with two homes is listed once.
    for peer in &world.peers {
        peer.host("twice", 1);
    }
    soon(|| world.metric("rooms") == Some(7)).await;
    let (status, rooms) = world.json("ListRooms", list(), &json!({})).await;
    assert_eq!(status, 200);
    let names: Vec<_> =
        rooms["rooms"].as_array().unwrap().iter().map(|room| &room["name"]).collect();
    assert_eq!(names, ["r0", "r1", "r2", "r3", "r4", "r5", "twice"]);
    let answer = world.call("RoomService/ListRooms", list(), "application/protobuf", "").await;
    assert_eq!(ListRoomsResponse::decode(answer.body.as_bytes()).unwrap().rooms.len(), 7);

    // Both spellings of a field, and unknown ones.
    for body in [
        json!({ "room": "r0", "data": "aGk=", "destination_identities": ["x"], "unknown": 1 }),
        json!({ "room": "r0", "data": "aGk=", "destinationIdentities": ["x"] }),
    ] {
        assert_eq!(world.json("SendData", admin("r0"), &body).await, (200, json!({})));
    }
    let calls = world.host_of("r0").unwrap().calls();
    let sent = calls.iter().filter(|call| call.method == "SendData");
    for call in sent {
        let request = SendDataRequest::decode(call.body.clone()).unwrap();
        assert_eq!(
            (request.data.as_slice(), request.destination_identities),
            (&b"hi"[..], vec!["x".into()])
        );
    }
    // What the node says about the error is what the caller hears.
    let (status, error) =
        world.json("GetParticipant", admin("r0"), &json!({ "room": "r0", "identity": "x" })).await;
    assert_eq!((status, &error["msg"]), (404, &json!("participant does not exist")));
}

#[tokio::test]
async fn grants_come_before_the_body_and_errors_are_twirp_s() {
    let world = World::new(&["eu-1"]).await;
    let calls: [(&str, VideoGrant, &str, u16, &str); 13] = [
        ("RoomService/ListRooms", admin("r"), "{", 403, "permission_denied"),
        ("RoomService/CreateRoom", list(), "{", 403, "permission_denied"),
        ("RoomService/DeleteRoom", admin("r"), r#"{"room":"r"}"#, 403, "permission_denied"),
        ("RoomService/SendData", create(), "{", 403, "permission_denied"),
        ("RoomService/SendData", admin("r"), "{", 400, "malformed"),
        ("RoomService/SendData", admin("r"), r#"{"room":"other"}"#, 403, "permission_denied"),
        ("RoomService/ListParticipants", admin("r"), r#"{"room":"r"}"#, 404, "not_found"),
        ("RoomService/CreateRoom", create(), "{}", 400, "invalid_argument"),
        ("RoomService/Nonsense", create(), "{}", 404, "bad_route"),
        ("RoomService/MoveParticipant", admin("r"), "{}", 501, "unimplemented"),
        ("RoomService/UpdateSubscriptions", admin("r"), "{}", 501, "unimplemented"),
        ("Egress/ListEgress", create(), "{}", 501, "unimplemented"),
        ("RoomService/", create(), "{}", 404, "bad_route"),
    ];
    for (method, grant, body, status, code) in calls {
        let answer = world.call(method, grant, "application/json", body).await;
        let error: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &error["code"]), (status, &json!(code)), "{method} {body}");
        assert!(answer.head.contains("access-control-allow-origin: *"));
    }
    let answer = world.get("/twirp/livekit.RoomService/ListRooms").await;
    assert_eq!(answer.status, 404);
    let answer = world
        .raw("POST /twirp/livekit.RoomService/ListRooms HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(answer.status, 401);
    let large = format!(r#"{{"room":"{}"}}"#, "x".repeat(256 * 1024));
    let answer = world.call("RoomService/SendData", admin("r"), "application/json", &large).await;
    assert_eq!(answer.status, 400);
    assert!(world.peer("eu-1").calls().is_empty());
}

#[tokio::test]
async fn a_room_keeps_its_settings_through_a_move_until_somebody_deletes_it() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let settings = RoomSettings {
        empty_timeout_s: 60,
        departure_timeout_s: 7,
        max_participants: 3,
        metadata: "agenda".into(),
        created_unix_ms: 1_700_000_000_000,
        by_api: true,
    };
    let created = |peer: &Peer| -> Vec<(String, CreateRoomRequest)> {
        let calls = peer.calls().into_iter().filter(|call| call.method == "CreateRoom");
        calls.map(|call| (call.generation, CreateRoomRequest::decode(call.body).unwrap())).collect()
    };
    for room in ["moved", "deleted"] {
        world.peer("eu-1").host_set(room, 3, settings.clone());
    }
    soon(|| world.metric("rooms") == Some(2)).await;
    assert_eq!(world.json("DeleteRoom", create(), &json!({ "room": "deleted" })).await.0, 200);
    soon(|| world.metric("rooms") == Some(1)).await;
    let (_at_home, node) = world.join("moved").await;
    assert_eq!((node.as_str(), created(world.peer("eu-1"))), ("eu-1", Vec::new()));

    world.peer("eu-1").live(Life::Dead);
    let (_moved, node) = world.join("moved").await;
    assert_eq!(node, "eu-2");
    let other = world.peer("eu-2");
    let expected = CreateRoomRequest {
        name: "moved".into(),
        empty_timeout: 60,
        departure_timeout: 7,
        max_participants: 3,
        metadata: "agenda".into(),
        ..CreateRoomRequest::default()
    };
    assert_eq!(created(other), [("4".to_owned(), expected)]);
    assert_eq!(other.calls()[0].created.as_deref(), Some("1700000000000"));
    assert_eq!(other.seen()[0].headers["outlast-generation"], "4");
    assert_eq!(other.seen()[0].after_calls, 1, "the room was made first");
    let (_new, _) = world.join("deleted").await;
    assert_eq!(created(other).len(), 1);
}

#[tokio::test]
async fn a_ruling_goes_with_whoever_it_is_about_wherever_the_room_goes() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let ruling = Ruling { version: "3.2".parse().unwrap(), permission: [0x10, 1].into() };
    world.peer("eu-1").rule("r", "ann", ruling);
    world.peer("eu-1").host("r", 3);
    soon(|| world.metric("rooms") == Some(1)).await;
    let said = |peer: &Peer| -> Vec<Option<String>> {
        let header = |name| peer.seen().last().unwrap().headers.get(name).cloned();
        [header("outlast-ruling"), header("outlast-generation")]
            .map(|value| value.map(|value| value.to_str().unwrap().to_owned()))
            .into()
    };
    let text = |text: &str| Some(text.to_owned());
    let _ann = world.join_as("ann", "r").await;
    assert_eq!(said(world.peer("eu-1")), [text("3.2:1001"), text("3")]);
    let _bob = world.join_as("bob", "r").await;
    assert_eq!(said(world.peer("eu-1")), [None, text("3")]);
    world.peer("eu-1").live(Life::Dead);
    let (_ann, node) = world.join_as("ann", "r").await;
    assert_eq!(node, "eu-2");
    assert_eq!(said(world.peer("eu-2")), [text("3.2:1001"), text("4")]);
}

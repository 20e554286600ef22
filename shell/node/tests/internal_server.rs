//! A whole node on loopback, reached as a gateway reaches it: hostile requests and frames, who is let in, the room stream,
//! the server API, beats, leases, drains.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE};
use flate2::{Compression, write::GzEncoder};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use outlast_link::{
    Authority, Body, Credentials, DialError, DialLimits, Dialer, WebSocket,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};
use outlast_livekit::{self as proto, Message as _};
use outlast_model::{BEAT_INTERVAL, Epoch, Generation, Ruling, SIGNAL_FRAME_BYTES_MAX};
use outlast_node::{GatewayPeer, Node, NodeConfig, NodeMetrics};
use outlast_runtime::Clock;
use outlast_token::{ApiKeys, Claims, VideoGrant};
use outlast_wire::{
    Echo, Opener, Probe, Process, RoomFrame, Sealer, Secret, Steer, ruling_from_text,
};
use tokio::{net::UdpSocket, time::timeout};

const RECONNECT: proto::leave_request::Action = proto::leave_request::Action::Reconnect;
/// Longest that anything here may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

struct House {
    node: Node,
    dialer: Dialer,
    keys: ApiKeys,
    clock: Clock,
    secret: Secret,
    /// Plays the gateway `gw`.
    gateway: UdpSocket,
    ready: Arc<AtomicBool>,
}

async fn house() -> House {
    house_with_lease(PATIENCE * 100).await
}

/// Without echoes, the node serves for so long from its first room on.
async fn house_with_lease(lease: Duration) -> House {
    let authority = Authority::make().unwrap();
    let issued = authority.issue("n1").unwrap();
    let credentials =
        Credentials::from_pem(authority.certificate(), &issued.certificate, &issued.key).unwrap();
    let keys = ApiKeys::new([("devkey", "secret")]).unwrap();
    let secret = Secret::new(b"sixteen bytes at least").unwrap();
    let gateway = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let clock = Clock::start();
    let dialer = Dialer::new(&credentials).unwrap();
    let config = NodeConfig {
        id: "n1".into(),
        region: "eu".into(),
        clock,
        listen: loopback(0),
        beat: loopback(0),
        media_port: 0,
        shards: 2,
        bind: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        advertise: vec!["127.0.0.1".parse().unwrap()],
        participants_max: 100,
        ping_interval: Duration::from_secs(1),
        ping_timeout: Duration::from_secs(3),
        api_keys: keys.clone(),
        credentials: Arc::new(credentials),
        secret: secret.clone(),
        gateways: vec![GatewayPeer {
            id: "gw".into(),
            beat: gateway.local_addr().unwrap().to_string(),
        }],
        lease,
        joins_per_second: 1,
        joins_burst: 30,
        drain_pace: 100,
        drain_deadline: Duration::from_secs(10),
        // A crowded test machine must not look like a stopped process.
        pause_max: PATIENCE,
        debug_hooks: true,
    };
    let ready = Arc::new(AtomicBool::new(false));
    let node = Node::start(config, NodeMetrics::default(), Arc::clone(&ready)).await.unwrap();
    House { node, dialer, keys, clock, secret, gateway, ready }
}

impl House {
    fn address(&self) -> String {
        self.node.listen().to_string()
    }

    fn headers(&self, identity: &str) -> HeaderMap {
        let now = self.clock.unix_now();
        let claims = Claims {
            identity: identity.into(),
            expires_at: now.as_secs() + 600,
            video: VideoGrant { room_join: true, room: "r".into(), ..VideoGrant::default() },
            ..Claims::default()
        };
        let token = format!("Bearer {}", self.keys.mint(&claims, now));
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(&token).unwrap());
        headers.insert("outlast-generation", HeaderValue::from_static("3"));
        headers
    }

    /// The same under another generation.
    fn headers_under(&self, identity: &str, generation: u64) -> HeaderMap {
        let mut headers = self.headers(identity);
        headers.insert("outlast-generation", generation.into());
        headers
    }

    async fn open(&self, target: &str, headers: HeaderMap) -> Result<WebSocket, DialError> {
        let limits = DialLimits { response: PATIENCE, connect: PATIENCE, ..DialLimits::default() };
        self.dialer.websocket(&self.address(), target, headers, &limits).await
    }

    async fn join(&self, identity: &str) -> WebSocket {
        let mut socket = self.open(&plain_join(), self.headers(identity)).await.unwrap();
        let first = signal(&mut socket).await;
        assert!(matches!(first, proto::signal_response::Message::Join(_)), "{first:?}");
        socket
    }

    /// Status and body of a refused handshake.
    async fn refusal(&self, target: &str, headers: HeaderMap) -> (StatusCode, String) {
        match self.open(target, headers).await {
            Err(DialError::Refused(response)) => {
                let text = String::from_utf8(response.body().to_vec()).unwrap();
                (response.status(), text)
            }
            other => panic!("not refused: {:?}", other.err()),
        }
    }

    /// Status, reason, generation and wait of somebody who is turned away.
    async fn turned_away(&self, target: &str, headers: HeaderMap) -> Words {
        match self.open(target, headers).await {
            Err(DialError::Refused(response)) => words(&response),
            other => panic!("not refused: {:?}", other.err()),
        }
    }

    async fn drain(&self, method: Method, body: &str) -> serde_json::Value {
        let body = Body::from(body.to_owned());
        let request = Request::builder().method(method).uri("/drain").body(body).unwrap();
        let (status, body) = self.request(request).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        serde_json::from_slice(&body).unwrap()
    }

    async fn request(&self, request: Request<Body>) -> (StatusCode, bytes::Bytes) {
        let limits = DialLimits { response: PATIENCE, connect: PATIENCE, ..DialLimits::default() };
        let response = self.dialer.request(&self.address(), request, &limits).await.unwrap();
        (response.status(), response.into_body())
    }
}

fn wrap(inner: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(inner).unwrap();
    let join_request = encoder.finish().unwrap();
    proto::WrappedJoinRequest { compression: 1, join_request }.encode_to_vec()
}

/// Status, reason, generation, and whether there is a wait.
type Words = (u16, String, String, bool);

fn words(response: &Response<bytes::Bytes>) -> Words {
    let header = |name: &str| {
        let value = response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default()
    };
    let waits = header("retry-after").parse().is_ok_and(|seconds: u64| seconds >= 1);
    (response.status().as_u16(), header("outlast-refusal"), header("outlast-generation"), waits)
}

fn because(status: u16, why: &str, generation: &str) -> Words {
    (status, why.to_owned(), generation.to_owned(), false)
}

fn plain_join() -> String {
    join_target(&wrap(&proto::JoinRequest::default().encode_to_vec()))
}

fn resume_of(sid: &str) -> String {
    let participant_sid = sid.to_owned();
    let request = proto::JoinRequest { reconnect: true, participant_sid, ..Default::default() };
    join_target(&wrap(&request.encode_to_vec()))
}

fn join_target(wrapped: &[u8]) -> String {
    format!("/rtc/v1?join_request={}", URL_SAFE.encode(wrapped))
}

async fn message(socket: &mut WebSocket) -> Message {
    timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
}

async fn signal(socket: &mut WebSocket) -> proto::signal_response::Message {
    loop {
        if let Message::Binary(bytes) = message(socket).await {
            return proto::SignalResponse::decode(bytes).unwrap().message.unwrap();
        }
    }
}

/// What a session is told at its end.
async fn leave(socket: &mut WebSocket) -> proto::leave_request::Action {
    loop {
        if let proto::signal_response::Message::Leave(leave) = signal(socket).await {
            return leave.action();
        }
    }
}

/// The next one that says something of rooms.
async fn frame(rooms: &mut WebSocket) -> RoomFrame {
    loop {
        let Message::Binary(bytes) = message(rooms).await else { continue };
        match RoomFrame::decode(&bytes).unwrap() {
            RoomFrame::Started { .. } => {}
            frame => return frame,
        }
    }
}

fn hosted(room: &str, generation: u64) -> RoomFrame {
    RoomFrame::Hosted { room: room.into(), generation: Generation(generation), settings: None }
}

fn ruled(identity: &str, ruling: Option<&Ruling>) -> RoomFrame {
    let (room, generation) = ("r".into(), Generation(3));
    RoomFrame::Ruled { room, generation, identity: identity.into(), ruling: ruling.cloned() }
}

fn lost(room: &str, generation: u64) -> RoomFrame {
    RoomFrame::Closed { room: room.into(), generation: Generation(generation), lost: true }
}

async fn close_code(socket: &mut WebSocket) -> CloseCode {
    loop {
        if let Message::Close(frame) = message(socket).await {
            return frame.unwrap().code;
        }
    }
}

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
async fn beats_say_that_every_shard_lives_and_give_echoes_back() {
    let house = house().await;
    let (me, node) = (Process::gateway("gw"), Process::node("n1"));
    let mut opener = Opener::new(&house.secret, me.clone(), [node.clone()]);
    let mut sealer = Sealer::new(&house.secret, me, Epoch(5));
    let mut buffer = [0; 512];
    let mut beat = async || {
        let received = house.gateway.recv_from(&mut buffer);
        let (length, from) = timeout(PATIENCE, received).await.unwrap().unwrap();
        assert_eq!(from, house.node.beat());
        let opened = opener.open(&buffer[..length]).unwrap();
        assert_eq!(opened.from, node);
        let outlast_wire::Message::Beat(beat) = opened.message else { panic!("not a beat") };
        (opened.epoch, opened.sequence, beat)
    };
    let (epoch, sequence, first) = beat().await;
    assert!(first.ticked && !first.draining && first.echoed.is_none());
    assert!(house.ready.load(Ordering::Acquire));
    let echo = Echo { heard_epoch: epoch, heard_sequence: sequence, stamp: 77 };
    let echo = sealer.seal(&node, &outlast_wire::Message::Echo(echo));
    house.gateway.send_to(b"not an echo", house.node.beat()).await.unwrap();
    house.gateway.send_to(&echo.bytes, house.node.beat()).await.unwrap();
    let echoed = loop {
        if let (_, _, outlast_wire::Beat { echoed: Some(echoed), .. }) = beat().await {
            break echoed;
        }
    };
    assert_eq!((echoed.epoch, echoed.stamp), (Epoch(5), 77));
    assert!(echoed.held < BEAT_INTERVAL * 20);
    house.node.drain_and_stop().await;
}

#[tokio::test]
async fn a_probe_is_answered_between_two_beats() {
    let house = house().await;
    let _ann = house.join("ann").await;
    let (me, node) = (Process::gateway("gw"), Process::node("n1"));
    let mut opener = Opener::new(&house.secret, me.clone(), [node.clone()]);
    let mut sealer = Sealer::new(&house.secret, me, Epoch(5));
    let mut buffer = [0; 512];
    let mut hear = async || {
        let received = house.gateway.recv_from(&mut buffer);
        let (length, _) = timeout(PATIENCE, received).await.unwrap().unwrap();
        opener.open(&buffer[..length]).unwrap()
    };
    hear().await;
    let mut answers = Vec::new();
    for (number, room) in [(7, "r"), (8, "nowhere")] {
        let probe = outlast_wire::Message::Probe(Probe { number, room: room.into() });
        let probe = sealer.seal(&node, &probe);
        house.gateway.send_to(&probe.bytes, house.node.beat()).await.unwrap();
    }
    // Beats go on in between, and every datagram has a number of its own, or the opener would refuse it.
    while answers.len() < 2 {
        if let outlast_wire::Message::Probed(probed) = hear().await.message {
            answers.push((probed.number, probed.generation));
        }
    }
    assert_eq!(answers, [(7, Some(Generation(3))), (8, None)]);
    assert!(matches!(hear().await.message, outlast_wire::Message::Beat(_)));
    house.node.drain_and_stop().await;
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

#[tokio::test]
async fn a_node_that_nobody_hears_gives_everything_up_and_serves_again_when_heard() {
    let house = house_with_lease(Duration::from_secs(2)).await;
    let mut rooms = house.open("/rooms", HeaderMap::new()).await.unwrap();
    assert_eq!(frame(&mut rooms).await, RoomFrame::Synced);
    let mut ann = house.join("ann").await;
    assert_eq!(frame(&mut rooms).await, hosted("r", 3));
    assert_eq!(frame(&mut rooms).await, lost("r", 3));
    assert_eq!(leave(&mut ann).await, RECONNECT);
    let refused = house.turned_away(&plain_join(), house.headers_under("ann", 4)).await;
    assert_eq!(refused, because(503, "fenced", ""));
    while house.ready.load(Ordering::Acquire) {
        tokio::task::yield_now().await;
    }

    // Its beats say that it has started anew; it serves again from the first echo on.
    let (me, node) = (Process::gateway("gw"), Process::node("n1"));
    let mut opener = Opener::new(&house.secret, me.clone(), [node.clone()]);
    let mut sealer = Sealer::new(&house.secret, me, Epoch(5));
    let mut buffer = [0; 512];
    let (mut first, mut served) = (None, false);
    while !served {
        let received = house.gateway.recv_from(&mut buffer);
        let (length, from) = timeout(PATIENCE, received).await.unwrap().unwrap();
        let opened = opener.open(&buffer[..length]).unwrap();
        let first = *first.get_or_insert(opened.epoch);
        let (heard_epoch, heard_sequence) = (opened.epoch, opened.sequence);
        let echo = Echo { heard_epoch, heard_sequence, stamp: 1 };
        let echo = sealer.seal(&node, &outlast_wire::Message::Echo(echo));
        house.gateway.send_to(&echo.bytes, from).await.unwrap();
        served = house.open(&plain_join(), house.headers_under("ann", 4)).await.is_ok();
        assert!(!served || heard_epoch > first, "under its new epoch");
    }
    house.node.drain_and_stop().await;
}

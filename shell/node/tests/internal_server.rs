//! A whole node on loopback, reached as a gateway reaches it: hostile requests and frames, the room stream, the server
//! API, beats, and the drain at the end.
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
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use outlast_link::{
    Authority, Body, Credentials, DialError, DialLimits, Dialer, WebSocket,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};
use outlast_livekit::{self as proto, Message as _};
use outlast_model::{BEAT_INTERVAL, Epoch, Generation, SIGNAL_FRAME_BYTES_MAX};
use outlast_node::{GatewayPeer, Node, NodeConfig, NodeMetrics};
use outlast_runtime::Clock;
use outlast_token::{ApiKeys, Claims, VideoGrant};
use outlast_wire::{Echo, Opener, Process, RoomFrame, Sealer, Secret};
use tokio::{net::UdpSocket, time::timeout};

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

    async fn open(&self, target: &str, headers: HeaderMap) -> Result<WebSocket, DialError> {
        let limits = DialLimits { response: PATIENCE, connect: PATIENCE, ..DialLimits::default() };
        self.dialer.websocket(&self.address(), target, headers, &limits).await
    }

    async fn join(&self, identity: &str) -> WebSocket {
        let target = join_target(&wrap(&proto::JoinRequest::default().encode_to_vec()));
        let mut socket = self.open(&target, self.headers(identity)).await.unwrap();
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
    let frame = async |rooms: &mut WebSocket| loop {
        if let Message::Binary(bytes) = message(rooms).await {
            return RoomFrame::decode(&bytes).unwrap();
        }
    };
    assert_eq!(frame(&mut rooms).await, RoomFrame::Synced);
    let mut socket = house.join("ann").await;
    let hosted = RoomFrame::Hosted { room: "r".into(), generation: Generation(3) };
    assert_eq!(frame(&mut rooms).await, hosted);

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
    let leave = loop {
        if let proto::signal_response::Message::Leave(leave) = signal(&mut socket).await {
            break leave;
        }
    };
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
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

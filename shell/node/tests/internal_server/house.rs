//! A node, a gateway that is played, and what they say to each other.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE};
use flate2::{Compression, write::GzEncoder};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use outlast_link::{
    Authority, Body, Credentials, DialError, DialLimits, Dialer, WebSocket,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};
use outlast_livekit::{self as proto, Message as _};
use outlast_model::{Generation, Ruling};
use outlast_node::{GatewayPeer, Node, NodeConfig, NodeMetrics};
use outlast_runtime::Clock;
use outlast_token::{ApiKeys, Claims, VideoGrant};
use outlast_wire::{RoomFrame, Secret};
use tokio::{net::UdpSocket, time::timeout};

pub(crate) const RECONNECT: proto::leave_request::Action = proto::leave_request::Action::Reconnect;
/// Longest that anything here may take on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct House {
    pub(crate) node: Node,
    pub(crate) dialer: Dialer,
    pub(crate) keys: ApiKeys,
    pub(crate) clock: Clock,
    pub(crate) secret: Secret,
    /// Plays the gateway `gw`.
    pub(crate) gateway: UdpSocket,
    pub(crate) ready: Arc<AtomicBool>,
}

pub(crate) async fn house() -> House {
    house_with_lease(PATIENCE * 100).await
}

/// Without echoes, the node serves for so long from its first room on.
pub(crate) async fn house_with_lease(lease: Duration) -> House {
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
    pub(crate) fn address(&self) -> String {
        self.node.listen().to_string()
    }

    pub(crate) fn headers(&self, identity: &str) -> HeaderMap {
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
    pub(crate) fn headers_under(&self, identity: &str, generation: u64) -> HeaderMap {
        let mut headers = self.headers(identity);
        headers.insert("outlast-generation", generation.into());
        headers
    }

    pub(crate) async fn open(
        &self,
        target: &str,
        headers: HeaderMap,
    ) -> Result<WebSocket, DialError> {
        let limits = DialLimits { response: PATIENCE, connect: PATIENCE, ..DialLimits::default() };
        self.dialer.websocket(&self.address(), target, headers, &limits).await
    }

    pub(crate) async fn join(&self, identity: &str) -> WebSocket {
        let mut socket = self.open(&plain_join(), self.headers(identity)).await.unwrap();
        let first = signal(&mut socket).await;
        assert!(matches!(first, proto::signal_response::Message::Join(_)), "{first:?}");
        socket
    }

    /// Status and body of a refused handshake.
    pub(crate) async fn refusal(&self, target: &str, headers: HeaderMap) -> (StatusCode, String) {
        match self.open(target, headers).await {
            Err(DialError::Refused(response)) => {
                let text = String::from_utf8(response.body().to_vec()).unwrap();
                (response.status(), text)
            }
            other => panic!("not refused: {:?}", other.err()),
        }
    }

    /// Status, reason, generation and wait of somebody who is turned away.
    pub(crate) async fn turned_away(&self, target: &str, headers: HeaderMap) -> Words {
        match self.open(target, headers).await {
            Err(DialError::Refused(response)) => words(&response),
            other => panic!("not refused: {:?}", other.err()),
        }
    }

    pub(crate) async fn drain(&self, method: Method, body: &str) -> serde_json::Value {
        let body = Body::from(body.to_owned());
        let request = Request::builder().method(method).uri("/drain").body(body).unwrap();
        let (status, body) = self.request(request).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) async fn request(&self, request: Request<Body>) -> (StatusCode, bytes::Bytes) {
        let limits = DialLimits { response: PATIENCE, connect: PATIENCE, ..DialLimits::default() };
        let response = self.dialer.request(&self.address(), request, &limits).await.unwrap();
        (response.status(), response.into_body())
    }
}

pub(crate) fn wrap(inner: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(inner).unwrap();
    let join_request = encoder.finish().unwrap();
    proto::WrappedJoinRequest { compression: 1, join_request }.encode_to_vec()
}

/// Status, reason, generation, and whether there is a wait.
pub(crate) type Words = (u16, String, String, bool);

pub(crate) fn words(response: &Response<bytes::Bytes>) -> Words {
    let header = |name: &str| {
        let value = response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default()
    };
    let waits = header("retry-after").parse().is_ok_and(|seconds: u64| seconds >= 1);
    (response.status().as_u16(), header("outlast-refusal"), header("outlast-generation"), waits)
}

pub(crate) fn because(status: u16, why: &str, generation: &str) -> Words {
    (status, why.to_owned(), generation.to_owned(), false)
}

pub(crate) fn plain_join() -> String {
    join_target(&wrap(&proto::JoinRequest::default().encode_to_vec()))
}

pub(crate) fn resume_of(sid: &str) -> String {
    let participant_sid = sid.to_owned();
    let request = proto::JoinRequest { reconnect: true, participant_sid, ..Default::default() };
    join_target(&wrap(&request.encode_to_vec()))
}

pub(crate) fn join_target(wrapped: &[u8]) -> String {
    format!("/rtc/v1?join_request={}", URL_SAFE.encode(wrapped))
}

pub(crate) async fn message(socket: &mut WebSocket) -> Message {
    timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
}

pub(crate) async fn signal(socket: &mut WebSocket) -> proto::signal_response::Message {
    loop {
        if let Message::Binary(bytes) = message(socket).await {
            return proto::SignalResponse::decode(bytes).unwrap().message.unwrap();
        }
    }
}

/// What a session is told at its end.
pub(crate) async fn leave(socket: &mut WebSocket) -> proto::leave_request::Action {
    loop {
        if let proto::signal_response::Message::Leave(leave) = signal(socket).await {
            return leave.action();
        }
    }
}

/// The next one that says something of rooms.
pub(crate) async fn frame(rooms: &mut WebSocket) -> RoomFrame {
    loop {
        let Message::Binary(bytes) = message(rooms).await else { continue };
        match RoomFrame::decode(&bytes).unwrap() {
            RoomFrame::Started { .. } => {}
            frame => return frame,
        }
    }
}

pub(crate) fn hosted(room: &str, generation: u64) -> RoomFrame {
    RoomFrame::Hosted { room: room.into(), generation: Generation(generation), settings: None }
}

pub(crate) fn ruled(identity: &str, ruling: Option<&Ruling>) -> RoomFrame {
    let (room, generation) = ("r".into(), Generation(3));
    RoomFrame::Ruled { room, generation, identity: identity.into(), ruling: ruling.cloned() }
}

pub(crate) fn lost(room: &str, generation: u64) -> RoomFrame {
    RoomFrame::Closed { room: room.into(), generation: Generation(generation), lost: true }
}

pub(crate) async fn close_code(socket: &mut WebSocket) -> CloseCode {
    loop {
        if let Message::Close(frame) = message(socket).await {
            return frame.unwrap().code;
        }
    }
}

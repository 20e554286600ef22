//! A client by hand: tokens, requests, sockets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use outlast_livekit::{
    DisconnectReason, Message as _, SignalResponse, leave_request::Action, signal_response::Message,
};
use outlast_token::{Claims, VideoGrant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message as Frame},
};

use crate::{SOON, World};

/// An HTTP answer: status, head in lower case, body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) type Socket = WebSocketStream<TcpStream>;

impl World {
    /// A token with `video`, good for an hour.
    pub(crate) fn token(&self, video: VideoGrant) -> String {
        self.token_of("someone", video)
    }

    fn token_of(&self, identity: &str, video: VideoGrant) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let claims = Claims {
            issuer: "key".into(),
            identity: identity.into(),
            video,
            expires_at: (now + Duration::from_secs(3_600)).as_secs(),
            ..Claims::default()
        };
        self.cluster.keys.mint(&claims, now)
    }

    pub(crate) fn join_token(&self, room: &str) -> String {
        self.token(VideoGrant { room_join: true, room: room.into(), ..VideoGrant::default() })
    }

    /// Sends `text` as it stands and reads to the end of the answer.
    pub(crate) async fn raw(&self, text: &str) -> Answer {
        let mut stream = TcpStream::connect(self.public).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.raw(&format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    /// A WebSocket handshake that is expected to fail.
    pub(crate) async fn refused(&self, target: &str) -> Answer {
        self.raw(&format!(
            "GET {target} HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await
    }

    pub(crate) async fn socket(&self, target: &str) -> Socket {
        let stream = TcpStream::connect(self.public).await.unwrap();
        let url = format!("ws://{}{target}", self.public);
        timeout(SOON, client_async(url, stream)).await.unwrap().unwrap().0
    }

    /// Joins `room`; returns the socket and the node that said hello.
    pub(crate) async fn join(&self, room: &str) -> (Socket, String) {
        self.join_as("someone", room).await
    }

    pub(crate) async fn join_as(&self, identity: &str, room: &str) -> (Socket, String) {
        let video = VideoGrant { room_join: true, room: room.into(), ..VideoGrant::default() };
        let token = self.token_of(identity, video);
        let mut socket = self.socket(&format!("/rtc/v1?access_token={token}")).await;
        let hello = binary(next(&mut socket).await);
        let hello = std::str::from_utf8(&hello).unwrap();
        let node = hello.strip_prefix("hello from ").unwrap().to_owned();
        (socket, node)
    }
}

pub(crate) async fn next(socket: &mut Socket) -> Option<Result<Frame, tungstenite::Error>> {
    loop {
        let frame = timeout(SOON, socket.next()).await.expect("no frame came");
        if !matches!(frame, Some(Ok(Frame::Ping(_) | Frame::Pong(_)))) {
            return frame;
        }
    }
}

pub(crate) fn binary(frame: Option<Result<Frame, tungstenite::Error>>) -> Bytes {
    match frame {
        Some(Ok(Frame::Binary(bytes))) => bytes,
        other => panic!("not a binary frame: {other:?}"),
    }
}

pub(crate) async fn echoes(socket: &mut Socket, text: &'static str) {
    socket.send(Frame::Binary(Bytes::from_static(text.as_bytes()))).await.unwrap();
    assert_eq!(binary(next(socket).await), text);
}

/// The next message makes an SDK join anew, and the socket is closed in order.
pub(crate) async fn is_told_to_reconnect(socket: &mut Socket) {
    let message = SignalResponse::decode(binary(next(socket).await)).unwrap().message;
    let Some(Message::Leave(leave)) = message else { panic!("no leave: {message:?}") };
    assert_eq!(leave.action(), Action::Reconnect);
    assert_eq!(leave.reason(), DisconnectReason::StateMismatch);
    assert!(leave.can_reconnect);
    let close = next(socket).await;
    let Some(Ok(Frame::Close(Some(close)))) = close else { panic!("not closed: {close:?}") };
    assert_eq!(u16::from(close.code), 1000);
}

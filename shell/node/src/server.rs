//! The internal server's routes. Mutual TLS is the listener's matter; only gateways get here.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use outlast_link::{Body, Peer, Upgrade, UpgradeError, WebSocket, text, tungstenite::Message};
use outlast_model::SIGNAL_FRAME_BYTES_MAX;
use outlast_node_core::Command;
use outlast_runtime::Clock;
use outlast_token::ApiKeys;
use outlast_wire::{ROOM_FRAME_BYTES_MAX, RoomFrame};
use tokio::{
    sync::broadcast,
    time::{Duration, interval, timeout},
};

use crate::{
    admit::{Admission, admit},
    api,
    refusal::Refusal,
    session::Session,
    shards::{Input, Shards, Shared},
};

/// Span between two WebSocket pings on a room stream.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a gateway may take to read.
const WRITE_SPAN: Duration = Duration::from_secs(10);

/// What every request may need; cheap to clone.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) shards: Arc<Shards>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) keys: ApiKeys,
    pub(crate) clock: Clock,
    pub(crate) debug_hooks: bool,
}

impl Server {
    /// Answers one request.
    pub(crate) async fn answer(self, _peer: Peer, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = match (&method, path.as_str()) {
            (&Method::GET, "/rtc/v1") => self.signal(request).await,
            (&Method::GET, "/rtc/v1/validate") => {
                self.admit(request).map(|_| text(StatusCode::OK, "success"))
            }
            (&Method::GET, "/rooms") => self.rooms(request),
            (&Method::POST, path) => match (path.strip_prefix("/api/"), self.panicking(path)) {
                (Some(method), _) => Ok(api::answer(method, request, &self.shards).await),
                (None, Some(identity)) => Ok(self.panic(identity)),
                (None, None) => Err(not_found()),
            },
            _ => Err(not_found()),
        };
        response.unwrap_or_else(|refusal| {
            self.shared.metrics.count_refused(refusal.status.as_u16());
            refusal.response()
        })
    }

    async fn signal(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let upgrade = Upgrade::take(&mut request).map_err(no_upgrade)?;
        let admission = self.admit(request)?;
        let session = Session::join(&self.shards, admission, &self.shared.metrics).await?;
        let (response, socket) = upgrade.accept(SIGNAL_FRAME_BYTES_MAX);
        let clock = self.clock;
        tokio::spawn(async move {
            // Without a socket the session is dropped, which its shard hears.
            if let Ok(socket) = socket.await {
                session.run(socket, clock).await;
            }
        });
        Ok(response)
    }

    fn admit(&self, request: Request<Incoming>) -> Result<Admission, Refusal> {
        let (head, _) = request.into_parts();
        let admission = admit(&head, &self.keys, self.clock.unix_now())?;
        if self.shared.is_draining() {
            return Err(Refusal::unavailable("this node is draining"));
        }
        Ok(admission)
    }

    fn rooms(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let upgrade = Upgrade::take(&mut request).map_err(no_upgrade)?;
        let (response, socket) = upgrade.accept(ROOM_FRAME_BYTES_MAX);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            if let Ok(socket) = socket.await {
                let (frames, changes) = shared.rooms.follow();
                stream_rooms(socket, frames, changes).await;
            }
        });
        Ok(response)
    }

    /// The identity whose session a test wants to panic.
    fn panicking<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix("/debug/panic/").filter(|_| self.debug_hooks)
    }

    fn panic(&self, identity: &str) -> Response<Body> {
        for shard in 0..self.shards.len() {
            let command = Command::Panic { identity: identity.to_owned() };
            if self.shards.send(shard, Input::Command(command)).is_err() {
                return Refusal::unavailable("the shard is overloaded").response();
            }
        }
        text(StatusCode::OK, "asked for")
    }
}

/// Sends the snapshot, then changes, until either side ends; a gateway that lags too far behind asks anew.
async fn stream_rooms(
    mut socket: WebSocket,
    frames: Vec<RoomFrame>,
    mut changes: broadcast::Receiver<RoomFrame>,
) {
    for frame in frames {
        let message = Message::Binary(frame.encode().into());
        if !matches!(timeout(WRITE_SPAN, socket.feed(message)).await, Ok(Ok(()))) {
            return;
        }
    }
    if !matches!(timeout(WRITE_SPAN, socket.flush()).await, Ok(Ok(()))) {
        return;
    }
    let mut pings = interval(PING_INTERVAL);
    loop {
        let message = tokio::select! {
            change = changes.recv() => match change {
                Ok(frame) => Message::Binary(frame.encode().into()),
                Err(_) => break,
            },
            _ = pings.tick() => Message::Ping(bytes::Bytes::new()),
            heard = socket.next() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        if !matches!(timeout(WRITE_SPAN, socket.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
    // It may be gone; then it knows.
    let _ = timeout(WRITE_SPAN, socket.close(None)).await;
}

fn no_upgrade(error: UpgradeError) -> Refusal {
    match error {
        UpgradeError::NotWebSocket => Refusal::new(StatusCode::NOT_FOUND, ""),
        UpgradeError::BadHandshake => Refusal::bad(error.to_string()),
    }
}

fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "")
}

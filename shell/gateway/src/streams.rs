//! The room stream of one node: connected for ever, and its reset is the earliest sign that the node's process is gone.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use outlast_gateway_core::{Input, StreamEvent};
use outlast_link::{DialLimits, Dialer, WebSocket, tungstenite::Message};
use outlast_model::NodeId;
use outlast_wire::{ROOM_FRAME_BYTES_MAX, RoomFrame};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::{config::NodePeer, reach::is_refused, refusal::jitter, role_loop::RoleLoop};

const BACKOFF_MIN_MS: u32 = 100;
const BACKOFF_MAX_MS: u32 = 1_000;
/// Span between two pings on an idle stream.
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// Silence after which the stream is opened anew: a connection may be dead at one end only.
const SILENCE_MAX: Duration = Duration::from_secs(10);

enum End {
    /// Reset or ended by the node.
    Lost,
    /// Silent for too long; beats say better than this whether the node lives.
    Stale,
}

/// Follows `node`'s room stream for ever.
pub(crate) async fn follow(node: NodePeer, dialer: Dialer, role: Arc<RoleLoop>) {
    let address = node.address.to_string();
    let limits = DialLimits { message_bytes: ROOM_FRAME_BYTES_MAX, ..DialLimits::default() };
    let mut backoff_ms = BACKOFF_MIN_MS;
    loop {
        match dialer.websocket(&address, "/rooms", HeaderMap::new(), &limits).await {
            Ok(socket) => {
                backoff_ms = BACKOFF_MIN_MS;
                tracing::debug!(node = %node.id, "room stream connected");
                let event = StreamEvent::Connected;
                role.input(Input::Stream { node: node.id.clone(), event });
                match listen(&node.id, socket, &role).await {
                    End::Lost => {
                        let event = StreamEvent::Lost;
                        role.input(Input::Stream { node: node.id.clone(), event });
                    }
                    End::Stale => tracing::info!(node = %node.id, "room stream is silent"),
                }
            }
            Err(error) => {
                if is_refused(&error) {
                    role.input(Input::Refused { node: node.id.clone() });
                }
                tracing::debug!(node = %node.id, error = &error as &dyn std::error::Error,
                    "no room stream");
            }
        }
        let pause_ms = backoff_ms / 2 + jitter(backoff_ms);
        sleep(Duration::from_millis(pause_ms.into())).await;
        backoff_ms = (backoff_ms * 2).min(BACKOFF_MAX_MS);
    }
}

async fn listen(node: &NodeId, mut socket: WebSocket, role: &RoleLoop) -> End {
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = Duration::ZERO;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            _ = pings.tick() => {
                silent += PING_INTERVAL;
                if silent > SILENCE_MAX {
                    return End::Stale;
                }
                let ping = socket.send(Message::Ping(Default::default()));
                if timeout(PING_INTERVAL, ping).await.is_err() {
                    return End::Stale;
                }
                continue;
            }
        };
        silent = Duration::ZERO;
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(
                Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Frame(_),
            )) => {
                continue;
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Lost,
        };
        match RoomFrame::decode(&bytes) {
            Ok(frame) => {
                let event = StreamEvent::Frame(frame);
                role.input(Input::Stream { node: node.clone(), event });
            }
            Err(error) => tracing::warn!(%node, %error, "room stream frame"),
        }
    }
}

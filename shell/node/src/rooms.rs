//! A gateway's room stream: every room that the node holds, then every change, in order; and the other way what gateways
//! say about where rooms belong.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use outlast_link::{WebSocket, tungstenite::Message};
use outlast_wire::Steer;
use tokio::time::{interval, timeout};

use crate::role_loop::{Follower, RoleLoop};

/// Span between two WebSocket pings on a room stream.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a gateway may take to read.
const WRITE_SPAN: Duration = Duration::from_secs(10);

/// Serves one gateway until either side ends; one that lags too far behind asks anew.
pub(crate) async fn stream(mut socket: WebSocket, mut follower: Follower, role: &RoleLoop) {
    for frame in std::mem::take(&mut follower.snapshot) {
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
            change = follower.changes.recv() => match change {
                Some(bytes) => Message::Binary(bytes),
                None => break,
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
            heard = socket.next() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(Message::Binary(bytes))) => {
                    hear(&bytes, role);
                    continue;
                }
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

fn hear(bytes: &[u8], role: &RoleLoop) {
    match Steer::decode(bytes) {
        Ok(steer) => role.steer(steer),
        // A gateway of a later version may say more.
        Err(error) => tracing::debug!(%error, "a frame on a room stream was passed over"),
    }
}

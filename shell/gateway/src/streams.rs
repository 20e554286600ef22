//! The room stream of one node: connected for ever, and its reset is the earliest sign that the node's process is gone. The
//! other way it carries steers: whom the node's rooms belong to by now.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use outlast_gateway_core::{Input, StreamEvent};
use outlast_link::{
    DialLimits, Dialer, WebSocket,
    tungstenite::{Error, Message},
};
use outlast_model::NodeId;
use outlast_wire::{DecodeError, ROOM_FRAME_BYTES_MAX, RoomFrame, Steer};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{config::NodePeer, reach::is_refused, refusal::jitter, role_loop::RoleLoop};

const BACKOFF_MIN_MS: u32 = 100;
const BACKOFF_MAX_MS: u32 = 1_000;
/// Span between two pings on an idle stream.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Silence after which the stream is opened anew: a connection may be dead at one end only. After a cut, TCP repeats what was
/// lost as late as the cut was long; two homes of a room must meet sooner than that.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Most steers that wait for one node. More: the stream begins anew, the node names all its rooms, and is steered by that.
const STEERS_MAX: usize = 4_096;

/// Where the steers of one node are put.
pub(crate) struct Steers {
    queue: mpsc::Sender<Steer>,
    overflowed: Arc<AtomicBool>,
}

/// Where they are taken from.
pub(crate) struct Steering {
    queue: mpsc::Receiver<Steer>,
    overflowed: Arc<AtomicBool>,
}

/// The two ends of one node's queue.
pub(crate) fn steers() -> (Steers, Steering) {
    let (sender, receiver) = mpsc::channel(STEERS_MAX);
    let overflowed = Arc::<AtomicBool>::default();
    let steering = Steering { queue: receiver, overflowed: Arc::clone(&overflowed) };
    (Steers { queue: sender, overflowed }, steering)
}

impl Steers {
    pub(crate) fn push(&self, steer: Steer) {
        if self.queue.try_send(steer).is_err() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }
}

impl Steering {
    /// What was said to a stream that is over; a new one names all rooms, and the node is steered by that.
    fn forget(&mut self) {
        while self.queue.try_recv().is_ok() {}
        self.overflowed.store(false, Ordering::Relaxed);
    }

    fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Relaxed)
    }
}

enum End {
    /// Reset or ended by the node.
    Lost,
    /// Silent for too long, or it does not read; beats say better than this whether the node lives.
    Stale,
}

/// Follows `node`'s room stream for ever.
pub(crate) async fn follow(
    node: NodePeer,
    dialer: Dialer,
    role: Arc<RoleLoop>,
    mut steering: Steering,
) {
    let address = node.address.to_string();
    let limits = DialLimits { message_bytes: ROOM_FRAME_BYTES_MAX, ..DialLimits::default() };
    let mut backoff_ms = BACKOFF_MIN_MS;
    loop {
        match dialer.websocket(&address, "/rooms", HeaderMap::new(), &limits).await {
            Ok(socket) => {
                backoff_ms = BACKOFF_MIN_MS;
                tracing::debug!(node = %node.id, "room stream connected");
                steering.forget();
                let event = StreamEvent::Connected;
                role.input(Input::Stream { node: node.id.clone(), event });
                let event = match listen(&node.id, socket, &role, &mut steering).await {
                    End::Lost => StreamEvent::Lost,
                    End::Stale => {
                        tracing::info!(node = %node.id, "room stream is stuck");
                        StreamEvent::Stale
                    }
                };
                role.input(Input::Stream { node: node.id.clone(), event });
            }
            Err(error) => {
                if is_refused(&error) {
                    role.input(Input::ConnectionRefused { node: node.id.clone() });
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

async fn listen(
    node: &NodeId,
    mut socket: WebSocket,
    role: &RoleLoop,
    steering: &mut Steering,
) -> End {
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut silent, mut started) = (Duration::ZERO, false);
    loop {
        let outgoing = tokio::select! {
            biased;
            _ = pings.tick() => {
                silent += PING_INTERVAL;
                if silent > SILENCE_MAX || steering.has_overflowed() {
                    return End::Stale;
                }
                Message::Ping(Default::default())
            }
            // Before what comes in, which makes more of them.
            Some(steer) = steering.queue.recv() => Message::Binary(steer.encode().into()),
            message = socket.next() => {
                silent = Duration::ZERO;
                match hear(node, message, role, &mut started) {
                    Some(end) => return end,
                    None => continue,
                }
            }
        };
        // A write that fails is seen by the next read.
        if timeout(PING_INTERVAL, socket.send(outgoing)).await.is_err() {
            return End::Stale;
        }
    }
}

fn hear(
    node: &NodeId,
    message: Option<Result<Message, Error>>,
    role: &RoleLoop,
    started: &mut bool,
) -> Option<End> {
    let bytes = match message {
        Some(Ok(Message::Binary(bytes))) => bytes,
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Frame(_))) => {
            return None;
        }
        Some(Ok(Message::Close(_)) | Err(_)) | None => return Some(End::Lost),
    };
    match RoomFrame::decode(&bytes) {
        Ok(frame) => {
            *started |= matches!(frame, RoomFrame::Started { .. });
            if !*started {
                tracing::warn!(%node, "room stream does not say of which start of the node it is: \
                    it is of another version, update it");
                return Some(End::Stale);
            }
            let event = StreamEvent::Frame(frame);
            role.input(Input::Stream { node: node.clone(), event });
        }
        // Of a later version, which says more than this one needs.
        Err(DecodeError::Kind(kind)) => tracing::debug!(%node, kind, "room stream frame"),
        Err(error) => tracing::warn!(%node, %error, "room stream frame"),
    }
    None
}

#[cfg(test)]
mod tests {
    use outlast_model::Generation;

    use super::*;

    #[test]
    fn a_full_queue_is_noticed_and_a_new_stream_begins_with_an_empty_one() {
        let (steers, mut steering) = steers();
        let steer = Steer { room: "r".into(), generation: Generation(1), node: "n".into() };
        for _ in 0..STEERS_MAX {
            steers.push(steer.clone());
        }
        assert!(!steering.has_overflowed());
        steers.push(steer.clone());
        assert!(steering.has_overflowed());
        steering.forget();
        assert!(!steering.has_overflowed() && steering.queue.try_recv().is_err());
        steers.push(steer.clone());
        assert_eq!(steering.queue.try_recv(), Ok(steer));
    }
}

//! One client's signalling socket at the node, from before its upgrade to its end: frames to the shard and back.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use outlast_link::{
    WebSocket,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use outlast_model::{SessionId, Time};
use outlast_node_core::{Command, Join};
use outlast_runtime::Clock;
use outlast_tenure::Why;
use outlast_wire::{CLIENT_MESSAGE_LIMITS, within};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    admit::Admission,
    metrics::NodeMetrics,
    refusal::Refusal,
    shards::{Busy, Input, SESSION_EVENTS_MAX, SessionEvent, Shards},
};

/// How long a shard may take to admit: far above a busy shard's turn, below every client's patience.
const ADMIT_SPAN: Duration = Duration::from_secs(5);
/// Span between two WebSocket pings to the gateway.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long one frame may take to leave.
const WRITE_SPAN: Duration = Duration::from_secs(10);
/// Signalling messages per second that a client may send for long.
const MESSAGES_PER_SECOND: f64 = 50.0;
/// Messages that it may send at once: a rejoin with many tracks.
const MESSAGES_BURST: f64 = 500.0;

/// A session that the shard knows of. Dropping it tells the shard that the socket has ended.
pub(crate) struct Session {
    id: SessionId,
    shard: usize,
    shards: Arc<Shards>,
    events: mpsc::Receiver<SessionEvent>,
    /// The shard has said the last word.
    over: bool,
    metrics: NodeMetrics,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.metrics.sessions.dec();
        if !self.over {
            let closed = Command::Closed { session: self.id };
            // A shard too busy to hear it finds out with the next frame that it sends.
            let _ = self.shards.send(self.shard, Input::Command(closed));
        }
    }
}

impl Session {
    /// Asks the room's shard to let the client in, and waits for its answer.
    pub(crate) async fn join(
        shards: &Arc<Shards>,
        admission: Admission,
        metrics: &NodeMetrics,
    ) -> Result<Session, Refusal> {
        let Admission { claims, request, generation, ruling, client_ip, user_agent, .. } =
            admission;
        let (to_session, events) = mpsc::channel(SESSION_EVENTS_MAX);
        let shard = shards.of(&claims.video.room.as_str().into());
        let id = shards.new_session();
        let session = id;
        let join = Join { session, claims, request, generation, ruling, client_ip, user_agent };
        let join = Box::new(join);
        metrics.sessions.inc();
        let mut session = Session {
            id,
            shard,
            shards: Arc::clone(shards),
            events,
            over: true,
            metrics: metrics.clone(),
        };
        shards
            .send(shard, Input::Join { join, events: to_session })
            .map_err(|Busy| Refusal::because(Why::Busy))?;
        session.over = false;
        match timeout(ADMIT_SPAN, session.events.recv()).await {
            Ok(Some(SessionEvent::Admitted)) => Ok(session),
            Ok(Some(SessionEvent::Refused(refusal))) => {
                session.over = true;
                Err(refusal)
            }
            Ok(_) => Err(Refusal::unavailable("the shard was lost: ask again")),
            Err(_) => Err(Refusal::unavailable("the shard does not answer")),
        }
    }

    /// Carries frames until either side ends.
    pub(crate) async fn run(mut self, mut socket: WebSocket, clock: Clock) {
        let mut allowance = Allowance::new(clock.now());
        let mut pings = interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        let end = loop {
            let step = tokio::select! {
                event = self.events.recv() => self.forward(event, &mut socket).await,
                message = socket.next() => self.take(message, &mut allowance, clock.now()),
                _ = pings.tick() => write(&mut socket, Message::Ping(bytes::Bytes::new())).await,
            };
            if let Err(end) = step {
                break end;
            }
        };
        if let End::Close(code, reason) = end {
            let frame = CloseFrame { code, reason: reason.into() };
            // The other side may be gone, or not read: nothing more is owed to it.
            let _ = timeout(WRITE_SPAN, socket.close(Some(frame))).await;
        }
    }

    /// Sends an event, and whatever waits behind it, with one flush.
    async fn forward(
        &mut self,
        event: Option<SessionEvent>,
        socket: &mut WebSocket,
    ) -> Result<(), End> {
        let mut next = event;
        loop {
            match next {
                Some(SessionEvent::Frame(bytes)) => {
                    let fed = timeout(WRITE_SPAN, socket.feed(Message::Binary(bytes.into()))).await;
                    if !matches!(fed, Ok(Ok(()))) {
                        return Err(End::Gone);
                    }
                }
                Some(SessionEvent::Close | SessionEvent::Refused(_)) => {
                    self.over = true;
                    return Err(End::Close(CloseCode::Normal, ""));
                }
                Some(SessionEvent::Admitted) => {}
                None => return Err(End::Close(CloseCode::Away, "the session is lost")),
            }
            match self.events.try_recv() {
                Ok(event) => next = Some(event),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => next = None,
            }
        }
        match timeout(WRITE_SPAN, socket.flush()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }

    /// Takes one message of the client.
    fn take(
        &self,
        message: Option<tungstenite::Result<Message>>,
        allowance: &mut Allowance,
        now: Time,
    ) -> Result<(), End> {
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Text(_))) => {
                return Err(End::Close(CloseCode::Unsupported, "send binary frames"));
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(()),
            Some(Err(tungstenite::Error::Capacity(_))) => {
                return Err(End::Close(CloseCode::Size, "the frame is too large"));
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
        };
        if !allowance.take(now) {
            return Err(End::Close(CloseCode::Policy, "too many signalling messages"));
        }
        if within(&bytes, CLIENT_MESSAGE_LIMITS).is_err() {
            return Err(End::Close(CloseCode::Policy, "the message has too many fields"));
        }
        let signal = Command::Signal { session: self.id, bytes: bytes.into() };
        self.shards
            .send(self.shard, Input::Command(signal))
            .map_err(|_| End::Close(CloseCode::Again, "the shard is overloaded"))
    }
}

/// How a socket ends.
enum End {
    /// The other side ended it.
    Gone,
    /// We do, with this code and reason.
    Close(CloseCode, &'static str),
}

async fn write(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match timeout(WRITE_SPAN, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(End::Gone),
    }
}

/// A token bucket of messages.
struct Allowance {
    left: f64,
    at: Time,
}

impl Allowance {
    fn new(now: Time) -> Allowance {
        Allowance { left: MESSAGES_BURST, at: now }
    }

    /// Whether one more message is within the rate.
    fn take(&mut self, now: Time) -> bool {
        let grown = self.left + now.since(self.at).as_secs_f64() * MESSAGES_PER_SECOND;
        self.at = now;
        self.left = grown.min(MESSAGES_BURST);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_rate() {
        let mut allowance = Allowance::new(Time::ZERO);
        assert!((0..500).all(|_| allowance.take(Time::ZERO)));
        assert!(!allowance.take(Time::ZERO));
        let later = Time::from_millis(1_000);
        assert!((0..50).all(|_| allowance.take(later)));
        assert!(!allowance.take(later));
        let much_later = Time::from_millis(1_000_000);
        assert!((0..500).all(|_| allowance.take(much_later)));
        assert!(!allowance.take(much_later));
    }
}

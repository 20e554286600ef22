//! One client's signalling socket and the node's socket behind it: frames both ways, in order, one at a time, so that a
//! slow end holds up its own session only.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::{
    SinkExt, Stream, StreamExt,
    stream::{SplitSink, SplitStream},
};
use outlast_gateway_core::Why;
use outlast_link::{
    WebSocket,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    leave,
    outcome::{News, Outcome},
    seat::{Seat, Told},
};

/// A frame that cannot be handed on in this time: the receiver has stopped reading.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Span between two WebSocket pings to the client; SDKs have their own, which go to the node.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Silence after which a client is gone: three pings unanswered.
const CLIENT_SILENCE_MAX: Duration = Duration::from_secs(50);
/// How long a closed socket is read on, so that the last message is not lost to a reset.
const LINGER: Duration = Duration::from_secs(2);

type Sink = SplitSink<WebSocket, Message>;
type Source = SplitStream<WebSocket>;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The client closed, broke off, or fell silent.
    Client,
    /// The node closed in order.
    Node,
    /// The client was told to reconnect, or to resume.
    Told(Why),
}

enum Event {
    Client(Option<CloseFrame>),
    Node(Option<CloseFrame>),
    NodeLost,
    Told(Why),
}

/// Carries frames until one end is gone, or the client has been told to reconnect. `outcome` is that of a join.
pub(crate) async fn pump(
    client: WebSocket,
    node: WebSocket,
    seat: Seat,
    mut told: Told,
    outcome: Option<Outcome>,
) -> Ended {
    let (mut client_sink, mut client_source) = client.split();
    let (mut node_sink, mut node_source) = node.split();
    let left = AtomicBool::new(false);
    let watch = Watch { seat: &seat, left: &left, outcome };
    let mut event = tokio::select! {
        event = upward(&mut client_source, &mut node_sink, &left) => event,
        event = downward(&mut node_source, &mut client_sink, watch) => event,
        why = told.why() => Event::Told(why),
    };
    if matches!(event, Event::NodeLost) {
        event = if left.load(Ordering::Relaxed) {
            // One of them has taken leave; what follows needs no form.
            Event::Node(None)
        } else {
            seat.link_lost();
            tokio::select! {
                why = told.why() => Event::Told(why),
                () = drain(&mut client_source) => Event::Client(None),
            }
        };
    }
    match event {
        Event::Client(frame) => {
            close(&mut node_sink, frame).await;
            Ended::Client
        }
        Event::Node(frame) => {
            close(&mut client_sink, frame).await;
            linger(client_source).await;
            Ended::Node
        }
        Event::Told(why) => {
            // The seat is free: the client is no longer where it was.
            drop((seat, node_sink, node_source));
            if why.resumes() {
                // Without a `leave`, to an SDK, this is a connection that broke: it resumes, and media goes on.
                let reason = "resume".into();
                close(&mut client_sink, Some(CloseFrame { code: CloseCode::Away, reason })).await;
                linger(client_source).await;
            } else {
                farewell(client_sink, client_source).await;
            }
            Ended::Told(why)
        }
        Event::NodeLost => unreachable!("turned into another event above"),
    }
}

/// Sends `leave{RECONNECT}`, closes, and waits a little for the client to do the same.
pub(crate) async fn farewell(mut sink: Sink, source: Source) {
    let leave = Message::Binary(leave::reconnect());
    if let Ok(Ok(())) = timeout(SEND_MAX, sink.send(leave)).await {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "reconnect".into() };
        close(&mut sink, Some(frame)).await;
    }
    linger(source).await;
}

/// From the client to the node.
async fn upward(client: &mut Source, node: &mut Sink, left: &AtomicBool) -> Event {
    loop {
        let message = match timeout(CLIENT_SILENCE_MAX, client.next()).await {
            Ok(Some(Ok(Message::Close(frame)))) => return Event::Client(frame),
            Ok(Some(Ok(message @ (Message::Binary(_) | Message::Text(_))))) => message,
            // Answered by the library; the node has its own connection to look after.
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => continue,
            Ok(Some(Err(Error::Capacity(_)))) => {
                let reason = "message too big".into();
                return Event::Node(Some(CloseFrame { code: CloseCode::Size, reason }));
            }
            Ok(Some(Err(_)) | None) | Err(_) => return Event::Client(None),
        };
        note(&message, left);
        if !matches!(timeout(SEND_MAX, node.send(message)).await, Ok(Ok(()))) {
            return Event::NodeLost;
        }
    }
}

/// From the node to the client.
async fn downward(node: &mut Source, client: &mut Sink, mut watch: Watch<'_>) -> Event {
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    loop {
        let message = tokio::select! {
            message = node.next() => match message {
                Some(Ok(Message::Close(frame))) => return Event::Node(frame),
                Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) => message,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(_)) | None => return Event::NodeLost,
            },
            _ = pings.tick() => Message::Ping(Default::default()),
        };
        note(&message, watch.left);
        let news = watch.look(&message);
        if !matches!(timeout(SEND_MAX, client.send(message)).await, Ok(Ok(()))) {
            return Event::Client(None);
        }
        watch.tell(news);
    }
}

/// What is looked for in the frames of a node.
struct Watch<'s> {
    seat: &'s Seat,
    left: &'s AtomicBool,
    /// `None` when it is known, or never will be.
    outcome: Option<Outcome>,
}

impl Watch<'_> {
    fn look(&mut self, message: &Message) -> Option<News> {
        match (&mut self.outcome, message) {
            (Some(outcome), Message::Binary(frame)) => outcome.look(Instant::now(), frame),
            _ => None,
        }
    }

    fn tell(&mut self, news: Option<News>) {
        match news {
            None => return,
            Some(News::Answered) => return self.seat.answered(),
            Some(News::Reached) => self.seat.reached(),
            Some(News::Over) => {}
        }
        self.outcome = None;
    }
}

fn note(message: &Message, left: &AtomicBool) {
    if matches!(message, Message::Binary(bytes) if leave::is_leave(bytes)) {
        left.store(true, Ordering::Relaxed);
    }
}

async fn close(sink: &mut Sink, frame: Option<CloseFrame>) {
    // Whoever cannot be told goodbye is gone.
    let _ = timeout(LINGER, sink.send(Message::Close(frame))).await;
}

async fn linger(mut source: Source) {
    let _ = timeout(LINGER, drain(&mut source)).await;
}

async fn drain(source: &mut (impl Stream<Item = Result<Message, Error>> + Unpin)) {
    while let Some(Ok(_)) = source.next().await {}
}

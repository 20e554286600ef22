//! The load: joins at a steady pace, whatever becomes of those before, and participants who stay.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use outlast_livekit::signal_response;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::chance::Chance;

use super::{
    client::{Door, PING_INTERVAL, Seat, told_to_leave},
    figures::{RoomKind, Sample},
    ledger::Ledger,
};

/// How long somebody stays in a new room while nothing is checked.
const NEW_STAY: Duration = Duration::from_secs(20);
/// How long anybody stays at most: nodes put out who has no media after 60 s.
const STAY_MAX: Duration = Duration::from_secs(50);
/// How long a participant of a known room stays before coming again.
const KNOWN_STAY: Duration = Duration::from_secs(40);
/// Participants of known rooms who come in at a time.
const SEATED_AT_ONCE: usize = 8;
/// Requests a second that need nothing but the gateway.
const BARE_PER_S: u32 = 20;
/// Between a join of a known room, one of a new room and a bare request.
const STEP: Duration = Duration::from_millis(16);
/// Tasks that a load may have at once; joins beyond are counted as failed, since clients would see no better.
const TASKS_MAX: usize = 4_000;

/// What the drill tells the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Join.
    Go,
    /// Join nobody for now: the gateway is away on purpose.
    Rest,
    /// Join, and nobody leaves: rooms are looked for.
    Stay,
    /// It is over.
    Stop,
}

/// Why somebody does not stay any longer who would have.
enum Ended {
    /// The server has said so, in these words.
    Told(String),
    /// The connection is over.
    Broken(String),
}

impl Ended {
    fn words(self) -> String {
        match self {
            Ended::Told(words) | Ended::Broken(words) => words,
        }
    }
}

/// The load on one gateway.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) seed: u64,
    /// Where joins come in.
    pub(crate) door: Door,
    /// What the names of the nodes in the gateway's region begin with.
    pub(crate) site: String,
    /// Where participants of known rooms come in; another gateway when the joins' one is killed.
    pub(crate) sitters: Door,
    /// Gateways are restarted on purpose: whose connection breaks comes again when they are back, as an SDK does by another one.
    pub(crate) restarts: bool,
    /// Known rooms, each with a participant.
    pub(crate) known: usize,
    /// Joins of known rooms a second.
    pub(crate) known_per_s: u32,
    /// Of new ones.
    pub(crate) new_per_s: u32,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) orders: watch::Receiver<Order>,
}

impl Load {
    /// Sends participants into the known rooms, who stay until the load stops. Returns when all are in, or with the first that
    /// did not come in.
    pub(crate) async fn seat(&self) -> Result<JoinSet<()>, String> {
        let mut sitters = JoinSet::new();
        let coming = (0..self.known).map(|number| async move {
            let (room, who) = (known(number), format!("sitter-{number}"));
            let seat = self.sitters.join(&room, &who).await?;
            Ok::<_, String>((room, who, seat))
        });
        let mut coming = stream::iter(coming).buffer_unordered(SEATED_AT_ONCE);
        while let Some(seated) = coming.next().await {
            let (room, who, seat) = seated?;
            self.ledger.found(&room, &seat.node);
            self.ledger.sits(&room, &seat.node);
            let load = self.clone();
            sitters.spawn(async move { load.sit(room, who, seat).await });
        }
        Ok(sitters)
    }

    /// Joins until it is told to stop; then waits for what it has begun.
    pub(crate) async fn run(self) {
        let mut chance = Chance::named(self.seed, "known rooms");
        // Clients do not come in step: each kind has a third of the shortest beat for itself.
        let mut known_ticks = ticks(self.known_per_s, Duration::ZERO);
        let mut new_ticks = ticks(self.new_per_s, STEP);
        let mut bare_ticks = ticks(BARE_PER_S, STEP * 2);
        let mut orders = self.orders.clone();
        let mut tasks = JoinSet::new();
        let (mut guests, mut rooms) = (0_u64, 0_u64);
        loop {
            let kind = tokio::select! {
                _ = known_ticks.tick() => RoomKind::Known,
                _ = new_ticks.tick() => RoomKind::New,
                _ = bare_ticks.tick() => RoomKind::Bare,
                _ = orders.changed() => {
                    if *orders.borrow() == Order::Stop { break } else { continue }
                }
            };
            while tasks.try_join_next().is_some() {}
            if *orders.borrow() == Order::Rest {
                continue;
            }
            if tasks.len() >= TASKS_MAX {
                let (at, failure) = (self.ledger.now(), Some("too many joins wait".to_owned()));
                let (took, near) = (Duration::ZERO, false);
                self.ledger.count(Sample { kind, at, took, near, failure });
                continue;
            }
            let load = self.clone();
            match kind {
                RoomKind::Known => {
                    guests += 1;
                    let (room, who) = (known(chance.index(self.known)), format!("guest-{guests}"));
                    tasks.spawn(async move { load.visit(room, who).await });
                }
                RoomKind::Bare => {
                    tasks.spawn(async move { load.ask().await });
                }
                RoomKind::New => {
                    rooms += 1;
                    let room = format!("new-{rooms}");
                    tasks.spawn(async move { load.open(room).await });
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Somebody asks for nothing in particular.
    async fn ask(self) {
        let (at, start) = (self.ledger.now(), Instant::now());
        let (took, failure) = match self.door.bare().await {
            Ok(took) => (took, None),
            Err(why) => (start.elapsed(), Some(why)),
        };
        self.ledger.count(Sample { kind: RoomKind::Bare, at, took, near: true, failure });
    }

    /// Somebody looks into a known room.
    async fn visit(self, room: String, who: String) {
        if let Some(seat) = self.join(RoomKind::Known, &room, &who).await {
            seat.leave().await;
        }
    }

    /// Somebody opens a room and stays a while.
    async fn open(self, room: String) {
        let Some(mut seat) = self.join(RoomKind::New, &room, "first").await else { return };
        loop {
            self.ledger.sits(&room, &seat.node);
            let stayed = self.stay(&mut seat, NEW_STAY).await;
            let again = match stayed {
                Ok(()) => {
                    self.ledger.stands_up(&room);
                    return seat.leave().await;
                }
                Err(Ended::Broken(_)) if self.restarts => {
                    self.again(&self.door, &room, "first").await
                }
                Err(ended) => Err(ended.words()),
            };
            match again {
                Ok(again) => seat = again,
                Err(why) => {
                    self.ledger.stands_up(&room);
                    return self.ledger.dropped(&room, &seat.node, why);
                }
            }
        }
    }

    /// Somebody comes again whose gateway was restarted, once that is over.
    async fn again(&self, door: &Door, room: &str, who: &str) -> Result<Seat, String> {
        // An error: the drill has ended.
        let _ = self.orders.clone().wait_for(|order| *order != Order::Rest).await;
        let seat =
            door.join(room, who).await.map_err(|why| format!("could not come again: {why}"))?;
        self.ledger.found(room, &seat.node);
        Ok(seat)
    }

    async fn join(&self, kind: RoomKind, room: &str, who: &str) -> Option<Seat> {
        let (at, start) = (self.ledger.now(), Instant::now());
        let (took, failure, seat) = match self.door.join(room, who).await {
            Ok(seat) => (seat.took, None, Some(seat)),
            Err(why) => (start.elapsed(), Some(why), None),
        };
        let near = seat.as_ref().is_some_and(|seat| seat.node.starts_with(&self.site));
        self.ledger.count(Sample { kind, at, took, near, failure });
        if let Some(seat) = &seat {
            self.ledger.found(room, &seat.node);
        }
        seat
    }

    /// A known room's participant, who comes again whenever its time is up.
    async fn sit(self, room: String, who: String, mut seat: Seat) {
        loop {
            let stayed = self.stay(&mut seat, KNOWN_STAY).await;
            let node = seat.node.clone();
            match stayed {
                Ok(()) => seat.leave().await,
                Err(Ended::Broken(_)) if self.restarts => {}
                Err(ended) => self.ledger.dropped(&who, &node, ended.words()),
            }
            if *self.orders.borrow() == Order::Stop {
                return;
            }
            seat = match self.again(&self.sitters, &room, &who).await {
                Ok(seat) => seat,
                Err(why) => {
                    self.ledger.dropped(&who, &node, why);
                    return self.ledger.stands_up(&room);
                }
            };
            self.ledger.sits(&room, &seat.node);
        }
    }

    /// Stays `span`, and longer while nobody may leave.
    ///
    /// # Errors
    /// When it has ended against the participant's will.
    async fn stay(&self, seat: &mut Seat, span: Duration) -> Result<(), Ended> {
        let start = Instant::now();
        let mut pings = ticks(1, Duration::ZERO);
        let mut orders = self.orders.clone();
        loop {
            let order = *orders.borrow();
            let until = if order == Order::Stay { STAY_MAX } else { span };
            if order == Order::Stop {
                return Ok(());
            }
            tokio::select! {
                message = seat.next() => {
                    if let signal_response::Message::Leave(leave) = message.map_err(Ended::Broken)? {
                        return Err(Ended::Told(told_to_leave(&leave)));
                    }
                }
                _ = pings.tick() => seat.ping(self.door.clock).await.map_err(Ended::Broken)?,
                () = sleep_until(start + until) => return Ok(()),
                _ = orders.changed() => {}
            }
        }
    }
}

/// The name of a known room.
fn known(number: usize) -> String {
    format!("known-{number}")
}

/// Ticks so many times a second, from `after` on. What was missed is made up for: the pace is the clients', not the servers'.
fn ticks(per_s: u32, after: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + after, PING_INTERVAL / per_s.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

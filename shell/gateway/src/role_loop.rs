//! Runs the gateway's role: feeds it inputs in order, wakes it in time, and carries out what it says.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use outlast_gateway_core::{
    AskId, Change, Health, Input, Located, Output, RegionHealth, Remembered, Role, Session, Why,
};
use outlast_model::{GatewayId, NodeId, RegionName, RoomName, SessionId, Time};
use outlast_runtime::Clock;
use outlast_wire::{Message, Process, SnapshotWriter};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};

use crate::{
    asking::{Asking, Go, Step, Turns, Wish, say, turns},
    directory::Calls,
    metrics::Metrics,
    seat::{Seat, Told},
    streams::Steers,
};

/// Longest sleep: metrics are brought up to date at least so often.
const NAP_MAX: Duration = Duration::from_secs(1);
/// Shortest span between two counts for metrics, which look at every node.
const FACTS_INTERVAL: Duration = Duration::from_millis(100);

/// What the role acts through.
pub(crate) struct Hands {
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    /// Echoes, outlooks and probes, each with its receiver.
    pub(crate) datagrams: mpsc::Sender<(Process, Message)>,
    /// Who hears this gateway's bulletins.
    pub(crate) name_servers: Vec<Process>,
    /// One queue a node.
    pub(crate) steers: BTreeMap<NodeId, Steers>,
    /// Questions for the directory.
    pub(crate) calls: Calls,
}

/// The role with its surroundings; every task of the gateway has a handle.
pub(crate) struct RoleLoop {
    clock: Clock,
    metrics: Metrics,
    datagrams: mpsc::Sender<(Process, Message)>,
    name_servers: Vec<Process>,
    steers: BTreeMap<NodeId, Steers>,
    calls: Calls,
    inner: Mutex<Inner>,
    changed: Notify,
    drained: Notify,
}

struct Inner {
    role: Role,
    /// As of the last input.
    wake_at: Option<Time>,
    out: Vec<Output>,
    asks: HashMap<AskId, Turns>,
    /// Open sessions, each with the way to tell it, once.
    seats: HashMap<SessionId, Option<oneshot::Sender<Why>>>,
    asks_ever: u64,
    sessions_ever: u64,
    counted_at: Option<Time>,
}

impl RoleLoop {
    pub(crate) fn new(role: Role, hands: Hands) -> RoleLoop {
        let Hands { clock, metrics, datagrams, name_servers, steers, calls } = hands;
        let inner = Inner {
            wake_at: role.wake_at(),
            role,
            out: Vec::new(),
            asks: HashMap::new(),
            seats: HashMap::new(),
            asks_ever: 0,
            sessions_ever: 0,
            counted_at: None,
        };
        RoleLoop {
            clock,
            metrics,
            datagrams,
            name_servers,
            steers,
            calls,
            inner: Mutex::new(inner),
            changed: Notify::new(),
            drained: Notify::new(),
        }
    }

    /// Wakes the role when it wants to be woken, for ever.
    pub(crate) async fn run(&self) {
        loop {
            let wake_at = {
                let mut inner = self.lock();
                self.count(&mut inner);
                inner.wake_at
            };
            let nap = wake_at.map_or(NAP_MAX, |at| at.since(self.clock.now()).min(NAP_MAX));
            tokio::select! {
                () = sleep(nap) => self.input(Input::Wake),
                () = self.changed.notified() => {}
            }
        }
    }

    fn count(&self, inner: &mut Inner) {
        let now = self.clock.now();
        if inner.counted_at.is_some_and(|before| now.since(before) < FACTS_INTERVAL) {
            return;
        }
        inner.counted_at = Some(now);
        self.metrics.facts(&inner.role.facts(now));
    }

    /// Tells the role what has happened, and does what it wants.
    pub(crate) fn input(&self, input: Input) {
        let mut inner = self.lock();
        self.handle(&mut inner, input);
    }

    fn handle(&self, inner: &mut Inner, input: Input) {
        let now = self.clock.now();
        inner.role.handle(now, input, &mut inner.out);
        let mut out = std::mem::take(&mut inner.out);
        for output in out.drain(..) {
            self.carry_out(inner, output);
        }
        inner.out = out;
        let wake_at = inner.role.wake_at();
        if std::mem::replace(&mut inner.wake_at, wake_at) != wake_at {
            self.changed.notify_one();
        }
    }

    fn carry_out(&self, inner: &mut Inner, output: Output) {
        match output {
            Output::Echo { node, echo } => {
                self.datagram(Process::node(node.as_str()), Message::Echo(echo));
            }
            Output::Outlook { gateway, outlook } => {
                self.datagram(Process::gateway(gateway.as_str()), Message::Outlook(outlook));
            }
            Output::Bulletin { outlook } => {
                for server in &self.name_servers {
                    self.datagram(server.clone(), Message::Outlook(outlook));
                }
            }
            Output::Probe { node, probe } => {
                self.datagram(Process::node(node.as_str()), Message::Probe(probe));
            }
            Output::Go { ask, placement, nowhere_else, settings, ruling } => {
                if let Some(turns) = inner.asks.get(&ask) {
                    say(turns, Step::Go(Go { placement, nowhere_else, settings, ruling }));
                }
            }
            Output::Unplaced { ask, why, retry_after } => {
                if let Some(turns) = inner.asks.remove(&ask) {
                    say(&turns, Step::Unplaced { why, retry_after });
                }
            }
            Output::Tell { session, why } => {
                self.metrics.told(why.as_str());
                if let Some(tell) = inner.seats.get_mut(&session).and_then(Option::take) {
                    // Whose socket has just ended needs no telling.
                    let _ = tell.send(why);
                }
            }
            Output::Steer { node, steer } => {
                if let Some(steers) = self.steers.get(&node) {
                    steers.push(steer);
                }
            }
            Output::Directory { call, request } => self.calls.ask(call, request),
            Output::Verdict { node, change } => log_node(&node, &change),
            Output::RegionVerdict { region, health } => log_region(&region, health),
            Output::Ejection { node, ejected } => log_ejection(&node, ejected),
            Output::Drained => self.drained.notify_one(),
        }
    }

    fn datagram(&self, to: Process, message: Message) {
        // A full queue is a socket that does not send: whoever misses this one gets the next.
        drop(self.datagrams.try_send((to, message)));
    }

    /// Somebody wants in.
    pub(crate) fn ask(self: &Arc<Self>, wish: Wish) -> Asking {
        let Wish { room, client, goal, near } = wish;
        let (say, hear) = turns();
        let mut inner = self.lock();
        inner.asks_ever += 1;
        let ask = AskId(inner.asks_ever);
        inner.asks.insert(ask, say);
        self.handle(&mut inner, Input::Ask { ask, room, client, goal, near });
        drop(inner);
        Asking::new(ask, hear, Arc::clone(self))
    }

    /// Tells what came of one turn of an ask; nothing if there is a newer one.
    pub(crate) fn report(&self, ask: AskId, turn: u64, input: Input) {
        let mut inner = self.lock();
        if inner.is_newest(ask, turn) {
            self.handle(&mut inner, input);
        }
    }

    /// A node has taken the client of an ask: the role has no further word. `false` if it has had one since that turn.
    pub(crate) fn settle(&self, ask: AskId, turn: u64) -> bool {
        let mut inner = self.lock();
        let newest = inner.is_newest(ask, turn);
        if newest {
            inner.asks.remove(&ask);
        }
        newest
    }

    /// Nobody waits any more.
    pub(crate) fn withdraw(&self, ask: AskId) {
        let mut inner = self.lock();
        inner.asks.remove(&ask);
        self.handle(&mut inner, Input::Withdrawn { ask });
    }

    /// A session that a node has admitted.
    pub(crate) fn open(self: &Arc<Self>, ask: AskId, at: Session) -> (Seat, Told) {
        let (tell, told) = oneshot::channel();
        let mut inner = self.lock();
        inner.sessions_ever += 1;
        let session = SessionId(inner.sessions_ever);
        inner.seats.insert(session, Some(tell));
        self.handle(&mut inner, Input::Opened { session, ask, at });
        drop(inner);
        Seat::new(session, told, Arc::clone(self))
    }

    /// A session is over.
    pub(crate) fn close(&self, session: SessionId) {
        let mut inner = self.lock();
        inner.seats.remove(&session);
        self.handle(&mut inner, Input::Closed { session });
    }

    /// Counts a step of a join's media.
    pub(crate) fn media(&self, step: &'static str) {
        self.metrics.media(step);
    }

    pub(crate) fn locate(&self, room: &RoomName) -> Located {
        self.lock().role.locate(room)
    }

    /// Where clients may go: see [`Role::doors`].
    pub(crate) fn doors(&self, near: Option<&RegionName>) -> Vec<(GatewayId, RegionName)> {
        self.lock().role.doors(self.clock.now(), near)
    }

    /// Open sessions.
    pub(crate) fn sessions(&self) -> usize {
        self.lock().seats.len()
    }

    /// Clients that wait for a place.
    #[cfg(test)]
    pub(crate) fn asks(&self) -> usize {
        self.lock().role.facts(self.clock.now()).asks
    }

    /// Every node that is not down.
    pub(crate) fn living(&self) -> Vec<NodeId> {
        let inner = self.lock();
        let nodes = inner.role.view().nodes();
        nodes.filter(|node| node.health != Health::Down).map(|node| node.facts.id.clone()).collect()
    }

    /// Writes the next `count` rooms of the view: see [`Role::remember`].
    pub(crate) fn remember(
        &self,
        from: Option<Remembered>,
        count: usize,
        into: &mut SnapshotWriter,
    ) -> Option<Remembered> {
        self.lock().role.remember(from, count, into)
    }

    /// Whether an unknown room is really unknown.
    pub(crate) fn settled(&self) -> bool {
        self.lock().role.settled(self.clock.now())
    }

    /// Ends when nobody is left, after [`Input::Drain`].
    pub(crate) async fn drained(&self) {
        self.drained.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("the role does not panic")
    }
}

impl Inner {
    fn is_newest(&self, ask: AskId, turn: u64) -> bool {
        self.asks.get(&ask).is_some_and(|turns| turns.borrow().number == turn)
    }
}

fn log_node(node: &NodeId, change: &Change) {
    let (from, to, silence_ms) = (change.from, change.to, change.silence.as_millis());
    let probation = change.probation;
    match to {
        Health::Down => tracing::warn!(%node, ?from, ?to, silence_ms, "node is down"),
        Health::Alive | Health::Suspect => {
            tracing::info!(%node, ?from, ?to, silence_ms, probation, "node's health changed");
        }
    }
}

fn log_region(region: &RegionName, health: RegionHealth) {
    match health {
        RegionHealth::Down => tracing::warn!(%region, "region is down: most gateways agree"),
        RegionHealth::Up | RegionHealth::Doubted => {
            tracing::info!(%region, ?health, "region's health changed");
        }
    }
}

fn log_ejection(node: &NodeId, ejected: bool) {
    if ejected {
        tracing::warn!(%node, "node is taken out: it answers clients and their media does not come up");
    } else {
        tracing::info!(%node, "node that was taken out may have rooms again");
    }
}

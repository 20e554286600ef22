//! Runs the gateway's role: feeds it inputs in order, wakes it in time, and carries out what it says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use outlast_gateway_core::{
    Change, Gone, Health, Input, Located, Output, PlaceError, Placement, Role, Session, Why,
};
use outlast_model::{NodeId, RoomName, SessionId};
use outlast_runtime::Clock;
use outlast_wire::Echo;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};

use crate::metrics::Metrics;

/// Longest sleep: metrics are brought up to date at least so often.
const NAP_MAX: Duration = Duration::from_secs(1);

/// The role with its surroundings; every task of the gateway has a handle.
pub(crate) struct RoleLoop {
    clock: Clock,
    metrics: Metrics,
    echoes: mpsc::Sender<(NodeId, Echo)>,
    inner: Mutex<Inner>,
    changed: Notify,
    drained: Notify,
}

struct Inner {
    role: Role,
    out: Vec<Output>,
    told: HashMap<SessionId, oneshot::Sender<Why>>,
    sessions_ever: u64,
}

impl RoleLoop {
    pub(crate) fn new(
        clock: Clock,
        role: Role,
        metrics: Metrics,
        echoes: mpsc::Sender<(NodeId, Echo)>,
    ) -> RoleLoop {
        let inner = Inner { role, out: Vec::new(), told: HashMap::new(), sessions_ever: 0 };
        RoleLoop {
            clock,
            metrics,
            echoes,
            inner: Mutex::new(inner),
            changed: Notify::new(),
            drained: Notify::new(),
        }
    }

    /// Wakes the role when it wants to be woken, for ever.
    pub(crate) async fn run(&self) {
        loop {
            let (wake_at, facts) = {
                let inner = self.lock();
                (inner.role.wake_at(), inner.role.facts())
            };
            self.metrics.facts(&facts);
            let nap = wake_at.map_or(NAP_MAX, |at| at.since(self.clock.now()).min(NAP_MAX));
            tokio::select! {
                () = sleep(nap) => self.input(Input::Wake),
                () = self.changed.notified() => {}
            }
        }
    }

    /// Tells the role what has happened, and does what it wants.
    pub(crate) fn input(&self, input: Input) {
        let mut inner = self.lock();
        self.handle(&mut inner, input);
    }

    fn handle(&self, inner: &mut Inner, input: Input) {
        let wake_at = inner.role.wake_at();
        inner.role.handle(self.clock.now(), input, &mut inner.out);
        for output in inner.out.drain(..) {
            match output {
                // A full queue is a socket that does not send: the node will miss one echo.
                Output::Echo { node, echo } => drop(self.echoes.try_send((node, echo))),
                Output::Tell { session, why } => {
                    self.metrics.told(why.as_str());
                    if let Some(socket) = inner.told.remove(&session) {
                        // Whose socket has just ended needs no telling.
                        let _ = socket.send(why);
                    }
                }
                Output::Verdict { node, change } => log(&node, &change),
                Output::Drained => self.drained.notify_one(),
            }
        }
        if inner.role.wake_at() != wake_at {
            self.changed.notify_one();
        }
    }

    /// A session that a node has admitted.
    pub(crate) fn open(self: &Arc<Self>, at: Session) -> Seat {
        let (tell, told) = oneshot::channel();
        let mut inner = self.lock();
        inner.sessions_ever += 1;
        let id = SessionId(inner.sessions_ever);
        inner.told.insert(id, tell);
        self.handle(&mut inner, Input::Opened { session: id, at });
        drop(inner);
        Seat { id, told, role: Arc::clone(self) }
    }

    pub(crate) fn place(&self, room: &RoomName, tried: &[NodeId]) -> Result<Placement, PlaceError> {
        self.lock().role.place(room, tried)
    }

    pub(crate) fn resume(&self, room: &RoomName) -> Result<Placement, Gone> {
        self.lock().role.resume(room)
    }

    pub(crate) fn locate(&self, room: &RoomName) -> Located {
        self.lock().role.locate(room)
    }

    pub(crate) fn sessions(&self) -> usize {
        self.lock().role.facts().sessions
    }

    /// Every node that is not down.
    pub(crate) fn living(&self) -> Vec<NodeId> {
        let inner = self.lock();
        let nodes = inner.role.view().nodes();
        nodes.filter(|node| node.health != Health::Down).map(|node| node.facts.id.clone()).collect()
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

/// A session's place in the role; leaving it is `Closed`.
pub(crate) struct Seat {
    id: SessionId,
    told: oneshot::Receiver<Why>,
    role: Arc<RoleLoop>,
}

impl Seat {
    /// Ends when the client is to be told to reconnect.
    pub(crate) async fn told(&mut self) -> Why {
        // The role keeps the other end for as long as this seat exists, and uses it once.
        (&mut self.told).await.unwrap_or(Why::LinkLost)
    }

    /// The node is gone from the other end.
    pub(crate) fn link_lost(&self) {
        self.role.input(Input::LinkLost { session: self.id });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.role.lock();
        inner.told.remove(&self.id);
        self.role.handle(&mut inner, Input::Closed { session: self.id });
    }
}

fn log(node: &NodeId, change: &Change) {
    let (from, to, silence_ms) = (change.from, change.to, change.silence.as_millis());
    match to {
        Health::Down => tracing::warn!(%node, ?from, ?to, silence_ms, "node is down"),
        Health::Alive | Health::Suspect => {
            tracing::info!(%node, ?from, ?to, silence_ms, "node's health changed");
        }
    }
}

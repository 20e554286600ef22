//! One shard's thread: sockets, queue and orders in, sockets and channels out, and the fence when its node has lost its
//! rooms.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use outlast_livekit::{self as proto, Message as _};
use outlast_model::{SessionId, Time};
use outlast_node_core::{ApiError, Command, Out, Shard, ShardConfig, Told};
use outlast_runtime::{
    BATCH_DATAGRAMS, Clock, Poller, Ready, Run, UdpBatch, UdpSender, UdpSocketSet, Wake, entropy,
    thread_cpu_time,
};
use outlast_tenure::Why;
use tokio::sync::{mpsc, oneshot};

use crate::{
    metrics::ShardReport,
    refusal::Refusal,
    role_loop::RoleLoop,
    shards::{Input, SessionEvent, Shared},
    vigil::Vigil,
};

/// Longest sleep: far below the longest pause, so that an idle shard is not taken for a stopped one.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Batches taken from one socket before the others and the queue have their turn.
const BATCHES_PER_TURN: usize = 8;
/// Inputs taken from the queue before the sockets have their turn.
const INPUTS_PER_TURN: usize = 256;
/// The same as time, for inputs are not alike: a join takes far longer than a packet, and media does not wait.
const INPUTS_SPAN: Duration = Duration::from_millis(5);
/// Batches discarded from one socket after a pause: more than a socket's buffer holds.
const BATCHES_DISCARDED_MAX: usize = 4_096;

/// What a shard's thread is made of.
pub(crate) struct Parts {
    pub(crate) config: ShardConfig,
    pub(crate) clock: Clock,
    pub(crate) sockets: UdpSocketSet,
    pub(crate) inputs: Receiver<Input>,
    pub(crate) wake: Wake,
    pub(crate) role: Arc<RoleLoop>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) pause_max: Duration,
}

/// Whether the thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    Stop,
}

impl Flow {
    /// Goes on only if both do.
    fn and(self, other: Flow) -> Flow {
        if self == Flow::Stop { Flow::Stop } else { other }
    }
}

/// A shard with all that it touches.
pub(crate) struct ShardLoop {
    parts: Parts,
    shard: Shard,
    poller: Poller,
    batch: UdpBatch,
    sender: UdpSender,
    out: Out,
    /// Where each session's events go.
    sessions: BTreeMap<SessionId, mpsc::Sender<SessionEvent>>,
    /// Sessions whose client is gone; the shard is told in the next turn.
    gone: Vec<SessionId>,
    calls: BTreeMap<u64, oneshot::Sender<Result<Vec<u8>, ApiError>>>,
    next_call: u64,
    vigil: Vigil,
    /// The last tick taken from the roll call.
    tick: u64,
    /// [`INPUTS_SPAN`] but in tests.
    inputs_span: Duration,
    datagrams_in: u64,
    bytes_in: u64,
    load: Load,
    /// Joins, and those whose media came up, up to the last tick and of all starts of the shard.
    joins: (u64, u64),
    /// Those of the starts before this one.
    joins_before: (u64, u64),
}

/// Share of a core used between two looks.
struct Load {
    at: Time,
    cpu: Duration,
}

impl ShardLoop {
    /// Sets the shard up; the calling thread is the one that must run it.
    pub(crate) fn new(parts: Parts) -> io::Result<ShardLoop> {
        let now = parts.clock.now();
        let shard = Shard::new(parts.config.clone(), entropy::bytes()?, now);
        Ok(ShardLoop {
            shard,
            poller: Poller::new(&parts.sockets, &parts.wake)?,
            batch: UdpBatch::new(),
            sender: UdpSender::new(&parts.sockets),
            out: Out::default(),
            sessions: BTreeMap::new(),
            gone: Vec::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            vigil: Vigil::new(now, parts.pause_max),
            tick: 0,
            inputs_span: INPUTS_SPAN,
            datagrams_in: 0,
            bytes_in: 0,
            load: Load { at: now, cpu: thread_cpu_time() },
            joins: (0, 0),
            joins_before: (0, 0),
            parts,
        })
    }

    /// Sleeps until there is something to do, and does it.
    pub(crate) fn turn(&mut self) -> Flow {
        let sleep = self.shard.wake_at().since(self.parts.clock.now());
        let sleep = sleep.min(SLEEP_MAX).min(self.parts.pause_max / 4);
        let ready = self.poller.wait(Some(sleep)).expect("an open poller with room for its events");
        if self.has_lost_all() {
            return self.fence();
        }
        let worked = catch_unwind(AssertUnwindSafe(|| self.work(ready)));
        // Asked again: a pause may have come in the middle of the work.
        if self.has_lost_all() {
            return self.fence().and(worked.unwrap_or(Flow::Continue));
        }
        match worked {
            Ok(flow) if self.deliver() => flow,
            Ok(flow) => self.fence().and(flow),
            Err(_) => {
                self.restart();
                Flow::Continue
            }
        }
    }

    /// Whether what the shard holds is the node's no more.
    fn has_lost_all(&mut self) -> bool {
        let now = self.parts.clock.now();
        let pause = self.vigil.late(now);
        self.ask_role(now, pause)
    }

    /// Tells the role what it may not know yet, a pause or a lease that has run out, and takes its answer: a node that has
    /// lost its rooms goes on under another epoch. One that had none goes on as it is.
    fn ask_role(&self, now: Time, pause: Option<Duration>) -> bool {
        let Parts { role, shared, config, .. } = &self.parts;
        match pause {
            Some(pause) => role.paused(pause),
            None if !shared.may_send(now) => role.wake(),
            None => {}
        }
        shared.epoch() != config.epoch
    }

    fn work(&mut self, ready: Ready) -> Flow {
        self.take_tick();
        self.take_orders();
        for session in std::mem::take(&mut self.gone) {
            let now = self.parts.clock.now();
            self.shard.command(now, Command::Closed { session }, &mut self.out);
        }
        for socket in (0..).take(self.parts.sockets.len()) {
            if ready.socket(socket) {
                self.receive(socket);
            }
        }
        let flow = self.take_inputs(ready);
        let now = self.parts.clock.now();
        if self.shard.wake_at() <= now {
            self.shard.wake(now, &mut self.out);
        }
        self.shard.flush(now, &mut self.out);
        flow
    }

    /// Takes a new tick past the queue. It is answered like any command, by the turn that has taken it: when all the
    /// turn's work has been done and sent.
    fn take_tick(&mut self) {
        let asked = self.parts.shared.roll_call.asked();
        if asked > self.tick {
            self.tick = asked;
            let now = self.parts.clock.now();
            self.shard.command(now, Command::Tick(asked), &mut self.out);
        }
    }

    fn take_orders(&mut self) {
        let Parts { config, clock, shared, .. } = &self.parts;
        let now = clock.now();
        for (room, generation) in shared.orders.lost(config.shard) {
            let fence = Command::FenceRoom { room, generation };
            self.shard.command(now, fence, &mut self.out);
        }
        let before = self.shard.participants();
        let count = shared.orders.away(before);
        if count > 0 {
            self.shard.command(now, Command::MoveAway { count }, &mut self.out);
            let moved = before.saturating_sub(self.shard.participants());
            shared.orders.owe(moved.saturating_sub(count as usize));
        }
    }

    fn receive(&mut self, socket: u8) {
        for _ in 0..BATCHES_PER_TURN {
            // An error of a UDP socket is some peer's ICMP: it says nothing of the others.
            let Ok(received) = self.batch.receive(&self.parts.sockets, socket) else { continue };
            let now = self.parts.clock.now();
            for datagram in self.batch.datagrams() {
                self.datagrams_in += 1;
                self.bytes_in += datagram.bytes.len() as u64;
                self.shard.datagram(now, socket, datagram.source, datagram.bytes, &mut self.out);
            }
            if received < BATCH_DATAGRAMS {
                return;
            }
        }
    }

    fn take_inputs(&mut self, ready: Ready) -> Flow {
        if ready.woken {
            self.parts.wake.quiet();
        }
        let began = self.parts.clock.now();
        let mut now = began;
        for taken in 0..INPUTS_PER_TURN {
            // At least one a turn, however long the last one took.
            if taken > 0 && now.since(began) >= self.inputs_span {
                break;
            }
            let Ok(input) = self.parts.inputs.try_recv() else { return Flow::Continue };
            let command = match input {
                Input::Join { join, events } => {
                    self.sessions.insert(join.session, events);
                    Command::Join(join)
                }
                Input::Api { request, answer } => {
                    self.next_call += 1;
                    self.calls.insert(self.next_call, answer);
                    Command::Api { call: self.next_call, request }
                }
                Input::Command(command) => {
                    if let Command::Closed { session } = command {
                        self.sessions.remove(&session);
                    }
                    command
                }
                Input::Stop => return Flow::Stop,
            };
            self.shard.command(now, command, &mut self.out);
            now = self.parts.clock.now();
        }
        // There may be more, and the bell is quiet.
        self.parts.wake.ring();
        Flow::Continue
    }

    /// Sends what came out and tells everybody what concerns them. Looks at the clock before every system call: `false`,
    /// with the rest unsent and untold, when a pause has come between two of them, or the lease has run out, and the node
    /// has lost its rooms with that.
    fn deliver(&mut self) -> bool {
        let runs = self.out.batch.runs().map(|run| Run {
            socket: run.path.socket,
            address: run.path.address,
            bytes: run.bytes,
            segment: run.segment,
        });
        let Parts { clock, shared, config, .. } = &self.parts;
        let (vigil, mut pause) = (&mut self.vigil, None);
        let may_send = || {
            let now = clock.now();
            pause = vigil.late(now);
            pause.is_none() && shared.epoch() == config.epoch && shared.may_send(now)
        };
        let whole = self.sender.send_while(runs, may_send);
        if !whole && self.ask_role(self.parts.clock.now(), pause) {
            return false;
        }
        self.out.batch.clear();
        let mut told = std::mem::take(&mut self.out.told);
        for one in told.drain(..) {
            self.tell(one);
        }
        self.out.told = told;
        if !self.gone.is_empty() {
            self.parts.wake.ring();
        }
        true
    }

    fn tell(&mut self, told: Told) {
        let shard = self.parts.config.shard;
        match told {
            Told::Admitted { session } => self.tell_session(session, SessionEvent::Admitted),
            Told::Refused { session, refusal } => {
                self.tell_session(session, SessionEvent::Refused(refusal.into()));
                self.sessions.remove(&session);
            }
            Told::Frame { session, bytes } => {
                self.tell_session(session, SessionEvent::Frame(bytes));
            }
            Told::Close { session } => {
                self.tell_session(session, SessionEvent::Close);
                self.sessions.remove(&session);
            }
            Told::Api { call, result } => {
                if let Some(answer) = self.calls.remove(&call) {
                    // Whoever asked may have gone.
                    let _ = answer.send(result);
                }
            }
            Told::Ticked(number) => {
                let report = self.report();
                self.parts.shared.metrics.report(shard, report);
                self.parts.shared.roll_call.answer(shard, number);
            }
            Told::RoomOpened { room, generation, settings } => {
                self.parts.role.opened(room, generation, settings);
            }
            Told::Ruled { room, identity, ruling } => {
                self.parts.role.ruled(room, identity, ruling);
            }
            Told::RoomClosed { room, generation } => self.parts.role.closed(room, generation),
            Told::Panicked { message } => {
                tracing::error!(shard, message, "a session panicked and was ended");
            }
        }
    }

    fn tell_session(&mut self, session: SessionId, event: SessionEvent) {
        let Some(events) = self.sessions.get(&session) else { return };
        if let Err(refused) = events.try_send(event) {
            if matches!(refused, mpsc::error::TrySendError::Full(_)) {
                self.parts.shared.metrics.overflows.inc();
            }
            self.sessions.remove(&session);
            self.gone.push(session);
        }
    }

    fn report(&mut self) -> ShardReport {
        let (now, cpu) = (self.parts.clock.now(), thread_cpu_time());
        let span = now.since(self.load.at).as_nanos().max(1);
        let used = cpu.saturating_sub(self.load.cpu).as_nanos();
        self.load = Load { at: now, cpu };
        let stats = self.shard.stats();
        let before = self.joins_before;
        self.joins = (before.0 + stats.joins, before.1 + stats.connected);
        ShardReport {
            stats,
            sends: self.sender.counters(),
            datagrams_in: self.datagrams_in,
            bytes_in: self.bytes_in,
            truncated: self.batch.truncated(),
            load_permille: u16::try_from(used * 1000 / span).unwrap_or(u16::MAX),
            joins_admitted: self.joins.0,
            joins_connected: self.joins.1,
        }
    }

    /// Gateways may have moved the node's rooms, as it was not run, or not heard, for so long: forgets them, with everything
    /// that waited meanwhile, and goes on under the node's new epoch.
    fn fence(&mut self) -> Flow {
        let epoch = self.parts.shared.epoch();
        tracing::warn!(shard = self.parts.config.shard, epoch = epoch.0, "fenced");
        self.parts.config.epoch = epoch;
        self.parts.shared.metrics.fences.inc();
        self.out.batch.clear();
        self.out.told.clear();
        self.gone.clear();
        // A tick from before the pause proves nothing.
        self.tick = self.parts.shared.roll_call.void();
        self.discard_datagrams();
        let flow = self.discard_inputs();
        let now = self.parts.clock.now();
        let fenced = catch_unwind(AssertUnwindSafe(|| {
            self.shard.command(now, Command::Fence { epoch }, &mut self.out);
        }));
        if fenced.is_err() {
            self.restart();
            return flow;
        }
        self.out.batch.clear();
        self.deliver();
        self.sessions.clear();
        self.gone.clear();
        self.calls.clear();
        // What this took is no pause.
        self.vigil = Vigil::new(self.parts.clock.now(), self.parts.pause_max);
        flow
    }

    fn discard_datagrams(&mut self) {
        for socket in (0..).take(self.parts.sockets.len()) {
            for _ in 0..BATCHES_DISCARDED_MAX {
                match self.batch.receive(&self.parts.sockets, socket) {
                    Ok(received) if received > 0 => {}
                    _ => break,
                }
            }
        }
    }

    /// Joins that waited carry a generation that has been passed; API requests are tried again by who asked.
    fn discard_inputs(&mut self) -> Flow {
        self.parts.wake.quiet();
        let mut flow = Flow::Continue;
        while let Ok(input) = self.parts.inputs.try_recv() {
            match input {
                Input::Join { events, .. } => {
                    let refusal = Refusal::because(Why::Fenced);
                    // The client may have given up.
                    let _ = events.try_send(SessionEvent::Refused(refusal));
                }
                Input::Stop => flow = Flow::Stop,
                // Who asked tries again; the rest is about sessions that are no more.
                Input::Api { .. } | Input::Command(_) => {}
            }
        }
        flow
    }

    /// A panic that no session's isolation caught: everything in the shard may be half done, so it begins anew.
    fn restart(&mut self) {
        tracing::error!(shard = self.parts.config.shard, "the shard panicked and starts empty");
        self.parts.shared.metrics.restarts.inc();
        self.out = Out::default();
        self.tick = self.parts.shared.roll_call.void();
        self.gone.clear();
        self.calls.clear();
        self.joins_before = self.joins;
        let leave = reconnect();
        for events in std::mem::take(&mut self.sessions).into_values() {
            // A full or ended channel ends its socket all the same.
            let _ = events.try_send(SessionEvent::Frame(leave.clone()));
            let _ = events.try_send(SessionEvent::Close);
        }
        let seed = entropy::bytes().expect("the kernel gave random bytes when the node started");
        self.shard = Shard::new(self.parts.config.clone(), seed, self.parts.clock.now());
        self.parts.role.lost(self.parts.config.shard);
    }
}

/// `leave{RECONNECT}`: SDKs join anew at once.
fn reconnect() -> Vec<u8> {
    let leave = proto::LeaveRequest {
        can_reconnect: true,
        reason: proto::DisconnectReason::StateMismatch.into(),
        action: proto::leave_request::Action::Reconnect.into(),
        regions: None,
    };
    let message = Some(proto::signal_response::Message::Leave(leave));
    proto::SignalResponse { message }.encode_to_vec()
}

#[cfg(test)]
#[path = "shard_loop_tests.rs"]
mod tests;

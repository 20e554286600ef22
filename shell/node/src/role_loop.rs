//! The node's mind at work: what it may hold is decided by [`Tenure`]; here it is told what has happened, from whatever
//! thread, and what it says is carried out at once and in order. Nothing in here waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use outlast_model::{
    BEAT_INTERVAL, Epoch, GatewayId, Generation, Identity, NodeId, RoomName, RoomSettings, Ruling,
    Time,
};
use outlast_runtime::Clock;
use outlast_tenure::{Admission, Goal, Input, Output, Refusal, Tenure, TenureConfig};
use outlast_wire::{Beat, Echo, Probe, Probed, RoomFrame, Steer};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};

use crate::{
    shards::{Shards, Shared},
    vigil::Vigil,
};

/// Changes that a gateway which reads slowly may lag behind; past it its room stream ends, and it asks anew.
pub(crate) const CHANGES_MAX: usize = 4_096;

/// The role with its surroundings; shards' threads and all tasks of the node have a handle.
#[derive(Debug)]
pub(crate) struct RoleLoop {
    clock: Clock,
    shards: Arc<Shards>,
    shared: Arc<Shared>,
    nap_max: Duration,
    inner: Mutex<Inner>,
    /// What is due has changed.
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    tenure: Tenure,
    vigil: Vigil,
    out: Vec<Output>,
    /// The answer to the question that is being asked.
    answer: Option<Admission>,
    /// Of the tick that is being told.
    beats: Vec<OwedBeat>,
    /// To the probe that is being asked.
    probed: Option<OwedAnswer>,
    followers: BTreeMap<u64, mpsc::Sender<Bytes>>,
    followers_ever: u64,
    /// Who begins to follow, and all frames for it so far.
    beginning: Option<(u64, Vec<RoomFrame>)>,
    /// Followers that lag too far behind.
    lagging: Vec<u64>,
    /// The last frame that was encoded: the same one goes to all followers.
    encoded: Option<(RoomFrame, Bytes)>,
    drain: DrainState,
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DrainState {
    /// Its deadline, while one is under way.
    pub(crate) deadline: Option<Time>,
    /// Nobody is left.
    pub(crate) drained: bool,
    /// It is the last one: the process ends with it.
    pub(crate) last: bool,
}

/// A beat to be sealed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwedBeat {
    pub(crate) gateway: GatewayId,
    pub(crate) epoch: Epoch,
    pub(crate) sequence: u64,
    pub(crate) beat: Beat,
}

/// An answer to a probe, to be sealed and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwedAnswer {
    pub(crate) epoch: Epoch,
    pub(crate) sequence: u64,
    pub(crate) probed: Probed,
}

/// A drain that is the process's last is not called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is about to end: start it again instead")]
pub(crate) struct Ending;

impl RoleLoop {
    /// The role of a node that starts now; its vigil takes spans above `pause_max` for pauses.
    pub(crate) fn new(
        config: TenureConfig,
        clock: Clock,
        pause_max: Duration,
        shards: Arc<Shards>,
        shared: Arc<Shared>,
    ) -> RoleLoop {
        let now = clock.now();
        let inner = Inner {
            tenure: Tenure::new(config, now),
            vigil: Vigil::new(now, pause_max),
            out: Vec::new(),
            answer: None,
            beats: Vec::new(),
            probed: None,
            followers: BTreeMap::new(),
            followers_ever: 0,
            beginning: None,
            lagging: Vec::new(),
            encoded: None,
            drain: DrainState::default(),
        };
        RoleLoop {
            clock,
            shards,
            shared,
            nap_max: BEAT_INTERVAL.min(pause_max / 4),
            inner: Mutex::new(inner),
            changed: Notify::new(),
        }
    }

    /// Wakes the role when it wants to be woken, until `stop` turns true. A process that was stopped is noticed here at the
    /// latest.
    pub(crate) async fn run(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let wake_at = self.lock().tenure.wake_at();
            let nap = wake_at.map_or(self.nap_max, |at| at.since(self.clock.now()));
            tokio::select! {
                () = sleep(nap.min(self.nap_max)) => self.wake(),
                () = self.changed.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Time has passed.
    pub(crate) fn wake(&self) {
        self.input(Input::Wake);
    }

    /// A thread was not run for so long. When this returns, the node's epoch says what that means.
    pub(crate) fn paused(&self, pause: Duration) {
        self.input(Input::Paused { pause });
    }

    /// Whether somebody may come in.
    ///
    /// # Errors
    /// The reason why not, with what a gateway should know.
    pub(crate) fn ask(
        &self,
        room: &RoomName,
        generation: Generation,
        goal: Goal,
    ) -> Result<(), Refusal> {
        let mut inner = self.lock();
        self.handle(&mut inner, Input::Ask { ask: 0, room: room.clone(), generation, goal });
        let answer = inner.answer.take().expect("every question is answered at once");
        drop(inner);
        match answer {
            Admission::Admit { .. } => Ok(()),
            Admission::Refuse(refusal) => {
                self.shared.metrics.count_turned_away(refusal.why);
                Err(refusal)
            }
        }
    }

    /// A shard holds a room.
    pub(crate) fn opened(
        &self,
        room: RoomName,
        generation: Generation,
        settings: Option<RoomSettings>,
    ) {
        self.input(Input::Opened { room, generation, settings });
    }

    /// A shard holds another ruling of somebody in a room.
    pub(crate) fn ruled(&self, room: RoomName, identity: Identity, ruling: Option<Ruling>) {
        self.input(Input::Ruled { room, identity, ruling });
    }

    /// A shard holds a room no more.
    pub(crate) fn closed(&self, room: RoomName, generation: Generation) {
        self.input(Input::Closed { room, generation });
    }

    /// A shard has lost all its rooms at once.
    pub(crate) fn lost(&self, shard: usize) {
        let mut inner = self.lock();
        let rooms = inner.tenure.rooms().filter(|(room, _)| self.shards.of(room) == shard);
        let rooms: Vec<_> = rooms.map(|(room, generation)| (room.clone(), generation)).collect();
        for (room, generation) in rooms {
            self.handle(&mut inner, Input::Closed { room, generation });
        }
    }

    /// Every shard has run: the beats to send.
    pub(crate) fn ticked(&self, load_permille: u16, cpu_permille: u16) -> Vec<OwedBeat> {
        let total = self.shared.metrics.total();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let mut inner = self.lock();
        // What shards have not used of it was meant for people who have gone by themselves.
        self.shared.orders.stay();
        let ticked = Input::Ticked {
            load_permille,
            cpu_permille,
            rooms: count(total.stats.rooms),
            participants: count(total.stats.participants),
            joins_admitted: total.joins_admitted as u32,
            joins_connected: total.joins_connected as u32,
        };
        self.handle(&mut inner, ticked);
        let now = self.clock.now();
        let left = inner.tenure.lease_until().map_or(Duration::ZERO, |until| until.since(now));
        let heard = inner.tenure.gateways_heard(now);
        self.shared.metrics.role(heard, left, inner.tenure.is_draining());
        std::mem::take(&mut inner.beats)
    }

    /// A gateway's echo.
    pub(crate) fn echo(&self, gateway: GatewayId, epoch: Epoch, echo: Echo) {
        self.input(Input::Echo { gateway, epoch, echo });
    }

    /// A gateway's probe. `None`: there were too many.
    pub(crate) fn probe(&self, gateway: GatewayId, probe: Probe) -> Option<OwedAnswer> {
        let mut inner = self.lock();
        self.handle(&mut inner, Input::Probe { gateway, probe });
        inner.probed.take()
    }

    /// A gateway says where a room belongs.
    pub(crate) fn steer(&self, steer: Steer) {
        self.input(Input::Steer(steer));
    }

    /// All rooms, and the changes from here on; `None` when too many follow already.
    pub(crate) fn follow(self: &Arc<Self>) -> Option<Follower> {
        let mut inner = self.lock();
        inner.followers_ever += 1;
        let id = inner.followers_ever;
        inner.beginning = Some((id, Vec::new()));
        self.handle(&mut inner, Input::Follow { follower: id });
        let (_, snapshot) = inner.beginning.take().unwrap_or_default();
        if snapshot.last() != Some(&RoomFrame::Synced) {
            return None;
        }
        let (to_follower, changes) = mpsc::channel(CHANGES_MAX);
        inner.followers.insert(id, to_follower);
        Some(Follower { id, snapshot, changes, role: Arc::clone(self) })
    }

    /// Everybody is to be moved away by `deadline` from now. The `last` drain is not called off.
    pub(crate) fn drain(&self, pace_per_second: u32, deadline: Duration, last: bool) {
        let mut inner = self.lock();
        let last = last || inner.drain.last;
        let until = self.clock.now() + deadline;
        inner.drain = DrainState { deadline: Some(until), drained: false, last };
        self.shared.orders.forgive();
        tracing::info!(pace_per_second, deadline_s = deadline.as_secs(), "draining");
        self.handle(&mut inner, Input::Drain { pace_per_second, deadline });
    }

    /// The drain is called off, if there is one.
    ///
    /// # Errors
    /// When the process ends with it.
    pub(crate) fn undrain(&self) -> Result<(), Ending> {
        let mut inner = self.lock();
        if inner.drain.last {
            return Err(Ending);
        }
        self.handle(&mut inner, Input::Undrain);
        Ok(())
    }

    /// How far a drain is.
    pub(crate) fn drain_state(&self) -> DrainState {
        self.lock().drain
    }

    /// Whether anybody new is welcome.
    pub(crate) fn is_open(&self) -> bool {
        let inner = self.lock();
        !inner.tenure.is_draining() && inner.tenure.may_serve(self.clock.now())
    }

    fn input(&self, input: Input) {
        self.handle(&mut self.lock(), input);
    }

    fn handle(&self, inner: &mut Inner, input: Input) {
        let wake_at = inner.tenure.wake_at();
        let now = self.clock.now();
        let mut out = std::mem::take(&mut inner.out);
        if let Some(pause) = inner.vigil.late(now) {
            inner.tenure.handle(now, Input::Paused { pause }, &mut out);
        }
        inner.tenure.handle(now, input, &mut out);
        for output in out.drain(..) {
            self.carry_out(inner, now, output);
        }
        inner.encoded = None;
        for follower in std::mem::take(&mut inner.lagging) {
            // Nothing comes of that but silence.
            inner.tenure.handle(now, Input::Unfollow { follower }, &mut out);
        }
        inner.out = out;
        if inner.tenure.wake_at() != wake_at {
            self.changed.notify_one();
        }
    }

    fn carry_out(&self, inner: &mut Inner, now: Time, output: Output) {
        match output {
            Output::Beat { gateway, epoch, sequence, beat } => {
                inner.beats.push(OwedBeat { gateway, epoch, sequence, beat });
            }
            Output::Probed { epoch, sequence, probed, .. } => {
                inner.probed = Some(OwedAnswer { epoch, sequence, probed });
            }
            Output::Answer { answer, .. } => inner.answer = Some(answer),
            Output::Frame { follower, frame } => inner.send(follower, frame),
            Output::Lease { until } => self.shared.send_until(Some(until)),
            Output::FenceRoom { room, generation, winner } => {
                self.fence_room(room, generation, winner.as_ref());
            }
            Output::FenceAll { epoch } => {
                // Nothing may be sent before the next lease, if there are any.
                let until = (!inner.tenure.may_serve(now)).then_some(Time::ZERO);
                self.shared.send_until(until);
                self.shared.begin(epoch);
                self.shards.ring();
                tracing::warn!(epoch = epoch.0, "fenced: all rooms are given up");
            }
            Output::MoveAway { count } => {
                self.shared.orders.move_away(count);
                self.shards.ring();
            }
            Output::Drained => {
                inner.drain.drained = true;
                tracing::info!("drained: nobody is left");
            }
            Output::Undrained => {
                inner.drain = DrainState::default();
                self.shared.orders.forgive();
                tracing::info!("the drain is called off");
            }
            Output::DrainLate => {
                let left = self.shared.metrics.total().stats.participants;
                tracing::warn!(left, "the drain's deadline has passed");
            }
        }
    }

    fn fence_room(&self, room: RoomName, generation: Generation, winner: Option<&NodeId>) {
        let shard = self.shards.of(&room);
        self.shared.metrics.rooms_fenced.inc();
        tracing::info!(generation = generation.0, ?winner, "a room is given up");
        self.shared.orders.fence(shard, room, generation);
        self.shards.ring_one(shard);
    }

    fn unfollow(&self, follower: u64) {
        let mut inner = self.lock();
        inner.followers.remove(&follower);
        self.handle(&mut inner, Input::Unfollow { follower });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("the role does not panic")
    }
}

impl Inner {
    fn send(&mut self, follower: u64, frame: RoomFrame) {
        if let Some((id, frames)) = &mut self.beginning
            && *id == follower
        {
            frames.push(frame);
            return;
        }
        let Some(changes) = self.followers.get(&follower) else { return };
        let bytes = match self.encoded.take() {
            Some((last, bytes)) if last == frame => bytes,
            _ => frame.encode().into(),
        };
        self.encoded = Some((frame, bytes.clone()));
        if changes.try_send(bytes).is_err() {
            self.followers.remove(&follower);
            self.lagging.push(follower);
        }
    }
}

/// A gateway that follows the rooms. Dropping it ends that.
pub(crate) struct Follower {
    id: u64,
    /// Every room there is, then `Synced`.
    pub(crate) snapshot: Vec<RoomFrame>,
    /// Encoded frames; ends when the gateway lags too far behind.
    pub(crate) changes: mpsc::Receiver<Bytes>,
    role: Arc<RoleLoop>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.role.unfollow(self.id);
    }
}

#[cfg(test)]
#[path = "role_loop_tests.rs"]
mod tests;

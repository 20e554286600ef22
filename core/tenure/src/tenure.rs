//! The node's mind: `handle(now, input, out)` and `wake_at()`. Time is the process's own clock; nothing of another
//! machine's is compared with it.

use std::{collections::BTreeSet, time::Duration};

use outlast_model::{
    Epoch, GatewayId, Generation, NodeId, RoomName, RoomSettings, SHARD_PAUSE_MAX, Time,
};
use outlast_wire::{Beat, Echo, Probe, Probed, RoomFrame, Steer};

use crate::{
    Admission, Goal, Input, Output, Refusal, TenureConfig, Why,
    admission::{Class, Gate},
    beats::Gateways,
    drain::Drain,
    lease::Lease,
    rooms::{Loss, Opening, ROOMS_MAX, Rooms, Standing},
};

/// Most room streams at a time, a few of each gateway. One more hears nothing, and its gateway tries again.
pub const FOLLOWERS_MAX: usize = 4_096;

/// What the node holds, and may hold.
#[derive(Clone, Debug)]
pub struct Tenure {
    node: NodeId,
    epoch: Epoch,
    lease: Lease,
    gateways: Gateways,
    rooms: Rooms,
    followers: BTreeSet<u64>,
    gate: Gate,
    drain: Option<Drain>,
    /// As of the last tick.
    participants: u32,
    fenced_at: Option<Time>,
}

impl Tenure {
    /// A node that has just started: it serves nobody, and nobody has heard it.
    pub fn new(config: TenureConfig, now: Time) -> Tenure {
        let gate = Gate::new(&config, now);
        let gateways = Gateways::new(config.gateways);
        let span = (!gateways.is_empty()).then_some(config.lease);
        Tenure {
            node: config.node,
            epoch: config.epoch,
            lease: Lease::new(span),
            gateways,
            rooms: Rooms::default(),
            followers: BTreeSet::new(),
            gate,
            drain: None,
            participants: 0,
            fenced_at: None,
        }
    }

    /// Takes one input, and adds to `out` what follows from it, in the order in which it is to be done. `now` never goes
    /// back. A lease that has run out comes before any input.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        self.expire(now, out);
        match input {
            Input::Ticked {
                load_permille,
                cpu_permille,
                rooms,
                participants,
                joins_admitted,
                joins_connected,
            } => {
                self.gate.ticked(load_permille, cpu_permille);
                self.participants = participants;
                if self.drain.as_mut().is_some_and(|drain| drain.ticked(participants)) {
                    out.push(Output::Drained);
                }
                let beat = Beat {
                    load_permille,
                    rooms,
                    participants,
                    joins_admitted,
                    joins_connected,
                    ..Beat::default()
                };
                self.beat(now, beat, out);
            }
            Input::Echo { gateway, epoch, echo } => self.echo(now, &gateway, epoch, &echo, out),
            Input::Probe { gateway, probe } => self.probe(gateway, &probe, out),
            Input::Ask { ask, room, generation, goal } => {
                let answer = match self.ask(now, room, generation, goal, out) {
                    Ok(()) => Admission::Admit { generation },
                    Err(refusal) => Admission::Refuse(refusal),
                };
                out.push(Output::Answer { ask, answer });
            }
            Input::Opened { room, generation, settings } => {
                self.opened(now, room, generation, settings, out);
            }
            Input::Ruled { room, identity, ruling } => {
                if let Some(generation) = self.rooms.ruled(&room, &identity, ruling.clone()) {
                    self.tell(&RoomFrame::Ruled { room, generation, identity, ruling }, out);
                }
            }
            Input::Closed { room, generation } => {
                if let Some(generation) = self.rooms.closed(now, &room, generation) {
                    self.tell(&RoomFrame::Closed { room, generation, lost: false }, out);
                }
            }
            Input::Follow { follower } => self.follow(follower, out),
            Input::Unfollow { follower } => {
                self.followers.remove(&follower);
            }
            Input::Steer(steer) => self.steer(now, steer, out),
            Input::Paused { pause } => self.paused(now, pause, out),
            Input::Drain { pace_per_second, deadline } => {
                let drain = Drain::new(now, pace_per_second, deadline, self.participants);
                self.drain = Some(drain);
            }
            Input::Undrain => {
                if self.drain.take().is_some() {
                    out.push(Output::Undrained);
                }
            }
            Input::Wake => {}
        }
        self.wake(now, out);
    }

    /// When [`Input::Wake`] is due.
    pub fn wake_at(&self) -> Option<Time> {
        let drain = self.drain.as_ref().and_then(Drain::wake_at);
        Time::first([self.lease.until(), drain])
    }

    /// The node's start as it beats now: higher by one with every [`Output::FenceAll`].
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The lease's end; `None` when none runs: the node is young, has lost it, or needs none.
    pub fn lease_until(&self) -> Option<Time> {
        self.lease.until()
    }

    /// Whether shards may send now.
    pub fn may_serve(&self, now: Time) -> bool {
        !self.lease.is_lapsed() && self.lease.until().is_none_or(|until| now < until)
    }

    /// Open rooms by name, each with the highest generation that the node knows.
    pub fn rooms(&self) -> impl Iterator<Item = (&RoomName, Generation)> {
        self.rooms.open()
    }

    /// The generation of an open room.
    pub fn generation(&self, room: &RoomName) -> Option<Generation> {
        self.rooms.generation(room)
    }

    /// Whether a drain is under way.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Whether new rooms are refused for load or number.
    pub fn is_full(&self) -> bool {
        self.gate.is_full() || self.rooms.len() >= ROOMS_MAX
    }

    /// Gateways whose echoes arrive; for metrics.
    pub fn gateways_heard(&self, now: Time) -> usize {
        self.gateways.heard(now)
    }

    fn beat(&mut self, now: Time, beat: Beat, out: &mut Vec<Output>) {
        let left = self.lease.until().map_or(Duration::ZERO, |until| until.since(now));
        let beat = Beat {
            ticked: true,
            draining: self.is_draining(),
            full: self.is_full(),
            lease_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            joins_per_second: self.gate.per_second(),
            ..beat
        };
        let (epoch, round) = (self.epoch, self.lease.sent(now));
        let beats = self.gateways.round(now, round).map(|(gateway, sequence, echoed)| {
            let beat = Beat { echoed, ..beat };
            Output::Beat { gateway: gateway.clone(), epoch, sequence, beat }
        });
        out.extend(beats);
    }

    fn echo(
        &mut self,
        now: Time,
        gateway: &GatewayId,
        epoch: Epoch,
        echo: &Echo,
        out: &mut Vec<Output>,
    ) {
        // What was heard of an earlier start is no proof that this one is known.
        if echo.heard_epoch != self.epoch {
            return;
        }
        let round = self.gateways.hear(now, gateway, epoch, echo);
        if let Some(until) = round.and_then(|round| self.lease.echoed(now, round)) {
            out.push(Output::Lease { until });
        }
    }

    fn probe(&mut self, gateway: GatewayId, probe: &Probe, out: &mut Vec<Output>) {
        let Some(sequence) = self.gateways.answer() else { return };
        let generation = self.rooms.generation_or_promised(&probe.room);
        let probed = Probed { number: probe.number, generation };
        out.push(Output::Probed { gateway, epoch: self.epoch, sequence, probed });
    }

    fn ask(
        &mut self,
        now: Time,
        room: RoomName,
        generation: Generation,
        goal: Goal,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        let standing = self.rooms.standing(now, &room, generation);
        let known = standing.known(generation);
        let refuse = |why, retry_after| Err(Refusal { why, known, retry_after });
        if self.lease.is_lapsed() {
            return refuse(Why::Fenced, None);
        }
        let live = standing == Standing::Here;
        if live && self.rooms.adopt(&room, generation) {
            self.tell_hosted(&room, out);
        }
        let class = match (goal, live) {
            _ if matches!(standing, Standing::Past { .. }) => return refuse(Why::Stale, None),
            (Goal::Resume, false) => return refuse(Why::Stale, None),
            (Goal::Resume, true) => Class::Resume,
            (Goal::Join | Goal::JoinNowhereElse, true) => Class::Join,
            (Goal::Join | Goal::JoinNowhereElse, false) => Class::NewRoom,
        };
        let stays = class == Class::Resume || (live && goal == Goal::JoinNowhereElse);
        if self.is_draining() && !stays {
            return refuse(Why::Draining, None);
        }
        if class == Class::NewRoom && self.rooms.len() >= ROOMS_MAX {
            return refuse(Why::Full, Some(self.gate.full_wait()));
        }
        if let Err((why, wait)) = self.gate.admit(now, class) {
            return refuse(why, Some(wait));
        }
        if !live {
            self.rooms.promise(now, room, generation);
        }
        Ok(())
    }

    fn opened(
        &mut self,
        now: Time,
        room: RoomName,
        generation: Generation,
        settings: Option<RoomSettings>,
        out: &mut Vec<Output>,
    ) {
        if self.lease.is_lapsed() {
            // Somebody came in who had not asked, or before the fence: there is no lease to serve them under.
            self.rooms.lose(now, &room, generation, None);
            out.push(Output::FenceRoom { room, generation, winner: None });
            return;
        }
        match self.rooms.opened(now, &room, generation, settings) {
            Opening::Known => {}
            Opening::News => {
                if let Some(until) = self.lease.serve(now) {
                    out.push(Output::Lease { until });
                }
                self.tell_hosted(&room, out);
            }
            Opening::Lost { generation, winner } => {
                out.push(Output::FenceRoom { room, generation, winner });
            }
        }
    }

    fn steer(&mut self, now: Time, steer: Steer, out: &mut Vec<Output>) {
        if steer.node == self.node {
            if self.rooms.adopt(&steer.room, steer.generation) {
                self.tell_hosted(&steer.room, out);
            }
            return;
        }
        let loss = self.rooms.steered(now, &steer);
        if loss == Loss::None {
            return;
        }
        let Steer { room, generation, node } = steer;
        out.push(Output::FenceRoom { room: room.clone(), generation, winner: Some(node) });
        if let Loss::Open(generation) = loss {
            self.tell(&RoomFrame::Closed { room, generation, lost: true }, out);
        }
    }

    fn follow(&mut self, follower: u64, out: &mut Vec<Output>) {
        if self.followers.len() >= FOLLOWERS_MAX && !self.followers.contains(&follower) {
            return;
        }
        self.followers.insert(follower);
        let started = RoomFrame::Started { epoch: self.epoch };
        let frames = [started].into_iter().chain(self.rooms.frames()).chain([RoomFrame::Synced]);
        out.extend(frames.map(|frame| Output::Frame { follower, frame }));
    }

    /// Shards that notice the same pause say so one after the other: what was fenced since it began is not fenced again.
    fn paused(&mut self, now: Time, pause: Duration, out: &mut Vec<Output>) {
        let since_fence = self.fenced_at.map_or(pause, |at| now.since(at));
        if pause.min(since_fence) > SHARD_PAUSE_MAX {
            self.fence(now, out);
        }
    }

    fn expire(&mut self, now: Time, out: &mut Vec<Output>) {
        // Who holds nothing loses nothing, and need not be taken for another start of itself.
        if self.lease.expire(now) && !self.rooms.is_empty() {
            self.fence(now, out);
        }
    }

    fn fence(&mut self, now: Time, out: &mut Vec<Output>) {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.fenced_at = Some(now);
        self.lease.give_up();
        out.push(Output::FenceAll { epoch: self.epoch });
        let followers = &self.followers;
        self.rooms.lose_all(now, |room, generation| {
            let frame = RoomFrame::Closed { room, generation, lost: true };
            tell(followers, &frame, out);
        });
        self.tell(&RoomFrame::Started { epoch: self.epoch }, out);
        self.tell(&RoomFrame::Synced, out);
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        self.rooms.forget(now);
        let Some(drain) = &mut self.drain else { return };
        let due = drain.wake(now);
        if due.away > 0 {
            out.push(Output::MoveAway { count: due.away });
        }
        if due.late {
            out.push(Output::DrainLate);
        }
    }

    fn tell_hosted(&self, room: &RoomName, out: &mut Vec<Output>) {
        if self.followers.is_empty() {
            return;
        }
        for frame in self.rooms.frames_of(room) {
            self.tell(&frame, out);
        }
    }

    fn tell(&self, frame: &RoomFrame, out: &mut Vec<Output>) {
        tell(&self.followers, frame, out);
    }
}

fn tell(followers: &BTreeSet<u64>, frame: &RoomFrame, out: &mut Vec<Output>) {
    let frames = followers
        .iter()
        .map(|follower| Output::Frame { follower: *follower, frame: frame.clone() });
    out.extend(frames);
}

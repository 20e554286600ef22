//! The shard machine: finds whose datagram or message it is, runs it, and isolates a panic to its session.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
};

use outlast_livekit::{self as proto, Message as _};
use outlast_media::{
    Batch, Path, PeerKey, Plane, PlaneEvent, TransportContext, TransportEvent, stun_ufrag,
};
use outlast_model::{RoomName, SessionId, Time};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use slotmap::{SecondaryMap, SlotMap};

use crate::{
    door::{ApiError, Command, Out, ShardConfig, ShardStats, Told},
    housekeeping,
    join::Refusal,
    participant::{ADDRESSES_MAX, Participant, ParticipantKey},
    room::{Room, RoomKey},
};

/// Everything of the rooms that one core holds.
pub struct Shard {
    pub(crate) config: ShardConfig,
    pub(crate) rng: StdRng,
    pub(crate) plane: Plane,
    pub(crate) context: TransportContext,
    pub(crate) rooms: SlotMap<RoomKey, Room>,
    pub(crate) room_names: BTreeMap<RoomName, RoomKey>,
    pub(crate) participants: SlotMap<ParticipantKey, Participant>,
    pub(crate) sessions: BTreeMap<SessionId, ParticipantKey>,
    pub(crate) by_ufrag: BTreeMap<String, ParticipantKey>,
    by_address: HashMap<SocketAddr, ParticipantKey>,
    pub(crate) by_peer: SecondaryMap<PeerKey, ParticipantKey>,
    /// Transports' timers; entries that have moved are dropped when they come up.
    timers: BinaryHeap<Reverse<(Time, ParticipantKey)>>,
    /// Participants whose sections may have to change; looked at once a batch.
    pub(crate) unsettled: Vec<ParticipantKey>,
    pub(crate) housekeeping_at: Time,
    pub(crate) stats: ShardStats,
    /// The `now` of the call that runs.
    pub(crate) clock: Time,
    transport_events: Vec<TransportEvent>,
    late_events: Vec<(ParticipantKey, TransportEvent)>,
    plane_events: Vec<PlaneEvent>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Shard {
    /// An empty shard. All its ids, passwords and SSRCs come from `seed`, which must be secret.
    pub fn new(config: ShardConfig, seed: [u8; 32], now: Time) -> Shard {
        let mut rng = StdRng::from_seed(seed);
        let advertise = config
            .advertise
            .iter()
            .map(|address| SocketAddr::new(*address, config.media_port))
            .collect();
        Shard {
            plane: Plane::new(rng.random()),
            context: TransportContext::new(config.instant_zero, advertise),
            rng,
            rooms: SlotMap::with_key(),
            room_names: BTreeMap::new(),
            participants: SlotMap::with_key(),
            sessions: BTreeMap::new(),
            by_ufrag: BTreeMap::new(),
            by_address: HashMap::new(),
            by_peer: SecondaryMap::new(),
            timers: BinaryHeap::new(),
            unsettled: Vec::new(),
            housekeeping_at: now + housekeeping::INTERVAL,
            stats: ShardStats::default(),
            transport_events: Vec::new(),
            late_events: Vec::new(),
            clock: now,
            plane_events: Vec::new(),
            config,
        }
    }

    /// Takes one datagram, which may be changed in place. Media is only staged: call [`Shard::flush`] after a batch.
    pub fn datagram(
        &mut self,
        now: Time,
        socket: u8,
        source: SocketAddr,
        bytes: &mut [u8],
        out: &mut Out,
    ) {
        self.clock = now;
        // RFC 7983 §7: the first byte tells the protocol.
        let owner = match bytes.first() {
            Some(0..=3) => stun_ufrag(bytes).and_then(|ufrag| self.by_ufrag.get(ufrag)).copied(),
            Some(20..=63 | 128..=191) => self.by_address.get(&source).copied(),
            _ => None,
        };
        let Some(key) = owner else {
            // Silence to strangers: an answer would make us an amplifier.
            self.stats.strays += 1;
            return;
        };
        let from = Path { socket, address: source };
        self.isolated(key, out, |shard, out| {
            if bytes.first().is_some_and(|first| *first >= 128) {
                shard.media(now, key, from, bytes);
            } else {
                shard.transport_datagram(now, key, from, bytes, out);
            }
        });
    }

    fn media(&mut self, now: Time, key: ParticipantKey, from: Path, bytes: &mut [u8]) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        if !self.plane.receive(now, participant.peer, bytes) {
            return;
        }
        // A client that restarts ICE or changes networks sends from the pair it has chosen before it says so in a check.
        // Only forward: a packet that was late on the old pair must not lead back.
        if participant.link.as_ref().is_some_and(|link| link.is_newer(from)) {
            self.set_path(key, Some(from));
        }
    }

    fn transport_datagram(
        &mut self,
        now: Time,
        key: ParticipantKey,
        from: Path,
        bytes: &[u8],
        out: &mut Out,
    ) {
        let Some(local) = self.local_address(from.socket) else { return };
        let mut events = std::mem::take(&mut self.transport_events);
        if let Some(link) = self.participants.get_mut(key).and_then(|p| p.link.as_mut()) {
            let to = &mut out.batch;
            link.transport.datagram(&self.context, now, (from, local), bytes, to, &mut events);
        }
        self.transport_events = events;
        self.after_transport(now, key, out);
    }

    /// Takes one command.
    pub fn command(&mut self, now: Time, command: Command, out: &mut Out) {
        self.clock = now;
        match command {
            Command::Join(join) => {
                let session = join.session;
                let caught = catch_unwind(AssertUnwindSafe(|| self.join(now, *join, out)));
                if let Err(payload) = caught {
                    self.panicked(payload.as_ref(), out);
                    let refusal = Refusal::new(500, "the join panicked");
                    out.told.push(Told::Refused { session, refusal });
                }
            }
            Command::Signal { session, bytes } => {
                let Some(key) = self.sessions.get(&session).copied() else { return };
                self.isolated(key, out, |shard, out| shard.signal(now, session, key, &bytes, out));
            }
            Command::Closed { session } => self.socket_closed(now, session, out),
            Command::Api { call, request } => {
                let caught = catch_unwind(AssertUnwindSafe(|| self.api(now, *request, out)));
                let result = caught.unwrap_or_else(|payload| {
                    self.panicked(payload.as_ref(), out);
                    Err(ApiError { code: "internal", message: "the request panicked".to_owned() })
                });
                out.told.push(Told::Api { call, result });
            }
            Command::Tick(tick) => out.told.push(Told::Ticked(tick)),
            Command::MoveAway { count } => self.move_away(count, out),
            Command::FenceRoom { room, generation } => self.fence_room(&room, generation, out),
            Command::Fence { epoch } => self.fence(epoch, out),
            Command::Panic { identity } => {
                let found = self.participants.iter().find(|(_, p)| p.identity.as_str() == identity);
                let Some(key) = found.map(|(key, _)| key) else { return };
                self.isolated(key, out, |_, _| panic!("asked for by the debug hook"));
            }
        }
    }

    /// Forwards what the datagrams of this batch staged and settles negotiations.
    pub fn flush(&mut self, now: Time, out: &mut Out) {
        self.clock = now;
        self.plane.flush(now, &mut out.batch);
        for (key, event) in std::mem::take(&mut self.late_events) {
            self.isolated(key, out, |shard, out| shard.transport_event(now, key, event, out));
        }
        for key in std::mem::take(&mut self.unsettled) {
            self.isolated(key, out, |shard, out| shard.settle(key, out));
        }
    }

    /// Runs what is due.
    pub fn wake(&mut self, now: Time, out: &mut Out) {
        self.clock = now;
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let link = self.participants.get(key).and_then(|participant| participant.link.as_ref());
            if link.is_some_and(|link| link.timer_at == Some(at)) {
                self.isolated(key, out, |shard, out| shard.wake_transport(now, key, out));
            }
        }
        if self.plane.wake_at().is_some_and(|at| at <= now) {
            let mut events = std::mem::take(&mut self.plane_events);
            self.plane.wake(now, &mut out.batch, &mut events);
            for event in events.drain(..) {
                self.plane_event(event, out);
            }
            self.plane_events = events;
        }
        if self.housekeeping_at <= now {
            self.housekeeping_at = now + housekeeping::INTERVAL;
            self.housekeeping(now, out);
        }
    }

    /// When [`Shard::wake`] wants to be called next.
    pub fn wake_at(&self) -> Time {
        let transport = self.timers.peek().map(|Reverse((at, _))| *at);
        [transport, self.plane.wake_at()]
            .into_iter()
            .flatten()
            .fold(self.housekeeping_at, Time::min)
    }

    /// Participants joined, in all rooms.
    pub fn participants(&self) -> usize {
        self.participants.len()
    }

    /// Counters and gauges, as of now.
    pub fn stats(&self) -> ShardStats {
        let tracks = self.participants.values().map(|participant| participant.tracks.len()).sum();
        let subscriptions = self.participants.values().map(|p| p.subscriptions.len()).sum();
        ShardStats {
            rooms: self.rooms.len(),
            participants: self.participants.len(),
            tracks,
            subscriptions,
            plane: self.plane.counters(),
            ..self.stats
        }
    }

    fn wake_transport(&mut self, now: Time, key: ParticipantKey, out: &mut Out) {
        let mut events = std::mem::take(&mut self.transport_events);
        if let Some(link) = self.participants.get_mut(key).and_then(|p| p.link.as_mut()) {
            link.timer_at = None;
            link.transport.wake(&self.context, now, &mut out.batch, &mut events);
        }
        self.transport_events = events;
        self.after_transport(now, key, out);
    }

    /// Acts on what a transport said and sets its timer again.
    pub(crate) fn after_transport(&mut self, now: Time, key: ParticipantKey, out: &mut Out) {
        let mut events = std::mem::take(&mut self.transport_events);
        for event in events.drain(..) {
            self.transport_event(now, key, event, out);
        }
        self.transport_events = events;
        self.schedule(now, key);
    }

    /// Sets the timer of a transport, unless one that is as early stands already.
    pub(crate) fn schedule(&mut self, now: Time, key: ParticipantKey) {
        let Some(link) = self.participants.get_mut(key).and_then(|p| p.link.as_mut()) else {
            return;
        };
        // Never at once again: an engine that asks for the past must not spin the shard.
        let at = link.transport.wake_at().max(now + housekeeping::TIMER_GRAIN);
        if link.timer_at.is_none_or(|set| at < set) {
            link.timer_at = Some(at);
            self.timers.push(Reverse((at, key)));
        }
    }

    fn transport_event(
        &mut self,
        now: Time,
        key: ParticipantKey,
        event: TransportEvent,
        out: &mut Out,
    ) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let peer = participant.peer;
        match event {
            TransportEvent::Keys(keys) => {
                // Keys that the packet plane cannot use leave the participant without media.
                if self.plane.set_keys(peer, keys).is_err() {
                    self.media_lost(now, key, out);
                }
            }
            TransportEvent::Validated(path) => {
                self.spoke(key, out);
                self.validated(key, path);
            }
            TransportEvent::Nominated(path) => self.set_path(key, Some(path)),
            TransportEvent::Connected => self.connected(key, out),
            TransportEvent::ChannelOpen(channel, label) => {
                participant.channels.opened(channel, &label);
                if participant.channels.reliable == Some(channel) {
                    self.replay(now, key, out);
                }
            }
            TransportEvent::ChannelClosed(channel) => participant.channels.closed(channel),
            TransportEvent::Message { channel, bytes } => {
                self.data_message(now, key, channel, &bytes, out);
            }
            TransportEvent::Closed => {
                // DTLS is gone: there is nothing that a resume could take up.
                let reason = proto::DisconnectReason::ConnectionTimeout;
                self.send_away(key, reason, out);
                self.remove(key, reason, out);
            }
        }
    }

    /// Forgets how datagrams of a participant are recognised.
    pub(crate) fn forget_path(&mut self, key: ParticipantKey, participant: &Participant) {
        self.by_peer.remove(participant.peer);
        let Some(link) = &participant.link else { return };
        self.by_ufrag.remove(&link.local.ufrag);
        for address in &link.validated {
            self.forget_address(key, address);
        }
    }

    /// The client is at this address: what comes from there is its own from now on.
    fn validated(&mut self, key: ParticipantKey, path: Path) {
        // Whoever was here before has no authenticated claim on the address any more.
        if self.by_address.insert(path.address, key) == Some(key) {
            return;
        }
        let Some(link) = self.participants.get_mut(key).and_then(|p| p.link.as_mut()) else {
            return;
        };
        link.validated.push(path.address);
        if link.validated.len() > ADDRESSES_MAX {
            let current = link.path.map(|path| path.address);
            let oldest = link.validated.iter().position(|address| Some(*address) != current);
            let oldest = link.validated.remove(oldest.unwrap_or(0));
            self.forget_address(key, &oldest);
        }
    }

    /// Forgets an address, unless it has become another participant's.
    fn forget_address(&mut self, key: ParticipantKey, address: &SocketAddr) {
        if self.by_address.get(address) == Some(&key) {
            self.by_address.remove(address);
        }
    }

    /// Sends a participant's datagrams there from now on; `None` sends nothing until a check nominates a pair.
    pub(crate) fn set_path(&mut self, key: ParticipantKey, path: Option<Path>) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let Some(link) = &mut participant.link else { return };
        if link.path != path {
            link.path = path;
            link.transport.set_path(path);
            self.plane.set_path(participant.peer, path);
        }
    }

    /// Runs `work`; a panic in it ends the session of `key` and nothing else.
    pub(crate) fn isolated(
        &mut self,
        key: ParticipantKey,
        out: &mut Out,
        work: impl FnOnce(&mut Shard, &mut Out),
    ) {
        let caught = catch_unwind(AssertUnwindSafe(|| work(self, out)));
        let Err(payload) = caught else { return };
        self.panicked(payload.as_ref(), out);
        self.send_away(key, proto::DisconnectReason::StateMismatch, out);
        self.remove(key, proto::DisconnectReason::StateMismatch, out);
    }

    fn panicked(&mut self, payload: &(dyn std::any::Any + Send), out: &mut Out) {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without words".to_owned());
        self.stats.panics += 1;
        out.told.push(Told::Panicked { message });
    }

    /// The advertised address that stands for a socket: of the same family, at the shard's port.
    fn local_address(&self, socket: u8) -> Option<SocketAddr> {
        let bound = self.config.sockets.get(usize::from(socket))?;
        let advertise = self.context.advertise();
        advertise.iter().find(|address| address.is_ipv4() == bound.is_ipv4()).copied()
    }

    /// Writes to a data channel; `false` when it would have to wait.
    pub(crate) fn write_channel(
        &mut self,
        now: Time,
        key: ParticipantKey,
        channel: outlast_media::Channel,
        bytes: &[u8],
        batch: &mut Batch,
    ) -> bool {
        let Some(link) = self.participants.get_mut(key).and_then(|p| p.link.as_mut()) else {
            return false;
        };
        // Acted on after the batch: the caller is in the middle of a room.
        let mut events = Vec::new();
        let sent = link.transport.send(&self.context, now, channel, bytes, (batch, &mut events));
        self.late_events.extend(events.into_iter().map(|event| (key, event)));
        self.schedule(now, key);
        sent
    }

    /// Sends one signalling message to a participant that has a socket.
    pub(crate) fn tell(
        &self,
        key: ParticipantKey,
        message: proto::signal_response::Message,
        out: &mut Out,
    ) {
        let session = self.participants.get(key).and_then(|participant| participant.session);
        if let Some(session) = session {
            out.told.push(frame(session, message));
        }
    }

    /// A fresh id: `prefix` and twelve random letters and digits.
    pub(crate) fn fresh_id(&mut self, prefix: &str) -> String {
        let mut id = prefix.to_owned();
        id.extend((0..12).map(|_| char::from(self.rng.sample(rand::distr::Alphanumeric))));
        id
    }

    /// Unix time, for what people and tokens read.
    pub(crate) fn unix(&self, now: Time) -> std::time::Duration {
        self.config.unix_start + now.since(Time::ZERO)
    }
}

/// One message as a frame of a session.
pub(crate) fn frame(session: SessionId, message: proto::signal_response::Message) -> Told {
    let bytes = proto::SignalResponse { message: Some(message) }.encode_to_vec();
    Told::Frame { session, bytes }
}

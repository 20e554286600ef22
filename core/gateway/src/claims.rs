//! The directory as this gateway uses it: claims of rooms on the way of a join. It is a hint: without it, or when it is late,
//! a room is placed provisionally and announced afterwards.

mod announce;
mod known;
mod part;
mod probe;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use known::Known;
use outlast_control::{Home, PLANNED_KEPT, Placement, Policy, place};
use outlast_directory::{
    CallId, CallerOutput, Failure, Layout, Partition, Placed, PlacementId, Record, Reply, Request,
    RoomKey, RoomKeyer,
};
use outlast_model::{Generation, Jitter, NodeId, RoomName, Time};
use part::{Part, Stray};
use probe::{PROBE_MAX, Probes};

use crate::{AskId, DirectoryUse, Output, PartFacts, Role};

/// How often one claim is tried anew because the directory knows more than this gateway.
const CLAIM_TRIES_MAX: u32 = 3;
/// Span between two batches of announcements.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);
/// Calls in flight from which on moves wait: joins do not, and are placed without the directory when there are too many.
const MOVES_CALLS_MAX: usize = 192;
/// Span between two looks at all rooms, as much again is jitter: what was missed otherwise is announced then.
const SWEEP_INTERVAL: Duration = Duration::from_secs(150);
/// When a claim is looked at again: its node has named the room by then, or nobody has gone there.
const RECHECK_AFTER: Duration = PLANNED_KEPT.saturating_add(Duration::from_millis(500));
/// Span between two summaries of a region's nodes.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How a claim began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// The room is planned there; nobody is asked.
    Here,
    /// The directory has been asked, or the nodes have.
    Asked,
    /// They had been asked already.
    Waits,
}

/// A room on its way to a new home.
#[derive(Clone, Debug)]
struct Claim {
    want: Home,
    since: Time,
    tries: u32,
    asks: Vec<AskId>,
    /// When the nodes are asked, if the directory has not answered by then.
    probe_at: Option<Time>,
}

/// What a call is for.
#[derive(Clone, Debug)]
enum Purpose {
    Claim(RoomName),
    Announce(RoomName),
    End(RoomName),
    Watch,
    /// Nothing follows from the answer.
    Heartbeat,
}

/// The gateway's side of the directory.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    keyer: Option<RoomKeyer>,
    layout: Layout,
    /// By partition; none without a directory.
    parts: Vec<Part>,
    said: Vec<CallerOutput>,
    ids: Jitter,
    pending: BTreeMap<RoomName, Claim>,
    purposes: BTreeMap<CallId, Purpose>,
    /// At most what the view has, and what is about to end, each as its partition has it.
    known: BTreeMap<RoomName, (Partition, Known)>,
    /// Of the rooms that were ever noted, until they have ended.
    names: BTreeMap<RoomKey, RoomName>,
    /// Since when the directory is seen to be wrong about a room that another gateway is to announce.
    wrong_since: BTreeMap<RoomName, Time>,
    announce_at: Time,
    sweep_at: Time,
    heartbeat_at: Time,
    /// Rooms to be looked at again, and when.
    recheck: BTreeSet<(Time, RoomName)>,
    pub(crate) probes: Probes,
    pub(crate) provisional: u64,
}

impl Claims {
    pub(crate) fn new(directory: Option<DirectoryUse>, seed: u64, now: Time) -> Claims {
        let (keyer, layout) = match directory {
            Some(DirectoryUse { keyer, layout, .. }) => (Some(keyer), layout),
            None => (None, Layout::Fixed(0)),
        };
        let part = |at: u16| Part::new(Partition(at), seed ^ u64::from(at) << 48, now);
        Claims {
            keyer,
            parts: (0..layout.partitions()).map(part).collect(),
            layout,
            said: Vec::new(),
            ids: Jitter::new(seed ^ 0x6f75_746c_6173_7421),
            pending: BTreeMap::new(),
            purposes: BTreeMap::new(),
            known: BTreeMap::new(),
            names: BTreeMap::new(),
            wrong_since: BTreeMap::new(),
            announce_at: now,
            sweep_at: now + SWEEP_INTERVAL,
            heartbeat_at: now + HEARTBEAT_INTERVAL,
            recheck: BTreeSet::new(),
            probes: Probes::default(),
            provisional: 0,
        }
    }

    /// How many partitions of the directory count as away.
    pub(crate) fn away(&self) -> usize {
        self.parts.iter().filter(|part| part.is_away()).count()
    }

    pub(crate) fn part_facts(&self, now: Time) -> Vec<PartFacts> {
        self.parts.iter().map(|part| part.facts(now)).collect()
    }

    /// How long a claim of `room` may take now.
    fn deadline(&self, room: &RoomName) -> Duration {
        self.at(room).map_or(Duration::ZERO, |at| self.part(at).caller.deadline())
    }

    /// How long a claim may take at most, wherever its room is kept; zero without a directory.
    pub(crate) fn longest(&self) -> Duration {
        self.parts.iter().map(|part| part.caller.deadline()).max().unwrap_or_default()
    }

    /// Whether there is a directory, and where it keeps `room` counts as away.
    fn is_away(&self, room: &RoomName) -> bool {
        self.at(room).is_some_and(|at| self.part(at).is_away())
    }

    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.keyer.as_ref()?;
        let own = self.sweep_at.min(self.heartbeat_at);
        let recheck = self.recheck.first().map(|(at, _)| *at);
        let parts = self.parts.iter().filter_map(|part| part.wake_at(self.announce_at)).min();
        Time::first([parts, recheck, self.probes.wake_at(), Some(own)])
    }

    /// Whether nothing is to be done before [`Claims::wake_at`].
    pub(crate) fn is_quiet(&self, now: Time) -> bool {
        self.parts.iter().all(|part| part.is_quiet(now, self.announce_at))
    }

    /// Where the directory keeps `room`: where it is not away, if there is such a place.
    fn at(&self, room: &RoomName) -> Option<Partition> {
        self.keyer.as_ref().map(|keyer| self.kept_at(keyer.key(room)))
    }

    fn kept_at(&self, room: RoomKey) -> Partition {
        if let [_] = self.parts[..] {
            return Partition(0);
        }
        let order = self.layout.order(room);
        let there = order.iter().find(|at| !self.part(**at).is_away()).or(order.first());
        there.copied().unwrap_or_default()
    }

    /// An announcement to partition `at` has been answered.
    fn announced(&mut self, at: Partition) {
        let part = self.part_mut(at);
        part.announcing = part.announcing.saturating_sub(1);
    }

    fn part(&self, at: Partition) -> &Part {
        &self.parts[usize::from(at.0)]
    }

    fn part_mut(&mut self, at: Partition) -> &mut Part {
        &mut self.parts[usize::from(at.0)]
    }

    /// Whether `room` is being claimed.
    pub(crate) fn is_pending(&self, room: &RoomName) -> bool {
        self.pending.contains_key(room) || self.probes.decides(room)
    }

    /// The directory has been asked for `room`.
    fn waits_for(&mut self, room: &RoomName, claim: Claim) {
        if let Some(at) = claim.probe_at {
            self.probes.plan(at, room);
        }
        self.pending.insert(room.clone(), claim);
    }

    /// It has answered, or will not.
    fn answer_of(&mut self, room: &RoomName) -> Option<Claim> {
        let claim = self.pending.remove(room)?;
        if let Some(at) = claim.probe_at {
            self.probes.unplan(at, room);
        }
        Some(claim)
    }

    /// Whether one more room may be claimed now that nobody waits for.
    pub(crate) fn takes_move(&self) -> bool {
        self.parts.iter().all(|part| part.is_away() || part.caller.calls() < MOVES_CALLS_MAX)
    }

    /// Keeps what an answer of partition `at` tells of `room`.
    fn learn(&mut self, at: Partition, room: &RoomName, reply: &Reply) {
        let known = match reply {
            Reply::Placed(Placed::Won(record) | Placed::Held(record)) => {
                Known::Held(home_of(record))
            }
            Reply::Failed(Failure::Fenced(generation)) => Known::Ended(*generation),
            _ => return,
        };
        self.known.insert(room.clone(), (at, known));
    }

    /// What the partition that keeps `room` has of it.
    fn known(&self, room: &RoomName) -> Option<&Known> {
        let (at, known) = self.known.get(room)?;
        (self.parts.len() == 1 || self.at(room) == Some(*at)).then_some(known)
    }

    /// What the directory holds of a room that nobody has named here.
    pub(crate) fn stray(&self, room: &RoomName) -> Option<&Home> {
        let key = self.keyer.as_ref()?.key(room);
        let stray = self.part(self.kept_at(key)).strays.get(&key)?;
        Some(&stray.held)
    }

    fn held(&self, room: &RoomName) -> Option<&Home> {
        match self.known(room) {
            Some(Known::Held(home)) => Some(home),
            Some(Known::Ended(_)) | None => None,
        }
    }

    /// The directory may not know what is true of `room`.
    pub(crate) fn note(&mut self, room: &RoomName) {
        let Some(keyer) = &self.keyer else { return };
        if let [part] = &self.parts[..]
            && part.is_noted(room)
        {
            return;
        }
        let key = keyer.key(room);
        let at = self.kept_at(key);
        if self.part_mut(at).note(room) {
            if let Some(stray) = self.part_mut(at).strays.remove(&key) {
                self.known.insert(room.clone(), (at, Known::Held(stray.held)));
            }
            self.names.entry(key).or_insert_with(|| room.clone());
        }
    }

    fn forget(&mut self, room: &RoomName) {
        self.known.remove(room);
        self.wrong_since.remove(room);
        if let Some(keyer) = &self.keyer {
            self.names.remove(&keyer.key(room));
        }
    }

    fn send(&mut self, now: Time, at: Partition, request: Request, purpose: Purpose) -> bool {
        let part = &mut self.parts[usize::from(at.0)];
        match part.caller.ask(now, request, &mut self.said) {
            Ok(call) => {
                self.purposes.insert(call, purpose);
                true
            }
            Err(why) => {
                part.shed[why as usize] += 1;
                false
            }
        }
    }

    fn id(&mut self) -> PlacementId {
        PlacementId(u128::from(self.ids.bits()) << 64 | u128::from(self.ids.bits()))
    }
}

impl Role {
    /// How `room` is placed now: by the shared ranking alone while nobody arbitrates.
    pub(crate) fn policy(&self, room: &RoomName) -> &Policy {
        let away = self.policy.arbitrated && self.claims.is_away(room);
        if away { &self.shared } else { &self.policy }
    }

    /// Claims `room` for `node`, for the client of `ask` or for a move.
    pub(crate) fn claim(
        &mut self,
        now: Time,
        room: &RoomName,
        node: &NodeId,
        generation: Generation,
        ask: Option<AskId>,
    ) -> Claimed {
        if let Some(claim) = self.claims.pending.get_mut(room) {
            claim.asks.extend(ask);
            return Claimed::Waits;
        }
        if self.claims.probes.join(room, ask) {
            return Claimed::Waits;
        }
        let want = Home { node: node.clone(), generation };
        let asks = ask.into_iter().collect();
        // Their answers are there when the directory's time is over.
        let probe_at = now + self.claims.deadline(room).saturating_sub(PROBE_MAX);
        let probe_at = (self.policy.arbitrated && ask.is_some()).then_some(probe_at);
        let claim = Claim { want: want.clone(), since: now, tries: 0, asks, probe_at };
        if self.claims.keyer.is_some() && self.send_claim(now, room, &want) {
            self.claims.waits_for(room, claim);
            return Claimed::Asked;
        }
        if self.claim_by_probe(now, room, &claim) {
            return Claimed::Asked;
        }
        self.claims.provisional += u64::from(self.claims.keyer.is_some());
        self.take_away(now, room, node);
        self.view.plan(now, room, want);
        Claimed::Here
    }

    fn send_claim(&mut self, now: Time, room: &RoomName, want: &Home) -> bool {
        let Some((at, request)) = self.claim_request(room, want, false) else { return false };
        self.claims.send(now, at, request, Purpose::Claim(room.clone()))
    }

    fn claim_request(
        &mut self,
        room: &RoomName,
        want: &Home,
        provisional: bool,
    ) -> Option<(Partition, Request)> {
        let key = self.claims.keyer.as_ref()?.key(room);
        let epoch = self.nodes.get(&want.node).and_then(|state| state.watch.epoch());
        let record = Record {
            node: want.node.clone(),
            epoch: epoch.unwrap_or_default(),
            generation: want.generation,
            id: self.claims.id(),
            provisional,
        };
        let held = self.claims.held(room).or_else(|| self.view.home(room));
        let request = match held.filter(|held| held.generation < want.generation) {
            Some(held) => Request::Replace { room: key, expected: held.generation, want: record },
            None => Request::Place { room: key, want: record },
        };
        Some((self.claims.kept_at(key), request))
    }

    /// The directory, or the way to it, has answered.
    pub(crate) fn directory(
        &mut self,
        now: Time,
        call: CallId,
        reply: Reply,
        out: &mut Vec<Output>,
    ) {
        let Claims { parts, said, .. } = &mut self.claims;
        let Some(part) = parts.get_mut(usize::from(call.at.0)) else { return };
        part.caller.reply(now, call, reply, said);
        self.flush_callers(now, out);
    }

    /// Carries out what the callers have said, and what follows from it.
    pub(crate) fn flush_callers(&mut self, now: Time, out: &mut Vec<Output>) {
        while !self.claims.said.is_empty() {
            for said in std::mem::take(&mut self.claims.said) {
                match said {
                    CallerOutput::Send { call, request } => {
                        out.push(Output::Directory { call, request });
                    }
                    CallerOutput::Answer { call, reply } => self.answered_by(now, call, reply, out),
                    CallerOutput::Resolved { call, reply } => self.resolved(call, &reply),
                    CallerOutput::Wiped { at } => {
                        self.claims.known.retain(|_, (kept_at, _)| *kept_at != at);
                        self.note_all(Some(at));
                    }
                }
            }
        }
        self.claims.probes.take_said(out);
    }

    fn answered_by(&mut self, now: Time, call: CallId, reply: Reply, out: &mut Vec<Output>) {
        // Kept for the resolution of a claim that nobody knows about.
        let unknown = reply == Reply::Failed(Failure::Unknown);
        let purpose = match self.claims.purposes.get(&call) {
            Some(purpose) if unknown => purpose.clone(),
            _ => match self.claims.purposes.remove(&call) {
                Some(purpose) => purpose,
                None => return,
            },
        };
        match purpose {
            Purpose::Claim(room) => self.claim_answered(now, (call.at, &room), reply, out),
            Purpose::Announce(room) => {
                self.claims.announced(call.at);
                self.claims.learn(call.at, &room, &reply);
                // What an engine does not take is tried again with the next look at all rooms.
                if !matches!(reply, Reply::Failed(Failure::Bad(_))) {
                    self.claims.note(&room);
                }
            }
            Purpose::End(room) => {
                self.claims.announced(call.at);
                if reply == Reply::Done {
                    self.claims.forget(&room);
                    // It may have begun anew while it was ended.
                    if self.view.home_and_plan(&room) != (None, None) {
                        self.claims.note(&room);
                    }
                }
                self.claims.purposes.remove(&call);
            }
            Purpose::Watch => {
                self.claims.purposes.remove(&call);
                self.claims.part_mut(call.at).watching = false;
                match reply {
                    Reply::Changes(changes) => self.changed(now, call.at, changes),
                    _ => self.unwatched(now, call.at),
                }
            }
            Purpose::Heartbeat => {
                self.claims.purposes.remove(&call);
            }
        }
    }

    fn resolved(&mut self, call: CallId, reply: &Reply) {
        let Some(purpose) = self.claims.purposes.remove(&call) else { return };
        if let Purpose::Claim(room) | Purpose::Announce(room) = purpose {
            self.claims.learn(call.at, &room, reply);
            self.claims.note(&room);
        }
    }

    fn claim_answered(
        &mut self,
        now: Time,
        (at, room): (Partition, &RoomName),
        reply: Reply,
        out: &mut Vec<Output>,
    ) {
        let Some(claim) = self.claims.answer_of(room) else { return };
        self.claims.learn(at, room, &reply);
        if self.has_home(room) {
            // The room's own node was faster than the directory.
            self.claims.probes.end(room);
            self.claims.note(room);
            return self.look_again(now, claim.asks, out);
        }
        match reply {
            // Another home of this life of the room may have come and gone meanwhile.
            Reply::Placed(Placed::Won(record))
                if record.generation < self.view.next_generation(room) =>
            {
                self.claim_again(now, room, claim, out);
            }
            Reply::Placed(Placed::Won(record)) => {
                self.claimed(now, room, home_of(&record), claim.asks, out);
            }
            Reply::Placed(Placed::Held(record)) => {
                let held = home_of(&record);
                let node = self.view.node(&held.node);
                // What is held at a node that cannot be reached, or is older than what is known here, is to be superseded. So is
                // what this gateway alone has written when its node does not have the room: nobody has come there.
                let stands = node.is_some_and(|node| node.keeps(room))
                    && held.generation >= self.view.next_generation(room)
                    && (self.policy.arbitrated || !self.would_know(now, &held.node));
                if stands {
                    self.claimed(now, room, held, claim.asks, out);
                } else {
                    self.view.fence(now, room, held.generation);
                    self.claim_again(now, room, claim, out);
                }
            }
            Reply::Failed(Failure::Fenced(generation)) => {
                self.view.fence(now, room, generation);
                self.claim_again(now, room, claim, out);
            }
            _ => self.claim_without(now, room, claim, out),
        }
    }

    /// Whether `room` lives at a node that keeps it.
    pub(crate) fn has_home(&self, room: &RoomName) -> bool {
        let node = self.view.home(room).and_then(|home| self.view.node(&home.node));
        node.is_some_and(|node| node.keeps(room))
    }

    /// `room` is to be at `home`, and its clients go there.
    fn claimed(
        &mut self,
        now: Time,
        room: &RoomName,
        home: Home,
        asks: Vec<AskId>,
        out: &mut Vec<Output>,
    ) {
        self.claims.probes.end(room);
        if self.claims.keyer.is_some() {
            self.claims.recheck.insert((now + RECHECK_AFTER, room.clone()));
        }
        self.take_away(now, room, &home.node);
        self.tell_raised(room, &home, out);
        if self.view.plan(now, room, home.clone()) {
            return self.look_again(now, asks, out);
        }
        // Too many rooms are planned: nothing is kept of this one, and to look again would be to claim it again.
        let Home { node, generation } = home;
        for ask in asks {
            if self.is_claiming(ask) {
                self.go(ask, Placement { node: node.clone(), generation, home: false }, out);
            }
        }
    }

    /// Neither the directory nor a node says where the room is.
    fn place_without(&mut self, now: Time, room: &RoomName, claim: Claim, out: &mut Vec<Output>) {
        self.claims.provisional += 1;
        let generation = self.view.next_generation(room).max(claim.want.generation);
        // Nobody arbitrates: where every gateway looks first, so that two of them agree without talking.
        let tried = claim.asks.first().map_or(&[][..], |ask| self.asks.tried(*ask));
        let shared = place(&self.view, &self.shared, room, tried).ok();
        let node = shared.map_or(claim.want.node, |placement| placement.node);
        self.claimed(now, room, Home { node, generation }, claim.asks, out);
    }

    fn claim_again(&mut self, now: Time, room: &RoomName, mut claim: Claim, out: &mut Vec<Output>) {
        claim.tries += 1;
        claim.want.generation = self.view.next_generation(room).max(claim.want.generation);
        // What was right for the first try may have left the room since, or take no rooms any more.
        if let Ok(anew) = self.place_for(room, claim.asks.first().copied()) {
            claim.want.node = anew.node;
        }
        // Whoever joins has one budget for all tries.
        let in_time = now.since(claim.since) < self.claims.deadline(room);
        let again = in_time && claim.tries <= CLAIM_TRIES_MAX;
        if again && self.send_claim(now, room, &claim.want.clone()) {
            return self.claims.waits_for(room, claim);
        }
        self.claim_without(now, room, claim, out);
    }

    pub(crate) fn wake_claims(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.claims.keyer.is_none() {
            return;
        }
        self.wake_probes(now, out);
        for part in 0..self.claims.layout.partitions() {
            self.look_at_return(now, Partition(part));
        }
        while self.claims.recheck.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, room)) = self.claims.recheck.pop_first()
        {
            self.claims.note(&room);
        }
        if self.claims.sweep_at <= now {
            let jitter = self.jitter.within(SWEEP_INTERVAL);
            self.claims.sweep_at = now + SWEEP_INTERVAL + jitter;
            self.note_all(None);
        }
        if self.claims.heartbeat_at <= now {
            self.claims.heartbeat_at = now + HEARTBEAT_INTERVAL;
            self.heartbeat(now);
            self.end_strays(now);
        }
        self.watch(now);
        if self.claims.announce_at <= now && self.claims.away() < self.claims.parts.len() {
            self.claims.announce_at = now + ANNOUNCE_INTERVAL;
            self.announce_batches(now);
        }
        // Last: whatever was asked above may have been the first question.
        let Claims { parts, said, .. } = &mut self.claims;
        for part in parts {
            part.caller.wake(now, said);
        }
        self.flush_callers(now, out);
    }
}

fn home_of(record: &Record) -> Home {
    Home { node: record.node.clone(), generation: record.generation }
}

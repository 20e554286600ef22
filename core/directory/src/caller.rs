//! A gateway's side of the directory: nobody waits longer than its deadline, nobody waits at all while the engine is
//! away, and a claim of which nobody knows whether it was applied is asked about until somebody does.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use outlast_model::Time;

use crate::{
    Failure, InstanceId, PROBE_INTERVAL, PROBE_JITTER_MAX, Partition, Reply, Request,
    TOMBSTONE_KEPT, breaker::Breaker, budget::Budget,
};

/// Most calls in flight. What all gateways together may put on an engine that has just come back is a multiple of it.
pub const CALLS_MAX: usize = 256;
/// Span between two looks at the instance while calls go through, unless other answers tell it.
pub const INSTANCE_INTERVAL: Duration = Duration::from_secs(2);
/// Most claims kept that have come to `Unknown`; the oldest are given up first.
pub const UNRESOLVED_MAX: usize = 1_024;
/// How long such a claim is asked about: well within the life of a tombstone, so that what has ended since stays
/// fenced.
pub const UNRESOLVED_KEPT: Duration = Duration::from_secs(TOMBSTONE_KEPT.as_secs() / 2);
/// Most of them asked about at a time.
pub const RESOLVING_MAX: usize = 16;
/// Pause of such questions after a call that came to `Unknown`, not counting jitter.
pub const RESOLVE_PAUSE: Duration = Duration::from_secs(1);

/// One call of one [`Caller`], never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// Whom it asks.
    pub at: Partition,
    /// Counts the calls of its caller, from 1 on.
    pub number: u64,
}

/// Why a request was not sent. It is surely not applied, as with [`Failure::Unavailable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The engine is away: the breaker is open.
    Open,
    /// [`CALLS_MAX`] calls are in flight.
    Full,
}

/// What a [`Caller`] wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerOutput {
    /// To the engine. What comes of it goes to [`Caller::reply`], also late, also `Unavailable` when the engine is not
    /// reached.
    Send {
        /// The call to answer to.
        call: CallId,
        /// What is asked.
        request: Request,
    },
    /// To whoever asked. Exactly one for each call that [`Caller::ask`] returned; `Failed(Unknown)` when nothing
    /// came within [`Caller::deadline`].
    Answer {
        /// The call.
        call: CallId,
        /// What came of it.
        reply: Reply,
    },
    /// To whoever asked for a place or replace and was answered `Failed(Unknown)`: exactly one for each, in the end.
    Resolved {
        /// The call, already answered.
        call: CallId,
        /// What came of it after all; `Failed(Unknown)` when it is given up, after [`UNRESOLVED_KEPT`] or for newer
        /// ones.
        reply: Reply,
    },
    /// The partition has another content than before: what is held must be announced again. Said when calls go through.
    Wiped {
        /// Which one.
        at: Partition,
    },
}

/// A machine between a gateway and one partition of an engine of any kind. Times are of the gateway's own clock and never go back.
///
/// A *failure* is a call answered `Unavailable` or `Unknown`, or not at all by its deadline; every other answer is a
/// success, whatever it says. [`FAILURES_MAX`](crate::FAILURES_MAX) failures in a row, or
/// [`SUCCESS_WITHIN`](crate::SUCCESS_WITHIN) of nothing else, open the breaker: [`Caller::ask`] sheds at once. While it
/// is open a question for the instance is sent each [`PROBE_INTERVAL`] and a little;
/// [`PROBES_GOOD`](crate::PROBES_GOOD) answers in a row close it.
///
/// A place or replace that came to `Unknown` is asked again under its own placement id, as a new call to the engine,
/// when the breaker is closed and some time has passed, until it has an answer; a late answer to the first call does as
/// well. Whoever no longer wants it ends its generation, which fences it. The failures of those questions are no
/// failures to the breaker: a part of an engine may be away for long.
///
/// **The deadline** of all calls is one and the same, [`DEADLINE_MIN`](crate::DEADLINE_MIN) at first, and then two and a half times
/// what the slowest hundredth of claims and of questions for the instance took, up to [`DEADLINE_MAX`](crate::DEADLINE_MAX).
/// Other questions tell nothing of it: they are answered by whichever replica is near.
///
/// Before the first question it does nothing and never wakes.
#[derive(Clone, Debug)]
pub struct Caller {
    at: Partition,
    jitter: u64,
    last_call: u64,
    /// All with the same time to go, so the lowest id has the next deadline.
    flights: BTreeMap<CallId, Flight>,
    breaker: Breaker,
    budget: Budget,
    probe_at: Time,
    /// Next look at the instance while the breaker is closed; `None` before the first question.
    look_at: Option<Time>,
    /// The instance that was seen last, and by which call.
    instance: Option<(InstanceId, CallId)>,
    wiped: bool,
    unresolved: BTreeMap<CallId, Unresolved>,
    /// How many of them are being asked about.
    resolving: usize,
    resolve_at: Time,
    /// The one that was asked about last: the next is after it, so that each has its turn.
    resolved_last: CallId,
}

/// A call that was sent and has not ended.
#[derive(Clone, Debug)]
struct Flight {
    asked_at: Time,
    purpose: Purpose,
}

#[derive(Clone, Debug)]
enum Purpose {
    /// Somebody asked; with the request if it is a claim.
    Asked(Option<Request>),
    /// Asks again for a claim that came to `Unknown`.
    Again(CallId),
    /// Asks for the instance.
    Probe,
}

impl Flight {
    /// Whether it takes the engine what a claim takes: nothing less than all that must agree.
    fn is_measured(&self) -> bool {
        !matches!(self.purpose, Purpose::Asked(None))
    }
}

/// A claim that came to `Unknown`.
#[derive(Clone, Debug)]
struct Unresolved {
    request: Request,
    asked_at: Time,
    /// The call that asks again.
    again: Option<CallId>,
}

impl Caller {
    /// A caller of partition `at` that has not asked yet. Callers of one region have different seeds, so that they do not probe
    /// together.
    pub fn new(at: Partition, seed: u64) -> Caller {
        Caller {
            at,
            jitter: seed,
            last_call: 0,
            flights: BTreeMap::new(),
            breaker: Breaker::CLOSED,
            budget: Budget::new(),
            probe_at: Time::ZERO,
            look_at: None,
            instance: None,
            wiped: false,
            unresolved: BTreeMap::new(),
            resolving: 0,
            resolve_at: Time::ZERO,
            resolved_last: CallId { at, number: 0 },
        }
    }

    /// Whether the engine counts as away, so that asking is in vain.
    pub fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// The content of the directory, as far as it has been seen.
    pub fn instance(&self) -> Option<InstanceId> {
        self.instance.map(|(instance, _)| instance)
    }

    /// How long a call may take now.
    pub fn deadline(&self) -> Duration {
        self.budget.deadline()
    }

    /// Calls in flight, at most [`CALLS_MAX`].
    pub fn calls(&self) -> usize {
        self.flights.len()
    }

    /// Claims that came to `Unknown` and have not been resolved, at most [`UNRESOLVED_MAX`].
    pub fn unresolved(&self) -> usize {
        self.unresolved.len()
    }

    /// Sends `request`, if the engine may be asked now. Its answer comes in `out`, now or later.
    ///
    /// # Errors
    /// See [`Shed`]; nothing was sent then, and there will be no answer.
    pub fn ask(
        &mut self,
        now: Time,
        request: Request,
        out: &mut Vec<CallerOutput>,
    ) -> Result<CallId, Shed> {
        self.look_at.get_or_insert(now);
        if self.is_open() {
            return Err(Shed::Open);
        }
        if self.flights.len() >= CALLS_MAX {
            return Err(Shed::Full);
        }
        let is_claim = matches!(request, Request::Place { .. } | Request::Replace { .. });
        let claim = is_claim.then(|| request.clone());
        Ok(self.send(now, request, Purpose::Asked(claim), out))
    }

    /// The engine, or the way to it, has answered `call`. A call that is unknown here, or has been answered, changes
    /// nothing. An answer that is later than its deadline counts if [`Caller::wake`] has not been called in between:
    /// then it was this process that stood still.
    pub fn reply(&mut self, now: Time, call: CallId, reply: Reply, out: &mut Vec<CallerOutput>) {
        match self.flights.remove(&call) {
            Some(flight) => {
                if flight.is_measured() && !is_failure(&reply) {
                    self.budget.answered(now, flight.asked_at);
                }
                self.settle(now, call, flight, reply, out);
            }
            None if is_failure(&reply) => {}
            None => {
                self.budget.answered_late(now, call);
                self.resolve(call, reply, out);
            }
        }
        self.go_on(now, out);
    }

    /// Looks at the clock.
    pub fn wake(&mut self, now: Time, out: &mut Vec<CallerOutput>) {
        self.budget.look(now);
        let deadline = self.deadline();
        while let Some(entry) = self.flights.first_entry()
            && entry.get().asked_at + deadline <= now
        {
            let (call, flight) = entry.remove_entry();
            if flight.is_measured() {
                self.budget.given_up(call, flight.asked_at);
            }
            self.settle(now, call, flight, Reply::Failed(Failure::Unknown), out);
        }
        while let Some((call, oldest)) = self.unresolved.first_key_value()
            && oldest.asked_at + UNRESOLVED_KEPT <= now
        {
            self.resolve(*call, Reply::Failed(Failure::Unknown), out);
        }
        self.go_on(now, out);
    }

    /// When [`Caller::wake`] has something to do next; after a call of it, later than then.
    pub fn wake_at(&self) -> Option<Time> {
        let oldest = self.flights.first_key_value();
        let deadline = oldest.map(|(_, flight)| flight.asked_at + self.deadline());
        let giving_up =
            self.unresolved.first_key_value().map(|(_, oldest)| oldest.asked_at + UNRESOLVED_KEPT);
        let (own, again) = if self.is_open() {
            (Some(self.probe_at), None)
        } else {
            (self.look_at, self.may_resolve().then_some(self.resolve_at))
        };
        Time::first([deadline, giving_up, own, again])
    }

    fn send(
        &mut self,
        now: Time,
        request: Request,
        purpose: Purpose,
        out: &mut Vec<CallerOutput>,
    ) -> CallId {
        self.last_call += 1;
        let call = CallId { at: self.at, number: self.last_call };
        self.flights.insert(call, Flight { asked_at: now, purpose });
        out.push(CallerOutput::Send { call, request });
        call
    }

    /// `call` is no longer in flight: `reply` is what came of it.
    fn settle(
        &mut self,
        now: Time,
        call: CallId,
        flight: Flight,
        reply: Reply,
        out: &mut Vec<CallerOutput>,
    ) {
        self.note_instance(now, call, &reply, out);
        let failed = is_failure(&reply);
        match flight.purpose {
            Purpose::Again(first) => {
                self.resolving -= 1;
                if failed {
                    let claim = self.unresolved.get_mut(&first);
                    claim.expect("a claim lives as long as its question").again = None;
                    self.pause_resolving(now);
                } else {
                    self.unresolved.remove(&first);
                    out.push(CallerOutput::Resolved { call: first, reply });
                }
                return;
            }
            Purpose::Asked(claim) => {
                let unknown = reply == Reply::Failed(Failure::Unknown);
                out.push(CallerOutput::Answer { call, reply });
                if let Some(request) = claim.filter(|_| unknown) {
                    self.keep(now, call, flight.asked_at, request, out);
                }
            }
            Purpose::Probe => {}
        }
        if !failed && self.is_open() && self.probes_before(call) {
            // Answers seldom overtake each other: it was lost.
            self.breaker.judge(now, flight.asked_at, true);
        }
        if self.breaker.judge(now, flight.asked_at, failed) {
            self.probe_at = now + PROBE_INTERVAL + self.jitter();
        }
    }

    /// Whether a probe that was sent before `call` has no answer yet.
    fn probes_before(&self, call: CallId) -> bool {
        let mut before = self.flights.range(..call);
        before.any(|(_, flight)| matches!(flight.purpose, Purpose::Probe))
    }

    /// The claim of `call` came to `Unknown`: it is asked again after a while.
    fn keep(
        &mut self,
        now: Time,
        call: CallId,
        asked_at: Time,
        request: Request,
        out: &mut Vec<CallerOutput>,
    ) {
        self.unresolved.insert(call, Unresolved { request, asked_at, again: None });
        // A pause that is under way is not drawn out, or a trickle of such claims would keep all of them waiting.
        if self.resolve_at <= now {
            self.pause_resolving(now);
        }
        if self.unresolved.len() > UNRESOLVED_MAX
            && let Some((oldest, _)) = self.unresolved.first_key_value()
        {
            self.resolve(*oldest, Reply::Failed(Failure::Unknown), out);
        }
    }

    /// What came of the claim of `call` is known, or will not be; nothing if that was so before.
    fn resolve(&mut self, call: CallId, reply: Reply, out: &mut Vec<CallerOutput>) {
        let Some(claim) = self.unresolved.remove(&call) else { return };
        if let Some(again) = claim.again {
            self.flights.remove(&again);
            self.resolving -= 1;
        }
        out.push(CallerOutput::Resolved { call, reply });
    }

    /// Sends what is due without anybody asking.
    fn go_on(&mut self, now: Time, out: &mut Vec<CallerOutput>) {
        if self.is_open() {
            if self.probe_at <= now {
                self.probe_at = now + PROBE_INTERVAL + self.jitter();
                self.send(now, Request::Instance, Purpose::Probe, out);
            }
            return;
        }
        if std::mem::take(&mut self.wiped) {
            out.push(CallerOutput::Wiped { at: self.at });
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = Some(now + INSTANCE_INTERVAL);
            // With so many calls in flight the next ones tell soon enough whether the engine lives.
            if self.flights.len() < CALLS_MAX {
                self.send(now, Request::Instance, Purpose::Probe, out);
            }
        }
        while self.resolve_at <= now && self.may_resolve() {
            self.ask_again(now, out);
        }
    }

    /// Whether a claim waits to be asked about, and one more may be.
    fn may_resolve(&self) -> bool {
        self.resolving < self.unresolved.len().min(RESOLVING_MAX) && self.flights.len() < CALLS_MAX
    }

    fn ask_again(&mut self, now: Time, out: &mut Vec<CallerOutput>) {
        let after = self.unresolved.range((Excluded(self.resolved_last), Unbounded));
        let mut waiting =
            after.chain(self.unresolved.iter()).filter(|(_, claim)| claim.again.is_none());
        let (&first, claim) = waiting.next().expect("a claim waits");
        let request = claim.request.clone();
        let again = self.send(now, request, Purpose::Again(first), out);
        if let Some(claim) = self.unresolved.get_mut(&first) {
            claim.again = Some(again);
        }
        self.resolving += 1;
        self.resolved_last = first;
    }

    fn pause_resolving(&mut self, now: Time) {
        self.resolve_at = now + RESOLVE_PAUSE + self.jitter();
    }

    /// Looks for the instance in an answer to `call`. Answers overtake each other: one to an older call than that which
    /// told last is of the past.
    fn note_instance(
        &mut self,
        now: Time,
        call: CallId,
        reply: &Reply,
        out: &mut Vec<CallerOutput>,
    ) {
        let instance = match reply {
            Reply::Instance(instance) => *instance,
            Reply::Changes(changes) => changes.instance,
            _ => return,
        };
        if self.instance.is_some_and(|(_, told_by)| call < told_by) {
            return;
        }
        let before = self.instance.replace((instance, call));
        self.look_at = Some(now + INSTANCE_INTERVAL);
        if before.is_none_or(|(before, _)| before == instance) {
            return;
        }
        self.wiped = self.is_open();
        if !self.wiped {
            out.push(CallerOutput::Wiped { at: self.at });
        }
    }

    /// A span up to [`PROBE_JITTER_MAX`], from the seed (SplitMix64).
    fn jitter(&mut self) -> Duration {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.jitter;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // The upper 10 bits: 1,024 steps.
        PROBE_JITTER_MAX * u32::try_from(bits >> 54).unwrap_or(0) / 1_024
    }
}

fn is_failure(reply: &Reply) -> bool {
    matches!(reply, Reply::Failed(Failure::Unavailable | Failure::Unknown))
}

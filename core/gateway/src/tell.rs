//! Who has to be told to reconnect, and how fast: a fault frees thousands of clients at once, and they must not all arrive
//! at once where they go next.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::RangeInclusive,
    time::Duration,
};

use outlast_model::{BEAT_INTERVAL, SessionId, Time};

use crate::Role;

/// How many are told a second when the configuration leaves it open. Below the least, small clusters would be silent for long
/// although their nodes' bursts can take a small herd at once; what is too much for them they refuse for a moment. The most
/// is what one gateway is taken to carry, since who is told comes back through a gateway: TLS, a token and a connection to
/// a node for each.
pub const TELL_PER_SECOND: RangeInclusive<u32> = 500..=2_000;
/// Share, in thousandths, of the joins that the nodes left admit that goes to those who are told. The rest is for clients
/// that come untold, having lost their gateway too, for whoever joins anyway, and for the node that gets more than its share
/// of rooms. Higher: refusals; lower: longer silence.
const SHARE_PERMILLE: u64 = 600;

/// Why a session is told to reconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The node behind it is down.
    NodeDown,
    /// The node behind it has restarted and knows nothing of it.
    NodeRestarted,
    /// The node behind it answers and does not deliver.
    NodeEjected,
    /// Its room has a newer home.
    Superseded,
    /// The connection to the node broke, and the node may be gone with it.
    LinkLost,
    /// The connection to the node broke, and the node is fine: nothing is lost but a connection.
    LinkReset,
    /// This gateway is about to stop.
    GatewayLeaving,
}

impl Why {
    /// Every reason, in the order of [`Why::index`].
    pub const ALL: [Why; 7] = [
        Why::NodeDown,
        Why::NodeRestarted,
        Why::NodeEjected,
        Why::Superseded,
        Why::LinkLost,
        Why::LinkReset,
        Why::GatewayLeaving,
    ];

    /// A number below `Why::ALL.len()`.
    pub fn index(self) -> usize {
        Why::ALL.iter().position(|why| *why == self).expect("ALL names every reason")
    }

    /// Whether the client's session is whole where it was: its socket is closed without a `leave`, and it resumes, while
    /// media goes on.
    pub fn resumes(self) -> bool {
        self == Why::LinkReset
    }

    /// A name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::NodeDown => "node_down",
            Why::NodeRestarted => "node_restarted",
            Why::NodeEjected => "node_ejected",
            Why::Superseded => "superseded",
            Why::LinkLost => "link_lost",
            Why::LinkReset => "link_reset",
            Why::GatewayLeaving => "gateway_leaving",
        }
    }
}

/// Sessions waiting to be told, each once.
pub(crate) struct Pace {
    /// Those whose room has clients elsewhere already; they go first.
    split: VecDeque<(SessionId, Why)>,
    queue: VecDeque<(SessionId, Why)>,
    /// Who is waiting and why; an entry of a queue that says otherwise is void.
    queued: BTreeMap<SessionId, Why>,
    /// Who has been told and is not gone yet.
    told: BTreeSet<SessionId>,
    interval: Duration,
    burst: Duration,
    next_at: Time,
    /// When the interval is to be found anew; `None` when the configuration says it.
    stale_at: Option<Time>,
}

impl Pace {
    /// `per_second` are told a second, after a burst of a fifth of that. `None` follows what the nodes left can take.
    pub(crate) fn new(per_second: Option<u32>) -> Pace {
        Pace {
            split: VecDeque::new(),
            queue: VecDeque::new(),
            queued: BTreeMap::new(),
            told: BTreeSet::new(),
            interval: interval(per_second.unwrap_or(*TELL_PER_SECOND.start())),
            burst: Duration::from_millis(200),
            next_at: Time::ZERO,
            stale_at: per_second.is_none().then_some(Time::ZERO),
        }
    }

    /// Whether somebody waits, and the pace is that of some time ago.
    fn is_stale(&self, now: Time) -> bool {
        self.stale_at.is_some_and(|at| at <= now) && self.wake_at().is_some()
    }

    /// One of `gateways` that tell at the same time, while nodes take `joins` a second.
    fn follow(&mut self, now: Time, joins: u64, gateways: u64) {
        let share = joins * SHARE_PERMILLE / 1_000 / gateways.max(1);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        self.interval = interval(share.clamp(*TELL_PER_SECOND.start(), *TELL_PER_SECOND.end()));
        self.stale_at = Some(now + BEAT_INTERVAL);
    }

    /// Tells `session` in its turn, once. Who waits already keeps turn and reason, unless the room is split now.
    pub(crate) fn push(&mut self, session: SessionId, why: Why) {
        if self.told.contains(&session) {
            return;
        }
        match self.queued.get(&session) {
            None => {}
            Some(before) if why == Why::Superseded && *before != why => {}
            Some(_) => return,
        }
        self.queued.insert(session, why);
        let queue = if why == Why::Superseded { &mut self.split } else { &mut self.queue };
        queue.push_back((session, why));
    }

    pub(crate) fn forget(&mut self, session: SessionId) {
        // The queues are cleaned when its turn comes: closing is frequent, and a queue is rare.
        self.queued.remove(&session);
        self.told.remove(&session);
    }

    pub(crate) fn pop(&mut self, now: Time) -> Option<(SessionId, Why)> {
        loop {
            let queue = if self.split.is_empty() { &mut self.queue } else { &mut self.split };
            let (session, why) = *queue.front()?;
            if self.queued.get(&session) != Some(&why) {
                queue.pop_front();
                continue;
            }
            // Time that nobody used is saved up to one burst.
            self.next_at = self.next_at.max(now - self.burst);
            if self.next_at > now {
                return None;
            }
            self.next_at = self.next_at + self.interval;
            queue.pop_front();
            self.queued.remove(&session);
            self.told.insert(session);
            return Some((session, why));
        }
    }

    pub(crate) fn wake_at(&self) -> Option<Time> {
        (!self.queue.is_empty() || !self.split.is_empty()).then_some(self.next_at)
    }
}

impl Role {
    /// Finds the pace anew when it may have changed: beats say which nodes are left and what they can take.
    pub(crate) fn set_pace(&mut self, now: Time) {
        if !self.pace.is_stale(now) {
            return;
        }
        // What hits a node hits the clients of every gateway; one that is about to stop is alone with its own.
        let others = if self.draining { 0 } else { self.outlooks.heard(now) };
        self.pace.follow(now, self.view.takes_per_second(), 1 + others as u64);
    }
}

fn interval(per_second: u32) -> Duration {
    Duration::from_secs(1) / per_second.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_steady_pace_and_nobody_twice() {
        let mut pace = Pace::new(Some(500));
        for n in 0..1_000 {
            pace.push(SessionId(n), Why::NodeDown);
            pace.push(SessionId(n), Why::NodeEjected);
        }
        pace.forget(SessionId(0));
        let mut told = 0;
        let mut now = Time::from_millis(10_000);
        while pace.pop(now).is_some() {
            told += 1;
        }
        assert!((100..=101).contains(&told), "{told} in the burst");
        let start = now;
        while let Some(at) = pace.wake_at() {
            now = at.max(now);
            while pace.pop(now).is_some() {
                told += 1;
            }
        }
        assert_eq!(told, 999);
        let took = now.since(start).as_millis();
        assert!((1_700..1_900).contains(&took), "{took} ms for the rest");
    }

    #[test]
    fn a_configured_pace_is_the_pace_whatever_is_left() {
        let now = Time::from_millis(10_000);
        for (configured, follows) in [(Some(7), false), (None, true)] {
            let mut pace = Pace::new(configured);
            assert!(!pace.is_stale(now), "nobody waits");
            pace.push(SessionId(1), Why::NodeDown);
            assert_eq!(pace.is_stale(now), follows);
        }
        let mut pace = Pace::new(None);
        pace.push(SessionId(1), Why::NodeDown);
        pace.follow(now, u64::from(u32::MAX) * 100, 0);
        assert_eq!(pace.interval, interval(*TELL_PER_SECOND.end()));
        assert!(!pace.is_stale(now) && pace.is_stale(now + BEAT_INTERVAL));
    }

    #[test]
    fn who_is_in_a_split_room_goes_first() {
        let mut pace = Pace::new(Some(500));
        for n in 0..10 {
            pace.push(SessionId(n), Why::NodeEjected);
        }
        for n in [7, 8, 7] {
            pace.push(SessionId(n), Why::Superseded);
        }
        let now = Time::from_millis(10_000);
        let order: Vec<_> = std::iter::from_fn(|| pace.pop(now)).map(|(id, _)| id.0).collect();
        assert_eq!(order, [7, 8, 0, 1, 2, 3, 4, 5, 6, 9]);
        assert_eq!(pace.wake_at(), None);
        pace.push(SessionId(7), Why::NodeDown);
        assert_eq!(pace.pop(now), None, "it knows");
        pace.forget(SessionId(7));
        assert!(pace.told.len() == 9 && pace.queued.is_empty());
    }
}

//! Who has to be told to reconnect, and how fast: a fault frees thousands of clients at once, and they must not all arrive
//! at once where they go next.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use outlast_model::{SessionId, Time};

/// Why a session is told to reconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The node behind it is down.
    NodeDown,
    /// The node behind it has restarted and knows nothing of it.
    NodeRestarted,
    /// The node behind it is being emptied.
    NodeDraining,
    /// Its room has a newer home.
    Superseded,
    /// The connection to the node broke.
    LinkLost,
    /// This gateway is about to stop.
    GatewayLeaving,
}

impl Why {
    /// Every reason, in the order of [`Why::index`].
    pub const ALL: [Why; 6] = [
        Why::NodeDown,
        Why::NodeRestarted,
        Why::NodeDraining,
        Why::Superseded,
        Why::LinkLost,
        Why::GatewayLeaving,
    ];

    /// A number below `Why::ALL.len()`.
    pub fn index(self) -> usize {
        Why::ALL.iter().position(|why| *why == self).expect("ALL names every reason")
    }

    /// A name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::NodeDown => "node_down",
            Why::NodeRestarted => "node_restarted",
            Why::NodeDraining => "node_draining",
            Why::Superseded => "superseded",
            Why::LinkLost => "link_lost",
            Why::GatewayLeaving => "gateway_leaving",
        }
    }
}

/// Sessions waiting to be told, each once.
pub(crate) struct Pace {
    queue: VecDeque<(SessionId, Why)>,
    queued: BTreeSet<SessionId>,
    interval: Duration,
    burst: Duration,
    next_at: Time,
}

impl Pace {
    /// At most `per_second` are told a second, after a burst of a fifth of that.
    pub(crate) fn new(per_second: u32) -> Pace {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Pace {
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            interval,
            burst: Duration::from_millis(200),
            next_at: Time::ZERO,
        }
    }

    pub(crate) fn push(&mut self, session: SessionId, why: Why) {
        if self.queued.insert(session) {
            self.queue.push_back((session, why));
        }
    }

    pub(crate) fn forget(&mut self, session: SessionId) {
        // The queue is cleaned when its turn comes: closing is frequent, and a queue is rare.
        self.queued.remove(&session);
    }

    pub(crate) fn pop(&mut self, now: Time) -> Option<(SessionId, Why)> {
        while let Some((session, _)) = self.queue.front() {
            if !self.queued.contains(session) {
                self.queue.pop_front();
                continue;
            }
            // Time that nobody used is saved up to one burst.
            self.next_at = self.next_at.max(now - self.burst);
            if self.next_at > now {
                return None;
            }
            self.next_at = self.next_at + self.interval;
            let told = self.queue.pop_front().expect("front was there");
            self.queued.remove(&told.0);
            return Some(told);
        }
        None
    }

    pub(crate) fn wake_at(&self) -> Option<Time> {
        (!self.queue.is_empty()).then_some(self.next_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_steady_pace_and_nobody_twice() {
        let mut pace = Pace::new(500);
        for n in 0..1_000 {
            pace.push(SessionId(n), Why::NodeDown);
            pace.push(SessionId(n), Why::Superseded);
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
}

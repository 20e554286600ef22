//! When which part of the plane has something to do. A timer whose owner is gone fires into nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use outlast_model::Time;

use crate::config::{PeerKey, PublicationKey};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Ask the peer again for what is missing.
    Nack(PeerKey),
    /// Tell the peer which packets arrived when.
    Feedback(PeerKey),
    /// Sender and receiver reports.
    Reports(PeerKey),
    /// Find silent layers, choose layers, ask for key frames.
    Steer(PublicationKey),
    /// Weigh speech levels.
    Speakers,
    /// Hand out events.
    Events,
}

/// A queue of timers; equal times fire in the order they were set.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Time, u64, Timer)>>,
    count: u64,
}

impl Timers {
    /// Adds a timer.
    pub(crate) fn set(&mut self, at: Time, timer: Timer) {
        self.count += 1;
        self.heap.push(Reverse((at, self.count, timer)));
    }

    /// The next timer that is due at `now`.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Timer> {
        let Reverse((at, _, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, _, timer))| timer)
    }

    /// When the next one is due.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }
}

//! What happened on one direction of a link, and how punctual the lab was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Packets and bytes of one direction since the lab came up. A packet is in `sent`, and then in one of `delivered`, a loss,
/// or still under way; a duplicate is another one in `delivered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Packets that came to the link.
    pub sent: u64,
    /// Their bytes, from the IP header on.
    pub sent_bytes: u64,
    /// Packets handed to the other side.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Lost by a chance of their own.
    pub lost: u64,
    /// Lost in a burst.
    pub lost_in_burst: u64,
    /// Dropped since they would have waited for the rate too long.
    pub queue_full: u64,
    /// Dropped since more was under way than the lab keeps.
    pub overflow: u64,
    /// Dropped by a cut.
    pub cut: u64,
    /// Dropped by a black hole at either end.
    pub black_hole: u64,
    /// Sent a second time.
    pub duplicated: u64,
    /// Held back for others to overtake.
    pub held: u64,
}

impl Counters {
    /// All that were not delivered, whatever the cause.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let Counters { lost, lost_in_burst, queue_full, overflow, cut, black_hole, .. } = *self;
        lost + lost_in_burst + queue_full + overflow + cut + black_hole
    }
}

/// How much later than they were due packets were handed over, since the lab came up. A machine too busy for the lab shows
/// here, and a drill's figures are worth as much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Punctuality {
    /// Late by less than 0.1 ms.
    pub within_100_us: u64,
    /// By less than 1 ms.
    pub within_1_ms: u64,
    /// By less than 10 ms.
    pub within_10_ms: u64,
    /// By 10 ms or more.
    pub later: u64,
    /// The worst, in microseconds.
    pub worst_us: u64,
}

impl Punctuality {
    pub(crate) fn count(&mut self, late: Duration) {
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let bucket = match late {
            0..100 => &mut self.within_100_us,
            100..1_000 => &mut self.within_1_ms,
            1_000..10_000 => &mut self.within_10_ms,
            _ => &mut self.later,
        };
        *bucket += 1;
        self.worst_us = self.worst_us.max(late);
    }
}

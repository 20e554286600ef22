//! What a piece of work costs: CPU time of this thread, and bytes that are allocated.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::ALLOCATOR;

/// Reads of the clock to find out what one takes.
const READS: u32 = 100_000;

/// Knows what reading the clock costs itself.
pub(super) struct Meter {
    empty: Duration,
}

impl Meter {
    pub(super) fn new() -> Meter {
        let mut meter = Meter { empty: Duration::ZERO };
        let spans = (0..READS).map(|_| meter.since(cpu()));
        meter.empty = spans.sum::<Duration>() / READS;
        meter
    }

    /// CPU time since `began`.
    pub(super) fn since(&self, began: Duration) -> Duration {
        (cpu() - began).saturating_sub(self.empty)
    }
}

/// CPU time of this thread so far.
pub(super) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Bytes that are allocated in this process.
pub(super) fn held() -> i64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

/// Bytes of what `make` makes.
pub(super) fn bytes_of<T>(make: impl FnOnce() -> T) -> i64 {
    let before = held();
    let made = make();
    let bytes = held() - before;
    drop(made);
    bytes
}

//! Whether an engine is worth asking: opens when it fails, tries it now and then, closes when it is back.

use std::time::Duration;

use outlast_model::Time;

/// Failed calls in a row that open the breaker. Lower: a lost packet makes placements provisional; higher: more joins
/// wait for their deadline first.
pub const FAILURES_MAX: u32 = 3;
/// A call fails, not the first one since the last success, and the first was asked so long ago: opens as well. For
/// gateways with few calls.
pub const SUCCESS_WITHIN: Duration = Duration::from_secs(1);
/// Span between two probes of an engine that failed, not counting jitter.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// Most that is added to [`PROBE_INTERVAL`], so that the gateways of a region do not probe together.
pub const PROBE_JITTER_MAX: Duration = Duration::from_millis(125);
/// Probes in a row that must be answered before calls go through again.
pub const PROBES_GOOD: u32 = 3;

/// The breaker's state.
#[derive(Clone, Debug)]
pub(crate) enum Breaker {
    /// Calls go through.
    Closed {
        /// Failed ones since the last success.
        failures: u32,
        /// When the first of them was asked.
        since: Option<Time>,
    },
    /// Only probes do.
    Open {
        /// What was asked up to here says nothing of the engine's return.
        since: Time,
        /// Probes answered in a row.
        good: u32,
    },
}

impl Breaker {
    pub(crate) const CLOSED: Breaker = Breaker::Closed { failures: 0, since: None };

    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Breaker::Open { .. })
    }

    /// A call that was asked at `asked_at` has been answered, or has `failed`. Returns whether that opened the breaker.
    pub(crate) fn judge(&mut self, now: Time, asked_at: Time, failed: bool) -> bool {
        match self {
            Breaker::Closed { .. } if !failed => *self = Breaker::CLOSED,
            Breaker::Closed { failures, since } => {
                *failures += 1;
                let first = *since.get_or_insert(asked_at);
                let lasts = *failures > 1 && now.since(first) >= SUCCESS_WITHIN;
                if *failures >= FAILURES_MAX || lasts {
                    *self = Breaker::Open { since: now, good: 0 };
                    return true;
                }
            }
            Breaker::Open { since, .. } if asked_at <= *since => {}
            Breaker::Open { good, .. } if failed => *good = 0,
            Breaker::Open { since, good } => {
                // Nor does a probe that was lost before.
                *since = asked_at;
                *good += 1;
                if *good >= PROBES_GOOD {
                    *self = Breaker::CLOSED;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn three_failures_in_a_row_open_and_a_success_between_forgives() {
        let mut breaker = Breaker::CLOSED;
        for failed in [true, true, false, true, true] {
            assert!(!breaker.judge(at(10), at(5), failed));
        }
        assert!(breaker.judge(at(10), at(5), true));
        assert!(breaker.is_open());
    }

    #[test]
    fn a_second_of_failures_opens_and_a_second_of_nothing_does_not() {
        let mut breaker = Breaker::CLOSED;
        assert!(!breaker.judge(at(9_000), at(8_800), true), "no success before it");
        assert!(!breaker.judge(at(9_799), at(9_700), true));
        let mut twin = breaker.clone();
        assert!(breaker.judge(at(9_800), at(9_700), true));
        twin.judge(at(9_799), at(9_700), false);
        assert!(!twin.judge(at(9_800), at(9_700), true));
        let mut slow = Breaker::CLOSED;
        assert!(!slow.judge(at(9_000), at(8_000), true), "one that took a second alone");
        assert!(slow.judge(at(9_100), at(8_100), true));
    }

    #[test]
    fn three_good_probes_in_a_row_close() {
        let mut breaker = Breaker::Open { since: at(1_000), good: 0 };
        assert!(!breaker.judge(at(1_100), at(1_000), false), "asked before");
        let mut now = at(1_000);
        for failed in [false, false, true, false, false] {
            now = now + PROBE_INTERVAL;
            assert!(!breaker.judge(now, now, failed) && breaker.is_open());
        }
        assert!(!breaker.judge(at(3_000), at(2_900), false));
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_probe_that_was_lost_before_the_first_good_one_says_nothing_of_it() {
        let mut breaker = Breaker::Open { since: at(1_000), good: 0 };
        assert!(!breaker.judge(at(1_520), at(1_500), false));
        assert!(!breaker.judge(at(1_700), at(1_300), true), "given up late");
        for asked_at in [1_800, 2_100] {
            assert!(breaker.is_open());
            assert!(!breaker.judge(at(asked_at + 20), at(asked_at), false));
        }
        assert!(!breaker.is_open());
    }
}

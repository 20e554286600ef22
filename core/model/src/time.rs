//! Time as an argument: a point on one process's monotonic clock. Never compared between machines.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point on this process's monotonic clock, in nanoseconds since the process's own start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The process's start.
    pub const ZERO: Time = Time(0);

    /// `nanos` after the process's start.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// `millis` after the process's start.
    pub const fn from_millis(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    /// Nanoseconds since the process's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the process's start.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The first of these times; `None` when there is none. Machines ask after each input, so it is without branches; a time
    /// at the very end of the clock counts as none.
    pub fn first<const N: usize>(times: [Option<Time>; N]) -> Option<Time> {
        let nanos = times.map(|time| time.map_or(u64::MAX, Time::as_nanos));
        let first = nanos.into_iter().fold(u64::MAX, u64::min);
        (first != u64::MAX).then_some(Time(first))
    }

    /// The span from `earlier` to here; zero when `earlier` is later.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(nanos(span)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, span: Duration) -> Time {
        Time(self.0.saturating_sub(nanos(span)))
    }
}

/// As many nanoseconds as fit, without 128-bit arithmetic.
fn nanos(span: Duration) -> u64 {
    let whole = span.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(span.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_times_is_found_wherever_it_stands() {
        let at = |ms| Some(Time::from_millis(ms));
        assert_eq!(Time::first([at(5), None, at(3), at(4)]), at(3));
        assert_eq!(Time::first([None, at(0)]), at(0));
        assert_eq!(Time::first([None, None]), None);
        assert_eq!(Time::first([]), None);
    }

    #[test]
    fn sums_end_at_the_ends_of_the_clock() {
        let time = Time::from_millis(1_500);
        let span = Duration::new(1, 250_000_001);
        assert_eq!((time + span).as_nanos(), 2_750_000_001);
        assert_eq!((time - span).as_nanos(), 249_999_999);
        assert_eq!((time + Duration::MAX).as_nanos(), u64::MAX);
        assert_eq!(time - Duration::MAX, Time::ZERO);
    }
}

//! The process's clock: monotonic, and counting the time that the machine was suspended.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use outlast_model::Time;

use crate::thread::read_clock;

/// A monotonic clock that starts at zero where it is made; copies of it agree.
///
/// Reads `CLOCK_BOOTTIME`, which, unlike `CLOCK_MONOTONIC`, also runs while the machine sleeps: a node that slept
/// must notice that it was superseded.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Duration,
    unix_start: Duration,
    instant_zero: Instant,
}

impl Clock {
    /// Starts a clock; a process makes one and hands out copies.
    pub fn start() -> Clock {
        let start = read_clock(libc::CLOCK_BOOTTIME);
        Clock { start, unix_start: wall_clock(), instant_zero: Instant::now() }
    }

    /// The span since the clock was started.
    pub fn now(&self) -> Time {
        let nanos = read_clock(libc::CLOCK_BOOTTIME).saturating_sub(self.start).as_nanos();
        Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Unix time at [`Time::ZERO`] as the wall clock told it then: for times shown to people, never for deadlines. It
    /// stays wrong where the wall clock was wrong at the start.
    pub const fn unix_start(&self) -> Duration {
        self.unix_start
    }

    /// Unix time as the wall clock tells it now, and not extrapolated: whoever checks a token gets it right as soon as
    /// the machine's clock is, though it was wrong when the process started.
    pub fn unix_now(&self) -> Duration {
        wall_clock()
    }

    /// The `Instant` at [`Time::ZERO`], for libraries that want one.
    pub const fn instant_zero(&self) -> Instant {
        self.instant_zero
    }
}

fn wall_clock() -> Duration {
    // A wall clock before 1970 is a broken machine; tokens then fail as not yet valid, which says so.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_was_wrong_at_the_start_does_not_stay_wrong() {
        let clock = Clock { unix_start: Duration::from_secs(12), ..Clock::start() };
        let before = wall_clock();
        let now = clock.unix_now();
        assert!(now >= before && now <= wall_clock() + Duration::from_secs(60));
        assert!(now > Duration::from_secs(1_700_000_000));
    }

    #[test]
    fn time_does_not_run_backwards_and_copies_agree() {
        let clock = Clock::start();
        let copy = clock;
        let first = clock.now();
        let second = copy.now();
        assert!(second >= first);
        assert!(clock.now().since(Time::ZERO) < Duration::from_secs(3600));
        assert!(clock.unix_start() > Duration::from_secs(1_700_000_000));
    }
}

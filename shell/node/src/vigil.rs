//! Notices that a thread was not run: a stopped process, a paused machine, a starved core.

use std::time::Duration;

use outlast_model::Time;

/// When its thread was last seen running.
#[derive(Debug)]
pub(crate) struct Vigil {
    last: Time,
    pause_max: Duration,
    #[cfg(test)]
    made_up: Option<Duration>,
}

impl Vigil {
    /// Begins at `now`.
    pub(crate) fn new(now: Time, pause_max: Duration) -> Vigil {
        Vigil {
            last: now,
            pause_max,
            #[cfg(test)]
            made_up: None,
        }
    }

    /// How long the thread was not run since the last call, or the beginning, if that was longer than the longest pause.
    pub(crate) fn late(&mut self, now: Time) -> Option<Duration> {
        let pause = now.since(self.last);
        self.last = now;
        #[cfg(test)]
        let pause = self.made_up.take().unwrap_or(pause);
        (pause > self.pause_max).then_some(pause)
    }

    /// The next call finds that the thread was not run for so long.
    #[cfg(test)]
    pub(crate) fn make_up(&mut self, pause: Duration) {
        self.made_up = Some(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_pause_is_late_and_only_once() {
        let mut vigil = Vigil::new(Time::from_millis(10), Duration::from_millis(100));
        assert_eq!(vigil.late(Time::from_millis(110)), None);
        assert_eq!(vigil.late(Time::from_millis(210)), None);
        assert_eq!(vigil.late(Time::from_millis(311)), Some(Duration::from_millis(101)));
        assert_eq!(vigil.late(Time::from_millis(312)), None);
        vigil.make_up(Duration::from_secs(9));
        assert_eq!(vigil.late(Time::from_millis(313)), Some(Duration::from_secs(9)));
    }
}

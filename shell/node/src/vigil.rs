//! Notices that a thread was not run: a stopped process, a paused machine, a starved core.

use std::time::Duration;

use outlast_model::Time;

/// When its thread was last seen running.
#[derive(Debug)]
pub(crate) struct Vigil {
    last: Time,
    pause_max: Duration,
}

impl Vigil {
    /// Begins at `now`.
    pub(crate) fn new(now: Time, pause_max: Duration) -> Vigil {
        Vigil { last: now, pause_max }
    }

    /// Whether more than the longest pause has passed since the last call, or the beginning.
    pub(crate) fn late(&mut self, now: Time) -> bool {
        let pause = now.since(self.last);
        self.last = now;
        pause > self.pause_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_pause_is_late_and_only_once() {
        let mut vigil = Vigil::new(Time::from_millis(10), Duration::from_millis(100));
        assert!(!vigil.late(Time::from_millis(110)));
        assert!(!vigil.late(Time::from_millis(210)));
        assert!(vigil.late(Time::from_millis(311)));
        assert!(!vigil.late(Time::from_millis(312)));
    }
}

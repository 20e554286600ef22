//! How long somebody who fell must keep calm before it is trusted with anything new: a flapping node or region would
//! otherwise move rooms with every flap.

use std::time::Duration;

use outlast_model::Time;

/// Probation after the first fall. Shorter: a flapping link moves more rooms; longer: a fleet that has lost much works
/// longer on the rest.
pub const CALM_MIN: Duration = Duration::from_secs(30);
/// Longest probation, and the health after a probation that makes all falls forgotten.
pub const CALM_MAX: Duration = Duration::from_secs(600);

/// The falls of one node, region or ejected node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calm {
    falls: u32,
    /// Since when it stands without probation, or will; `None` while it lies, and before it first stood.
    well_since: Option<Time>,
    /// Probation's end.
    until: Option<Time>,
    fell_at: Option<Time>,
    /// It lies, and whether another fall had come shortly before.
    fallen: Option<bool>,
}

impl Calm {
    /// It fell, at `now`. Whoever never stood cannot fall.
    pub(crate) fn fall(&mut self, now: Time) {
        let Some(well_since) = self.well_since.take() else { return };
        if now.since(well_since) >= CALM_MAX {
            self.falls = 0;
        }
        self.until = None;
        let repeated = self.fell_at.is_some_and(|before| now.since(before) < CALM_MAX);
        self.fallen = Some(repeated);
        self.fell_at = Some(now);
    }

    /// It stands again. Its first fall in a long time is not held against it when it is `excused`: a process that was
    /// started anew has left its trouble behind, unless it keeps on dying.
    pub(crate) fn rise(&mut self, now: Time, excused: bool) {
        let counts = self.fallen.take().is_some_and(|repeated| repeated || !excused);
        if counts {
            self.falls = self.falls.saturating_add(1);
            self.until = Some(now + span(self.falls));
        }
        if self.well_since.is_none() {
            self.well_since = Some(self.until.unwrap_or(now));
        }
    }

    /// Whether it is on probation, as of the last [`Calm::wake`].
    pub(crate) fn is_on_probation(&self) -> bool {
        self.until.is_some()
    }

    /// When the probation ends; `None` without one.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.until
    }

    /// Looks at the clock. Returns whether a probation has just ended.
    pub(crate) fn wake(&mut self, now: Time) -> bool {
        self.until.take_if(|until| *until <= now).is_some()
    }

    /// Whether nothing is left to remember.
    pub(crate) fn is_forgotten(&self, now: Time) -> bool {
        self.well_since.is_some_and(|since| now.since(since) >= CALM_MAX)
    }
}

/// The probation after `falls` falls, from 1 on.
fn span(falls: u32) -> Duration {
    let doublings = falls.saturating_sub(1).min(16);
    CALM_MIN.saturating_mul(1 << doublings).min(CALM_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(second: u64) -> Time {
        Time::from_millis(second * 1_000)
    }

    /// Falls and rises, each so many seconds after the one before; the probation after each rise, in seconds.
    fn probations(stands_and_lies: &[(u64, u64, bool)]) -> Vec<u64> {
        let (mut calm, mut now) = (Calm::default(), second(0));
        calm.rise(now, false);
        let mut spans = Vec::new();
        for (stands, lies, excused) in stands_and_lies {
            now = now + Duration::from_secs(*stands);
            calm.wake(now);
            calm.fall(now);
            assert!(!calm.is_on_probation());
            now = now + Duration::from_secs(*lies);
            calm.rise(now, *excused);
            spans.push(calm.wake_at().map_or(0, |until| until.since(now).as_secs()));
        }
        spans
    }

    #[test]
    fn probation_doubles_to_ten_minutes_and_is_forgotten() {
        let flaps = [(5, 5, false); 7];
        assert_eq!(probations(&flaps), [30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(probations(&[(5, 5, false), (629, 5, false)]), [30, 60]);
        assert_eq!(probations(&[(5, 5, false), (630, 5, false)]), [30, 30]);
    }

    #[test]
    fn a_first_restart_is_excused_and_a_second_soon_after_is_not() {
        assert_eq!(probations(&[(5, 5, true), (100, 5, true), (100, 5, true)]), [0, 30, 60]);
        assert_eq!(probations(&[(5, 5, true), (700, 5, true)]), [0, 0]);
        assert_eq!(probations(&[(5, 5, false), (100, 5, true)]), [30, 60], "it had hung before");
    }

    #[test]
    fn who_comes_for_the_first_time_has_not_fallen() {
        let mut calm = Calm::default();
        calm.fall(second(1));
        calm.rise(second(2), false);
        assert_eq!(calm.wake_at(), None);
        calm.fall(second(3));
        calm.fall(second(4));
        calm.rise(second(5), false);
        assert_eq!(calm.wake_at(), Some(second(35)), "one fall, however often it is said");
        assert!(!calm.wake(second(34)) && calm.wake(second(35)) && !calm.wake(second(36)));
        assert!(!calm.is_forgotten(second(634)) && calm.is_forgotten(second(635)));
    }

    proptest! {
        #[test]
        fn each_fall_within_memory_weighs_no_less_than_the_one_before(
            stands in prop::collection::vec(0..600_u64, 1..20)
        ) {
            let flaps: Vec<_> = stands.into_iter().map(|stands| (stands, 1, false)).collect();
            let spans = probations(&flaps);
            prop_assert!(spans.is_sorted(), "{spans:?}");
            prop_assert!(spans.iter().all(|span| (30..=600).contains(span)));
        }
    }
}

//! Packets of one incoming stream that did not come: asked for again, paced by the round trip, and at last given up.

use std::time::Duration;

use outlast_model::Time;

/// Reordered packets get this long before they count as lost: longer saves needless requests, shorter repairs sooner.
const FIRST_AFTER: Duration = Duration::from_millis(8);
/// A retry waits for the round trip, but never less.
const RETRY_MIN: Duration = Duration::from_millis(20);
const TRIES_MAX: u8 = 10;
/// A gap wider than this is not repaired packet by packet.
const MISSING_MAX: usize = 256;

struct Gap {
    index: u64,
    due: Time,
    tries: u8,
}

/// The gap list.
#[derive(Default)]
pub(crate) struct Missing {
    /// Ascending by index.
    gaps: Vec<Gap>,
}

/// What a look at the gap list came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) asked: u64,
    pub(crate) given_up: u64,
}

impl Missing {
    /// Notes packet `index`, given the highest before it; false: the gap is too wide, repair must come otherwise.
    pub(crate) fn arrived(&mut self, now: Time, highest: Option<u64>, index: u64) -> bool {
        let Some(highest) = highest else { return true };
        if index <= highest {
            self.remove(index);
            return true;
        }
        let skipped = index - highest - 1;
        if skipped as usize > MISSING_MAX.saturating_sub(self.gaps.len()) {
            self.gaps.clear();
            return false;
        }
        let due = now + FIRST_AFTER;
        self.gaps.extend((highest + 1..index).map(|index| Gap { index, due, tries: 0 }));
        true
    }

    /// Takes `index` off the list; whether it was on it.
    pub(crate) fn remove(&mut self, index: u64) -> bool {
        let found = self.gaps.binary_search_by_key(&index, |gap| gap.index);
        if let Ok(at) = found {
            self.gaps.remove(at);
        }
        found.is_ok()
    }

    /// Appends to `ask` the sequence numbers that are due, ascending.
    pub(crate) fn due(&mut self, now: Time, round_trip: Duration, ask: &mut Vec<u16>) -> Outcome {
        let mut outcome = Outcome::default();
        let retry = round_trip.max(RETRY_MIN);
        self.gaps.retain_mut(|gap| {
            if gap.due > now {
                return true;
            }
            if gap.tries == TRIES_MAX {
                outcome.given_up += 1;
                return false;
            }
            gap.tries += 1;
            gap.due = now + retry;
            ask.push(gap.index as u16);
            outcome.asked += 1;
            true
        });
        outcome
    }

    /// When [`Missing::due`] has something to do.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.gaps.iter().map(|gap| gap.due).min()
    }

    /// Forgets every gap.
    pub(crate) fn clear(&mut self) {
        self.gaps.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(50);

    fn ask(missing: &mut Missing, now: u64) -> Vec<u16> {
        let mut out = Vec::new();
        missing.due(Time::from_millis(now), ROUND_TRIP, &mut out);
        out
    }

    #[test]
    fn a_gap_is_asked_for_until_it_is_filled() {
        let mut missing = Missing::default();
        assert!(missing.arrived(Time::ZERO, None, 65_534));
        assert!(missing.arrived(Time::ZERO, Some(65_534), 65_538));
        assert_eq!(ask(&mut missing, 1), []);
        assert_eq!(ask(&mut missing, 10), [65_535, 0, 1]);
        assert_eq!(ask(&mut missing, 40), []);
        assert!(missing.arrived(Time::from_millis(41), Some(65_538), 65_536));
        assert_eq!(ask(&mut missing, 60), [65_535, 1]);
        assert!(missing.remove(65_535));
        assert!(!missing.remove(65_535));
        assert_eq!(missing.wake_at(), Some(Time::from_millis(110)));
    }

    #[test]
    fn what_never_comes_is_given_up() {
        let mut missing = Missing::default();
        missing.arrived(Time::ZERO, Some(1), 3);
        let mut out = Vec::new();
        let mut given_up = 0;
        for tick in 0..200 {
            let now = Time::from_millis(10 * tick);
            given_up += missing.due(now, ROUND_TRIP, &mut out).given_up;
        }
        assert_eq!((out.len(), given_up), (usize::from(TRIES_MAX), 1));
        assert_eq!(missing.wake_at(), None);
    }

    #[test]
    fn a_wide_gap_is_not_listed() {
        let mut missing = Missing::default();
        assert!(!missing.arrived(Time::ZERO, Some(1), 1_000));
        assert_eq!(missing.wake_at(), None);
    }
}

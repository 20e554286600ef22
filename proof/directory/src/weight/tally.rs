//! What gateways asked, what they were told and how long it took.

use std::{collections::BTreeMap, time::Duration};

/// Counts of all gateways together.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    operations: BTreeMap<&'static str, Asked>,
    /// Claims for which a join did not wait any longer.
    pub(super) late: u64,
    /// Claims that were not sent: the engine counted as away, or too many calls were in flight.
    pub(super) shed: u64,
    /// Changes that watches told.
    pub(super) heard: u64,
}

/// Of one operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) asked: u64,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    /// Of each answer, in microseconds.
    micros: Vec<u32>,
}

impl Tally {
    pub(super) fn asked(&mut self, operation: &'static str) {
        self.operations.entry(operation).or_default().asked += 1;
    }

    /// Something that was counted as asked has its answer.
    pub(super) fn answered(
        &mut self,
        operation: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        let asked = self.operations.entry(operation).or_default();
        *asked.outcomes.entry(outcome).or_default() += 1;
        asked.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub(super) fn operations(&self) -> impl Iterator<Item = (&'static str, &Asked)> {
        self.operations.iter().map(|(operation, asked)| (*operation, asked))
    }

    pub(super) fn of(&self, operation: &str) -> u64 {
        self.operations.get(operation).map_or(0, |asked| asked.asked)
    }
}

impl Asked {
    /// The times of all answers, in milliseconds, at `permilles` of a thousand, nearest rank; `None` without an answer.
    pub(super) fn quantiles<const N: usize>(&self, permilles: [u16; N]) -> Option<[f64; N]> {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let mut found = [0.0; N];
        for (found, permille) in found.iter_mut().zip(permilles) {
            *found = f64::from(quantile(&sorted, permille)?) / 1_000.0;
        }
        Some(found)
    }
}

/// The least of `sorted` that is no less than `permille` of a thousand of them; `None` when there are none.
fn quantile(sorted: &[u32], permille: u16) -> Option<u32> {
    let rank = (sorted.len() * usize::from(permille)).div_ceil(1_000);
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let hundred: Vec<u32> = (1..=100).collect();
        for (permille, value) in [(0, 1), (10, 1), (500, 50), (505, 51), (990, 99), (1_000, 100)] {
            assert_eq!(quantile(&hundred, permille), Some(value), "{permille}");
        }
        assert_eq!(quantile(&[7], 500), Some(7));
        assert_eq!(quantile(&[], 500), None);
    }

    #[test]
    fn answers_are_counted_by_what_they_were() {
        let mut tally = Tally::default();
        for (outcome, ms) in [("ok", 3), ("ok", 1), ("unknown", 2)] {
            tally.asked("place");
            tally.answered("place", outcome, Duration::from_millis(ms));
        }
        tally.asked("end");
        let (_, place) = tally.operations().find(|(operation, _)| *operation == "place").unwrap();
        assert_eq!(place.outcomes, BTreeMap::from([("ok", 2), ("unknown", 1)]));
        assert_eq!(place.quantiles([500, 1_000]), Some([2.0, 3.0]));
        assert_eq!((tally.of("place"), tally.of("end"), tally.of("watch")), (3, 1, 0));
    }
}

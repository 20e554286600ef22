//! Statistics of one run: pure functions of what was seen.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which kind of room a join was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomKind {
    /// Somebody is in it.
    Known,
    /// Nobody has ever been in it.
    New,
    /// None: the gateway answers by itself, and nothing is asked of anybody. What the machine and its emulated network take.
    Bare,
}

/// One join, as its client saw it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// For which room.
    pub kind: RoomKind,
    /// When the request was sent, since the load began.
    pub at: Duration,
    /// From the request for the upgrade, on an open connection, to its answer.
    pub took: Duration,
    /// Its node is in the gateway's region: the others' times are the network's.
    pub near: bool,
    /// Why it failed, if it did: a refusal, an error or a time-out.
    pub failure: Option<String>,
}

/// When the fault was, since the load began.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    /// It was made.
    pub fault: Duration,
    /// It was taken back.
    pub heal: Duration,
}

impl Phases {
    /// Samples before, during and after the fault.
    pub fn split<'s>(&self, samples: &[&'s Sample]) -> [Vec<&'s Sample>; 3] {
        let within = |from: Duration, to: Duration| {
            let fits = move |sample: &&&Sample| sample.at >= from && sample.at < to;
            samples.iter().filter(fits).copied().collect()
        };
        [
            within(Duration::ZERO, self.fault),
            within(self.fault, self.heal),
            within(self.heal, Duration::MAX),
        ]
    }
}

/// Joins of one kind in one phase, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// All of them.
    pub joins: usize,
    /// Those that failed.
    pub failures: usize,
    /// Median of those that did not and went to a node of the gateway's region, as in the figures below.
    pub p50_ms: f64,
    /// 99 of a hundred were no slower.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Spread {
    /// Of `samples`.
    pub fn of(samples: &[&Sample]) -> Spread {
        let failures = samples.iter().filter(|sample| sample.failure.is_some()).count();
        Spread::new(samples.len(), failures, &near_ms(samples))
    }

    /// Of `took`, in milliseconds and ascending.
    pub(crate) fn new(joins: usize, failures: usize, took: &[f64]) -> Spread {
        let [p50_ms, p99_ms, max_ms] = [50, 99, 100].map(|percent| percentile(took, percent));
        Spread { joins, failures, p50_ms, p99_ms, max_ms }
    }
}

/// How long joins took that did not fail and whose node was in the gateway's region, in milliseconds, ascending.
pub(crate) fn near_ms(samples: &[&Sample]) -> Vec<f64> {
    let near = samples.iter().filter(|sample| sample.failure.is_none() && sample.near);
    let mut took: Vec<f64> = near.map(|sample| ms(sample.took)).collect();
    took.sort_by(f64::total_cmp);
    took
}

pub(crate) fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e5).round() / 100.0
}

/// The least of `sorted` that `percent` of them do not exceed; 0 of nothing.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// The longest stretch between two of `times` (ascending) of which some part is after `from` and before `to`: its start and
/// its end. Before the first and after the last there is nothing to be told.
pub fn longest_gap(
    times: &[Duration],
    from: Duration,
    to: Duration,
) -> Option<(Duration, Duration)> {
    let pairs = times.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(|(start, end)| *end > from && *start < to).max_by_key(|(start, end)| *end - *start)
}

/// What memory grew by from the second quarter of `sizes` to the last, in the sizes' unit: the medians' difference. The first
/// quarter is the run's beginning, when things are built up. `None` of fewer than eight.
pub fn memory_growth(sizes: &[u64]) -> Option<i64> {
    let quarter = sizes.len() / 4;
    let median = |from: usize| {
        let mut part: Vec<u64> = sizes.get(from..from + quarter)?.to_vec();
        part.sort_unstable();
        i64::try_from(*part.get(quarter / 2)?).ok()
    };
    if quarter < 2 {
        return None;
    }
    Some(median(sizes.len() - quarter)? - median(quarter)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn sample(at_ms: u64, took_ms: u64, failure: Option<&str>) -> Sample {
        let failure = failure.map(ToOwned::to_owned);
        Sample { kind: RoomKind::Known, at: at(at_ms), took: at(took_ms), near: true, failure }
    }

    #[test]
    fn joins_are_counted_in_the_phase_in_which_they_began() {
        let samples = [sample(0, 900, None), sample(10, 1, None), sample(20, 1, None)];
        let samples: Vec<&Sample> = samples.iter().collect();
        let phases = Phases { fault: at(10), heal: at(20) };
        assert_eq!(phases.split(&samples).map(|phase| phase.len()), [1, 1, 1]);
        assert_eq!(phases.split(&samples)[0][0].took, at(900));
    }

    #[test]
    fn a_failure_is_no_fast_join_and_far_is_not_slow() {
        let mut samples: Vec<Sample> = (1..=200).map(|took| sample(0, took, None)).collect();
        samples.push(sample(0, 0, Some("503")));
        samples.push(Sample { near: false, ..sample(0, 900, None) });
        let samples: Vec<&Sample> = samples.iter().collect();
        let spread = Spread::of(&samples);
        let expected =
            Spread { joins: 202, failures: 1, p50_ms: 100.0, p99_ms: 198.0, max_ms: 200.0 };
        assert_eq!(spread, expected);
        assert_eq!(Spread::of(&[]), Spread::default());
    }

    #[test]
    fn a_gap_counts_when_it_touches_the_fault() {
        let times = [0, 100, 1_000, 1_100, 1_400, 1_500].map(at);
        assert_eq!(longest_gap(&times, at(1_050), at(2_000)), Some((at(1_100), at(1_400))));
        assert_eq!(longest_gap(&times, at(150), at(1_200)), Some((at(100), at(1_000))));
        assert_eq!(longest_gap(&times, at(1_500), at(2_000)), None, "nothing came afterwards");
        assert_eq!(longest_gap(&times[..1], at(0), at(2_000)), None);
    }

    #[test]
    fn growth_is_told_apart_from_a_beginning() {
        let built_up: Vec<u64> =
            [10, 30, 50].into_iter().chain(std::iter::repeat_n(60, 9)).collect();
        assert_eq!(memory_growth(&built_up), Some(0));
        let leaking: Vec<u64> = (0..100).collect();
        assert_eq!(memory_growth(&leaking), Some(50));
        assert_eq!(memory_growth(&[1, 2, 3]), None);
    }
}

//! How long one partition is waited for, by what its claims have taken lately.

use std::{collections::VecDeque, time::Duration};

use outlast_model::Time;

use crate::CallId;

/// How long a call may take at least, and as long as nothing is known. Lower: an engine whose quorum is across an ocean, and
/// pauses for a moment, counts as away; higher: the first joins wait longer for one that is gone.
pub const DEADLINE_MIN: Duration = Duration::from_millis(400);
/// How long a call may take at most. An engine that takes longer is no use to a join, and counts as away.
pub const DEADLINE_MAX: Duration = Duration::from_secs(1);
/// Most spans that are kept, and enough for a percentile of them; the oldest go first.
const SPANS_MAX: usize = 128;
/// How long a span is kept. Shorter: an engine that becomes slow is got used to instead of being passed over; longer: one
/// that has moved far away for good is passed over until then.
const SPAN_KEPT: Duration = Duration::from_secs(300);
/// Span between two looks at them.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Most calls without an answer in time that are remembered until it comes.
const LATE_MAX: usize = 16;

/// Two and a half times the 99th percentile of what answers took, within [`DEADLINE_MIN`] and [`DEADLINE_MAX`].
///
/// Only answers in time count: one that becomes slow all at once is late, and not waited for any longer than before. Where
/// there was none in time for as long as spans are kept, late ones count, or an engine that is far away would
/// seem dead for ever.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    deadline: Duration,
    /// When an answer came, and what it took; oldest first.
    spans: VecDeque<(Time, Duration)>,
    /// Calls without an answer in time, and when they were asked; none while there are spans.
    late: VecDeque<(CallId, Time)>,
    look_at: Time,
}

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget {
            deadline: DEADLINE_MIN,
            spans: VecDeque::new(),
            late: VecDeque::new(),
            look_at: Time::ZERO,
        }
    }

    /// How long a call may take now, whenever it was asked.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A call that was asked at `asked_at` has been answered.
    pub(crate) fn answered(&mut self, now: Time, asked_at: Time) {
        let took = now.since(asked_at);
        // Later than the deadline it is this process that stood still.
        if took <= self.deadline {
            self.keep(now, took);
        }
    }

    /// `call` is not waited for any longer.
    pub(crate) fn given_up(&mut self, call: CallId, asked_at: Time) {
        if self.spans.is_empty() {
            self.late.push_back((call, asked_at));
            if self.late.len() > LATE_MAX {
                self.late.pop_front();
            }
        }
    }

    /// A call that was given up has been answered after all.
    pub(crate) fn answered_late(&mut self, now: Time, call: CallId) {
        let Some(at) = self.late.iter().position(|(late, _)| *late == call) else { return };
        let took = self.late.remove(at).map(|(_, asked_at)| now.since(asked_at));
        if let Some(took) = took.filter(|took| *took <= DEADLINE_MAX) {
            self.keep(now, took);
        }
    }

    fn keep(&mut self, now: Time, took: Duration) {
        self.late.clear();
        if self.spans.len() >= SPANS_MAX {
            self.spans.pop_front();
        }
        self.spans.push_back((now, took));
    }

    /// Sets the deadline anew, if it is time.
    pub(crate) fn look(&mut self, now: Time) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_INTERVAL;
        while self.spans.pop_front_if(|(at, _)| now.since(*at) >= SPAN_KEPT).is_some() {}
        let mut spans: Vec<_> = self.spans.iter().map(|(_, took)| *took).collect();
        spans.sort_unstable();
        // Rounded down, so that one answer alone that took long says nothing.
        let p99 = spans.get(spans.len().saturating_sub(1) * 99 / 100).copied();
        self.deadline = (p99.unwrap_or_default() * 5 / 2).clamp(DEADLINE_MIN, DEADLINE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Partition;

    const fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn call(number: u64) -> CallId {
        CallId { at: Partition(0), number }
    }

    /// The deadline after answers that took so many milliseconds, one each ten.
    fn deadline(spans: impl IntoIterator<Item = u64>) -> Duration {
        let (mut budget, mut now) = (Budget::new(), at(10_000));
        for span in spans {
            budget.look(now);
            budget.answered(now, at(now.as_millis() - span));
            now = now + ms(1_010);
        }
        budget.look(now);
        budget.deadline()
    }

    #[test]
    fn it_is_two_and_a_half_times_what_claims_take_within_its_bounds() {
        assert_eq!(deadline([]), ms(400));
        assert_eq!(deadline([102; 40]), ms(400));
        assert_eq!(deadline([205; 40]), ms(512) + Duration::from_micros(500));
        assert_eq!(deadline([390; 40]), ms(975));
        assert_eq!(deadline([300, 700, 750, 780, 800]), ms(1_000), "300 first: 700 is in time");
        // One that took long is forgiven; two are not.
        assert_eq!(deadline([[20; 50], [380; 50]].concat()), ms(950));
        assert_eq!(deadline([20, 380, 20, 20]), ms(400));
        assert_eq!(deadline((0..128).map(|n| if n == 60 { 380 } else { 20 })), ms(400));
        assert_eq!(deadline((0..128).map(|n| if n % 50 == 0 { 380 } else { 20 })), ms(950));
        // And what is over is forgotten.
        assert_eq!(deadline((0..300).map(|n| if n < 172 { 380 } else { 20 })), ms(400));
    }

    #[test]
    fn what_becomes_slow_is_late_and_does_not_raise_it() {
        let mut budget = Budget::new();
        budget.answered(at(1_000), at(900));
        budget.look(at(1_000));
        budget.given_up(call(1), at(1_000));
        budget.answered_late(at(1_700), call(1));
        budget.answered(at(6_000), at(5_000));
        budget.look(at(6_000));
        assert_eq!(budget.deadline(), DEADLINE_MIN);
    }

    #[test]
    fn what_was_far_away_from_the_beginning_or_has_been_for_long_is_waited_for() {
        let mut budget = Budget::new();
        budget.given_up(call(1), at(1_000));
        budget.given_up(call(2), at(1_000));
        budget.answered_late(at(2_100), call(2));
        budget.look(at(2_200));
        assert_eq!(budget.deadline(), DEADLINE_MIN, "so late that it is no use");
        budget.answered_late(at(1_600), call(1));
        budget.answered_late(at(1_600), call(1));
        budget.look(at(3_200));
        assert_eq!(budget.deadline(), DEADLINE_MAX);
        // It comes nearer, and then goes away for good.
        for n in 0..SPANS_MAX as u64 {
            budget.answered(at(4_000 + n), at(3_900 + n));
        }
        budget.look(at(5_000));
        assert_eq!(budget.deadline(), DEADLINE_MIN);
        let long = at(5_000) + SPAN_KEPT;
        budget.given_up(call(3), long);
        budget.answered_late(long + ms(600), call(3));
        budget.look(long + ms(600));
        assert_eq!(budget.deadline(), DEADLINE_MIN, "not before all spans have been forgotten");
        budget.given_up(call(4), long);
        budget.answered_late(long + ms(700), call(4));
        budget.look(long + ms(1_600));
        assert_eq!(budget.deadline(), DEADLINE_MAX);
    }

    #[test]
    fn few_late_calls_are_remembered_the_newest() {
        let mut budget = Budget::new();
        (0..100).for_each(|n| budget.given_up(call(n), at(n)));
        assert_eq!(budget.late.len(), LATE_MAX);
        assert_eq!(budget.late.back(), Some(&(call(99), at(99))));
    }
}

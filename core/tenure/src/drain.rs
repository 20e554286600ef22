//! Emptying the node: how many participants may be told to move, and when.

use std::time::Duration;

use outlast_model::Time;

/// Share of the deadline in which everybody is told; the rest is theirs to go.
pub const DRAIN_TELL_PERCENT: u32 = 60;
/// Span between two releases of participants: short enough that where they go sees a flow, not waves.
pub const DRAIN_STEP: Duration = Duration::from_millis(100);

/// Credit is counted in billionths of a participant: nanoseconds times participants a second.
const PARTICIPANT: u64 = 1_000_000_000;

/// One drain.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pace_per_second: u32,
    tell_by: Time,
    deadline: Time,
    stepped_at: Time,
    credit: u64,
    /// Participants that may not go yet, as far as known.
    left: u32,
    /// Participants as of the last tick.
    present: u32,
    emptied: bool,
    late: bool,
}

/// What is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// So many may go now.
    pub(crate) away: u32,
    /// The deadline has just passed with somebody left.
    pub(crate) late: bool,
}

impl Drain {
    /// Begins now, with so many participants.
    pub(crate) fn new(
        now: Time,
        pace_per_second: u32,
        deadline: Duration,
        participants: u32,
    ) -> Drain {
        Drain {
            pace_per_second,
            tell_by: now + deadline * DRAIN_TELL_PERCENT / 100,
            deadline: now + deadline,
            // One step's worth goes at once.
            stepped_at: now - DRAIN_STEP,
            credit: 0,
            left: participants,
            present: participants,
            emptied: false,
            late: false,
        }
    }

    /// So many participants are here now. Returns whether that is nobody, for the first time.
    pub(crate) fn ticked(&mut self, participants: u32) -> bool {
        (self.left, self.present) = (participants, participants);
        participants == 0 && !std::mem::replace(&mut self.emptied, true)
    }

    /// What is due now.
    pub(crate) fn wake(&mut self, now: Time) -> Due {
        let away = self.release(now);
        let late = self.is_late(now) && !std::mem::replace(&mut self.late, true);
        Due { away, late }
    }

    /// When something is due next.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        let release = (self.left > 0).then(|| self.tell_by.min(self.stepped_at + DRAIN_STEP));
        let late = (self.present > 0 && !self.late).then_some(self.deadline);
        release.into_iter().chain(late).min()
    }

    fn is_late(&self, now: Time) -> bool {
        self.present > 0 && self.deadline <= now
    }

    fn release(&mut self, now: Time) -> u32 {
        if self.left == 0 {
            // Nobody's turn is nobody's credit.
            (self.stepped_at, self.credit) = (now, 0);
            return 0;
        }
        let whole = if now >= self.tell_by {
            u64::MAX
        } else {
            let span = nanos(now.since(self.stepped_at));
            if span < nanos(DRAIN_STEP) {
                return 0;
            }
            self.credit = self.credit.saturating_add(span.saturating_mul(self.rate()));
            self.credit / PARTICIPANT
        };
        let count = u32::try_from(whole).unwrap_or(u32::MAX).min(self.left);
        self.credit = self.credit.saturating_sub(u64::from(count) * PARTICIPANT);
        self.stepped_at = now;
        self.left -= count;
        count
    }

    /// Participants a second: as asked for, or as many as it takes.
    fn rate(&self) -> u64 {
        let span = nanos(self.tell_by.since(self.stepped_at)).max(1);
        let forced = (u64::from(self.left) * PARTICIPANT).div_ceil(span);
        forced.max(self.pace_per_second.into())
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_millis(1_000);

    /// Runs a drain to its last release; what was released after how many milliseconds.
    fn releases(drain: &mut Drain, until: Time) -> Vec<(u128, u32)> {
        let mut found = Vec::new();
        let mut now = START;
        while now <= until {
            let due = drain.wake(now);
            if due.away > 0 {
                found.push((now.since(START).as_millis(), due.away));
            }
            let Some(next) = drain.wake_at() else { break };
            assert!(next > now, "it does not spin");
            now = next;
        }
        found
    }

    #[test]
    fn a_slow_pace_is_raised_until_all_are_told_in_time() {
        let deadline = Duration::from_secs(20);
        let mut drain = Drain::new(START, 10, deadline, 1_200);
        let found = releases(&mut drain, START + deadline);
        assert_eq!(found.iter().map(|(_, count)| count).sum::<u32>(), 1_200);
        let (last, _) = *found.last().unwrap();
        assert!((11_800..=12_000).contains(&last), "{last}");
        assert!(found.iter().all(|(_, count)| *count <= 11), "evenly: {found:?}");
    }

    #[test]
    fn a_fast_pace_is_kept() {
        let mut drain = Drain::new(START, 500, Duration::from_secs(60), 1_000);
        let found = releases(&mut drain, START + Duration::from_secs(5));
        assert_eq!(found.first(), Some(&(0, 50)));
        assert_eq!(found.last(), Some(&(1_900, 50)));
        assert_eq!(found.len(), 20);
    }

    #[test]
    fn who_comes_late_goes_at_once_and_who_stays_is_late_once() {
        let mut drain = Drain::new(START, 100, Duration::from_secs(10), 0);
        assert!(drain.ticked(0));
        assert!(!drain.ticked(0), "once");
        assert_eq!(drain.wake_at(), None);
        let after = START + Duration::from_secs(7);
        drain.ticked(3);
        assert_eq!(drain.wake(after), Due { away: 3, late: false });
        assert_eq!(drain.wake_at(), Some(START + Duration::from_secs(10)));
        let end = START + Duration::from_secs(10);
        assert_eq!(drain.wake(end), Due { away: 0, late: true });
        assert_eq!(drain.wake(end), Due::default());
        assert_eq!(drain.wake_at(), None);
    }

    #[test]
    fn no_deadline_at_all_is_everybody_now() {
        let mut drain = Drain::new(START, 1, Duration::ZERO, 7);
        assert_eq!(drain.wake(START), Due { away: 7, late: true });
    }
}

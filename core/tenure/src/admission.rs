//! The node's own gate: how many may come in, and who first when not all may. Resumes of rooms that live here come before
//! joins of such rooms, and those before new rooms: who is talking already loses most.

use std::time::Duration;

use outlast_model::{Jitter, Time};

use crate::{Why, door::TenureConfig};

/// Joins and resumes a second in the long run, by default: a core does about a thousand handshakes, and has calls to carry.
pub const JOINS_PER_SECOND: u32 = 250;
/// Joins and resumes at once after a quiet time, by default.
pub const JOINS_BURST: u32 = 500;
/// Share of the burst that only resumes may use, by default, in thousandths.
pub const RESUME_RESERVE_PERMILLE: u16 = 200;
/// CPU use from which on no new rooms are taken, by default, in thousandths: the rooms that are here will grow.
pub const CPU_NEW_ROOMS_PERMILLE: u16 = 850;
/// CPU use from which on nobody new is taken, by default, in thousandths: past it, packets wait.
pub const CPU_JOINS_PERMILLE: u16 = 950;
/// How far CPU use must fall below the line before a full node takes new rooms again, in thousandths: without it, nodes at
/// the line would flip with every beat.
pub const FULL_CLEARS_PERMILLE: u16 = 50;
/// Over what span refused clients are spread, beyond what they have to wait at least.
pub const RETRY_SPREAD: Duration = Duration::from_secs(2);

/// Least wait of a client that a full node refused: load falls over beats, not over milliseconds.
const FULL_WAIT: Duration = Duration::from_secs(2);
/// Load at which a node carries all it can, in thousandths.
const LOAD_FULL_PERMILLE: u16 = 1_000;
/// Tokens are counted in billionths: nanoseconds times tokens a second.
const TOKEN: u64 = 1_000_000_000;

/// Who wants in, the most welcome first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Goes on in a room that lives here.
    Resume,
    /// Joins a room that lives here, or is about to.
    Join,
    /// Opens a room.
    NewRoom,
}

/// A token bucket and the node's load.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    per_second: u64,
    burst: u64,
    reserve: u64,
    tokens: u64,
    filled_at: Time,
    cpu_new_rooms_permille: u16,
    cpu_joins_permille: u16,
    cpu_permille: u16,
    full: bool,
    jitter: Jitter,
}

impl Gate {
    /// A full bucket, no load.
    pub(crate) fn new(config: &TenureConfig, now: Time) -> Gate {
        let burst = u64::from(config.joins_burst.max(1)) * TOKEN;
        Gate {
            per_second: config.joins_per_second.max(1).into(),
            burst,
            reserve: burst / 1_000 * u64::from(config.resume_reserve_permille.min(1_000)),
            tokens: burst,
            filled_at: now,
            cpu_new_rooms_permille: config.cpu_new_rooms_permille,
            cpu_joins_permille: config.cpu_joins_permille,
            cpu_permille: 0,
            full: false,
            jitter: Jitter::new(config.seed),
        }
    }

    /// The node's load by now, in thousandths.
    pub(crate) fn ticked(&mut self, load_permille: u16, cpu_permille: u16) {
        self.cpu_permille = cpu_permille;
        let margin = if self.full { FULL_CLEARS_PERMILLE } else { 0 };
        self.full = cpu_permille >= self.cpu_new_rooms_permille.saturating_sub(margin)
            || load_permille >= LOAD_FULL_PERMILLE - margin;
    }

    /// How many are let in a second, in the long run.
    pub(crate) fn per_second(&self) -> u32 {
        u32::try_from(self.per_second).unwrap_or(u32::MAX)
    }

    /// Whether new rooms are refused because of load.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Lets one in, or says why not and for how long.
    pub(crate) fn admit(&mut self, now: Time, class: Class) -> Result<(), (Why, Duration)> {
        let loaded = match class {
            Class::Resume => false,
            Class::Join => self.cpu_permille >= self.cpu_joins_permille,
            Class::NewRoom => self.full || self.cpu_permille >= self.cpu_joins_permille,
        };
        if loaded {
            return Err((Why::Full, self.full_wait()));
        }
        self.fill(now);
        let kept = match class {
            Class::Resume => 0,
            Class::Join => self.reserve,
            Class::NewRoom => self.reserve.max(self.burst / 2),
        };
        // The smallest bucket holds one token and keeps nothing back.
        let needed = (kept + TOKEN).min(self.burst);
        if self.tokens < needed {
            let wait = Duration::from_nanos((needed - self.tokens) / self.per_second);
            return Err((Why::Busy, wait + self.jitter.within(RETRY_SPREAD)));
        }
        self.tokens -= TOKEN;
        Ok(())
    }

    /// How long a client waits that was refused for load.
    pub(crate) fn full_wait(&mut self) -> Duration {
        FULL_WAIT + self.jitter.within(RETRY_SPREAD)
    }

    fn fill(&mut self, now: Time) {
        let span = u64::try_from(now.since(self.filled_at).as_nanos()).unwrap_or(u64::MAX);
        let earned = span.saturating_mul(self.per_second);
        self.tokens = self.tokens.saturating_add(earned).min(self.burst);
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use outlast_model::Epoch;

    use super::*;

    const START: Time = Time::from_millis(1_000);

    fn gate(joins_per_second: u32, joins_burst: u32) -> Gate {
        let config = TenureConfig::new("n".into(), Epoch(1), Vec::new(), 5);
        Gate::new(&TenureConfig { joins_per_second, joins_burst, ..config }, START)
    }

    fn admitted(gate: &mut Gate, now: Time, class: Class, asked: usize) -> usize {
        (0..asked).filter(|_| gate.admit(now, class).is_ok()).count()
    }

    #[test]
    fn new_rooms_stop_at_half_the_bucket_joins_at_the_reserve_and_resumes_at_its_bottom() {
        let mut gate = gate(10, 100);
        assert_eq!(admitted(&mut gate, START, Class::NewRoom, 1_000), 50);
        assert_eq!(admitted(&mut gate, START, Class::Join, 1_000), 30);
        assert_eq!(admitted(&mut gate, START, Class::Resume, 1_000), 20);
        let later = START + Duration::from_secs(1);
        assert_eq!(admitted(&mut gate, later, Class::Join, 10), 0, "the reserve fills first");
        assert_eq!(admitted(&mut gate, later, Class::Resume, 1_000), 10);
        let rested = later + Duration::from_secs(86_400 * 365);
        assert_eq!(admitted(&mut gate, rested, Class::Resume, 1_000), 100);
    }

    #[test]
    fn in_the_long_run_the_rate_holds() {
        let mut gate = gate(250, 500);
        let sum: usize = (0..10_000)
            .map(|n| admitted(&mut gate, START + Duration::from_millis(n), Class::Join, 3))
            .sum();
        assert!((2_890..=2_901).contains(&sum), "{sum}");
    }

    #[test]
    fn the_smallest_bucket_lets_everybody_in_one_at_a_time() {
        let mut gate = gate(0, 0);
        for (second, class) in [Class::NewRoom, Class::Join, Class::Resume].into_iter().enumerate()
        {
            let now = START + Duration::from_secs(second as u64);
            assert_eq!(admitted(&mut gate, now, class, 5), 1);
        }
    }

    #[test]
    fn load_shuts_new_rooms_out_first_and_resumes_never() {
        let mut gate = gate(10, 100);
        let open = |gate: &mut Gate| {
            [Class::Resume, Class::Join, Class::NewRoom]
                .map(|class| gate.admit(START, class).is_ok())
        };
        for (cpu, expected) in [
            (849, [true, true, true]),
            (850, [true, true, false]),
            (801, [true, true, false]),
            (800, [true, true, false]),
            (799, [true, true, true]),
            (950, [true, false, false]),
        ] {
            gate.ticked(0, cpu);
            assert_eq!(open(&mut gate), expected, "{cpu}");
        }
        gate.ticked(0, 0);
        assert!(!gate.is_full());
        gate.ticked(1_000, 0);
        assert!(gate.is_full());
        gate.ticked(950, 0);
        assert!(gate.is_full());
        gate.ticked(949, 0);
        assert!(!gate.is_full());
    }

    #[test]
    fn the_refused_wait_until_there_is_room_and_not_all_equally_long() {
        let mut gate = gate(10, 100);
        admitted(&mut gate, START, Class::Resume, 100);
        let waits: Vec<Duration> = (0..50)
            .map(|_| gate.admit(START, Class::Join).unwrap_err())
            .map(|(_, wait)| wait)
            .collect();
        // 21 tokens at 10 a second.
        let least = Duration::from_millis(2_100);
        assert!(waits.iter().all(|wait| (least..=least + RETRY_SPREAD).contains(wait)));
        let different: std::collections::BTreeSet<_> = waits.iter().collect();
        assert!(different.len() > 40, "{}", different.len());
    }
}

//! What all server processes have: a life, a clock of their own, and a kernel that keeps what comes while they stand still.

use std::time::Duration;

use outlast_model::Time;

use crate::{event::Event, network::Host};

/// Most events that a frozen process's sockets keep.
const HELD_MAX: usize = 2_000;

/// A process's monotonic clock: it starts somewhere, and is a little fast or slow. Its wall clock besides, which nothing
/// here may look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    since: Time,
    base: Time,
    /// Parts per million too fast.
    ppm: i64,
    /// How far the wall clock is off, in nanoseconds.
    wall_off: i64,
}

impl Clock {
    pub(crate) fn new(world: Time, base: Time, ppm: i64) -> Clock {
        Clock { since: world, base, ppm, wall_off: 0 }
    }

    /// What the process's monotonic clock says.
    pub(crate) fn local(&self, world: Time) -> Time {
        let span = world.since(self.since).as_nanos() as i64;
        Time::from_nanos(self.base.as_nanos() + (span + span / 1_000_000 * self.ppm) as u64)
    }

    /// What its wall clock says, counted from the same zero.
    #[cfg_attr(not(test), expect(dead_code, reason = "planted faults read it; nothing else may"))]
    pub(crate) fn wall(&self, world: Time) -> Time {
        let local = self.local(world).as_nanos() as i64;
        Time::from_nanos(local.saturating_add(self.wall_off).max(0) as u64)
    }

    /// The first moment at which the monotonic clock says `local` or more.
    pub(crate) fn world(&self, local: Time) -> Time {
        let span = local.as_nanos().saturating_sub(self.base.as_nanos());
        let rate = (1_000_000 + self.ppm) as u64;
        // Runs last minutes; 64 bits do for five hours.
        let guess = match span.checked_mul(1_000_000) {
            Some(millionths) => millionths / rate,
            None => (u128::from(span) * 1_000_000 / u128::from(rate)) as u64,
        };
        let mut world = self.since + Duration::from_nanos(guess);
        loop {
            let short = local.since(self.local(world));
            if short.is_zero() {
                return world;
            }
            world = world + Duration::from_micros(1) + short;
        }
    }

    /// From now on so fast.
    pub(crate) fn set_rate(&mut self, world: Time, ppm: i64) {
        (self.base, self.since, self.ppm) = (self.local(world), world, ppm);
    }

    /// Sets the wall clock off.
    pub(crate) fn jump(&mut self, seconds: i64) {
        self.wall_off += seconds * 1_000_000_000;
    }
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// Stopped (SIGSTOP, a paused machine): its kernel goes on.
    Frozen {
        since: Time,
    },
    Dead,
}

/// A server process.
pub(crate) struct Process {
    pub(crate) host: Host,
    pub(crate) region: usize,
    pub(crate) state: State,
    /// Of its present life.
    pub(crate) started_at: Time,
    /// Starts so far; timers of an earlier life are void.
    pub(crate) life: u16,
    pub(crate) clock: Clock,
    /// The wake-up that is planned, if any.
    pub(crate) wake: Option<Time>,
    /// What the role asked for when it was planned, by its own clock as it went then.
    pub(crate) wake_asked: Option<Time>,
    pub(crate) held: Vec<Event>,
    /// It speaks the version before: the newest fields of messages are missing, both ways.
    pub(crate) old: bool,
    /// The machine is without power: no reset answers for it.
    pub(crate) off: bool,
    /// Its certificate has run out: new connections to it fail.
    pub(crate) untrusted: bool,
    /// When it stood still last.
    pub(crate) froze_at: Time,
    /// When it last went on after it was not run, whole or in part, or took nothing new.
    pub(crate) stood_until: Time,
    /// Its way to others was cut or burdened until then.
    pub(crate) parted_until: Time,
    /// Something was done to it, or to its way to others, until then.
    pub(crate) disturbed_until: Time,
}

impl Process {
    pub(crate) fn new(host: Host, region: usize, clock: Clock) -> Process {
        Process {
            host,
            region,
            state: State::Dead,
            started_at: Time::ZERO,
            life: 0,
            clock,
            wake: None,
            wake_asked: None,
            held: Vec::new(),
            old: false,
            off: false,
            untrusted: false,
            froze_at: Time::ZERO,
            stood_until: Time::ZERO,
            parted_until: Time::ZERO,
            disturbed_until: Time::ZERO,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// The kernel keeps `event` for a frozen process.
    pub(crate) fn hold(&mut self, event: Event) {
        if self.held.len() < HELD_MAX {
            self.held.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_runs_at_its_rate_and_back() {
        let start = Time::from_millis(1_000);
        let mut clock = Clock::new(start, Time::from_millis(50_000), 10_000);
        let later = start + Duration::from_secs(100);
        assert_eq!(clock.local(later), Time::from_millis(151_000));
        assert!(clock.world(Time::from_millis(151_000)).since(later) < Duration::from_micros(20));
        clock.set_rate(later, -10_000);
        assert_eq!(clock.local(later), Time::from_millis(151_000));
        let slow = clock.local(later + Duration::from_secs(100));
        assert_eq!(slow, Time::from_millis(250_000));
        for ms in [151_000, 151_001, 200_000, 250_000] {
            let local = Time::from_millis(ms);
            assert!(clock.local(clock.world(local)) >= local);
        }
        clock.jump(-3_600);
        assert_eq!(clock.local(later), Time::from_millis(151_000));
        assert_eq!(clock.wall(later), Time::ZERO);
    }
}

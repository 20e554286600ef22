//! Whether a node lives, from the beats that reach this gateway and from what TCP says. A deadline per node; no clock of
//! another machine is looked at.

use std::time::Duration;

use outlast_model::{BEAT_INTERVAL, BEATS_MISSED_MAX, Epoch, Time};

/// Silence after which a node gets no new rooms. Lower: a lost datagram sends new rooms elsewhere; higher: more joins wait
/// for a node that is already gone.
pub const SUSPECT_AFTER: Duration = BEAT_INTERVAL.saturating_mul(2);
/// Silence after which a node is down, when nothing but beats tells.
pub const DOWN_AFTER: Duration = BEAT_INTERVAL.saturating_mul(BEATS_MISSED_MAX);
/// Silence after which a node is down whose room stream, or a socket to it, was reset: two beats missed, and some jitter.
pub const UNLINKED_DOWN_AFTER: Duration = Duration::from_millis(900);
/// Silence after which a node is down whose machine refuses connections: one beat missed, and some jitter. Its process is
/// gone, and everybody in its rooms is waiting.
pub const UNREACHABLE_DOWN_AFTER: Duration = Duration::from_millis(500);
/// Beats in a row that a node which was down must send before it counts as alive again.
const RETURN_BEATS: u32 = 3;

/// What a gateway believes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Beats arrive.
    Alive,
    /// Beats are late, or a link broke: no new rooms.
    Suspect,
    /// Nothing heard for so long that its rooms move; also before the first beat.
    #[default]
    Down,
}

/// A change of mind, for logs and for those who act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: Health,
    /// Now.
    pub to: Health,
    /// How long the node had been silent.
    pub silence: Duration,
}

/// One node under watch.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    health: Health,
    epoch: Option<Epoch>,
    heard_at: Time,
    link: Link,
    beats_in_a_row: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    #[default]
    Whole,
    Lost,
    Refused,
}

impl Watch {
    /// What is believed now.
    pub fn health(&self) -> Health {
        self.health
    }

    /// The node's start that was heard last.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// A beat that a tick has passed through. Returns whether it is of a later start than the ones before: what the node
    /// hosted then is gone.
    pub fn beat(&mut self, now: Time, epoch: Epoch) -> (bool, Option<Change>) {
        let silence = now.since(self.heard_at);
        let restarted = self.epoch.is_some_and(|before| before < epoch);
        let first = self.epoch.is_none() || restarted;
        self.epoch = Some(epoch);
        self.heard_at = now;
        self.link = Link::Whole;
        self.beats_in_a_row =
            if silence < SUSPECT_AFTER && !first { self.beats_in_a_row + 1 } else { 1 };
        // A process that has just started has nothing to hide; one that was silent and goes on must show that it lasts.
        let waits = self.health == Health::Down && !first && self.beats_in_a_row < RETURN_BEATS;
        let to = if waits { Health::Down } else { Health::Alive };
        (restarted, self.turn(to, silence))
    }

    /// TCP to the node broke (reset, or ended without a word).
    pub fn link_lost(&mut self, now: Time) -> Option<Change> {
        self.link = self.link.max(Link::Lost);
        self.wake(now)
    }

    /// The node's machine refuses connections.
    pub fn refused(&mut self, now: Time) -> Option<Change> {
        self.link = Link::Refused;
        self.wake(now)
    }

    /// Looks at the clock.
    pub fn wake(&mut self, now: Time) -> Option<Change> {
        if self.health == Health::Down {
            return None;
        }
        let silence = now.since(self.heard_at);
        let to = if silence >= self.down_after() {
            Health::Down
        } else if silence >= SUSPECT_AFTER || self.link != Link::Whole {
            Health::Suspect
        } else {
            Health::Alive
        };
        self.turn(to, silence)
    }

    /// When [`Watch::wake`] next has something to say; `None` while the node is down.
    pub fn wake_at(&self) -> Option<Time> {
        match self.health {
            Health::Alive => Some(self.heard_at + SUSPECT_AFTER.min(self.down_after())),
            Health::Suspect => Some(self.heard_at + self.down_after()),
            Health::Down => None,
        }
    }

    /// This gateway itself stood still for `pause`: silence in that time says nothing about the node.
    pub fn forgive(&mut self, pause: Duration) {
        self.heard_at = self.heard_at + pause;
    }

    fn down_after(&self) -> Duration {
        match self.link {
            Link::Whole => DOWN_AFTER,
            Link::Lost => UNLINKED_DOWN_AFTER,
            Link::Refused => UNREACHABLE_DOWN_AFTER,
        }
    }

    fn turn(&mut self, to: Health, silence: Duration) -> Option<Change> {
        let from = std::mem::replace(&mut self.health, to);
        (from != to).then_some(Change { from, to, silence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT_MS: u64 = 400;

    fn alive() -> Watch {
        let mut watch = Watch::default();
        let (restarted, change) = watch.beat(Time::from_millis(1_000), Epoch(1));
        assert!(!restarted);
        assert_eq!(change.unwrap().to, Health::Alive);
        watch
    }

    /// Steps through the watch's own deadlines; when it is down.
    fn down_at(watch: &mut Watch) -> u64 {
        while let Some(at) = watch.wake_at() {
            watch.wake(at);
        }
        assert_eq!(watch.health(), Health::Down);
        watch.heard_at.as_millis()
    }

    #[test]
    fn five_missed_beats_are_down() {
        let mut watch = alive();
        assert_eq!(watch.wake_at(), Some(Time::from_millis(1_800)));
        assert_eq!(watch.wake(Time::from_millis(1_799)), None);
        assert_eq!(watch.wake(Time::from_millis(1_800)).unwrap().to, Health::Suspect);
        assert_eq!(watch.wake_at(), Some(Time::from_millis(3_000)));
        let change = watch.wake(Time::from_millis(3_000)).unwrap();
        assert_eq!((change.to, change.silence), (Health::Down, DOWN_AFTER));
        assert_eq!(watch.wake_at(), None);
    }

    #[test]
    fn a_late_beat_makes_a_suspect_alive_at_once() {
        let mut watch = alive();
        watch.wake(Time::from_millis(2_000));
        let (_, change) = watch.beat(Time::from_millis(2_100), Epoch(1));
        assert_eq!(change.unwrap().to, Health::Alive);
    }

    #[test]
    fn a_broken_link_shortens_the_wait_and_a_beat_mends_it() {
        let mut watch = alive();
        let change = watch.link_lost(Time::from_millis(1_100)).unwrap();
        assert_eq!(change.to, Health::Suspect);
        assert_eq!(watch.wake_at(), Some(Time::from_millis(1_900)));
        watch.beat(Time::from_millis(1_400), Epoch(1));
        assert_eq!(watch.health(), Health::Alive);
        assert_eq!(watch.wake(Time::from_millis(1_900)), None);
        watch.refused(Time::from_millis(2_000));
        assert_eq!(watch.health(), Health::Down, "refused, and a beat is missing");
    }

    #[test]
    fn who_was_down_returns_after_three_beats_and_who_restarted_at_once() {
        let mut watch = alive();
        down_at(&mut watch);
        for (beat, expected) in [(0, Health::Down), (1, Health::Down), (2, Health::Alive)] {
            watch.beat(Time::from_millis(20_000 + beat * BEAT_MS), Epoch(1));
            assert_eq!(watch.health(), expected);
        }
        down_at(&mut watch);
        let (restarted, _) = watch.beat(Time::from_millis(40_000), Epoch(2));
        assert!(restarted);
        assert_eq!(watch.health(), Health::Alive);
    }

    #[test]
    fn our_own_pause_is_not_the_nodes() {
        let mut watch = alive();
        watch.forgive(Duration::from_secs(30));
        assert_eq!(watch.wake(Time::from_millis(31_100)), None);
        assert_eq!(watch.health(), Health::Alive);
    }
}

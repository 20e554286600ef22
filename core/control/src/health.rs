//! Whether a node lives, from the beats that reach this gateway and from what TCP says. A deadline per node; no clock of
//! another machine is looked at.

use std::time::Duration;

use outlast_model::{BEAT_INTERVAL, BEATS_MISSED_MAX, Epoch, Time};

use crate::calm::Calm;

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
/// Oldest echo in a beat that shows that the node hears this gateway. Beats whose echo is older say that the link is cut in
/// one direction: the node is down at the first of them, since its lease runs out. Lower: a few lost datagrams, either way,
/// look like a cut (at 1 % loss, 2.4 s give a false alarm in 300 M beats, 4 years of one link, and 2.8 s in 50 times as many);
/// higher: a cut is found later. Round trips stay below two beats, so that five lost in a row are passed over.
pub const ECHO_AGE_MAX: Duration = Duration::from_millis(2_800);
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
    /// Now; the same as before when only the probation has begun or ended.
    pub to: Health,
    /// How long the node had been silent.
    pub silence: Duration,
    /// Whether it is on probation now: its rooms stay, new ones go elsewhere.
    pub probation: bool,
}

/// What TCP says of a node since its last beat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// Nothing bad.
    #[default]
    Whole,
    /// Its connections were reset, or ended without a word.
    Lost,
    /// Its machine refuses connections.
    Refused,
}

/// One node under watch.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    health: Health,
    epoch: Option<Epoch>,
    /// Since when this gateway echoes beats of `epoch` without a break of its own.
    echoing_since: Time,
    /// A mutual beat of `epoch` has come.
    proven: bool,
    /// Its last beat was not mutual.
    deaf: bool,
    heard_at: Time,
    link: Link,
    beats_in_a_row: u32,
    calm: Calm,
    /// As it was before the node fell last.
    calm_before: Calm,
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

    /// What TCP says of it: a second witness beside the silence.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Whether it takes no new rooms because it fell lately.
    pub fn is_on_probation(&self) -> bool {
        self.calm.is_on_probation()
    }

    /// Whether a beat of `epoch` that carries back the echo which this gateway stamped at `echo` proves that both
    /// directions work: the echo is young, or no echo can have come back yet. The latter is not taken from a node that was
    /// deaf: it begins anew when its lease is over, and is as deaf as before.
    pub fn is_mutual(&self, now: Time, epoch: Epoch, echo: Option<Time>) -> bool {
        let new = self.epoch.is_none_or(|before| before < epoch)
            || now.since(self.echoing_since) < ECHO_AGE_MAX;
        (new && !self.deaf) || echo.is_some_and(|stamp| now.since(stamp) < ECHO_AGE_MAX)
    }

    /// A beat that a tick has passed through. One that is not `mutual` says that the node does not hear this gateway, and
    /// that its lease runs out: it is down. Beats of an earlier start than the latest are late, and not looked at.
    pub fn beat(&mut self, now: Time, epoch: Epoch, mutual: bool) -> Option<Change> {
        if self.epoch.is_some_and(|known| epoch < known) {
            return None;
        }
        if self.epoch != Some(epoch) {
            (self.epoch, self.echoing_since, self.proven) = (Some(epoch), now, false);
        }
        self.deaf = !mutual;
        if !mutual {
            self.beats_in_a_row = 0;
            let silence = now.since(self.heard_at);
            let probation = self.calm.is_on_probation();
            let cut = self.proven && self.health != Health::Down;
            return cut.then(|| self.turn(now, Health::Down, silence, probation)).flatten();
        }
        let first = !std::mem::replace(&mut self.proven, true);
        let silence = now.since(self.heard_at);
        self.heard_at = now;
        self.link = Link::Whole;
        self.beats_in_a_row =
            if silence < SUSPECT_AFTER && !first { self.beats_in_a_row + 1 } else { 1 };
        // A process that has just started has nothing to hide; one that was silent and goes on must show that it lasts.
        let waits = self.health == Health::Down && !first && self.beats_in_a_row < RETURN_BEATS;
        let to = if waits { Health::Down } else { Health::Alive };
        let probation = self.calm.is_on_probation();
        if first && self.health != Health::Down {
            // It died, and was back before its silence told.
            self.calm.fall(now);
            self.calm.rise(now, true);
        } else if self.health == Health::Down && to == Health::Alive {
            self.calm.rise(now, first);
        }
        self.calm.wake(now);
        self.turn(now, to, silence, probation)
    }

    /// The last beat was mutual, and nobody has acted on the node's fall: there was none.
    pub fn acquit(&mut self, now: Time) -> Option<Change> {
        let heard = self.health == Health::Down && self.beats_in_a_row > 0;
        let probation = self.calm.is_on_probation();
        heard.then(|| {
            self.calm = self.calm_before.clone();
            self.calm.wake(now);
            self.turn(now, Health::Alive, Duration::ZERO, probation)
        })?
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
        let probation = self.calm.is_on_probation();
        self.calm.wake(now);
        self.turn(now, to, silence, probation)
    }

    /// When [`Watch::wake`] next has something to say; `None` while the node is down.
    pub fn wake_at(&self) -> Option<Time> {
        let silent_at = match self.health {
            Health::Alive => self.heard_at + SUSPECT_AFTER.min(self.down_after()),
            Health::Suspect => self.heard_at + self.down_after(),
            Health::Down => return None,
        };
        Some(self.calm.wake_at().map_or(silent_at, |calm_at| calm_at.min(silent_at)))
    }

    /// This gateway itself stood still for `pause` until now: silence in that time, and echoes that it did not send, say
    /// nothing about the node.
    pub fn forgive(&mut self, now: Time, pause: Duration) {
        self.heard_at = self.heard_at + pause;
        self.echoing_since = now;
    }

    fn down_after(&self) -> Duration {
        match self.link {
            Link::Whole => DOWN_AFTER,
            Link::Lost => UNLINKED_DOWN_AFTER,
            Link::Refused => UNREACHABLE_DOWN_AFTER,
        }
    }

    /// Turns to `to`; `probation` says whether it was on probation before.
    fn turn(
        &mut self,
        now: Time,
        to: Health,
        silence: Duration,
        probation: bool,
    ) -> Option<Change> {
        let from = std::mem::replace(&mut self.health, to);
        if to == Health::Down && from != to {
            self.calm_before = self.calm.clone();
            self.beats_in_a_row = 0;
            self.calm.fall(now);
        }
        let change = Change { from, to, silence, probation: self.calm.is_on_probation() };
        (from != to || probation != change.probation).then_some(change)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BEAT_MS: u64 = 400;

    fn alive() -> Watch {
        let mut watch = Watch::default();
        let change = watch.beat(Time::from_millis(1_000), Epoch(1), true);
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
        let change = watch.beat(Time::from_millis(2_100), Epoch(1), true);
        assert_eq!(change.unwrap().to, Health::Alive);
    }

    #[test]
    fn a_deaf_node_that_begins_anew_must_be_heard_to_answer() {
        let mut watch = alive();
        let at = Time::from_millis;
        assert!(
            watch.is_mutual(at(1_400), Epoch(2), None),
            "one that was fine and restarts is trusted"
        );
        assert!(!watch.is_mutual(at(4_200), Epoch(1), Some(at(1_000))));
        let change = watch.beat(at(4_200), Epoch(1), false);
        assert_eq!(change.unwrap().to, Health::Down);
        assert!(
            !watch.is_mutual(at(7_400), Epoch(2), None),
            "its lease ended, and nothing else is new"
        );
        assert_eq!(watch.beat(at(7_400), Epoch(2), false), None);
        assert!(!watch.is_mutual(at(7_800), Epoch(2), None));
        assert!(watch.is_mutual(at(7_800), Epoch(2), Some(at(7_400))));
        let change = watch.beat(at(7_800), Epoch(2), true);
        assert_eq!(change.unwrap().to, Health::Alive);
        assert!(watch.is_mutual(at(8_200), Epoch(2), None), "echoes may be late when it is new");
    }

    #[test]
    fn a_fall_that_nobody_acted_on_is_taken_back_with_the_next_beat() {
        let mut watch = alive();
        down_at(&mut watch);
        assert_eq!(watch.acquit(Time::from_millis(4_000)), None, "nothing was heard");
        watch.beat(Time::from_millis(4_100), Epoch(1), false);
        assert_eq!(watch.acquit(Time::from_millis(4_100)), None, "it does not hear us");
        watch.beat(Time::from_millis(4_500), Epoch(1), true);
        assert_eq!(watch.health(), Health::Down);
        let change = watch.acquit(Time::from_millis(4_500)).unwrap();
        assert_eq!((change.to, change.probation), (Health::Alive, false));
        assert_eq!(watch.wake_at(), Some(Time::from_millis(5_300)));
        assert_eq!(watch.acquit(Time::from_millis(4_500)), None, "it is not down");
    }

    #[test]
    fn a_broken_link_shortens_the_wait_and_a_beat_mends_it() {
        let mut watch = alive();
        let change = watch.link_lost(Time::from_millis(1_100)).unwrap();
        assert_eq!(change.to, Health::Suspect);
        assert_eq!(watch.wake_at(), Some(Time::from_millis(1_900)));
        watch.beat(Time::from_millis(1_400), Epoch(1), true);
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
            watch.beat(Time::from_millis(20_000 + beat * BEAT_MS), Epoch(1), true);
            assert_eq!(watch.health(), expected);
        }
        down_at(&mut watch);
        watch.beat(Time::from_millis(40_000), Epoch(2), true);
        assert_eq!(watch.epoch(), Some(Epoch(2)));
        assert_eq!(watch.health(), Health::Alive);
    }

    #[test]
    fn our_own_pause_is_not_the_nodes() {
        let mut watch = alive();
        watch.forgive(Time::from_millis(31_000), Duration::from_secs(30));
        assert_eq!(watch.wake(Time::from_millis(31_100)), None);
        let stamp = Some(Time::from_millis(900));
        assert!(watch.is_mutual(Time::from_millis(31_100), Epoch(1), stamp), "no echo was sent");
        assert_eq!(watch.health(), Health::Alive);
    }

    /// Beats every 400 ms; the last carries it to `until`.
    fn beats(watch: &mut Watch, from: u64, until: u64, epoch: u64) {
        for at in (from..=until).step_by(BEAT_MS as usize) {
            watch.wake(Time::from_millis(at));
            watch.beat(Time::from_millis(at), Epoch(epoch), true);
        }
    }

    #[test]
    fn a_beat_that_is_not_mutual_is_the_end_of_the_link() {
        let mut watch = alive();
        let change = watch.beat(Time::from_millis(1_400), Epoch(1), false);
        assert_eq!(change.unwrap().to, Health::Down);
        for at in (1_800..10_000).step_by(BEAT_MS as usize) {
            assert_eq!(watch.beat(Time::from_millis(at), Epoch(1), false), None);
        }
        // It hears us again: three beats as ever. A restart is news even if it does not hear us.
        beats(&mut watch, 20_000, 20_400, 1);
        assert_eq!(watch.health(), Health::Down);
        beats(&mut watch, 20_800, 20_800, 1);
        assert_eq!(watch.health(), Health::Alive);
        // One that has never been proved is left to its silence.
        assert_eq!(watch.beat(Time::from_millis(21_000), Epoch(2), false), None);
        assert_eq!(watch.wake_at(), Some(Time::from_millis(21_600)));
        watch.beat(Time::from_millis(21_200), Epoch(2), true);
        assert_eq!(watch.beat(Time::from_millis(21_300), Epoch(1), true), None, "late");
        assert_eq!(watch.epoch(), Some(Epoch(2)));
    }

    #[test]
    fn both_ends_of_a_link_that_is_cut_in_one_direction_agree_within_three_seconds() {
        // Beats arrive, and this gateway's echoes do not from 10 s on; the last was stamped 200 ms before.
        let mut watch = alive();
        for at in (1_400..9_900).step_by(BEAT_MS as usize) {
            watch.beat(Time::from_millis(at), Epoch(1), true);
        }
        let stamp = Time::from_millis(9_800);
        let down_at = (9_800..20_000).step_by(100).find(|at| {
            let now = Time::from_millis(*at);
            watch.wake(now);
            if (at - 9_800) % BEAT_MS == 0 {
                let mutual = watch.is_mutual(now, Epoch(1), Some(stamp));
                watch.beat(now, Epoch(1), mutual);
            }
            watch.health() == Health::Down
        });
        assert!(down_at.unwrap() <= 13_000, "{down_at:?}");
    }

    #[test]
    fn an_echo_must_be_young_unless_either_end_is() {
        let now = Time::from_millis(1_000);
        let mut watch = Watch::default();
        assert!(watch.is_mutual(now, Epoch(1), None), "nothing heard before");
        watch.beat(now, Epoch(1), true);
        let (soon, later) = (now + ECHO_AGE_MAX / 2, now + ECHO_AGE_MAX);
        assert!(watch.is_mutual(soon, Epoch(1), None), "no echo can have come");
        assert!(!watch.is_mutual(later, Epoch(1), None));
        assert!(!watch.is_mutual(later, Epoch(1), Some(now)));
        assert!(watch.is_mutual(later, Epoch(1), Some(soon)));
        assert!(watch.is_mutual(later, Epoch(2), None), "started anew");
    }

    #[test]
    fn who_fell_is_on_probation_longer_each_time() {
        let mut watch = alive();
        let mut now = 1_000;
        for seconds in [30, 60, 120] {
            down_at(&mut watch);
            assert!(!watch.is_on_probation());
            now += 10_000;
            beats(&mut watch, now, now + 2 * BEAT_MS, 1);
            now += 2 * BEAT_MS;
            assert!(watch.is_on_probation() && watch.health() == Health::Alive);
            let end = now + seconds * 1_000;
            beats(&mut watch, now, end - 1, 1);
            assert!(watch.is_on_probation());
            let change = watch.wake(Time::from_millis(end)).unwrap();
            assert_eq!((change.from, change.to), (Health::Alive, Health::Alive));
            assert!(!change.probation);
            now = end;
        }
    }

    #[test]
    fn a_restart_is_excused_once() {
        let mut watch = alive();
        beats(&mut watch, 1_400, 5_000, 1);
        // Back before its silence told.
        assert_eq!(watch.beat(Time::from_millis(5_400), Epoch(2), true), None);
        assert!(!watch.is_on_probation());
        down_at(&mut watch);
        let change = watch.beat(Time::from_millis(20_000), Epoch(3), true);
        let change = change.unwrap();
        assert_eq!((change.to, change.probation), (Health::Alive, true), "twice in ten minutes");
        let change = watch.wake(Time::from_millis(21_000)).unwrap();
        assert_eq!((change.to, change.probation), (Health::Suspect, true));
    }

    proptest! {
        #[test]
        fn stepping_by_wake_at_misses_nothing(
            events in prop::collection::vec((0..5_u8, 0..1_500_u64), 1..80)
        ) {
            // One watch is woken when it asks to be, its twin every 20 ms.
            let (mut lazy, mut eager) = (Watch::default(), Watch::default());
            let mut now = Time::from_millis(1_000);
            for (what, wait) in events {
                let at = now + Duration::from_millis(wait - wait % 20);
                let mut due = now;
                while let Some(next) = lazy.wake_at().map(|next| next.max(due)) && next <= at {
                    lazy.wake(next);
                    due = next;
                    if lazy.wake_at().is_some_and(|again| again <= next) {
                        prop_assert!(false, "asks for the same time again");
                    }
                }
                while now < at {
                    now = now + Duration::from_millis(20);
                    eager.wake(now);
                }
                for watch in [&mut lazy, &mut eager] {
                    match what {
                        0 => { watch.beat(now, Epoch(1), true); }
                        1 => { watch.beat(now, Epoch(1), false); }
                        2 => { watch.beat(now, Epoch(2), true); }
                        3 => { watch.link_lost(now); }
                        _ => { watch.refused(now); }
                    }
                }
                prop_assert_eq!(lazy.health(), eager.health());
                prop_assert_eq!(lazy.is_on_probation(), eager.is_on_probation());
                prop_assert_eq!(lazy.wake_at(), eager.wake_at());
            }
        }
    }
}

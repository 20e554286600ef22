//! The node's one lease: it may serve as long as some gateway lately proved to have heard it. Counted by the node's own
//! clock from its own sending: what a gateway heard was sent no later than that, so whoever gives the node up for silence
//! does so after the lease has begun to run.

use std::time::Duration;

use outlast_model::Time;

/// How long a node may serve after a beat that a gateway has echoed, by default. Shorter: lost echoes cost calls that were
/// fine; longer: a node that is cut off serves rooms that have moved.
pub const LEASE: Duration = Duration::from_secs(6);

/// Rounds of beats whose time of sending is kept; an echo of an earlier one comes too late to be of use.
const ROUNDS_KEPT: u64 = 32;

/// The lease, and when the beats that may renew it were sent.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    /// `None`: it never runs out.
    span: Option<Duration>,
    right: Right,
    /// The last round; 0 before the first.
    round: u64,
    sent: [Time; ROUNDS_KEPT as usize],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Never echoed, and nothing served: nobody can have counted on this node.
    Young,
    Until(Time),
    /// It ran out, or was given up; an echo begins a new one.
    Lapsed,
}

impl Lease {
    /// A young node's; with no `span` it never runs out.
    pub(crate) fn new(span: Option<Duration>) -> Lease {
        Lease { span, right: Right::Young, round: 0, sent: [Time::ZERO; ROUNDS_KEPT as usize] }
    }

    /// A round of beats is sent now. Returns its number, 1 for the first.
    pub(crate) fn sent(&mut self, now: Time) -> u64 {
        self.round += 1;
        self.sent[(self.round % ROUNDS_KEPT) as usize] = now;
        self.round
    }

    /// Some gateway has heard a beat of `round`. Returns the lease's end if that has moved it.
    pub(crate) fn echoed(&mut self, now: Time, round: u64) -> Option<Time> {
        if round == 0 || round > self.round || self.round - round >= ROUNDS_KEPT {
            return None;
        }
        let until = self.sent[(round % ROUNDS_KEPT) as usize] + self.span?;
        let moves = match self.right {
            Right::Young | Right::Lapsed => until > now,
            Right::Until(before) => until > before,
        };
        moves.then(|| {
            self.right = Right::Until(until);
            until
        })
    }

    /// A room is served here from now on. Returns the lease's end if one begins with that.
    pub(crate) fn serve(&mut self, now: Time) -> Option<Time> {
        if self.right != Right::Young {
            return None;
        }
        let until = now + self.span?;
        self.right = Right::Until(until);
        Some(until)
    }

    /// Whether it has run out just now.
    pub(crate) fn expire(&mut self, now: Time) -> bool {
        let over = matches!(self.right, Right::Until(until) if until <= now);
        if over {
            self.right = Right::Lapsed;
        }
        over
    }

    /// It is given up; only an echo begins another.
    pub(crate) fn give_up(&mut self) {
        if self.span.is_some() {
            self.right = Right::Lapsed;
        }
    }

    pub(crate) fn is_lapsed(&self) -> bool {
        self.right == Right::Lapsed
    }

    /// Its end; `None` when there is none, or none any more.
    pub(crate) fn until(&self) -> Option<Time> {
        match self.right {
            Right::Until(until) => Some(until),
            Right::Young | Right::Lapsed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn it_runs_from_the_sending_of_what_was_echoed() {
        let mut lease = Lease::new(Some(LEASE));
        assert_eq!((lease.sent(at(100)), lease.sent(at(500))), (1, 2));
        assert_eq!(lease.echoed(at(700), 2), Some(at(6_500)));
        assert_eq!(lease.echoed(at(701), 1), None, "an older beat says no more");
        assert_eq!(lease.echoed(at(702), 2), None);
        assert_eq!(lease.echoed(at(703), 3), None, "not sent yet");
        assert!(!lease.expire(at(6_499)));
        assert!(lease.expire(at(6_500)));
        assert!(!lease.expire(at(6_501)), "once");
        assert!(lease.is_lapsed() && lease.until().is_none());
        // Proof from before that is worth nothing now.
        assert_eq!(lease.echoed(at(6_502), 2), None);
        lease.sent(at(6_600));
        assert_eq!(lease.echoed(at(6_700), 3), Some(at(12_600)));
    }

    #[test]
    fn a_young_node_s_begins_with_its_first_room() {
        let mut lease = Lease::new(Some(LEASE));
        assert!(!lease.expire(at(60_000)));
        assert_eq!(lease.serve(at(60_000)), Some(at(66_000)));
        assert_eq!(lease.serve(at(61_000)), None);
        assert!(lease.expire(at(66_000)));
        assert_eq!(lease.serve(at(67_000)), None, "it is not young any more");
    }

    #[test]
    fn an_echo_of_long_ago_is_not_taken_for_a_new_one() {
        let mut lease = Lease::new(Some(LEASE));
        for round in 0..=ROUNDS_KEPT {
            lease.sent(at(10_000 + round));
        }
        // Round 1 shares its place with round 33.
        assert_eq!(lease.echoed(at(10_100), 1), None);
        assert_eq!(lease.echoed(at(10_100), 2), Some(at(16_001)));
        assert_eq!(lease.echoed(at(10_100), 0), None);
    }

    #[test]
    fn without_a_span_it_never_runs_out() {
        let mut lease = Lease::new(None);
        let round = lease.sent(at(1));
        assert_eq!((lease.serve(at(1)), lease.echoed(at(2), round)), (None, None));
        lease.give_up();
        assert!(!lease.expire(at(1_000_000)) && !lease.is_lapsed());
    }
}

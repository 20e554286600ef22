//! What all connections together have seen, for operators.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::HostPort;

/// What has been seen so far.
#[derive(Default)]
pub(super) struct Board {
    /// A member has been reached.
    pub(super) up: Notify,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The last trouble.
    trouble: Option<String>,
    /// The highest term that was heard of.
    term: u64,
    /// Its leader's id; 0 for none.
    leader: u64,
    /// How often another member came to lead.
    changes: u64,
    /// The last one that did.
    led: u64,
}

impl Board {
    /// Keeps the last trouble. `words` have no secrets.
    pub(super) fn trouble(&self, at: &HostPort, words: &str) {
        self.lock().trouble = Some(format!("{at}: {words}"));
    }

    /// A member has said who leads. Those that lag behind are of an older term.
    pub(super) fn leader(&self, term: u64, leader: u64) {
        let mut seen = self.lock();
        if term < seen.term {
            return;
        }
        // Within a term the leader does not change: a member that does not know it yet says nothing.
        if leader != 0 || term > seen.term {
            seen.leader = leader;
        }
        seen.term = term;
        if leader != 0 && leader != seen.led {
            seen.changes += u64::from(seen.led != 0);
            seen.led = leader;
        }
    }

    /// The leader's id, how often it changed, and the last trouble.
    pub(super) fn seen(&self) -> (Option<u64>, u64, Option<String>) {
        let seen = self.lock();
        ((seen.leader != 0).then_some(seen.leader), seen.changes, seen.trouble.clone())
    }

    /// All that counts terms is gone: another directory stands where this one was.
    pub(super) fn forget_terms(&self) {
        self.lock().term = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_that_of_the_highest_term() {
        let board = Board::default();
        for (term, leader, seen) in [
            (2, 7, (Some(7), 0)),
            (1, 5, (Some(7), 0)),
            (2, 0, (Some(7), 0)),
            (3, 0, (None, 0)),
            (3, 7, (Some(7), 0)),
            (4, 9, (Some(9), 1)),
        ] {
            board.leader(term, leader);
            let (leader, changes, _) = board.seen();
            assert_eq!((leader, changes), seen, "{term}");
        }
    }
}

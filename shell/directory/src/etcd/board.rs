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
    /// The highest term of which a leader was heard.
    term: u64,
    /// How often another member came to lead.
    changes: u64,
    /// The last one that did; 0 for none yet.
    led: u64,
}

impl Board {
    /// Keeps the last trouble. `words` have no secrets.
    pub(super) fn trouble(&self, at: &HostPort, words: &str) {
        self.lock().trouble = Some(format!("{at}: {words}"));
    }

    /// A member has said who leads; 0 for nobody. Those that lag behind are of an older term.
    pub(super) fn leader(&self, term: u64, leader: u64) {
        let mut seen = self.lock();
        if term < seen.term || leader == 0 || leader == seen.led {
            return;
        }
        seen.changes += u64::from(seen.led != 0);
        (seen.term, seen.led) = (term, leader);
    }

    /// How often the leader changed.
    pub(super) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// The last trouble.
    pub(super) fn last_trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
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
    fn a_change_of_leader_counts_once_and_what_lags_behind_does_not() {
        let board = Board::default();
        for (term, leader, changes) in
            [(2, 7, 0), (1, 5, 0), (2, 0, 0), (3, 7, 0), (4, 9, 1), (2, 7, 1), (4, 9, 1), (5, 7, 2)]
        {
            board.leader(term, leader);
            assert_eq!(board.changes(), changes, "{term}");
        }
        board.forget_terms();
        board.leader(2, 1);
        assert_eq!(board.changes(), 3);
    }
}

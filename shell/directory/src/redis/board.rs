//! What connections have seen, for operators.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::HostPort;

/// Shortest pause between two troubles of one server in the log. Lower: errors that alternate fill it.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// The last trouble of all servers.
#[derive(Default)]
pub(super) struct Board(Mutex<Option<String>>);

impl Board {
    pub(super) fn last_trouble(&self) -> Option<String> {
        lock(&self.0).clone()
    }
}

/// What is told of one server, by all connections to it.
pub(super) struct Voice {
    at: HostPort,
    board: Arc<Board>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// It has been connected since the last trouble.
    is_up: bool,
    trouble: Option<(Instant, String)>,
    /// What is not well with it though it is used.
    warning: String,
}

impl Voice {
    pub(super) fn new(at: HostPort, board: Arc<Board>) -> Arc<Voice> {
        Arc::new(Voice { at, board, told: Mutex::default() })
    }

    pub(super) fn at(&self) -> &HostPort {
        &self.at
    }

    /// Keeps it, and logs it once for as long as it stays the same. `words` have no secrets.
    pub(super) fn trouble(&self, words: &str) {
        *lock(&self.board.0) = Some(format!("{}: {words}", self.at));
        let mut told = lock(&self.told);
        told.is_up = false;
        let is_old = told
            .trouble
            .as_ref()
            .is_some_and(|(when, last)| last == words || when.elapsed() < LOG_PAUSE);
        if !is_old {
            warn!("directory: {}: {words}", self.at);
            told.trouble = Some((Instant::now(), words.to_owned()));
        }
    }

    /// There is a connection, and `warning` says what is not well with the server, if anything. Logged once, however many
    /// there are.
    pub(super) fn connected(&self, warning: &str) {
        let mut told = lock(&self.told);
        if !told.is_up {
            info!("directory: {} is connected", self.at);
        }
        if !warning.is_empty() && told.warning != warning {
            warn!("directory: {}: {warning}", self.at);
        }
        *told = Told { is_up: true, trouble: None, warning: warning.to_owned() };
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

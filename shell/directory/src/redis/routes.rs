//! Who decides for which partition.

use std::sync::{Arc, Mutex, PoisonError};

use outlast_directory::Partition;
use tokio::sync::watch;
use tracing::info;

use super::primary::Primary;
use crate::HostPort;

/// The primaries by partition. One topology writes them.
pub(super) struct Routes {
    parts: watch::Sender<Vec<Option<Arc<Primary>>>>,
    /// Each with the last address, and how often it changed.
    history: Mutex<Vec<(Option<HostPort>, u64)>>,
}

impl Routes {
    pub(super) fn new(partitions: usize) -> Routes {
        Routes {
            parts: watch::Sender::new(vec![None; partitions]),
            history: Mutex::new(vec![(None, 0); partitions]),
        }
    }

    /// Who decides for `at`.
    pub(super) fn primary(&self, at: Partition) -> Option<Arc<Primary>> {
        self.parts.borrow().get(usize::from(at.0))?.clone()
    }

    /// How often somebody else came to decide for `at`.
    pub(super) fn changes(&self, at: Partition) -> u64 {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.get(usize::from(at.0)).map_or(0, |(_, changes)| *changes)
    }

    /// Follows the primaries.
    pub(super) fn follow(&self) -> watch::Receiver<Vec<Option<Arc<Primary>>>> {
        self.parts.subscribe()
    }

    /// From now on these decide, one a partition.
    pub(super) fn set(&self, parts: Vec<Option<Arc<Primary>>>) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, (last, changes)) in parts.iter().zip(history.iter_mut()) {
            let Some(part) = part else { continue };
            if last.as_ref() == Some(part.at()) {
                continue;
            }
            *changes += u64::from(last.is_some());
            *last = Some(part.at().clone());
        }
        drop(history);
        self.parts.send_if_modified(|before| {
            let at = |part: &Option<Arc<Primary>>| part.as_ref().map(|part| part.at().clone());
            let is_new = before.iter().map(at).ne(parts.iter().map(at));
            if is_new {
                let mut all: Vec<_> =
                    parts.iter().filter_map(at).map(|at| at.to_string()).collect();
                all.dedup();
                info!("directory: decided by {}", all.join(", "));
            }
            *before = parts;
            is_new
        });
    }
}

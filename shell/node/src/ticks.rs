//! Which number every shard has passed: a beat says that the whole node lives, so it waits for the slowest shard.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The last number that each shard passed. One task waits; shards' threads pass.
#[derive(Debug)]
pub(crate) struct Ticks {
    passed: Box<[AtomicU64]>,
    news: Notify,
}

impl Ticks {
    /// For so many shards, none of which has passed anything.
    pub(crate) fn new(shards: usize) -> Ticks {
        Ticks { passed: (0..shards).map(|_| AtomicU64::new(0)).collect(), news: Notify::new() }
    }

    /// `shard` has passed `number`, which is at least 1.
    pub(crate) fn pass(&self, shard: usize, number: u64) {
        if let Some(passed) = self.passed.get(shard) {
            passed.fetch_max(number, Ordering::AcqRel);
            self.news.notify_one();
        }
    }

    /// Whether every shard has passed `number`.
    pub(crate) fn all(&self, number: u64) -> bool {
        self.passed.iter().all(|passed| passed.load(Ordering::Acquire) >= number)
    }

    /// Waits until every shard has passed `number`.
    pub(crate) async fn wait(&self, number: u64) {
        while !self.all(number) {
            self.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use super::*;

    #[tokio::test]
    async fn a_number_has_passed_when_every_shard_passed_it() {
        let ticks = Ticks::new(3);
        let mut wait = pin!(ticks.wait(2));
        let mut ready = async || {
            std::future::poll_fn(|context| Poll::Ready(wait.as_mut().poll(context).is_ready()))
                .await
        };
        ticks.pass(0, 2);
        ticks.pass(2, 3);
        ticks.pass(1, 1);
        assert!(!ready().await);
        ticks.pass(1, 2);
        assert!(ready().await);
        assert!(!ticks.all(3));
    }
}

//! Which number every shard has passed, and the question that shards answer by passing one: a beat says that the whole
//! node lives, so it waits for the slowest shard.

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

/// A number that every shard is asked to pass. It stands beside the shards' queues, so that a shard with much to do
/// still sees it in its next turn.
#[derive(Debug)]
pub(crate) struct RollCall {
    asked: AtomicU64,
    /// The last number to which some shard owes no answer any more.
    void: AtomicU64,
    answers: Ticks,
}

impl RollCall {
    /// Of so many shards, none of which has been asked.
    pub(crate) fn new(shards: usize) -> RollCall {
        RollCall { asked: AtomicU64::new(0), void: AtomicU64::new(0), answers: Ticks::new(shards) }
    }

    /// Asks all shards to pass `number`, higher than any before; their bells have to be rung too.
    pub(crate) fn ask(&self, number: u64) {
        self.asked.fetch_max(number, Ordering::AcqRel);
    }

    /// The number asked for last; 0 when there was none.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// `shard` has come so far.
    pub(crate) fn answer(&self, shard: usize, number: u64) {
        self.answers.pass(shard, number);
    }

    /// A shard has lost its past, and this number with it: it takes a later one to prove that it lives. Returns the
    /// number.
    pub(crate) fn void(&self) -> u64 {
        let asked = self.asked();
        self.void.fetch_max(asked, Ordering::AcqRel);
        asked
    }

    /// Whether nobody need wait for `number`.
    pub(crate) fn is_void(&self, number: u64) -> bool {
        self.void.load(Ordering::Acquire) >= number
    }

    /// Whether every shard has answered `number`.
    #[cfg(test)]
    pub(crate) fn all(&self, number: u64) -> bool {
        self.answers.all(number)
    }

    /// Waits until every shard has answered `number`.
    pub(crate) async fn wait(&self, number: u64) {
        self.answers.wait(number).await;
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

    #[test]
    fn a_voided_number_is_not_waited_for_and_the_next_one_is() {
        let call = RollCall::new(1);
        call.ask(1);
        assert!(!call.is_void(1));
        assert_eq!(call.void(), 1);
        assert!(call.is_void(1) && !call.all(1));
        call.ask(2);
        assert_eq!((call.asked(), call.is_void(2)), (2, false));
        call.answer(0, 2);
        assert!(call.all(2));
    }
}

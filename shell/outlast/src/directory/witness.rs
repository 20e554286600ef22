//! Somebody who claims rooms all the while that another server begins to decide, and looks afterwards whether all are there.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::Context;
use outlast_directory::{Placed, Record, Reply};
use outlast_engines::Partition;
use tokio::time::{MissedTickBehavior, interval};

use super::{arbiter::Trial, look::millis, site::Site};

/// Between two claims.
const CLAIM_INTERVAL: Duration = Duration::from_millis(50);
/// Longest that claims go on: each leaves a tombstone for some minutes.
const CLAIMS_MAX: usize = 2_000;

/// What came of it.
pub(super) struct Witness {
    acknowledged: Vec<(Trial, Record)>,
    unanswered: Vec<(Trial, Record)>,
    longest: Duration,
}

impl Witness {
    /// Claims one room after the other at `at`, before, during and for as long after `change`.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub(super) async fn of<T>(
        site: &Site,
        at: Partition,
        change: impl Future<Output = T>,
    ) -> anyhow::Result<(T, Witness)> {
        let mut witness =
            Witness { acknowledged: Vec::new(), unanswered: Vec::new(), longest: Duration::ZERO };
        let mut ticks = interval(CLAIM_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut change = std::pin::pin!(change);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                biased;
                done = &mut change => return Ok((done, witness)),
                _ = ticks.tick(), if witness.count() < CLAIMS_MAX => {}
            }
            let trial = Trial::new(at)?;
            let want = trial.record(1)?;
            // The change goes on while the answer is waited for.
            let mut answered = site.engine().ask(at, trial.place(&want));
            let (done, reply) = tokio::select! {
                done = &mut change => (Some(done), answered.await),
                reply = &mut answered => (None, reply),
            };
            match reply {
                Reply::Placed(Placed::Won(_)) => {
                    witness.longest = witness.longest.max(last.elapsed());
                    last = Instant::now();
                    witness.acknowledged.push((trial, want));
                }
                _ => witness.unanswered.push((trial, want)),
            }
            if let Some(done) = done {
                return Ok((done, witness));
            }
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.len() + self.unanswered.len()
    }

    /// How many of the acknowledged rooms somebody else can claim now, and what happened in words. Ends all of them.
    ///
    /// # Errors
    /// When the directory does not answer any more.
    pub(super) async fn verdict(self, site: &Site) -> anyhow::Result<(usize, String)> {
        let mut lost = 0;
        for (trial, record) in &self.acknowledged {
            let reply = site.insist(trial.at, &trial.place(&trial.record(1)?)).await;
            let reply = reply.context("looking whether all claims are there")?;
            lost += usize::from(reply != Reply::Placed(Placed::Held(record.clone())));
        }
        for (trial, _) in self.acknowledged.iter().chain(&self.unanswered) {
            site.insist(trial.at, &trial.end(1)).await?;
        }
        let words = format!(
            "{} claims were acknowledged meanwhile, {} were not; longest time without one {}; lost: {lost}",
            self.acknowledged.len(),
            self.unanswered.len(),
            millis(self.longest)
        );
        Ok((lost, words))
    }
}

//! Histories of many askers: the embedded directory has none that is wrong, every engine that lies about claims has.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::future::join_all;
use outlast_directory_proof::{
    Consistency, Fault, FaultKind, Kind, LOSSES_MAX, Outcome, Run,
    servers::{InProcess, Lab},
};
use outlast_engines::Engine;

use crate::liar::{Liar, Lie};

/// An engine without servers.
struct Alone(Arc<dyn Engine>);

impl Lab for Alone {
    fn address(&self, _region: usize) -> String {
        "none".to_owned()
    }
    fn connect(&self, _region: usize, _replicas: Option<u32>) -> anyhow::Result<Arc<dyn Engine>> {
        Ok(Arc::clone(&self.0))
    }
    fn servers(&self) -> usize {
        0
    }
    fn decides(&self) -> Option<usize> {
        None
    }
    fn kill(&mut self, _server: usize) -> anyhow::Result<()> {
        Ok(())
    }
    fn start(&mut self, _server: usize) -> anyhow::Result<()> {
        Ok(())
    }
    fn pause(&mut self, _server: usize) -> anyhow::Result<()> {
        Ok(())
    }
    fn resume(&mut self, _server: usize) -> anyhow::Result<()> {
        Ok(())
    }
    fn cut(&mut self, _server: usize) -> anyhow::Result<()> {
        Ok(())
    }
    fn heal(&mut self, _server: usize) -> anyhow::Result<()> {
        Ok(())
    }
    fn wipe(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    fn is_whole(&self) -> bool {
        true
    }
    fn logs(&self) -> &Path {
        Path::new("-")
    }
    fn keep_logs(&mut self) {}
}

async fn run(lab: Box<dyn Lab>, kind: FaultKind) -> Outcome {
    run_with(lab, kind, Consistency::Linearizable).await
}

async fn run_with(lab: Box<dyn Lab>, kind: FaultKind, consistency: Consistency) -> Outcome {
    let fault = Fault::draw(1, kind, 0);
    let span = Duration::from_secs(2);
    let replicas = None;
    let run = Run { seed: 1, places_per_second: 100, span, fault, consistency, replicas };
    run.go(lab).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_directory_is_linearizable_and_refilled_after_a_wipe() {
    for kind in [FaultKind::None, FaultKind::Wipe] {
        let outcome = run(Box::new(InProcess::new().unwrap()), kind).await;
        assert!(outcome.is_fine(), "{outcome:#?}");
        assert!(outcome.rooms > 100 && outcome.findings.operations > 1_000, "{outcome:#?}");
        assert_eq!((outcome.unknown, outcome.unavailable, outcome.findings.gave_up), (0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_engine_of_several_partitions_is_fine() {
    let outcome = run(Box::new(Alone(Arc::new(Liar::new(None)))), FaultKind::None).await;
    assert!(outcome.is_fine(), "{outcome:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lie_about_claims_is_found_in_histories() {
    let lies = [
        (Lie::ForgetsTombstones, &[Kind::NoOrder, Kind::WentBack][..]),
        (Lie::LosesAcknowledgedWrites, &[Kind::NoOrder, Kind::TwoWinners]),
        (Lie::TellsTwoWinners, &[Kind::NoOrder, Kind::TwoWinners]),
        (Lie::AppliesWhatItRefused, &[Kind::NoOrder]),
        (Lie::GoesBack, &[Kind::NoOrder]),
        (Lie::EndsWhatIsNewer, &[Kind::NoOrder]),
    ];
    let told = join_all(lies.iter().map(|(lie, _)| run(liar(*lie), FaultKind::None))).await;
    for ((lie, kinds), outcome) in lies.iter().zip(told) {
        for kind in *kinds {
            let found = outcome.findings.anomalies.iter().find(|found| found.kind == *kind);
            let found = found.unwrap_or_else(|| panic!("{lie:?}, no {kind:?}: {outcome:#?}"));
            assert!(!found.lines.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_a_failover_loses_are_counted_told_and_announced_again() {
    let may_lose = Consistency::MayLose(LOSSES_MAX);
    let told = join_all([
        run_with(liar(Lie::FailsOver), FaultKind::None, may_lose),
        run_with(liar(Lie::FailsOverSilently), FaultKind::None, may_lose),
        run_with(liar(Lie::FailsOver), FaultKind::None, Consistency::Linearizable),
    ])
    .await;
    let [open, silent, strict] = &told[..] else { panic!("three runs") };
    assert!(open.is_fine(), "{open:#?}");
    assert!(!open.findings.lost.is_empty() && open.findings.gave_up == 0, "{open:#?}");
    assert!(!silent.unnoticed.is_empty(), "{silent:#?}");
    assert!(!strict.findings.anomalies.is_empty(), "{strict:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_of_watches_are_found_by_followers() {
    let lies = [Lie::WatchDropsTheLast, Lie::WatchSkipsEnds];
    let told = join_all(lies.iter().map(|lie| run(liar(*lie), FaultKind::None))).await;
    for (lie, outcome) in lies.iter().zip(told) {
        assert!(!outcome.misbeliefs.is_empty(), "{lie:?}: {outcome:#?}");
    }
}

fn liar(lie: Lie) -> Box<dyn Lab> {
    Box::new(Alone(Arc::new(Liar::new(Some(lie)))))
}

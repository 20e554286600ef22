//! Lies that traces find.

use std::sync::Arc;

use outlast_directory_proof::{Grounds, Reads, Sweep};
use outlast_engines::Engine;

use crate::liar::{LIES, Liar, Lie};

const SWEEP: Sweep = Sweep { seeds: 0..200, lanes: 1, reads: Reads::Exact };

#[tokio::test]
async fn the_one_that_does_not_lie_passes() {
    let honest: Arc<dyn Engine> = Arc::new(Liar::new(None));
    let grounds = Grounds::new().unwrap();
    for reads in [Reads::Exact, Reads::Late] {
        let sweep = Sweep { reads, lanes: 4, ..SWEEP };
        let tally = sweep.run(&honest, &grounds, |_| {}).await.unwrap();
        assert_eq!((tally.silent, tally.late), (0, 0));
    }
}

#[tokio::test]
async fn every_lie_is_found_by_traces() {
    let grounds = Grounds::new().unwrap();
    for &lie in LIES {
        // Asking again is asking once: a request that is applied late is covered by its own repetition.
        if matches!(lie, Lie::AppliesWhatItRefused) {
            continue;
        }
        let engine: Arc<dyn Engine> = Arc::new(Liar::new(Some(lie)));
        let Err(report) = SWEEP.run(&engine, &grounds, |_| {}).await else {
            panic!("{lie:?} is not found");
        };
        let lines: Vec<_> = report.lines().collect();
        assert!(lines[0].starts_with("seed ") && lines[0].contains("shortened"), "{report}");
        assert!(lines.len() <= 14, "{lie:?} is told at length:\n{report}");
        println!("{lie:?}: {report}");
    }
}

#[tokio::test]
async fn a_lookup_from_the_past_is_late_and_no_difference_where_that_is_allowed() {
    let engine: Arc<dyn Engine> = Arc::new(Liar::new(Some(Lie::LooksBack)));
    let grounds = Grounds::new().unwrap();
    let late = Sweep { reads: Reads::Late, ..SWEEP };
    assert!(late.run(&engine, &grounds, |_| {}).await.unwrap().late > 0);
    assert!(SWEEP.run(&engine, &grounds, |_| {}).await.is_err());
}

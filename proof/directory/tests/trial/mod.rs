//! What every engine on real servers must stand.

use std::{ops::Range, time::Duration};

use outlast_directory_proof::{
    Consistency, Fault, FaultKind, Grounds, Reads, Run, Sweep, long_lists_come_whole, servers::Lab,
    summaries_run_out,
};
use outlast_engines::Partition;

/// Plays traces, and what traces cannot show.
pub(crate) async fn conforms(lab: &dyn Lab, seeds: Range<u64>) {
    let engine = lab.connect(0, None).unwrap();
    let sweep = Sweep { seeds, lanes: 4, reads: Reads::Late };
    if let Err(report) = sweep.run(&engine, &Grounds::new().unwrap(), |_| {}).await {
        panic!("{report}");
    }
    assert_eq!(long_lists_come_whole(&engine, Partition(0), 1, 7).await, Ok(()));
    assert_eq!(summaries_run_out(&engine, Partition(0), false).await, Ok(()));
}

/// Whoever decides is killed while three regions ask.
pub(crate) async fn survives(lab: Box<dyn Lab>, consistency: Consistency) {
    let (at, span) = (Duration::from_secs(1), Duration::from_secs(3));
    let fault = Fault { kind: FaultKind::Kill, server: 0, decides: true, at, span, jump: 0 };
    goes_well(lab, fault, consistency).await;
}

pub(crate) async fn goes_well(lab: Box<dyn Lab>, fault: Fault, consistency: Consistency) {
    let (span, replicas) = (fault.span, None);
    let run = Run { seed: 1, places_per_second: 50, span, fault, consistency, replicas };
    let (outcome, _) = run.go(lab).await.unwrap();
    assert!(outcome.is_fine() && outcome.findings.lost.is_empty(), "{outcome:#?}");
}

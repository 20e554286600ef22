//! Engines on real servers: traces as the table, and a history with a fault.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{ops::Range, time::Duration};

use outlast_directory_proof::{
    Consistency, Fault, FaultKind, Grounds, LOSSES_MAX, Reads, Run, Sweep, long_lists_come_whole,
    servers::{Cluster, Etcd, Lab, Network, Sentinels, Shards, Single},
    summaries_run_out,
};
use outlast_engines::Partition;
use tokio::task::spawn_blocking;

/// Plays traces, and what traces cannot show.
async fn conforms(lab: &dyn Lab, seeds: Range<u64>) {
    let engine = lab.connect(0, None).unwrap();
    let sweep = Sweep { seeds, lanes: 4, reads: Reads::Late };
    if let Err(report) = sweep.run(&engine, &Grounds::new().unwrap(), |_| {}).await {
        panic!("{report}");
    }
    assert_eq!(long_lists_come_whole(&engine, Partition(0), 1, 7).await, Ok(()));
    assert_eq!(summaries_run_out(&engine, Partition(0), false).await, Ok(()));
}

/// Whoever decides is killed while three regions ask.
async fn survives(lab: Box<dyn Lab>, consistency: Consistency) {
    let (at, span) = (Duration::from_secs(1), Duration::from_secs(3));
    let fault = Fault { kind: FaultKind::Kill, server: 0, decides: true, at, span, jump: 0 };
    goes_well(lab, fault, consistency).await;
}

async fn goes_well(lab: Box<dyn Lab>, fault: Fault, consistency: Consistency) {
    let (span, replicas) = (fault.span, None);
    let run = Run { seed: 1, places_per_second: 50, span, fault, consistency, replicas };
    let (outcome, _) = run.go(lab).await.unwrap();
    assert!(outcome.is_fine() && outcome.findings.lost.is_empty(), "{outcome:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_the_table_and_survives_its_leader() {
    let lab = spawn_blocking(|| Etcd::start(3, Network::Loopback).unwrap()).await.unwrap();
    conforms(&lab, 0..30).await;
    survives(Box::new(lab), Consistency::Linearizable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_the_table_and_survives_its_end() {
    let lab = spawn_blocking(|| Single::start(Network::Loopback).unwrap()).await.unwrap();
    conforms(&lab, 0..30).await;
    survives(Box::new(lab), Consistency::Linearizable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_sentinels_is_the_table_and_survives_its_primary() {
    let lab = spawn_blocking(|| Sentinels::start(Network::Loopback).unwrap()).await.unwrap();
    conforms(&lab, 0..30).await;
    survives(Box::new(lab), Consistency::MayLose(LOSSES_MAX)).await;
}

/// Ahead by two hours: everything that Redis keeps for a time is over at once, and its Sentinel does not trust itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_clock_jumps_tells_nothing_else() {
    let lab = spawn_blocking(|| Sentinels::start(Network::Clocks).unwrap()).await.unwrap();
    let (at, span) = (Duration::from_secs(1), Duration::from_secs(2));
    let kind = FaultKind::Clock;
    let fault = Fault { kind, server: 0, decides: true, at, span, jump: 7_200 };
    goes_well(Box::new(lab), fault, Consistency::MayLose(LOSSES_MAX)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_that_do_not_know_of_each_other_are_the_table_and_one_may_end() {
    let lab = spawn_blocking(|| Shards::start(&Network::Loopback).unwrap()).await.unwrap();
    conforms(&lab, 0..10).await;
    survives(Box::new(lab), Consistency::Linearizable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_is_the_table_and_survives_a_primary() {
    let lab = spawn_blocking(|| Cluster::start(Network::Loopback).unwrap()).await.unwrap();
    conforms(&lab, 0..30).await;
    survives(Box::new(lab), Consistency::MayLose(LOSSES_MAX)).await;
}

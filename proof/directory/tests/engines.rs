//! Engines on real servers: traces as the table, and a history with a fault.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use outlast_directory_proof::{
    Consistency, Fault, FaultKind, LOSSES_MAX,
    servers::{Cluster, Etcd, Network, Sentinels, Shards, Single},
};
use tokio::task::spawn_blocking;
use trial::{conforms, goes_well, survives};

mod trial;

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

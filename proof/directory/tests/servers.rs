//! Real servers: they start, bear what is done to them, and go.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use outlast_directory_proof::servers::{
    Cluster, Etcd, Lab, Network, READY_DEADLINE, Sentinels, Single,
};

fn whole_again(lab: &dyn Lab) {
    let start = Instant::now();
    while !lab.is_whole() {
        assert!(start.elapsed() < READY_DEADLINE, "not whole again, see {}", lab.logs().display());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Kills and freezes whoever decides, and wipes everything.
fn torment(lab: &mut dyn Lab) {
    assert!(lab.is_whole());
    let first = lab.decides().unwrap_or(0);
    lab.kill(first).unwrap();
    assert!(!lab.is_whole(), "one is missing");
    lab.start(first).unwrap();
    whole_again(lab);
    let next = lab.decides().unwrap_or(0);
    lab.pause(next).unwrap();
    assert!(!lab.is_whole(), "one is frozen");
    lab.resume(next).unwrap();
    whole_again(lab);
    lab.wipe().unwrap();
    assert!(lab.is_whole());
    assert!(lab.cut(0).is_err(), "nothing can be cut on loopback");
}

#[test]
fn etcd() {
    torment(&mut Etcd::start(1, Network::Loopback).unwrap());
    torment(&mut Etcd::start(3, Network::Loopback).unwrap());
}

#[test]
fn redis_alone() {
    torment(&mut Single::start(Network::Loopback).unwrap());
}

#[test]
fn redis_with_sentinels() {
    torment(&mut Sentinels::start(Network::Loopback).unwrap());
}

#[test]
fn redis_cluster() {
    torment(&mut Cluster::start(Network::Loopback).unwrap());
}

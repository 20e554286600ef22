//! Servers in network namespaces, one a region, which can be cut off. The only test of its process: it starts the process again
//! in a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    net::{TcpStream, ToSocketAddrs},
    thread,
    time::{Duration, Instant},
};

use outlast_directory_proof::servers::{
    Cluster, Etcd, Lab, Network, READY_DEADLINE, Sentinels, enter_namespace,
};

#[test]
fn a_region_that_is_cut_off_is_silent_and_comes_back() {
    enter_namespace().unwrap();
    etcd_is_silent();
    redis_fails_over(&mut Sentinels::start(Network::Regions).unwrap());
    cluster_fails_over(&mut Cluster::start(Network::Regions).unwrap());
}

fn within(lab: &dyn Lab, what: &str, is_so: impl Fn(&dyn Lab) -> bool) {
    let start = Instant::now();
    while !is_so(lab) {
        assert!(start.elapsed() < READY_DEADLINE, "{what}: no, see {}", lab.logs().display());
        thread::sleep(Duration::from_millis(100));
    }
}

/// Sentinels in the other regions elect another primary.
fn redis_fails_over(lab: &mut dyn Lab) {
    let first = lab.decides().unwrap();
    lab.cut(first).unwrap();
    within(lab, "another primary", |lab| lab.decides().is_some_and(|now| now != first));
    lab.heal(first).unwrap();
    within(lab, "whole again", |lab| lab.is_whole());
}

/// Nothing tells from outside which node decides: it is whole again with another one.
fn cluster_fails_over(lab: &mut dyn Lab) {
    lab.cut(0).unwrap();
    assert!(!lab.is_whole());
    lab.heal(0).unwrap();
    within(lab, "whole again", |lab| lab.is_whole());
    lab.kill(1).unwrap();
    assert!(!lab.is_whole());
    lab.start(1).unwrap();
    within(lab, "whole again", |lab| lab.is_whole());
}

fn etcd_is_silent() {
    let mut lab = Etcd::start(3, Network::Regions).unwrap();
    let address = lab.address(1);
    let first = address.trim_start_matches("etcd://").split(',').next().unwrap();
    let place = first.to_socket_addrs().unwrap().next().unwrap();
    let reach = || TcpStream::connect_timeout(&place, Duration::from_millis(500));
    assert!(reach().is_ok());
    lab.cut(1).unwrap();
    let silent = reach().unwrap_err();
    assert_eq!(silent.kind(), std::io::ErrorKind::TimedOut, "neither refused nor unreachable");
    assert!(!lab.is_whole());
    assert_ne!(lab.decides(), Some(1), "it cannot say so");
    lab.heal(1).unwrap();
    within(&lab, "whole again", |lab| lab.is_whole());
    assert!(reach().is_ok());
}

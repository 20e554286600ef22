//! Servers in network namespaces, one a region, which can be cut off. The only test of its process: it starts the process again
//! in a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use outlast_directory_proof::servers::{Etcd, Lab, Network, enter_namespace};

#[test]
fn a_region_that_is_cut_off_is_silent_and_comes_back() {
    enter_namespace().unwrap();
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
    let whole = || (0..100).any(|_| lab.is_whole());
    assert!(whole(), "see {}", lab.logs().display());
    assert!(reach().is_ok());
}

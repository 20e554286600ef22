//! Nodes that may not serve any more, as real processes: one that was stopped and wakes, and one that nobody hears.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod cluster;

use cluster::{Cluster, told_to_reconnect};

#[test]
fn a_node_that_was_stopped_wakes_without_its_rooms_and_serves_again() {
    let cluster = Cluster::start();
    let mut ann = cluster.join("ann");
    let (home, other) = cluster.home();
    cluster.signal(home, "-STOP");
    assert!(told_to_reconnect(&mut ann), "by the gateway");
    let _ann = cluster.join("ann");
    cluster.until("ann is on the other node", || cluster.participants(other) == 1);
    cluster.signal(home, "-CONT");
    cluster.until("it has given up its room", || cluster.participants(home) == 0);
    assert_eq!(cluster.metric(home, "outlast_node_fences_total"), 1, "one shard, one fence");
    assert_eq!(cluster.metric(other, "outlast_node_fences_total"), 0);
    assert_eq!(cluster.participants(other), 1, "and nobody else lost anything");
}

#[test]
fn a_node_that_nobody_hears_gives_its_rooms_up_when_its_lease_runs_out() {
    let cluster = Cluster::start();
    let mut ann = cluster.join("ann");
    let (home, other) = cluster.home();
    cluster.signal("gw", "-STOP");
    cluster.until("it has given up its room", || cluster.participants(home) == 0);
    assert_eq!(cluster.metric(home, "outlast_node_fences_total"), 1);
    assert_eq!(cluster.metric(home, "outlast_node_lease_ms"), 0);
    assert_eq!(cluster.metric(other, "outlast_node_fences_total"), 0, "it had none to give up");
    cluster.signal("gw", "-CONT");
    assert!(told_to_reconnect(&mut ann));
    let _ann = cluster.join("ann");
    cluster.home();
}

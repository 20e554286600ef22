//! `outlast drain` against real processes, and what a stop is.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod cluster;

use cluster::{Cluster, told_to_reconnect};

#[test]
fn a_node_is_emptied_its_people_go_on_elsewhere_and_it_serves_again_when_asked() {
    let cluster = Cluster::start();
    let mut ann = cluster.join("ann");
    let (home, other) = cluster.home();
    let (done, told, trouble) = cluster.drain(&[home, "--wait", "--deadline", "50s"]);
    assert!(done, "{told}{trouble}");
    assert!(told.starts_with(&format!("{home}: 1 participants left, 50 s to go\n")), "{told}");
    assert!(told.ends_with(&format!("{home}: empty\n")), "{told}");
    assert!(told_to_reconnect(&mut ann));
    let mut ann = cluster.join("ann");
    cluster.until("ann is on the other node", || cluster.participants(other) == 1);
    assert_eq!(cluster.participants(home), 0);

    let (done, told, trouble) = cluster.drain(&[home, "--undo"]);
    assert!(done, "{trouble}");
    assert_eq!(told, format!("{home}: serves\n"));
    // And back, without waiting, by the region's name: where nobody is left there is nothing to wait for.
    let (done, told, trouble) = cluster.drain(&["eu", "--deadline", "1m"]);
    assert!(done, "{trouble}");
    assert!(trouble.contains("all the nodes there are"), "{trouble}");
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told_to_reconnect(&mut ann));
    assert!(cluster.drain(&["eu", "--undo"]).0);

    let (done, _, trouble) = cluster.drain(&["n3"]);
    assert!(!done && trouble.contains("no node and no region \"n3\""), "{trouble}");
}

#[test]
fn sigterm_is_a_drain_and_then_an_end() {
    let mut cluster = Cluster::start();
    let mut ann = cluster.join("ann");
    let (home, _) = cluster.home();
    cluster.signal(home, "-TERM");
    assert!(told_to_reconnect(&mut ann));
    let _ann = cluster.join("ann");
    let process = cluster.processes.iter_mut().find(|process| process.name == home).unwrap();
    let ended = process.child.as_mut().unwrap().wait().unwrap();
    assert!(ended.success(), "{}", cluster.logs());
    let (done, _, trouble) = cluster.drain(&[home]);
    assert!(!done && trouble.contains(&format!("{home} does not answer")), "{trouble}");
}

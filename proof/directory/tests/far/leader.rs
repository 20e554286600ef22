//! A leader that nobody can reach quickly, and the command that an operator's timer runs.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use outlast_directory_proof::servers::{Etcd, Lab as _, Network, REGIONS, plan};
use outlast_lab::{Lab, Shape, inside};

use crate::program;

/// Between two regions, while nothing is wrong.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// From the slow region to the others.
const SLOW: Duration = Duration::from_millis(200);
/// Longest that it may take.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn a_leader_in_a_slow_region_is_replaced_and_one_in_a_good_region_is_not() {
    let program = program();
    if !inside("leader::a_leader_in_a_slow_region_is_replaced_and_one_in_a_good_region_is_not") {
        return;
    }
    let network = Arc::new(Lab::up(&plan(1, ROUND_TRIP)).unwrap());
    // Where a gateway would be asked to run it: beside all servers.
    network
        .within("ops.desk", || {
            let etcd = Etcd::start(REGIONS, Network::Wan(Arc::clone(&network))).unwrap();
            let look = || {
                let mut command = Command::new(&program);
                command.args(["directory", "move-leader", "--auto", "--directory"]);
                let output = command.arg(etcd.address(0)).output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let trouble = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{said}{trouble}");
                said
            };
            let slow = etcd.decides().unwrap();
            let said = look();
            assert_eq!(etcd.decides(), Some(slow), "{said}");

            let way = Shape { delay: SLOW / 2, ..Shape::default() };
            for other in (0..REGIONS).filter(|other| *other != slow) {
                let host = |region: usize| format!("r{}.db", region + 1);
                network.shape(&host(slow), &host(other), way).unwrap();
            }
            // As a timer does: members tell how far they are from each other half a minute after their start.
            let began = Instant::now();
            let leads = loop {
                let said = look();
                match etcd.decides().filter(|leads| *leads != slow) {
                    Some(leads) => break leads,
                    None => assert!(began.elapsed() < DEADLINE, "{said}"),
                }
            };
            let said = look();
            assert_eq!(etcd.decides(), Some(leads), "it stays there: {said}");
        })
        .unwrap();
}

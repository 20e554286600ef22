//! A short run of the fault table.

use std::time::Duration;

use outlast_directory_proof::table::{Drill, Engine, Harm};
use outlast_lab::inside;

use crate::program;

#[test]
fn nobody_notices_that_the_leader_of_etcd_is_killed() {
    let program = program();
    if !inside("table::nobody_notices_that_the_leader_of_etcd_is_killed") {
        return;
    }
    let drill = Drill {
        program,
        engine: Engine::Etcd,
        seed: 1,
        harm: Harm::Kill,
        span: Duration::from_secs(4),
        before: Duration::from_secs(2),
        after: Duration::from_secs(3),
        rooms: 6,
        nodes: 1,
        known_per_s: 10,
        new_per_s: 5,
    };
    let report = drill.run().unwrap();
    // How long anything took is not asked: the machine may be busy.
    assert!(report.bit, "{report:#?}");
    let failed = report.known.iter().chain(&report.new).map(|spread| spread.failures);
    assert_eq!(failed.sum::<usize>(), 0, "{report:#?}");
    assert!(report.known[1].joins > 0 && report.new[1].joins > 0, "{report:#?}");
    assert!(report.rooms_looked_for >= 6 && report.rooms_missing.is_empty(), "{report:#?}");
    assert!(report.doubled.is_empty() && report.dropped.is_empty(), "{report:#?}");
}

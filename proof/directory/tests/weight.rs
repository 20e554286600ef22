//! What is weighed of real servers is plausible.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use outlast_directory_proof::{
    Report, Weight,
    servers::{Cluster, Etcd, InProcess, Lab, Network},
};
use serde_json::Value;
use tokio::task::spawn_blocking;

const CLAIMS: u32 = 20;

async fn weighed(lab: &mut dyn Lab) -> (Report, Value) {
    let (life, span) = (Duration::from_secs(2), Duration::from_secs(4));
    let weight =
        Weight { seed: 1, nodes: 30, regions: 3, claims: CLAIMS, life, standing: 300, span };
    let report = weight.weigh(lab, |_| {}).await.unwrap();
    let json = serde_json::from_str(&report.json().unwrap()).unwrap();
    (report, json)
}

/// What holds for every engine: `json` is the report's.
fn is_plausible(report: &Report, json: &Value) {
    let told = report.to_string();
    let count = |path: &str| json.pointer(path).and_then(Value::as_u64).unwrap();
    for operation in json["operations"].as_array().unwrap() {
        let answered = operation["outcomes"].as_object().unwrap().values();
        let answered: u64 = answered.map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(answered, operation["asked"].as_u64().unwrap(), "{told}");
    }
    // Rooms come evenly, in three regions.
    let wanted = f64::from(CLAIMS * 3) * json["seconds"].as_f64().unwrap();
    assert!((0.5..2.0).contains(&(report.asked("place") as f64 / wanted)), "{told}");
    for operation in ["end", "watch", "heartbeat", "instance"] {
        assert!(report.asked(operation) > 0, "{operation}: {told}");
    }
    let (alive, held) = (count("/rooms/alive"), count("/rooms/held"));
    let (perhaps, perhaps_not) = (count("/rooms/perhaps"), count("/rooms/perhaps_not"));
    assert!((alive - perhaps_not..=alive + perhaps).contains(&held), "{told}");
    assert!(alive > 300, "those that stand, and more: {told}");
    assert!(count("/rooms/ended") >= report.asked("end") / 2, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_weighed() {
    let mut lab = spawn_blocking(|| Etcd::start(3, Network::Loopback).unwrap()).await.unwrap();
    let (report, json) = weighed(&mut lab).await;
    is_plausible(&report, &json);
    let told = report.to_string();
    let servers = json["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 3);
    for server in servers {
        let figure = |path: &str| server.pointer(path).and_then(Value::as_f64).unwrap();
        for path in [
            "/cpu_percent",
            "/resident_end",
            "/with_gateways/sent_bytes",
            "/with_servers/received_bytes",
            "/stored/disk/end",
            "/stored/db/end",
        ] {
            assert!(figure(path) > 0.0, "{path}: {told}");
        }
        // Each place and each end is a revision, and nothing makes many others.
        let revisions = figure("/stored/revision/end") - figure("/stored/revision/begin");
        let changes = (report.asked("place") + report.asked("end")) as f64;
        assert!((0.5..2.0).contains(&(revisions / changes)), "{revisions} of {changes}: {told}");
        let (end, compacted) =
            (figure("/stored/db_in_use/end"), figure("/stored/db_in_use/compacted"));
        assert!(compacted < end, "history is gone: {told}");
    }
}

/// Of many partitions, over servers that replicate to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_is_weighed() {
    let mut lab = spawn_blocking(|| Cluster::start(Network::Loopback).unwrap()).await.unwrap();
    let (report, json) = weighed(&mut lab).await;
    is_plausible(&report, &json);
    let servers = json["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 6);
    for server in servers {
        let figure = |path: &str| server.pointer(path).and_then(Value::as_f64).unwrap();
        for path in ["/resident_end", "/with_servers/received_bytes", "/stored/memory/end"] {
            assert!(figure(path) > 0.0, "{path}: {report}");
        }
        let aof = ["begin", "end", "compacted"].map(|at| figure(&format!("/stored/aof/{at}")));
        assert!(aof[0] < aof[1] && aof[2] < aof[1], "{aof:?}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_directory_has_no_servers() {
    let (report, json) = weighed(&mut InProcess::apart().unwrap()).await;
    is_plausible(&report, &json);
    assert!(report.is_fine(), "{}", report.to_string());
    assert_eq!(json["servers"], Value::Array(vec![]));
}

#[tokio::test]
async fn more_nodes_than_a_summary_takes_are_refused() {
    let (life, span) = (Duration::from_secs(1), Duration::from_secs(1));
    let weight = Weight { seed: 1, nodes: 1_001, regions: 1, claims: 1, life, standing: 0, span };
    let error = weight.weigh(&mut InProcess::apart().unwrap(), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("1000 nodes a region"), "{error}");
}

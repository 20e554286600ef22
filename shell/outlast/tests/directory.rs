//! `outlast directory` on three real members of etcd: who decides is told and moved, and a wipe is noticed when it is not repaired.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../directory/tests/etcd/port.rs"]
mod port;
#[allow(
    dead_code,
    reason = "members are started as the engine's own tests start them, which do more with them"
)]
#[path = "../../directory/tests/etcd/server.rs"]
mod server;

use std::{
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use outlast_directory::{NodeSummary, PlacementId, Record, Reply, Request, RoomKey, Summary};
use outlast_engines::{Engine as _, Etcd, Partition};
use outlast_model::{Epoch, Generation};
use serde_json::Value;
use server::Cluster;
use tokio::time::sleep;

/// The flags of `deploy/etcd/etcd.service` that say nothing of names and addresses.
fn documented() -> Vec<String> {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/etcd/etcd.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let from = unit.find("--heartbeat-interval").expect("its first flag of that kind");
    let to = unit.find("\nRestart=").expect("the line after its flags");
    unit[from..to].split_whitespace().filter(|word| *word != "\\").map(str::to_owned).collect()
}

/// Runs `outlast directory WORDS` with the members of `cluster`.
fn outlast(cluster: &Cluster, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outlast"));
    command.arg("directory").args(words).arg("--directory").arg(cluster.address(0).to_string());
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let (out, trouble) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(trouble)
}

/// What it says, when it ends with `code`.
fn ends(output: Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    said(&output)
}

fn status(cluster: &Cluster, code: i32) -> Value {
    let output = outlast(cluster, &["status", "--json"]);
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The members that decide, by their places in the address.
fn leaders(status: &Value) -> Vec<usize> {
    let servers = status["directories"][0]["servers"].as_array().unwrap();
    (0..servers.len()).filter(|n| servers[*n]["role"] == "decides").collect()
}

fn claim(room: u128) -> Request {
    let want = Record {
        node: "a".into(),
        epoch: Epoch(1),
        generation: Generation(1),
        id: PlacementId(room + 1),
        provisional: false,
    };
    Request::Place { room: RoomKey(room), want }
}

/// Claims rooms 0 to `rooms` until each has been answered.
async fn fill(engine: &Etcd, rooms: u128) {
    for room in 0..rooms {
        while !matches!(engine.ask(Partition(0), claim(room)).await, Reply::Placed(_)) {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_what_gateways_say_of_their_nodes() {
    let cluster = Cluster::start(1);
    let engine = cluster.engine(0);
    let node = |id: &str, draining| NodeSummary {
        node: id.into(),
        epoch: Epoch(1),
        draining,
        load_permille: 250,
        rooms: 2,
    };
    let nodes = vec![node("eu-1", false), node("eu-2", true)];
    let summary = Summary { region: "eu".into(), nodes };
    let beat = Request::Heartbeat { summary, ttl: Duration::from_secs(60) };
    while engine.ask(Partition(0), beat.clone()).await != Reply::Done {
        sleep(Duration::from_millis(20)).await;
    }
    let told = ends(outlast(&cluster, &["status"]), 0);
    let row = |words: &[&str]| told.lines().any(|line| line.split_whitespace().eq(words.to_vec()));
    assert!(row(&["eu", "2", "1", "4", "25", "%"]), "{told}");
    let told = ends(outlast(&cluster, &["status", "--nodes"]), 0);
    assert!(told.contains("eu-2") && told.contains("draining"), "{told}");
    let json = status(&cluster, 0);
    assert_eq!(json["directories"][0]["regions"][0]["nodes"][1]["draining"], true);
}

#[test]
fn status_tells_who_decides_and_who_is_away() {
    let mut cluster = Cluster::start(3);
    let told = status(&cluster, 0);
    let directory = &told["directories"][0];
    assert_eq!(leaders(&told).len(), 1);
    assert_eq!(directory["voters"], 3);
    let servers = directory["servers"].as_array().unwrap();
    for (server, at) in servers.iter().zip(&cluster.address(0).servers) {
        assert_eq!(server["at"], at.to_string());
        assert_eq!(server["round_trips_ms"].as_array().unwrap().len(), 5);
        assert!(server["version"].as_str().unwrap().starts_with('3'));
    }
    assert_eq!(told["name"].as_str().unwrap().len(), 8);
    let away = leaders(&told)[0];
    cluster.kill(away);
    let after = status(&cluster, 3);
    assert_eq!(after["directories"][0]["servers"][away]["reached"], false);
    assert_eq!(after["name"], told["name"]);
    assert_ne!(leaders(&after), [away]);
    let human = ends(outlast(&cluster, &["status"]), 3);
    assert!(human.contains("NOT REACHED"), "{human}");
    cluster.kill((away + 1) % 3);
    let human = ends(outlast(&cluster, &["status"]), 1);
    assert!(human.contains("NOBODY DECIDES in 1 of 1"), "{human}");
}

#[test]
fn a_check_finds_what_differs_from_the_documentation_and_that_it_arbitrates() {
    let told = ends(outlast(&Cluster::start(3), &["check"]), 3);
    assert!(told.contains("ok    it arbitrates"), "{told}");
    assert!(told.contains("warn  ") && told.contains("--quota-backend-bytes 8589934592"), "{told}");
    // Members measure the way to each other in their own time.
    let flags = documented();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let cluster = Cluster::with(3, &flags, None);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let told = loop {
        let output = outlast(&cluster, &["check", "--json"]);
        if output.status.success() || std::time::Instant::now() > deadline {
            break ends(output, 0);
        }
    };
    let found: Value = serde_json::from_str(&told).unwrap();
    let found = found[0]["findings"].as_array().unwrap();
    assert!(found.iter().all(|finding| finding["level"] == "ok"), "{told}");
    let what = |words: &str| found.iter().any(|one| one["what"].as_str().unwrap().contains(words));
    assert!(what("heartbeats each 150ms, elections after 1.5s") && what("3 members"), "{told}");
}

#[test]
fn the_leader_is_moved_and_nothing_is_lost() {
    let cluster = Cluster::start(3);
    let first = leaders(&status(&cluster, 0))[0];
    let told = ends(outlast(&cluster, &["failover"]), 0);
    assert!(told.contains("lost: 0"), "{told}");
    let second = leaders(&status(&cluster, 0))[0];
    assert_ne!(second, first);
    let to = cluster.address(0).servers[first].to_string();
    let told = ends(outlast(&cluster, &["move-leader", "--to", &to, "--dry-run"]), 0);
    assert!(told.contains("would lead"), "{told}");
    assert_eq!(leaders(&status(&cluster, 0)), [second]);
    let told = ends(outlast(&cluster, &["move-leader", "--to", &to]), 0);
    assert!(told.contains(&format!("{to} leads")) && told.contains("lost: 0"), "{told}");
    assert_eq!(leaders(&status(&cluster, 0)), [first]);
    let told = ends(outlast(&cluster, &["move-leader", "--auto"]), 0);
    assert!(told.contains("Nothing is moved"), "{told}");
    let told = ends(outlast(&cluster, &["move-leader", "--to", "nowhere"]), 1);
    assert!(told.contains("names no member nowhere"), "{told}");
    ends(outlast(&cluster, &["move-leader"]), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wipe_is_proved_to_be_repaired_or_not() {
    let cluster = Cluster::start(3);
    let engine = cluster.engine(0);
    cluster.etcdctl(&["put", "another/program", "stays"]);
    let name = status(&cluster, 0)["name"].as_str().unwrap().to_owned();
    let told = ends(outlast(&cluster, &["wipe-test", "--yes-wipe", &name]), 1);
    assert!(told.contains("has no room: nothing was deleted"), "{told}");
    fill(&engine, 20).await;
    let told = ends(outlast(&cluster, &["wipe-test", "--yes-wipe", "00000000"]), 1);
    assert!(told.contains(&format!("--yes-wipe {name}")), "{told}");
    assert_eq!(status(&cluster, 0)["name"], name.as_str());
    // Nobody is there who would announce rooms.
    let told = ends(outlast(&cluster, &["wipe-test", "--yes-wipe", &name, "--within", "2"]), 1);
    assert!(told.contains("only 0 of 20 rooms are back"), "{told}");
    let second = status(&cluster, 0)["name"].as_str().unwrap().to_owned();
    assert_ne!(second, name);
    fill(&engine, 20).await;
    let stop = AtomicBool::new(false);
    let announce = async {
        while !stop.load(Ordering::Relaxed) {
            fill(&engine, 20).await;
            sleep(Duration::from_millis(50)).await;
        }
    };
    let wipe = async {
        let address = cluster.address(0).to_string();
        let words = ["directory", "wipe-test", "--yes-wipe", &second, "--directory", &address];
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_outlast"));
        let output = command.args(words).output().await.unwrap();
        stop.store(true, Ordering::Relaxed);
        output
    };
    let (output, ()) = tokio::join!(wipe, announce);
    let told = ends(output, 0);
    assert!(told.contains("Filled again: 20 of 20 rooms"), "{told}");
    assert!(cluster.etcdctl(&["get", "another/program"]).contains("stays"));
    let embedded =
        Command::new(env!("CARGO_BIN_EXE_outlast")).args(["directory", "status"]).output();
    assert!(ends(embedded.unwrap(), 1).contains("the directory is embedded"));
}

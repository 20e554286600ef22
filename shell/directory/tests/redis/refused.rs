//! Servers that must not decide, or are not what the address says.

use outlast_directory::{Failure, Reply};
use outlast_engines::{Engine as _, Partition, Redis, RedisSettings};

use crate::{
    desk::{ask, place, record, until},
    port::free_port,
    server::{Server, connect},
};

async fn is_refused(engine: &Redis, words: &str) {
    let told = || engine.state(Partition(0)).trouble.unwrap_or_default();
    until(words, async || told().contains(words)).await;
    let reply = ask(engine, place(1, &record("a", 1, 1))).await;
    assert_eq!(reply, Reply::Failed(Failure::Unavailable));
    assert_eq!(engine.state(Partition(0)).decides, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_kind_is_told_in_words() {
    let (port, bus) = (free_port(), free_port());
    let (port_word, bus_word) = (port.to_string(), bus.to_string());
    let settings = ["--port", &port_word, "--cluster-enabled", "yes", "--cluster-port", &bus_word];
    let node = Server::at(port, &settings, &[]);
    is_refused(&node.engine(), "write redis+cluster://").await;
    let alone = Server::start(&[]);
    let address = format!("redis+cluster://{}", alone.place());
    is_refused(&connect(&address, RedisSettings::default()), "no node of a cluster").await;
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", alone.port)]);
    is_refused(&replica.engine(), "it is a replica of 127.0.0.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_by_which_a_loss_would_not_be_noticed_is_refused() {
    let evicting = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let server = Server::start(&evicting);
    is_refused(&server.engine(), "Set noeviction").await;
    let rights = "--user default on nopass ~* &* +@all -eval";
    let rights: Vec<_> = rights.split_whitespace().collect();
    let server = Server::start(&rights);
    is_refused(&server.engine(), "scripts may not read INFO").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_made_a_replica_is_used_no_longer() {
    let (server, other) = (Server::start(&[]), Server::start(&[]));
    let engine = server.engine();
    until("it is used", async || engine.state(Partition(0)).decides.is_some()).await;
    server.ask(&format!("REPLICAOF 127.0.0.1 {}", other.port));
    is_refused(&engine, "it is a replica of 127.0.0.1").await;
    server.ask("REPLICAOF NO ONE");
    until("it is used again", async || engine.state(Partition(0)).decides.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_evict_rooms_is_warned_of_and_used() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let engine = server.engine();
    let told = || engine.state(Partition(0)).trouble.unwrap_or_default();
    until("it is warned of", async || told().contains("allkeys-lru")).await;
    until("it is used", async || engine.state(Partition(0)).decides.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_without_its_replica_is_unknown_and_wins_when_there_is_one() {
    let primary = Server::start(&[]);
    let settings = RedisSettings { replicas: Some(1), ..RedisSettings::default() };
    let engine = primary.engine_with(settings);
    until("it is used", async || engine.state(Partition(0)).decides.is_some()).await;
    let want = record("a", 1, 1);
    let unknown = Reply::Failed(Failure::Unknown);
    until("it is sent", async || ask(&engine, place(1, &want)).await == unknown).await;
    // It stands, and all the same nobody is told so: neither who asks again nor anybody else.
    assert_eq!(ask(&engine, place(1, &want)).await, unknown);
    assert_eq!(ask(&engine, place(1, &record("b", 1, 2))).await, unknown);
    assert_eq!(ask(&engine, outlast_directory::Request::Instance).await, unknown);
    let told = engine.state(Partition(0)).trouble.unwrap_or_default();
    assert!(told.contains("fewer than 1 replicas"), "{told}");
    let _replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    let won = Reply::Placed(outlast_directory::Placed::Won(want.clone()));
    until("a replica has it", async || ask(&engine, place(1, &want)).await == won).await;
    until("its lag is told", async || engine.state(Partition(0)).lag.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_wants_more_replicas_refuses_and_nothing_is_applied() {
    let primary = Server::start(&["--min-replicas-to-write", "1"]);
    let engine = primary.engine();
    until("it refuses", async || {
        ask(&engine, place(1, &record("a", 1, 1))).await;
        engine.state(Partition(0)).trouble.is_some_and(|words| words.contains("NOREPLICAS"))
    })
    .await;
    let reply = ask(&engine, place(1, &record("a", 1, 1))).await;
    assert_eq!(reply, Reply::Failed(Failure::Unavailable));
    assert_eq!(primary.ask("DBSIZE").trim(), "0");
}

//! Certificates, users and passwords.

use std::sync::Arc;

use outlast_directory::{Placed, Reply};
use outlast_engines::{Access, Engine as _, Partition, Redis, RedisSettings, Secret, Shared};

use crate::{
    desk::{insist, place, record, until},
    load::Part,
    lock::{Certificates, Lock, PASSWORD},
    port::free_port,
    server::{Cluster, Sentinels, Server},
};

/// What the engine needs, and no more.
const RIGHTS: &str = "~ol:* -@all +info +ping +script|load +evalsha +eval +wait +time +set +unlink +hget +hset +hdel +hlen \
     +hmget +hincrby +zadd +zrem +zcard +zscore +zrange +zrangebyscore";

#[tokio::test(flavor = "multi_thread")]
async fn who_has_certificate_and_password_is_let_in_and_nobody_else() {
    let certificates = Certificates::new();
    let port = free_port();
    let words = certificates.words(port);
    let mut settings: Vec<_> = words.split_whitespace().collect();
    let user = format!("--user me on >{PASSWORD} {RIGHTS}");
    settings.extend(user.split_whitespace());
    let server = Server::at(port, &settings, &certificates.door());
    let address: Shared = format!("rediss://{}", server.place()).parse().unwrap();
    let good = Access {
        user: Some("me".to_owned()),
        password: Some(Secret::new(PASSWORD.to_owned())),
        ..certificates.access()
    };
    let engine = |access: &Access| Redis::connect(&address, access, RedisSettings::default());
    let own = engine(&good).unwrap();
    let want = record("a", 1, 1);
    assert_eq!(insist(&own, place(1, &want)).await, Reply::Placed(Placed::Won(want)));

    let other = Certificates::new();
    let stranger = Access { ca: other.access().ca, ..good.clone() };
    let nameless = Access { identity: None, ..good.clone() };
    let guessed = Secret::new(format!("{PASSWORD}!"));
    let wrong = Access { password: Some(guessed), ..good.clone() };
    for access in [stranger, nameless, wrong] {
        let engine = engine(&access).unwrap();
        let told = || engine.state(Partition(0)).trouble;
        until("it is not let in", async || told().is_some()).await;
        let told = told().unwrap();
        assert!(!told.contains(PASSWORD), "{told}");
        assert_eq!(engine.state(Partition(0)).decides, None);
    }
    let broken = Access { ca: Some(b"no certificate".to_vec()), ..good };
    assert!(engine(&broken).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_what_they_watch_are_reached_over_tls_with_two_passwords() {
    let lock = Lock::new();
    let mut sentinels = Sentinels::locked(Some(&lock));
    let engine = sentinels.engine_with(&lock.access());
    let want = record("a", 1, 1);
    let won = Reply::Placed(Placed::Won(want.clone()));
    assert_eq!(insist(&engine, place(1, &want)).await, won);
    let old = sentinels.at(&engine.state(Partition(0)).decides.unwrap());
    sentinels.data[old].kill();
    until("another one decides", async || {
        let decides = engine.state(Partition(0)).decides;
        decides.is_some_and(|at| sentinels.at(&at) != old)
    })
    .await;
    assert_eq!(insist(&engine, place(1, &want)).await, won);
    // The Sentinels' password is another one.
    let forgot = Access { sentinel_password: lock.access().password, ..lock.access() };
    let engine = sentinels.engine_with(&forgot);
    until("it is not let in", async || engine.state(Partition(0)).trouble.is_some()).await;
    assert_eq!(engine.state(Partition(0)).decides, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_reached_over_tls_by_every_address_that_it_names() {
    let lock = Lock::new();
    let cluster = Cluster::locked(Some(&lock));
    // One of them is known; the cluster itself names the others, by their ports for TLS.
    let address: Shared = format!("rediss+cluster://{}", cluster.0[0].place()).parse().unwrap();
    let engine = Redis::connect(&address, &lock.access(), RedisSettings::default());
    let engine = Arc::new(engine.unwrap());
    let parts = || (0..engine.partitions().get()).map(Partition);
    until("all partitions are decided for", async || {
        parts().all(|at| engine.state(at).decides.is_some())
    })
    .await;
    let want = record("a", 1, 1);
    for at in parts() {
        let part = Part(engine.clone(), at);
        assert_eq!(insist(&part, place(1, &want)).await, Reply::Placed(Placed::Won(want.clone())));
    }
}

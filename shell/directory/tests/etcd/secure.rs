//! Certificates on both sides, users and passwords.

use outlast_directory::{Failure, Placed, Reply, RoomKey};
use outlast_engines::{Access, Engine as _, Etcd, EtcdSettings, Identity, Partition, Secret};

use crate::{
    desk::{Watcher, ask, insist, instance, place, record, until},
    server::{Cluster, Tls},
};

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_certificate_is_served_and_nobody_else() {
    let tls = Tls::new();
    let cluster = Cluster::with(1, &[], Some(tls.clone()));
    let engine = cluster.engine(0);
    instance(&engine).await;
    let mut watcher = Watcher::default();
    let want = record("a", 1, 1);
    let won = Reply::Placed(Placed::Won(want.clone()));
    assert_eq!(insist(&engine, place(1, &want)).await, won);
    watcher.reach_the_end(&engine).await;
    assert_eq!(watcher.held[&RoomKey(1)], want);
    let server = &engine.inspect(1).await.servers[0];
    let quota = server.settings.get("quota-backend-bytes");
    assert!(quota.is_some(), "its pages are read over TLS as well: {server:?}");

    let anonymous = Access { identity: None, ..tls.access() };
    let stranger = Tls::new().access();
    for access in [anonymous, stranger] {
        let engine = Etcd::connect(&cluster.address(0), &access, EtcdSettings::default()).unwrap();
        until("the trouble is told", async || engine.state(Partition(0)).trouble.is_some()).await;
        let refused = ask(&engine, place(1, &want)).await;
        assert_eq!(refused, Reply::Failed(Failure::Unavailable));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_certificates_are_told_at_once() {
    let servers = "etcds://127.0.0.1:1".parse().unwrap();
    let (one, other) = (Tls::new(), Tls::new());
    let torn = one.ca.replace("A", "B");
    let strange_key = Identity {
        certificates: one.certificate.clone().into_bytes(),
        key: other.key.clone().into_bytes(),
    };
    for wrong in [
        Access { ca: Some(b"no certificate".to_vec()), ..one.access() },
        Access { ca: Some(torn.into_bytes()), ..one.access() },
        Access { identity: Some(strange_key), ..one.access() },
        Access {
            identity: Some(Identity { certificates: Vec::new(), key: Vec::new() }),
            ..one.access()
        },
    ] {
        let error = Etcd::connect(&servers, &wrong, EtcdSettings::default()).err().unwrap();
        assert!(error.to_string().contains("not usable"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_the_password_is_served_and_the_password_is_told_to_nobody() {
    let mut cluster = Cluster::start(1);
    instance(&cluster.engine(0)).await;
    for words in [
        &["user", "add", "root:hush"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "gateway"],
        &["role", "grant-permission", "gateway", "readwrite", "outlast/", "--prefix=true"],
        &["user", "add", "gate:s3cret"],
        &["user", "grant-role", "gate", "gateway"],
        &["auth", "enable"],
    ] {
        cluster.etcdctl(words);
    }
    let connect = |user: Option<&str>, password: &str| {
        let password = Some(Secret::new(password.to_owned()));
        let access = Access { user: user.map(str::to_owned), password, ..Access::default() };
        Etcd::connect(&cluster.address(0), &access, EtcdSettings::default()).unwrap()
    };
    let want = record("a", 1, 1);
    let won = Reply::Placed(Placed::Won(want.clone()));
    let engine = connect(Some("gate"), "s3cret");
    assert_eq!(insist(&engine, place(1, &want)).await, won);
    let mut watcher = Watcher::default();
    watcher.reach_the_end(&engine).await;
    assert_eq!(watcher.held[&RoomKey(1)], want);

    for (user, password) in [(Some("gate"), "wr0ng"), (None, "")] {
        let engine = connect(user, password);
        let trouble = async || {
            let reply = ask(&engine, place(1, &want)).await;
            assert_eq!(reply, Reply::Failed(Failure::Unavailable));
            engine.state(Partition(0)).trouble
        };
        let told = |trouble: Option<String>| {
            let words = ["authentication", "user name"];
            trouble.is_some_and(|it| words.iter().any(|word| it.contains(word)))
        };
        until("the trouble is told", async || told(trouble().await)).await;
        let state = format!("{:?}", engine.state(Partition(0)));
        assert!(password.is_empty() || !state.contains(password), "{state}");
    }
    // Tokens are in the server's memory only.
    cluster.kill(0);
    cluster.restart(0);
    assert_eq!(insist(&engine, place(1, &want)).await, won);
    assert_eq!(insist(&engine, place(2, &want)).await, won);
    until("the watch is back", async || {
        watcher.reach_the_end(&engine).await;
        watcher.held.len() == 2
    })
    .await;
}

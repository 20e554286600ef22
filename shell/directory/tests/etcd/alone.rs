//! One member: what is answered to whom.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use outlast_directory::{
    Failure, InstanceId, Placed, Reply, Request, RoomKey, SUMMARIES_MAX, SUMMARY_NODES_MAX, Table,
};
use outlast_engines::{Access, Engine as _, Etcd, EtcdSettings, Partition};
use outlast_model::{Generation, Time};
use tokio::time::sleep;

use crate::{
    desk::{ask, end, insist, instance, nobody_answers, place, record, replace, summary, until},
    server::Cluster,
};

/// All states that a room can be in, each by the requests that bring it there, and all requests: as many as make a
/// difference to each other.
fn states_and_requests(room: u128) -> (Vec<Vec<Request>>, Vec<Request>) {
    let generations = || 1..=3_u64;
    let records = || generations().flat_map(|g| [1, 2].map(|id| record("a", g, id)));
    let mut states = vec![vec![]];
    states.extend(generations().map(|generation| vec![end(room, generation)]));
    states.extend(records().map(|held| vec![place(room, &held)]));
    let again = |want| record("again", want, 1);
    states.push(vec![place(room, &record("a", 1, 2)), end(room, 1), place(room, &again(3))]);
    let mut requests: Vec<_> = generations().map(|generation| end(room, generation)).collect();
    for want in records() {
        requests.push(place(room, &want));
        requests.extend(generations().map(|expected| replace(room, expected, &want)));
    }
    requests.push(replace(room, 1, &record("last", u64::MAX - 1, u128::MAX)));
    requests.push(end(room, u64::MAX - 1));
    requests.push(Request::Lookup { room: RoomKey(room) });
    (states, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_in_every_state_is_answered_as_the_table_does() {
    let cluster = Cluster::start(1);
    let engine = cluster.engine(0);
    instance(&engine).await;
    let (states, requests) = states_and_requests(0);
    let mut cases = Vec::new();
    for state in 0..states.len() {
        for request in 0..requests.len() {
            cases.push((state, request, cases.len() as u128));
        }
    }
    assert!(cases.len() > 200);
    for some in cases.chunks(32) {
        let each = some.iter().map(async |(state, request, room)| {
            let (mut states, mut requests) = states_and_requests(*room);
            let mut steps = states.swap_remove(*state);
            let request = requests.swap_remove(*request);
            let lookup = Request::Lookup { room: RoomKey(*room) };
            steps.extend([request.clone(), request, lookup]);
            let mut table = Table::new(InstanceId(1));
            for step in &steps {
                let wanted = table.apply(Time::ZERO, step);
                assert_eq!(insist(&engine, step.clone()).await, wanted, "the last of {steps:?}");
            }
        });
        join_all(each).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_refused_and_nobody_waits_without_a_server() {
    let nowhere = "etcd://127.0.0.1:1".parse().unwrap();
    let engine = Etcd::connect(&nowhere, &Access::default(), EtcdSettings::default()).unwrap();
    for wrong in [
        place(1, &record("", 1, 1)),
        place(1, &record("a", 1, 0)),
        replace(1, 2, &record("a", 2, 1)),
        end(1, 0),
        Request::Heartbeat { summary: summary("eu", 1), ttl: Duration::ZERO },
        Request::Heartbeat {
            summary: summary("eu", SUMMARY_NODES_MAX + 1),
            ttl: Duration::from_secs(1),
        },
    ] {
        let reply = ask(&engine, wrong.clone()).await;
        assert!(matches!(reply, Reply::Failed(Failure::Bad(_))), "{wrong:?}: {reply:?}");
    }
    nobody_answers(&engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_directory_is_another_one_and_a_restarted_one_is_not() {
    let mut cluster = Cluster::start(1);
    let engine = cluster.engine(0);
    let first = instance(&engine).await;
    assert_eq!(instance(&cluster.engine(0)).await, first, "whoever asks");
    let kept = record("a", 1, 1);
    assert_eq!(insist(&engine, place(1, &kept)).await, Reply::Placed(Placed::Won(kept.clone())));
    cluster.kill(0);
    cluster.restart(0);
    assert_eq!(instance(&engine).await, first);
    let lookup = Request::Lookup { room: RoomKey(1) };
    assert_eq!(insist(&engine, lookup.clone()).await, Reply::Found(Some(kept)));
    cluster.wipe();
    let second = instance(&engine).await;
    assert_ne!(second, first);
    assert_eq!(insist(&engine, lookup).await, Reply::Found(None));
    // By hand, as `outlast directory wipe-test` does.
    cluster.etcdctl(&["del", "--prefix", "outlast/"]);
    assert_ne!(instance(&engine).await, second);
}

fn short(kept: Duration) -> EtcdSettings {
    EtcdSettings { tombstone_kept: kept, ..EtcdSettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_goes_with_its_lease_and_a_record_in_its_place_stays() {
    let cluster = Cluster::start(1);
    let engine = cluster.engine_with(0, short(Duration::from_secs(1)));
    insist(&engine, end(1, 5)).await;
    insist(&engine, end(2, 5)).await;
    let (low, high) = (record("a", 3, 1), record("a", 6, 2));
    let fenced = Reply::Failed(Failure::Fenced(Generation(5)));
    assert_eq!(insist(&engine, place(1, &low)).await, fenced);
    let won = Reply::Placed(Placed::Won(high.clone()));
    assert_eq!(insist(&engine, place(2, &high)).await, won);
    until("the tombstone is forgotten", async || insist(&engine, place(1, &low)).await != fenced)
        .await;
    assert_eq!(insist(&engine, place(1, &low)).await, Reply::Placed(Placed::Won(low)));
    assert_eq!(cluster.etcdctl(&["lease", "list"]).lines().count(), 1, "no lease is left");
    let lookup = Request::Lookup { room: RoomKey(2) };
    assert_eq!(insist(&engine, lookup).await, Reply::Found(Some(high)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_share_a_lease_and_survive_that_it_is_lost() {
    let cluster = Cluster::start(1);
    let engine = cluster.engine(0);
    for room in 0..20 {
        insist(&engine, end(room, 5)).await;
    }
    let leases = cluster.etcdctl(&["lease", "list"]);
    let ids: Vec<_> = leases.lines().skip(1).collect();
    assert_eq!(ids.len(), 1, "{leases}");
    let told = cluster.etcdctl(&["lease", "timetolive", ids[0]]);
    let granted = told.split("granted with TTL(").nth(1).unwrap();
    let seconds: u64 = granted.split("s)").next().unwrap().parse().unwrap();
    assert!((660..=720).contains(&seconds), "{told}");
    cluster.etcdctl(&["lease", "revoke", ids[0]]);
    assert_eq!(ask(&engine, end(1, 5)).await, Reply::Done);
    let fenced = Reply::Failed(Failure::Fenced(Generation(5)));
    assert_eq!(ask(&engine, place(1, &record("a", 5, 1))).await, fenced);
}

#[tokio::test(flavor = "multi_thread")]
async fn summaries_are_the_last_ones_and_run_out() {
    let cluster = Cluster::start(1);
    let (one, other) = (cluster.engine(0), cluster.engine(0));
    let long = Duration::from_secs(60);
    let beat = async |engine: &Etcd, summary, ttl| {
        insist(engine, Request::Heartbeat { summary, ttl }).await
    };
    let all = async || insist(&one, Request::Summaries).await;
    assert_eq!(beat(&one, summary("us", 1), long).await, Reply::Done);
    assert_eq!(beat(&one, summary("eu", SUMMARY_NODES_MAX), long).await, Reply::Done);
    let both = |us, eu| Reply::Summaries(vec![summary("eu", eu), summary("us", us)]);
    assert_eq!(all().await, both(1, SUMMARY_NODES_MAX));
    assert_eq!(beat(&other, summary("us", 3), long).await, Reply::Done);
    assert_eq!(all().await, both(3, SUMMARY_NODES_MAX));
    assert_eq!(beat(&one, summary("us", 1), long).await, Reply::Done, "the same as its last");
    assert_eq!(all().await, both(1, SUMMARY_NODES_MAX));
    // Nothing is written when nothing is new.
    let revision = || cluster.etcdctl(&["get", "none", "-w", "json"]);
    let count = |json: &str| json.split("\"revision\":").nth(1).map(str::to_owned);
    let before = count(&revision());
    assert_eq!(beat(&one, summary("us", 1), long).await, Reply::Done);
    assert_eq!(count(&revision()), before);
    // A lease that is gone takes the summary with it, and the next heartbeat brings both back.
    for lease in cluster.etcdctl(&["lease", "list"]).lines().skip(1) {
        cluster.etcdctl(&["lease", "revoke", lease]);
    }
    assert_eq!(all().await, Reply::Summaries(vec![]));
    assert_eq!(beat(&one, summary("us", 1), long).await, Reply::Done);
    assert_eq!(all().await, Reply::Summaries(vec![summary("us", 1)]));
    // Heartbeats without news keep it alive, far beyond the time that each of them gives it.
    let ttl = Duration::from_secs(1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        let asked = Instant::now();
        assert_eq!(beat(&one, summary("us", 1), ttl).await, Reply::Done);
        sleep(Duration::from_millis(200)).await;
        let there = all().await == Reply::Summaries(vec![summary("us", 1)]);
        assert!(there || asked.elapsed() >= ttl, "{:?}", start.elapsed());
    }
    assert_eq!(beat(&one, summary("us", 2), Duration::from_millis(700)).await, Reply::Done);
    assert_eq!(all().await, Reply::Summaries(vec![summary("us", 2)]));
    until("the summary runs out", async || all().await == Reply::Summaries(vec![])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_region_too_many_is_refused() {
    let cluster = Cluster::start(1);
    let engine = cluster.engine(0);
    let beat = async |region: &str| {
        let ttl = Duration::from_secs(60);
        insist(&engine, Request::Heartbeat { summary: summary(region, 1), ttl }).await
    };
    for n in 0..SUMMARIES_MAX {
        assert_eq!(beat(&format!("r{n}")).await, Reply::Done);
    }
    assert!(matches!(beat("one-more").await, Reply::Failed(Failure::Bad(_))));
    assert_eq!(beat("r0").await, Reply::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_etcd_refuses_claims_in_words_for_the_operator() {
    let cluster = Cluster::with(1, &["--quota-backend-bytes", "65536"], None);
    let engine = cluster.engine(0);
    let mut room = 0;
    let words = loop {
        room += 1;
        match insist(&engine, place(room, &record(&"x".repeat(250), 1, 1))).await {
            Reply::Placed(_) => assert!(room < 10_000, "the quota does not matter"),
            Reply::Failed(Failure::Bad(words)) => break words,
            other => panic!("{other:?}"),
        }
    };
    assert!(words.contains("--quota-backend-bytes"), "{words}");
    assert!(matches!(
        insist(&engine, Request::Lookup { room: RoomKey(1) }).await,
        Reply::Found(Some(_))
    ));
    let told = |trouble: &Option<String>| trouble.as_ref().is_some_and(|it| it.contains("space"));
    until("the alarm is told", async || told(&engine.state(Partition(0)).trouble)).await;
}

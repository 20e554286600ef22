//! A cluster: a primary dies, and its partitions alone are away until its replica is in its place.

use std::{collections::BTreeMap, sync::Arc};

use outlast_directory::{Failure, Reply};
use outlast_engines::{Engine as _, Partition, Redis, RedisMember, RedisRole};

use crate::{
    desk::{ask, instance, place, record, until},
    load::{Load, Part},
    server::Cluster,
};

fn parts(engine: &Redis) -> impl Iterator<Item = Partition> {
    (0..engine.partitions().get()).map(Partition)
}

async fn ready(engine: &Redis) {
    until("all partitions are decided for", async || {
        parts(engine).all(|at| engine.state(at).decides.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_takes_its_partitions_alone_and_they_come_back() {
    let mut cluster = Cluster::start();
    let engines = [0, 1].map(|_| Arc::new(cluster.engine()));
    for engine in &engines {
        ready(engine).await;
    }
    let engine = &engines[0];
    let mut each = BTreeMap::<_, Vec<_>>::new();
    for at in parts(engine) {
        each.entry(engine.state(at).decides.unwrap()).or_default().push(at);
    }
    assert!(each.len() == 3 && each.values().all(|parts| parts.len() == 4), "{each:?}");
    let mut before = BTreeMap::new();
    for at in parts(engine) {
        before.insert(at, instance(&Part(engine.clone(), at)).await);
    }
    let replicas = |members: &[RedisMember]| {
        let in_step = |member: &&RedisMember| match &member.role {
            RedisRole::Replica { of, lag, .. } => {
                member.reached && lag.is_some() && each.contains_key(&of.to_string())
            }
            _ => false,
        };
        members.iter().filter(in_step).count()
    };
    until("all are told", async || {
        let members = engine.members();
        let decide = members.iter().filter(|member| {
            let parts = each.get(&member.at.to_string()).cloned().unwrap_or_default();
            member.reached && member.role == RedisRole::Primary(parts)
        });
        members.len() == 6 && decide.count() == 3 && replicas(&members) == 3
    })
    .await;
    let (killed, lost) = each.pop_first().unwrap();
    let both = |at| [0, 1].map(|n: usize| Part(engines[n].clone(), at));
    let load = Load::start(both(lost[0]));
    load.more(150).await;
    let dead = cluster.0.iter().position(|node| node.place() == killed).unwrap();
    cluster.0[dead].kill();
    until("it is missed", async || engine.state(lost[0]).decides.is_none()).await;
    for (n, at) in (0..).zip(each.values().flatten()) {
        let want = record("a", 1, 1);
        let reply = ask(&Part(engine.clone(), *at), place(n + (1 << 64), &want)).await;
        assert!(matches!(reply, Reply::Placed(_)), "{at:?}: {reply:?}");
    }
    ready(engine).await;
    load.more(150).await;
    load.check(&Part(engine.clone(), lost[0])).await;
    for at in parts(engine) {
        let is_same = instance(&Part(engine.clone(), at)).await == before[&at];
        assert_eq!(is_same, !lost.contains(&at), "{at:?}");
        assert_eq!(engine.state(at).changes, u64::from(lost.contains(&at)), "{at:?}");
    }
    // It comes back as a replica, which claims wait for again.
    cluster.0[dead].restart();
    until("it follows", async || cluster.0[dead].follows()).await;
    let again = record("b", 2, 7);
    let part = Part(engine.clone(), lost[1]);
    let claim = || ask(&part, place(1 << 65, &again));
    until("claims wait for it", async || matches!(claim().await, Reply::Placed(_))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_by_hand_under_load_loses_nothing() {
    let cluster = Cluster::start();
    let engines = [0, 1].map(|_| Arc::new(cluster.engine()));
    for engine in &engines {
        ready(engine).await;
    }
    let at = Partition(7);
    let before = engines[0].state(at).decides.unwrap();
    let both = [0, 1].map(|n: usize| Part(engines[n].clone(), at));
    let load = Load::start(both);
    load.more(150).await;
    let said = engines[0].failover(at).await.unwrap();
    assert!(said.ends_with(&format!("where {before} did")), "{said}");
    load.more(150).await;
    load.check(&Part(engines[0].clone(), at)).await;
    assert_eq!(
        engines[0].ask(Partition(99), place(1, &record("a", 1, 1))).await,
        Reply::Failed(Failure::Unavailable)
    );
}

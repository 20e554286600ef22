//! A primary with Sentinels: it dies, freezes or is switched by hand under load.

use std::{sync::Arc, time::Duration};

use outlast_engines::{Engine as _, Partition, RedisMember, RedisRole};

use crate::{
    desk::{Watcher, instance, until},
    load::{Load, Part},
    server::{Sentinels, Server},
};

const AT: Partition = Partition(0);

/// What is done to the primary; returns whether the engines shall be told that it is over.
async fn survives(fault: impl AsyncFn(&mut Sentinels, usize, &Part)) {
    let mut sentinels = Sentinels::start();
    let engines = [0, 1].map(|_| Arc::new(sentinels.engine()));
    let part = || Part(engines[0].clone(), AT);
    let before = instance(&part()).await;
    assert_eq!(instance(&Part(engines[1].clone(), AT)).await, before, "whoever asks");
    let mut watcher = Watcher::default();
    watcher.reach_the_end(&part()).await;
    let load = Load::start([part(), Part(engines[1].clone(), AT)]);
    load.more(200).await;
    let old = sentinels.at(&engines[0].state(AT).decides.unwrap());
    fault(&mut sentinels, old, &part()).await;
    for engine in &engines {
        until("another one decides", async || {
            let decides = engine.state(AT).decides;
            decides.is_some_and(|at| sentinels.at(&at) != old)
        })
        .await;
        assert_eq!(engine.state(AT).changes, 1);
    }
    load.more(200).await;
    assert!(load.silence() < Duration::from_secs(5));
    assert_ne!(instance(&part()).await, before, "some of it may have been lost");
    load.check(&part()).await;
    watcher.reach_the_end(&part()).await;
    assert_eq!(watcher.resyncs, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_servers_are_told_with_what_they_do() {
    let sentinels = Sentinels::start();
    let engine = sentinels.engine();
    let (primary, replicas) = (&sentinels.data[0], &sentinels.data[1..]);
    let in_step = |member: &RedisMember| match &member.role {
        RedisRole::Replica { of, behind_bytes, lag } => {
            let known = behind_bytes.is_some() && lag.is_some() && member.reached;
            known && of.to_string() == primary.place()
        }
        _ => false,
    };
    until("all are told", async || {
        let members = engine.members();
        let told =
            |server: &Server| members.iter().find(|member| member.at.to_string() == server.place());
        let decides =
            |member: &RedisMember| member.role == RedisRole::Primary(vec![AT]) && member.reached;
        let watching = members.iter().filter(|member| member.role == RedisRole::Sentinel);
        members.len() == 6
            && told(primary).is_some_and(decides)
            && replicas.iter().all(|replica| told(replica).is_some_and(in_step))
            && watching.filter(|member| member.reached).count() == 3
    })
    .await;
    sentinels.data[2].freeze();
    until("one is no longer in step", async || {
        let members = engine.members();
        members.iter().filter(|member| in_step(member)).count() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_is_replaced_and_nothing_acknowledged_is_lost() {
    survives(async |sentinels, old, _| sentinels.data[old].kill()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_is_replaced_and_tells_nobody_of_the_past_when_it_goes_on() {
    survives(async |sentinels, old, engine| {
        sentinels.data[old].freeze();
        until("it is missed", async || engine.state(AT).decides.is_none()).await;
        until("another one decides", async || engine.state(AT).decides.is_some()).await;
        sentinels.data[old].thaw();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_by_hand_under_load_loses_nothing() {
    survives(async |sentinels, old, engine| {
        let said = engine.0.failover(AT).await.unwrap();
        assert!(said.ends_with(&format!("where {} did", sentinels.data[old].place())), "{said}");
    })
    .await;
}

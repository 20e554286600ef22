//! One server: what is answered to whom.

use std::time::Duration;

use futures_util::future::join_all;
use outlast_directory::{
    Failure, InstanceId, Placed, Reply, Request, RoomKey, SUMMARIES_MAX, SUMMARY_NODES_MAX, Table,
};
use outlast_engines::{Engine as _, Partition, RedisSettings};
use outlast_model::{Generation, Time};
use tokio::time::Instant;

use crate::{
    desk::{
        Watcher, ask, end, insist, instance, nobody_answers, place, record, replace, summary, until,
    },
    server::{Server, connect},
};

/// On both sides of where numbers of 53 bits, halves of 32 and signs go wrong, and of where text is compared.
const GENERATIONS: [u64; 9] =
    [1, 255, (1 << 32) - 1, 1 << 32, 1 << 53, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, u64::MAX - 1];

fn won(want: &outlast_directory::Record) -> Reply {
    Reply::Placed(Placed::Won(want.clone()))
}

/// What brings a room into each of its states.
fn states(room: u128) -> Vec<Vec<Request>> {
    let mut states = vec![vec![]];
    for generation in GENERATIONS {
        states.push(vec![end(room, generation)]);
        states.push(vec![place(room, &record("a", generation, 1))]);
        states.push(vec![place(room, &record("a", generation, 2)), end(room, generation)]);
    }
    states
}

/// All requests that differ in a room.
fn requests(room: u128) -> Vec<Request> {
    let mut requests = vec![Request::Lookup { room: RoomKey(room) }];
    for generation in GENERATIONS {
        requests.push(end(room, generation));
        for id in [1, u128::MAX] {
            let want = record("b", generation, id);
            requests.push(place(room, &want));
            requests.extend(GENERATIONS.map(|expected| replace(room, expected, &want)));
        }
    }
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_in_every_state_is_answered_as_the_table_does() {
    let server = Server::start(&[]);
    let engine = server.engine();
    instance(&engine).await;
    let count = (states(0).len(), requests(0).len());
    let cases: Vec<_> = (0..count.0 * count.1).collect();
    assert!(cases.len() > 5_000);
    for some in cases.chunks(128) {
        let each = some.iter().map(async |case| {
            let room = *case as u128;
            let mut steps = states(room).swap_remove(case / count.1);
            let request = requests(room).swap_remove(case % count.1);
            let lookup = Request::Lookup { room: RoomKey(room) };
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
    for nowhere in
        ["redis://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/a", "redis+cluster://127.0.0.1:1"]
    {
        let engine = connect(nowhere, RedisSettings::default());
        for wrong in [
            place(1, &record("", 1, 1)),
            replace(1, 2, &record("a", 2, 1)),
            end(1, 0),
            Request::Heartbeat { summary: summary("eu", 1), ttl: Duration::ZERO },
        ] {
            let reply = ask(&engine, wrong.clone()).await;
            assert!(matches!(reply, Reply::Failed(Failure::Bad(_))), "{wrong:?}: {reply:?}");
        }
        nobody_answers(&engine).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_place_a_room_one_wins() {
    let server = Server::start(&[]);
    let engines = [server.engine(), server.engine()];
    for engine in &engines {
        instance(engine).await;
    }
    let wants: Vec<_> = (1..=40_u128).map(|id| record("a", 1, id)).collect();
    let replies = wants.iter().enumerate().map(|(n, want)| insist(&engines[n % 2], place(1, want)));
    let replies = join_all(replies).await;
    let winners: Vec<_> = wants.iter().filter(|want| replies.contains(&won(want))).collect();
    assert_eq!(winners.len(), 1, "{replies:?}");
    let held = Reply::Placed(Placed::Held(winners[0].clone()));
    assert_eq!(replies.iter().filter(|reply| **reply == held).count(), 39);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_wiped_or_started_again_is_another_content() {
    let mut server = Server::start(&[]);
    let engine = server.engine();
    let first = instance(&engine).await;
    assert_eq!(instance(&server.engine()).await, first, "whoever asks");
    let kept = record("a", 1, 1);
    assert_eq!(insist(&engine, place(1, &kept)).await, won(&kept));
    server.ask("SCRIPT FLUSH");
    assert_eq!(insist(&engine, place(1, &kept)).await, won(&kept), "scripts are told again");
    server.ask("FLUSHALL");
    let second = instance(&engine).await;
    assert_ne!(second, first);
    let lookup = Request::Lookup { room: RoomKey(1) };
    assert_eq!(insist(&engine, lookup.clone()).await, Reply::Found(None));
    // Else it is written each second, and the last one may be lost.
    server.ask("CONFIG SET appendfsync always");
    assert_eq!(insist(&engine, place(1, &kept)).await, won(&kept));
    server.kill();
    until("it is missed", async || engine.state(Partition(0)).decides.is_none()).await;
    server.restart();
    assert_ne!(instance(&engine).await, second);
    assert_eq!(insist(&engine, lookup).await, Reply::Found(Some(kept)));
    assert_eq!(engine.state(Partition(0)).changes, 0, "it is the same server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_has_its_time_and_the_oldest_go_first() {
    let server = Server::start(&[]);
    let kept = Duration::from_millis(800);
    let settings = RedisSettings { tombstone_kept: kept, ..RedisSettings::default() };
    let engine = server.engine_with(settings);
    instance(&engine).await;
    let fenced = Reply::Failed(Failure::Fenced(Generation(5)));
    let low = record("a", 3, 1);
    let before = Instant::now();
    insist(&engine, end(1, 5)).await;
    assert_eq!(insist(&engine, place(1, &low)).await, fenced);
    until("it has had its time", async || insist(&engine, place(1, &low)).await != fenced).await;
    assert!(before.elapsed() >= kept);
    assert_eq!(insist(&engine, place(1, &low)).await, won(&low));

    let few = RedisSettings { tombstones_max: 2, ..RedisSettings::default() };
    let engine = server.engine_with(few);
    for room in [11, 12, 11, 13] {
        insist(&engine, end(room, room as u64)).await;
    }
    insist(&engine, end(11, 12)).await;
    let fence = async |room| insist(&engine, place(room, &record("a", 1, room))).await;
    assert_eq!(fence(12).await, won(&record("a", 1, 12)), "the oldest");
    assert_eq!(fence(11).await, Reply::Failed(Failure::Fenced(Generation(12))), "raised last");
    assert_eq!(fence(13).await, Reply::Failed(Failure::Fenced(Generation(13))));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_have_missed_an_end_starts_anew() {
    let server = Server::start(&[]);
    let settings =
        RedisSettings { tombstone_kept: Duration::from_millis(300), ..RedisSettings::default() };
    let engine = server.engine_with(settings);
    assert_eq!(insist(&engine, place(1, &record("a", 1, 1))).await, won(&record("a", 1, 1)));
    let mut early = Watcher::default();
    early.reach_the_end(&engine).await;
    let mut late = early.clone();
    insist(&engine, end(1, 1)).await;
    early.reach_the_end(&engine).await;
    until("the tombstone is forgotten", async || {
        insist(&engine, place(2, &record("a", 1, 2))).await;
        server.ask("ZCARD ol:{outlast}:ended").trim() == "0"
    })
    .await;
    late.reach_the_end(&engine).await;
    assert_eq!((late.resyncs, late.held.len()), (2, 1));
    early.reach_the_end(&engine).await;
    assert_eq!((early.resyncs, early.held.len()), (1, 1), "this one heard of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_room_too_many_is_refused_until_one_ends() {
    let server = Server::start(&[]);
    let engine = server.engine_with(RedisSettings { rooms_max: 2, ..RedisSettings::default() });
    let want = |room: u128| place(room, &record("a", 1, room));
    for room in 1..=2 {
        assert_eq!(insist(&engine, want(room)).await, won(&record("a", 1, room)));
    }
    assert!(matches!(insist(&engine, want(3)).await, Reply::Failed(Failure::Bad(_))));
    assert_eq!(insist(&engine, want(2)).await, won(&record("a", 1, 2)), "no room more");
    insist(&engine, end(1, 1)).await;
    assert_eq!(insist(&engine, want(3)).await, won(&record("a", 1, 3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn summaries_are_the_last_ones_run_out_and_are_not_too_many() {
    let server = Server::start(&[]);
    let engine = server.engine();
    let beat = async |summary, ttl| insist(&engine, Request::Heartbeat { summary, ttl }).await;
    let all = async || insist(&engine, Request::Summaries).await;
    let long = Duration::from_secs(60);
    assert_eq!(beat(summary("us", 1), long).await, Reply::Done);
    assert_eq!(beat(summary("eu", SUMMARY_NODES_MAX), long).await, Reply::Done);
    let both = Reply::Summaries(vec![summary("eu", SUMMARY_NODES_MAX), summary("us", 1)]);
    assert_eq!(all().await, both);
    assert_eq!(beat(summary("eu", 2), Duration::from_millis(500)).await, Reply::Done);
    let first = all().await;
    let without = Reply::Summaries(vec![summary("us", 1)]);
    assert!(
        [Reply::Summaries(vec![summary("eu", 2), summary("us", 1)]), without.clone()]
            .contains(&first)
    );
    until("the summary runs out", async || all().await == without).await;
    for n in 1..SUMMARIES_MAX {
        assert_eq!(beat(summary(&format!("r{n}"), 1), long).await, Reply::Done);
    }
    assert!(matches!(beat(summary("more", 1), long).await, Reply::Failed(Failure::Bad(_))));
    assert_eq!(beat(summary("r1", 1), Duration::from_millis(1)).await, Reply::Done);
    until("there is space", async || beat(summary("more", 1), long).await == Reply::Done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_claims_in_words_for_the_operator() {
    let server = Server::start(&["--maxmemory", "3mb"]);
    let engine = server.engine();
    let mut room = 0;
    let words = loop {
        room += 1;
        match insist(&engine, place(room, &record(&"x".repeat(250), 1, 1))).await {
            Reply::Placed(_) => assert!(room < 20_000, "maxmemory does not matter"),
            Reply::Failed(Failure::Bad(words)) => break words,
            other => panic!("{other:?}"),
        }
    };
    assert!(words.contains("maxmemory"), "{words}");
    let held = insist(&engine, Request::Lookup { room: RoomKey(1) }).await;
    assert!(matches!(held, Reply::Found(Some(_))));
    assert!(engine.state(Partition(0)).trouble.is_some_and(|words| words.contains("OOM")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_dropped_and_found_again() {
    let server = Server::start(&[]);
    let engine = server.engine();
    let before = instance(&engine).await;
    server.freeze();
    let mut replies = Vec::new();
    until("it is missed", async || {
        let start = Instant::now();
        replies.push(ask(&engine, place(1, &record("a", 1, 1))).await);
        assert!(start.elapsed() < outlast_engines::REPLY_MAX + Duration::from_secs(5));
        replies.last() == Some(&Reply::Failed(Failure::Unavailable))
    })
    .await;
    assert_eq!(replies[0], Reply::Failed(Failure::Unknown), "it was sent");
    assert_eq!(engine.state(Partition(0)).decides, None);
    server.thaw();
    assert_eq!(instance(&engine).await, before);
    assert_eq!(insist(&engine, place(1, &record("a", 1, 1))).await, won(&record("a", 1, 1)));
}

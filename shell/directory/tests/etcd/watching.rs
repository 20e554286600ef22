//! Watchers: none misses anything, whatever happens between.

use std::time::Duration;

use futures_util::future::join_all;
use outlast_directory::{EVENTS_PER_REPLY_MAX, Placed, Record, Reply, RoomKey};
use outlast_engines::{Etcd, EtcdSettings};

use crate::{
    desk::{Watcher, end, insist, place, record, replace, until},
    server::Cluster,
};

async fn win(engine: &Etcd, room: u128, want: &Record) {
    let won = Reply::Placed(Placed::Won(want.clone()));
    assert_eq!(insist(engine, place(room, want)).await, won);
}

async fn fill(engine: &Etcd, rooms: std::ops::Range<u128>) {
    let rooms: Vec<_> = rooms.collect();
    for some in rooms.chunks(64) {
        join_all(some.iter().map(|room| async move {
            win(engine, *room, &record("a", 1, room + 1)).await;
        }))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_what_changed_and_nothing_twice() {
    let cluster = Cluster::start(1);
    let engine = cluster.engine(0);
    let mut watcher = Watcher::default();
    watcher.reach_the_end(&engine).await;
    assert_eq!((watcher.resyncs, watcher.held.len()), (1, 0));
    win(&engine, 1, &record("a", 1, 1)).await;
    assert!(watcher.ask(&engine).await, "who claims and then watches finds it");
    assert!(!watcher.ask(&engine).await);
    assert_eq!(watcher.held[&RoomKey(1)], record("a", 1, 1));
    insist(&engine, replace(1, 1, &record("b", 2, 2))).await;
    win(&engine, 2, &record("c", 1, 3)).await;
    watcher.reach_the_end(&engine).await;
    assert_eq!(watcher.held[&RoomKey(1)], record("b", 2, 2));
    insist(&engine, end(1, 2)).await;
    watcher.reach_the_end(&engine).await;
    assert_eq!(watcher.held.keys().collect::<Vec<_>>(), [&RoomKey(2)]);
    assert_eq!(watcher.resyncs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_comes_in_pages_and_stays_right_while_rooms_change() {
    let cluster = Cluster::start(1);
    let engine = cluster.engine(0);
    let rooms = 2 * EVENTS_PER_REPLY_MAX as u128 + 100;
    fill(&engine, 0..rooms).await;
    let mut watcher = Watcher::default();
    assert!(watcher.ask(&engine).await);
    assert_eq!(watcher.held.len(), EVENTS_PER_REPLY_MAX);
    // One that was told, one that was not, and a new one in front of where the listing is.
    let last = rooms - 1;
    insist(&engine, end(0, 1)).await;
    insist(&engine, end(last, 1)).await;
    insist(&engine, replace(5, 1, &record("b", 2, 99))).await;
    // One that was not, twice: what is told of it must not go back.
    let twice = last - 1;
    insist(&engine, replace(twice, 1, &record("b", 2, 98))).await;
    insist(&engine, replace(twice, 2, &record("b", 3, 97))).await;
    win(&engine, rooms, &record("c", 1, 7)).await;
    let middle = watcher.clone();
    for mut watcher in [watcher, middle] {
        watcher.reach_the_end(&engine).await;
        assert_eq!(watcher.resyncs, 1, "it went on where it was");
        assert_eq!(watcher.held.len() as u128, rooms - 1);
        assert!(!watcher.held.contains_key(&RoomKey(0)));
        assert!(!watcher.held.contains_key(&RoomKey(last)));
        assert_eq!(watcher.held[&RoomKey(5)], record("b", 2, 99));
        assert_eq!(watcher.held[&RoomKey(twice)], record("b", 3, 97));
        assert_eq!(watcher.held[&RoomKey(rooms)], record("c", 1, 7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_that_run_out_are_no_news_to_anybody() {
    let cluster = Cluster::start(1);
    let settings =
        EtcdSettings { tombstone_kept: Duration::from_millis(500), ..EtcdSettings::default() };
    let engine = cluster.engine_with(0, settings);
    fill(&engine, 0..10).await;
    let mut early = Watcher::default();
    early.reach_the_end(&engine).await;
    let mut late = early.clone();
    for room in 0..5 {
        insist(&engine, end(room, 1)).await;
    }
    early.reach_the_end(&engine).await;
    let keys = || cluster.etcdctl(&["get", "--prefix", "--keys-only", "outlast/r/"]);
    until("the tombstones have run out", async || keys().split_whitespace().count() == 5).await;
    win(&engine, 20, &record("a", 1, 21)).await;
    for watcher in [&mut early, &mut late, &mut Watcher::default()] {
        watcher.reach_the_end(&engine).await;
        assert_eq!(watcher.resyncs, 1);
        let held: Vec<_> = watcher.held.keys().map(|room| room.0).collect();
        assert_eq!(held, [5, 6, 7, 8, 9, 20]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_while_nobody_follows_begins_anew() {
    let mut cluster = Cluster::start(1);
    let engine = cluster.engine(0);
    fill(&engine, 0..3).await;
    let mut watcher = Watcher::default();
    watcher.reach_the_end(&engine).await;
    // Frozen connections: the engine must not hear what happens now.
    cluster.kill(0);
    cluster.restart(0);
    let other = cluster.engine_with(0, EtcdSettings::default());
    insist(&other, end(0, 1)).await;
    win(&other, 7, &record("z", 1, 8)).await;
    let json = cluster.etcdctl(&["get", "none", "-w", "json"]);
    let revision = json.split("\"revision\":").nth(1).unwrap();
    let digits: String = revision.chars().take_while(char::is_ascii_digit).collect();
    cluster.etcdctl(&["compact", &digits]);
    until("the watcher knows", async || {
        watcher.reach_the_end(&engine).await;
        watcher.held.keys().map(|room| room.0).eq([1, 2, 7])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_directory_is_watched_from_its_start() {
    let mut cluster = Cluster::start(1);
    let engine = cluster.engine(0);
    fill(&engine, 0..3).await;
    let mut watcher = Watcher::default();
    watcher.reach_the_end(&engine).await;
    assert_eq!(watcher.held.len(), 3);
    cluster.etcdctl(&["del", "--prefix", "outlast/"]);
    until("the rooms are gone", async || {
        watcher.reach_the_end(&engine).await;
        watcher.held.is_empty()
    })
    .await;
    fill(&engine, 4..5).await;
    cluster.wipe();
    win(&engine, 9, &record("a", 1, 1)).await;
    until("the only room is known", async || {
        watcher.reach_the_end(&engine).await;
        watcher.held.keys().map(|room| room.0).eq([9])
    })
    .await;
    assert!(watcher.resyncs >= 3, "{}", watcher.resyncs);
}

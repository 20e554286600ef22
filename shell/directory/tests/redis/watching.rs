//! Watchers: none misses anything, whatever happens between.

use futures_util::future::join_all;
use outlast_directory::{EVENTS_PER_REPLY_MAX, Placed, Reply, Revision, RoomKey};
use outlast_engines::Engine;

use crate::{
    desk::{Watcher, end, insist, place, record, replace},
    server::Server,
};

async fn fill(engine: &impl Engine, rooms: std::ops::Range<u128>) {
    let rooms: Vec<_> = rooms.collect();
    for some in rooms.chunks(256) {
        join_all(some.iter().map(async |room| {
            let want = record("a", 1, room + 1);
            let won = Reply::Placed(Placed::Won(want.clone()));
            assert_eq!(insist(engine, place(*room, &want)).await, won);
        }))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_what_changed_and_nothing_twice() {
    let server = Server::start(&[]);
    let engine = server.engine();
    let mut watcher = Watcher::default();
    watcher.reach_the_end(&engine).await;
    assert_eq!((watcher.resyncs, watcher.pages, watcher.held.len()), (1, 1, 0));
    fill(&engine, 1..2).await;
    assert!(watcher.ask(&engine).await, "who claims and then watches finds it");
    assert!(!watcher.ask(&engine).await);
    insist(&engine, replace(1, 1, &record("b", 2, 3))).await;
    fill(&engine, 2..3).await;
    watcher.reach_the_end(&engine).await;
    assert_eq!(watcher.held[&RoomKey(1)], record("b", 2, 3));
    insist(&engine, end(1, 2)).await;
    watcher.reach_the_end(&engine).await;
    assert_eq!(watcher.held.keys().collect::<Vec<_>>(), [&RoomKey(2)]);
    assert_eq!(watcher.resyncs, 1);
    // One that is ahead of all changes has seen another content.
    let ahead = Revision { number: u64::MAX, ..watcher.after };
    let mut lost = Watcher { after: ahead, ..Watcher::default() };
    lost.reach_the_end(&engine).await;
    assert_eq!((lost.resyncs, &lost.held), (1, &watcher.held));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_comes_in_pages_and_stays_right_while_rooms_change() {
    let server = Server::start(&[]);
    let engine = server.engine();
    let rooms = 2 * EVENTS_PER_REPLY_MAX as u128 + 100;
    let mut watcher = Watcher::default();
    watcher.reach_the_end(&engine).await;
    fill(&engine, 0..rooms).await;
    assert!(watcher.ask(&engine).await);
    assert_eq!(watcher.held.len(), EVENTS_PER_REPLY_MAX);
    let told = *watcher.held.keys().next().unwrap();
    insist(&engine, end(told.0, 1)).await;
    insist(&engine, end(rooms - 1, 1)).await;
    fill(&engine, rooms..rooms + 1).await;
    watcher.reach_the_end(&engine).await;
    assert_eq!(watcher.resyncs, 1, "it went on where it was");
    let mut anew = Watcher::default();
    anew.reach_the_end(&engine).await;
    assert_eq!(watcher.held, anew.held);
    assert_eq!(watcher.held.len() as u128, rooms - 1);
    assert!(!watcher.held.contains_key(&told));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_directory_is_watched_from_its_start() {
    let server = Server::start(&[]);
    let engine = server.engine();
    fill(&engine, 0..3).await;
    let mut watcher = Watcher::default();
    watcher.reach_the_end(&engine).await;
    server.ask("FLUSHALL");
    watcher.reach_the_end(&engine).await;
    assert_eq!((watcher.resyncs, watcher.held.len()), (2, 0));
    fill(&engine, 9..10).await;
    watcher.reach_the_end(&engine).await;
    assert_eq!(watcher.held.keys().collect::<Vec<_>>(), [&RoomKey(9)]);
    // Only the id is lost, as by an eviction: what is left of the content goes with it.
    server.ask("DEL ol:{outlast}:meta");
    watcher.reach_the_end(&engine).await;
    assert_eq!((watcher.resyncs, watcher.held.len()), (3, 0));
    assert_eq!(server.ask("EXISTS ol:{outlast}:rooms").trim(), "0");
}

//! What a directory does, one rule at a time, through the only door there is. Engines are held to the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use outlast_directory::{
    Changes, EVENTS_PER_REPLY_MAX, Event, Failure, InstanceId, NodeSummary, Placed, PlacementId,
    Record, Reply, Request, Revision, RoomKey, SUMMARIES_MAX, SUMMARY_NODES_MAX, SUMMARY_TTL_MAX,
    Summary, TOMBSTONE_KEPT, Table,
};
use outlast_model::{Epoch, Generation, Time};

const ROOM: RoomKey = RoomKey(7);

/// A table at a time.
struct Desk {
    table: Table,
    now: Time,
}

impl Desk {
    fn new() -> Desk {
        Desk { table: Table::new(InstanceId(1)), now: Time::from_millis(5_000) }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    fn ask(&mut self, request: Request) -> Reply {
        self.table.apply(self.now, &request)
    }

    fn place(&mut self, want: &Record) -> Reply {
        self.ask(Request::Place { room: ROOM, want: want.clone() })
    }

    fn replace(&mut self, expected: u64, want: &Record) -> Reply {
        let expected = Generation(expected);
        self.ask(Request::Replace { room: ROOM, expected, want: want.clone() })
    }

    fn end(&mut self, generation: u64) -> Reply {
        self.ask(Request::End { room: ROOM, generation: Generation(generation) })
    }

    fn held(&mut self) -> Option<Record> {
        match self.ask(Request::Lookup { room: ROOM }) {
            Reply::Found(record) => record,
            other => panic!("a lookup is answered by {other:?}"),
        }
    }

    fn watch(&mut self, after: Revision) -> Changes {
        match self.ask(Request::Watch { after }) {
            Reply::Changes(changes) => changes,
            other => panic!("a watch is answered by {other:?}"),
        }
    }
}

/// `at` is a node, a generation and an id.
fn record((node, generation, id): (&str, u64, u128)) -> Record {
    Record {
        node: node.into(),
        epoch: Epoch(3),
        generation: Generation(generation),
        id: PlacementId(id),
        provisional: false,
    }
}

fn won(record: &Record) -> Reply {
    Reply::Placed(Placed::Won(record.clone()))
}

fn held(record: &Record) -> Reply {
    Reply::Placed(Placed::Held(record.clone()))
}

fn fenced(generation: u64) -> Reply {
    Reply::Failed(Failure::Fenced(Generation(generation)))
}

#[track_caller]
fn assert_bad(reply: &Reply) {
    assert!(matches!(reply, Reply::Failed(Failure::Bad(_))), "{reply:?}");
}

#[test]
fn of_two_that_place_a_room_the_first_wins_and_the_second_is_told_who_did() {
    let mut desk = Desk::new();
    let (first, second) = (record(("a", 1, 1)), record(("b", 9, 2)));
    assert_eq!(desk.place(&first), won(&first));
    assert_eq!(desk.place(&second), held(&first), "of a higher generation as well");
    assert_eq!(desk.held(), Some(first));
    assert_eq!(desk.table.rooms(), 1);
}

#[test]
fn asking_again_with_the_same_id_wins_again_and_changes_nothing() {
    let mut desk = Desk::new();
    let first = record(("a", 1, 1));
    desk.place(&first);
    let seen = desk.watch(Revision::START).revision;
    assert_eq!(desk.place(&first), won(&first));
    let announced = Record { provisional: true, ..first.clone() };
    assert_eq!(desk.place(&announced), won(&first), "as it was first made");
    assert_eq!(desk.replace(1, &record(("b", 2, 1))), won(&first));
    assert_eq!(desk.watch(seen).events, vec![]);
}

#[test]
fn a_replace_wins_against_the_generation_that_it_names_and_no_other() {
    let mut desk = Desk::new();
    let (old, new, late) = (record(("a", 3, 1)), record(("b", 4, 2)), record(("c", 4, 3)));
    desk.place(&old);
    assert_eq!(desk.replace(2, &record(("c", 9, 9))), held(&old));
    assert_eq!(desk.replace(4, &record(("c", 9, 9))), held(&old));
    assert_eq!(desk.replace(3, &new), won(&new));
    assert_eq!(desk.replace(3, &late), held(&new), "the second of a race");
    assert_eq!(desk.replace(3, &new), won(&new), "the first, asking again");
    assert_bad(&desk.replace(4, &record(("c", 4, 4))));
    assert_bad(&desk.replace(4, &record(("c", 3, 4))));
    assert_eq!(desk.place(&old), held(&new), "superseded: no way back");
    assert_eq!(desk.held(), Some(new));
}

#[test]
fn a_replace_of_a_room_that_is_not_held_is_a_place() {
    let mut desk = Desk::new();
    let new = record(("b", 4, 2));
    assert_eq!(desk.replace(3, &new), won(&new), "wiped, or placed without the directory");
    desk.end(4);
    assert_eq!(desk.replace(3, &new), fenced(4));
    let next = record(("b", 5, 3));
    assert_eq!(desk.replace(4, &next), won(&next));
}

#[test]
fn an_end_is_of_its_generation_and_older_ones_and_may_be_late_or_double() {
    let mut desk = Desk::new();
    let room = record(("a", 3, 1));
    desk.place(&room);
    assert_eq!(desk.end(2), Reply::Done);
    assert_eq!(desk.held(), Some(room.clone()), "late: it ends an older life");
    assert_eq!(desk.end(3), Reply::Done);
    assert_eq!((desk.held(), desk.table.rooms(), desk.table.tombstones()), (None, 0, 1));
    let seen = desk.watch(Revision::START).revision;
    assert_eq!((desk.end(3), desk.end(2)), (Reply::Done, Reply::Done));
    assert_eq!(desk.watch(seen).events, vec![]);
    let next = record(("a", 4, 2));
    desk.place(&next);
    assert_eq!(desk.end(3), Reply::Done);
    assert_eq!(desk.held(), Some(next));
    desk.end(8);
    assert_eq!(desk.held(), None, "it was superseded by one that ended");
    assert_eq!(desk.place(&record(("a", 8, 3))), fenced(8));
}

#[test]
fn a_tombstone_fences_what_is_not_above_it() {
    let mut desk = Desk::new();
    let first = record(("a", 3, 1));
    desk.place(&first);
    desk.end(3);
    assert_eq!(desk.place(&first), fenced(3), "asking again does not bring it back");
    assert_eq!(desk.place(&record(("b", 2, 2))), fenced(3));
    let above = record(("b", 4, 3));
    assert_eq!(desk.place(&above), won(&above));
    assert_eq!(desk.table.tombstones(), 0);
}

#[test]
fn an_end_that_overtakes_its_own_claim_fences_it() {
    let mut desk = Desk::new();
    assert_eq!(desk.end(3), Reply::Done);
    assert_eq!(desk.place(&record(("a", 3, 1))), fenced(3));
    assert_eq!(desk.end(5), Reply::Done);
    assert_eq!(desk.place(&record(("a", 4, 1))), fenced(5));
}

#[test]
fn a_tombstone_is_kept_for_its_time_from_the_last_that_raised_it() {
    let mut desk = Desk::new();
    let (claim, half) = (record(("a", 2, 1)), TOMBSTONE_KEPT / 2);
    desk.end(2);
    desk.pass(half);
    desk.end(2);
    desk.pass(half - Duration::from_nanos(1));
    assert_eq!(desk.place(&claim), fenced(2));
    desk.end(3);
    desk.pass(TOMBSTONE_KEPT - Duration::from_nanos(1));
    assert_eq!(desk.place(&claim), fenced(3));
    desk.pass(Duration::from_nanos(1));
    assert_eq!(desk.place(&claim), won(&claim));
}

#[test]
fn malformed_requests_have_no_effect() {
    let mut desk = Desk::new();
    for wrong in [
        record(("", 1, 1)),
        record((&"x".repeat(256), 1, 1)),
        record(("a", 0, 1)),
        record(("a", u64::MAX, 1)),
        record(("a", 1, 0)),
    ] {
        assert_bad(&desk.place(&wrong));
    }
    assert_bad(&desk.end(0));
    assert_bad(&desk.end(u64::MAX));
    assert_eq!((desk.table.rooms(), desk.table.tombstones()), (0, 0));
    assert_eq!(desk.watch(Revision::START).events, vec![]);
}

fn summary(region: &str, nodes: usize) -> Summary {
    let node = |n: usize| NodeSummary {
        node: format!("{region}-{n}").into(),
        epoch: Epoch(1),
        draining: n == 1,
        load_permille: 250,
        rooms: 4,
    };
    Summary { region: region.into(), nodes: (0..nodes).map(node).collect() }
}

#[test]
fn the_last_heartbeat_of_a_region_counts_until_its_time_is_over() {
    let mut desk = Desk::new();
    let ttl = Duration::from_secs(3);
    let beat = |desk: &mut Desk, region: &str, nodes: usize| {
        desk.ask(Request::Heartbeat { summary: summary(region, nodes), ttl })
    };
    assert_eq!(beat(&mut desk, "us", 1), Reply::Done);
    assert_eq!(beat(&mut desk, "eu", 2), Reply::Done);
    let both = Reply::Summaries(vec![summary("eu", 2), summary("us", 1)]);
    assert_eq!(desk.ask(Request::Summaries), both);
    desk.pass(Duration::from_secs(2));
    beat(&mut desk, "eu", 0);
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.ask(Request::Summaries), Reply::Summaries(vec![summary("eu", 0)]));
    desk.pass(Duration::from_secs(2));
    assert_eq!(desk.ask(Request::Summaries), Reply::Summaries(vec![]));
}

#[test]
fn heartbeats_have_limits() {
    let mut desk = Desk::new();
    let beat = |desk: &mut Desk, summary: Summary, ttl: Duration| {
        desk.ask(Request::Heartbeat { summary, ttl })
    };
    let second = Duration::from_secs(1);
    assert_bad(&beat(&mut desk, summary("", 0), second));
    assert_bad(&beat(&mut desk, summary("eu", SUMMARY_NODES_MAX + 1), second));
    assert_bad(&beat(&mut desk, summary(&"x".repeat(254), 1), second));
    assert_bad(&beat(&mut desk, summary("eu", 1), Duration::ZERO));
    assert_bad(&beat(&mut desk, summary("eu", 1), SUMMARY_TTL_MAX + second));
    for n in 0..SUMMARIES_MAX {
        assert_eq!(beat(&mut desk, summary(&format!("r{n}"), 1), second), Reply::Done);
    }
    assert_bad(&beat(&mut desk, summary("one-more", 1), second));
    assert_eq!(beat(&mut desk, summary("r3", SUMMARY_NODES_MAX), second), Reply::Done);
    desk.pass(second);
    assert_eq!(beat(&mut desk, summary("one-more", 1), SUMMARY_TTL_MAX), Reply::Done);
}

#[test]
fn a_watcher_hears_each_change_once_and_where_it_stands() {
    let mut desk = Desk::new();
    let (first, next) = (record(("a", 1, 1)), record(("b", 2, 2)));
    let start = desk.watch(Revision::START);
    assert_eq!((start.events, start.resync, start.instance), (vec![], true, InstanceId(1)));
    desk.place(&first);
    let one = desk.watch(start.revision);
    assert_eq!(one.events, vec![Event::Held { room: ROOM, record: first }]);
    assert!(!one.resync);
    assert_eq!(desk.watch(one.revision), Changes { events: vec![], ..one.clone() });
    desk.replace(1, &next);
    desk.place(&record(("c", 9, 9)));
    let two = desk.watch(one.revision);
    assert_eq!(two.events, vec![Event::Held { room: ROOM, record: next }]);
    desk.end(2);
    let three = desk.watch(two.revision);
    assert_eq!(three.events, vec![Event::Ended { room: ROOM, generation: Generation(2) }]);
    let slow = desk.watch(start.revision);
    assert_eq!(slow.events, three.events, "states between are passed over");
    assert!(!slow.resync);
}

#[test]
fn a_long_list_comes_in_pages_and_the_listing_goes_on_where_it_was() {
    let mut desk = Desk::new();
    let rooms = EVENTS_PER_REPLY_MAX as u128 + 10;
    for room in 0..rooms {
        let want = record(("a", 1, room + 1));
        desk.ask(Request::Place { room: RoomKey(room), want });
    }
    let first = desk.watch(Revision::START);
    assert_eq!((first.events.len(), first.resync), (EVENTS_PER_REPLY_MAX, true));
    // A room that was listed ends between the pages: its end comes at the end.
    desk.end(1);
    let second = desk.watch(first.revision);
    assert_eq!((second.events.len(), second.resync), (11, false));
    let end = Event::Ended { room: ROOM, generation: Generation(1) };
    assert_eq!(second.events.last(), Some(&end));
    assert_eq!(desk.watch(second.revision).events, vec![]);
}

#[test]
fn who_may_have_missed_an_end_starts_anew() {
    let mut desk = Desk::new();
    let room = record(("a", 1, 1));
    desk.place(&room);
    let seen = desk.watch(Revision::START).revision;
    desk.end(1);
    let heard = desk.watch(seen).revision;
    desk.pass(TOMBSTONE_KEPT);
    let changes = desk.watch(seen);
    assert!(changes.resync);
    assert_eq!(changes.events, vec![]);
    assert!(!desk.watch(heard).resync, "this one heard of it");
    assert!(!desk.watch(changes.revision).resync, "and this one has started anew");
}

#[test]
fn another_content_is_told_by_its_instance_and_watched_from_its_start() {
    let mut desk = Desk::new();
    desk.place(&record(("a", 1, 1)));
    let seen = desk.watch(Revision::START).revision;
    assert_eq!(desk.ask(Request::Instance), Reply::Instance(InstanceId(1)));
    desk.table = Table::new(InstanceId(2));
    assert_eq!(desk.ask(Request::Instance), Reply::Instance(InstanceId(2)));
    let refilled = record(("a", 1, 1));
    assert_eq!(desk.place(&refilled), won(&refilled), "the same placement, announced again");
    let changes = desk.watch(seen);
    assert_eq!((changes.resync, changes.instance), (true, InstanceId(2)));
    assert_eq!(changes.events.len(), 1);
    assert_eq!(desk.watch(Revision { number: 99, ..changes.revision }).events.len(), 1);
}

#[test]
fn a_late_copy_of_a_claim_never_supersedes_a_newer_one() {
    let mut desk = Desk::new();
    let (unknown, newer) = (record(("a", 1, 1)), record(("b", 2, 2)));
    desk.place(&newer);
    assert_eq!(desk.place(&unknown), held(&newer));
    desk.end(2);
    assert_eq!(desk.place(&unknown), fenced(2));
}

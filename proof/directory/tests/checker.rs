//! The history checker on histories written by hand, and its search against the plainest one there is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use outlast_directory::{
    Failure, InstanceId, Placed, PlacementId, Record, Reply, Request, RoomKey, Table,
};
use outlast_directory_proof::{Consistency, Findings, History, Kind, Operation, check};
use outlast_model::{Epoch, Generation, Time};
use proptest::prelude::*;

const ROOM: RoomKey = RoomKey(1);

fn record(generation: u64, id: u128) -> Record {
    Record {
        node: "n".into(),
        epoch: Epoch(1),
        generation: Generation(generation),
        id: PlacementId(id),
        provisional: false,
    }
}

fn place(generation: u64, id: u128) -> Request {
    Request::Place { room: ROOM, want: record(generation, id) }
}

fn replace(expected: u64, generation: u64, id: u128) -> Request {
    let expected = Generation(expected);
    Request::Replace { room: ROOM, expected, want: record(generation, id) }
}

fn end(generation: u64) -> Request {
    Request::End { room: ROOM, generation: Generation(generation) }
}

const LOOKUP: Request = Request::Lookup { room: ROOM };

fn won(generation: u64, id: u128) -> Reply {
    Reply::Placed(Placed::Won(record(generation, id)))
}

fn held(generation: u64, id: u128) -> Reply {
    Reply::Placed(Placed::Held(record(generation, id)))
}

fn found(generation: u64, id: u128) -> Reply {
    Reply::Found(Some(record(generation, id)))
}

const NOBODY: Reply = Reply::Found(None);
const UNKNOWN: Reply = Reply::Failed(Failure::Unknown);
const UNAVAILABLE: Reply = Reply::Failed(Failure::Unavailable);

type Line = (u64, u64, Request, Reply);

fn history(lines: &[Line]) -> History {
    let operation = |(client, (start, end, request, reply)): (usize, &Line)| Operation {
        client: u32::try_from(client).unwrap(),
        start: Time::from_millis(*start),
        end: Time::from_millis(*end),
        request: request.clone(),
        reply: reply.clone(),
    };
    let operations = lines.iter().enumerate().map(operation).collect();
    History { operations, ..History::default() }
}

fn strict(lines: &[Line]) -> Findings {
    check(&history(lines), Consistency::Linearizable)
}

#[track_caller]
fn fine(lines: &[Line]) {
    let findings = strict(lines);
    assert!(findings.anomalies.is_empty() && findings.gave_up == 0, "{findings:#?}");
}

#[track_caller]
fn wrong(lines: &[Line], kinds: &[Kind]) {
    let found: Vec<_> = strict(lines).anomalies.iter().map(|anomaly| anomaly.kind).collect();
    assert_eq!(found, kinds);
}

#[test]
fn of_two_at_once_either_may_win() {
    fine(&[(0, 9, place(1, 1), won(1, 1)), (1, 8, place(1, 2), held(1, 1))]);
    fine(&[(0, 9, place(1, 1), held(1, 2)), (1, 8, place(1, 2), won(1, 2))]);
    let both = [(0, 9, place(1, 1), won(1, 1)), (1, 8, place(1, 2), won(1, 2))];
    wrong(&both, &[Kind::NoOrder, Kind::TwoWinners]);
}

#[test]
fn whoever_asks_after_an_answer_sees_its_effect() {
    let late = [(0, 1, place(1, 1), won(1, 1)), (2, 3, place(2, 2), won(2, 2))];
    wrong(&late, &[Kind::NoOrder]);
    fine(&[(0, 2, place(1, 1), held(2, 2)), (1, 3, place(2, 2), won(2, 2))]);
    wrong(&[(0, 1, place(1, 1), held(2, 2)), (2, 3, place(2, 2), won(2, 2))], &[Kind::NoOrder]);
}

#[test]
fn what_is_unknown_takes_effect_later_or_never_but_once() {
    let unknown = (0, 1, place(1, 1), UNKNOWN);
    fine(&[unknown.clone(), (5, 6, place(1, 2), won(1, 2))]);
    fine(&[unknown.clone(), (5, 6, place(1, 2), held(1, 1))]);
    // Not there yet, and there later.
    fine(&[unknown.clone(), (5, 6, end(4), Reply::Done), (7, 8, place(5, 2), won(5, 2))]);
    fine(&[
        (0, 1, place(9, 1), UNKNOWN),
        (2, 3, end(8), Reply::Done),
        (4, 5, place(2, 3), Reply::Failed(Failure::Fenced(Generation(8)))),
        (6, 7, place(2, 3), held(9, 1)),
    ]);
    // Before it was asked for.
    wrong(&[(5, 6, place(1, 1), UNKNOWN), (0, 1, place(1, 2), held(1, 1))], &[Kind::NoOrder]);
}

#[test]
fn what_was_unavailable_never_takes_effect() {
    let refused = (0, 1, place(1, 1), UNAVAILABLE);
    fine(&[refused.clone(), (5, 6, place(1, 2), won(1, 2))]);
    wrong(&[refused, (5, 6, place(1, 2), held(1, 1))], &[Kind::NoOrder]);
}

#[test]
fn generations_do_not_go_back() {
    wrong(
        &[
            (0, 1, place(5, 1), won(5, 1)),
            (2, 3, end(5), Reply::Done),
            (4, 5, place(3, 2), won(3, 2)),
        ],
        &[Kind::NoOrder, Kind::WentBack],
    );
    wrong(
        &[(0, 1, end(5), Reply::Done), (2, 3, place(5, 2), won(5, 2))],
        &[Kind::NoOrder, Kind::WentBack],
    );
}

#[test]
fn lookups_may_be_late_but_not_invented() {
    let rooms = |reply: Reply| {
        [
            (0, 1, place(1, 1), won(1, 1)),
            (2, 3, replace(1, 2, 2), won(2, 2)),
            (4, 5, LOOKUP, reply),
            (6, 7, replace(2, 3, 3), won(3, 3)),
        ]
    };
    for right in [NOBODY, found(1, 1), found(2, 2)] {
        fine(&rooms(right));
    }
    // From the future, and from nowhere.
    wrong(&rooms(found(3, 3)), &[Kind::NoOrder]);
    wrong(&rooms(found(4, 4)), &[Kind::NoOrder]);
}

#[test]
fn a_wipe_takes_everything_with_it_at_one_moment() {
    let lines = [(0, 1, place(5, 1), won(5, 1)), (9, 10, place(1, 2), won(1, 2))];
    wrong(&lines, &[Kind::NoOrder, Kind::WentBack]);
    let wiped = |from: u64, to: u64| {
        let wipes = vec![(Time::from_millis(from), Time::from_millis(to))];
        check(&History { wipes, ..history(&lines) }, Consistency::Linearizable).anomalies
    };
    assert!(wiped(3, 4).is_empty());
    assert!(!wiped(11, 12).is_empty());
}

/// etcd, a member frozen: the claim took effect by the first member, the second was asked when the room had moved on.
#[test]
fn where_servers_are_asked_twice_who_was_superseded_may_have_won_before() {
    let lines = [
        (0, 9, place(10, 1), held(11, 3)),
        (1, 2, place(10, 2), held(10, 1)),
        (3, 4, replace(10, 11, 3), won(11, 3)),
    ];
    wrong(&lines, &[Kind::NoOrder]);
    let twice = |lines: &[Line]| {
        check(&History { asks_twice: true, ..history(lines) }, Consistency::Linearizable)
    };
    assert!(twice(&lines).anomalies.is_empty());
    // Who was told of another holder under its own generation or a lower one has never had it.
    let mut never = lines.to_vec();
    never[0].3 = held(10, 4);
    assert!(!twice(&never).anomalies.is_empty());
}

#[test]
fn lost_writes_are_counted_where_they_may_be_lost() {
    let lines = [
        (0, 1, place(1, 1), won(1, 1)),
        (2, 3, replace(1, 2, 2), won(2, 2)),
        (4, 5, replace(2, 3, 3), won(3, 3)),
        // Here a replica takes over that knows the first alone.
        (6, 7, place(1, 9), held(1, 1)),
    ];
    assert!(!strict(&lines).anomalies.is_empty());
    let lossy = check(&history(&lines), Consistency::MayLose(1));
    assert!(lossy.anomalies.is_empty(), "{:#?}", lossy.anomalies);
    let mut at: Vec<_> = lossy.lost.iter().map(|lost| lost.acknowledged.as_millis()).collect();
    at.sort_unstable();
    assert_eq!(at, [3, 5]);
    // A replica that invents something is wrong all the same.
    let mut invented = lines.to_vec();
    invented.push((8, 9, place(1, 8), held(7, 7)));
    assert!(!check(&history(&invented), Consistency::MayLose(2)).anomalies.is_empty());
}

/// Every order there is, without any cleverness; a wipe is a request for the instance.
fn any_order(rest: &[Line], state: &Table) -> bool {
    let must = |line: &&Line| line.3 != UNKNOWN;
    let Some(limit) = rest.iter().filter(must).map(|line| line.1).min() else { return true };
    (0..rest.len()).any(|n| {
        let (start, _, request, told) = &rest[n];
        let mut next = state.clone();
        let reply = next.apply(Time::ZERO, request);
        if *request == Request::Instance {
            next = Table::new(InstanceId(0));
        }
        let fits = *told == UNKNOWN || *told == reply;
        let mut others = rest.to_vec();
        others.remove(n);
        *start <= limit && fits && any_order(&others, &next)
    })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        3 => (1..4_u64, 1..5_u128).prop_map(|(generation, id)| place(generation, id)),
        3 => (1..4_u64, 1..3_u64, 1..5_u128)
            .prop_map(|(expected, more, id)| replace(expected, expected + more, id)),
        2 => (1..4_u64).prop_map(end),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Answers of a real order, some of them exchanged.
    #[test]
    fn the_search_agrees_with_the_plainest_one(
        asked in prop::collection::vec((request(), 0..20_u64, 0..12_u64, 0..10_u8), 1..7),
        swap in any::<(prop::sample::Index, prop::sample::Index, bool)>(),
        wipe in prop::option::weighted(0.5, (0..20_u64, 0..12_u64)),
    ) {
        let mut table = Table::new(InstanceId(0));
        let mut sorted = asked;
        if let Some((start, span)) = wipe {
            sorted.push((Request::Instance, start, span, 9));
        }
        sorted.sort_by_key(|(_, start, ..)| *start);
        let mut lines: Vec<Line> = Vec::new();
        for (request, start, span, fate) in sorted {
            let reply = match fate {
                0 => UNKNOWN,
                1 => { table.apply(Time::ZERO, &request); UNKNOWN }
                _ => table.apply(Time::ZERO, &request),
            };
            if request == Request::Instance {
                table = Table::new(InstanceId(0));
            }
            lines.push((start, start + span, request, reply));
        }
        if swap.2 {
            let (a, b) = (swap.0.index(lines.len()), swap.1.index(lines.len()));
            // Not the wipe's.
            prop_assume!(![&lines[a].2, &lines[b].2].contains(&&Request::Instance));
            let (left, right) = (lines[a].3.clone(), lines[b].3.clone());
            (lines[a].3, lines[b].3) = (right, left);
        }
        let plain = any_order(&lines, &Table::new(InstanceId(0)));
        let (wipes, asked): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.2 == Request::Instance);
        let wipes = wipes.iter().map(|(start, end, ..)| {
            (Time::from_millis(*start), Time::from_millis(*end))
        });
        let history = History { wipes: wipes.collect(), ..history(&asked) };
        let findings = check(&history, Consistency::Linearizable);
        let is_no_order = |found: &outlast_directory_proof::Anomaly| found.kind == Kind::NoOrder;
        prop_assert_eq!(plain, !findings.anomalies.iter().any(is_no_order), "{:#?}", findings);
        // The clear words are never wrong: where they are said, there is no order either.
        prop_assert!(!plain || findings.anomalies.is_empty(), "{:#?}", findings);
    }
}

//! Stories of an engine that is slow, dead, back, wiped or half there, as a gateway lives through them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod story;

use std::time::Duration;

use outlast_directory::{
    CALLS_MAX, CallId, DEADLINE_MAX, DEADLINE_MIN, Failure, INSTANCE_INTERVAL, InstanceId,
    PROBE_INTERVAL, PROBE_JITTER_MAX, Partition, Placed, RESOLVING_MAX, Reply, Request, Revision,
    RoomKey, Shed, Table, UNRESOLVED_KEPT, UNRESOLVED_MAX,
};
use outlast_model::{Generation, Time};
use story::{GOOD, Story, Way, record, room, room_of};

const UNKNOWN: Reply = Reply::Failed(Failure::Unknown);

#[test]
fn a_good_engine_is_asked_and_its_answer_passed_on() {
    let mut story = Story::new(1);
    assert_eq!(story.caller.wake_at(), None, "nobody has asked");
    let want = record("a", 1, 100);
    let call = story.place(&want).unwrap();
    story.run(1_000);
    assert_eq!(story.answer(call), Some((20, &Reply::Placed(Placed::Won(want)))));
    assert_eq!(story.caller.instance(), Some(InstanceId(1)), "it asked on its own");
    assert_eq!((story.caller.calls(), story.caller.unresolved()), (0, 0));
    story.run(10_000);
    let looks = story.sent.iter().filter(|(_, _, request)| *request == Request::Instance).count();
    assert_eq!(looks, 6, "each {INSTANCE_INTERVAL:?}");
    assert_eq!(story.said.len(), 1);
}

#[test]
fn a_slow_engine_is_waited_for_until_the_deadline_and_its_late_answer_still_tells() {
    let mut story = Story::new(1);
    story.knock(1);
    story.run(100);
    story.way = Way::Up(800);
    let want = record("a", 1, 100);
    let claim = story.place(&want).unwrap();
    let lookup = story.ask(Request::Lookup { room: room(&want) }).unwrap();
    let instance = story.ask(Request::Instance).unwrap();
    story.run(1_000);
    assert_eq!(story.answer(claim), Some((500, &UNKNOWN)));
    assert_eq!(story.answer(lookup), Some((500, &UNKNOWN)));
    assert_eq!(story.answer(instance), Some((500, &UNKNOWN)));
    assert_eq!(story.resolved(claim), Some((900, &Reply::Placed(Placed::Won(want)))));
    assert_eq!(story.resolved(lookup), None, "whoever looks asks anew");
    assert!(story.caller.is_open());
    assert_eq!(story.ask(Request::Instance), Err(Shed::Open));
    story.run(60_000);
    assert!(story.caller.is_open(), "an answer after its deadline is none");
    assert_eq!(story.caller.deadline(), DEADLINE_MIN);
    story.way = Way::Up(390);
    story.run(1_800);
    assert!(!story.caller.is_open());
}

#[test]
fn an_engine_that_is_far_away_is_waited_for_and_not_once_it_gets_there_all_at_once() {
    let mut story = Story::new(1);
    story.way = Way::Up(600);
    story.knock(3);
    story.run(500);
    assert!(story.caller.is_open(), "nothing is known of it");
    story.run(4_000);
    assert!(!story.caller.is_open(), "all its answers came late, and are learned from");
    assert_eq!(story.caller.deadline(), DEADLINE_MAX);
    let claim = story.place(&record("a", 1, 100)).unwrap();
    story.run(600);
    assert!(matches!(story.answer(claim), Some((_, Reply::Placed(Placed::Won(_))))));
    // It comes nearer, step by step.
    for (way, deadline) in [(240, 600), (100, 400)] {
        story.way = Way::Up(way);
        for id in 2..150 {
            story.place(&record("a", 1, 1_000 * u128::from(way) + id)).unwrap();
            story.run(100);
        }
        assert_eq!(story.caller.deadline().as_millis(), deadline);
    }
    story.way = Way::Up(600);
    story.knock(3);
    story.run(400);
    assert!(story.caller.is_open());
    story.run(200_000);
    assert!(story.caller.is_open(), "that may be a fault");
    story.run(110_000);
    assert!(!story.caller.is_open(), "and this is not");
}

#[test]
fn answers_of_near_replicas_say_nothing_of_what_a_claim_takes() {
    let mut story = Story::new(1);
    story.way = Way::Up(300);
    for id in 1..4 {
        story.place(&record("a", 1, id * 100)).unwrap();
        story.run(1_500);
    }
    story.way = GOOD;
    for _ in 0..1_000 {
        story.knock(1);
        story.run(10);
    }
    assert_eq!(story.caller.deadline().as_millis(), 750);
}

#[test]
fn a_dead_engine_costs_three_deadlines_and_then_nothing() {
    let mut story = Story::new(1);
    story.run(100);
    story.way = Way::Black;
    let calls: Vec<CallId> =
        (0..3_u128).map(|n| story.place(&record("a", 1, (n + 1) * 100)).unwrap()).collect();
    story.run(399);
    assert!(!story.caller.is_open());
    story.run(1);
    assert!(story.caller.is_open());
    assert!(calls.iter().all(|call| story.answer(*call) == Some((500, &UNKNOWN))));
    let said = story.said.len();
    assert_eq!(story.ask(Request::Summaries), Err(Shed::Open));
    story.run(60_000);
    assert_eq!(story.said.len(), said, "probes are not answered to anybody");
    let probes: Vec<_> = story.sent.iter().filter(|(at, ..)| at.as_millis() >= 10_500).collect();
    assert!(probes.iter().all(|(_, _, request)| *request == Request::Instance));
    assert!(probes[0].0.as_millis() >= 10_500 + 250, "not at once");
    let gaps: Vec<_> = probes.windows(2).map(|pair| pair[1].0.since(pair[0].0)).collect();
    let (shortest, longest) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(PROBE_INTERVAL <= *shortest && *longest < PROBE_INTERVAL + PROBE_JITTER_MAX);
    assert!(*longest - *shortest > PROBE_JITTER_MAX / 2, "{shortest:?} to {longest:?}");
    assert!(probes.len() > 160, "{} in a minute", probes.len());
    assert_eq!(story.most, 4, "three claims and the first look; then two probes at most");
}

#[test]
fn an_engine_that_is_refused_is_away_at_once_and_nothing_was_applied() {
    let mut story = Story::new(1);
    story.way = Way::Refuses;
    let call = story.place(&record("a", 1, 100)).unwrap();
    story.knock(1);
    story.run(2);
    assert_eq!(story.answer(call), Some((1, &Reply::Failed(Failure::Unavailable))));
    assert!(story.caller.is_open(), "with its own look that is three");
    assert_eq!(story.caller.unresolved(), 0);
}

#[test]
fn one_failure_among_successes_does_not_open() {
    let mut story = Story::new(1);
    for _ in 0..20 {
        story.way = Way::Black;
        story.knock(2);
        story.way = GOOD;
        story.knock(1);
        story.run(390);
        story.knock(1);
        story.run(1_000);
        assert!(!story.caller.is_open());
    }
}

#[test]
fn a_gateway_that_asks_seldom_notices_within_a_second_of_failures() {
    let mut story = Story::new(1);
    story.knock(1);
    story.run(1_900);
    story.way = Way::Black;
    story.run(150);
    assert_eq!(story.sent.len(), 3, "its own look, at two seconds");
    story.run(800);
    story.knock(1);
    story.run(399);
    assert!(!story.caller.is_open());
    story.run(1);
    assert!(story.caller.is_open(), "two failures, and more than a second");
}

#[test]
fn an_answer_that_refuses_is_an_answer() {
    let mut story = Story::new(1);
    for n in 0..10 {
        let wrong = story.place(&record("", 1, 100)).unwrap();
        story.run(30);
        assert!(matches!(story.answer(wrong), Some((_, Reply::Failed(Failure::Bad(_))))));
        assert!(!story.caller.is_open(), "after {n}");
    }
    assert_eq!(story.caller.unresolved(), 0);
}

#[test]
fn an_engine_that_is_back_is_believed_after_three_probes() {
    let mut story = Story::new(1);
    story.lose(Way::Black);
    story.run(30_000);
    let before = story.sent.len();
    story.way = GOOD;
    while story.caller.is_open() {
        story.run(1);
    }
    let good = story.sent.len() - before;
    assert_eq!(good, 3);
    let call = story.place(&record("a", 1, 100)).unwrap();
    story.run(20);
    assert!(matches!(story.answer(call), Some((_, Reply::Placed(Placed::Won(_))))));
    assert_eq!(story.wipes(), 0);
}

#[test]
fn an_engine_that_flickers_is_not_believed() {
    let mut story = Story::new(1);
    story.lose(Way::Black);
    for _ in 0..30 {
        story.way = GOOD;
        story.run(500);
        story.way = Way::Black;
        story.run(500);
        assert!(story.caller.is_open());
    }
}

#[test]
fn a_wiped_engine_is_noticed_by_its_instance() {
    let mut story = Story::new(1);
    story.knock(1);
    story.run(100);
    story.table = Table::new(InstanceId(2));
    story.run(2_020);
    assert_eq!(story.wipes(), 1);
    story.run(10_000);
    assert_eq!((story.wipes(), story.caller.instance()), (1, Some(InstanceId(2))));
}

#[test]
fn an_engine_wiped_while_it_was_away_is_said_so_when_it_can_be_refilled() {
    let mut story = Story::new(1);
    story.knock(1);
    story.run(100);
    story.lose(Way::Black);
    story.table = Table::new(InstanceId(2));
    story.way = GOOD;
    story.run(375 + 20);
    assert_eq!(story.caller.instance(), Some(InstanceId(2)));
    assert_eq!((story.wipes(), story.caller.is_open()), (0, true));
    story.run(1_000);
    assert_eq!((story.wipes(), story.caller.is_open()), (1, false));
}

#[test]
fn an_old_answer_that_was_overtaken_is_no_wipe() {
    let mut story = Story::new(1);
    story.way = Way::Black;
    let (first, second) =
        (story.ask(Request::Instance).unwrap(), story.ask(Request::Instance).unwrap());
    story.reply(second, Reply::Instance(InstanceId(2)));
    story.reply(first, Reply::Instance(InstanceId(1)));
    assert_eq!((story.wipes(), story.caller.instance()), (0, Some(InstanceId(2))));
}

#[test]
fn above_256_in_flight_calls_are_shed_at_once_until_some_are_answered() {
    let mut story = Story::new(1);
    story.run(100);
    let lookup = || Request::Lookup { room: RoomKey(1) };
    for _ in 0..CALLS_MAX {
        story.ask(lookup()).unwrap();
    }
    assert_eq!(story.ask(lookup()), Err(Shed::Full));
    assert_eq!(story.caller.calls(), CALLS_MAX);
    story.run(19);
    assert_eq!(story.ask(lookup()), Err(Shed::Full));
    story.run(1);
    assert_eq!(story.said.len(), CALLS_MAX);
    story.ask(lookup()).unwrap();
    story.run(5_000);
    assert_eq!((story.most, story.said.len()), (CALLS_MAX, CALLS_MAX + 1));
}

#[test]
fn a_claim_that_was_applied_in_silence_is_found_by_its_id() {
    let mut story = Story::new(1);
    let want = record("a", 1, 100);
    story.way = Way::Mute;
    let call = story.place(&want).unwrap();
    story.run(450);
    assert_eq!(story.answer(call), Some((400, &UNKNOWN)));
    assert_eq!((story.caller.unresolved(), story.caller.is_open()), (1, false));
    story.way = GOOD;
    story.run(1_200);
    let (at, reply) = story.resolved(call).unwrap();
    assert_eq!(reply, &Reply::Placed(Placed::Won(want)));
    assert!((1_400..1_570).contains(&at), "{at}");
    assert_eq!((story.caller.unresolved(), story.table.rooms()), (0, 1));
}

#[test]
fn claims_are_resolved_when_the_engine_is_back_each_by_what_is_true_then() {
    let mut story = Story::new(1);
    story.way = Way::Black;
    let [lost, beaten, over] = [100, 200, 300].map(|id| record("a", 1, id));
    let calls = [&lost, &beaten, &over].map(|want| story.place(want).unwrap());
    story.run(30_000);
    assert!(story.caller.is_open());
    assert!(calls.iter().all(|call| story.resolved(*call).is_none()));
    // Meanwhile, of other gateways: one placed the second room, and the third has ended.
    let other = record("b", 1, 201);
    story.table.apply(story.now, &Request::Place { room: room(&other), want: other.clone() });
    let end = Request::End { room: room(&over), generation: Generation(1) };
    story.table.apply(story.now, &end);
    story.way = GOOD;
    story.run(2_000);
    let resolved = calls.map(|call| story.resolved(call).unwrap().1.clone());
    assert_eq!(resolved[0], Reply::Placed(Placed::Won(lost)));
    assert_eq!(resolved[1], Reply::Placed(Placed::Held(other)));
    assert_eq!(resolved[2], Reply::Failed(Failure::Fenced(Generation(1))));
}

#[test]
fn a_part_of_the_engine_that_is_away_keeps_nothing_else_away() {
    let mut story = Story::new(1);
    let want = record("a", 1, 100);
    story.way = Way::Without(room(&want));
    let call = story.place(&want).unwrap();
    for _ in 0..600 {
        story.knock(1);
        story.run(500);
        assert!(!story.caller.is_open());
    }
    // Given up in the end, or a claim would come back after its tombstone.
    let kept = UNRESOLVED_KEPT.as_millis().try_into().unwrap();
    assert_eq!(story.resolved(call), Some((kept, &UNKNOWN)));
    let asked = story.sent.iter().filter(|(.., request)| matches!(request, Request::Place { .. }));
    let asked = asked.count();
    assert!((200..260).contains(&asked), "{asked} times in five minutes");
}

/// A claim that was lost on its way; another answer calms the breaker.
fn unresolved(story: &mut Story, id: u128) -> CallId {
    let way = std::mem::replace(&mut story.way, Way::Black);
    let call = story.place(&record("a", 1, id)).unwrap();
    story.reply(call, UNKNOWN);
    let look = story.ask(Request::Instance).unwrap();
    story.reply(look, Reply::Instance(InstanceId(1)));
    story.way = way;
    call
}

#[test]
fn claims_that_stay_unknown_neither_block_the_others_nor_open_the_breaker() {
    let mut story = Story::new(1);
    story.way = Way::Without(RoomKey(1));
    let stuck: Vec<_> =
        (0..2 * RESOLVING_MAX as u128).map(|n| unresolved(&mut story, 100 + n)).collect();
    let (other, free) = (record("a", 1, 200), unresolved(&mut story, 200));
    for _ in 0..50 {
        story.run(100);
        assert!(!story.caller.is_open());
    }
    assert_eq!(story.resolved(free).unwrap().1, &Reply::Placed(Placed::Won(other)));
    assert_eq!(story.caller.unresolved(), stuck.len());
    assert!(story.most <= RESOLVING_MAX + 2, "{}", story.most);
}

#[test]
fn a_trickle_of_unknown_claims_does_not_put_off_the_questions() {
    let mut story = Story::new(1);
    let first = unresolved(&mut story, 100);
    for n in 2..8 {
        story.run(300);
        unresolved(&mut story, n * 100);
    }
    assert!(story.resolved(first).is_some());
}

#[test]
fn a_late_answer_ends_the_question_that_was_asked_again() {
    let mut story = Story::new(1);
    story.way = Way::Black;
    let want = record("a", 1, 100);
    let first = story.place(&want).unwrap();
    story.reply(first, UNKNOWN);
    story.reply(first, Reply::Failed(Failure::Unavailable));
    assert_eq!(story.resolved(first), None, "it tells of one try only");
    story.run(1_150);
    let again = story.sent.iter().rfind(|(.., request)| room_of(request).is_some()).unwrap().1;
    assert_ne!(again, first);
    let won = Reply::Placed(Placed::Won(want));
    story.reply(first, won.clone());
    story.reply(again, UNKNOWN);
    story.reply(again, won.clone());
    story.run(500);
    assert_eq!(story.resolved(first).unwrap().1, &won);
    assert_eq!((story.said.len(), story.caller.unresolved()), (2, 0));
}

#[test]
fn a_gateway_that_watches_needs_no_looks_of_its_own() {
    let mut story = Story::new(1);
    for _ in 0..20 {
        story.ask(Request::Watch { after: Revision::START }).unwrap();
        story.run(1_000);
    }
    assert_eq!(story.sent.len(), 21, "the first look came before the first answer");
}

#[test]
fn many_claims_are_asked_about_a_few_at_a_time_and_each_in_its_turn() {
    let mut story = Story::new(1);
    story.way = Way::Black;
    let calls: Vec<_> =
        (1..=200_u128).map(|n| story.place(&record("a", 1, n * 100)).unwrap()).collect();
    story.run(1_000);
    story.way = GOOD;
    story.most = 0;
    story.run(1_500);
    assert!(calls.iter().all(|call| story.resolved(*call).is_some()));
    let order: Vec<_> = calls.iter().map(|call| story.resolved(*call).unwrap().0).collect();
    assert!(order.is_sorted());
    assert!(story.most <= RESOLVING_MAX + 1, "{}", story.most);
}

#[test]
fn claims_beyond_the_limit_are_given_up_the_oldest_first() {
    let mut story = Story::new(1);
    let mut calls = Vec::new();
    // An engine that answers everything but claims.
    while calls.len() <= UNRESOLVED_MAX {
        let id = (calls.len() as u128 + 1) * 100;
        calls.push(unresolved(&mut story, id));
    }
    assert_eq!(story.caller.unresolved(), UNRESOLVED_MAX);
    assert_eq!(story.resolved(calls[0]), Some((0, &UNKNOWN)));
    assert_eq!(story.resolved(calls[1]), None);
}

#[test]
fn a_process_that_stood_still_takes_the_answers_that_waited_for_it() {
    let mut story = Story::new(1);
    story.way = Way::Black;
    let call = story.place(&record("a", 1, 100)).unwrap();
    story.now = story.now + Duration::from_secs(3);
    let reply = Reply::Placed(Placed::Won(record("a", 1, 100)));
    story.reply(call, reply.clone());
    assert_eq!(story.answer(call), Some((3_000, &reply)));
    story.reply(call, reply);
    story.reply(CallId { at: Partition(0), number: 999 }, UNKNOWN);
    assert_eq!(story.said.len(), 1, "a second answer, and one to nobody's question");
}

#[test]
fn the_same_seed_probes_alike_and_another_does_not() {
    let probes = |seed: u64| -> Vec<Time> {
        let mut story = Story::new(seed);
        story.lose(Way::Black);
        story.run(20_000);
        story.sent.iter().map(|(at, ..)| *at).collect()
    };
    assert_eq!(probes(1), probes(1));
    let (one, two) = (probes(1), probes(2));
    let together = one.iter().filter(|at| two.contains(at)).count();
    assert!(together < 10, "{together} of {} together", one.len());
}

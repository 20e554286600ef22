//! What holds for a caller whatever the engine does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod story;

use std::{collections::BTreeMap, time::Duration};

use outlast_directory::{
    CALLS_MAX, CallId, CallerOutput, DEADLINE_MAX, Failure, InstanceId, Reply, Request, RoomKey,
    Table, UNRESOLVED_KEPT,
};
use outlast_model::{Generation, Time};
use proptest::prelude::*;
use story::{GOOD, Story, Way, record};

#[derive(Clone, Debug)]
enum Turn {
    Ask(u8),
    Herd(u16),
    Way(Way),
    Run(u64),
    Wipe,
}

fn turn() -> impl Strategy<Value = Turn> {
    let way = prop_oneof![
        Just(GOOD),
        (1..600_u64).prop_map(Way::Up),
        Just(Way::Black),
        Just(Way::Refuses),
        Just(Way::Mute),
        Just(Way::Without(RoomKey(1))),
    ];
    prop_oneof![
        8 => (0..4_u8).prop_map(Turn::Ask),
        1 => (1..400_u16).prop_map(Turn::Herd),
        2 => way.prop_map(Turn::Way),
        4 => (1..3_000_u64).prop_map(Turn::Run),
        1 => Just(Turn::Wipe),
    ]
}

/// Everything that was asked and let through, with what was asked.
type Asked = BTreeMap<CallId, (Time, Request)>;

fn play(story: &mut Story, turns: Vec<Turn>) -> Asked {
    let (mut asked, mut instance, mut id) = (Asked::new(), 1, 100);
    let mut ask = |story: &mut Story, what: u8| {
        id += 1;
        let want = record("a", 1 + u64::from(what), id);
        let room = RoomKey(u128::from(what % 3));
        let request = match what {
            0 => Request::Lookup { room },
            1 => Request::Place { room, want },
            2 => Request::Replace { room, expected: Generation(1), want },
            _ => Request::End { room, generation: Generation(2) },
        };
        if let Ok(call) = story.ask(request.clone()) {
            asked.insert(call, (story.now, request));
        }
    };
    for turn in turns {
        match turn {
            Turn::Ask(what) => ask(story, what),
            Turn::Herd(count) => (0..count).for_each(|_| ask(story, 1)),
            Turn::Way(way) => story.way = way,
            Turn::Run(millis) => story.run(millis),
            Turn::Wipe => {
                instance += 1;
                story.table = Table::new(InstanceId(instance));
            }
        }
    }
    asked
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_call_is_answered_in_time_and_every_claim_is_resolved(
        seed: u64,
        turns in prop::collection::vec(turn(), 1..60),
    ) {
        let mut story = Story::new(seed);
        let asked = play(&mut story, turns);
        story.way = GOOD;
        let healed = story.now;
        story.run(9_000);
        prop_assert!(!story.caller.is_open());
        prop_assert!(story.most <= CALLS_MAX);
        // The way is good again: what is open is resolved long before it would be given up.
        prop_assert_eq!(story.caller.unresolved(), 0);
        prop_assert!(story.caller.calls() <= 1, "a look at the instance may be under way");
        let (mut answered, mut resolved) = (BTreeMap::new(), BTreeMap::new());
        for (at, said) in &story.said {
            match said {
                CallerOutput::Answer { call, reply } => {
                    prop_assert!(at.since(asked[call].0) <= DEADLINE_MAX);
                    prop_assert!(answered.insert(*call, reply).is_none(), "answered twice");
                }
                CallerOutput::Resolved { call, reply } => {
                    let first = answered.get(call);
                    prop_assert_eq!(first, Some(&&Reply::Failed(Failure::Unknown)));
                    prop_assert!(resolved.insert(*call, reply).is_none(), "resolved twice");
                    let kept = at.since(asked[call].0);
                    prop_assert!(kept <= UNRESOLVED_KEPT.max(healed.since(asked[call].0) + Duration::from_secs(9)));
                }
                CallerOutput::Wiped { .. } => {}
                CallerOutput::Send { .. } => prop_assert!(false, "sends are kept apart"),
            }
        }
        for (call, (_, request)) in &asked {
            let is_claim = matches!(request, Request::Place { .. } | Request::Replace { .. });
            let unknown = answered[call] == &Reply::Failed(Failure::Unknown);
            prop_assert_eq!(resolved.contains_key(call), is_claim && unknown);
        }
        let content = story.table.instance();
        prop_assert!(story.caller.instance().is_none_or(|seen| seen == content));
    }

    #[test]
    fn the_same_story_is_told_alike(seed: u64, turns in prop::collection::vec(turn(), 1..40)) {
        let (mut one, mut two) = (Story::new(seed), Story::new(seed));
        play(&mut one, turns.clone());
        play(&mut two, turns);
        prop_assert_eq!((one.sent, one.said), (two.sent, two.said));
    }
}

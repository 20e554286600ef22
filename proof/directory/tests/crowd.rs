//! The checker on long histories of one room, made by a table in simulated time: it finds the order that there was, also with many
//! requests of which nobody knows when or whether they took effect.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use outlast_directory::{
    Failure, InstanceId, Placed, PlacementId, Record, Reply, Request, RoomKey, Table,
};
use outlast_directory_proof::{Chance, Consistency, History, Operation, check};
use outlast_model::{Epoch, Generation, Time};

const ROOM: RoomKey = RoomKey(5);

/// A request on its way.
struct Flight {
    start: u64,
    effect: Option<u64>,
    end: u64,
    is_unknown: bool,
    request: Request,
}

fn flights(chance: &mut Chance, count: usize, unknown_percent: u32) -> Vec<Flight> {
    let mut now = 0;
    let mut generation = 10;
    (0..count)
        .map(|n| {
            now += chance.below(20);
            let want = |generation: u64| Record {
                node: "n".into(),
                epoch: Epoch(1),
                generation: Generation(generation),
                id: PlacementId(n as u128 + 1),
                provisional: false,
            };
            let request = match chance.below(10) {
                0..4 => Request::Place { room: ROOM, want: want(generation) },
                4..8 => {
                    let expected = Generation(generation);
                    generation += chance.below(2);
                    Request::Replace { room: ROOM, expected, want: want(expected.0 + 1) }
                }
                _ => {
                    generation += 1;
                    Request::End { room: ROOM, generation: Generation(generation - 1) }
                }
            };
            let (start, is_unknown) = (now, chance.hits(unknown_percent));
            let effect = start + 1 + chance.below(30);
            let end = effect + 1 + chance.below(30);
            if !is_unknown {
                return Flight { start, effect: Some(effect), end, is_unknown, request };
            }
            // Long after its answer, or never.
            let effect = (!chance.hits(40)).then_some(start + 1 + chance.below(2_000));
            Flight { start, effect, end: start + 40, is_unknown, request }
        })
        .collect()
}

fn history(seed: u64, count: usize, unknown_percent: u32) -> History {
    let mut chance = Chance::named(seed, "crowd");
    let flights = flights(&mut chance, count, unknown_percent);
    let mut order: Vec<_> = (0..count).filter_map(|n| Some((flights[n].effect?, n))).collect();
    order.sort_unstable();
    let mut table = Table::new(InstanceId(1));
    let mut replies = vec![Reply::Failed(Failure::Unknown); count];
    for (_, n) in order {
        let reply = table.apply(Time::ZERO, &flights[n].request);
        if !flights[n].is_unknown {
            replies[n] = reply;
        }
    }
    let told = flights.into_iter().zip(replies).enumerate();
    let operations = told.map(|(n, (flight, reply))| Operation {
        client: u32::try_from(n).unwrap(),
        start: Time::from_millis(flight.start),
        end: Time::from_millis(flight.end),
        request: flight.request,
        reply,
    });
    History { operations: operations.collect(), ..History::default() }
}

#[test]
fn what_a_table_did_is_found_however_long_it_went_on() {
    for (count, unknown_percent) in [(4_000, 0), (2_000, 3), (400, 20)] {
        for seed in 0..10 {
            let findings = check(&history(seed, count, unknown_percent), Consistency::Linearizable);
            assert!(findings.anomalies.is_empty(), "seed {seed}: {:#?}", findings.anomalies);
            assert_eq!(findings.gave_up, 0, "seed {seed}, {count} with {unknown_percent} %");
        }
    }
}

#[test]
fn one_answer_from_long_ago_is_found_among_thousands() {
    for seed in 0..10 {
        let mut history = history(seed, 2_000, 0);
        let mut held: Vec<_> = history
            .operations
            .iter_mut()
            .filter_map(|operation| match &mut operation.reply {
                Reply::Placed(Placed::Held(record)) => Some(record),
                _ => None,
            })
            .collect();
        let (early, late) = (held.len() / 4, held.len() * 3 / 4);
        assert!(held[early].generation < held[late].generation);
        *held[late] = held[early].clone();
        let findings = check(&history, Consistency::Linearizable);
        assert!(!findings.anomalies.is_empty() && findings.gave_up == 0, "seed {seed}");
    }
}

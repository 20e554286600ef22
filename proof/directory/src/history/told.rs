//! What answers say about a room's generation, without looking for an order: clear words for the commonest anomalies, also
//! where the search gives up.

use std::collections::BTreeMap;

use outlast_directory::{Failure, Placed, Record, Reply, Request};
use outlast_model::Generation;

use super::{History, Operation};

/// Twice the generation, and one more if the room had ended under it.
type Height = u128;

fn held(generation: Generation) -> Height {
    2 * u128::from(generation.0)
}

/// How high the room was, by what a linearizable operation was told.
fn seen(operation: &Operation) -> Option<Height> {
    match &operation.reply {
        Reply::Placed(Placed::Won(record) | Placed::Held(record)) => Some(held(record.generation)),
        Reply::Failed(Failure::Fenced(generation)) => Some(held(*generation) + 1),
        _ => None,
    }
}

/// How high the room was at least when a linearizable operation was over.
fn left(operation: &Operation) -> Option<Height> {
    match (&operation.request, &operation.reply) {
        (Request::End { generation, .. }, Reply::Done) => Some(held(*generation) + 1),
        _ => seen(operation),
    }
}

/// The first pair of which the second began after the first was answered, and was told of a lower generation. `operations`
/// are those of one room, sorted by their start.
pub(super) fn went_back<'a>(
    history: &History,
    operations: &[&'a Operation],
) -> Option<(&'a Operation, &'a Operation)> {
    let mut by_end: Vec<_> =
        operations.iter().filter_map(|earlier| Some((left(earlier)?, *earlier))).collect();
    by_end.sort_by_key(|(_, earlier)| earlier.end);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<(Height, &Operation)> = None;
    for later in operations {
        let Some(now) = seen(later) else { continue };
        while let Some((height, earlier)) = ended.next_if(|(_, earlier)| earlier.end < later.start)
        {
            // A wipe takes generations with it.
            if highest.is_none_or(|(most, _)| height > most) {
                highest = Some((height, earlier));
            }
        }
        match highest {
            Some((most, earlier)) if most > now && !is_wiped_between(history, earlier, later) => {
                return Some((earlier, later));
            }
            Some((_, earlier)) if is_wiped_between(history, earlier, later) => highest = None,
            _ => {}
        }
    }
    None
}

/// The first two that were told of different holders under one generation.
pub(super) fn two_winners<'a>(
    history: &History,
    operations: &[&'a Operation],
) -> Option<(&'a Operation, &'a Operation)> {
    let mut winners: BTreeMap<Generation, (&Record, &Operation)> = BTreeMap::new();
    for operation in operations {
        let (Reply::Placed(Placed::Won(record) | Placed::Held(record))
        | Reply::Found(Some(record))) = &operation.reply
        else {
            continue;
        };
        let (first, who) = *winners.entry(record.generation).or_insert((record, operation));
        if first == record {
            continue;
        }
        if is_wiped_between(history, who, operation) {
            winners.insert(record.generation, (record, operation));
        } else {
            return Some((who, operation));
        }
    }
    None
}

fn is_wiped_between(history: &History, first: &Operation, second: &Operation) -> bool {
    let (from, to) = (first.start.min(second.start), first.end.max(second.end));
    history.wipes.iter().any(|(start, end)| *start <= to && *end >= from)
}

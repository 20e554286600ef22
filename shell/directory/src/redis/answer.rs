//! What a room is, in bytes, and what scripts answer.

use outlast_directory::{
    Changes, Event, Failure, InstanceId, Placed, Record, Reply, Revision, RoomKey, Summary,
};
use outlast_model::Generation;
use redis::Value;

const ENDED: u8 = b'E';
const HELD: u8 = b'H';

/// What a room is, as it is kept; `scripts/room.lua` says how.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Held(Record),
    Ended(Generation),
}

/// A room held by `record`, as it is kept.
pub(super) fn held(record: &Record) -> Vec<u8> {
    let mut value = vec![HELD];
    value.extend_from_slice(&record.generation.0.to_be_bytes());
    value.extend_from_slice(&record.id.0.to_be_bytes());
    value.extend_from_slice(&record.encode());
    value
}

/// A room that ended under `generation`, as it is kept.
pub(super) fn ended(generation: Generation) -> Vec<u8> {
    let mut value = vec![ENDED];
    value.extend_from_slice(&generation.0.to_be_bytes());
    value
}

fn state(value: &[u8]) -> Option<State> {
    let (&kind, rest) = value.split_first()?;
    let (generation, rest) = rest.split_first_chunk()?;
    match kind {
        ENDED => Some(State::Ended(Generation(u64::from_be_bytes(*generation)))),
        HELD => Record::decode(rest.get(16..)?).ok().map(State::Held),
        _ => None,
    }
}

/// To a claim for `want`.
pub(super) fn placed(answer: &Value, want: &Record) -> Reply {
    let Value::Array(parts) = answer else { return illegible() };
    match (parts.first().and_then(bytes), parts.get(1).and_then(bytes)) {
        (Some(b"won"), None) => Reply::Placed(Placed::Won(want.clone())),
        (Some(b"full"), None) => Reply::Failed(Failure::Bad("one room too many".to_owned())),
        (Some(what), Some(value)) => match (what, state(value)) {
            (b"won", Some(State::Held(record))) => Reply::Placed(Placed::Won(record)),
            (b"held", Some(State::Held(record))) => Reply::Placed(Placed::Held(record)),
            (b"fenced", Some(State::Ended(generation))) => {
                Reply::Failed(Failure::Fenced(generation))
            }
            _ => illegible(),
        },
        _ => illegible(),
    }
}

/// To an end and a heartbeat.
pub(super) fn done(answer: &Value) -> Reply {
    match bytes(answer) {
        Some(b"done") => Reply::Done,
        Some(b"full") => Reply::Failed(Failure::Bad("one region too many".to_owned())),
        _ => illegible(),
    }
}

/// To a lookup.
pub(super) fn found(answer: &Value) -> Reply {
    match (answer, bytes(answer).and_then(state)) {
        (Value::Nil, _) | (_, Some(State::Ended(_))) => Reply::Found(None),
        (_, Some(State::Held(record))) => Reply::Found(Some(record)),
        (_, None) => illegible(),
    }
}

/// To the question for summaries. One of a later version is left out: nothing depends on it.
pub(super) fn summaries(answer: &Value) -> Reply {
    let Value::Array(all) = answer else { return illegible() };
    let all = all.iter().filter_map(bytes).filter_map(|bytes| Summary::decode(bytes).ok());
    let mut all: Vec<_> = all.collect();
    all.sort_by(|one, other| one.region.cmp(&other.region));
    Reply::Summaries(all)
}

/// To the question for the instance.
pub(super) fn instance(answer: &Value) -> Reply {
    read_instance(answer).map_or_else(illegible, Reply::Instance)
}

/// To a watch.
pub(super) fn changes(answer: &Value) -> Reply {
    read_changes(answer).map_or_else(illegible, Reply::Changes)
}

fn read_changes(answer: &Value) -> Option<Changes> {
    let Value::Array(parts) = answer else { return None };
    let [now, Value::Int(anew), last, mark, Value::Array(rooms), Value::Array(values)] = &parts[..]
    else {
        return None;
    };
    let instance = read_instance(now)?;
    let mut events = Vec::with_capacity(rooms.len());
    for (room, value) in rooms.iter().zip(values) {
        let room = RoomKey(u128::from_be_bytes(bytes(room)?.try_into().ok()?));
        match bytes(value).and_then(state) {
            Some(State::Held(record)) => events.push(Event::Held { room, record }),
            Some(State::Ended(generation)) => events.push(Event::Ended { room, generation }),
            // A later version's: the others are heard all the same.
            None => {}
        }
    }
    let revision = Revision { instance, number: number(last)?, mark: number(mark)?.into() };
    Some(Changes { events, revision, resync: *anew == 1, instance })
}

fn read_instance(answer: &Value) -> Option<InstanceId> {
    let digits = str::from_utf8(bytes(answer)?).ok()?;
    u128::from_str_radix(digits, 16).ok().map(InstanceId)
}

fn number(value: &Value) -> Option<u64> {
    str::from_utf8(bytes(value)?).ok()?.parse().ok()
}

/// A text, however it came.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// Something that is none of ours, or a later version's.
fn illegible() -> Reply {
    Reply::Failed(Failure::Bad("Redis has a value that this version cannot read".to_owned()))
}

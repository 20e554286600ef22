//! Keys and values in etcd, and the transactions on them: one of them decides each claim and each end.
//!
//! | key | value |
//! |---|---|
//! | `PREFIX instance` | the instance, 16 bytes |
//! | `PREFIX r/ROOM`, 32 hexadecimal digits | 0, generation (8): it has ended; 1, generation (8), placement id (16), record: it is held |
//! | `PREFIX s/REGION` | the region's summary |
//!
//! Numbers are big-endian, so that etcd's comparison of values, byte by byte, is one of states: what has ended comes before
//! what is held, then by generation, then by placement. The generation and the id are in the record once more; its own
//! format may grow without a thought of this.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};
use outlast_directory::{Event, PlacementId, Record, RoomKey};
use outlast_model::{Generation, RegionName};

const ENDED: u8 = 0;
const HELD: u8 = 1;

/// Where everything of one directory is.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys { prefix: prefix.to_owned() }
    }

    /// What all keys of the directory begin with.
    pub(super) fn all(&self) -> Vec<u8> {
        self.prefix.clone().into_bytes()
    }

    pub(super) fn instance(&self) -> Vec<u8> {
        format!("{}instance", self.prefix).into_bytes()
    }

    pub(super) fn room(&self, room: RoomKey) -> Vec<u8> {
        format!("{}r/{room}", self.prefix).into_bytes()
    }

    /// All rooms: from, and up to but not including.
    pub(super) fn rooms(&self) -> (Vec<u8>, Vec<u8>) {
        // '0' comes after '/'.
        (format!("{}r/", self.prefix).into_bytes(), format!("{}r0", self.prefix).into_bytes())
    }

    /// The room of a key; `None` for a key of something else.
    pub(super) fn room_of(&self, key: &[u8]) -> Option<RoomKey> {
        let hex = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"r/")?;
        let room = RoomKey(u128::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
        // Not "+1", not "0A".
        (room.to_string().as_bytes() == hex).then_some(room)
    }

    pub(super) fn summary(&self, region: &RegionName) -> Vec<u8> {
        format!("{}s/{}", self.prefix, region.as_str()).into_bytes()
    }

    pub(super) fn summaries(&self) -> Vec<u8> {
        format!("{}s/", self.prefix).into_bytes()
    }
}

/// What a room's value says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ended(Generation),
    Held(Record),
}

impl State {
    /// `None` for bytes that are no state, or one of a version that this program does not speak.
    pub(super) fn read(value: &[u8]) -> Option<State> {
        let (&kind, rest) = value.split_first()?;
        let (generation, rest) = rest.split_first_chunk()?;
        match kind {
            ENDED => Some(State::Ended(Generation(u64::from_be_bytes(*generation)))),
            HELD => {
                let (_id, record) = rest.split_first_chunk::<16>()?;
                Record::decode(record).ok().map(State::Held)
            }
            _ => None,
        }
    }

    /// Whether a claim takes the place of what is there; what [`claim`] compares, said once more.
    pub(super) fn yields_to(&self, expected: Option<Generation>, want: &Record) -> bool {
        match self {
            State::Ended(generation) => *generation < want.generation,
            State::Held(held) => held.id != want.id && expected == Some(held.generation),
        }
    }

    pub(super) fn event(self, room: RoomKey) -> Event {
        match self {
            State::Ended(generation) => Event::Ended { room, generation },
            State::Held(record) => Event::Held { room, record },
        }
    }
}

fn ended(generation: Generation) -> Vec<u8> {
    [&[ENDED][..], &generation.0.to_be_bytes()].concat()
}

/// Where values of this generation begin, and with its last argument those of this placement.
fn held_from(generation: Generation, id: Option<PlacementId>) -> Vec<u8> {
    let id = id.map(|id| id.0.to_be_bytes());
    [&[HELD][..], &generation.0.to_be_bytes(), id.as_ref().map_or(&[], |id| id)].concat()
}

/// The first value that could not be one of this generation. Generations end below 2^64-1.
fn held_to(generation: Generation) -> Vec<u8> {
    held_from(Generation(generation.0.saturating_add(1)), None)
}

fn held(record: &Record) -> Vec<u8> {
    [held_from(record.generation, Some(record.id)), record.encode()].concat()
}

fn is_absent(key: &[u8]) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, 0)
}

/// False for a key that is absent (`server/etcdserver/apply.go`, `applyCompare`). Held values are longer than what they
/// begin with, so that `Greater` is what `not less` would be.
fn value(key: &[u8], is: CompareOp, than: Vec<u8>) -> Compare {
    Compare::value(key, is, than)
}

fn when(all: Vec<Compare>, then: TxnOp, otherwise: Option<TxnOp>) -> Txn {
    Txn::new().when(all).and_then([then]).or_else(otherwise.into_iter().collect::<Vec<_>>())
}

/// The whole decision of a place, or with `expected` of a replace: writes, or tells what is there.
///
/// What is there is written over only if it has not changed after `known`, a revision that etcd surely has by now: one of
/// the past. A copy of the claim that was left behind somewhere on the way is harmless then. Once the claim has been
/// refused, either the room is as it was, and refuses the copy too, or it has changed since, which is after `known`.
pub(super) fn claim(key: &[u8], expected: Option<Generation>, want: &Record, known: u64) -> Txn {
    let put = || TxnOp::put(key, held(want), None);
    let until_known = i64::try_from(known).unwrap_or(i64::MAX).saturating_add(1);
    let unchanged = || Compare::mod_revision(key, CompareOp::Less, until_known);
    let mut otherwise = TxnOp::get(key, None);
    if let Some(expected) = expected {
        // Held under the expected generation, by a placement with a lower id or with a higher one: by the same one it is
        // won already. In a record that follows the id the first byte, its version, is below 255.
        let (from, to) = (held_from(expected, None), held_to(expected));
        let own = held_from(expected, Some(want.id));
        let beyond = [&own[..], &[u8::MAX]].concat();
        for (from, to) in [(beyond, to), (from, own)] {
            let between = vec![
                unchanged(),
                value(key, CompareOp::Greater, from),
                value(key, CompareOp::Less, to),
            ];
            otherwise = TxnOp::txn(when(between, put(), Some(otherwise)));
        }
    }
    // Ended under a lower generation; what is held is greater than all that has ended.
    let lower = vec![unchanged(), value(key, CompareOp::Less, ended(want.generation))];
    let otherwise = TxnOp::txn(when(lower, put(), Some(otherwise)));
    when(vec![is_absent(key)], put(), Some(otherwise))
}

/// The whole decision of an end: writes a tombstone under `lease`, or nothing. A copy that comes later finds nothing to do.
pub(super) fn end(key: &[u8], generation: Generation, lease: i64) -> Txn {
    let put = || TxnOp::put(key, ended(generation), Some(PutOptions::new().with_lease(lease)));
    let not_higher = vec![
        value(key, CompareOp::Greater, vec![HELD]),
        value(key, CompareOp::Less, held_to(generation)),
    ];
    let not_higher = TxnOp::txn(when(not_higher, put(), None));
    let raised = vec![value(key, CompareOp::Less, ended(generation))];
    let raised = TxnOp::txn(when(raised, put(), Some(not_higher)));
    when(vec![is_absent(key)], put(), Some(raised))
}

/// What came of a transaction, at the branch that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It wrote.
    Put,
    /// It read this value.
    Got(Vec<u8>),
    /// It read that there are so many keys.
    Count(i64),
    /// It had nothing to do.
    Nothing,
}

pub(super) fn taken(response: &TxnResponse) -> Taken {
    match response.op_responses().into_iter().next() {
        None => Taken::Nothing,
        Some(TxnOpResponse::Put(_) | TxnOpResponse::Delete(_)) => Taken::Put,
        Some(TxnOpResponse::Txn(inner)) => taken(&inner),
        Some(TxnOpResponse::Get(mut read)) => match read.take_kvs().pop() {
            Some(kv) => Taken::Got(kv.value().to_vec()),
            None => Taken::Count(read.count()),
        },
    }
}

#[cfg(test)]
mod tests {
    use outlast_model::Epoch;

    use super::*;

    fn record(generation: u64, id: u128) -> Record {
        Record {
            node: "eu-1".into(),
            epoch: Epoch(7),
            generation: Generation(generation),
            id: PlacementId(id),
            provisional: false,
        }
    }

    #[test]
    fn values_are_ordered_as_states_are() {
        let (low, high) = (Generation(255), Generation(256));
        let values = [
            ended(Generation(1)),
            ended(low),
            ended(high),
            held_from(Generation(1), None),
            held(&record(255, 1)),
            held(&record(255, 2)),
            held(&record(255, u128::MAX)),
            held_to(low),
            held(&record(256, 1)),
            held_to(Generation(u64::MAX - 1)),
        ];
        assert!(values.is_sorted_by(|one, next| one < next));
        let own = held_from(low, Some(PlacementId(2)));
        assert!(own < held(&record(255, 2)) && held(&record(255, 1)) < own);
        let beyond = [&own[..], &[u8::MAX]].concat();
        assert!(held(&record(255, 2)) < beyond && beyond < held(&record(255, 3)));
    }

    #[test]
    fn states_come_back_and_garbage_is_none() {
        let held_value = held(&record(3, 9));
        assert_eq!(State::read(&held_value), Some(State::Held(record(3, 9))));
        assert_eq!(State::read(&ended(Generation(4))), Some(State::Ended(Generation(4))));
        for cut in 0..held_value.len() {
            assert_eq!(State::read(&held_value[..cut]), None, "{cut}");
        }
        assert_eq!(State::read(&[2; 60]), None);
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let keys = Keys::new("out/");
        let (from, to) = keys.rooms();
        for room in [RoomKey(0), RoomKey(0xabc), RoomKey(u128::MAX)] {
            let key = keys.room(room);
            assert_eq!(keys.room_of(&key), Some(room));
            assert!(from < key && key < to && keys.instance() < from);
        }
        assert!(to < keys.summary(&"a".into()));
        for key in ["out/instance", "out/r/+1", "out/r/", "r/00000000000000000000000000000001"] {
            assert_eq!(keys.room_of(key.as_bytes()), None, "{key}");
        }
        let upper = format!("out/r/{:032X}", 0xabc);
        assert_eq!(keys.room_of(upper.as_bytes()), None);
    }
}

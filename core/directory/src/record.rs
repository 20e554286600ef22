//! What the directory holds of one room, and its bytes. Nothing of a participant, no name, no address, no secret.

use std::fmt;

use outlast_model::{Epoch, Generation, NodeId};

/// Longest node id or region name in the directory, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 255;
/// Most bytes of an encoded record, those included that a later version may add. Lower: nothing can be added; higher: a
/// million rooms no longer fit an engine that keeps them with their history in memory.
pub const RECORD_BYTES_MAX: usize = 1_000;

/// Names one placement for ever: whoever makes a placement draws 128 random bits for it. Asking again with the same id
/// is asking for the same placement, however often; 0 is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlacementId(pub u128);

impl fmt::Display for PlacementId {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Where a room is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Its node, 1 to [`NAME_BYTES_MAX`] bytes.
    pub node: NodeId,
    /// The node's start that the placement was made for.
    pub epoch: Epoch,
    /// Fencing number, from 1 on; the last number is not used, since nothing could supersede it.
    pub generation: Generation,
    /// Which placement this is; not 0.
    pub id: PlacementId,
    /// It was made without the directory and announced later. Engines store it and never look at it.
    pub provisional: bool,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Fewer bytes than the first version of the format has.
    #[error("record is cut short")]
    Short,
    /// More bytes than [`RECORD_BYTES_MAX`].
    #[error("record has bytes too many")]
    Long,
    /// A version that this program does not speak.
    #[error("unknown version {0} of a record")]
    Version(u8),
    /// A field's value is outside its range.
    #[error("malformed {0} in a record")]
    Field(&'static str),
}

const VERSION: u8 = 1;
const PROVISIONAL: u8 = 1;

impl Record {
    /// The record's bytes, integers big-endian: version (1 byte), flags (1; bit 0: provisional), epoch (8), generation
    /// (8), id (16), length of the node id (1), node id. A record that [`Record::decode`] would refuse, which no engine
    /// takes either, makes bytes that nobody decodes.
    pub fn encode(&self) -> Vec<u8> {
        let node = self.node.as_str().as_bytes();
        let mut out = Vec::with_capacity(FIXED_BYTES + node.len());
        out.extend_from_slice(&[VERSION, if self.provisional { PROVISIONAL } else { 0 }]);
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.generation.0.to_be_bytes());
        out.extend_from_slice(&self.id.0.to_be_bytes());
        // A length of 0 is refused when read.
        out.push(u8::try_from(node.len()).unwrap_or(0));
        out.extend_from_slice(node);
        out
    }

    /// Reads a record. A later version that only adds writes version 1 still: what follows the fields above, and flags
    /// without a meaning here, are passed over. Fields that are added one day are absent in older records and have a
    /// default then.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::Long);
        }
        let (&version, rest) = bytes.split_first().ok_or(RecordError::Short)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let ([flags], rest) = take(rest)?;
        let (epoch, rest) = take(rest)?;
        let (generation, rest) = take(rest)?;
        let (id, rest) = take(rest)?;
        let ([length], rest) = take(rest)?;
        let node = rest.get(..usize::from(length)).ok_or(RecordError::Short)?;
        let node = std::str::from_utf8(node).map_err(|_| RecordError::Field("node"))?;
        let record = Record {
            node: node.into(),
            epoch: Epoch(u64::from_be_bytes(epoch)),
            generation: Generation(u64::from_be_bytes(generation)),
            id: PlacementId(u128::from_be_bytes(id)),
            provisional: flags & PROVISIONAL != 0,
        };
        record.check().map_err(RecordError::Field)?;
        Ok(record)
    }

    /// Names the first field that is outside its range.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if !(1..=NAME_BYTES_MAX).contains(&self.node.as_str().len()) {
            return Err("node");
        }
        if self.id.0 == 0 {
            return Err("placement id");
        }
        check_generation(self.generation)
    }
}

/// Whether a room may have this generation.
pub(crate) fn check_generation(generation: Generation) -> Result<(), &'static str> {
    if (1..u64::MAX).contains(&generation.0) { Ok(()) } else { Err("generation") }
}

const FIXED_BYTES: usize = 1 + 1 + 8 + 8 + 16 + 1;

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), RecordError> {
    let (field, rest) = bytes.split_first_chunk::<N>().ok_or(RecordError::Short)?;
    Ok((*field, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        Record {
            node: "eu-1".into(),
            epoch: Epoch(7),
            generation: Generation(258),
            id: PlacementId(0xabc),
            provisional: true,
        }
    }

    #[test]
    fn the_bytes_are_the_same_in_every_version() {
        let hex: String = record().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let fields = [
            "01",
            "01",
            "0000000000000007",
            "0000000000000102",
            "00000000000000000000000000000abc",
            "04",
            "65752d31",
        ];
        assert_eq!(hex, fields.concat());
    }

    #[test]
    fn a_later_version_may_add_fields_and_flags() {
        let mut bytes = record().encode();
        bytes[1] |= 0b1010_0000;
        bytes.extend_from_slice(&[9; 20]);
        assert_eq!(Record::decode(&bytes), Ok(record()));
        bytes[0] = 2;
        assert_eq!(Record::decode(&bytes), Err(RecordError::Version(2)));
    }

    #[test]
    fn limits_hold() {
        let longest = Record { node: "x".repeat(NAME_BYTES_MAX).into(), ..record() };
        let mut bytes = longest.encode();
        assert_eq!(Record::decode(&bytes).as_ref(), Ok(&longest));
        bytes.resize(RECORD_BYTES_MAX, 0);
        assert_eq!(Record::decode(&bytes), Ok(longest));
        bytes.push(0);
        assert_eq!(Record::decode(&bytes), Err(RecordError::Long));
        for (wrong, field) in [
            (Record { node: "x".repeat(NAME_BYTES_MAX + 1).into(), ..record() }, "node"),
            (Record { node: "".into(), ..record() }, "node"),
            (Record { id: PlacementId(0), ..record() }, "placement id"),
            (Record { generation: Generation(0), ..record() }, "generation"),
            (Record { generation: Generation(u64::MAX), ..record() }, "generation"),
        ] {
            assert_eq!(wrong.check(), Err(field));
            assert_eq!(Record::decode(&wrong.encode()), Err(RecordError::Field(field)));
        }
    }

    proptest! {
        #[test]
        fn every_record_comes_back_and_none_that_is_cut(
            node in "[a-zé]{1,100}",
            numbers: (u64, u64, u128),
            provisional: bool,
            cut: prop::sample::Index,
        ) {
            let record = Record {
                node: node.into(),
                epoch: Epoch(numbers.0),
                generation: Generation(numbers.1.clamp(1, u64::MAX - 1)),
                id: PlacementId(numbers.2.max(1)),
                provisional,
            };
            let bytes = record.encode();
            prop_assert_eq!(Record::decode(&bytes[..cut.index(bytes.len())]), Err(RecordError::Short));
            prop_assert_eq!(Record::decode(&bytes), Ok(record));
        }

        #[test]
        fn garbage_is_an_error_or_a_record(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
            }
        }
    }
}

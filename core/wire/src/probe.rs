//! The question whether a node has a room, asked where neither the view nor the directory can tell, and its answer.

use outlast_model::{Generation, RoomName};

use crate::bytes::{DecodeError, Reader, put_name};

/// Longest name of a room that is asked for, in bytes: a longer one would not fit a datagram, and is placed unasked.
pub const PROBE_NAME_BYTES_MAX: usize = 128;

/// From a gateway to a node: is this room there?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The gateway's number for the question; the answer has it too.
    pub number: u64,
    /// Which; its name has at most [`PROBE_NAME_BYTES_MAX`] bytes.
    pub room: RoomName,
}

/// The node's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// Of which question.
    pub number: u64,
    /// Under which generation it is there, or about to be; `None` when it is not.
    pub generation: Option<Generation>,
}

impl Probe {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_be_bytes());
        put_name(self.room.as_str(), out);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Probe, DecodeError> {
        Ok(Probe { number: reader.u64()?, room: reader.name("room")?.into() })
    }
}

impl Probed {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_be_bytes());
        out.push(u8::from(self.generation.is_some()));
        out.extend_from_slice(&self.generation.unwrap_or_default().0.to_be_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Probed, DecodeError> {
        let number = reader.u64()?;
        let there = reader.flag("there")?;
        let generation = Generation(reader.u64()?);
        Ok(Probed { number, generation: there.then_some(generation) })
    }
}

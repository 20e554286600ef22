//! The room stream: what a node hosts, one frame a room, then changes. It runs over mutual TLS, so frames carry no proof.

use outlast_model::{Generation, NAME_CHARS_MAX, RoomName};

use crate::bytes::{DecodeError, Reader};

/// Longest frame: version, kind, generation, and a name of four-byte characters.
pub const ROOM_FRAME_BYTES_MAX: usize = 1 + 1 + 8 + 4 * NAME_CHARS_MAX;

/// One frame of the room stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomFrame {
    /// The node hosts `room` under `generation`.
    Hosted {
        /// Which room.
        room: RoomName,
        /// Its placement's fencing number.
        generation: Generation,
    },
    /// `room` of `generation` has ended here.
    Closed {
        /// Which room.
        room: RoomName,
        /// The placement that ended.
        generation: Generation,
    },
    /// Every room open when the stream began has been named; changes follow.
    Synced,
}

const VERSION: u8 = 1;
const HOSTED: u8 = 1;
const CLOSED: u8 = 2;
const SYNCED: u8 = 3;

impl RoomFrame {
    /// The frame's bytes. A room name over `NAME_CHARS_MAX` characters makes a frame that nobody decodes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, room, generation) = match self {
            RoomFrame::Hosted { room, generation } => (HOSTED, room.as_str(), *generation),
            RoomFrame::Closed { room, generation } => (CLOSED, room.as_str(), *generation),
            RoomFrame::Synced => return vec![VERSION, SYNCED],
        };
        let mut out = Vec::with_capacity(10 + room.len());
        out.extend_from_slice(&[VERSION, kind]);
        out.extend_from_slice(&generation.0.to_be_bytes());
        out.extend_from_slice(room.as_bytes());
        out
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// When `bytes` are not exactly one frame of this version.
    pub fn decode(bytes: &[u8]) -> Result<RoomFrame, DecodeError> {
        if bytes.len() > ROOM_FRAME_BYTES_MAX {
            return Err(DecodeError::Long);
        }
        let mut reader = Reader(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let kind = reader.u8()?;
        if kind == SYNCED {
            reader.end()?;
            return Ok(RoomFrame::Synced);
        }
        if kind != HOSTED && kind != CLOSED {
            return Err(DecodeError::Kind(kind));
        }
        let generation = Generation(reader.u64()?);
        let name = reader.text(reader.0.len(), "room name")?;
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            return Err(DecodeError::Field("room name"));
        }
        let room = RoomName::from(name);
        Ok(match kind {
            HOSTED => RoomFrame::Hosted { room, generation },
            _ => RoomFrame::Closed { room, generation },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_frame_comes_back(name in ".{1,256}", generation: u64, closed: bool) {
            let (room, generation) = (RoomName::from(name), Generation(generation));
            let frame = if closed {
                RoomFrame::Closed { room, generation }
            } else {
                RoomFrame::Hosted { room, generation }
            };
            prop_assert_eq!(RoomFrame::decode(&frame.encode()), Ok(frame));
        }

        #[test]
        fn garbage_is_an_error_or_a_frame(mut bytes in prop::collection::vec(any::<u8>(), 0..64), tidy: bool) {
            if tidy && bytes.len() > 2 {
                (bytes[0], bytes[1]) = (VERSION, 1 + bytes[1] % 3);
            }
            if let Ok(frame) = RoomFrame::decode(&bytes) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }

    #[test]
    fn limits_hold() {
        assert_eq!(RoomFrame::decode(&RoomFrame::Synced.encode()), Ok(RoomFrame::Synced));
        assert_eq!(RoomFrame::decode(&[9, 3]), Err(DecodeError::Version(9)));
        let long = RoomFrame::Hosted { room: "x".repeat(257).into(), generation: Generation(1) };
        assert_eq!(RoomFrame::decode(&long.encode()), Err(DecodeError::Field("room name")));
        let nameless = RoomFrame::Hosted { room: "".into(), generation: Generation(1) };
        assert_eq!(RoomFrame::decode(&nameless.encode()), Err(DecodeError::Field("room name")));
    }
}

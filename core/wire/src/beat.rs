//! What a beat and an echo say. Times inside are opaque to whoever did not write them: clocks of two machines are never
//! compared.

use std::time::Duration;

use outlast_model::Epoch;

use crate::bytes::{DecodeError, Reader};

/// One datagram's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// From a node to a gateway.
    Beat(Beat),
    /// From a gateway to a node, right after a beat.
    Echo(Echo),
}

/// A node's sign of life, sent to every gateway each `BEAT_INTERVAL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// A tick has passed every shard since the last beat. Without it the datagram proves only that a socket lives.
    pub ticked: bool,
    /// The node takes no new rooms and moves the ones it has.
    pub draining: bool,
    /// Load in thousandths of what the node can carry.
    pub load_permille: u16,
    /// Rooms open on all shards.
    pub rooms: u32,
    /// Participants in them.
    pub participants: u32,
    /// The last echo heard from the gateway that this beat goes to.
    pub echoed: Option<Echoed>,
}

/// A gateway's answer to a beat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Echo {
    /// Epoch of the node that was heard.
    pub heard_epoch: Epoch,
    /// Sequence number of the beat that was heard.
    pub heard_sequence: u64,
    /// The gateway's own clock when it sent this, in nanoseconds; the node returns it untouched.
    pub stamp: u64,
}

/// An echo as the node gives it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Echoed {
    /// Epoch of the gateway that sent the echo.
    pub epoch: Epoch,
    /// Its stamp, untouched.
    pub stamp: u64,
    /// How long the node has had the echo; in microseconds on the wire, an hour and more is cut to 2^32-1.
    pub held: Duration,
}

const KIND_BEAT: u8 = 1;
const KIND_ECHO: u8 = 2;

impl Message {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Beat(beat) => {
                out.push(KIND_BEAT);
                out.push(u8::from(beat.ticked));
                out.push(u8::from(beat.draining));
                out.extend_from_slice(&beat.load_permille.to_be_bytes());
                out.extend_from_slice(&beat.rooms.to_be_bytes());
                out.extend_from_slice(&beat.participants.to_be_bytes());
                out.push(u8::from(beat.echoed.is_some()));
                if let Some(echoed) = &beat.echoed {
                    out.extend_from_slice(&echoed.epoch.0.to_be_bytes());
                    out.extend_from_slice(&echoed.stamp.to_be_bytes());
                    let held = u32::try_from(echoed.held.as_micros()).unwrap_or(u32::MAX);
                    out.extend_from_slice(&held.to_be_bytes());
                }
            }
            Message::Echo(echo) => {
                out.push(KIND_ECHO);
                out.extend_from_slice(&echo.heard_epoch.0.to_be_bytes());
                out.extend_from_slice(&echo.heard_sequence.to_be_bytes());
                out.extend_from_slice(&echo.stamp.to_be_bytes());
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        let mut reader = Reader(bytes);
        let message = match reader.u8()? {
            KIND_BEAT => Message::Beat(beat(&mut reader)?),
            KIND_ECHO => Message::Echo(Echo {
                heard_epoch: Epoch(reader.u64()?),
                heard_sequence: reader.u64()?,
                stamp: reader.u64()?,
            }),
            kind => return Err(DecodeError::Kind(kind)),
        };
        reader.end()?;
        Ok(message)
    }
}

fn beat(reader: &mut Reader<'_>) -> Result<Beat, DecodeError> {
    let mut beat = Beat {
        ticked: reader.flag("ticked")?,
        draining: reader.flag("draining")?,
        load_permille: reader.u16()?,
        rooms: reader.u32()?,
        participants: reader.u32()?,
        echoed: None,
    };
    if reader.flag("echoed")? {
        beat.echoed = Some(Echoed {
            epoch: Epoch(reader.u64()?),
            stamp: reader.u64()?,
            held: Duration::from_micros(u64::from(reader.u32()?)),
        });
    }
    Ok(beat)
}

//! What a beat, an echo and an outlook say. Times inside are opaque to whoever did not write them: clocks of two machines
//! are never compared.

use std::time::Duration;

use outlast_model::Epoch;

use crate::{
    Probe, Probed,
    bytes::{DecodeError, Reader},
};

/// One datagram's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// From a node to a gateway.
    Beat(Beat),
    /// From a gateway to a node, right after a beat.
    Echo(Echo),
    /// From a gateway to another, and to name servers.
    Outlook(Outlook),
    /// From a gateway to a node.
    Probe(Probe),
    /// From a node to the gateway that has asked.
    Probed(Probed),
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
    /// The node takes no new rooms for now; those that it has stay.
    pub full: bool,
    /// What is left of the node's lease, in milliseconds; 0 without one. For metrics.
    pub lease_ms: u32,
    /// Joins that the node has admitted since it started, modulo 2^32.
    pub joins_admitted: u32,
    /// Those of them whose media came up, modulo 2^32.
    pub joins_connected: u32,
    /// Joins a second that the node admits in the long run; 0 when it does not say, being of an earlier version.
    pub joins_per_second: u32,
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

/// What one gateway sees, sent to every other gateway and to every name server each `BEAT_INTERVAL`. Nothing answers it but another
/// gateway's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Digest of the sorted names of the configured regions: bits mean the same only where it is the same.
    pub regions_digest: u32,
    /// Bit i, counted from the least: region i of the sorted names is heard.
    pub hears: u64,
    /// Nodes alive in its view.
    pub alive: u16,
    /// Nodes that it is configured with.
    pub known: u16,
    /// More than half of its nodes fell silent lately.
    pub shrunk: bool,
    /// The sender's own clock, in nanoseconds; comes back untouched in the receiver's `echoed`.
    pub stamp: u64,
    /// The last outlook heard from the gateway that this one goes to.
    pub echoed: Option<Echoed>,
    /// Bits as in `hears`: regions that come and go. 0 from a gateway of an earlier version.
    pub flapping: u64,
    /// The sender takes no clients: it starts or stops.
    pub closed: bool,
    /// Bits as in `hears`: regions of which a gateway is heard, the sender's own with them. 0 from a gateway of an earlier version.
    pub doors: u64,
    /// The other regions that are nearest to the sender by round trip, nearest first: each the number of its bit plus one; 0 fills up.
    pub nearest: [u8; NEAREST_MAX],
}

/// Regions that an outlook names as near.
pub const NEAREST_MAX: usize = 8;

const KIND_BEAT: u8 = 1;
const KIND_ECHO: u8 = 2;
const KIND_OUTLOOK: u8 = 3;
const KIND_PROBE: u8 = 4;
const KIND_PROBED: u8 = 5;

impl Message {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Beat(beat) => beat.encode(out),
            Message::Echo(echo) => {
                out.push(KIND_ECHO);
                out.extend_from_slice(&echo.heard_epoch.0.to_be_bytes());
                out.extend_from_slice(&echo.heard_sequence.to_be_bytes());
                out.extend_from_slice(&echo.stamp.to_be_bytes());
            }
            Message::Outlook(outlook) => outlook.encode(out),
            Message::Probe(probe) => {
                out.push(KIND_PROBE);
                probe.encode(out);
            }
            Message::Probed(probed) => {
                out.push(KIND_PROBED);
                probed.encode(out);
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        let mut reader = Reader(bytes);
        Ok(match reader.u8()? {
            KIND_BEAT => Message::Beat(Beat::decode(&mut reader)?),
            KIND_ECHO => Message::Echo(Echo {
                heard_epoch: Epoch(reader.u64()?),
                heard_sequence: reader.u64()?,
                stamp: reader.u64()?,
            }),
            KIND_OUTLOOK => Message::Outlook(Outlook::decode(&mut reader)?),
            KIND_PROBE => Message::Probe(Probe::decode(&mut reader)?),
            KIND_PROBED => Message::Probed(Probed::decode(&mut reader)?),
            kind => return Err(DecodeError::Kind(kind)),
        })
    }
}

impl Beat {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_BEAT);
        out.push(u8::from(self.ticked));
        out.push(u8::from(self.draining));
        out.extend_from_slice(&self.load_permille.to_be_bytes());
        out.extend_from_slice(&self.rooms.to_be_bytes());
        out.extend_from_slice(&self.participants.to_be_bytes());
        put_echoed(self.echoed.as_ref(), out);
        out.push(u8::from(self.full));
        out.extend_from_slice(&self.lease_ms.to_be_bytes());
        out.extend_from_slice(&self.joins_admitted.to_be_bytes());
        out.extend_from_slice(&self.joins_connected.to_be_bytes());
        out.extend_from_slice(&self.joins_per_second.to_be_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Beat, DecodeError> {
        Ok(Beat {
            ticked: reader.flag("ticked")?,
            draining: reader.flag("draining")?,
            load_permille: reader.u16()?,
            rooms: reader.u32()?,
            participants: reader.u32()?,
            echoed: take_echoed(reader)?,
            full: reader.grown(|reader| reader.flag("full"))?,
            lease_ms: reader.grown(Reader::u32)?,
            joins_admitted: reader.grown(Reader::u32)?,
            joins_connected: reader.grown(Reader::u32)?,
            joins_per_second: reader.grown(Reader::u32)?,
        })
    }
}

impl Outlook {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_OUTLOOK);
        out.extend_from_slice(&self.regions_digest.to_be_bytes());
        out.extend_from_slice(&self.hears.to_be_bytes());
        out.extend_from_slice(&self.alive.to_be_bytes());
        out.extend_from_slice(&self.known.to_be_bytes());
        out.push(u8::from(self.shrunk));
        out.extend_from_slice(&self.stamp.to_be_bytes());
        put_echoed(self.echoed.as_ref(), out);
        out.extend_from_slice(&self.flapping.to_be_bytes());
        out.push(u8::from(self.closed));
        out.extend_from_slice(&self.doors.to_be_bytes());
        out.extend_from_slice(&self.nearest);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Outlook, DecodeError> {
        Ok(Outlook {
            regions_digest: reader.u32()?,
            hears: reader.u64()?,
            alive: reader.u16()?,
            known: reader.u16()?,
            shrunk: reader.flag("shrunk")?,
            stamp: reader.u64()?,
            echoed: take_echoed(reader)?,
            flapping: reader.grown(Reader::u64)?,
            closed: reader.grown(|reader| reader.flag("closed"))?,
            doors: reader.grown(Reader::u64)?,
            nearest: reader.grown(Reader::array)?,
        })
    }
}

fn put_echoed(echoed: Option<&Echoed>, out: &mut Vec<u8>) {
    out.push(u8::from(echoed.is_some()));
    let Some(echoed) = echoed else { return };
    out.extend_from_slice(&echoed.epoch.0.to_be_bytes());
    out.extend_from_slice(&echoed.stamp.to_be_bytes());
    let held = u32::try_from(echoed.held.as_micros()).unwrap_or(u32::MAX);
    out.extend_from_slice(&held.to_be_bytes());
}

fn take_echoed(reader: &mut Reader<'_>) -> Result<Option<Echoed>, DecodeError> {
    if !reader.flag("echoed")? {
        return Ok(None);
    }
    Ok(Some(Echoed {
        epoch: Epoch(reader.u64()?),
        stamp: reader.u64()?,
        held: Duration::from_micros(u64::from(reader.u32()?)),
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use outlast_model::Generation;
    use proptest::prelude::*;

    use super::*;

    fn any_echoed() -> impl Strategy<Value = Option<Echoed>> {
        let echoed = any::<(u64, u64, u32)>().prop_map(|(epoch, stamp, held)| Echoed {
            epoch: Epoch(epoch),
            stamp,
            held: Duration::from_micros(u64::from(held)),
        });
        prop::option::of(echoed)
    }

    pub(crate) fn any_message() -> impl Strategy<Value = Message> {
        let beat = (any::<[bool; 3]>(), any::<u16>(), any::<[u32; 6]>(), any_echoed());
        let beat = beat.prop_map(|(flags, load_permille, counts, echoed)| {
            Message::Beat(Beat {
                ticked: flags[0],
                draining: flags[1],
                load_permille,
                rooms: counts[0],
                participants: counts[1],
                echoed,
                full: flags[2],
                lease_ms: counts[2],
                joins_admitted: counts[3],
                joins_connected: counts[4],
                joins_per_second: counts[5],
            })
        });
        let echo = any::<(u64, u64, u64)>().prop_map(|(epoch, heard_sequence, stamp)| {
            Message::Echo(Echo { heard_epoch: Epoch(epoch), heard_sequence, stamp })
        });
        let outlook =
            (any::<(u32, [u64; 4], [u16; 2], [bool; 2])>(), any_echoed(), any::<[u8; 8]>());
        let outlook = outlook.prop_map(|(fields, echoed, nearest)| {
            let (regions_digest, [hears, stamp, flapping, doors], [alive, known], flags) = fields;
            let [shrunk, closed] = flags;
            Message::Outlook(Outlook {
                regions_digest,
                hears,
                alive,
                known,
                shrunk,
                stamp,
                echoed,
                flapping,
                closed,
                doors,
                nearest,
            })
        });
        let probe = (any::<u64>(), "[a-z]{1,128}").prop_map(|(number, room)| {
            Message::Probe(Probe { number, room: room.as_str().into() })
        });
        let probed = any::<(u64, Option<u64>)>().prop_map(|(number, generation)| {
            Message::Probed(Probed { number, generation: generation.map(Generation) })
        });
        prop_oneof![beat, echo, outlook, probe, probed]
    }

    fn encoded(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        bytes
    }

    /// The beat as the first version wrote it: up to the echo.
    fn first_version(beat: &Beat) -> Vec<u8> {
        let mut bytes = encoded(&Message::Beat(*beat));
        bytes.truncate(bytes.len() - 17);
        bytes
    }

    #[test]
    fn what_the_first_version_did_not_send_has_its_default() {
        let echoed = Some(Echoed { epoch: Epoch(3), stamp: 4, held: Duration::from_micros(5) });
        let common = Beat { ticked: true, load_permille: 7, rooms: 2, echoed, ..Beat::default() };
        let grown = Beat {
            full: true,
            lease_ms: 6_000,
            joins_admitted: 9,
            joins_connected: 8,
            joins_per_second: 7,
            ..common
        };
        assert_eq!(Message::decode(&first_version(&grown)), Ok(Message::Beat(common)));
        // A version in between ended after `full`, `lease_ms` or `joins_connected`.
        let whole = encoded(&Message::Beat(grown));
        let to_joins = Beat { joins_per_second: 0, ..grown };
        assert_eq!(Message::decode(&whole[..whole.len() - 4]), Ok(Message::Beat(to_joins)));
        let to_lease = Beat { joins_admitted: 0, joins_connected: 0, ..to_joins };
        assert_eq!(Message::decode(&whole[..whole.len() - 12]), Ok(Message::Beat(to_lease)));
        let to_full = Beat { lease_ms: 0, ..to_lease };
        assert_eq!(Message::decode(&whole[..whole.len() - 16]), Ok(Message::Beat(to_full)));
        let common = Outlook { hears: 3, echoed, ..Outlook::default() };
        let to_flapping = Outlook { flapping: 2, ..common };
        let grown = Outlook { closed: true, doors: 1, nearest: [9; NEAREST_MAX], ..to_flapping };
        let whole = encoded(&Message::Outlook(grown));
        assert_eq!(Message::decode(&whole[..whole.len() - 17]), Ok(Message::Outlook(to_flapping)));
        assert_eq!(Message::decode(&whole[..whole.len() - 25]), Ok(Message::Outlook(common)));
    }

    #[test]
    fn a_field_is_whole_or_not_there() {
        let beat = encoded(&Message::Beat(Beat::default()));
        for cut in [1, 2, 3, 5, 9] {
            let bytes = &beat[..beat.len() - cut];
            assert_eq!(Message::decode(bytes), Err(DecodeError::Short), "{cut}");
        }
        for message in [Message::Echo(Echo::default()), Message::Outlook(Outlook::default())] {
            let bytes = encoded(&message);
            assert_eq!(Message::decode(&bytes[..bytes.len() - 1]), Err(DecodeError::Short));
        }
        assert_eq!(Message::decode(&[9]), Err(DecodeError::Kind(9)));
    }

    proptest! {
        #[test]
        fn a_later_version_s_fields_are_passed_over(
            message in any_message(),
            more in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = encoded(&message);
            bytes.extend(more);
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
        }

        #[test]
        fn what_garbage_decodes_to_is_a_message(bytes in prop::collection::vec(any::<u8>(), 0..128), kind in 1..=5_u8) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Ok(message) = Message::decode(&bytes) {
                let again = encoded(&message);
                // What was not sent is written as its default, and what is not known is not written. Of a room that is not there
                // no generation is told.
                let common = again.len().min(bytes.len());
                let nothing = matches!(message, Message::Probed(Probed { generation: None, .. }));
                let common = if nothing { common.min(10) } else { common };
                prop_assert_eq!(&again[..common], &bytes[..common]);
                prop_assert_eq!(Message::decode(&again), Ok(message));
            }
        }
    }
}

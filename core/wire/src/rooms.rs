//! The room stream: what a node hosts, one frame a room, then changes; and, the other way, whom the rooms belong to by now.
//! It runs over mutual TLS, so frames carry no proof.

use outlast_model::{
    Epoch, Generation, Identity, METADATA_BYTES_MAX, NAME_CHARS_MAX, NodeId, RoomName,
    RoomSettings, Ruling,
};

use crate::{
    PROCESS_ID_BYTES_MAX,
    bytes::{DecodeError, Reader, put_name},
    ruling::{put_ruling, take_ruling},
};

/// Version, kind, generation, and a name of four-byte characters behind its length.
const HEAD_BYTES_MAX: usize = 1 + 1 + 8 + 2 + 4 * NAME_CHARS_MAX;
/// Their length, three numbers, a time, a flag, and metadata behind its length.
const SETTINGS_BYTES_MAX: usize = 4 + 3 * 4 + 8 + 1 + 4 + METADATA_BYTES_MAX;
/// What later versions may append and this one still reads past.
const GROWTH_BYTES: usize = 1_024;
/// Longest frame of the room stream, in bytes.
pub const ROOM_FRAME_BYTES_MAX: usize = HEAD_BYTES_MAX + SETTINGS_BYTES_MAX + GROWTH_BYTES;
/// Longest [`Steer`], in bytes.
pub const STEER_BYTES_MAX: usize = HEAD_BYTES_MAX + 1 + PROCESS_ID_BYTES_MAX + GROWTH_BYTES;

/// One frame of the room stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomFrame {
    /// What follows is said by this start of the node: what an earlier one has said it may not know. The first frame of each
    /// stream; again, with a new [`RoomFrame::Synced`], when the node has given everything up and goes on as another start.
    Started {
        /// As in its beats.
        epoch: Epoch,
    },
    /// The node hosts `room` under `generation`.
    Hosted {
        /// Which room.
        room: RoomName,
        /// Its placement's fencing number.
        generation: Generation,
        /// What it is set to; `None` when the node does not say.
        settings: Option<RoomSettings>,
    },
    /// `room` of `generation` has ended here.
    Closed {
        /// Which room.
        room: RoomName,
        /// The placement that ended.
        generation: Generation,
        /// It is not over: the node has given it up, and it lives elsewhere, or will.
        lost: bool,
    },
    /// What the server API has last said of somebody's permission in `room` of `generation`.
    Ruled {
        /// Which room.
        room: RoomName,
        /// Its placement's fencing number.
        generation: Generation,
        /// Of whom.
        identity: Identity,
        /// The ruling that counts; `None` when the stay that it was for is over.
        ruling: Option<Ruling>,
    },
    /// Every room open when the stream, or the node's new start, began has been named, with its rulings; changes follow.
    Synced,
}

/// What a gateway sends back on the room stream: the home that counts for `room` is `node`. Any other node that holds the
/// room under `generation` or a lower one has lost it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steer {
    /// Which room.
    pub room: RoomName,
    /// The winner's fencing number.
    pub generation: Generation,
    /// The winner.
    pub node: NodeId,
}

const VERSION: u8 = 1;
const HOSTED: u8 = 1;
const CLOSED: u8 = 2;
const SYNCED: u8 = 3;
const STEER: u8 = 4;
const RULED: u8 = 5;
const STARTED: u8 = 6;

impl RoomFrame {
    /// The frame's bytes. A name over `NAME_CHARS_MAX` characters, metadata over `METADATA_BYTES_MAX` bytes, or a permission
    /// over `RULING_BYTES_MAX` bytes makes a frame that nobody decodes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            RoomFrame::Started { epoch } => {
                let mut out = vec![VERSION, STARTED];
                out.extend_from_slice(&epoch.0.to_be_bytes());
                out
            }
            RoomFrame::Hosted { room, generation, settings } => {
                let mut out = head(HOSTED, room, *generation);
                put_settings(settings.as_ref(), &mut out);
                out
            }
            RoomFrame::Closed { room, generation, lost } => {
                let mut out = head(CLOSED, room, *generation);
                out.push(u8::from(*lost));
                out
            }
            RoomFrame::Ruled { room, generation, identity, ruling } => {
                let mut out = head(RULED, room, *generation);
                put_name(identity.as_str(), &mut out);
                put_ruling(ruling.as_ref(), &mut out);
                out
            }
            RoomFrame::Synced => vec![VERSION, SYNCED],
        }
    }

    /// Reads one frame. What a later version has appended is passed over.
    ///
    /// # Errors
    /// When `bytes` do not begin with a frame of this version. [`DecodeError::Kind`] is a later version's frame, to be passed
    /// over: the stream goes on.
    pub fn decode(bytes: &[u8]) -> Result<RoomFrame, DecodeError> {
        let (mut reader, kind) = open(bytes, ROOM_FRAME_BYTES_MAX)?;
        Ok(match kind {
            STARTED => RoomFrame::Started { epoch: Epoch(reader.u64()?) },
            HOSTED => {
                let (room, generation) = place(&mut reader)?;
                RoomFrame::Hosted { room, generation, settings: take_settings(&mut reader)? }
            }
            CLOSED => {
                let (room, generation) = place(&mut reader)?;
                let lost = !reader.0.is_empty() && reader.flag("lost")?;
                RoomFrame::Closed { room, generation, lost }
            }
            RULED => {
                let (room, generation) = place(&mut reader)?;
                let identity = Identity::from(reader.name("identity")?);
                RoomFrame::Ruled { room, generation, identity, ruling: take_ruling(&mut reader)? }
            }
            SYNCED => RoomFrame::Synced,
            kind => return Err(DecodeError::Kind(kind)),
        })
    }
}

impl Steer {
    /// The frame's bytes. Names that are too long make a frame that nobody decodes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = head(STEER, &self.room, self.generation);
        out.push(u8::try_from(self.node.as_str().len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.node.as_str().as_bytes());
        out
    }

    /// Reads one frame. What a later version has appended is passed over.
    ///
    /// # Errors
    /// When `bytes` do not begin with a `Steer` of this version.
    pub fn decode(bytes: &[u8]) -> Result<Steer, DecodeError> {
        let (mut reader, kind) = open(bytes, STEER_BYTES_MAX)?;
        if kind != STEER {
            return Err(DecodeError::Kind(kind));
        }
        let (room, generation) = place(&mut reader)?;
        let length = usize::from(reader.u8()?);
        if length == 0 || length > PROCESS_ID_BYTES_MAX {
            return Err(DecodeError::Field("node"));
        }
        Ok(Steer { room, generation, node: reader.text(length, "node")?.into() })
    }
}

fn head(kind: u8, room: &RoomName, generation: Generation) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + room.as_str().len());
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&generation.0.to_be_bytes());
    put_name(room.as_str(), &mut out);
    out
}

/// The kind, and what follows it.
fn open(bytes: &[u8], bytes_max: usize) -> Result<(Reader<'_>, u8), DecodeError> {
    if bytes.len() > bytes_max {
        return Err(DecodeError::Long);
    }
    let mut reader = Reader(bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let kind = reader.u8()?;
    Ok((reader, kind))
}

fn place(reader: &mut Reader<'_>) -> Result<(RoomName, Generation), DecodeError> {
    let generation = Generation(reader.u64()?);
    Ok((RoomName::from(reader.name("room name")?), generation))
}

/// Behind their own length, so that both they and the frame can grow; a length of 0 is `None`.
fn put_settings(settings: Option<&RoomSettings>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let Some(settings) = settings else { return };
    out.extend_from_slice(&settings.empty_timeout_s.to_be_bytes());
    out.extend_from_slice(&settings.departure_timeout_s.to_be_bytes());
    out.extend_from_slice(&settings.max_participants.to_be_bytes());
    out.extend_from_slice(&settings.created_unix_ms.to_be_bytes());
    out.push(u8::from(settings.by_api));
    let metadata = u32::try_from(settings.metadata.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&metadata.to_be_bytes());
    out.extend_from_slice(settings.metadata.as_bytes());
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn take_settings(reader: &mut Reader<'_>) -> Result<Option<RoomSettings>, DecodeError> {
    let length = reader.grown(Reader::u32)?;
    if length == 0 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| DecodeError::Short)?;
    let mut reader = Reader(reader.take(length)?);
    Ok(Some(RoomSettings {
        empty_timeout_s: reader.u32()?,
        departure_timeout_s: reader.u32()?,
        max_participants: reader.u32()?,
        created_unix_ms: i64::from_be_bytes(reader.u64()?.to_be_bytes()),
        by_api: reader.flag("by_api")?,
        metadata: metadata(&mut reader)?,
    }))
}

fn metadata(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let length = usize::try_from(reader.u32()?).map_err(|_| DecodeError::Short)?;
    if length > METADATA_BYTES_MAX {
        return Err(DecodeError::Field("metadata"));
    }
    Ok(reader.text(length, "metadata")?.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ruling::tests::any_ruling;

    fn any_settings() -> impl Strategy<Value = Option<RoomSettings>> {
        let fields = (any::<(u32, u32, u32, i64, bool)>(), ".{0,64}");
        prop::option::of(fields.prop_map(|(fields, metadata)| {
            let (empty_timeout_s, departure_timeout_s, max_participants, created_unix_ms, by_api) =
                fields;
            RoomSettings {
                empty_timeout_s,
                departure_timeout_s,
                max_participants,
                metadata,
                created_unix_ms,
                by_api,
            }
        }))
    }

    fn any_frame() -> impl Strategy<Value = RoomFrame> {
        let place = || (".{1,256}", any::<u64>());
        let hosted = (place(), any_settings()).prop_map(|((room, generation), settings)| {
            RoomFrame::Hosted { room: room.into(), generation: Generation(generation), settings }
        });
        let closed = (place(), any::<bool>()).prop_map(|((room, generation), lost)| {
            RoomFrame::Closed { room: room.into(), generation: Generation(generation), lost }
        });
        let about = (place(), ".{1,256}", prop::option::of(any_ruling()));
        let ruled = about.prop_map(|((room, generation), identity, ruling)| {
            let (room, identity) = (room.into(), identity.into());
            RoomFrame::Ruled { room, generation: Generation(generation), identity, ruling }
        });
        let started = any::<u64>().prop_map(|epoch| RoomFrame::Started { epoch: Epoch(epoch) });
        prop_oneof![started, hosted, closed, ruled, Just(RoomFrame::Synced)]
    }

    proptest! {
        #[test]
        fn every_frame_comes_back_whatever_a_later_version_appends(
            frame in any_frame(),
            more in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = frame.encode();
            prop_assert_eq!(RoomFrame::decode(&bytes), Ok(frame.clone()));
            bytes.extend(more);
            prop_assert_eq!(RoomFrame::decode(&bytes), Ok(frame));
        }

        #[test]
        fn every_steer_comes_back_whatever_a_later_version_appends(
            room in ".{1,256}",
            generation: u64,
            node in "[a-z0-9-]{1,48}",
            more in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let generation = Generation(generation);
            let steer = Steer { room: room.into(), generation, node: node.into() };
            let mut bytes = steer.encode();
            bytes.extend(more);
            prop_assert_eq!(Steer::decode(&bytes), Ok(steer));
        }

        #[test]
        fn a_frame_cut_short_is_an_error_or_lacks_what_came_later(frame in any_frame(), at: usize) {
            let bytes = frame.encode();
            match RoomFrame::decode(&bytes[..at % bytes.len()]) {
                Ok(RoomFrame::Hosted { room, generation, settings }) => {
                    let bare = RoomFrame::Hosted { room, generation, settings: None }.encode();
                    prop_assert_eq!(settings, None);
                    prop_assert_eq!(&bytes[..bare.len() - 4], &bare[..bare.len() - 4]);
                }
                Ok(RoomFrame::Closed { room, generation, lost }) => {
                    let whole = RoomFrame::Closed { room, generation, lost }.encode();
                    prop_assert!(!lost, "a node of an earlier version does not say");
                    prop_assert_eq!(&bytes[..bytes.len() - 1], &whole[..whole.len() - 1]);
                }
                Ok(RoomFrame::Started { .. } | RoomFrame::Ruled { .. } | RoomFrame::Synced) => {
                    prop_assert!(false, "longer than that");
                }
                Err(error) => prop_assert_eq!(error, DecodeError::Short),
            }
        }

        #[test]
        fn what_garbage_decodes_to_is_a_frame(mut bytes in prop::collection::vec(any::<u8>(), 0..96), tidy: bool) {
            if tidy && bytes.len() > 12 {
                (bytes[0], bytes[1]) = (VERSION, 1 + bytes[1] % 6);
                (bytes[10], bytes[11]) = (0, bytes[11] % 20);
            }
            if let Ok(frame) = RoomFrame::decode(&bytes) {
                prop_assert_eq!(RoomFrame::decode(&frame.encode()), Ok(frame));
            }
            if let Ok(steer) = Steer::decode(&bytes) {
                prop_assert_eq!(Steer::decode(&steer.encode()), Ok(steer));
            }
        }
    }

    fn hosted(room: String, settings: Option<RoomSettings>) -> RoomFrame {
        RoomFrame::Hosted { room: room.into(), generation: Generation(1), settings }
    }

    #[test]
    fn limits_hold() {
        assert_eq!(RoomFrame::decode(&[9, 3]), Err(DecodeError::Version(9)));
        assert_eq!(
            RoomFrame::decode(&[VERSION, 9, 1, 2]),
            Err(DecodeError::Kind(9)),
            "passed over"
        );
        for name in ["x".repeat(257), "x".repeat(70_000), String::new()] {
            let bytes = hosted(name, None).encode();
            let error = RoomFrame::decode(&bytes).unwrap_err();
            assert!(matches!(error, DecodeError::Field("room name") | DecodeError::Long));
        }
        let settings =
            |bytes| Some(RoomSettings { metadata: "x".repeat(bytes), ..RoomSettings::default() });
        let longest = hosted("\u{1f3a5}".repeat(NAME_CHARS_MAX), settings(METADATA_BYTES_MAX));
        let bytes = longest.encode();
        assert_eq!(bytes.len() + GROWTH_BYTES, ROOM_FRAME_BYTES_MAX);
        assert_eq!(RoomFrame::decode(&bytes), Ok(longest));
        let heavy = hosted("r".into(), settings(METADATA_BYTES_MAX + 1)).encode();
        assert_eq!(RoomFrame::decode(&heavy), Err(DecodeError::Field("metadata")));
        let node = "n".repeat(PROCESS_ID_BYTES_MAX + 1).into();
        let steer = Steer { room: "r".into(), generation: Generation(1), node };
        assert_eq!(Steer::decode(&steer.encode()), Err(DecodeError::Field("node")));
        assert_eq!(Steer::decode(&RoomFrame::Synced.encode()), Err(DecodeError::Kind(SYNCED)));
        assert_eq!(RoomFrame::decode(&steer.encode()), Err(DecodeError::Kind(STEER)));
    }

    #[test]
    fn settings_grow_inside_a_frame_that_grows() {
        let known = RoomSettings {
            max_participants: 8,
            metadata: "m".into(),
            created_unix_ms: -1,
            ..RoomSettings::default()
        };
        let bare = hosted("r".into(), None).encode();
        let whole = hosted("r".into(), Some(known.clone())).encode();
        // A later version adds three bytes to the settings and two to the frame.
        let mut later = whole.clone();
        let length = u32::try_from(whole.len() - bare.len() + 3).unwrap();
        later[bare.len() - 4..bare.len()].copy_from_slice(&length.to_be_bytes());
        later.extend([1, 2, 3, 4, 5]);
        assert_eq!(RoomFrame::decode(&later), Ok(hosted("r".into(), Some(known))));
        // Settings longer than the frame are not settings.
        assert_eq!(RoomFrame::decode(&later[..whole.len() + 2]), Err(DecodeError::Short));
        // An earlier version ended after the name.
        assert_eq!(RoomFrame::decode(&bare[..bare.len() - 4]), Ok(hosted("r".into(), None)));
    }
}

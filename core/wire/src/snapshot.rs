//! A gateway's view as a file, for its next start: what each node's room stream has said, in the stream's own frames, and which
//! rooms have ended. A checksum is over all of it.

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use outlast_model::{Epoch, Generation, NodeId, RoomName};

use crate::{
    DecodeError, PROCESS_ID_BYTES_MAX, ROOM_FRAME_BYTES_MAX, RoomFrame,
    bytes::{Reader, put_name},
};

/// Largest snapshot, in bytes. A million rooms without settings are half of it; what comes after it is left out.
pub const SNAPSHOT_BYTES_MAX: usize = 128 << 20;

const MAGIC: &[u8; 16] = b"outlast snapshot";
const VERSION: u8 = 1;
/// Magic, version, cluster, time.
const HEAD_BYTES: usize = 16 + 1 + 16 + 8;
const NODE: u8 = 1;
const FRAME: u8 = 2;
const ENDED: u8 = 3;

/// Which cluster a snapshot is of: a number that hangs on the cluster's secret, and tells nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterTag(pub u128);

/// What was known when it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When, in milliseconds of the writer's Unix time.
    pub written_unix_ms: u64,
    /// Each node that had rooms, as of one of its starts.
    pub nodes: Vec<SnapshotNode>,
    /// Rooms that have ended, each under its highest generation.
    pub ended: Vec<(RoomName, Generation)>,
}

/// What one node had said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotNode {
    /// Which one.
    pub id: NodeId,
    /// Of which start.
    pub epoch: Epoch,
    /// [`RoomFrame::Hosted`], each followed by what is [`RoomFrame::Ruled`] in it: under generation 0 what others have said.
    pub frames: Vec<RoomFrame>,
}

/// Why a file is no snapshot that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It begins otherwise.
    #[error("it is no snapshot")]
    Magic,
    /// Another version of this program has written it.
    #[error("its version is {0}, not {VERSION}")]
    Version(u8),
    /// More than [`SNAPSHOT_BYTES_MAX`].
    #[error("it is longer than {SNAPSHOT_BYTES_MAX} bytes")]
    Long,
    /// It is cut off, or has been changed.
    #[error("its checksum is wrong")]
    Checksum,
    /// It is of a cluster with another secret.
    #[error("it is of another cluster")]
    Cluster,
    /// Its checksum is right and its content is not.
    #[error("its content")]
    Content(#[from] DecodeError),
}

/// Writes a snapshot piece by piece, so that whoever knows all of it need not stop for as long as the whole takes.
#[derive(Debug)]
pub struct SnapshotWriter {
    bytes: Vec<u8>,
    rooms: usize,
    is_full: bool,
}

impl SnapshotWriter {
    /// An empty one of `cluster`, at `unix_ms`.
    pub fn new(cluster: ClusterTag, unix_ms: u64) -> SnapshotWriter {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        bytes.extend_from_slice(&cluster.0.to_be_bytes());
        bytes.extend_from_slice(&unix_ms.to_be_bytes());
        SnapshotWriter { bytes, rooms: 0, is_full: false }
    }

    /// The frames that follow are of this start of `node`.
    pub fn node(&mut self, node: &NodeId, epoch: Epoch) {
        let record = [&[NODE][..], &epoch.0.to_be_bytes(), node.as_str().as_bytes()].concat();
        self.put(&record);
    }

    /// What the node has said.
    pub fn frame(&mut self, frame: &RoomFrame) {
        self.put(&[&[FRAME][..], &frame.encode()].concat());
        let is_room = matches!(frame, RoomFrame::Hosted { .. });
        self.rooms += usize::from(is_room && !self.is_full);
    }

    /// `room` has ended.
    pub fn ended(&mut self, room: &RoomName, generation: Generation) {
        let mut record = vec![ENDED];
        record.extend_from_slice(&generation.0.to_be_bytes());
        put_name(room.as_str(), &mut record);
        self.put(&record);
    }

    /// Whether nothing more goes in.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Rooms that are in it.
    pub fn rooms(&self) -> usize {
        self.rooms
    }

    /// All of it, with the checksum behind.
    pub fn finish(mut self) -> Vec<u8> {
        let checksum = checksum(&self.bytes);
        self.bytes.extend_from_slice(&checksum);
        self.bytes
    }

    fn put(&mut self, record: &[u8]) {
        let after = self.bytes.len() + 4 + record.len() + SHA256_OUTPUT_LEN;
        self.is_full |= after > SNAPSHOT_BYTES_MAX;
        if !self.is_full {
            let length = u32::try_from(record.len()).expect("a record is shorter than the limit");
            self.bytes.extend_from_slice(&length.to_be_bytes());
            self.bytes.extend_from_slice(record);
        }
    }
}

impl Snapshot {
    /// Reads one of `cluster`. Records that a later version has added are passed over.
    ///
    /// # Errors
    /// See [`SnapshotError`]; nothing of such a file may be used.
    pub fn decode(bytes: &[u8], cluster: ClusterTag) -> Result<Snapshot, SnapshotError> {
        if !bytes.starts_with(MAGIC) {
            return Err(SnapshotError::Magic);
        }
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::Long);
        }
        // Before the checksum, which may be another one in another version.
        let version = bytes.get(MAGIC.len()).copied().ok_or(SnapshotError::Checksum)?;
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let (content, sum) =
            bytes.split_last_chunk::<SHA256_OUTPUT_LEN>().ok_or(SnapshotError::Checksum)?;
        if content.len() < HEAD_BYTES || checksum(content) != *sum {
            return Err(SnapshotError::Checksum);
        }
        let mut reader = Reader(&content[MAGIC.len() + 1..]);
        let tag = u128::from(reader.u64().map_err(SnapshotError::Content)?) << 64;
        if tag | u128::from(reader.u64()?) != cluster.0 {
            return Err(SnapshotError::Cluster);
        }
        let written_unix_ms = reader.u64()?;
        let mut snapshot = Snapshot { written_unix_ms, ..Snapshot::default() };
        while !reader.0.is_empty() {
            let length = usize::try_from(reader.u32()?).map_err(|_| DecodeError::Short)?;
            snapshot.record(Reader(reader.take(length)?))?;
        }
        Ok(snapshot)
    }

    fn record(&mut self, mut reader: Reader<'_>) -> Result<(), DecodeError> {
        match reader.u8()? {
            NODE => {
                let epoch = Epoch(reader.u64()?);
                let length = reader.0.len();
                if length == 0 || length > PROCESS_ID_BYTES_MAX {
                    return Err(DecodeError::Field("node"));
                }
                let id = reader.text(length, "node")?.into();
                self.nodes.push(SnapshotNode { id, epoch, frames: Vec::new() });
            }
            FRAME => {
                let node = self.nodes.last_mut().ok_or(DecodeError::Field("frame"))?;
                if reader.0.len() > ROOM_FRAME_BYTES_MAX {
                    return Err(DecodeError::Long);
                }
                node.frames.push(RoomFrame::decode(reader.0)?);
            }
            ENDED => {
                let generation = Generation(reader.u64()?);
                self.ended.push((reader.name("room name")?.into(), generation));
            }
            _ => {}
        }
        Ok(())
    }
}

fn checksum(content: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut context = Context::new(&SHA256);
    context.update(content);
    let digest = context.finish();
    *digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use outlast_model::{RoomSettings, Ruling, RulingVersion};
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: ClusterTag = ClusterTag(7 << 64 | 9);

    fn hosted(room: &str, generation: u64) -> RoomFrame {
        let (room, generation) = (room.into(), Generation(generation));
        RoomFrame::Hosted { room, generation, settings: Some(RoomSettings::default()) }
    }

    fn ruled(room: &str) -> RoomFrame {
        let version = RulingVersion { generation: Generation(3), count: 1 };
        let ruling = Some(Ruling { version, permission: [1, 2].into() });
        let (room, generation) = (room.into(), Generation(3));
        RoomFrame::Ruled { room, generation, identity: "ann".into(), ruling }
    }

    fn snapshot() -> Snapshot {
        let node = |id: &str, epoch, frames| SnapshotNode { id: id.into(), epoch, frames };
        Snapshot {
            written_unix_ms: 1_790_000_000_123,
            nodes: vec![
                node("eu-1", Epoch(5), vec![hosted("a", 3), ruled("a"), hosted("b", 1)]),
                node("us-1", Epoch(6), vec![]),
            ],
            ended: vec![("c".into(), Generation(8))],
        }
    }

    fn written(snapshot: &Snapshot) -> SnapshotWriter {
        let mut writer = SnapshotWriter::new(CLUSTER, snapshot.written_unix_ms);
        for node in &snapshot.nodes {
            writer.node(&node.id, node.epoch);
            node.frames.iter().for_each(|frame| writer.frame(frame));
        }
        snapshot.ended.iter().for_each(|(room, generation)| writer.ended(room, *generation));
        writer
    }

    /// The same content with another checksum, as whoever has changed it would make it.
    fn signed(content: &[u8]) -> Vec<u8> {
        [content, &checksum(content)].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        let snapshot = snapshot();
        let writer = written(&snapshot);
        assert_eq!((writer.rooms(), writer.is_full()), (2, false));
        assert_eq!(Snapshot::decode(&writer.finish(), CLUSTER), Ok(snapshot));
        let empty = SnapshotWriter::new(CLUSTER, 0).finish();
        assert_eq!(Snapshot::decode(&empty, CLUSTER), Ok(Snapshot::default()));
    }

    #[test]
    fn whatever_is_wrong_with_it_is_said() {
        let bytes = written(&snapshot()).finish();
        let decode = |bytes: &[u8]| Snapshot::decode(bytes, CLUSTER).unwrap_err();
        assert_eq!(decode(b""), SnapshotError::Magic);
        assert_eq!(decode(&b"#!/bin/sh".repeat(99)), SnapshotError::Magic);
        for length in MAGIC.len()..bytes.len() {
            assert_eq!(decode(&bytes[..length]), SnapshotError::Checksum, "cut at {length}");
        }
        for at in MAGIC.len() + 1..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert_eq!(decode(&changed), SnapshotError::Checksum, "changed at {at}");
        }
        let mut later = bytes.clone();
        later[MAGIC.len()] = 2;
        assert_eq!(decode(&later), SnapshotError::Version(2));
        let other = Snapshot::decode(&bytes, ClusterTag(CLUSTER.0 + 1)).unwrap_err();
        assert_eq!(other, SnapshotError::Cluster);
        let mut long = bytes.clone();
        long.resize(SNAPSHOT_BYTES_MAX + 1, 0);
        assert_eq!(decode(&long), SnapshotError::Long);
    }

    #[test]
    fn a_record_that_cannot_be_is_an_error_and_one_of_a_later_version_is_none() {
        let head = &SnapshotWriter::new(CLUSTER, 0).bytes[..];
        let record = |record: &[u8]| {
            let length = u32::try_from(record.len()).unwrap().to_be_bytes();
            Snapshot::decode(&signed(&[head, &length, record].concat()), CLUSTER)
        };
        let field = |name| Err(SnapshotError::Content(DecodeError::Field(name)));
        assert_eq!(record(&[99, 1, 2, 3]), Ok(Snapshot::default()));
        assert_eq!(record(&[FRAME]), field("frame"));
        assert_eq!(record(&[&[NODE][..], &[0; 8]].concat()), field("node"));
        assert_eq!(record(&[]), Err(SnapshotError::Content(DecodeError::Short)));
        let long = signed(&[head, &[0, 0, 0, 9, ENDED]].concat());
        let short = Err(SnapshotError::Content(DecodeError::Short));
        assert_eq!(Snapshot::decode(&long, CLUSTER), short);
    }

    #[test]
    fn beyond_its_limit_nothing_more_goes_in() {
        let mut writer = SnapshotWriter::new(CLUSTER, 1);
        writer.node(&"eu-1".into(), Epoch(1));
        let metadata = "m".repeat(64 << 10);
        let settings = Some(RoomSettings { metadata, ..RoomSettings::default() });
        let (room, generation) = (RoomName::from("r"), Generation(1));
        let frame = RoomFrame::Hosted { room, generation, settings };
        while !writer.is_full() {
            writer.frame(&frame);
        }
        let rooms = writer.rooms();
        writer.frame(&hosted("small", 1));
        let bytes = writer.finish();
        assert!(bytes.len() <= SNAPSHOT_BYTES_MAX);
        let read = Snapshot::decode(&bytes, CLUSTER).unwrap();
        assert_eq!(read.nodes[0].frames.len(), rooms);
    }

    proptest! {
        #[test]
        fn garbage_with_a_right_checksum_is_an_error_or_a_snapshot(
            garbage in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let head = &SnapshotWriter::new(CLUSTER, 0).bytes[..];
            let _ = Snapshot::decode(&signed(&[head, &garbage].concat()), CLUSTER);
        }
    }
}

//! Messages between Outlast's own programs and their bytes: beats, echoes, outlooks and probes in sealed datagrams, the room stream
//! in WebSocket frames; and what a gateway keeps of them for its next start. Decoding never panics and never allocates more than the input is long.
//!
//! Programs of two versions talk: messages grow at their end alone, a decoder leaves alone what follows the fields that it
//! knows, and a field that an earlier version did not send has its default.

mod beat;
mod bytes;
mod prescan;
mod probe;
mod rooms;
mod ruling;
mod seal;
mod snapshot;

pub use beat::{Beat, Echo, Echoed, Message, NEAREST_MAX, Outlook};
pub use bytes::DecodeError;
pub use prescan::{CLIENT_MESSAGE_LIMITS, ScanError, ScanLimits, within};
pub use probe::{PROBE_NAME_BYTES_MAX, Probe, Probed};
pub use rooms::{ROOM_FRAME_BYTES_MAX, RoomFrame, STEER_BYTES_MAX, Steer};
pub use ruling::{ruling_from_text, ruling_to_text};
pub use seal::{
    DATAGRAM_BYTES_MAX, Datagram, OpenError, Opened, Opener, PROCESS_ID_BYTES_MAX, Process,
    ProcessRole, SECRET_BYTES_MIN, Sealer, Secret, SecretError,
};
pub use snapshot::{
    ClusterTag, SNAPSHOT_BYTES_MAX, Snapshot, SnapshotError, SnapshotNode, SnapshotWriter,
};

//! Messages between Outlast's own programs and their bytes: beats and echoes in sealed datagrams, the room stream in
//! WebSocket frames. Decoding never panics and never allocates more than the input is long.

mod beat;
mod bytes;
mod prescan;
mod rooms;
mod seal;

pub use beat::{Beat, Echo, Echoed, Message};
pub use bytes::DecodeError;
pub use prescan::{CLIENT_MESSAGE_LIMITS, ScanError, ScanLimits, within};
pub use rooms::{ROOM_FRAME_BYTES_MAX, RoomFrame};
pub use seal::{
    DATAGRAM_BYTES_MAX, Datagram, OpenError, Opened, Opener, PROCESS_ID_BYTES_MAX, Process,
    ProcessRole, SECRET_BYTES_MIN, Sealer, Secret, SecretError,
};

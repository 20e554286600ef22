//! What a room is set to. It goes where the room goes.

/// A room's settings, as its node keeps them and as they follow the room when it moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomSettings {
    /// How long the room is kept while nobody has joined it, in seconds.
    pub empty_timeout_s: u32,
    /// How long the room is kept after its last participant left, in seconds.
    pub departure_timeout_s: u32,
    /// Most participants; 0 is unlimited.
    pub max_participants: u32,
    /// The application's own, at most [`METADATA_BYTES_MAX`](crate::METADATA_BYTES_MAX) bytes.
    pub metadata: String,
    /// When the room was made, in milliseconds of Unix time; told to clients, compared with nothing.
    pub created_unix_ms: i64,
    /// Made by the server API, not by somebody who joined.
    pub by_api: bool,
}

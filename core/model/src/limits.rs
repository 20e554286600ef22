//! Limits that more than one room of the house must agree on.

use std::time::Duration;

/// Longest room name, participant identity or display name, in characters (LiveKit's server: 256).
pub const NAME_CHARS_MAX: usize = 256;
/// Largest participant or room metadata, in bytes.
pub const METADATA_BYTES_MAX: usize = 64 * 1024;
/// Largest sum of a participant's attribute keys and values, in bytes.
pub const ATTRIBUTES_BYTES_MAX: usize = 64 * 1024;
/// Largest inflated `join_request`, in bytes.
pub const JOIN_REQUEST_BYTES_MAX: usize = 512 * 1024;
/// Largest signalling frame from a client, in bytes.
pub const SIGNAL_FRAME_BYTES_MAX: usize = 256 * 1024;
/// Largest SDP from a client, in bytes.
pub const SDP_BYTES_MAX: usize = 256 * 1024;
/// Most media sections in one SDP.
pub const SDP_SECTIONS_MAX: usize = 200;
/// Span between two beats of a node to a gateway.
pub const BEAT_INTERVAL: Duration = Duration::from_millis(400);
/// Beats missed before a node is taken for down.
pub const BEATS_MISSED_MAX: u32 = 5;
/// A shard that was not run for so long must take its node for superseded: less than
/// [`BEAT_INTERVAL`] x [`BEATS_MISSED_MAX`], after which gateways move its rooms.
pub const SHARD_PAUSE_MAX: Duration = Duration::from_millis(1_500);

//! The media server role: rooms, sessions and their negotiation, one [`Shard`] to a core.
//!
//! A shard is a machine: datagrams, commands and time go in, datagrams and values come out. It opens no socket, reads
//! no clock and shares nothing with other shards. A room lives whole on one shard.

#![allow(deprecated, reason = "LiveKit marks fields so that SDKs in use still fill and read")]

mod door;
mod participant;
mod room;
mod shard;

// In the order of a participant's life.
mod announce;
mod api;
mod data;
mod data_track;
mod housekeeping;
mod hush;
mod join;
mod leave;
mod negotiate;
mod publish;
mod rulings;
mod signal;
mod subscribe;
mod succession;

pub use door::{ApiError, ApiRequest, Command, Join, Out, ShardConfig, ShardStats, Told};
pub use join::{About, Refusal, check_join};
pub use shard::Shard;

use outlast_model::RoomName;

/// `server_info.version` told to clients: SDKs read features from it. From 1.8.0 on they use RPC; above 1.13.6 the
/// JS SDK would publish VP9 and AV1 as rid simulcast instead of SVC.
pub const SERVER_VERSION: &str = "1.13.5";
/// `server_info.protocol`: from 18 on Rust-core SDKs would expect negotiated data channels.
pub const PROTOCOL: i32 = 17;

/// The shard that holds a room: FNV-1a of its name, modulo the number of shards.
pub fn shard_of(room: &RoomName, shards: usize) -> usize {
    let hash = room.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash % shards.max(1) as u64).unwrap_or(0)
}

//! The media server as a program: one pinned thread per shard, an internal server that gateways reach, beats to them.
//! Decides nothing about rooms: `outlast-node-core` does.

mod admit;
mod api;
mod beats;
mod config;
mod drain;
mod join_request;
mod load;
mod metrics;
mod node;
mod orders;
mod query;
mod refusal;
mod role_loop;
mod rooms;
mod server;
mod session;
mod shard_loop;
mod shards;
mod ticks;
mod vigil;

pub use config::{GatewayPeer, NodeConfig, NodeError};
pub use metrics::NodeMetrics;
pub use node::{Node, run};

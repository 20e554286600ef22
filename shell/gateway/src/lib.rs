//! The gateway as a program: public HTTP and WebSockets, the proxied signalling, the server API, beats. What to do is
//! decided in `outlast-gateway-core`; here it is done. Tokens and request targets never reach a log.

mod asking;
mod beats;
mod config;
mod directory;
mod directory_metrics;
mod fields;
mod gateway;
mod http_door;
mod leave;
mod metrics;
mod node_api;
mod outcome;
mod page;
mod proxy;
mod query;
mod reach;
mod refusal;
mod role_loop;
mod seat;
mod servers;
mod signal;
mod snapshot;
mod streams;
mod twirp;
mod twirp_json;
mod wall;

pub use config::{
    GatewayConfig, GatewayError, GatewayPeer, NameServerPeer, NodePeer, Page, PublicTls,
};
pub use directory::room_keyer;
pub use gateway::{Gateway, run};
pub use outlast_directory::RoomKeyer;
pub use snapshot::try_state_dir;

//! The gateway as a program: public HTTP and WebSockets, the proxied signalling, the server API, beats. What to do is
//! decided in `outlast-gateway-core`; here it is done. Tokens and request targets never reach a log.

mod beats;
mod config;
mod gateway;
mod http_door;
mod leave;
mod metrics;
mod page;
mod proxy;
mod query;
mod reach;
mod refusal;
mod role_loop;
mod signal;
mod streams;
mod twirp;
mod twirp_json;
mod wall;

pub use config::{GatewayConfig, GatewayError, NodePeer, Page, PublicTls};
pub use gateway::{Gateway, run};

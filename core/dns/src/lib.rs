//! A name server for the service's own zone, as one machine: gateways tell it what they see, questions come in, answers go
//! out. It answers with addresses of gateways that live, the nearest first, from what it hears; it asks nobody.

mod zone;

mod fleet;

mod answer;
mod limit;

mod server;

pub use fleet::{GatewayFacts, Order};
pub use limit::SOURCES_MAX;
pub use server::{
    Counts, News, QUESTION_BYTES_MAX, Server, ServerConfig, Transport, UDP_ANSWER_BYTES_MAX,
};
pub use zone::{NameServer, SERVERS_MAX, ZoneError, check};

//! What a name server is told when it starts. Reading files and checking values is the program's business.

use std::net::SocketAddr;

use outlast_dns_core::ServerConfig;
use outlast_wire::Secret;

/// One name server's configuration.
#[derive(Debug)]
pub struct DnsConfig {
    /// Its id, at most [`outlast_wire::PROCESS_ID_BYTES_MAX`] bytes.
    pub id: String,
    /// What it answers.
    pub server: ServerConfig,
    /// Where it is asked, over UDP and TCP; port 0 takes any.
    pub listen: Vec<SocketAddr>,
    /// UDP socket for the outlooks of gateways; port 0 takes any.
    pub beat: SocketAddr,
    /// The cluster's secret.
    pub secret: Secret,
}

/// Why a name server did not start.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A socket could not be opened.
    #[error("binding {address} for {purpose}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What for.
        purpose: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A zone that cannot be.
    #[error("the zone")]
    Zone(#[from] outlast_dns_core::ZoneError),
}

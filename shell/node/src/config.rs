//! What a node is told when it starts, and why it may not start.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use outlast_link::{Credentials, CredentialsError};
use outlast_model::{NodeId, RegionName};
use outlast_runtime::{BindError, Clock};
use outlast_token::ApiKeys;
use outlast_wire::Secret;

/// A node's configuration, checked by the command line before.
#[derive(Clone)]
pub struct NodeConfig {
    /// Unique over all regions; at most [`outlast_wire::PROCESS_ID_BYTES_MAX`] bytes.
    pub id: NodeId,
    /// The region it stands in.
    pub region: RegionName,
    /// The process's clock.
    pub clock: Clock,
    /// Internal server, reached by gateways over mutual TLS. Port 0: the system chooses.
    pub listen: SocketAddr,
    /// UDP address that beats are sent from and echoes come to. Port 0: the system chooses.
    pub beat: SocketAddr,
    /// UDP port of shard 0; shard `n` has this plus `n`. 0: the system chooses each.
    pub media_port: u16,
    /// Number of shards; 0 is one per core.
    pub shards: usize,
    /// Addresses that the shards listen on; the unspecified IPv6 one is left out on hosts without IPv6.
    pub bind: Vec<IpAddr>,
    /// Addresses that clients reach the shards by.
    pub advertise: Vec<IpAddr>,
    /// Most participants on the whole node, spread evenly over the shards.
    pub participants_max: usize,
    /// How often clients ping.
    pub ping_interval: Duration,
    /// After how long a silence clients take the signalling for lost.
    pub ping_timeout: Duration,
    /// Who may sign tokens.
    pub api_keys: ApiKeys,
    /// This process's certificate and the cluster's authority.
    pub credentials: Arc<Credentials>,
    /// Seals beats.
    pub secret: Secret,
    /// All gateways of all regions; each gets every beat.
    pub gateways: Vec<GatewayPeer>,
    /// How long the node may serve after a beat that some gateway has echoed; more than [`outlast_model::BEAT_INTERVAL`] x
    /// [`outlast_model::BEATS_MISSED_MAX`].
    pub lease: Duration,
    /// Joins and resumes admitted a second, in the long run.
    pub joins_per_second: u32,
    /// Joins and resumes admitted at once after a quiet time.
    pub joins_burst: u32,
    /// Least number of participants told to move per second when the node stops.
    pub drain_pace: u32,
    /// How long stopping may wait for sessions to go.
    pub drain_deadline: Duration,
    /// A shard that was not run for so long is fenced; [`outlast_model::SHARD_PAUSE_MAX`] but in tests.
    pub pause_max: Duration,
    /// Opens `POST /debug/panic/<identity>` on the internal server; for tests.
    pub debug_hooks: bool,
}

/// A gateway that gets beats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPeer {
    /// Its id in the configuration; at most [`outlast_wire::PROCESS_ID_BYTES_MAX`] bytes.
    pub id: String,
    /// `host:port` of its UDP socket; a name is looked up again and again.
    pub beat: String,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The internal server's address cannot be had.
    #[error("cannot listen on tcp {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The address for beats cannot be had.
    #[error("cannot listen on udp {address}")]
    Beat {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A media address cannot be had.
    #[error("shard {shard} has no socket")]
    Media {
        /// Which shard.
        shard: usize,
        /// Which address and why.
        #[source]
        source: BindError,
    },
    /// `media_port` plus the number of shards passes 65535.
    #[error("{shards} shards do not fit above media port {media_port}")]
    Ports {
        /// The first port.
        media_port: u16,
        /// How many shards.
        shards: usize,
    },
    /// Certificate, key and authority do not fit together.
    #[error("the cluster's credentials cannot be used")]
    Credentials(#[from] CredentialsError),
    /// The system gave no thread, descriptor or random bytes.
    #[error("the system refused")]
    System(#[from] io::Error),
}

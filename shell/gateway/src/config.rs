//! What a gateway is told when it starts. Reading files and checking values is the program's business.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use outlast_directory::RoomKeyer;
use outlast_engines::Directory;
use outlast_link::Credentials;
use outlast_locate::Locations;
use outlast_model::{Epoch, GatewayId, NodeId, RegionName};
use outlast_token::ApiKeys;
use outlast_wire::Secret;

/// One gateway's configuration.
pub struct GatewayConfig {
    /// Its id, at most [`outlast_wire::PROCESS_ID_BYTES_MAX`] bytes.
    pub id: String,
    /// Where it is.
    pub region: RegionName,
    /// Higher at each start: Unix time in milliseconds will do.
    pub epoch: Epoch,
    /// The program's version, for people.
    pub version: &'static str,
    /// Public HTTP and WebSocket listener; port 0 takes any.
    pub listen: SocketAddr,
    /// TLS of the public listener; none behind a proxy that ends it.
    pub tls: Option<PublicTls>,
    /// UDP socket for beats and outlooks; port 0 takes any.
    pub beat: SocketAddr,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Who may sign tokens.
    pub api_keys: ApiKeys,
    /// The cluster's secret, for beats and outlooks.
    pub secret: Secret,
    /// The cluster's certificates, for connections to nodes.
    pub credentials: Arc<Credentials>,
    /// Every node of every region.
    pub nodes: Vec<NodePeer>,
    /// Every other gateway of every region.
    pub gateways: Vec<GatewayPeer>,
    /// Every name server of every region.
    pub name_servers: Vec<NameServerPeer>,
    /// Who holds which room.
    pub directory: Directory,
    /// Makes rooms' keys in it: [`room_keyer`](crate::room_keyer) of the cluster's secret.
    pub room_keyer: RoomKeyer,
    /// Clients told to reconnect a second; `None`: what the nodes that are left can take.
    pub tell_per_second: Option<u32>,
    /// Folder for what is to outlast a restart; none keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// Where clients dial gateways, this one with them, by their ids: `wss://eu.api.example.net`.
    pub urls: BTreeMap<String, String>,
    /// Where clients are.
    pub locations: Locations,
    /// Clients are told of the second nearest region first.
    pub crossed: bool,
    /// Pages of the demo by exact path; `/` says `OK` when it has none.
    pub pages: BTreeMap<String, Page>,
}

/// Certificate chain and key in PEM files.
#[derive(Clone, Debug)]
pub struct PublicTls {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A node as a gateway knows it.
#[derive(Clone, Debug)]
pub struct NodePeer {
    /// Its id.
    pub id: NodeId,
    /// Where it is.
    pub region: RegionName,
    /// Its internal server. An address, since names must not have to be resolved while the network is broken.
    pub address: SocketAddr,
    /// Its socket for beats.
    pub beat: SocketAddr,
    /// What it can carry in relation to others.
    pub capacity: u32,
}

/// Another gateway.
#[derive(Clone, Debug)]
pub struct GatewayPeer {
    /// Its id.
    pub id: GatewayId,
    /// Where it is.
    pub region: RegionName,
    /// Its socket for beats and outlooks.
    pub beat: SocketAddr,
}

/// A name server.
#[derive(Clone, Debug)]
pub struct NameServerPeer {
    /// Its id.
    pub id: String,
    /// Its socket for outlooks.
    pub beat: SocketAddr,
}

/// A static page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its body.
    pub body: Bytes,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
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
    /// The kernel gives no random bytes.
    #[error("no random bytes from the kernel")]
    Entropy(#[source] std::io::Error),
    /// A certificate or key is not usable.
    #[error("credentials")]
    Credentials(#[from] outlast_link::CredentialsError),
}

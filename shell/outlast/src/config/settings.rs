//! A configuration without mistakes: what the roles are started with.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use outlast_engines::{Access, Address};

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Everything that `serve` needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// This process's region.
    pub(crate) region: String,
    /// API keys and their secrets.
    pub(crate) keys: BTreeMap<String, Secret>,
    /// Absent when there are no peers: a process on its own makes its own secrets.
    pub(crate) cluster: Option<Cluster>,
    /// Present when this process is a gateway.
    pub(crate) gateway: Option<Gateway>,
    /// Present when this process is a node.
    pub(crate) node: Option<Node>,
    /// Present when this process is a name server.
    pub(crate) dns: Option<Dns>,
    /// Where clients are.
    pub(crate) locate: Locate,
    /// Who holds which room.
    pub(crate) directory: Address,
    /// What opens the directory's door.
    pub(crate) access: Access,
    /// Where /metrics and /healthz are served.
    pub(crate) admin: SocketAddr,
    /// Between two pings of a client.
    pub(crate) ping_interval: Duration,
    /// Silence after which a client gives a connection up.
    pub(crate) ping_timeout: Duration,
    /// Participants that a node's graceful stop sends away in a second.
    pub(crate) drain_per_second: u32,
    /// Longest graceful stop of a node.
    pub(crate) drain_timeout: Duration,
    /// Whether log lines are JSON.
    pub(crate) log_json: bool,
    /// What is logged.
    pub(crate) log_filter: String,
    /// The other processes, without this one.
    pub(crate) peers: Vec<Peer>,
}

/// What makes a process a member of its cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// Seals the beats.
    pub(crate) secret: Secret,
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    /// This process's certificate.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// The gateway role.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    /// Its name.
    pub(crate) id: String,
    /// Where clients come in.
    pub(crate) listen: SocketAddr,
    /// Certificate chain and private key for `listen`; plain HTTP without.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Where beats come in.
    pub(crate) beat: SocketAddr,
    /// Where clients reach it.
    pub(crate) public: Vec<IpAddr>,
    /// What clients dial.
    pub(crate) url: Option<String>,
    /// Proxies whose X-Forwarded-For is believed.
    pub(crate) trusted_proxies: Vec<IpAddr>,
    /// Clients told to come back in a second, when their node is gone; 0: what the nodes left can take.
    pub(crate) reconnects_per_second: u32,
    /// Folder for what is to outlast a restart.
    pub(crate) state_dir: Option<PathBuf>,
    /// Folder of files to serve.
    pub(crate) page_dir: Option<PathBuf>,
    /// Whether tests may wipe the directory.
    pub(crate) wipe_hook: bool,
}

impl Settings {
    /// The other processes of one role.
    pub(crate) fn peers_of(&self, role: PeerRole) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(move |peer| peer.role == role)
    }
}

/// The node role.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) id: String,
    /// Where gateways come in.
    pub(crate) listen: SocketAddr,
    /// Where echoes come in.
    pub(crate) beat: SocketAddr,
    /// First media port; 0 takes free ones.
    pub(crate) media_ports: u16,
    /// Shards; never 0 here.
    pub(crate) shards: usize,
    /// Addresses that media sockets are bound to.
    pub(crate) bind: Vec<IpAddr>,
    /// Addresses that clients send media to.
    pub(crate) advertise: Vec<IpAddr>,
    /// Participants it takes.
    pub(crate) participants_max: usize,
    /// Weight in placement.
    pub(crate) capacity: u32,
    /// How long it serves after a beat that a gateway has heard.
    pub(crate) lease: Duration,
    /// Joins that it takes in a second.
    pub(crate) joins_per_second: u32,
    /// Joins that it takes at once.
    pub(crate) joins_burst: u32,
    /// Whether tests may make a session panic.
    pub(crate) panic_hook: bool,
}

/// The role of a name server.
#[derive(Clone, Debug)]
pub(crate) struct Dns {
    /// Its name.
    pub(crate) id: String,
    /// The service's name.
    pub(crate) zone: String,
    /// Where it is asked.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where resolvers reach it.
    pub(crate) public: Vec<IpAddr>,
    /// Where outlooks come in.
    pub(crate) beat: SocketAddr,
    /// How long answers may be kept.
    pub(crate) ttl: Duration,
    /// Answers a second over UDP for each network; 0 is no limit.
    pub(crate) answers_per_second: u32,
}

/// Where clients are, and where they are sent.
#[derive(Clone, Debug)]
pub(crate) struct Locate {
    /// What is known of networks and regions.
    pub(crate) file: Option<PathBuf>,
    /// A MaxMind database.
    pub(crate) database: Option<PathBuf>,
    /// Whether the second nearest region comes first.
    pub(crate) crossed: bool,
}

/// What another process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerRole {
    /// Region's door.
    Gateway,
    /// Media server.
    Node,
    /// Name server.
    Dns,
}

/// Another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// What it does.
    pub(crate) role: PeerRole,
    /// Its name.
    pub(crate) id: String,
    /// Its region.
    pub(crate) region: String,
    /// A node's internal server, `host:port`; empty for others.
    pub(crate) address: String,
    /// Its beat socket, `host:port`.
    pub(crate) beat: String,
    /// Where clients reach a gateway, and resolvers a name server.
    pub(crate) public: Vec<IpAddr>,
    /// What clients dial a gateway by.
    pub(crate) url: Option<String>,
    /// A node's weight in placement.
    pub(crate) capacity: u32,
}

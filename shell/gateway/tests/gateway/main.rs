//! A real gateway on loopback, with fake nodes that speak the internal protocol over real mutual TLS, and clients that are
//! not SDKs: the mechanics of the proxy. The calls themselves are tried elsewhere.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api;
mod client;
mod door;
mod fleet;
mod outcomes;
mod peer;
mod restart;
mod signalling;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use outlast_engines::{Access, Address, Directory};
use outlast_gateway::{Gateway, GatewayConfig, GatewayPeer, NodePeer, room_keyer};
use outlast_link::{Authority, Credentials};
use outlast_model::Epoch;
use outlast_runtime::Clock;
use outlast_token::ApiKeys;
use outlast_wire::Secret;
use prometheus_client::registry::Registry;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use peer::Peer;

/// Longer than any deadline in here; a test that waits for so long has failed.
const SOON: Duration = Duration::from_secs(15);

/// What all processes of a test share.
struct Cluster {
    authority: Authority,
    keys: ApiKeys,
    secret: Secret,
}

impl Cluster {
    fn new() -> Cluster {
        Cluster {
            authority: Authority::make().unwrap(),
            keys: ApiKeys::new([("key", "secret of the key")]).unwrap(),
            secret: Secret::new(b"the cluster's secret").unwrap(),
        }
    }

    fn credentials(&self, name: &str) -> Credentials {
        let issued = self.authority.issue(name).unwrap();
        Credentials::from_pem(self.authority.certificate(), &issued.certificate, &issued.key)
            .unwrap()
    }
}

/// What is not always the same about a gateway.
struct Beginning {
    gateways: Vec<GatewayPeer>,
    state_dir: Option<PathBuf>,
    directory: Address,
    /// They never name a room.
    nodes_are_mute: bool,
}

impl Default for Beginning {
    fn default() -> Self {
        let directory = Address::Embedded;
        Beginning { gateways: Vec::new(), state_dir: None, directory, nodes_are_mute: false }
    }
}

/// A running gateway with its nodes.
struct World {
    cluster: Cluster,
    peers: Vec<Peer>,
    public: SocketAddr,
    registry: Registry,
    wipe_directory: Box<dyn Fn()>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl World {
    /// A gateway in front of the nodes called `ids`, all alive and known to be.
    async fn new(ids: &[&str]) -> World {
        World::start(Cluster::new(), ids, Vec::new()).await
    }

    /// The same among other gateways.
    async fn start(cluster: Cluster, ids: &[&str], gateways: Vec<GatewayPeer>) -> World {
        World::start_with(cluster, ids, Beginning { gateways, ..Beginning::default() }).await
    }

    async fn start_with(cluster: Cluster, ids: &[&str], beginning: Beginning) -> World {
        let Beginning { gateways, state_dir, directory, nodes_are_mute } = beginning;
        let mut peers = Vec::new();
        for id in ids {
            peers.push(Peer::bind(&cluster, id).await);
        }
        let nodes = peers.iter().map(|peer| NodePeer {
            id: peer.id.as_str().into(),
            region: peer.id[..2].into(),
            address: peer.address,
            beat: peer.beat_address,
            capacity: 1,
        });
        let access = Access::default();
        let directory = Directory::connect(&directory, &access, Clock::start()).unwrap();
        let embedded = directory.embedded.clone();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = GatewayConfig {
            state_dir,
            id: "gw".into(),
            region: "eu".into(),
            epoch: Epoch(1),
            version: "test",
            listen: any,
            tls: None,
            beat: any,
            trusted_proxies: Vec::new(),
            api_keys: cluster.keys.clone(),
            secret: cluster.secret.clone(),
            credentials: Arc::new(cluster.credentials("gw")),
            nodes: nodes.collect(),
            gateways,
            name_servers: Vec::new(),
            urls: BTreeMap::from([("gw".into(), "wss://here".into())]),
            locations: outlast_locate::Locations::default(),
            crossed: false,
            directory,
            room_keyer: room_keyer(b"the cluster's secret"),
            tell_per_second: Some(500),
            pages: BTreeMap::new(),
        };
        let mut registry = Registry::default();
        let gateway = Gateway::bind(config, &mut registry).unwrap();
        let (public, beat, ready) =
            (gateway.public_address(), gateway.beat_address(), gateway.readiness());
        let wipe_directory = Box::new(move || embedded.as_ref().unwrap().wipe());
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(gateway.run(stopped));
        for peer in &mut peers {
            peer.mute(nodes_are_mute);
            peer.run(&cluster, beat);
        }
        let world = World { cluster, peers, public, registry, wipe_directory, stop, running };
        soon(|| {
            let ready = ready.load(std::sync::atomic::Ordering::Relaxed);
            ready && world.metric("nodes{health=\"alive\"}") == Some(ids.len())
        })
        .await;
        world
    }

    /// A gauge or counter of the gateway; its name without the prefix.
    fn metric(&self, name: &str) -> Option<usize> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| {
            line.strip_prefix("outlast_gateway_")?.strip_prefix(name)?.strip_prefix(' ')
        })?;
        line.parse().ok()
    }

    fn peer(&self, id: &str) -> &Peer {
        self.peers.iter().find(|peer| peer.id == id).unwrap()
    }

    /// The node that hosts `room`, once there is one.
    fn host_of(&self, room: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.hosts(room))
    }
}

/// Waits until `done`.
async fn soon(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, waiting).await.expect("it never happened");
}

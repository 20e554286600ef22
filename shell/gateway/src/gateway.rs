//! A gateway's life: sockets are bound, tasks run, and in the end everybody is told.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outlast_engines::Engine;
use outlast_gateway_core::{
    DirectoryUse, GatewayFacts, Input, NodeFacts, Role, RoleConfig, Spread,
};
use outlast_link::{Dialer, ServerLimits, ServerTls, Spares, public_tls, serve};
use outlast_locate::Locations;
use outlast_model::NodeId;
use outlast_runtime::{Clock, entropy};
use outlast_token::ApiKeys;
use outlast_wire::{Message, Opener, Process, Sealer};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    GatewayConfig, GatewayError, NodePeer, Page,
    beats::Beats,
    directory, http_door,
    metrics::Metrics,
    role_loop::{Hands, RoleLoop},
    snapshot::{self, Keeper},
    streams::{self, Steering},
    wall::WallClock,
};

/// Echoes and outlooks waiting for the socket: a few for every node and gateway of a large cluster.
const DATAGRAMS_MAX: usize = 4_096;
/// In this time the last outlook has left, which says that nobody is to come any more.
const FAREWELL_SPAN: Duration = Duration::from_millis(50);
/// After a stop is asked for: whoever has not been told by then was not listening.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// What every request may need.
pub(crate) struct Shared {
    pub(crate) role: Arc<RoleLoop>,
    pub(crate) dialer: Dialer,
    /// For clients' signalling: who joins waits for it.
    pub(crate) spares: Spares,
    pub(crate) nodes: BTreeMap<NodeId, NodePeer>,
    pub(crate) keys: ApiKeys,
    pub(crate) trusted_proxies: Vec<IpAddr>,
    /// Of gateways, by id.
    pub(crate) urls: BTreeMap<String, String>,
    pub(crate) locations: Locations,
    pub(crate) crossed: bool,
    pub(crate) pages: BTreeMap<String, Page>,
    pub(crate) metrics: Metrics,
    pub(crate) wall: WallClock,
}

/// The directory's engine with what it is asked.
struct Asked {
    engine: Arc<dyn Engine>,
    called: directory::Called,
    clock: Clock,
}

/// A gateway with its sockets bound.
pub struct Gateway {
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: ServerTls,
    beats: Beats,
    steering: Vec<(NodePeer, Steering)>,
    directory: Asked,
    keeper: Option<Keeper>,
    public: SocketAddr,
    beat: SocketAddr,
    ready: Arc<AtomicBool>,
}

impl Gateway {
    /// Binds the sockets; to be called inside a tokio runtime. Metrics go to `registry`.
    ///
    /// # Errors
    /// When a socket cannot be bound or a certificate is not usable.
    pub fn bind(config: GatewayConfig, registry: &mut Registry) -> Result<Gateway, GatewayError> {
        let (listener, public) = listener(config.listen)?;
        let (socket, beat) = beat_socket(config.beat)?;
        let tls = match &config.tls {
            Some(tls) => ServerTls::Public(public_tls(&tls.certificate, &tls.key)?),
            None => ServerTls::Plain,
        };
        let (clock, metrics) = (Clock::start(), Metrics::register(registry));
        let (sender, datagrams) = mpsc::channel(DATAGRAMS_MAX);
        let (mut steers, mut steering) = (BTreeMap::new(), Vec::new());
        for node in &config.nodes {
            let (sender, receiver) = streams::steers();
            steers.insert(node.id.clone(), sender);
            steering.push((node.clone(), receiver));
        }
        let mut role = Role::new(role_config(&config)?, clock.now());
        let wall = WallClock::system();
        let keeper = config.state_dir.as_deref();
        let keeper = keeper.map(|folder| Keeper::new(folder, &config.id, &config.room_keyer));
        if let Some((snapshot, age)) = keeper.as_ref().and_then(|keeper| keeper.load(&wall)) {
            let rooms = role.restore(clock.now(), snapshot, age);
            tracing::info!(rooms, "rooms are looked for where they were");
        }
        let (calls, called) = directory::calls();
        let name_servers = config.name_servers.iter();
        let hands = Hands {
            clock,
            metrics: metrics.clone(),
            datagrams: sender,
            name_servers: name_servers.map(|peer| Process::name_server(&peer.id)).collect(),
            steers,
            calls,
        };
        let role = Arc::new(RoleLoop::new(role, hands));
        let directory = Asked { engine: Arc::clone(&config.directory.engine), called, clock };
        let beats = beats(&config, socket, datagrams, Arc::clone(&role), metrics.clone());
        tracing::info!(gateway = config.id, region = %config.region, version = config.version,
            %public, %beat, "gateway bound");
        let dialer = Dialer::new(&config.credentials)?;
        let shared = Shared {
            role,
            spares: Spares::new(dialer.clone()),
            dialer,
            nodes: config.nodes.into_iter().map(|node| (node.id.clone(), node)).collect(),
            keys: config.api_keys,
            trusted_proxies: config.trusted_proxies,
            urls: config.urls,
            locations: config.locations,
            crossed: config.crossed,
            pages: config.pages,
            metrics,
            wall,
        };
        let (shared, ready) = (Arc::new(shared), Arc::default());
        Ok(Gateway {
            shared,
            listener,
            tls,
            beats,
            steering,
            directory,
            keeper,
            public,
            beat,
            ready,
        })
    }

    /// Where clients come in.
    pub fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// Where beats come in.
    pub fn beat_address(&self) -> SocketAddr {
        self.beat
    }

    /// Whether clients should be sent here: from when the view has settled until the stop. Depends on no other process:
    /// without any node it turns true too, and clients get their 503.
    pub fn readiness(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// Serves until `shutdown` is true; then takes nobody in, tells everybody to reconnect, and returns when they are gone.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        // Dropped at the end, and its tasks with it.
        let mut tasks = JoinSet::new();
        let role = Arc::clone(&self.shared.role);
        tasks.spawn({
            let role = Arc::clone(&role);
            async move { role.run().await }
        });
        tasks.spawn(self.beats.run());
        let Asked { engine, called, clock } = self.directory;
        let metrics = self.shared.metrics.directory.clone();
        tasks.spawn(directory::carry(engine, called, Arc::clone(&role), clock, metrics));
        if let Some(keeper) = self.keeper {
            let (role, metrics) = (Arc::clone(&role), self.shared.metrics.snapshot.clone());
            tasks.spawn(snapshot::keep(keeper, role, clock, metrics));
        }
        for (node, steering) in self.steering {
            let (dialer, role) = (self.shared.dialer.clone(), Arc::clone(&role));
            tasks.spawn(streams::follow(node, dialer, role, steering));
        }
        tasks.spawn({
            let (role, ready) = (Arc::clone(&role), Arc::clone(&self.ready));
            async move {
                while !role.settled() {
                    sleep(Duration::from_millis(20)).await;
                }
                ready.store(true, Ordering::Relaxed);
            }
        });
        let shared = Arc::clone(&self.shared);
        let handler = move |peer, request| http_door::answer(Arc::clone(&shared), peer, request);
        tasks.spawn(serve(
            self.listener,
            self.tls,
            ServerLimits::default(),
            handler,
            shutdown.clone(),
        ));
        // A dropped sender is a stop as well.
        let _ = shutdown.wait_for(|stop| *stop).await;
        self.ready.store(false, Ordering::Relaxed);
        tracing::info!(sessions = role.sessions(), "gateway stops: telling everybody");
        role.input(Input::Drain);
        if timeout(DRAIN_MAX, role.drained()).await.is_err() {
            tracing::warn!(sessions = role.sessions(), "gateway stopped before all had gone");
        }
        sleep(FAREWELL_SPAN).await;
    }
}

fn listener(address: SocketAddr) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let bound = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok((TcpListener::from_std(listener)?, bound))
    };
    bound().map_err(|source| GatewayError::Bind { address, purpose: "clients", source })
}

fn beat_socket(address: SocketAddr) -> Result<(UdpSocket, SocketAddr), GatewayError> {
    let bound = || {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let bound = socket.local_addr()?;
        Ok((UdpSocket::from_std(socket)?, bound))
    };
    bound().map_err(|source| GatewayError::Bind { address, purpose: "beats", source })
}

fn role_config(config: &GatewayConfig) -> Result<RoleConfig, GatewayError> {
    let nodes = config.nodes.iter().map(|node| NodeFacts {
        id: node.id.clone(),
        region: node.region.clone(),
        capacity: node.capacity,
    });
    let gateways = config
        .gateways
        .iter()
        .map(|gateway| GatewayFacts { id: gateway.id.clone(), region: gateway.region.clone() });
    let seed = entropy::bytes().map_err(GatewayError::Entropy)?;
    let directory = DirectoryUse {
        keyer: config.room_keyer,
        layout: config.directory.layout.clone(),
        arbitrates: config.directory.arbitrates,
    };
    Ok(RoleConfig {
        id: config.id.as_str().into(),
        region: config.region.clone(),
        epoch: config.epoch,
        nodes: nodes.collect(),
        gateways: gateways.collect(),
        name_servers: !config.name_servers.is_empty(),
        tell_per_second: config.tell_per_second,
        spread: Spread::Everywhere,
        directory: Some(directory),
        seed: u64::from_le_bytes(seed),
    })
}

fn beats(
    config: &GatewayConfig,
    socket: UdpSocket,
    datagrams: mpsc::Receiver<(Process, Message)>,
    role: Arc<RoleLoop>,
    metrics: Metrics,
) -> Beats {
    let me = Process::gateway(&config.id);
    let nodes = config.nodes.iter().map(|node| (Process::node(node.id.as_str()), node.beat));
    let gateways = config.gateways.iter();
    let gateways = gateways.map(|peer| (Process::gateway(peer.id.as_str()), peer.beat));
    let name_servers = config.name_servers.iter();
    let name_servers = name_servers.map(|peer| (Process::name_server(&peer.id), peer.beat));
    let peers: BTreeMap<Process, SocketAddr> = nodes.chain(gateways).chain(name_servers).collect();
    Beats {
        socket,
        opener: Opener::new(&config.secret, me.clone(), peers.keys().cloned()),
        sealer: Sealer::new(&config.secret, me, config.epoch),
        peers,
        datagrams,
        role,
        metrics,
    }
}

/// Binds and serves; see [`Gateway::bind`] and [`Gateway::run`].
///
/// # Errors
/// When a socket cannot be bound or a certificate is not usable.
pub async fn run(
    config: GatewayConfig,
    registry: &mut Registry,
    shutdown: watch::Receiver<bool>,
) -> Result<(), GatewayError> {
    Gateway::bind(config, registry)?.run(shutdown).await;
    Ok(())
}

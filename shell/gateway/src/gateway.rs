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

use outlast_gateway_core::{Input, NodeFacts, Role, RoleConfig};
use outlast_link::{Dialer, ServerLimits, ServerTls, public_tls, serve};
use outlast_model::NodeId;
use outlast_runtime::Clock;
use outlast_token::ApiKeys;
use outlast_wire::{Opener, Process, Sealer};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    GatewayConfig, GatewayError, NodePeer, Page, beats::Beats, http_door, metrics::Metrics,
    role_loop::RoleLoop, streams, wall::WallClock,
};

/// Most requests at once that are looking for a node; each holds a connection and a few buffers.
const JOINS_MAX: usize = 512;
/// Echoes waiting for the socket: a few for every node of a large cluster.
const ECHOES_MAX: usize = 1_024;
/// After a stop is asked for: whoever has not been told by then was not listening.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// What every request may need.
pub(crate) struct Shared {
    pub(crate) role: Arc<RoleLoop>,
    pub(crate) dialer: Dialer,
    pub(crate) nodes: BTreeMap<NodeId, NodePeer>,
    pub(crate) keys: ApiKeys,
    pub(crate) trusted_proxies: Vec<IpAddr>,
    pub(crate) pages: BTreeMap<String, Page>,
    pub(crate) joins: Semaphore,
    pub(crate) metrics: Metrics,
    pub(crate) wall: WallClock,
}

/// A gateway with its sockets bound.
pub struct Gateway {
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: ServerTls,
    beats: Beats,
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
        let bound =
            |address, purpose| move |source| GatewayError::Bind { address, purpose, source };
        let listener = std::net::TcpListener::bind(config.listen)
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            })
            .map_err(bound(config.listen, "clients"))?;
        let public = listener.local_addr().map_err(bound(config.listen, "clients"))?;
        let socket = std::net::UdpSocket::bind(config.beat)
            .and_then(|socket| {
                socket.set_nonblocking(true)?;
                UdpSocket::from_std(socket)
            })
            .map_err(bound(config.beat, "beats"))?;
        let beat = socket.local_addr().map_err(bound(config.beat, "beats"))?;
        let tls = match &config.tls {
            Some(tls) => ServerTls::Public(public_tls(&tls.certificate, &tls.key)?),
            None => ServerTls::Plain,
        };
        let (clock, metrics) = (Clock::start(), Metrics::register(registry));
        let (echo, echoes) = mpsc::channel(ECHOES_MAX);
        let facts = config.nodes.iter().map(|node| NodeFacts {
            id: node.id.clone(),
            region: node.region.clone(),
            capacity: node.capacity,
        });
        let role = RoleConfig {
            epoch: config.epoch,
            nodes: facts.collect(),
            tell_per_second: config.tell_per_second,
        };
        let role = Role::new(role, clock.now());
        let role = Arc::new(RoleLoop::new(clock, role, metrics.clone(), echo));
        let me = Process::gateway(&config.id);
        let senders = config.nodes.iter().map(|node| Process::node(node.id.as_str()));
        let beats = Beats {
            opener: Opener::new(&config.secret, me.clone(), senders),
            sealer: Sealer::new(&config.secret, me, config.epoch),
            nodes: config.nodes.iter().map(|node| (node.id.clone(), node.beat)).collect(),
            socket,
            echoes,
            role: Arc::clone(&role),
            metrics: metrics.clone(),
        };
        let shared = Shared {
            role,
            dialer: Dialer::new(&config.credentials)?,
            nodes: config.nodes.into_iter().map(|node| (node.id.clone(), node)).collect(),
            keys: config.api_keys,
            trusted_proxies: config.trusted_proxies,
            pages: config.pages,
            joins: Semaphore::new(JOINS_MAX),
            metrics,
            wall: WallClock::system(),
        };
        tracing::info!(gateway = config.id, region = %config.region, version = config.version,
            %public, %beat, "gateway bound");
        let (shared, ready) = (Arc::new(shared), Arc::default());
        Ok(Gateway { shared, listener, tls, beats, public, beat, ready })
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
        for node in self.shared.nodes.values() {
            let (dialer, role) = (self.shared.dialer.clone(), Arc::clone(&role));
            tasks.spawn(streams::follow(node.clone(), dialer, role));
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
        self.shared.joins.close();
        tracing::info!(sessions = role.sessions(), "gateway stops: telling everybody");
        role.input(Input::Drain);
        if timeout(DRAIN_MAX, role.drained()).await.is_err() {
            tracing::warn!(sessions = role.sessions(), "gateway stopped before all had gone");
        }
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

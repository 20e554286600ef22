//! A node's life: everything is opened, everything runs, everybody is moved away, everything ends.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use outlast_link::{PEER_HEADERS_MAX, ServerLimits, ServerTls, serve};
use outlast_model::Epoch;
use outlast_node_core::{SERVER_VERSION, ShardConfig};
use outlast_runtime::{BindError, UdpSocketSet, Wake, cores, entropy, pin_to_core};
use outlast_tenure::TenureConfig;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{oneshot, watch},
    task::JoinHandle as Task,
    time::{Instant, interval, timeout, timeout_at},
};

use crate::{
    beats::Beats,
    config::{NodeConfig, NodeError},
    metrics::NodeMetrics,
    role_loop::RoleLoop,
    server::Server,
    shard_loop::{Flow, Parts, ShardLoop},
    shards::{INPUTS_MAX, Input, ShardDoor, Shards, Shared},
};

/// Between two looks at who is left.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long a shard's thread may take to end.
const STOP_SPAN: Duration = Duration::from_secs(2);

/// A running node. Dropping it stops nothing: call [`Node::drain_and_stop`].
pub struct Node {
    listen: SocketAddr,
    beat: SocketAddr,
    media: Vec<Vec<SocketAddr>>,
    drain_pace: u32,
    drain_deadline: Duration,
    role: Arc<RoleLoop>,
    shards: Arc<Shards>,
    metrics: NodeMetrics,
    threads: Vec<JoinHandle<()>>,
    tasks: Vec<Task<()>>,
    stop: watch::Sender<bool>,
    ready: Arc<AtomicBool>,
}

/// Runs a node until `shutdown` turns true, then moves everybody away and returns. `ready` says whether the node takes
/// joins.
///
/// # Errors
/// When it cannot start.
pub async fn run(
    config: NodeConfig,
    metrics: NodeMetrics,
    ready: Arc<AtomicBool>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), NodeError> {
    let node = Node::start(config, metrics, ready).await?;
    // Whoever held the other end is gone: that is a shutdown as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
    node.drain_and_stop().await;
    Ok(())
}

impl Node {
    /// Opens all sockets and starts all threads and tasks.
    ///
    /// # Errors
    /// When something cannot be had; nothing is left running then.
    pub async fn start(
        config: NodeConfig,
        metrics: NodeMetrics,
        ready: Arc<AtomicBool>,
    ) -> Result<Node, NodeError> {
        let shard_count = if config.shards == 0 { cores() } else { config.shards };
        let sets = bind_media(&config, shard_count)?;
        let tls = config.credentials.server_config()?;
        let refused = |source| NodeError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let listen = listener.local_addr()?;
        let refused = |source| NodeError::Beat { address: config.beat, source };
        let beat_socket = UdpSocket::bind(config.beat).await.map_err(refused)?;
        let beat = beat_socket.local_addr()?;
        // A later start has a later wall clock, but for a clock set back; and each fence only adds one.
        let started = config.clock.unix_now().as_millis();
        let epoch = Epoch(u64::try_from(started).unwrap_or(u64::MAX / 2));
        let shared = Arc::new(Shared::new(shard_count, epoch, metrics.clone()));
        let media = sets.iter().map(|set| set.addresses().to_vec()).collect();
        let (doors, places) = doors(shard_count)?;
        let shards = Arc::new(Shards::new(doors));
        let role = Arc::new(role(&config, epoch, &shards, &shared)?);
        let threads = match start_threads(&config, sets, places, &role, &shared).await {
            Ok(threads) => threads,
            Err(error) => {
                stop_threads(&shards);
                return Err(error);
            }
        };
        let (stop, stopped) = watch::channel(false);
        let server = Server {
            role: Arc::clone(&role),
            shards: Arc::clone(&shards),
            shared: Arc::clone(&shared),
            keys: config.api_keys.clone(),
            clock: config.clock,
            debug_hooks: config.debug_hooks,
        };
        // All connections come from the gateways, a few addresses.
        let limits = ServerLimits::default();
        let limits = ServerLimits {
            connections_per_ip: limits.connections,
            headers: PEER_HEADERS_MAX,
            ..limits
        };
        let serving = serve(
            listener,
            ServerTls::Cluster(tls),
            limits,
            move |peer, request| server.clone().answer(peer, request),
            stopped.clone(),
        );
        let (to_role, below) = (Arc::clone(&role), (Arc::clone(&shards), shared));
        let beats = Beats::new(&config, beat_socket, to_role, below, Arc::clone(&ready));
        let (waking, stopping) = (Arc::clone(&role), stopped.clone());
        let waking = tokio::spawn(async move { waking.run(stopping).await });
        let tasks = vec![tokio::spawn(serving), tokio::spawn(beats.run(stopped)), waking];
        tracing::info!(node = %config.id, region = %config.region, %listen, shards = shard_count, "node started");
        Ok(Node {
            listen,
            beat,
            media,
            drain_pace: config.drain_pace,
            drain_deadline: config.drain_deadline,
            role,
            shards,
            metrics,
            threads,
            tasks,
            stop,
            ready,
        })
    }

    /// Where the internal server listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where beats come from and echoes go to.
    pub fn beat(&self) -> SocketAddr {
        self.beat
    }

    /// The media sockets of each shard.
    pub fn media(&self) -> &[Vec<SocketAddr>] {
        &self.media
    }

    /// Tells everybody to move, paced, waits until they have gone or the deadline has passed, and ends everything.
    pub async fn drain_and_stop(self) {
        let deadline = Instant::now() + self.drain_deadline;
        self.ready.store(false, Ordering::Release);
        self.role.drain(self.drain_pace, self.drain_deadline, true);
        let gone = timeout_at(deadline, async {
            let mut looks = interval(LOOK_INTERVAL);
            while !self.role.drain_state().drained || self.metrics.sessions.get() > 0 {
                looks.tick().await;
            }
        });
        if gone.await.is_err() {
            let left = self.metrics.sessions.get();
            tracing::warn!(left, "ended before everybody had gone");
        }
        // Nobody is left to receive this but the tasks themselves.
        let _ = self.stop.send(true);
        for task in self.tasks {
            // A task that panicked has ended too.
            let _ = task.await;
        }
        stop_threads(&self.shards);
        let joined = tokio::task::spawn_blocking(move || {
            self.threads.into_iter().all(|thread| thread.join().is_ok())
        });
        if !matches!(timeout(STOP_SPAN, joined).await, Ok(Ok(true))) {
            tracing::error!("a shard did not end");
        }
    }
}

fn stop_threads(shards: &Shards) {
    for shard in 0..shards.len() {
        // Whose queue is full hangs, or has ended.
        let _ = shards.send(shard, Input::Stop);
    }
}

/// The far ends of a shard's queue and bell.
struct Place {
    inputs: Receiver<Input>,
    wake: Wake,
}

/// A queue and a bell for each shard: their near ends, and where its thread takes place.
fn doors(shards: usize) -> io::Result<(Vec<ShardDoor>, Vec<Place>)> {
    let door = |_| {
        let ((to_shard, inputs), wake) = (sync_channel(INPUTS_MAX), Wake::new()?);
        Ok((ShardDoor { inputs: to_shard, wake: wake.clone() }, Place { inputs, wake }))
    };
    let both: io::Result<Vec<_>> = (0..shards).map(door).collect();
    Ok(both?.into_iter().unzip())
}

fn role(
    config: &NodeConfig,
    epoch: Epoch,
    shards: &Arc<Shards>,
    shared: &Arc<Shared>,
) -> io::Result<RoleLoop> {
    let gateways = config.gateways.iter().map(|peer| peer.id.as_str().into()).collect();
    let seed = u64::from_le_bytes(entropy::bytes()?);
    let tenure = TenureConfig {
        lease: config.lease,
        joins_per_second: config.joins_per_second,
        joins_burst: config.joins_burst,
        ..TenureConfig::new(config.id.clone(), epoch, gateways, seed)
    };
    let (shards, shared) = (Arc::clone(shards), Arc::clone(shared));
    Ok(RoleLoop::new(tenure, config.clock, config.pause_max, shards, shared))
}

/// Starts a thread per shard; each sets its shard up itself and reports before it runs.
async fn start_threads(
    config: &NodeConfig,
    sets: Vec<UdpSocketSet>,
    places: Vec<Place>,
    role: &Arc<RoleLoop>,
    shared: &Arc<Shared>,
) -> Result<Vec<JoinHandle<()>>, NodeError> {
    let (mut threads, mut started) = (Vec::new(), Vec::new());
    let count = sets.len();
    for (shard, (sockets, place)) in sets.into_iter().zip(places).enumerate() {
        let parts = Parts {
            config: shard_config(config, shard, count, &sockets, shared.epoch()),
            clock: config.clock,
            sockets,
            inputs: place.inputs,
            wake: place.wake,
            role: Arc::clone(role),
            shared: Arc::clone(shared),
            pause_max: config.pause_max,
        };
        let (report, reported) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("shard-{shard}")).spawn(move || {
            run_shard(parts, shard, report);
        })?;
        threads.push(thread);
        started.push(reported);
    }
    for reported in started {
        // A thread that ended without a word: its doors close with ours.
        reported.await.map_err(|_| io::Error::other("a shard's thread ended at once"))??;
    }
    Ok(threads)
}

fn run_shard(parts: Parts, shard: usize, report: oneshot::Sender<io::Result<()>>) {
    // More shards than cores, or a sandbox: the shard runs all the same, only slower.
    if let Err(error) = pin_to_core(shard) {
        tracing::warn!(shard, %error, "the shard's thread is not pinned");
    }
    let (result, shard_loop) = match ShardLoop::new(parts) {
        Ok(shard_loop) => (Ok(()), Some(shard_loop)),
        Err(error) => (Err(error), None),
    };
    // Nobody waits only if the start was given up; then there is nothing to run for.
    if report.send(result).is_err() {
        return;
    }
    if let Some(mut shard_loop) = shard_loop {
        while shard_loop.turn() == Flow::Continue {}
    }
}

fn shard_config(
    config: &NodeConfig,
    shard: usize,
    count: usize,
    sockets: &UdpSocketSet,
    epoch: Epoch,
) -> ShardConfig {
    ShardConfig {
        shard,
        media_port: sockets.addresses().first().map_or(0, SocketAddr::port),
        sockets: sockets.addresses().to_vec(),
        advertise: config.advertise.clone(),
        node: config.id.clone(),
        region: config.region.clone(),
        epoch,
        ping_interval: config.ping_interval,
        ping_timeout: config.ping_timeout,
        api_keys: config.api_keys.clone(),
        version: SERVER_VERSION,
        unix_start: config.clock.unix_start(),
        instant_zero: config.clock.instant_zero(),
        participants_max: config.participants_max.div_ceil(count),
    }
}

fn bind_media(config: &NodeConfig, shards: usize) -> Result<Vec<UdpSocketSet>, NodeError> {
    (0..shards)
        .map(|shard| {
            let ports = NodeError::Ports { media_port: config.media_port, shards };
            let port = match config.media_port {
                0 => 0,
                first => {
                    let offset = u16::try_from(shard).ok();
                    offset.and_then(|offset| first.checked_add(offset)).ok_or(ports)?
                }
            };
            bind_shard(&config.bind, port).map_err(|source| NodeError::Media { shard, source })
        })
        .collect()
}

/// Opens a shard's sockets; on a host without IPv6, "every IPv6 address" is none.
fn bind_shard(bind: &[IpAddr], port: u16) -> Result<UdpSocketSet, BindError> {
    let addresses: Vec<_> = bind.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    match UdpSocketSet::bind(&addresses) {
        Err(BindError::Refused { address, source })
            if address.ip() == Ipv6Addr::UNSPECIFIED && addresses.len() > 1 && lacks(&source) =>
        {
            tracing::warn!("this host has no IPv6: media is on IPv4 alone");
            let ipv4: Vec<_> = addresses.into_iter().filter(SocketAddr::is_ipv4).collect();
            UdpSocketSet::bind(&ipv4)
        }
        result => result,
    }
}

/// Whether the error says that the address family, or its address, does not exist here.
fn lacks(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

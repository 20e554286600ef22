//! A node's life: everything is opened, everything runs, everybody is moved away, everything ends.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use outlast_link::{ServerLimits, ServerTls, serve};
use outlast_model::Epoch;
use outlast_node_core::{Command, SERVER_VERSION, ShardConfig};
use outlast_runtime::{BindError, UdpSocketSet, Wake, cores, pin_to_core};
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
    server::Server,
    shard_loop::{Flow, Parts, ShardLoop},
    shards::{INPUTS_MAX, Input, ShardDoor, Shards, Shared},
};

/// Share of the drain's deadline in which everybody must have been told; the rest is theirs to go.
const DRAIN_TELL_SHARE: f64 = 0.6;
/// How long a shard's thread may take to end.
const STOP_SPAN: Duration = Duration::from_secs(2);

/// A running node. Dropping it stops nothing: call [`Node::drain_and_stop`].
pub struct Node {
    listen: SocketAddr,
    beat: SocketAddr,
    media: Vec<Vec<SocketAddr>>,
    drain_pace: u32,
    drain_deadline: Duration,
    shards: Arc<Shards>,
    shared: Arc<Shared>,
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
        let shared = Arc::new(Shared::new(shard_count, epoch, metrics));
        let media = sets.iter().map(|set| set.addresses().to_vec()).collect();
        let (doors, threads) = start_threads(&config, sets, &shared).await?;
        let shards = Arc::new(Shards::new(doors));
        let (stop, stopped) = watch::channel(false);
        let server = Server {
            shards: Arc::clone(&shards),
            shared: Arc::clone(&shared),
            keys: config.api_keys.clone(),
            clock: config.clock,
            debug_hooks: config.debug_hooks,
        };
        // All connections come from the gateways, a few addresses.
        let limits = ServerLimits::default();
        let limits = ServerLimits { connections_per_ip: limits.connections, ..limits };
        let serving = serve(
            listener,
            ServerTls::Cluster(tls),
            limits,
            move |peer, request| server.clone().answer(peer, request),
            stopped.clone(),
        );
        let (to_shards, to_shared) = (Arc::clone(&shards), Arc::clone(&shared));
        let beats = Beats::new(&config, beat_socket, to_shards, to_shared, Arc::clone(&ready));
        let tasks = vec![tokio::spawn(serving), tokio::spawn(beats.run(stopped))];
        tracing::info!(node = %config.id, region = %config.region, %listen, shards = shard_count, "node started");
        Ok(Node {
            listen,
            beat,
            media,
            drain_pace: config.drain_pace,
            drain_deadline: config.drain_deadline,
            shards,
            shared,
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
        self.shared.draining.store(true, Ordering::Release);
        self.ready.store(false, Ordering::Release);
        let pace = self.pace();
        for shard in 0..self.shards.len() {
            // A shard that cannot hear this hangs, and the deadline passes.
            let _ = self.shards.send(shard, Input::Command(Command::Drain { pace }));
        }
        let gone = timeout_at(deadline, async {
            self.shared.drained.wait(1).await;
            let mut looks = interval(Duration::from_millis(20));
            while self.shared.metrics.sessions.get() > 0 {
                looks.tick().await;
            }
        });
        if gone.await.is_err() {
            let left = self.shared.metrics.sessions.get();
            tracing::warn!(left, "the drain's deadline passed");
        }
        // Nobody is left to receive this but the tasks themselves.
        let _ = self.stop.send(true);
        for task in self.tasks {
            // A task that panicked has ended too.
            let _ = task.await;
        }
        for shard in 0..self.shards.len() {
            let _ = self.shards.send(shard, Input::Stop);
        }
        let joined = tokio::task::spawn_blocking(move || {
            self.threads.into_iter().all(|thread| thread.join().is_ok())
        });
        if !matches!(timeout(STOP_SPAN, joined).await, Ok(Ok(true))) {
            tracing::error!("a shard did not end");
        }
    }

    /// Participants to tell per second and shard: as configured, or as many as the deadline forces.
    fn pace(&self) -> u32 {
        let shards = u32::try_from(self.shards.len()).unwrap_or(u32::MAX).max(1);
        let participants = self.shared.metrics.total().stats.participants;
        let span = (self.drain_deadline.as_secs_f64() * DRAIN_TELL_SHARE).max(0.1);
        // All of them may be on one shard.
        let forced = (participants as f64 / span).ceil();
        self.drain_pace.div_ceil(shards).max(forced as u32).max(1)
    }
}

/// Starts a thread per shard; each sets its shard up itself and reports before it runs.
async fn start_threads(
    config: &NodeConfig,
    sets: Vec<UdpSocketSet>,
    shared: &Arc<Shared>,
) -> Result<(Vec<ShardDoor>, Vec<JoinHandle<()>>), NodeError> {
    let (mut doors, mut threads, mut started) = (Vec::new(), Vec::new(), Vec::new());
    let count = sets.len();
    for (shard, sockets) in sets.into_iter().enumerate() {
        let (inputs, taken) = sync_channel(INPUTS_MAX);
        let wake = Wake::new()?;
        let parts = Parts {
            config: shard_config(config, shard, count, &sockets, shared.epoch()),
            clock: config.clock,
            sockets,
            inputs: taken,
            wake: wake.clone(),
            shared: Arc::clone(shared),
            pause_max: config.pause_max,
        };
        let (report, reported) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("shard-{shard}")).spawn(move || {
            run_shard(parts, shard, report);
        })?;
        doors.push(ShardDoor { inputs, wake });
        threads.push(thread);
        started.push(reported);
    }
    for reported in started {
        // A thread that ended without a word: its doors close with ours.
        reported.await.map_err(|_| io::Error::other("a shard's thread ended at once"))??;
    }
    Ok((doors, threads))
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

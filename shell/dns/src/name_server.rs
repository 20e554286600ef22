//! A name server's life: sockets are bound, outlooks are listened to, and then questions are answered.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outlast_control::OUTLOOK_FRESH;
use outlast_dns_core::{News, Server, Transport};
use outlast_model::BEAT_INTERVAL;
use outlast_runtime::Clock;
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{DnsConfig, DnsError, metrics::Metrics, outlooks::Outlooks, tcp, udp};

/// Span between two judgements.
const JUDGE_INTERVAL: Duration = Duration::from_millis(100);
/// Every gateway that lives has been heard by then.
const SETTLE_MAX: Duration = OUTLOOK_FRESH.saturating_add(BEAT_INTERVAL);

/// The machine with its clock; every task has a handle.
pub(crate) struct Mind {
    clock: Clock,
    server: Mutex<Server>,
    metrics: Metrics,
}

impl Mind {
    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn answer(&self, question: &[u8], from: IpAddr, by: Transport) -> Option<Vec<u8>> {
        self.server().answer(self.clock.now(), question, from, by)
    }

    pub(crate) fn hear(&self, gateway: &str, outlook: &outlast_wire::Outlook) {
        self.server().hear(self.clock.now(), &gateway.into(), outlook);
    }

    fn judge(&self) {
        let mut news = Vec::new();
        {
            let mut server = self.server();
            server.wake(self.clock.now(), &mut news);
            self.metrics.facts(&server);
        }
        for news in news {
            match news {
                News::Region { region, health } => {
                    tracing::info!(%region, ?health, "verdict on a region");
                }
                News::Gateway { id, from, to } => {
                    tracing::info!(gateway = %id, from, to, "a gateway has turned");
                }
            }
        }
    }
}

/// A name server with its sockets bound.
pub struct NameServer {
    mind: Arc<Mind>,
    sockets: Vec<(UdpSocket, TcpListener)>,
    addresses: Vec<SocketAddr>,
    outlooks: Outlooks,
    beat: SocketAddr,
    ready: Arc<AtomicBool>,
}

impl NameServer {
    /// Binds the sockets; to be called inside a tokio runtime. Metrics go to `registry`.
    ///
    /// # Errors
    /// When a socket cannot be bound, or the zone cannot be.
    pub fn bind(config: DnsConfig, registry: &mut Registry) -> Result<NameServer, DnsError> {
        let gateways: Vec<_> = config.server.gateways.iter().map(|it| it.id.clone()).collect();
        let zone = config.server.zone.clone();
        let server = Mutex::new(Server::new(config.server)?);
        let metrics = Metrics::register(registry);
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        for address in config.listen {
            let (socket, listener, address) = pair(address)?;
            sockets.push((socket, listener));
            addresses.push(address);
        }
        let (socket, beat) = udp_socket(config.beat, "outlooks")?;
        let outlooks = Outlooks::new(socket, &config.secret, &config.id, &gateways);
        let mind = Arc::new(Mind { clock: Clock::start(), server, metrics });
        tracing::info!(name_server = config.id, zone, ?addresses, %beat, "name server bound");
        let ready = Arc::default();
        Ok(NameServer { mind, sockets, addresses, outlooks, beat, ready })
    }

    /// Where it is asked, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where outlooks come in.
    pub fn beat_address(&self) -> SocketAddr {
        self.beat
    }

    /// Whether questions are answered: from when every gateway that lives has had the time to be heard.
    pub fn readiness(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// Answers until `shutdown` is true. What is asked before it knows the gateways waits in the sockets.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        // Dropped at the end, and its tasks with it.
        let mut tasks = JoinSet::new();
        tasks.spawn(self.outlooks.run(Arc::clone(&self.mind), self.mind.metrics.clone()));
        tasks.spawn({
            let mind = Arc::clone(&self.mind);
            async move {
                let mut ticks = interval(JUDGE_INTERVAL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    mind.judge();
                }
            }
        });
        let settled = Instant::now() + SETTLE_MAX;
        tokio::select! {
            () = tokio::time::sleep_until(settled) => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        self.mind.judge();
        let doors = Arc::new(tcp::Doors::new(self.mind.metrics.clone()));
        for (socket, listener) in self.sockets {
            tasks.spawn(udp::serve(socket, Arc::clone(&self.mind)));
            tasks.spawn(tcp::serve(listener, Arc::clone(&self.mind), Arc::clone(&doors)));
        }
        self.ready.store(true, Ordering::Release);
        // A dropped sender is a stop as well.
        let _ = shutdown.wait_for(|stop| *stop).await;
        self.ready.store(false, Ordering::Release);
        tracing::info!("name server stops");
    }
}

/// A UDP and a TCP socket of one port.
fn pair(address: SocketAddr) -> Result<(UdpSocket, TcpListener, SocketAddr), DnsError> {
    let (socket, bound) = udp_socket(address, "questions")?;
    let listener = || {
        let listener = std::net::TcpListener::bind(bound)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let purpose = "questions over TCP";
    let listener =
        listener().map_err(|source| DnsError::Bind { address: bound, purpose, source })?;
    Ok((socket, listener, bound))
}

fn udp_socket(
    address: SocketAddr,
    purpose: &'static str,
) -> Result<(UdpSocket, SocketAddr), DnsError> {
    let bound = || {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let bound = socket.local_addr()?;
        Ok((UdpSocket::from_std(socket)?, bound))
    };
    bound().map_err(|source| DnsError::Bind { address, purpose, source })
}

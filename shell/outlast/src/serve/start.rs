//! From settings to running roles: addresses are resolved here, once, so that nobody asks the DNS during a fault.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context;
use outlast_dns::{DnsConfig, NameServer};
use outlast_dns_core::{GatewayFacts, Order, ServerConfig};
use outlast_engines::Directory;
use outlast_gateway::{
    Gateway, GatewayConfig, GatewayPeer as OtherGateway, NameServerPeer, NodePeer, PublicTls,
    RoomKeyer, room_keyer,
};
use outlast_link::{Authority, Credentials};
use outlast_locate::Locations;
use outlast_model::{Epoch, NodeId, RegionName, SHARD_PAUSE_MAX};
use outlast_node::{GatewayPeer, NodeConfig, NodeMetrics};
use outlast_runtime::{Clock, entropy};
use outlast_token::ApiKeys;
use outlast_wire::Secret;
use prometheus_client::{metrics::info::Info, registry::Registry};
use tokio::{net::lookup_host, sync::watch, task::JoinSet};

use super::{admin::Admin, pages};
use crate::config::{self, PeerRole, Settings};

/// This program's version, as clients see it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What both roles get.
struct Shared<'a> {
    settings: &'a Settings,
    region: RegionName,
    keys: ApiKeys,
    secret: Secret,
    room_keyer: RoomKeyer,
    credentials: Arc<Credentials>,
}

/// What makes this process a member of its cluster.
struct Membership {
    secret: Secret,
    room_keyer: RoomKeyer,
    credentials: Credentials,
}

/// Starts the roles of `settings` as tasks of `roles`.
///
/// # Errors
/// When credentials cannot be loaded, a peer's name cannot be resolved, or a socket cannot be bound.
pub(crate) async fn roles(
    settings: &Settings,
    started_at: Duration,
    stopping: &watch::Receiver<bool>,
    roles: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Admin> {
    let mut registry = Registry::default();
    let labels = [("version", VERSION.to_owned()), ("region", settings.region.clone())];
    registry.register("outlast_build", "What runs here", Info::new(labels));
    let mut ready = Vec::new();
    // A name server alone listens, and connects to nobody.
    let connects = settings.node.is_some() || settings.gateway.is_some();
    let membership = connects.then(|| membership(settings)).transpose()?;
    if let Some(dns) = &settings.dns {
        let secret = match (&membership, &settings.cluster) {
            (Some(membership), _) => membership.secret.clone(),
            (None, Some(cluster)) => cluster_secret(cluster)?,
            (None, None) => anyhow::bail!("a name server needs [[peers]]: it hears their gateways"),
        };
        let server = NameServer::bind(dns_config(settings, dns, secret)?, &mut registry)
            .context("the name server cannot start")?;
        ready.push(server.readiness());
        let stopping = stopping.clone();
        roles.spawn(async move {
            server.run(stopping).await;
            Ok(())
        });
    }
    let Some(Membership { secret, room_keyer, credentials }) = membership else {
        return Ok(Admin { registry, ready, wipe: None });
    };
    let shared = Shared {
        settings,
        region: settings.region.as_str().into(),
        keys: settings.api_keys()?,
        secret,
        room_keyer,
        credentials: Arc::new(credentials),
    };
    let mut wipe = None;
    if let Some(node) = &settings.node {
        let config = node_config(&shared, node);
        let metrics = NodeMetrics::register(&mut registry);
        let (flag, stopping) = (Arc::new(AtomicBool::new(false)), stopping.clone());
        ready.push(flag.clone());
        roles.spawn(async move {
            outlast_node::run(config, metrics, flag, stopping).await.context("the node failed")
        });
    }
    if let Some(gateway) = &settings.gateway {
        let epoch = Epoch(u64::try_from(started_at.as_millis()).unwrap_or(u64::MAX));
        let directory = Directory::connect(&settings.directory, &settings.access, Clock::start())
            .context("directory")?;
        wipe = directory.embedded.clone().filter(|_| gateway.wipe_hook);
        let config = gateway_config(&shared, gateway, epoch, directory).await?;
        let gateway = Gateway::bind(config, &mut registry).context("the gateway cannot start")?;
        ready.push(gateway.readiness());
        let stopping = stopping.clone();
        roles.spawn(async move {
            gateway.run(stopping).await;
            Ok(())
        });
    }
    Ok(Admin { registry, ready, wipe })
}

/// The cluster's secret and this process's credentials; a process without peers makes its own.
fn membership(settings: &Settings) -> anyhow::Result<Membership> {
    let Some(cluster) = &settings.cluster else {
        let authority = Authority::make()?;
        let own = authority.issue(&settings.region)?;
        let bytes: [u8; 32] = entropy::bytes().context("no random bytes from the kernel")?;
        let credentials =
            Credentials::from_pem(authority.certificate(), &own.certificate, &own.key)?;
        return Ok(Membership {
            secret: Secret::new(&bytes)?,
            room_keyer: room_keyer(&bytes),
            credentials,
        });
    };
    let bytes = cluster.secret.0.as_bytes();
    let credentials = Credentials::load(&cluster.ca, &cluster.cert, &cluster.key)
        .context("the cluster's certificates")?;
    Ok(Membership { secret: cluster_secret(cluster)?, room_keyer: room_keyer(bytes), credentials })
}

fn cluster_secret(cluster: &config::Cluster) -> anyhow::Result<Secret> {
    Secret::new(cluster.secret.0.as_bytes()).context("cluster.secret")
}

fn node_config(shared: &Shared<'_>, node: &config::Node) -> NodeConfig {
    let settings = shared.settings;
    let own = settings.gateway.iter().map(|gateway| GatewayPeer {
        id: gateway.id.clone(),
        beat: reachable(gateway.beat).to_string(),
    });
    let others = settings
        .peers_of(PeerRole::Gateway)
        .map(|peer| GatewayPeer { id: peer.id.clone(), beat: peer.beat.clone() });
    NodeConfig {
        id: node.id.as_str().into(),
        region: shared.region.clone(),
        clock: Clock::start(),
        listen: node.listen,
        beat: node.beat,
        media_port: node.media_ports,
        shards: node.shards,
        bind: node.bind.clone(),
        advertise: node.advertise.clone(),
        participants_max: node.participants_max,
        ping_interval: settings.ping_interval,
        ping_timeout: settings.ping_timeout,
        api_keys: shared.keys.clone(),
        credentials: shared.credentials.clone(),
        secret: shared.secret.clone(),
        gateways: own.chain(others).collect(),
        lease: node.lease,
        joins_per_second: node.joins_per_second,
        joins_burst: node.joins_burst,
        drain_pace: settings.drain_per_second,
        drain_deadline: settings.drain_timeout,
        pause_max: SHARD_PAUSE_MAX,
        debug_hooks: node.panic_hook,
    }
}

async fn gateway_config(
    shared: &Shared<'_>,
    gateway: &config::Gateway,
    epoch: Epoch,
    directory: Directory,
) -> anyhow::Result<GatewayConfig> {
    let settings = shared.settings;
    let mut nodes = Vec::new();
    if let Some(node) = &settings.node {
        nodes.push(NodePeer {
            id: NodeId::from(node.id.as_str()),
            region: shared.region.clone(),
            address: reachable(node.listen),
            beat: reachable(node.beat),
            capacity: node.capacity,
        });
    }
    for peer in settings.peers_of(PeerRole::Node) {
        nodes.push(NodePeer {
            id: NodeId::from(peer.id.as_str()),
            region: peer.region.as_str().into(),
            address: resolve(&peer.id, &peer.address).await?,
            beat: resolve(&peer.id, &peer.beat).await?,
            capacity: peer.capacity,
        });
    }
    let mut gateways = Vec::new();
    for peer in settings.peers_of(PeerRole::Gateway) {
        gateways.push(OtherGateway {
            id: peer.id.as_str().into(),
            region: peer.region.as_str().into(),
            beat: resolve(&peer.id, &peer.beat).await?,
        });
    }
    let mut name_servers = Vec::new();
    let own = settings.dns.iter().map(|dns| (dns.id.clone(), reachable(dns.beat)));
    name_servers.extend(own.map(|(id, beat)| NameServerPeer { id, beat }));
    for peer in settings.peers_of(PeerRole::Dns) {
        let (id, beat) = (peer.id.clone(), resolve(&peer.id, &peer.beat).await?);
        name_servers.push(NameServerPeer { id, beat });
    }
    let own_url = gateway.url.iter().map(|url| (gateway.id.clone(), url.clone()));
    let urls = settings.peers_of(PeerRole::Gateway);
    let urls = urls.filter_map(|peer| Some((peer.id.clone(), peer.url.clone()?)));
    let pages = gateway.page_dir.as_deref().map_or(Ok(BTreeMap::new()), pages::load)?;
    let tls = gateway.tls.clone().map(|(certificate, key)| PublicTls { certificate, key });
    Ok(GatewayConfig {
        id: gateway.id.clone(),
        region: shared.region.clone(),
        epoch,
        version: VERSION,
        listen: gateway.listen,
        tls,
        beat: gateway.beat,
        trusted_proxies: gateway.trusted_proxies.clone(),
        api_keys: shared.keys.clone(),
        secret: shared.secret.clone(),
        credentials: shared.credentials.clone(),
        nodes,
        gateways,
        name_servers,
        directory,
        room_keyer: shared.room_keyer,
        // A process on its own has another secret after each start, and nobody to ask about its rooms.
        state_dir: gateway.state_dir.clone().filter(|_| settings.cluster.is_some()),
        urls: own_url.chain(urls).collect(),
        locations: locations(settings, &config::regions(&settings.region, &settings.peers))?,
        crossed: settings.locate.crossed,
        tell_per_second: Some(gateway.reconnects_per_second).filter(|pace| *pace > 0),
        pages,
    })
}

fn dns_config(settings: &Settings, dns: &config::Dns, secret: Secret) -> anyhow::Result<DnsConfig> {
    let counts = settings.gateway.is_some() || settings.node.is_some();
    let own_region = if counts { settings.region.as_str() } else { "" };
    let regions = config::regions(own_region, &settings.peers);
    let locations = locations(settings, &regions)?;
    let own = settings.gateway.iter().map(|gateway| GatewayFacts {
        id: gateway.id.as_str().into(),
        region: settings.region.as_str().into(),
        addresses: gateway.public.clone(),
    });
    let others = settings.peers_of(PeerRole::Gateway).map(|peer| GatewayFacts {
        id: peer.id.as_str().into(),
        region: peer.region.as_str().into(),
        addresses: peer.public.clone(),
    });
    Ok(DnsConfig {
        id: dns.id.clone(),
        server: ServerConfig {
            zone: dns.zone.clone(),
            region: settings.region.as_str().into(),
            gateways: own.chain(others).collect(),
            servers: config::servers(dns, &settings.peers),
            ttl: dns.ttl,
            order: if settings.locate.crossed { Order::Crossed } else { Order::Nearest },
            answers_per_second: dns.answers_per_second,
            locations,
            regions,
        },
        listen: dns.listen.clone(),
        beat: dns.beat,
        secret,
    })
}

fn locations(settings: &Settings, regions: &[RegionName]) -> anyhow::Result<Locations> {
    let found = config::locations(&settings.locate, regions);
    found.map_err(|(key, what)| anyhow::anyhow!("{key}: {what}"))
}

/// Where this process reaches its own listener.
pub(crate) fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

async fn resolve(id: &str, address: &str) -> anyhow::Result<SocketAddr> {
    let mut found = lookup_host(address)
        .await
        .with_context(|| format!("peer {id}: {address} cannot be resolved"))?;
    found.next().with_context(|| format!("peer {id}: {address} has no address"))
}

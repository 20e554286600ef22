//! From an address to an engine.

use std::{io, sync::Arc};

use outlast_directory::Layout;
use outlast_runtime::Clock;

use crate::{
    Access, Address, Embedded, Engine, EngineKind, Etcd, EtcdSettings, Redis, RedisSettings,
    Shards, address::Shared,
};

/// A directory, ready to be asked.
pub struct Directory {
    /// Its engine.
    pub engine: Arc<dyn Engine>,
    /// Which of its partitions keeps which room.
    pub layout: Layout,
    /// Whether all gateways with this address share it, so that it settles who wins.
    pub arbitrates: bool,
    /// The engine again, when it is the embedded one.
    pub embedded: Option<Arc<Embedded>>,
}

/// Why there is no engine. Servers that are not reached are no error: the engine goes on trying.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kernel gives no random bytes.
    #[error("no random bytes from the kernel")]
    Entropy(#[source] io::Error),
    /// A certificate or a key is malformed, or they do not belong together.
    #[error("certificates for the directory are not usable: {0}")]
    Certificates(String),
}

impl Directory {
    /// Makes the engine at `address`. Nothing of the network is waited for; must be called within a tokio runtime.
    ///
    /// # Errors
    /// When `access` is not usable.
    pub fn connect(
        address: &Address,
        access: &Access,
        clock: Clock,
    ) -> Result<Directory, ConnectError> {
        match address {
            Address::Embedded => {
                let embedded = Arc::new(Embedded::new(clock).map_err(ConnectError::Entropy)?);
                Ok(Directory {
                    engine: embedded.clone(),
                    layout: Layout::Fixed(1),
                    arbitrates: false,
                    embedded: Some(embedded),
                })
            }
            Address::Shared(shared) => {
                let engine = engine(shared, access)?;
                let layout = Layout::Fixed(engine.partitions().get());
                Ok(Directory { engine, layout, arbitrates: true, embedded: None })
            }
            Address::Sharded(shards) => {
                let mut shards = shards.clone();
                shards.sort_by(|(one, _), (other, _)| one.cmp(other));
                let engines = shards.iter().map(|(_, shared)| engine(shared, access));
                let engines = Shards::new(engines.collect::<Result<_, _>>()?);
                let engine = Arc::new(engines.expect("an address has shards of one partition"));
                let layout =
                    Layout::Sharded(shards.into_iter().map(|(region, _)| region).collect());
                Ok(Directory { engine, layout, arbitrates: true, embedded: None })
            }
        }
    }
}

fn engine(shared: &Shared, access: &Access) -> Result<Arc<dyn Engine>, ConnectError> {
    match &shared.engine {
        EngineKind::Etcd => Ok(Arc::new(Etcd::connect(shared, access, EtcdSettings::default())?)),
        EngineKind::Redis | EngineKind::Sentinel { .. } | EngineKind::Cluster => {
            Ok(Arc::new(Redis::connect(shared, access, RedisSettings::default())?))
        }
    }
}

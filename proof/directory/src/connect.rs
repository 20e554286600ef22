//! From an address, as in a configuration, to an engine.

use std::sync::Arc;

use outlast_engines::{Access, Address, AddressError, Directory, Engine, Redis, RedisSettings};
use outlast_runtime::Clock;

/// The engine at `address`, without passwords and certificates. Must be called within a tokio runtime.
///
/// # Errors
/// When `address` is not one.
pub fn connect(address: &str) -> anyhow::Result<Arc<dyn Engine>> {
    connect_with(address, None)
}

/// The same; where replication is asynchronous, with so many `replicas` that a claim waits for.
pub(crate) fn connect_with(
    address: &str,
    replicas: Option<u32>,
) -> anyhow::Result<Arc<dyn Engine>> {
    let address: Address = address
        .parse()
        .map_err(|error: AddressError| anyhow::anyhow!("{error}. {}", error.remedy()))?;
    if replicas.is_some() {
        let Address::Shared(shared) = &address else {
            anyhow::bail!("{address}: replicas are those of Sentinels or of a cluster");
        };
        let settings = RedisSettings { replicas, ..RedisSettings::default() };
        return Ok(Arc::new(Redis::connect(shared, &Access::default(), settings)?));
    }
    Ok(Directory::connect(&address, &Access::default(), Clock::start())?.engine)
}

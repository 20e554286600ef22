//! From an address, as in a configuration, to an engine.

use std::sync::Arc;

use anyhow::Context as _;
use outlast_engines::{Address, Embedded, Engine};
use outlast_runtime::Clock;

/// The engine at `address`. Must be called within a tokio runtime.
///
/// # Errors
/// When `address` is not one, or names an engine that this program does not have.
pub fn connect(address: &str) -> anyhow::Result<Arc<dyn Engine>> {
    let parsed: Address = address.parse().map_err(|error: outlast_engines::AddressError| {
        anyhow::anyhow!("{error}. {}", error.remedy())
    })?;
    match parsed {
        Address::Embedded => {
            let embedded = Embedded::new(Clock::start()).context("drawing random bytes")?;
            Ok(Arc::new(embedded))
        }
        Address::Shared(_) | Address::Sharded(_) => anyhow::bail!("no engine for {address} yet"),
    }
}

//! From an address, as in a configuration, to an engine.

use std::sync::Arc;

use outlast_engines::{Access, Address, AddressError, Directory, Engine};
use outlast_runtime::Clock;

/// The engine at `address`, without passwords and certificates. Must be called within a tokio runtime.
///
/// # Errors
/// When `address` is not one.
pub fn connect(address: &str) -> anyhow::Result<Arc<dyn Engine>> {
    let address: Address = address
        .parse()
        .map_err(|error: AddressError| anyhow::anyhow!("{error}. {}", error.remedy()))?;
    Ok(Directory::connect(&address, &Access::default(), Clock::start())?.engine)
}

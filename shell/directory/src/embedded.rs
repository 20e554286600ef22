//! The embedded directory: a table in this process, which nobody has to install.

use std::{
    io,
    num::NonZeroU16,
    sync::{Mutex, MutexGuard, PoisonError},
};

use outlast_directory::{InstanceId, Request, Table};
use outlast_runtime::{Clock, entropy};

use crate::{Answer, Engine, PartState, Partition};

/// A table of one process. Its answers are there at once.
#[derive(Debug)]
pub struct Embedded {
    clock: Clock,
    table: Mutex<Table>,
}

impl Embedded {
    /// An empty directory.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn new(clock: Clock) -> io::Result<Embedded> {
        let table = Table::new(InstanceId(u128::from_le_bytes(entropy::bytes()?)));
        Ok(Embedded { clock, table: Mutex::new(table) })
    }

    /// Forgets everything, and is another directory from now on. For tests and for `outlast directory wipe-test`.
    pub fn wipe(&self) {
        let mut table = self.lock();
        let before = table.instance();
        let instance = entropy::bytes().map_or(before.0.wrapping_add(1), u128::from_le_bytes);
        *table = Table::new(InstanceId(instance));
    }

    /// Which content this is.
    pub fn instance(&self) -> InstanceId {
        self.lock().instance()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for Embedded {
    fn partitions(&self) -> NonZeroU16 {
        NonZeroU16::MIN
    }

    fn ask(&self, _at: Partition, request: Request) -> Answer {
        let reply = self.lock().apply(self.clock.now(), &request);
        Box::pin(std::future::ready(reply))
    }

    fn state(&self, _at: Partition) -> PartState {
        PartState {
            engine: "embedded",
            decides: Some("this process".to_owned()),
            rooms: Some(self.lock().rooms()),
            ..PartState::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use outlast_directory::Reply;

    use super::*;

    #[tokio::test]
    async fn a_wiped_directory_is_another_one() {
        let directory = Embedded::new(Clock::start()).unwrap();
        let instance = || directory.ask(Partition(0), Request::Instance);
        let (first, again) = (instance().await, instance().await);
        assert_eq!(first, again);
        assert_eq!(first, Reply::Instance(directory.instance()));
        directory.wipe();
        assert_ne!(instance().await, first);
    }
}

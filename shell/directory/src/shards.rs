//! Several engines as one: each keeps the rooms of one shard, and lives and dies on its own.

use std::{num::NonZeroU16, sync::Arc};

use outlast_directory::{Failure, Partition, Reply, Request};

use crate::{Answer, Engine, PartState};

/// Engines of one partition each, in the order of their regions' names. Which of them keeps a room is the asker's choice
/// (`outlast_directory::Layout::Sharded`).
pub struct Shards {
    engines: Vec<Arc<dyn Engine>>,
    count: NonZeroU16,
}

impl Shards {
    /// `None` without any, or when one has several partitions.
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Option<Shards> {
        let count = NonZeroU16::new(u16::try_from(engines.len()).ok()?)?;
        let single = engines.iter().all(|engine| engine.partitions() == NonZeroU16::MIN);
        single.then_some(Shards { engines, count })
    }

    fn engine(&self, at: Partition) -> Option<&Arc<dyn Engine>> {
        self.engines.get(usize::from(at.0))
    }
}

impl Engine for Shards {
    fn partitions(&self) -> NonZeroU16 {
        self.count
    }

    fn ask(&self, at: Partition, request: Request) -> Answer {
        match self.engine(at) {
            Some(engine) => engine.ask(Partition(0), request),
            None => Box::pin(std::future::ready(Reply::Failed(Failure::Unavailable))),
        }
    }

    fn state(&self, at: Partition) -> PartState {
        self.engine(at).map(|engine| engine.state(Partition(0))).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use outlast_runtime::Clock;

    use super::*;
    use crate::Embedded;

    #[tokio::test]
    async fn each_shard_is_a_directory_of_its_own() {
        let engine = || -> Arc<dyn Engine> { Arc::new(Embedded::new(Clock::start()).unwrap()) };
        let shards = Shards::new(vec![engine(), engine()]).unwrap();
        assert_eq!(shards.partitions().get(), 2);
        let instance = |at| shards.ask(Partition(at), Request::Instance);
        assert_eq!(instance(0).await, instance(0).await);
        assert_ne!(instance(0).await, instance(1).await);
        assert_eq!(instance(2).await, Reply::Failed(Failure::Unavailable));
        assert!(Shards::new(Vec::new()).is_none());
        let nested: Arc<dyn Engine> = Arc::new(shards);
        assert!(Shards::new(vec![nested, engine()]).is_none());
    }
}

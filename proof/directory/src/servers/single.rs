//! One Redis alone.

use std::path::{Path, PathBuf};

use super::{
    Lab, READY_DEADLINE, Stored,
    ground::{Ground, Network},
    process::wait,
    redis::Redis,
};

/// One Redis.
#[derive(Debug)]
pub struct Single {
    redis: Redis,
    ground: Ground,
}

impl Single {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When Redis is not installed or does not serve.
    pub fn start(network: Network) -> anyhow::Result<Single> {
        let ground = Ground::new(network)?;
        let redis = Redis::new(&ground, "redis", 0, &[])?;
        let mut single = Single { redis, ground };
        single.wipe()?;
        Ok(single)
    }
}

impl Lab for Single {
    fn address(&self, _region: usize) -> String {
        format!("redis://{}", self.redis.place())
    }

    fn network(&self, region: usize) -> Option<PathBuf> {
        self.ground.namespace(region)
    }

    fn servers(&self) -> usize {
        1
    }

    fn decides(&self) -> Option<usize> {
        Some(0)
    }

    fn kill(&mut self, _server: usize) -> anyhow::Result<()> {
        self.redis.process.kill()
    }

    fn start(&mut self, _server: usize) -> anyhow::Result<()> {
        self.redis.process.start()
    }

    fn pause(&mut self, _server: usize) -> anyhow::Result<()> {
        self.redis.process.pause()
    }

    fn resume(&mut self, _server: usize) -> anyhow::Result<()> {
        self.redis.process.resume()
    }

    fn cut(&mut self, _server: usize) -> anyhow::Result<()> {
        self.ground.cut(0)
    }

    fn heal(&mut self, _server: usize) -> anyhow::Result<()> {
        self.ground.heal(0)
    }

    fn set_clock(&mut self, _server: usize, seconds: i64) -> anyhow::Result<()> {
        self.ground.set_clock(0, seconds)
    }

    fn wipe(&mut self) -> anyhow::Result<()> {
        self.redis.process.kill()?;
        self.redis.start_empty()?;
        let what = format!("Redis serves (logs in {})", self.logs().display());
        wait(&what, READY_DEADLINE, || self.is_whole())
    }

    fn is_whole(&self) -> bool {
        self.redis.is_primary()
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let id = self.redis.process.id().map(|id| ("redis".to_owned(), id));
        id.into_iter().collect()
    }

    fn stored(&self) -> anyhow::Result<Vec<Stored>> {
        self.redis.stored().map(|stored| vec![stored])
    }

    fn compact(&mut self) -> anyhow::Result<()> {
        self.redis.rewrite()
    }

    fn logs(&self) -> &Path {
        self.ground.path()
    }

    fn keep_logs(&mut self) {
        self.ground.keep();
    }
}

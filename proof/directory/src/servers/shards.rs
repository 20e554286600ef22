//! Databases that do not know of each other, one a region.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Lab, Stored, ground::Network, single::Single};

/// A Redis in each region.
#[derive(Debug)]
pub struct Shards {
    /// With the names of their regions, by name.
    each: [(&'static str, Single); 3],
}

impl Shards {
    /// Starts them and waits until all serve.
    ///
    /// # Errors
    /// When Redis is not installed or does not serve.
    pub fn start(network: &Network) -> anyhow::Result<Shards> {
        let start = |name| anyhow::Ok((name, Single::start(network.clone())?));
        Ok(Shards { each: [start("ap")?, start("eu")?, start("us")?] })
    }

    fn at(&mut self, server: usize) -> anyhow::Result<&mut Single> {
        let (_, single) = self.each.get_mut(server).context("no such shard")?;
        Ok(single)
    }

    fn all(&self) -> impl Iterator<Item = &Single> {
        self.each.iter().map(|(_, single)| single)
    }
}

impl Lab for Shards {
    fn address(&self, region: usize) -> String {
        let each =
            self.each.iter().map(|(name, single)| format!("{name}={}", single.address(region)));
        each.collect::<Vec<_>>().join(" ")
    }

    fn network(&self, _region: usize) -> Option<PathBuf> {
        None
    }

    fn servers(&self) -> usize {
        self.each.len()
    }

    fn decides(&self) -> Option<usize> {
        None
    }

    fn kill(&mut self, server: usize) -> anyhow::Result<()> {
        self.at(server)?.kill(0)
    }

    fn start(&mut self, server: usize) -> anyhow::Result<()> {
        self.at(server)?.start(0)
    }

    fn pause(&mut self, server: usize) -> anyhow::Result<()> {
        self.at(server)?.pause(0)
    }

    fn resume(&mut self, server: usize) -> anyhow::Result<()> {
        self.at(server)?.resume(0)
    }

    fn cut(&mut self, _server: usize) -> anyhow::Result<()> {
        anyhow::bail!("shards are not cut off here: for their clients that is a pause")
    }

    fn heal(&mut self, _server: usize) -> anyhow::Result<()> {
        Ok(())
    }

    fn set_clock(&mut self, server: usize, seconds: i64) -> anyhow::Result<()> {
        self.at(server)?.set_clock(0, seconds)
    }

    fn wipe(&mut self) -> anyhow::Result<()> {
        self.each.iter_mut().try_for_each(|(_, single)| single.wipe())
    }

    fn is_whole(&self) -> bool {
        self.all().all(Lab::is_whole)
    }

    fn processes(&self) -> Vec<(String, u32)> {
        self.all().flat_map(Lab::processes).collect()
    }

    fn stored(&self) -> anyhow::Result<Vec<Stored>> {
        Ok(self.all().map(Lab::stored).collect::<anyhow::Result<Vec<_>>>()?.concat())
    }

    fn compact(&mut self) -> anyhow::Result<()> {
        self.each.iter_mut().try_for_each(|(_, single)| single.compact())
    }

    /// Of the first.
    fn logs(&self) -> &Path {
        self.each[0].1.logs()
    }

    fn keep_logs(&mut self) {
        self.each.iter_mut().for_each(|(_, single)| single.keep_logs());
    }
}

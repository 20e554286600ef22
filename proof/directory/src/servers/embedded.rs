//! The embedded directory as a lab: there is no server. All regions share one table, which gateways never do, to show that
//! the proof itself is right; or each has its own, as gateways do.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use outlast_engines::{Embedded, Engine};
use outlast_runtime::Clock;

use super::{Lab, REGIONS};

/// Embedded directories; a region has the one of its number, from the first again after the last.
#[derive(Debug)]
pub struct InProcess(Vec<Arc<Embedded>>);

impl InProcess {
    /// An empty one for all.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn new() -> anyhow::Result<InProcess> {
        InProcess::of(1)
    }

    /// An empty one for each region.
    ///
    /// # Errors
    /// As for [`InProcess::new`].
    pub fn apart() -> anyhow::Result<InProcess> {
        InProcess::of(REGIONS)
    }

    fn of(count: usize) -> anyhow::Result<InProcess> {
        let one = |_| Ok(Arc::new(Embedded::new(Clock::start()).context("drawing random bytes")?));
        (0..count).map(one).collect::<anyhow::Result<_>>().map(InProcess)
    }
}

impl Lab for InProcess {
    fn address(&self, _region: usize) -> String {
        "embedded".to_owned()
    }

    fn connect(&self, region: usize, _replicas: Option<u32>) -> anyhow::Result<Arc<dyn Engine>> {
        let own = Arc::clone(&self.0[region % self.0.len()]);
        Ok(own as Arc<dyn Engine>)
    }

    fn servers(&self) -> usize {
        0
    }

    fn decides(&self) -> Option<usize> {
        None
    }

    fn kill(&mut self, _server: usize) -> anyhow::Result<()> {
        no_server()
    }

    fn start(&mut self, _server: usize) -> anyhow::Result<()> {
        no_server()
    }

    fn pause(&mut self, _server: usize) -> anyhow::Result<()> {
        no_server()
    }

    fn resume(&mut self, _server: usize) -> anyhow::Result<()> {
        no_server()
    }

    fn cut(&mut self, _server: usize) -> anyhow::Result<()> {
        no_server()
    }

    fn heal(&mut self, _server: usize) -> anyhow::Result<()> {
        no_server()
    }

    fn wipe(&mut self) -> anyhow::Result<()> {
        for one in &self.0 {
            one.wipe();
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn logs(&self) -> &Path {
        Path::new("-")
    }

    fn keep_logs(&mut self) {}
}

fn no_server() -> anyhow::Result<()> {
    anyhow::bail!("the embedded directory has no server: only 'none' and 'wipe' are for it")
}

//! The embedded directory as a lab: there is no server, and all regions share one table, which gateways never do. It shows
//! that the proof itself is right.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use outlast_engines::{Embedded, Engine};
use outlast_runtime::Clock;

use super::Lab;

/// One embedded directory for all.
#[derive(Debug)]
pub struct InProcess(Arc<Embedded>);

impl InProcess {
    /// An empty one.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn new() -> anyhow::Result<InProcess> {
        Ok(InProcess(Arc::new(Embedded::new(Clock::start()).context("drawing random bytes")?)))
    }
}

impl Lab for InProcess {
    fn address(&self, _region: usize) -> String {
        "embedded".to_owned()
    }

    fn connect(&self, _region: usize) -> anyhow::Result<Arc<dyn Engine>> {
        Ok(Arc::clone(&self.0) as Arc<dyn Engine>)
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
        self.0.wipe();
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

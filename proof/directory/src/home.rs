//! Where the gateways of one region are: threads in its network, with the engine that they share.

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use outlast_engines::Engine;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

use crate::servers::Lab;

/// The gateways of one region.
pub(crate) struct Home {
    engine: Arc<dyn Engine>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Home {
    /// In the network of `region`.
    pub(crate) fn new(lab: &dyn Lab, region: usize, replicas: Option<u32>) -> anyhow::Result<Home> {
        let runtime = threads(lab.network(region), Home::threads(region))?;
        let engine = {
            let _inside = runtime.enter();
            lab.connect(region, replicas)?
        };
        Ok(Home { engine, runtime: Some(runtime) })
    }

    /// What the kernel calls the threads of `region`.
    pub(crate) fn threads(region: usize) -> String {
        format!("region{region}")
    }

    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine)
    }

    /// Runs `what` among the region's gateways.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        what: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.as_ref().expect("it runs until it is dropped").spawn(what)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Waiting for threads would block whoever drops this.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Threads in `network`, else in this process's. Sockets belong to the namespace of the thread that makes them.
pub(crate) fn threads(
    network: Option<PathBuf>,
    name: impl Into<String>,
) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name(name).enable_all();
    if let Some(network) = network {
        builder.on_thread_start(move || {
            if let Err(error) = enter(&network) {
                panic!("a region's threads are not in its network: {error:#}");
            }
        });
    }
    builder.build().context("starting a region's threads")
}

/// Moves the calling thread into `network`.
pub(crate) fn enter(network: &Path) -> anyhow::Result<()> {
    let file = File::open(network).with_context(|| format!("opening {}", network.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

//! `outlast serve`: starts the roles that the configuration names, and stops them gracefully.

mod admin;
mod pages;
mod start;

pub(crate) use start::reachable;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{check, config::Settings, log, overrides::Overrides};

/// Longest time between the first signal and the process's end, past the roles' own deadlines.
const STOP_GRACE: Duration = Duration::from_secs(25);

/// Runs until a signal comes and everybody has been told, or until a role fails.
///
/// # Errors
/// When the configuration has mistakes, a socket cannot be bound, or a role fails.
pub(crate) fn run(overrides: &Overrides) -> anyhow::Result<()> {
    let settings = check::load(overrides)?;
    log::start(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime for the network")?;
    let result = runtime.block_on(serve(&settings));
    // Connections that are still open hold their tasks: they end with the process.
    runtime.shutdown_background();
    result
}

async fn serve(settings: &Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (stop, stopping) = watch::channel(false);
    let mut roles = JoinSet::new();
    let admin = start::roles(settings, started_at, &stopping, &mut roles).await?;
    let (_close, closing) = watch::channel(false);
    tokio::spawn(admin::serve(settings.admin, admin, closing).await?);
    tracing::info!(
        region = settings.region,
        gateway = settings.gateway.as_ref().map(|gateway| gateway.id.as_str()),
        node = settings.node.as_ref().map(|node| node.id.as_str()),
        dns = settings.dns.as_ref().map(|dns| dns.id.as_str()),
        admin = %settings.admin,
        version = start::VERSION,
        "serving"
    );
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = roles.join_next() => Some(outcome(ended)),
    };
    match &failed {
        None => tracing::info!("asked to stop: clients are told to reconnect elsewhere"),
        Some(result) => tracing::error!(?result, "a role ended by itself"),
    }
    let _ = stop.send(true);
    let rest = async {
        let mut result = Ok(());
        while let Some(ended) = roles.join_next().await {
            result = result.and(outcome(Some(ended)));
        }
        result
    };
    let rest = tokio::select! {
        result = tokio::time::timeout(settings.drain_timeout + STOP_GRACE, rest) => result.ok(),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    if rest.is_none() {
        tracing::warn!("stopped before everybody had been told");
    }
    failed.unwrap_or(Ok(())).and(rest.unwrap_or(Ok(())))
}

fn outcome(
    ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>,
) -> anyhow::Result<()> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(panic)) => Err(anyhow::anyhow!(panic).context("a role panicked")),
        None => Ok(()),
    }
}

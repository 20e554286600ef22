//! Loading a configuration for `serve`, and `outlast check`, which only tells what is wrong with it.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    config::{self, Mistake, Settings},
    overrides::Overrides,
};

/// The settings of flags, environment and file together.
///
/// # Errors
/// When the file cannot be read, or with the list of all mistakes.
pub(crate) fn load(overrides: &Overrides) -> anyhow::Result<Settings> {
    let (text, folder) = match &overrides.config {
        None => (String::new(), PathBuf::new()),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("the configuration {} cannot be read", file.display()))?;
            (text, file.parent().unwrap_or(Path::new("")).to_owned())
        }
    };
    let overriding = overrides.with_environment(|name| std::env::var_os(name));
    config::read(&text, &folder, &overriding, outlast_runtime::cores())
        .map_err(|mistakes| anyhow::anyhow!(list(overrides.config.as_deref(), &mistakes)))
}

fn list(file: Option<&Path>, mistakes: &[Mistake]) -> String {
    let source = file.map_or("flags and environment".into(), |file| file.display().to_string());
    let plural = if mistakes.len() == 1 { "mistake" } else { "mistakes" };
    let mut text = format!("{source}: {} {plural}", mistakes.len());
    for mistake in mistakes {
        let _ = write!(text, "\n  {mistake}");
    }
    text
}

/// Tells all mistakes, or in one line what the process would be.
///
/// # Errors
/// When there is a mistake.
pub(crate) fn run(overrides: &Overrides) -> anyhow::Result<()> {
    let settings = load(overrides)?;
    println!("{}", summary(&settings));
    Ok(())
}

fn summary(settings: &Settings) -> String {
    let mut text = format!("No mistakes. Region {}", settings.region);
    if let Some(gateway) = &settings.gateway {
        let _ = write!(text, ", gateway {} on {}", gateway.id, gateway.listen);
    }
    if let Some(node) = &settings.node {
        let ports = match node.media_ports {
            0 => "any free UDP ports".to_owned(),
            first => format!("UDP ports {first} to {}", usize::from(first) + node.shards - 1),
        };
        let _ = write!(text, ", node {} with media on {ports}", node.id);
    }
    let _ = write!(text, ", {} API keys, {} peers.", settings.keys.len(), settings.peers.len());
    text
}

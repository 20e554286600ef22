//! Loading a configuration for `serve`, and `outlast check`, which only tells what is wrong with it.

use std::{
    ffi::OsStr,
    fmt::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use outlast_engines::{Access, Address};

use crate::{
    config::{self, Mistake, Settings},
    overrides::Overrides,
};

/// The settings of flags, environment and file together.
///
/// # Errors
/// When the file cannot be read, or with the list of all mistakes.
pub(crate) fn load(overrides: &Overrides) -> anyhow::Result<Settings> {
    let mut settings = read(overrides, |text, folder, overriding| {
        config::read(text, folder, overriding, outlast_runtime::cores())
    })?;
    if let Some(gateway) = settings.gateway.as_mut().filter(|gateway| gateway.state_dir.is_none()) {
        gateway.state_dir = std::env::var_os("STATE_DIRECTORY").and_then(|list| first(&list));
    }
    Ok(settings)
}

/// The first folder of systemd's list (`StateDirectory=` in the unit).
fn first(list: &OsStr) -> Option<PathBuf> {
    let first = list.as_encoded_bytes().split(|byte| *byte == b':').next()?;
    (!first.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(first)))
}

/// Only where the directory is, and what opens its door.
///
/// # Errors
/// When the file cannot be read, or with the list of all mistakes.
pub(crate) fn load_directory(overrides: &Overrides) -> anyhow::Result<(Address, Access)> {
    read(overrides, config::directory_of)
}

fn read<T>(
    overrides: &Overrides,
    reader: impl Fn(&str, &Path, &[config::Override]) -> Result<T, Vec<Mistake>>,
) -> anyhow::Result<T> {
    let (text, folder) = match &overrides.config {
        None => (String::new(), PathBuf::new()),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("the configuration {} cannot be read", file.display()))?;
            (text, file.parent().unwrap_or(Path::new("")).to_owned())
        }
    };
    let overriding = overrides.with_environment(|name| std::env::var_os(name));
    reader(&text, &folder, &overriding)
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
/// When there is a mistake, or nothing can be written where the gateway keeps its state.
pub(crate) fn run(overrides: &Overrides) -> anyhow::Result<()> {
    let settings = load(overrides)?;
    if let Some(gateway) = &settings.gateway
        && let Some(folder) = &gateway.state_dir
    {
        outlast_gateway::try_state_dir(folder, &gateway.id)
            .with_context(|| format!("{} cannot be written, and gateway.state_dir or systemd's StateDirectory says that the gateway keeps its state there", folder.display()))?;
    }
    println!("{}", summary(&settings));
    Ok(())
}

fn summary(settings: &Settings) -> String {
    let mut text = format!("No mistakes. Region {}", settings.region);
    if let Some(gateway) = &settings.gateway {
        let _ = write!(text, ", gateway {} on {}", gateway.id, gateway.listen);
        if let Some(folder) = &gateway.state_dir {
            let _ = write!(text, " with its state in {}", folder.display());
        }
    }
    if let Some(node) = &settings.node {
        let ports = match node.media_ports {
            0 => "any free UDP ports".to_owned(),
            first => format!("UDP ports {first} to {}", usize::from(first) + node.shards - 1),
        };
        let _ = write!(text, ", node {} with media on {ports}", node.id);
    }
    if let Some(dns) = &settings.dns {
        let sockets: Vec<_> = dns.listen.iter().map(ToString::to_string).collect();
        let _ = write!(text, ", name server {} of {} on {}", dns.id, dns.zone, sockets.join(", "));
    }
    let _ = write!(text, ", {} API keys, {} peers.", settings.keys.len(), settings.peers.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_lists_folders() {
        let check = |list: &str, expected: Option<&str>| {
            assert_eq!(first(OsStr::new(list)), expected.map(PathBuf::from), "{list}");
        };
        check("/var/lib/outlast", Some("/var/lib/outlast"));
        check("/var/lib/outlast:/var/lib/other", Some("/var/lib/outlast"));
        check("", None);
    }
}

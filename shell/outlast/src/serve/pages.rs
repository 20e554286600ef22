//! The files of `gateway.page_dir`, read once at the start: one flat folder, small enough to be held in memory.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, bail};
use bytes::Bytes;
use outlast_gateway::Page;

/// Most files of the folder.
const FILES_MAX: usize = 64;
/// Most bytes of all files together.
const BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Path to page; `index.html` is `/` too.
///
/// # Errors
/// When a file cannot be read, or there is too much.
pub(crate) fn load(folder: &Path) -> anyhow::Result<BTreeMap<String, Page>> {
    let mut pages = BTreeMap::new();
    let mut total = 0;
    let shown = folder.display();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {shown}"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = fs::metadata(entry.path()).with_context(|| format!("reading {name}"))?;
        if !metadata.is_file() || name.starts_with('.') {
            continue;
        }
        total += metadata.len();
        if pages.len() >= FILES_MAX || total > BYTES_MAX {
            bail!("gateway.page_dir {shown} is more than {FILES_MAX} files or {BYTES_MAX} bytes");
        }
        let body = Bytes::from(fs::read(entry.path()).with_context(|| format!("reading {name}"))?);
        let content_type = content_type(&name);
        if name == "index.html" {
            pages.insert("/".to_owned(), Page { content_type, body: body.clone() });
        }
        pages.insert(format!("/{name}"), Page { content_type, body });
    }
    Ok(pages)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

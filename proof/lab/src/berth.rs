//! Which labs there are on this machine, and which of them are dead: each has a directory, and a lock that its process
//! holds for as long as it lives. What is left of dead ones is swept.

use std::{
    fs::{self, DirBuilder, File},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{error::LabError, namespace, rights};

const LABS: &str = "/run/outlast-lab";
/// Held while labs are made or swept, so that nobody sweeps what is just being made.
const GATE: &str = "gate";
const LOCK: &str = "lock";
/// Labs that this process has made.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A lab's place on the machine. Dropping it gives it up, and removes the lab's namespaces with what runs in them.
#[derive(Debug)]
pub(crate) struct Berth {
    /// The process and which of its labs this is, as in `4711-1`.
    pub(crate) id: String,
    pub(crate) directory: PathBuf,
    _lock: File,
}

impl Berth {
    /// A new one, for a lab of this process.
    pub(crate) fn new() -> Result<Self, LabError> {
        let _gate = gate()?;
        let id = format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed) + 1);
        let directory = directory(&id);
        DirBuilder::new().mode(0o700).create(&directory).map_err(LabError::at(&directory))?;
        let path = directory.join(LOCK);
        let lock = File::create(&path).map_err(LabError::at(&path))?;
        lock.lock().map_err(LabError::at(&path))?;
        Ok(Berth { id, directory, _lock: lock })
    }

    /// What the names of its namespaces begin with.
    pub(crate) fn prefix(&self) -> String {
        prefix(&self.id)
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next lab, which finds it by the directory.
        if namespace::remove(&self.prefix()).is_ok() {
            let _removed = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Where the lab of that id has its files.
pub(crate) fn directory(id: &str) -> PathBuf {
    Path::new(LABS).join(id)
}

/// The labs that are alive, by their ids.
///
/// # Errors
/// When the system refuses to tell, as it does when they are another user's.
pub fn labs() -> Result<Vec<String>, LabError> {
    Ok(all()?.1)
}

/// Removes what is left of labs whose process is gone: what still runs in their namespaces is ended. Returns their ids.
///
/// # Errors
/// When this process may not, or the system refuses.
pub fn sweep() -> Result<Vec<String>, LabError> {
    rights::check_capabilities()?;
    let _gate = gate()?;
    let (dead, _) = all()?;
    for id in &dead {
        namespace::remove(&prefix(id))?;
        let directory = directory(id);
        fs::remove_dir_all(&directory).map_err(LabError::at(&directory))?;
    }
    Ok(dead)
}

fn prefix(id: &str) -> String {
    format!("ol{id}-")
}

/// Opens the door to labs, one at a time.
fn gate() -> Result<File, LabError> {
    fs::create_dir_all(LABS).map_err(LabError::at(Path::new(LABS)))?;
    let path = Path::new(LABS).join(GATE);
    let gate = File::create(&path).map_err(LabError::at(&path))?;
    gate.lock().map_err(LabError::at(&path))?;
    Ok(gate)
}

/// Ids of the dead, and of those that are alive.
fn all() -> Result<(Vec<String>, Vec<String>), LabError> {
    let entries = match fs::read_dir(LABS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(LabError::at(Path::new(LABS))(error)),
    };
    let directories =
        entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut ids: Vec<String> =
        directories.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    ids.sort_unstable();
    let (mut dead, mut alive) = (Vec::new(), Vec::new());
    for id in ids {
        if is_dead(&id)? { dead.push(id) } else { alive.push(id) }
    }
    Ok((dead, alive))
}

/// Whether nobody holds the lab's lock. The lock itself goes with the process, however that ends.
fn is_dead(id: &str) -> Result<bool, LabError> {
    let path = directory(id).join(LOCK);
    match File::open(&path) {
        Ok(lock) => Ok(lock.try_lock().is_ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(LabError::at(&path)(error)),
    }
}

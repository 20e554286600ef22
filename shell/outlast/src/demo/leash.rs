//! Two small parts that the demo plays in processes of its own, so that nothing survives it, however it ends: the
//! leash, which a server starts on, and the sweep, which takes the directory away.

use std::{
    fs,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The file that marks a directory as one of the demo's: the sweep takes no other.
pub(super) const MARK: &str = "outlast-demo";

/// Becomes `program`, to be killed by the kernel when the thread that started it ends. `parent` is that process, as a
/// number. Returns only when that failed.
pub(super) fn run_on_leash(parent: i32, program: &[String]) -> ExitCode {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("outlast demo: cannot put a server on the leash: {error}");
        return ExitCode::FAILURE;
    }
    // The parent may have gone before the kernel was told.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        return ExitCode::FAILURE;
    }
    let Some((name, arguments)) = program.split_first() else { return ExitCode::FAILURE };
    let error = Command::new(name).args(arguments).exec();
    eprintln!("outlast demo: cannot start {name}: {error}");
    ExitCode::FAILURE
}

/// Waits until the demo has closed standard input, by its own will or by its death, and removes its directory.
pub(super) fn sweep(dir: &Path) -> ExitCode {
    // An error on standard input is an end as well.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    if !dir.join(MARK).is_file() {
        return ExitCode::FAILURE;
    }
    match fs::remove_dir_all(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outlast demo: cannot remove {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

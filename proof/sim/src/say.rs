//! All that is told on the standard output.

use std::{
    fmt,
    io::{self, ErrorKind, Write as _},
};

/// Writes a line to the standard output, or several in one. Returns whether anybody reads it: who has seen enough, as
/// `| head` has, closes it. That is no fault, and no reason for another exit code: what came of a run is told by that too.
///
/// # Panics
/// When it cannot be written for another reason, as on a full disk.
pub(crate) fn say(lines: impl fmt::Display) -> bool {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(format!("{lines}\n").as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => false,
        Err(error) => panic!("writing to the standard output: {error}"),
    }
}

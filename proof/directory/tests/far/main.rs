//! Regions that are far from each other, in the laboratory, with the real program: `cargo build -p outlast` makes it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod leader;
mod table;

use std::{env, path::PathBuf};

/// The program beside this test's folder.
fn program() -> PathBuf {
    let own = env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("outlast");
    assert!(program.is_file(), "there is no {}: cargo build -p outlast", program.display());
    program
}

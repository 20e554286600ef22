//! Work on the repository: `tidy` tells everything that breaks a rule of the house, `mutants` plants faults into the core
//! and sees to it that the simulator finds them.

mod mutants;
mod tidy;

use std::{path::Path, process::ExitCode};

const USAGE: &str = "usage: cargo run -p xtask -- tidy
       cargo run -p xtask -- mutants [PART OF A NAME]

tidy     tells everything that breaks a rule of the house
mutants  plants each fault of proof/sim/mutants into a copy of the core, or those whose names contain that part, and
         sweeps until the simulator finds it; with all of them it writes docs/mutants.md";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if arguments.iter().any(|argument| ["--help", "-h"].contains(argument)) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let fine = match arguments.as_slice() {
        ["tidy"] => {
            let complaints = tidy::all();
            for complaint in &complaints {
                eprintln!("tidy: {complaint}");
            }
            complaints.is_empty()
        }
        ["mutants"] => plant(None),
        ["mutants", only] if !only.starts_with('-') => plant(Some(only)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All of them have a report; a few are for a look.
fn plant(only: Option<&str>) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let report = root.join("docs/mutants.md");
    match mutants::all(&root, only, only.is_none().then_some(&*report)) {
        Ok(all_caught) => all_caught,
        Err(error) => {
            eprintln!("mutants: {error}");
            false
        }
    }
}

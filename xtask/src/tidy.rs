//! The rules of the house that a machine can check: in files (`files`), and between crates (`crates`). Planted faults that
//! can no longer be planted are found here too: to run them all takes hours, and they would rot until then.

mod crates;
mod files;

use std::{path::PathBuf, process::Command};

use crate::mutants;

/// Everything that breaks a rule, as `where: what`.
pub(crate) fn all() -> Vec<String> {
    let mut complaints = files::check(&root(), &tracked());
    let metadata = metadata();
    complaints.extend(crates::check(&metadata));
    for name in crates::core(&metadata) {
        complaints.extend(crates::check_core(name, &tree(name)));
    }
    complaints.extend(mutants::check(&root()));
    complaints
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Paths of all files that are in the repository or about to be.
fn tracked() -> Vec<String> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = output(Command::new("git").args(arguments).current_dir(root()));
    listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

fn metadata() -> serde_json::Value {
    let arguments = ["metadata", "--locked", "--format-version", "1"];
    let target = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let mut cargo = Command::new(env!("CARGO"));
    let text = output(cargo.args(arguments).args(target).current_dir(root()));
    serde_json::from_str(&text).expect("cargo writes JSON")
}

/// All that this package stands on, itself included.
fn tree(name: &str) -> String {
    let arguments = ["tree", "--locked", "--edges", "normal", "--prefix", "none"];
    let target = ["--target", "x86_64-unknown-linux-gnu", "--package", name];
    output(Command::new(env!("CARGO")).args(arguments).args(target).current_dir(root()))
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("the program is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("names are UTF-8")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let complaints = super::all();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

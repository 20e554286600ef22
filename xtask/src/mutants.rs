//! Mutation proof: each fault that is planted into a copy of the core must be found by the simulator's sweep. A mutant is a
//! file in `proof/sim/mutants`: which file, what text (found exactly once), what instead, and why somebody would notice.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// Crates that the copy consists of.
const CRATES: [&str; 7] = [
    "core/model",
    "core/wire",
    "core/directory",
    "core/control",
    "core/tenure",
    "core/gateway",
    "proof/sim",
];
const FILES: [&str; 4] = ["Cargo.lock", "rust-toolchain.toml", "clippy.toml", "rustfmt.toml"];
/// Where the mutants are.
const FOLDER: &str = "proof/sim/mutants";
/// Each must be found by then.
const SEEDS: u64 = 10_000;

struct Mutant {
    name: String,
    file: String,
    find: String,
    replace: String,
    why: String,
}

/// What became of one.
struct Verdict {
    name: String,
    why: String,
    caught: Option<String>,
    seconds: f64,
}

/// Runs all mutants, or those whose names contain `only`. Writes the report and returns whether all were caught.
///
/// # Errors
/// When files cannot be read or written, no name contains `only`, a mutant does not apply or build, or the copy fails
/// without any.
pub(crate) fn all(root: &Path, only: Option<&str>, report: Option<&Path>) -> io::Result<bool> {
    let mutants = read(root, only)?;
    if mutants.is_empty() {
        let what = only.map_or_else(String::new, |only| format!(" with {only:?} in its name"));
        return Err(io::Error::other(format!("{FOLDER} has none{what}")));
    }
    let copy = root.join("target/mutants");
    let mut verdicts = Vec::new();
    copy_tree(root, &copy)?;
    if only.is_none() {
        build(&copy)?;
        if let Some(found) = sweep(&copy, SEEDS)? {
            return Err(io::Error::other(format!("fails without a mutant: {found}")));
        }
        println!("{SEEDS} schedules pass without a mutant");
    }
    for mutant in mutants {
        let path = copy.join(&mutant.file);
        let text = fs::read_to_string(&path)?;
        if let Some(complaint) = mutant.misses(&text) {
            return Err(io::Error::other(complaint));
        }
        fs::write(&path, text.replacen(&mutant.find, &mutant.replace, 1))?;
        let built = build(&copy);
        let began = Instant::now();
        let caught = built.and_then(|()| sweep(&copy, SEEDS));
        fs::write(&path, text)?;
        let caught = caught?;
        println!("{}: {}", mutant.name, caught.as_deref().unwrap_or("NOT CAUGHT"));
        let seconds = began.elapsed().as_secs_f64();
        verdicts.push(Verdict { name: mutant.name, why: mutant.why, caught, seconds });
    }
    if let Some(path) = report {
        fs::write(path, table(&verdicts))?;
    }
    let missed = verdicts.iter().filter(|verdict| verdict.caught.is_none()).count();
    println!("{} of {} caught", verdicts.len() - missed, verdicts.len());
    Ok(missed == 0)
}

/// Which mutants can no longer be planted, and why: the code that they change has changed itself.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let mutants = match read(root, None) {
        Ok(mutants) => mutants,
        Err(error) => return vec![format!("{FOLDER}: {error}")],
    };
    let complaints =
        mutants.iter().filter_map(|mutant| match fs::read_to_string(root.join(&mutant.file)) {
            Ok(text) => mutant.misses(&text),
            Err(error) => Some(format!("{FOLDER}/{}.toml: {}: {error}", mutant.name, mutant.file)),
        });
    complaints.collect()
}

impl Mutant {
    /// What is wrong when it is to be planted into `text`, its file.
    fn misses(&self, text: &str) -> Option<String> {
        let Mutant { name, file, find, replace, .. } = self;
        let what = match text.matches(find).count() {
            1 if find == replace => "what stands there is what it puts there".to_owned(),
            1 => return None,
            count => format!("its text stands {count} times in {file}, not once"),
        };
        Some(format!("{FOLDER}/{name}.toml: {what}"))
    }
}

fn read(root: &Path, only: Option<&str>) -> io::Result<Vec<Mutant>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(root.join(FOLDER))? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut mutants = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let table: toml::Table = fs::read_to_string(&path)?
            .parse()
            .map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        let field = |key: &str| {
            let text = table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
            text.ok_or_else(|| io::Error::other(format!("{name}: {key} is missing")))
        };
        let (file, find) = (field("file")?, field("find")?);
        let (replace, why) = (field("replace")?, field("why")?);
        mutants.push(Mutant { file, find, replace, why, name });
    }
    Ok(mutants)
}

/// Copies what the simulator is made of; what is built of it before stays.
fn copy_tree(root: &Path, copy: &Path) -> io::Result<()> {
    for part in CRATES {
        let to = copy.join(part);
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        copy_folder(&root.join(part), &to)?;
    }
    for file in FILES.iter().chain(&["core/clippy.toml"]) {
        fs::copy(root.join(file), copy.join(file))?;
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let (before, rest) = manifest.split_once("members = [").unwrap_or_default();
    let after = rest.split_once(']').map_or("", |(_, after)| after);
    let members = CRATES.map(|part| format!("{part:?}")).join(", ");
    fs::write(copy.join("Cargo.toml"), format!("{before}members = [{members}]{after}"))
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn build(copy: &Path) -> io::Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "-p", "outlast-sim"])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", copy.join("target"))
        // Built thirty times and more: what the linker would win is less than what it costs.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Sweeps until a seed fails. Returns what was found.
fn sweep(copy: &Path, seeds: u64) -> io::Result<Option<String>> {
    let seeds = format!("0..{seeds}");
    let output = Command::new(copy.join("target/release/outlast-sim"))
        .args(["sweep", "--seeds", &seeds])
        .output()?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let seed = said.lines().find(|line| line.starts_with("seed "));
    Ok(Some(match seed {
        Some(line) => line.chars().take(100).collect(),
        // An assertion of the roles themselves.
        None => {
            let cry = String::from_utf8_lossy(&output.stderr);
            let line = cry.lines().find(|line| !line.is_empty() && !line.starts_with("note"));
            format!("stopped: {}", line.unwrap_or_default().chars().take(90).collect::<String>())
        }
    }))
}

fn table(verdicts: &[Verdict]) -> String {
    let caught = verdicts.iter().filter(|verdict| verdict.caught.is_some()).count();
    let mut text = format!(
        "# Planted faults\n\n`cargo run -p xtask -- mutants` plants each of these faults into a copy of the core, alone, and \
         sweeps seeds from 0 until one fails.\n{caught} of {} are caught within {SEEDS} schedules.\n\n\
         | Fault | What it is | Caught by | Sweep, s |\n|---|---|---|---|\n",
        verdicts.len()
    );
    for Verdict { name, why, caught, seconds } in verdicts {
        let caught = caught.as_deref().unwrap_or("**not caught**").replace('|', "/");
        text.push_str(&format!("| {name} | {why} | {caught} | {seconds:.1} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_stands_once_in_its_file_and_changes_it() {
        let mutant = |find: &str, replace: &str| Mutant {
            name: "asleep".to_owned(),
            file: "core/a.rs".to_owned(),
            find: find.to_owned(),
            replace: replace.to_owned(),
            why: String::new(),
        };
        assert_eq!(mutant("a < b", "a > b").misses("if a < b {}"), None);
        let missed = |count: u32| {
            let what = "proof/sim/mutants/asleep.toml: its text stands";
            Some(format!("{what} {count} times in core/a.rs, not once"))
        };
        assert_eq!(mutant("a < b", "a > b").misses("if b > a {}"), missed(0));
        assert_eq!(mutant("a", "b").misses("if a < a {}"), missed(2));
        assert!(mutant("a", "a").misses("if a < b {}").is_some());
    }

    #[test]
    fn a_name_that_is_nobody_s_is_an_error_and_no_success() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let error = all(&root, Some("no such mutant"), None).unwrap_err().to_string();
        assert_eq!(error, "proof/sim/mutants has none with \"no such mutant\" in its name");
    }
}

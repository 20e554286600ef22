//! Rules about single files: size, heads, names, leftovers, and what must not be named.

use std::{fs, path::Path};

/// Longest source file, in lines; tests may be longer.
const LINES_MAX: usize = 600;
const SOURCES: &[&str] = &["rs", "py", "ts", "js", "mjs", "sh"];
/// Words that say nothing about what a thing is.
const EMPTY_WORDS: &[&str] = &["manager", "helper", "helpers", "util", "utils", "common"];
const ITEMS: &[&str] = &["struct", "enum", "trait", "mod", "type", "class"];

/// What `path`, a file with this text, does wrong.
type Rule = fn(path: &str, text: &str) -> Vec<String>;

const RULES: &[Rule] = &[size, head, names, leftovers, places, unsafe_code];

/// Checks the files `paths` below `root`; those that are not text are passed over.
pub(crate) fn check(root: &Path, paths: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    for path in paths {
        // Deleted but still in the index, or not text.
        let Ok(text) = fs::read_to_string(root.join(path)) else { continue };
        for rule in RULES {
            complaints.extend(rule(path, &text).into_iter().map(|what| format!("{path}: {what}")));
        }
    }
    complaints
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn size(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if SOURCES.contains(&extension(path)) && !is_test(path) && lines > LINES_MAX {
        return vec![format!("{lines} lines; {LINES_MAX} is the stop, 100 to 300 the aim")];
    }
    Vec::new()
}

fn head(path: &str, text: &str) -> Vec<String> {
    if extension(path) == "rs" && !text.starts_with("//! ") {
        return vec!["does not open with a //! line that says what lives here".to_owned()];
    }
    Vec::new()
}

fn names(path: &str, text: &str) -> Vec<String> {
    let mut found: Vec<&str> = path.split(['/', '.']).filter(|part| is_empty_word(part)).collect();
    if SOURCES.contains(&extension(path)) {
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let named = words.windows(2).filter(|pair| ITEMS.contains(&pair[0])).map(|pair| pair[1]);
        found.extend(named.filter(|name| is_empty_word(name)));
    }
    found.iter().map(|name| format!("the name {name} says nothing: see the glossary")).collect()
}

/// Whether one of the words that `name` is made of is empty of meaning.
fn is_empty_word(name: &str) -> bool {
    let mut spaced = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() {
            spaced.push('_');
        }
        spaced.extend(letter.to_lowercase());
    }
    spaced.split(['_', '-']).any(|word| EMPTY_WORDS.contains(&word))
}

fn leftovers(path: &str, text: &str) -> Vec<String> {
    let (later, broken) = (concat!("TO", "DO"), concat!("FIX", "ME"));
    if !SOURCES.contains(&extension(path)) {
        return Vec::new();
    }
    let lines = text.lines().enumerate().filter(|(_, line)| {
        line.contains(broken) || (line.contains(later) && !line.contains(&format!("{later}(#")))
    });
    lines.map(|(at, _)| format!("line {}: finish it, or write {later}(#issue)", at + 1)).collect()
}

/// Hosts of package registries and paths of the machines that this was written on: neither is anybody else's.
fn places(_path: &str, text: &str) -> Vec<String> {
    const HOSTS: &[&str] = &[
        concat!("registry.", "npmjs.org"),
        concat!("pypi", ".org"),
        concat!("files.", "pythonhosted.org"),
        concat!("static.", "crates.io"),
        concat!("index.", "crates.io"),
        concat!("deb.", "debian.org"),
        concat!("proxy.", "golang.org"),
        concat!("repo1.", "maven.org"),
    ];
    const PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/fa", "rm/"), concat!("/ro", "ot/")];
    let begins = |line: &str, place: &str| {
        line.match_indices(place).any(|(at, _)| {
            !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/*}".contains(c))
        })
    };
    let mut complaints = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let host = HOSTS.iter().find(|host| line.contains(**host));
        let path = PATHS.iter().find(|path| begins(line, path));
        if let Some(place) = host.or(path) {
            complaints.push(format!("line {}: names {place}", at + 1));
        }
    }
    complaints
}

fn unsafe_code(path: &str, text: &str) -> Vec<String> {
    let allows = ["allow", "expect", "warn"].iter().any(|level| {
        let squeezed: String = text.split_whitespace().collect();
        squeezed.contains(&format!("{level}(unsafe_code"))
    });
    let product = path.starts_with("core/") || path.starts_with("shell/");
    if product && extension(path) == "rs" && allows && !path.starts_with("shell/runtime/") {
        return vec!["unsafe code lives in shell/runtime alone".to_owned()];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_rule(rule: Rule, path: &str, text: &str, complaints: usize) {
        assert_eq!(rule(path, text).len(), complaints, "{path}: {text:?}: {:?}", rule(path, text));
    }

    #[test]
    fn every_rule_catches_and_lets_pass() {
        check_rule(size, "a.rs", &"x\n".repeat(600), 0);
        check_rule(size, "a.rs", &"x\n".repeat(601), 1);
        check_rule(size, "core/x/tests/a.rs", &"x\n".repeat(601), 0);
        check_rule(head, "a.rs", "//! Says it.\n", 0);
        check_rule(head, "a.rs", "use x;\n", 1);
        check_rule(head, "a.py", "import x\n", 0);
        check_rule(names, "core/x/src/utils.rs", "", 1);
        check_rule(names, "a.rs", concat!("pub struct Room", "Manager;"), 1);
        check_rule(names, "a.rs", concat!("mod parse_", "common;"), 1);
        check_rule(names, "a.rs", "struct Uncommon;", 0);
        check_rule(names, "a.rs", "fn is_common_profile() {}", 0);
        check_rule(names, "a.md", concat!("the class ", "manager"), 0);
        check_rule(leftovers, "a.rs", concat!("// TO", "DO later"), 1);
        check_rule(leftovers, "a.rs", concat!("// TO", "DO(#7): later"), 0);
        check_rule(leftovers, "a.sh", concat!("# FIX", "ME(#7)"), 1);
        check_rule(places, "a.md", concat!("see https://pypi", ".org/x"), 1);
        check_rule(places, "a.sh", concat!("cd /ro", "ot/x"), 1);
        check_rule(places, "a.md", concat!("net", "/work", "/x"), 0);
        check_rule(unsafe_code, "core/x/src/a.rs", "#![allow(\n    unsafe_code, reason)]", 1);
        check_rule(unsafe_code, "shell/runtime/src/lib.rs", "#![allow(unsafe_code)]", 0);
    }
}

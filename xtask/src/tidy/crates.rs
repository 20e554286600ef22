//! Rules between crates, from `cargo metadata`: who may import whom, and whose licences we can live with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Programs' machinery: nothing in core stands on it, not even through somebody else.
const WORLDLY: &[&str] =
    &["tokio", "mio", "hyper", "axum", "socket2", "tokio-rustls", "tokio-tungstenite"];
/// (who, never whom): arrows that the floors alone do not forbid.
const NEVER: &[(&str, &[&str])] = &[
    ("outlast-media", &["outlast-control"]),
    ("outlast-control", &["outlast-media", "outlast-wire"]),
    ("outlast-runtime", &["outlast-node", "outlast-gateway", "outlast-link", "outlast-node-core"]),
    ("outlast-link", &["outlast-node", "outlast-gateway"]),
    ("outlast-node", &["outlast-gateway", "outlast-gateway-core", "outlast-control"]),
    ("outlast-gateway", &["outlast-node", "outlast-node-core", "outlast-media"]),
];
/// The media engine is named by one crate; tests use it to play clients.
const ENGINE: (&str, &[&str]) = ("outlast-media", &["str0m", "str0m-aws-lc-rs", "dimpl"]);
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// One package as `cargo metadata` tells it.
struct Package<'a> {
    name: &'a str,
    /// `core`, `shell`, `proof` or `xtask`; empty for packages of others.
    floor: &'a str,
    licence: &'a str,
    /// Names of what its manifest imports, tests included.
    imports: BTreeSet<&'a str>,
    /// Names of what it imports for its tests.
    imports_of_tests: BTreeSet<&'a str>,
}

/// Checks all packages of the workspace and all that they stand on.
pub(crate) fn check(metadata: &Value) -> Vec<String> {
    let root = format!("{}/", text(&metadata["workspace_root"]));
    let packages: BTreeMap<&str, Package<'_>> = items(&metadata["packages"])
        .map(|package| (text(&package["id"]), read(package, &root)))
        .collect();
    let floors: BTreeMap<&str, &str> =
        packages.values().map(|package| (package.name, package.floor)).collect();
    let mut complaints = Vec::new();
    for package in packages.values() {
        if !is_acceptable(package.licence) {
            complaints.push(format!("{}: licence {:?}", package.name, package.licence));
        }
        if !package.floor.is_empty() {
            complaints.extend(arrows(package, &floors));
        }
    }
    complaints
}

/// Names of the packages in core.
pub(crate) fn core(metadata: &Value) -> Vec<&str> {
    let root = format!("{}/", text(&metadata["workspace_root"]));
    let packages = items(&metadata["packages"]).map(|package| read(package, &root));
    packages.filter(|package| package.floor == "core").map(|package| package.name).collect()
}

/// Checks what a package of core stands on, by what `cargo tree` says of it alone: in the workspace's own graph everybody has the
/// features that anybody wants of a package that both use. One `NAME vVERSION ...` a line.
pub(crate) fn check_core(name: &str, tree: &str) -> Vec<String> {
    let below: BTreeSet<_> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let worldly = below.into_iter().filter(|below| WORLDLY.contains(below));
    worldly.map(|below| format!("{name} stands on {below}")).collect()
}

fn read<'a>(package: &'a Value, root: &str) -> Package<'a> {
    let manifest = text(&package["manifest_path"]);
    // A package of a registry lies elsewhere.
    let inside = package["source"].is_null().then(|| manifest.strip_prefix(root)).flatten();
    let imports = |of_tests: bool| {
        let fits = move |import: &&Value| (import["kind"] == "dev") == of_tests;
        items(&package["dependencies"]).filter(fits).map(|import| text(&import["name"]))
    };
    Package {
        name: text(&package["name"]),
        floor: inside.and_then(|path| path.split('/').next()).unwrap_or_default(),
        licence: text(&package["license"]),
        imports: imports(false).chain(imports(true)).collect(),
        imports_of_tests: imports(true).collect(),
    }
}

fn arrows(package: &Package<'_>, floors: &BTreeMap<&str, &str>) -> Vec<String> {
    let forbidden = |import: &&&str| {
        let floor = floors.get(*import).copied().unwrap_or_default();
        let up = match package.floor {
            "core" => !matches!(floor, "core" | ""),
            "shell" => !matches!(floor, "core" | "shell" | ""),
            _ => matches!(floor, "xtask"),
        };
        let never = NEVER.iter().any(|(who, whom)| *who == package.name && whom.contains(import));
        let engine = ENGINE.1.contains(import)
            && package.name != ENGINE.0
            && package.floor != "proof"
            && !package.imports_of_tests.contains(*import);
        up || never || engine
    };
    let wrong = package.imports.iter().filter(forbidden);
    wrong.map(|import| format!("{} must not import {import}", package.name)).collect()
}

/// Whether an SPDX expression can be met with the licences of the list alone.
fn is_acceptable(licence: &str) -> bool {
    let spaced = licence.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    alternatives(&mut words) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn alternatives(words: &mut Words<'_>) -> bool {
    let mut any = conjunction(words);
    while words.next_if_eq(&"OR").is_some() {
        any |= conjunction(words);
    }
    any
}

fn conjunction(words: &mut Words<'_>) -> bool {
    let mut all = term(words);
    while words.next_if_eq(&"AND").is_some() {
        all &= term(words);
    }
    all
}

fn term(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        return alternatives(words) & words.next_if_eq(&")").is_some();
    }
    let mut name = words.next().unwrap_or_default().to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next().unwrap_or_default());
    }
    LICENCES.contains(&name.as_str())
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{check, check_core, core, is_acceptable};

    fn package(path: &str, name: &str, imports: &[&str]) -> Value {
        let imports: Vec<Value> = imports.iter().map(|name| json!({ "name": name })).collect();
        json!({ "id": name, "name": name, "license": "MIT", "source": null,
            "manifest_path": format!("/r/{path}/Cargo.toml"), "dependencies": imports })
    }

    #[test]
    fn arrows_that_point_up_are_told() {
        let packages = [
            package("core/a", "a", &["b", "serde"]),
            package("core/b", "b", &["s"]),
            package("shell/s", "s", &["a", "p"]),
            package("proof/p", "p", &["a", "s"]),
            package("core/media", "outlast-media", &["outlast-control"]),
            package("core/control", "outlast-control", &["str0m"]),
        ];
        let metadata = json!({ "workspace_root": "/r", "packages": packages });
        assert_eq!(
            check(&metadata),
            [
                "b must not import s",
                "outlast-control must not import str0m",
                "outlast-media must not import outlast-control",
                "s must not import p",
            ]
        );
    }

    #[test]
    fn core_stands_on_no_runtime_even_through_others() {
        let packages = [package("core/a", "a", &["x"]), package("shell/s", "s", &["tokio"])];
        let metadata = json!({ "workspace_root": "/r", "packages": packages });
        assert_eq!(core(&metadata), ["a"]);
        let tree =
            "a v0.1.0 (/r/core/a)\nx v1.0.0\ntokio v1.2.3\ntokio-util v0.7.0\ntokio v1.2.3 (*)\n";
        assert_eq!(check_core("a", tree), ["a stands on tokio"]);
        assert!(check_core("a", "a v0.1.0 (/r/core/a)\nx v1.0.0\n").is_empty());
    }

    #[test]
    fn licences_are_read_as_expressions() {
        for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "ISC AND (Apache-2.0 OR GPL-3.0)"] {
            assert!(is_acceptable(good), "{good}");
        }
        for bad in
            ["", "GPL-3.0", "MIT AND AGPL-3.0", "MPL-2.0", "(MIT OR ISC) AND GPL-3.0", "MIT ISC"]
        {
            assert!(!is_acceptable(bad), "{bad}");
        }
    }
}

//! The walls: which module may use which, read from the source and compared with the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may use of the crate. The longest matching module name rules a file.
const WALLS: &[(&str, &[&str])] = &[
    ("sys", &["sys"]),
    ("digest", &["digest"]),
    ("telemetry", &["telemetry"]),
    ("archive", &["archive", "sys", "digest"]),
    ("store", &["store", "archive", "sys", "digest"]),
    ("oci", &["oci", "store", "archive", "sys", "digest"]),
    (
        "node",
        &[
            "node",
            "oci",
            "store",
            "archive",
            "sys",
            "digest",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "cli",
            "node",
            "oci",
            "store",
            "archive",
            "sys",
            "digest",
            "telemetry",
        ],
    ),
];

/// Crates that stop at a wall: nobody but the listed modules may name them.
const CRATES: &[(&str, &[&str])] = &[
    ("tokio", &["oci", "node", "cli"]),
    ("reqwest", &["oci"]),
    ("tonic", &["node", "cli"]),
    ("prost", &["node"]),
    ("axum", &["node"]),
    ("clap", &["cli"]),
    ("kube", &["node::kubernetes"]),
    ("k8s_openapi", &["node::kubernetes"]),
];

/// Every Rust file below `src` with the module that it belongs to (`store::driver::overlay`).
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let relative = path.strip_prefix(&root).unwrap().with_extension("");
            let mut parts: Vec<_> = relative.iter().map(|part| part.to_str().unwrap()).collect();
            if parts.last() == Some(&"mod") {
                parts.pop();
            }
            found.insert(parts.join("::"), fs::read_to_string(&path).unwrap());
        }
    }
    assert!(found.len() > 5, "the source was not found");
    found
}

/// The file without comments and text literals that fill a line.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(number, line)| {
        let line = line.split("//").next().unwrap_or_default();
        (!line.trim().is_empty()).then_some((number + 1, line))
    })
}

/// What follows each `crate::` in `line`, to the end of the word.
fn uses_of_crate(line: &str) -> Vec<&str> {
    line.match_indices("crate::")
        .filter(|(at, _)| {
            let before = line[..*at].chars().next_back();
            before.is_none_or(|c| !(c.is_alphanumeric() || c == '_'))
        })
        .map(|(at, found)| {
            let rest = &line[at + found.len()..];
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

#[test]
fn each_module_uses_only_those_below_it() {
    let mut broken = Vec::new();
    for (module, text) in sources() {
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = WALLS.iter().find(|(name, _)| *name == top(&module)) else {
            broken.push(format!("{module}: is in no wall: add it to the table"));
            continue;
        };
        for (number, line) in code_lines(&text) {
            for used in uses_of_crate(line) {
                // Macros exported at the root and `crate::{a, b}` name no module here.
                let is_module = WALLS.iter().any(|(name, _)| *name == used);
                if used.is_empty() {
                    broken.push(format!(
                        "{module}:{number}: one module per use line, please"
                    ));
                } else if is_module && !allowed.contains(&used) {
                    broken.push(format!("{module}:{number}: may not use {used}"));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "walls are broken:\n{}",
        broken.join("\n")
    );
}

#[test]
fn crates_stop_at_their_wall() {
    let mut broken = Vec::new();
    for (module, text) in sources() {
        for (number, line) in code_lines(&text) {
            for (name, modules) in CRATES {
                let used = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':'))
                });
                let may = modules
                    .iter()
                    .any(|wall| module == *wall || module.starts_with(&format!("{wall}::")));
                if used && !may {
                    broken.push(format!("{module}:{number}: may not name {name}"));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "walls are broken:\n{}",
        broken.join("\n")
    );
}

/// Whether a line asks the process for its surroundings. What the compiler knows (`env!`, `env::consts`) is none.
fn reads_the_environment(line: &str) -> bool {
    line.match_indices("env")
        .filter(|(at, _)| {
            let before = line[..*at].chars().next_back();
            before.is_none_or(|c| !(c.is_alphanumeric() || c == '_'))
        })
        .any(|(at, found)| {
            let rest = &line[at + found.len()..];
            let is_import = line[..at].ends_with("std::") && !rest.starts_with("::consts");
            let is_call = ["::var", "::vars", "::args", "::temp_dir", "::home_dir"]
                .iter()
                .chain(&[
                    "::current_dir",
                    "::current_exe",
                    "::set_var",
                    "::remove_var",
                ])
                .any(|call| rest.starts_with(call));
            is_import || is_call
        })
        || line.contains("getenv")
}

/// The hook of test builds, which no release has, is told by variables what to do.
#[test]
fn only_the_command_line_reads_the_environment() {
    let mut broken = Vec::new();
    for (module, text) in sources() {
        if top(&module) == "cli" || module == "sys::fault" {
            continue;
        }
        let (code, _tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
        for (number, line) in code_lines(code) {
            if reads_the_environment(line) {
                broken.push(format!("{module}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "the environment is read outside cli:\n{}",
        broken.join("\n")
    );
}

#[test]
fn the_code_that_finds_the_environment_finds_it() {
    for line in [
        "use std::env;",
        "let home = env::var_os(\"HOME\");",
        "    for argument in std::env::args() {",
        "std::env::temp_dir()",
        "libc::getenv(name)",
    ] {
        assert!(reads_the_environment(line), "{line}");
    }
    for line in [
        "env!(\"CARGO_PKG_VERSION\")",
        "match std::env::consts::ARCH {",
        "let environment = Environment::default();",
        "self.env::<u8>()",
    ] {
        assert!(!reads_the_environment(line), "{line}");
    }
}

#[test]
fn only_sys_is_unsafe() {
    let mut broken = Vec::new();
    for (module, text) in sources() {
        for (number, line) in code_lines(&text) {
            let is_unsafe = line.contains("unsafe {")
                || line.contains("unsafe fn")
                || line.contains("unsafe impl")
                || line.contains("allow(unsafe_code");
            if is_unsafe && top(&module) != "sys" {
                broken.push(format!("{module}:{number}"));
            }
        }
    }
    assert!(broken.is_empty(), "unsafe outside sys: {broken:?}");
}

#[test]
fn the_wire_is_kept_apart_from_volumes() {
    let broken: Vec<_> = sources()
        .into_iter()
        .filter(|(module, _)| module.starts_with("node::volume"))
        .flat_map(|(module, text)| {
            code_lines(&text)
                .filter(|(_, line)| {
                    line.contains("tonic::")
                        || line.contains("prost::")
                        || line.contains("node::csi")
                })
                .map(|(number, _)| format!("{module}:{number}"))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(broken.is_empty(), "protobuf in node::volume: {broken:?}");
}

#[test]
fn the_code_that_finds_uses_finds_them() {
    assert_eq!(uses_of_crate("use crate::store::Store;"), ["store"]);
    assert_eq!(
        uses_of_crate("    f(crate::sys::a(), crate::oci::b())"),
        ["sys", "oci"]
    );
    assert_eq!(uses_of_crate("use mycrate::store;"), Vec::<&str>::new());
    assert_eq!(uses_of_crate("use crate::{store, sys};"), [""]);
}

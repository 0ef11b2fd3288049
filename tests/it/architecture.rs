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
    // The services ask volumes, which ask the store.
    ("node::csi", &["node", "sys", "telemetry"]),
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

/// Parts of a module that another part of it may not use, though its table allows the module.
const INNER: &[(&str, &[&str])] = &[
    ("node::volume", &["node::csi"]),
    ("node::kubernetes", &["node::csi", "store"]),
];

/// Crates that stop at a wall: nobody but the listed modules may name them.
const CRATES: &[(&str, &[&str])] = &[
    ("tokio", &["oci", "node", "cli"]),
    ("reqwest", &["oci"]),
    ("tonic", &["node::csi", "node::kubernetes", "node::plugin"]),
    ("prost", &["node::csi"]),
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

/// The paths that a file names in its `use` statements and elsewhere, as they are written but for groups, which are
/// taken apart; each with its line and the module that it is named in.
fn paths(module: &str, text: &str) -> Vec<(usize, String, String)> {
    let mut inner: Vec<(&str, &str)> = Vec::new();
    let mut statement: Option<(usize, String)> = None;
    let mut found = Vec::new();
    for (number, line) in code_lines(text) {
        let indent = &line[..line.len() - line.trim_start().len()];
        let code = line.trim();
        if let Some(name) = opened_module(code) {
            inner.push((indent, name));
            continue;
        }
        if code == "}" && inner.last().is_some_and(|(outer, _)| *outer == indent) {
            inner.pop();
            continue;
        }
        let within = inner.iter().map(|(_, name)| *name);
        let within = [module].into_iter().chain(within);
        let here = within.collect::<Vec<_>>().join("::");
        if statement.is_some() || is_use(code) {
            let (start, mut text) = statement.take().unwrap_or((number, String::new()));
            text.push_str(code);
            match text.strip_suffix(';') {
                None => statement = Some((start, text)),
                Some(whole) => {
                    let tree = whole.split_once("use ").map_or(whole, |(_, tree)| tree);
                    let paths = expand(tree).into_iter();
                    found.extend(paths.map(|path| (start, path, here.clone())));
                }
            }
        } else {
            let paths = written_paths(code).into_iter();
            found.extend(paths.map(|path| (number, path, here.clone())));
        }
    }
    found
}

fn is_use(code: &str) -> bool {
    let visible = code.strip_prefix("pub").map_or(code, |rest| {
        let end = rest.strip_prefix('(').and_then(|_| rest.find(')'));
        rest[end.map_or(0, |end| end + 1)..].trim_start()
    });
    // A line of prose in a literal may begin so.
    visible.starts_with("use ") && code.ends_with([';', '{'])
}

/// The name of a module whose body begins here.
fn opened_module(code: &str) -> Option<&str> {
    let (before, rest) = code.split_once("mod ")?;
    let name = rest.strip_suffix(" {")?;
    (before.is_empty() || before.starts_with("pub")).then_some(name)
}

/// The paths of a `use` tree.
fn expand(tree: &str) -> Vec<String> {
    let Some((prefix, group)) = tree.split_once('{') else {
        return vec![tree.trim().trim_start_matches("::").to_owned()];
    };
    let group = group
        .trim_end()
        .strip_suffix('}')
        .expect("groups are closed");
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match (letter, parts.last_mut()) {
            (',', _) if depth == 0 => parts.push(String::new()),
            (letter, Some(part)) => part.push(letter),
            _ => {}
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts
        .flat_map(|part| expand(&format!("{}{}", prefix.trim(), part.trim())))
        .collect()
}

/// The paths of two and more words in a line that is no `use`.
fn written_paths(code: &str) -> Vec<String> {
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c| !is_of_path(c))
        .filter(|word| word.contains("::"))
        .map(|word| word.trim_matches(':').to_owned())
        .collect()
}

/// The path from the crate's root, if it leads to a module of ours.
fn resolve(path: &str, here: &str) -> Option<String> {
    let mut place: Vec<&str> = here.split("::").collect();
    let mut words = path.split("::").map(str::trim).peekable();
    match words.next()? {
        "crate" => place.clear(),
        "super" => drop(place.pop()),
        "self" => {}
        _ => return None,
    }
    while words.next_if_eq(&"super").is_some() {
        place.pop();
    }
    place.extend(words);
    Some(place.join("::"))
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

/// What is wrong with the paths of a file, as `line: what`.
fn broken_walls(module: &str, text: &str) -> Vec<String> {
    let rules = WALLS.iter().filter(|(name, _)| is_within(module, name));
    let Some((_, allowed)) = rules.max_by_key(|(name, _)| name.len()) else {
        return vec!["is in no wall: add it to the table".to_owned()];
    };
    let mut broken = Vec::new();
    for (number, path, here) in paths(module, text) {
        let Some(used) = resolve(&path, &here) else {
            continue;
        };
        let name = top(&used);
        let is_module = WALLS.iter().any(|(wall, _)| *wall == name);
        // The plugin's tests bring a store of their own.
        let is_test = is_within(module, "node") && here.split("::").any(|word| word == "tests");
        let is_below = is_test && name != "cli";
        let is_walled = is_module && !is_below && !allowed.contains(&name);
        let is_inner = INNER.iter().any(|(wall, never)| {
            is_within(module, wall) && never.iter().any(|never| is_within(&used, never))
        });
        if is_walled || is_inner {
            broken.push(format!("{number}: may not use {used}"));
        }
    }
    broken
}

#[test]
fn each_module_uses_only_those_below_it() {
    let mut broken = Vec::new();
    for (module, text) in sources() {
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let found = broken_walls(&module, &text).into_iter();
        broken.extend(found.map(|what| format!("{module}:{what}")));
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
        for (number, name) in foreign_crates(&module, &text) {
            broken.push(format!("{module}:{number}: may not name {name}"));
        }
    }
    assert!(
        broken.is_empty(),
        "walls are broken:\n{}",
        broken.join("\n")
    );
}

/// The crates that a file names though they stop before it.
fn foreign_crates(module: &str, text: &str) -> Vec<(usize, &'static str)> {
    let mut named: Vec<(usize, String)> = paths(module, text)
        .into_iter()
        .map(|(number, path, _)| (number, path))
        .collect();
    for (number, line) in code_lines(text) {
        if let Some((_, name)) = line.split_once("extern crate ") {
            named.push((number, name.trim_end_matches(';').to_owned()));
        }
    }
    let mut found = Vec::new();
    for (number, path) in named {
        let first = path.split("::").next().unwrap_or_default();
        let first = first.split(' ').next().unwrap_or_default();
        let foreign = CRATES.iter().find(|(name, walls)| {
            *name == first && !walls.iter().any(|wall| is_within(module, wall))
        });
        found.extend(foreign.map(|(name, _)| (number, *name)));
    }
    found
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
fn what_breaks_a_wall_is_found() {
    for (module, text) in [
        ("store::layer", "use crate::oci::Puller;"),
        ("store::layer", "use super::super::oci::Puller;"),
        ("store::layer", "    let a = super::super::node::chain(b);"),
        ("store", "use crate::{sys, node::{chain}};"),
        ("store", "use super::{\n    archive,\n    cli,\n};"),
        ("node::csi::node", "use crate::store::Store;"),
        ("node::csi::node", "use super::super::super::oci;"),
        ("node::volume::plan", "use super::super::csi::wire;"),
        (
            "node::volume",
            "mod inner {\n    use super::super::csi::wire;\n}",
        ),
        ("node::kubernetes", "use crate::store;"),
        ("elsewhere", ""),
    ] {
        assert_eq!(broken_walls(module, text).len(), 1, "{module}: {text}");
    }
    for (module, text) in [
        ("store", "use crate::sys::{self, Dir};"),
        ("store", "mod tests {\n    use super::super::sys;\n}"),
        ("node::csi::tests", "use crate::store::Store;"),
        ("node::csi::node", "use super::super::health;"),
        ("oci", "use mycrate::node; // crate::node::x"),
    ] {
        assert_eq!(broken_walls(module, text), [""; 0], "{module}: {text}");
    }
}

#[test]
fn a_crate_is_found_however_it_is_named() {
    for text in [
        "use kube;",
        "use kube as k;",
        "use ::kube::Client;",
        "pub(super) use kube::{\n    Api,\n};",
        "use {std::io, kube};",
        "extern crate kube;",
        "    kube::Client::new(a)",
        "    let a: Vec<kube::Api> = b;",
    ] {
        assert_eq!(
            foreign_crates("node::volume", text),
            [(1, "kube")],
            "{text}"
        );
        assert_eq!(foreign_crates("node::kubernetes::api", text), [], "{text}");
    }
    for text in ["use crate::kube::a;", "let kubelet = kubelet::a();"] {
        assert_eq!(foreign_crates("node::volume", text), [], "{text}");
    }
}

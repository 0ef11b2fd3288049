//! All commands, gathered from the files that define them, and the flags that each of them has.
//!
//! The parser of the peer's grammar, the usage texts, and (as clap commands) completion, the man
//! page and Strata's own commands are all made from these [`Definition`]s.

use clap::{Arg, Command};

use super::definition::{Definition, Flag};
use super::{
    backup, check, commit, containers, copy, data, dedup, diff, du, generate, images, layers,
    mount, node, objects, owners, pull, push, status, uninstall, unshare, usage,
};

/// Flags that every command has, before and after its name.
pub const GLOBAL: &[Flag] = &[
    Flag::switch("debug", Some('D'), "Print debugging information"),
    Flag::value("graph", Some('g'), "Root of the storage tree"),
    Flag::value("image-store", None, "Root of the separate image store"),
    Flag::value("run", Some('R'), "Root of the runtime state tree"),
    Flag::value(
        "storage-driver",
        Some('s'),
        "Storage driver to use ($STORAGE_DRIVER)",
    ),
    Flag::values(
        "storage-opt",
        None,
        "Set storage driver options ($STORAGE_OPTS)",
    ),
    Flag::switch(
        "transient-store",
        None,
        "Keep all containers until the next boot only",
    ),
    Flag::switch(
        "unshare",
        Some('U'),
        "Run in a user namespace (default false)",
    ),
];

/// The commands of each file, in the order of the usage text.
const FAMILIES: &[&[Definition]] = &[
    layers::COMMANDS,
    images::COMMANDS,
    containers::COMMANDS,
    objects::COMMANDS,
    data::COMMANDS,
    mount::COMMANDS,
    owners::COMMANDS,
    diff::COMMANDS,
    copy::COMMANDS,
    status::COMMANDS,
    check::COMMANDS,
    dedup::COMMANDS,
    unshare::COMMANDS,
    du::COMMANDS,
    backup::COMMANDS,
    pull::COMMANDS,
    commit::COMMANDS,
    push::COMMANDS,
    node::COMMANDS,
    uninstall::COMMANDS,
    generate::COMMANDS,
    usage::COMMANDS,
];

/// All commands, in the order of the usage text.
pub fn all() -> impl Iterator<Item = &'static Definition> {
    FAMILIES.iter().copied().flatten()
}

/// The command of this name or alias.
pub fn find(name: &str) -> Option<&'static Definition> {
    all().find(|command| command.name == name || command.aliases.contains(&name))
}

/// Global flags as clap knows them.
pub fn global_args() -> Vec<Arg> {
    GLOBAL
        .iter()
        .map(|flag| flag.to_clap().global(true))
        .collect()
}

/// The whole command line as clap knows it: for completion and the manual page.
pub fn root() -> Command {
    Command::new("strata")
        .about("Layers, images and containers in a containers/storage store, and CSI volumes")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(global_args())
        .subcommands(all().map(Definition::to_clap))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn clap_accepts_the_table() {
        root().debug_assert();
    }

    #[test]
    fn json_is_refused_by_what_writes_a_stream_or_serves_alone() {
        let without: Vec<_> = all()
            .filter(|command| !command.all_flags().any(|flag| flag.name == "json"))
            .map(|command| command.name)
            .collect();
        let known = [
            "get-layer-data",
            "get-image-data",
            "get-container-data",
            "diff",
            "unshare",
            "node",
            "uninstall-check",
            "completion",
            "man",
            "help",
        ];
        assert_eq!(without, known);
    }

    #[test]
    fn no_name_flag_or_letter_is_there_twice() {
        let mut names = BTreeSet::new();
        for command in all() {
            for name in command.aliases.iter().chain([&command.name]) {
                assert!(names.insert(*name), "{name}");
            }
            let mut flags = BTreeSet::new();
            for flag in command.all_flags() {
                let letter = flag.letter.map(String::from);
                let long = flag
                    .aliases
                    .iter()
                    .chain([&flag.name])
                    .map(ToString::to_string);
                for name in long.chain(letter) {
                    assert!(
                        flags.insert(name.clone()),
                        "{} has {name} twice",
                        command.name
                    );
                }
            }
        }
    }
}

//! Commands that change nothing, and whether any was forgotten.

use std::collections::BTreeSet;
use std::fs;

use super::commands::{self, Start};
use super::place::Kind;
use super::scene::Scene;
use super::support::plugin;
use super::support::tool;

/// Each command is tried with faults, or makes no call that changes something, or is one of [`commands::OTHER`].
pub fn run() {
    tool::require_root();
    let binary = plugin::binary(env!("CARGO_BIN_EXE_strata"));
    let tried = commands::ALL.iter().map(|case| case.command);
    let listed = tried.chain(commands::READING.iter().chain(commands::OTHER).copied());
    let listed: BTreeSet<_> = listed.filter_map(|line| line.split(' ').next()).collect();
    let known: BTreeSet<_> = strata::cli::commands::all()
        .map(|command| command.name)
        .collect();
    assert_eq!(listed, known, "the lists have every command");
    let scene = Scene::new(Kind::Overlay, &binary);
    scene.play("read", Start::Whole, |settings| {
        let log = settings.graph.with_file_name("calls");
        let variable = ("STRATA_FAULT_LOG", log.to_str().expect("UTF-8"));
        for line in commands::READING {
            let ran = scene.run(settings, Some(variable), line);
            assert_eq!(ran.code, 0, "{ran}");
            let calls = fs::read_to_string(&log).unwrap_or_default();
            assert_eq!(calls, "", "{line} changes something");
        }
    });
}

//! Names, aliases, flags and numbers of operands: ours are the peer's, and nobody has to write them down twice.

use std::collections::BTreeSet;

use strata::cli::commands;
use strata::cli::definition::{Definition, Grammar};

use crate::support::scratch::Scratch;
use crate::support::tool::{Ran, Tool};

/// Commands that the script can't try: what they do differs by design, and is tested by itself.
///
/// `config` of the peer tells nothing of flags, see `the_configuration_is_what_the_peer_takes_it_for`; `unshare` has
/// `tests/peer/unshare.rs`; versions are each one's own, see
/// `tests/it/cli/grammar.rs`; a staging directory has a test beside the script.
pub(super) const TRIED_ELSEWHERE: [&str; 4] = [
    "applydiff-using-staging-dir",
    "config",
    "unshare",
    "version",
];

/// Where the peer prints text alone.
pub(super) const ONLY_OURS_HAS_JSON: [&str; 16] = [
    "applydiff",
    "applydiff-using-staging-dir",
    "config",
    "diffsize",
    "get-container-data-digest",
    "get-container-data-size",
    "get-container-dir",
    "get-container-run-dir",
    "get-image-data-digest",
    "get-image-data-size",
    "get-image-dir",
    "get-image-run-dir",
    "set-container-data",
    "set-image-data",
    "set-layer-data",
    "set-metadata",
];

fn peer() -> Tool {
    Tool::new("containers-storage-newest")
}

fn strata() -> Tool {
    Tool::at(std::path::Path::new(env!("CARGO_BIN_EXE_strata")))
}

/// The first words of the indented lines after `heading`.
fn listed(text: &str, heading: &str) -> BTreeSet<String> {
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    lines
        .skip_while(|line| line.is_empty())
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// All spellings of the flags in a usage text: `--file, -f=x    Read…`.
fn flags(ran: &Ran) -> BTreeSet<String> {
    let lines = ran.stderr.lines().filter(|line| line.starts_with("  -"));
    lines
        .flat_map(|line| {
            let spellings = line.trim_start().split("  ").next().unwrap_or_default();
            let names = spellings.split(", ");
            names
                .filter_map(|name| name.split('=').next())
                .collect::<Vec<_>>()
        })
        .filter(|name| name.starts_with('-'))
        .map(str::to_owned)
        .collect()
}

fn of_peer() -> impl Iterator<Item = &'static Definition> {
    commands::all().filter(|command| command.grammar == Grammar::Peer)
}

#[test]
fn the_peer_has_no_command_that_is_missing_here() {
    let theirs = peer().arg("--help").ok();
    let theirs = listed(&theirs.text(), "Commands:");
    assert!(theirs.len() > 55, "{theirs:?}");
    let ours: BTreeSet<String> = of_peer().map(|command| command.name.to_owned()).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn every_command_has_the_flags_and_aliases_of_the_peer() {
    for command in of_peer() {
        for name in command.aliases.iter().chain([&command.name]) {
            let [ours, theirs] =
                [strata(), peer()].map(|tool| tool.args([name, "--help"]).output());
            assert_eq!((ours.code, theirs.code), (125, 125), "{name}: {theirs}");
            let (mut ours, theirs) = (flags(&ours), flags(&theirs));
            if ONLY_OURS_HAS_JSON.contains(&command.name) {
                ours.remove("--json");
                ours.remove("-j");
            }
            assert_eq!(ours, theirs, "{name}");
        }
    }
}

/// Aliases that the peer has and we lack would be seen nowhere: its usage texts don't tell them.
#[test]
fn names_without_dashes_are_aliases_where_the_peer_has_them() {
    for command in of_peer().filter(|command| command.name.contains('-')) {
        let name = command.name.replace('-', "");
        let codes = [strata(), peer()].map(|tool| tool.args([&*name, "--help"]).output().code);
        assert_eq!(codes[0], codes[1], "{name}");
    }
    for name in [
        "umount",
        "diff-size",
        "apply-diff",
        "remove",
        "list",
        "un-mount",
    ] {
        let codes = [strata(), peer()].map(|tool| tool.args([name, "--help"]).output().code);
        assert_eq!(codes[0], codes[1], "{name}");
    }
}

#[test]
fn every_command_takes_as_many_operands_as_with_the_peer() {
    let scratch = Scratch::new("operands");
    // What needs no store, or would do something with so many.
    let passed_over = ["config", "unshare"];
    for command in of_peer().filter(|command| !passed_over.contains(&command.name)) {
        for count in 0..=3 {
            let operands = ["no", "such", "thing", "here"].into_iter().take(count);
            let operands: Vec<&str> = operands.collect();
            let firsts = [(strata(), "ours"), (peer(), "theirs")].map(|(tool, whose)| {
                let ran = tool
                    .args(["-g", &scratch.text(whose), "-R", &scratch.text("run")])
                    .args(["-s", "vfs", command.name])
                    .args(&operands)
                    .output();
                let text = String::from_utf8_lossy(&ran.stdout).into_owned();
                let first = text.lines().next().unwrap_or_default().to_owned();
                let is_refused = first.contains("arguments");
                (ran.code, is_refused.then_some(first))
            });
            // The peer makes a directory for an image that is none.
            if !(command.name.starts_with("get-image-") && command.name.ends_with("dir")) {
                assert_eq!(firsts[0], firsts[1], "{} {operands:?}", command.name);
            }
        }
    }
}

#[test]
fn the_configuration_is_what_the_peer_takes_it_for() {
    let scratch = Scratch::new("config");
    let root = scratch.path().display().to_string();
    let file = scratch.text("storage.conf");
    std::fs::create_dir(scratch.path().join("other")).unwrap();
    let written = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{root}/g\"\nrunroot = \"{root}/r\"\n\
         driver_priority = [\"vfs\", \"overlay\"]\n\
         [storage.options]\nadditionalimagestores = [\"{root}/other\"]\n\
         root-auto-userns-user = \"pods\"\nauto-userns-min-size = 10\nauto-userns-max-size = 20\n\
         disable-volatile = true\n\
         pull_options = {{ use_hard_links = \"true\", ostree_repos = \"\" }}\n\
         [storage.options.overlay]\nmountopt = \"nodev\"\n"
    );
    std::fs::write(&file, written).unwrap();
    let over = scratch.text("over.conf");
    std::fs::write(&over, "[storage]\ntransient_store = true\n").unwrap();
    // Variables of any name, and links: a root that is there is named by the place that they lead to.
    std::fs::create_dir_all(scratch.path().join("real/abc/g")).unwrap();
    std::os::unix::fs::symlink("real", scratch.path().join("ln")).unwrap();
    let paths = scratch.text("paths.conf");
    let written = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{root}/ln/$MYVAR/g\"\n\
         runroot = \"{root}/ln/./new//${{NONE}}x$UID-$MYVAR/../r$\"\nimagestore = \"{root}/images\"\n"
    );
    std::fs::write(&paths, written).unwrap();
    for variables in [
        &[][..],
        &[("STORAGE_DRIVER", "overlay")],
        &[(
            "STORAGE_OPTS",
            "overlay.mountopt=nodev,overlay.skip_mount_home=true",
        )],
        &[
            ("STORAGE_OPTS", ".mountopt=nosuid"),
            ("STORAGE_DRIVER", "overlay"),
        ],
        &[("STORAGE_DRIVER", ""), ("STORAGE_OPTS", "")],
        &[("CONTAINERS_STORAGE_CONF_OVERRIDE", &*over)],
        &[("CONTAINERS_STORAGE_CONF", &*paths), ("MYVAR", "abc")],
        &[("CONTAINERS_STORAGE_CONF", &*paths), ("MYVAR", "none")],
        &[("CONTAINERS_STORAGE_CONF", "storage.conf")],
        &[("CONTAINERS_STORAGE_CONF", "/no/such/file")],
        &[("CONTAINERS_STORAGE_CONF_OVERRIDE", "/no/such/file")],
    ] {
        for command in [
            &["config"][..],
            &["-g", "g2", "status"],
            &["-R", "r2", "layers"],
        ] {
            let said = [strata(), peer()].map(|tool| {
                let tool = tool
                    .env("CONTAINERS_STORAGE_CONF", &file)
                    .within(scratch.path());
                let tool = variables
                    .iter()
                    .fold(tool, |tool, (name, value)| tool.env(name, value));
                let ran = tool.args(command).output();
                let lines = ran
                    .stderr
                    .lines()
                    .take(3)
                    .filter(|line| !line.starts_with("time="));
                let lines: Vec<String> = lines.map(str::to_owned).collect();
                // Ours says what it was about to do.
                let mut out = ran.text();
                for (ours, theirs) in [
                    ("reading the storage configuration: ", ""),
                    ("not supported: ", ""),
                    // In an order of chance.
                    ("vfs, overlay;", "overlay, vfs;"),
                ] {
                    out = out.replace(ours, theirs);
                }
                (ran.code, out, lines)
            });
            assert_eq!(said[0], said[1], "{variables:?} {command:?}");
        }
    }
}

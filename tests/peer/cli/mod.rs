//! The command line beside the newest `containers-storage`: the same commands in twin stores give the
//! same output, errors and exit codes, once IDs, times and places are made equal; and the peer finds in our store what it
//! finds in its own.

mod script;
mod surface;
mod twin;

use std::collections::BTreeMap;
use std::path::Path;

use strata::cli::commands;
use strata::cli::definition::{Definition, Grammar};

use crate::support::tool;
use script::{SCRIPT, differs_on_purpose, is_refused_on_purpose};
use twin::{Said, Twin};

/// Commands that change nothing: the peer says in our store what it says in its own.
const READING: [&str; 23] = [
    "changes",
    "container",
    "container-parent-owners",
    "containers",
    "diff",
    "diffsize",
    "exists",
    "get-container-data",
    "get-container-data-digest",
    "get-container-data-size",
    "get-image-data",
    "get-image-data-digest",
    "get-image-data-size",
    "get-layer-data",
    "get-names",
    "image",
    "images",
    "images-by-digest",
    "layer",
    "layers",
    "metadata",
    "mounted",
    "storage-layers",
];

/// Records as the peer reads them, after a command that changed something.
const RECORDS: [&[&str]; 3] = [&["layers", "-j"], &["images", "-j"], &["containers", "-j"]];

/// What was seen of one command.
#[derive(Debug, Default)]
struct Seen {
    text: bool,
    json: bool,
    failure: bool,
    read_back: bool,
}

/// Runs the script by both, and by the peer where ours has worked.
struct Comparison {
    ours: Twin,
    theirs: Twin,
    peer: std::path::PathBuf,
    different: Vec<String>,
    seen: BTreeMap<&'static str, Seen>,
}

impl Comparison {
    fn new(driver: &'static str) -> Self {
        let peer = tool::find("containers-storage-newest");
        Self {
            ours: Twin::new(Path::new(env!("CARGO_BIN_EXE_strata")), driver),
            theirs: Twin::new(&peer, driver),
            peer,
            different: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn step(&mut self, line: &[&str]) {
        let command = commands::find(line[0]);
        let (our, their) = (self.ours.run(line), self.theirs.run(line));
        let their = in_order(command, their);
        let our = in_order(command, our);
        let is_same = if is_refused_on_purpose(line) {
            our.code == 1 && their.code == 0
        } else if differs_on_purpose(line) {
            our.code == their.code
        } else {
            our == their || both_tell_the_usage(&our, &their)
        };
        if !is_same {
            self.note(line, "ours", &our, &their);
        }
        let Some(command) = command else {
            return;
        };
        let is_json = line[1..]
            .iter()
            .take_while(|word| word.starts_with('-'))
            .any(|word| *word == "--json" || (!word.starts_with("--") && word.contains('j')));
        let seen = self.seen.entry(command.name).or_default();
        seen.failure |= our.code != 0;
        seen.json |= our.code == 0 && is_json;
        seen.text |= our.code == 0 && !is_json;
        seen.read_back |= our.code == 0;
        if READING.contains(&command.name) {
            self.read_back(Some(command), line, &their);
        } else if our.code == 0 {
            for line in RECORDS {
                let their = self.theirs.run(line);
                self.read_back(None, line, &their);
            }
        }
    }

    /// The peer in our store.
    fn read_back(&mut self, command: Option<&Definition>, line: &[&str], their: &Said) {
        if differs_on_purpose(line) {
            return;
        }
        let read = in_order(command, self.ours.run_by(&self.peer.clone(), line));
        if read != *their {
            self.note(line, "the peer in our store", &read, their);
        }
    }

    fn note(&mut self, line: &[&str], whose: &str, one: &Said, other: &Said) {
        let text = format!("{line:?}\n  {whose}: {one:?}\n  theirs: {other:?}");
        self.different.push(text);
    }
}

/// Usage texts are each one's own; what is wrong is not.
fn both_tell_the_usage(our: &Said, their: &Said) -> bool {
    let first = |said: &Said| said.out.lines().next().unwrap_or_default().to_owned();
    our.code == their.code && first(our) == first(their) && first(our).contains(" arguments")
}

/// The order of some answers is chance with the peer.
fn in_order(command: Option<&Definition>, said: Said) -> Said {
    let is_usage = said.out.contains("\nUsage: ");
    match command.map(|command| command.name) {
        Some("changes" | "check" | "exists" | "storage-layers") if !is_usage => said.sorted(),
        _ => said,
    }
}

/// What a command of the peer's must have been tried with, and was not.
fn untried(command: &Definition, seen: &BTreeMap<&'static str, Seen>) -> Vec<String> {
    let default = Seen::default();
    let seen = seen.get(command.name).unwrap_or(&default);
    let has_json = command.all_flags().any(|flag| flag.name == "json");
    let has_json = has_json && !surface::ONLY_OURS_HAS_JSON.contains(&command.name);
    let mut untried = Vec::new();
    for (is_tried, what) in [
        (seen.text, "text"),
        (seen.json || !has_json, "JSON"),
        (seen.failure, "failure"),
        (seen.read_back, "effect on disk, read back by the peer"),
    ] {
        if !is_tried {
            untried.push(format!("{}: {what}", command.name));
        }
    }
    untried
}

fn compare(driver: &'static str) {
    tool::require_root();
    let mut comparison = Comparison::new(driver);
    for line in SCRIPT {
        comparison.step(line);
    }
    for command in commands::all().filter(|command| command.grammar == Grammar::Peer) {
        if !surface::TRIED_ELSEWHERE.contains(&command.name) {
            let untried = untried(command, &comparison.seen);
            comparison.different.extend(untried);
        }
    }
    let different = &comparison.different;
    assert!(
        different.is_empty(),
        "{} of {} differ, or were not tried:\n{}",
        different.len(),
        SCRIPT.len(),
        different.join("\n")
    );
}

/// The peer has a flag in its configuration before it takes a staging directory, so it is no twin in this.
#[test]
fn what_a_staging_directory_held_is_read_by_the_peer() {
    tool::require_root();
    let peer = tool::find("containers-storage-newest");
    let mut twin = Twin::new(Path::new(env!("CARGO_BIN_EXE_strata")), "overlay");
    assert_eq!(twin.run(&["create-layer", "-i", "d5"]).code, 0);
    let said = twin.run(&["applydiff-using-staging-dir", "d5", "@/stage"]);
    assert_eq!((said.code, &*said.out, &*said.err), (0, "", ""));
    let said = twin.run_by(&peer, &["changes", "d5"]);
    assert_eq!(said.out, "Add \"/staged\"");
}

#[test]
fn every_command_says_what_the_peer_says_with_vfs() {
    compare("vfs");
}

#[test]
fn every_command_says_what_the_peer_says_with_overlay() {
    compare("overlay");
}

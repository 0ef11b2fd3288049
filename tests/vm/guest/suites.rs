//! The project's own tests, as the host built them, on the guest's kernel and file systems.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::disk::Kind;
use super::{quotas, report};
use crate::support::scratch::unmount_below;
use crate::support::tool::Tool;

/// Runs each `NAME@FILESYSTEM:FILTER...`: the test program `/in/tests/NAME`, or that part of it which the filters name
/// (`-PART` leaves a part out), with its temporary folders on that file system. `quotas` is a part of this program. Whether
/// all passed.
pub fn run(selections: &[String]) -> bool {
    let selections: Vec<_> = selections
        .iter()
        .map(|text| Selection::parse(text))
        .collect();
    let kinds: BTreeSet<_> = selections.iter().map(|one| one.kind.name()).collect();
    for kind in kinds {
        let kind = Kind::parse(kind);
        kind.make();
        kind.mount();
    }
    let mut passed = true;
    for selection in selections {
        passed &= match &*selection.name {
            "quotas" => quotas::run(selection.kind),
            _ => selection.run(),
        };
    }
    passed
}

struct Selection {
    name: String,
    kind: Kind,
    arguments: Vec<String>,
}

impl Selection {
    fn parse(text: &str) -> Self {
        let (place, filters) = text.split_once(':').unwrap_or((text, ""));
        let (name, kind) = place
            .split_once('@')
            .unwrap_or_else(|| panic!("{text}: not NAME@FILESYSTEM:FILTER"));
        let mut arguments = Vec::new();
        for filter in filters.split(',').filter(|filter| !filter.is_empty()) {
            match filter.strip_prefix('-') {
                Some(left_out) => arguments.extend(["--skip".to_owned(), left_out.to_owned()]),
                None => arguments.push(filter.to_owned()),
            }
        }
        Self {
            name: name.to_owned(),
            kind: Kind::parse(kind),
            arguments,
        }
    }

    fn run(&self) -> bool {
        let title = format!("{} on {}", self.name, self.kind.name());
        let folder = Path::new("/disk").join(self.kind.name()).join(&self.name);
        fs::create_dir(&folder).expect("a folder for temporary files can be made");
        let built = BuiltPlaces::bind(&folder);
        let path = format!("/out/{}-{}.log", self.name, self.kind.name());
        let log = File::create(&path).expect("a log can be made");
        let status = Command::new(Path::new("/in/tests").join(&self.name))
            .args(&self.arguments)
            .env("TMPDIR", &folder)
            .env("STRATA_BINARY", "/in/strata")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .current_dir("/")
            .status()
            .unwrap_or_else(|error| panic!("run {}: {error}", self.name));
        drop(built);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let (mut passed, mut failed) = counts(&text);
        if !status.success() && failed == 0 {
            (passed, failed) = (passed, 1);
        }
        if passed == 0 {
            failed += 1;
        }
        if failed > 0 {
            println!("{text}\nvm: {title} ended with {status}");
        }
        report::add(&title, passed, failed);
        failed == 0
    }
}

/// Paths that the test programs were built with, as long as one runs: cargo's folder for temporary files, which
/// `STRATA_BUILT_TMPDIR` names, is one of the disk, and `STRATA_BUILT_BINARY` leads to the program under test.
struct BuiltPlaces {
    temporary: PathBuf,
    binary: PathBuf,
}

impl BuiltPlaces {
    fn bind(folder: &Path) -> Self {
        let from = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .unwrap_or_else(|| panic!("{name} is not set: scripts/run-vm-tests sets it"))
        };
        let places = Self {
            temporary: from("STRATA_BUILT_TMPDIR"),
            binary: from("STRATA_BUILT_BINARY"),
        };
        let parent = places.binary.parent().expect("a program has a folder");
        fs::create_dir_all(parent).expect("a folder can be made");
        std::os::unix::fs::symlink("/in/strata", &places.binary).expect("a link can be made");
        // No link here: tests compare the paths with the mount table.
        fs::create_dir_all(&places.temporary).expect("a folder can be made");
        Tool::new("mount")
            .args(["--bind".as_ref(), folder, &places.temporary])
            .ok();
        places
    }
}

impl Drop for BuiltPlaces {
    fn drop(&mut self) {
        unmount_below(&self.temporary);
        drop(fs::remove_file(&self.binary));
    }
}

/// What the last line of a test program says: `test result: ok. 12 passed; 0 failed; 0 ignored; ...`. An ignored test
/// counts as failed: nothing may be ignored.
fn counts(text: &str) -> (u32, u32) {
    let line = text
        .lines()
        .rev()
        .find(|line| line.starts_with("test result:"));
    let number = |what: &str| -> u32 {
        let words: Vec<_> = line.unwrap_or_default().split([' ', ';']).collect();
        let at = words.iter().position(|word| *word == what);
        at.and_then(|at| words[at - 1].parse().ok()).unwrap_or(0)
    };
    (number("passed"), number("failed") + number("ignored"))
}

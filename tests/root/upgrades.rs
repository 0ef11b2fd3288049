//! Stores that earlier versions wrote are opened, listed, checked, mounted, changed and emptied by this one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::image;
use crate::support::plugin::{Settings, binary};
use crate::support::scratch::Scratch;
use crate::support::tool::{Ran, Tool, require_root};

/// What `scripts/keep-store` calls its objects.
const LAYERS: [char; 4] = ['1', '2', '3', '6'];
const IMAGE: char = '4';
const CONTAINER: char = '5';
const SPARE: char = '6';

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores")
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// A store of an earlier version, unpacked.
struct Kept {
    settings: Settings,
    /// Of each kind, its records as they were written.
    records: Vec<(&'static str, Vec<Value>)>,
    // Removed last.
    _scratch: Scratch,
}

impl Kept {
    fn unpack(archive: &Path, version: &str, storage_driver: &str) -> Self {
        require_root();
        let scratch = Scratch::new(&format!("upgrade-{version}"));
        let program = binary(env!("CARGO_BIN_EXE_strata"));
        let mut settings = Settings::below(scratch.path(), &program);
        settings.storage_driver = storage_driver.to_owned();
        Tool::new("tar")
            .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpJf"])
            .arg(archive)
            .arg("-C")
            .arg(&settings.graph)
            .ok();
        let records = ["layers", "images", "containers"].map(|kind| {
            let path = format!("{storage_driver}-{kind}/{kind}.json");
            let text = fs::read(settings.graph.join(path)).unwrap();
            (kind, serde_json::from_slice(&text).unwrap())
        });
        Self {
            settings,
            records: records.into(),
            _scratch: scratch,
        }
    }

    fn run(&self, words: &[&str]) -> Ran {
        Tool::at(&self.settings.binary)
            .args(self.settings.store_arguments())
            .args(words)
            .ok()
    }

    fn list(&self, kind: &str) -> Vec<Value> {
        let listed = self.run(&[kind, "--json"]).json();
        listed.as_array().cloned().unwrap_or_default()
    }

    fn ids(&self, kind: &str) -> BTreeSet<String> {
        let listed = self.list(kind);
        let ids = listed.iter().filter_map(|record| record["id"].as_str());
        ids.map(str::to_owned).collect()
    }

    fn mount(&self, key: &str) -> PathBuf {
        self.run(&["mount", key]).last_line().into()
    }

    /// All that its records say is understood.
    fn compare_records(&self) {
        for (kind, kept) in &self.records {
            let listed = self.list(kind);
            for record in kept {
                let found = listed.iter().find(|found| found["id"] == record["id"]);
                let found = found.unwrap_or_else(|| panic!("one of the {kind}: {record}"));
                for (key, value) in record.as_object().unwrap() {
                    assert_eq!(found.get(key), Some(value), "{key} of {record}");
                }
            }
        }
    }

    /// What it has is there as it was left.
    fn look(&self) {
        self.compare_records();
        assert!(
            self.ids("layers").is_superset(&LAYERS.map(id).into()),
            "layers are listed"
        );
        assert_eq!(self.ids("layers").len(), LAYERS.len() + 2);
        assert_eq!(self.ids("images").len(), 2);
        assert_eq!(self.ids("containers"), [id(CONTAINER)].into());
        self.run(&["check"]);
        for (key, name) in [(id(IMAGE), "example.com/kept:1"), (id(SPARE), "spare")] {
            assert_eq!(self.run(&["get-names", &key]).text(), name);
        }
        let metadata = self.run(&["metadata", "-q", &id(IMAGE)]).text();
        assert_eq!(metadata, "words of an image");
        for (command, key) in [("get-image-data", IMAGE), ("get-container-data", CONTAINER)] {
            assert_eq!(self.run(&[command, &id(key), "key"]).text(), "what is kept");
        }
        let layers = self.list("layers");
        for layer in layers
            .iter()
            .filter(|layer| layer["diff-digest"].is_string())
        {
            let stream = self.run(&["diff", "-u", layer["id"].as_str().unwrap()]);
            assert_eq!(
                image::digest(&stream.stdout),
                layer["diff-digest"].as_str().unwrap(),
                "the same stream: {layer}"
            );
        }
        self.look_inside();
    }

    fn look_inside(&self) {
        let root = self.mount("kept");
        let read = |name: &str| fs::read_to_string(root.join("data").join(name)).ok();
        for (name, content) in [
            ("kept", Some("kept\n")),
            ("other", Some("kept\n")),
            ("link", Some("kept\n")),
            ("owned", Some("owned\n")),
            ("note", Some("from the container\n")),
            ("removed", None),
            ("added", None),
            ("hidden/file", None),
        ] {
            assert_eq!(read(name).as_deref(), content, "{name}");
        }
        let owned = fs::metadata(root.join("data/owned")).unwrap();
        let data = strata::sys::Dir::open(root.join("data")).unwrap();
        let note = data.attribute("kept", b"user.note").unwrap();
        assert_eq!(note.as_deref(), Some(&b"one"[..]));
        assert_eq!(
            (owned.uid(), owned.gid(), owned.mode() & 0o7777),
            (1000, 1001, 0o4711)
        );
        self.run(&["unmount", "kept"]);
    }

    /// It is changed as one of this version is.
    fn change(&self) {
        for (image, file) in [
            ("example.com/kept:1", "added"),
            ("example.com/pulled:1", "pulled"),
        ] {
            self.run(&["create-container", "-n", "new", image]);
            let root = self.mount("new");
            assert!(root.join("data").join(file).exists(), "{file} of {image}");
            self.run(&["unmount", "new"]);
            self.run(&["delete-container", "new"]);
        }
        let path = self.settings.graph.with_file_name("value");
        fs::write(&path, "what is kept from now on").unwrap();
        let path = path.to_str().unwrap();
        self.run(&["set-image-data", "-f", path, &id(IMAGE), "key"]);
        let data = self.run(&["get-image-data", &id(IMAGE), "key"]).text();
        assert_eq!(data, "what is kept from now on");
        self.run(&["add-names", "-n", "more", &id(IMAGE)]);
        self.run(&["check"]);
    }

    /// Nothing of it is left when all is deleted.
    fn empty(&self) {
        self.run(&["delete-container", "kept"]);
        self.run(&["delete-image", "example.com/kept:1"]);
        self.run(&["delete-image", "example.com/pulled:1"]);
        self.run(&["delete-layer", "spare"]);
        for kind in ["layers", "images", "containers"] {
            assert_eq!(self.list(kind), [] as [Value; 0], "{kind} are left");
        }
        self.run(&["gc"]);
        let names = |path: &str| -> Vec<String> {
            let entries = fs::read_dir(self.settings.graph.join(path)).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        let home = match self.settings.storage_driver.as_str() {
            "vfs" => "vfs/dir",
            driver => driver,
        };
        let left: Vec<_> = names(home)
            .into_iter()
            .chain(names("strata/staging"))
            .filter(|name| name.len() == 64 || !name.ends_with(".lock"))
            .filter(|name| !["l", ".has-mount-program"].contains(&name.as_str()))
            .collect();
        assert_eq!(left, [] as [String; 0], "contents are left");
    }
}

#[test]
fn stores_of_earlier_versions_go_on() {
    let mut archives: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "xz"))
        .collect();
    archives.sort();
    assert!(archives.len() >= 2, "archives: {archives:?}");
    for archive in archives {
        let name = archive.file_name().unwrap().to_str().unwrap();
        let name = name.trim_end_matches(".tar.xz");
        let (version, storage_driver) = name.rsplit_once('-').unwrap();
        let kept = Kept::unpack(&archive, version, storage_driver);
        kept.look();
        kept.change();
        kept.empty();
    }
}

/// A release is not complete without its stores: scripts/keep-store.
#[test]
fn each_release_has_kept_its_stores() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md"));
    let text = text.unwrap();
    let released = text
        .lines()
        .filter_map(|line| line.strip_prefix("## [")?.split(']').next())
        .filter(|version| *version != "Unreleased");
    for version in released.chain(["first"]) {
        for driver in ["overlay", "vfs"] {
            let path = folder().join(format!("{version}-{driver}.tar.xz"));
            assert!(
                path.exists(),
                "{} is missing: scripts/keep-store",
                path.display()
            );
        }
    }
}

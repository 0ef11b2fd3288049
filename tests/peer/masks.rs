//! `force_mask`: layers whose files are of one mode on disk, made and read by Strata and by the newest containers-storage in
//! one graph root.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use strata::sys::Dir;

use crate::shared::binary;
use crate::support::scratch::{self, Scratch};
use crate::support::tool::{self, Ran, Tool};

const MASK: &str = "overlay.force_mask=shared";
const PROGRAM: &str = "overlay.mount_program=/usr/bin/fuse-overlayfs";
const ATTRIBUTE: &[u8] = b"user.containers.override_stat";
/// Who makes and who reads.
const BOTH: [&str; 2] = ["strata", "containers-storage-newest"];

struct Store {
    options: Vec<&'static str>,
    archive: Vec<u8>,
    scratch: Scratch,
}

impl Store {
    fn new(options: &[&'static str]) -> Self {
        tool::require_root();
        let scratch = Scratch::new("masks");
        let tree = scratch.dir("tree");
        let script = "mkdir -p bin secret; echo run > bin/tool; chown 7:8 bin/tool; chmod 4711 bin/tool; \
                      chmod 1770 secret; mkfifo -m 620 pipe; mknod -m 660 null c 1 3; mknod -m 600 disk b 8 1; \
                      ln -s tool bin/link; ln bin/tool bin/zhard; echo keep > secret/file; chmod 400 secret/file";
        Tool::new("sh").args(["-ec", script]).within(&tree).ok();
        let archive = Tool::new("tar")
            .args(["--numeric-owner", "--sort=name", "-c", "-C"])
            .arg(&tree)
            .args(["bin", "disk", "null", "pipe", "secret"])
            .ok()
            .stdout;
        Self {
            options: options.to_vec(),
            archive,
            scratch,
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Tool {
        let tool = match program {
            "strata" => Tool::at(&binary()),
            program => Tool::new(program),
        };
        let mut tool = tool
            .args(["--graph", &self.scratch.text("graph")])
            .args(["--run", &self.scratch.text("run")])
            .args(["--storage-driver", "overlay"]);
        for option in &self.options {
            tool = tool.args(["--storage-opt", option]);
        }
        tool.args(arguments)
    }

    fn first(&self, program: &str, arguments: &[&str]) -> String {
        let ran = self.run(program, arguments).input(self.archive.clone());
        ran.ok().text().lines().next().unwrap().to_owned()
    }

    fn diff_of(&self, layer: &str) -> PathBuf {
        self.scratch
            .path()
            .join("graph/overlay")
            .join(layer)
            .join("diff")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        scratch::unmount_below(self.scratch.path());
    }
}

/// Mode, owner, attribute and contents of all names in a folder, by the names.
fn seen(root: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, String, u64)> {
    let mut seen = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(folder) = ahead.pop() {
        let dir = Dir::open(&folder).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let stat = fs::symlink_metadata(entry.path()).unwrap();
            if stat.is_dir() {
                ahead.push(entry.path());
            }
            let value = dir.attribute(entry.file_name(), ATTRIBUTE).unwrap();
            let value = String::from_utf8(value.unwrap_or_default()).unwrap();
            let name = entry.path().strip_prefix(root).unwrap().to_owned();
            let facts = (stat.mode(), stat.uid(), stat.gid(), value, stat.rdev());
            seen.insert(name, facts);
        }
    }
    seen
}

#[test]
fn both_leave_the_same_on_disk_and_read_each_other() {
    let store = Store::new(&[MASK, PROGRAM]);
    let layers = BOTH.map(|program| store.first(program, &["import-layer"]));
    let [ours, theirs] = layers.each_ref().map(|layer| seen(&store.diff_of(layer)));
    assert_eq!(ours, theirs);
    assert_eq!(ours[Path::new("null")].3, "0:0:0660:char-1-3");
    assert_eq!(ours[Path::new("bin/tool")].3, "7:8:4711:file");
    for layer in &layers {
        for program in BOTH {
            let diff = store.run(program, &["diff", "-u", layer]).ok().stdout;
            assert!(diff == store.archive, "{program} tells what came in");
        }
    }

    // Each one's container, on the other's layer, seen by both.
    for (maker, layer) in BOTH.into_iter().zip(layers.iter().rev()) {
        let image = store.first(maker, &["create-image", layer]);
        let container = store.first(maker, &["create-container", &image]);
        for reader in BOTH {
            let mount = store.run(reader, &["mount", &container]).ok().last_line();
            let root = PathBuf::from(mount);
            // Debian's fuse-overlayfs 1.10 shows devices as empty files, and the attribute.
            let meant = |root: &Path| -> Vec<_> {
                let seen = seen(root).into_iter();
                seen.filter(|(name, _)| name != Path::new("bin/written"))
                    .map(|(name, (mode, uid, gid, ..))| (name, mode & 0o7777, uid, gid))
                    .collect()
            };
            let tree = meant(&store.scratch.path().join("tree"));
            assert_eq!(meant(&root), tree, "{reader} shows {maker}'s");
            fs::write(root.join("bin/written"), reader).unwrap();
            std::os::unix::fs::chown(root.join("bin/written"), Some(9), Some(9)).unwrap();
            store.run(reader, &["unmount", &container]).ok();
        }
        let listed = BOTH.map(|program| {
            let record = store.run("strata", &["container", "--json", &container]);
            let layer = record.ok().json()[0]["layer"].as_str().unwrap().to_owned();
            let diff = store.run(program, &["diff", "-u", &layer]).ok().stdout;
            let list = Tool::new("tar").args(["--numeric-owner", "-tvf", "-"]);
            list.input(diff).ok().text()
        });
        assert_eq!(listed[0], listed[1]);
        assert!(listed[0].contains("9/9"), "{}", listed[0]);
    }
    let checked = store.run("strata", &["check"]).ok();
    assert!(!checked.text().contains("damaged"), "{checked}");
}

#[test]
fn without_a_program_images_are_made_and_containers_refused() {
    let store = Store::new(&[MASK]);
    for program in BOTH {
        let layer = store.first(program, &["import-layer", "-r"]);
        let image = store.first(program, &["create-image", &layer]);
        let refused: Ran = store.run(program, &["create-container", &image]).output();
        assert_eq!(refused.code, 1, "{refused}");
        let words = "force_mask option for writeable layers is only supported with a mount_program";
        assert!(refused.stderr.contains(words), "{refused}");
        let diff = store.run("strata", &["diff", "-u", &layer]).ok().stdout;
        assert!(diff == store.archive);
    }
    store.run("strata", &["check"]).ok();
    // A file that is another than its header says is found, whatever it is on disk.
    let layers = store.run("strata", &["layers", "--json"]).ok().json();
    let layer = layers[0]["id"].as_str().unwrap();
    let diff = Dir::open(store.diff_of(layer)).unwrap();
    diff.set_attribute("null", ATTRIBUTE, b"0:0:0666:char-1-5")
        .unwrap();
    let found = store.run("strata", &["check"]).output();
    assert_ne!(found.code, 0, "{found}");
    assert!(format!("{found}").contains("mode:0660"), "{found}");
}

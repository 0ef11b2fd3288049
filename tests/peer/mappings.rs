//! Containers and layers with ID mappings: Strata and containers-storage, the oldest and the newest release, in one
//! graph root; with ID-mapped mounts and with copied owners.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::shared::{STORAGE_TOOLS, binary};
use crate::support::scratch::{self, Scratch};
use crate::support::tool::{self, Ran, Tool};

const DISABLE: &str = "_CONTAINERS_OVERLAY_DISABLE_IDMAP";
const UID_MAP: &str = "0:100000:70000";
const GID_MAP: &str = "0:200000:70000";
const MAPS: [&str; 4] = ["--uidmap", UID_MAP, "--gidmap", GID_MAP];
const STRATA: &str = "strata";

/// A store without an image, and an archive.
struct Store {
    driver: &'static str,
    options: &'static [&'static str],
    /// Owners are copied.
    copies: bool,
    archive: Vec<u8>,
    scratch: Scratch,
}

impl Store {
    fn new(driver: &'static str, copies: bool) -> Self {
        tool::require_root();
        let scratch = Scratch::new("mappings");
        let tree = scratch.dir("tree");
        fs::write(tree.join("program"), "program").unwrap();
        fs::write(tree.join("file"), "file").unwrap();
        chown(tree.join("program"), Some(5), Some(6)).unwrap();
        chown(tree.join("file"), Some(60_000), Some(7)).unwrap();
        Tool::new("chmod")
            .arg("4755")
            .arg(tree.join("program"))
            .ok();
        fs::hard_link(tree.join("program"), tree.join("same")).unwrap();
        let archive = Tool::new("tar")
            .args(["--numeric-owner", "-c", "-C"])
            .arg(&tree)
            .args(["file", "program", "same"])
            .ok()
            .stdout;
        Self {
            driver,
            options: &[],
            copies,
            archive,
            scratch,
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Tool {
        let tool = match program {
            STRATA => Tool::at(&binary()),
            program => Tool::new(program),
        };
        let tool = tool
            .args(["--graph", &self.scratch.text("graph")])
            .args(["--run", &self.scratch.text("run")])
            .args(["--storage-driver", self.driver])
            .args(self.options)
            .args(arguments);
        match self.copies {
            true => tool.env(DISABLE, "yes"),
            false => tool,
        }
    }

    fn first(&self, program: &str, arguments: &[&str]) -> String {
        let ran = self
            .run(program, arguments)
            .input(self.archive.clone())
            .ok();
        ran.text().lines().next().unwrap_or_default().to_owned()
    }

    fn record(&self, kind: &str, key: &str) -> Value {
        self.run(STRATA, &[kind, "--json", key]).ok().json()[0].take()
    }

    fn mount(&self, program: &str, key: &str) -> PathBuf {
        PathBuf::from(self.run(program, &["mount", key]).ok().last_line())
    }

    fn unmount(&self, program: &str, key: &str) {
        self.run(program, &["unmount", key]).ok();
    }

    /// The layer of a container.
    fn layer_of(&self, container: &str) -> String {
        let record = self.record("container", container);
        record["layer"].as_str().unwrap().to_owned()
    }

    fn delete(&self, containers: &[&str], image: &str) {
        for container in containers {
            self.run(STRATA, &["delete-container", container]).ok();
        }
        self.run(STRATA, &["delete-image", image]).ok();
        let left = self.run(STRATA, &["layers", "--json"]).ok().json();
        assert!(left.as_array().is_none_or(Vec::is_empty), "{left}");
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        scratch::unmount_below(self.scratch.path());
    }
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let path = path.as_ref();
    let stat = fs::symlink_metadata(path)
        .unwrap_or_else(|error| panic!("stat {}: {error}", path.display()));
    (stat.uid(), stat.gid())
}

fn assert_mapped(root: &Path, by: &str) {
    assert_eq!(owner(root.join("program")), (100_005, 200_006), "{by}");
    assert_eq!(owner(root.join("file")), (160_000, 200_007), "{by}");
    let program = fs::metadata(root.join("program")).unwrap();
    assert_eq!(program.mode() & 0o7777, 0o4755, "{by}");
    assert_eq!(owner(root.join("same")), (100_005, 200_006), "{by}");
}

/// Names and owners in an archive.
fn listed(ran: &Ran) -> Vec<(String, i64, i64)> {
    let mut reader = strata::archive::tar::Reader::new(&*ran.stdout);
    let mut members = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let name = String::from_utf8(entry.name).unwrap();
        members.push((name, entry.uid, entry.gid));
    }
    members
}

/// Each tool makes a container of its own from one image; every tool mounts, writes to and reads each.
fn containers_are_everybodys(store: &Store) {
    let tools = [STRATA, STORAGE_TOOLS[0], STORAGE_TOOLS[1]];
    let layer = store.first(STRATA, &["import-layer"]);
    let image = store.first(STRATA, &["create-image", "--name", "image", &layer]);
    let maps = json!({
        "uidmap": [{"container_id": 0, "host_id": 100_000, "size": 70_000}],
        "gidmap": [{"container_id": 0, "host_id": 200_000, "size": 70_000}],
    });
    for maker in tools {
        let arguments = ["create-container", "--name", maker];
        let container = store.first(maker, &[&arguments[..], &MAPS, &["image"]].concat());
        let record = store.record("container", &container);
        for key in ["uidmap", "gidmap"] {
            assert_eq!(record[key], maps[key], "{maker}");
        }
        let layer = store.record("layer", &store.layer_of(maker));
        // The oldest records them with the container alone where mounts show the owners.
        if maker != STORAGE_TOOLS[0] || store.driver == "vfs" {
            assert_eq!(layer["uidmap"], maps["uidmap"], "{maker}");
        }
        for user in tools {
            if is_beyond(store, user) {
                continue;
            }
            let root = store.mount(user, maker);
            assert_mapped(&root, &format!("{maker}'s container, mounted by {user}"));
            fs::write(root.join(user), user).unwrap();
            chown(root.join(user), Some(100_001), Some(200_002)).unwrap();
            store.unmount(user, maker);
        }
        let diff = store
            .run(STRATA, &["diff", "-u", &store.layer_of(maker)])
            .ok();
        for user in tools {
            let member = (user.to_owned(), 1, 2);
            assert!(
                is_beyond(store, user) || listed(&diff).contains(&member),
                "{maker}: {:?}",
                listed(&diff)
            );
        }
    }
    let mapped = store.record("image", &image)["mapped-layers"].clone();
    let count = mapped.as_array().map_or(0, Vec::len);
    let expected = usize::from(store.copies || store.driver == "vfs");
    assert_eq!(count, expected, "made once and shared: {mapped}");
    store.delete(&tools, &image);
}

/// The oldest knows no switch: it would use ID-mapped mounts over what was copied already. With a program it maps twice, also what
/// it and the newest have made.
fn is_beyond(store: &Store, tool: &str) -> bool {
    let is_mapped_twice = store.copies || !store.options.is_empty();
    is_mapped_twice && store.driver == "overlay" && tool == STORAGE_TOOLS[0]
}

#[test]
fn containers_that_mounts_map_are_everybodys() {
    containers_are_everybodys(&Store::new("overlay", false));
}

/// No copies are made either: whoever mounts passes the maps on, and what is written has the container's IDs on disk.
#[test]
fn containers_that_a_program_maps_are_everybodys() {
    let mut store = Store::new("overlay", false);
    store.options = &[
        "--storage-opt",
        "overlay.mount_program=/usr/bin/fuse-overlayfs",
    ];
    for program in [STRATA, STORAGE_TOOLS[1]] {
        let told = store.run(program, &["status"]).ok();
        assert!(told.stderr.contains("Supports shifting: true"), "{told}");
    }
    containers_are_everybodys(&store);
}

#[test]
fn containers_over_copies_are_everybodys_on_vfs() {
    containers_are_everybodys(&Store::new("vfs", false));
}

#[test]
fn a_copy_is_made_once_and_shared() {
    let store = Store::new("overlay", true);
    let newest = STORAGE_TOOLS[1];
    let layer = store.first(STRATA, &["import-layer"]);
    let image = store.first(STRATA, &["create-image", "--name", "image", &layer]);
    let makers = [STRATA, newest, "again"];
    for name in makers {
        let maker = if name == newest { newest } else { STRATA };
        let arguments = ["create-container", "--name", name];
        store.first(maker, &[&arguments[..], &MAPS, &["image"]].concat());
        for user in [STRATA, newest] {
            let root = store.mount(user, name);
            assert_mapped(&root, &format!("{name}, mounted by {user}"));
            store.unmount(user, name);
        }
    }
    let mapped = store.record("image", &image)["mapped-layers"].clone();
    assert_eq!(mapped.as_array().map(Vec::len), Some(1), "{mapped}");
    let copy = mapped[0].as_str().unwrap();
    for user in [STRATA, newest] {
        let diff = store.run(user, &["diff", "-u", copy]).ok();
        assert!(diff.stdout == store.archive, "{user}: byte for byte");
    }
    store.delete(&makers, &image);
}

/// A copy holds the whole tree, with other owners than the archives below say: `check` took both for damage, and its repair
/// would have deleted the image and its containers.
#[test]
fn a_copy_with_other_owners_is_in_order() {
    for driver in ["overlay", "vfs"] {
        let mut store = Store::new(driver, true);
        let lower = store.first(STRATA, &["import-layer"]);
        let tree = store.scratch.dir("upper");
        fs::write(tree.join("new"), "new").unwrap();
        fs::write(tree.join(".wh.file"), "").unwrap();
        store.archive = Tool::new("tar")
            .args(["--numeric-owner", "-c", "-C"])
            .arg(&tree)
            .args(["new", ".wh.file"])
            .ok()
            .stdout;
        let layer = store.first(STRATA, &["import-layer", &lower]);
        let image = store.first(STRATA, &["create-image", "--name", "image", &layer]);
        let arguments = ["create-container", "--name", "mapped"];
        store.first(STRATA, &[&arguments[..], &MAPS, &["image"]].concat());
        let mapped = store.record("image", &image)["mapped-layers"].clone();
        for user in [STRATA, STORAGE_TOOLS[1]] {
            let found = store.run(user, &["check"]).output();
            assert!(found.code == 0, "{driver}: {found}");
        }
        // A file that is changed is still found.
        let copy = mapped[0].as_str().unwrap();
        let content = match driver {
            "vfs" => format!("graph/vfs/dir/{copy}"),
            _ => format!("graph/overlay/{copy}/diff"),
        };
        let program = store.scratch.path().join(content).join("program");
        fs::write(program, "x").unwrap();
        let found = store.run(STRATA, &["check"]).output();
        assert!(
            found.code == 1 && found.text().contains("/program(size:7￫1"),
            "{driver}: {found}"
        );
        scratch::unmount_below(store.scratch.path());
    }
}

/// A container whose owners were copied is still the same where mounts could show them.
#[test]
fn what_was_copied_is_not_mapped_by_a_mount() {
    let mut store = Store::new("overlay", true);
    let layer = store.first(STRATA, &["import-layer"]);
    let image = store.first(STRATA, &["create-image", "--name", "image", &layer]);
    let arguments = [
        &["create-container", "--name", "one"][..],
        &MAPS,
        &["image"],
    ]
    .concat();
    store.first(STRATA, &arguments);
    store.copies = false;
    let root = store.mount(STRATA, "one");
    assert_mapped(&root, "with ID-mapped mounts");
    store.unmount(STRATA, "one");
    let arguments = [
        &["create-container", "--name", "two"][..],
        &MAPS,
        &["image"],
    ]
    .concat();
    store.first(STRATA, &arguments);
    let root = store.mount(STRATA, "two");
    assert_mapped(&root, "on the original layer");
    store.unmount(STRATA, "two");
    // Without them that one can't be seen as it should, and is not seen otherwise.
    store.copies = true;
    let ran = store.run(STRATA, &["mount", "two"]).output();
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.stderr.contains("can't be mapped"), "{ran}");
    store.delete(&["one", "two"], &image);
}

/// What the peer records of layers, and how it stores them, is what Strata does.
fn layers_are_stored_as_the_peer_does(driver: &'static str, copies: bool) {
    let store = Store::new(driver, copies);
    let mut seen: Vec<Vec<Value>> = Vec::new();
    for (maker, prefix) in [(STRATA, "s-"), (STORAGE_TOOLS[1], "p-")] {
        let id = |name: &str| format!("{prefix}{name}");
        let import = |name: &str, more: &[&str]| {
            let id = id(name);
            store.first(maker, &[&["import-layer", "--id", &id][..], more].concat());
            let record = store.record("layer", &id);
            let content = match driver {
                "vfs" => store.scratch.path().join("graph/vfs/dir").join(&id),
                _ => store
                    .scratch
                    .path()
                    .join("graph/overlay")
                    .join(&id)
                    .join("diff"),
            };
            let owners = ["program", "file"].map(|name| owner(content.join(name)));
            for reader in [STRATA, STORAGE_TOOLS[1]] {
                let diff = store.run(reader, &["diff", "-u", &id]).ok();
                assert!(diff.stdout == store.archive, "{id} by {reader}");
            }
            json!({
                "uidmap": record["uidmap"],
                "gidmap": record["gidmap"],
                "uidset": record["uidset"],
                "owners": owners,
            })
        };
        let base = id("base");
        let mapped = id("mapped");
        let host = ["--hostuidmap", "--hostgidmap"];
        seen.push(vec![
            import("base", &[]),
            import("mapped", &MAPS),
            import("over", &[&MAPS[..], &[&base]].concat()),
            import("users", &["--uidmap", UID_MAP, &base]),
            import("inherits", &[&mapped]),
            import("host", &[&host[..], &[&mapped]].concat()),
        ]);
    }
    assert_eq!(seen[0], seen[1]);
    let text = |prefix: &str| {
        let id = format!("{prefix}mapped");
        let by_us = store.run(STRATA, &["layer", &id]).ok().text();
        let by_them = store.run(STORAGE_TOOLS[1], &["layer", &id]).ok().text();
        assert_eq!(by_us, by_them);
    };
    text("s-");
    text("p-");
}

#[test]
fn layers_with_mappings_are_stored_as_the_peer_does() {
    layers_are_stored_as_the_peer_does("overlay", false);
}

#[test]
fn layers_with_copied_owners_are_stored_as_the_peer_does() {
    layers_are_stored_as_the_peer_does("overlay", true);
    layers_are_stored_as_the_peer_does("vfs", false);
}

#[test]
fn flags_that_make_no_sense_are_refused_in_the_peers_words() {
    let store = Store::new("overlay", false);
    for arguments in [
        &["--uidmap", "0:1"][..],
        &["--gidmap", "0:1:x"],
        &["--uidmap", "0:4294967296:1"],
        &["--uidmap", "0:1:10:5:100:10"],
        &["--uidmap", "0:1:10:20:5:10"],
        &["--subuidmap", "strata-nobody"],
        &["--hostuidmap", "--uidmap", "0:1:10"],
        &["--hostgidmap", "--gidmap", "0:1:10"],
    ] {
        let said = [STRATA, STORAGE_TOOLS[1]].map(|program| {
            let arguments = [&["create-container"][..], arguments, &[""]].concat();
            let ran = store.run(program, &arguments).output();
            assert_eq!(ran.code, 1, "{ran}");
            ran.stderr
        });
        assert_eq!(said[0], said[1]);
    }
}

/// Owners go from where one side has a container's IDs to where the other has them: `copy` took them for the host's.
#[test]
fn copies_are_owned_in_the_container() {
    for (driver, copies) in [("overlay", false), ("overlay", true), ("vfs", false)] {
        let store = Store::new(driver, copies);
        let layer = store.first(STRATA, &["import-layer"]);
        store.first(STRATA, &["create-image", "--name", "image", &layer]);
        let tree = store.scratch.dir("given");
        fs::write(tree.join("file"), "file").unwrap();
        chown(tree.join("file"), Some(3), Some(4)).unwrap();
        chown(&tree, Some(3), Some(4)).unwrap();
        let file = store.scratch.text("given/file");
        let other = ["--uidmap", "0:300000:70000", "--gidmap", "0:400000:70000"];
        let seen = [STRATA, STORAGE_TOOLS[1]].map(|tool| {
            let named = |which: &str, maps: &[&str]| {
                let name = format!("{which}-{tool}");
                let arguments = ["create-container", "--name", &name];
                let id = store.first(STRATA, &[&arguments[..], maps, &["image"]].concat());
                // The peer's takes layers alone.
                (id.clone(), store.layer_of(&id))
            };
            let (one, two) = (named("one", &MAPS), named("two", &other));
            let copy = |arguments: &[&str]| {
                store.run(tool, &[&["copy"][..], arguments].concat()).ok();
            };
            let at = |layer: &str, path: &str| format!("{layer}:{path}");
            copy(&["--chown", "5:6", &file, &at(&one.1, "/chowned")]);
            copy(&[&file, &at(&one.1, "/plain")]);
            copy(&[&store.scratch.text("given"), &at(&one.1, "/tree")]);
            copy(&[&at(&one.1, "/program"), &at(&two.1, "/moved")]);
            copy(&["-o", "9", &at(&one.1, "/program"), &at(&two.1, "/taken")]);
            let out = store.scratch.text(&format!("out-{tool}"));
            copy(&[&at(&one.1, "/program"), &out]);
            let root = store.mount(STRATA, &one.0);
            let mut owners: Vec<_> = ["chowned", "plain", "tree", "tree/file"]
                .map(|name| owner(root.join(name)))
                .to_vec();
            store.unmount(STRATA, &one.0);
            let root = store.mount(STRATA, &two.0);
            owners.extend(["moved", "taken"].map(|name| owner(root.join(name))));
            store.unmount(STRATA, &two.0);
            owners.push(owner(out));
            owners
        });
        let expected = [
            (100_005, 200_006),
            (100_003, 200_004),
            (100_003, 200_004),
            (100_003, 200_004),
            (300_005, 400_006),
            (300_009, 400_009),
            (5, 6),
        ];
        assert_eq!(seen[0], expected, "{driver}");
        let mut by_peer = expected;
        // What it makes for a tree is root's, without the mode of the tree too.
        by_peer[2] = (100_000, 200_000);
        assert_eq!(seen[1], by_peer, "{driver}: the peer");
        // A container by its name, which the peer does not take, is its layer.
        let name = format!("one-{STRATA}:/named");
        store
            .run(STRATA, &["copy", "--chown", "5:6", &file, &name])
            .ok();
        let root = store.mount(STRATA, &format!("one-{STRATA}"));
        assert_eq!(owner(root.join("named")), (100_005, 200_006));
        store.unmount(STRATA, &format!("one-{STRATA}"));
    }
}

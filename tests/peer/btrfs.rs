//! Subvolumes and snapshots, in one btrfs that Strata and the oldest containers-storage use in turn. The newest release is
//! built without that driver.

use std::path::{Path, PathBuf};

use strata::sys::mount;

use crate::shared::{Shared, binary};
use crate::support::disk::{Disk, FileSystem};
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

const STRATA: &str = "strata";

/// A store on a file system of its own, in mounts that end with this thread.
struct Place {
    disk: Disk,
    scratch: Scratch,
}

impl Place {
    fn new() -> Self {
        tool::require_root();
        mount::enter_private_namespace().unwrap();
        let scratch = Scratch::new("peer-btrfs");
        Self {
            disk: Disk::below(scratch.path(), FileSystem::Btrfs),
            scratch,
        }
    }

    fn graph(&self) -> PathBuf {
        self.disk.path().join("graph")
    }

    fn run(&self, who: &str, arguments: &[&str]) -> Tool {
        let program = match who {
            STRATA => binary(),
            _ => tool::find(who),
        };
        Tool::at(&program)
            .arg("-g")
            .arg(self.graph())
            .arg("-R")
            .arg(self.scratch.path().join("run"))
            .args(["-s", "btrfs"])
            .args(arguments)
    }

    fn id(&self, who: &str, arguments: &[&str]) -> String {
        let text = self.run(who, arguments).ok().text();
        text.lines().next().unwrap().to_owned()
    }

    fn mount(&self, who: &str, key: &str) -> PathBuf {
        self.run(who, &["mount", key]).ok().last_line().into()
    }
}

fn layers_go_from_hand_to_hand(maker: &str, user: &str) {
    let place = Place::new();
    let base = place.id(maker, &["create-layer"]);
    let root = place.mount(maker, &base);
    std::fs::write(root.join("from-base"), maker).unwrap();
    place.run(maker, &["unmount", &base]).ok();
    let child = place.id(user, &["create-layer", &base]);
    let root = place.mount(user, &child);
    assert_eq!(root, place.graph().join("btrfs/subvolumes").join(&child));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&root.join("from-base")), maker);
    std::fs::write(root.join("from-child"), user).unwrap();
    place.run(user, &["unmount", &child]).ok();
    let grandchild = place.id(maker, &["create-layer", &child]);
    let root = place.mount(maker, &grandchild);
    assert_eq!(read(&root.join("from-child")), user);
    place.run(maker, &["unmount", &grandchild]).ok();
    for who in [maker, user] {
        assert_eq!(
            Shared::ids(&place.run(who, &["layers", "--json"]).ok()).len(),
            3,
            "{who}"
        );
        let changes = place.run(who, &["changes", &child]).ok().text();
        assert!(changes.contains("/from-child"), "{changes}");
    }
    assert_eq!(
        place.run(maker, &["delete-layer", &base]).output().code,
        1,
        "it has children"
    );
    place.run(user, &["delete-layer", &grandchild]).ok();
    place.run(maker, &["delete-layer", &child]).ok();
    place.run(user, &["delete-layer", &base]).ok();
    let left = std::fs::read_dir(place.graph().join("btrfs/subvolumes"));
    assert_eq!(left.unwrap().count(), 0);
}

#[test]
fn the_oldest_uses_subvolumes_of_strata() {
    layers_go_from_hand_to_hand(STRATA, "containers-storage");
}

#[test]
fn strata_uses_subvolumes_of_the_oldest() {
    layers_go_from_hand_to_hand("containers-storage", STRATA);
}

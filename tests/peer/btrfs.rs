//! Subvolumes and snapshots, in one btrfs that Strata and the oldest containers-storage use in turn. The newest release is
//! built without that driver.

use std::path::{Path, PathBuf};

use strata::sys::mount;

use crate::shared::{Shared, binary};
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

const STRATA: &str = "strata";

/// A store on a file system of its own, in mounts that end with this thread.
struct Disk {
    scratch: Scratch,
}

impl Disk {
    fn new() -> Self {
        tool::require_root();
        mount::enter_private_namespace().unwrap();
        let scratch = Scratch::new("peer-btrfs");
        let (image, path) = (scratch.path().join("image"), scratch.path().join("disk"));
        std::fs::File::create(&image)
            .unwrap()
            .set_len(512 << 20)
            .unwrap();
        Tool::new("mkfs.btrfs").arg("-q").arg(&image).ok();
        std::fs::create_dir(&path).unwrap();
        Tool::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&path)
            .ok();
        Self { scratch }
    }

    fn graph(&self) -> PathBuf {
        self.scratch.path().join("disk/graph")
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
    let disk = Disk::new();
    let base = disk.id(maker, &["create-layer"]);
    let place = disk.mount(maker, &base);
    std::fs::write(place.join("from-base"), maker).unwrap();
    disk.run(maker, &["unmount", &base]).ok();
    let child = disk.id(user, &["create-layer", &base]);
    let place = disk.mount(user, &child);
    assert_eq!(place, disk.graph().join("btrfs/subvolumes").join(&child));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&place.join("from-base")), maker);
    std::fs::write(place.join("from-child"), user).unwrap();
    disk.run(user, &["unmount", &child]).ok();
    let grandchild = disk.id(maker, &["create-layer", &child]);
    let place = disk.mount(maker, &grandchild);
    assert_eq!(read(&place.join("from-child")), user);
    disk.run(maker, &["unmount", &grandchild]).ok();
    for who in [maker, user] {
        assert_eq!(
            Shared::ids(&disk.run(who, &["layers", "--json"]).ok()).len(),
            3,
            "{who}"
        );
        let changes = disk.run(who, &["changes", &child]).ok().text();
        assert!(changes.contains("/from-child"), "{changes}");
    }
    assert_eq!(
        disk.run(maker, &["delete-layer", &base]).output().code,
        1,
        "it has children"
    );
    disk.run(user, &["delete-layer", &grandchild]).ok();
    disk.run(maker, &["delete-layer", &child]).ok();
    disk.run(user, &["delete-layer", &base]).ok();
    let left = std::fs::read_dir(disk.graph().join("btrfs/subvolumes"));
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

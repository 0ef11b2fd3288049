//! The volume's own mount: what it allows, and what happens to it while a process is in it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tonic::Code;

use super::node::Node;
use crate::support::plugin::{Wish, inline_handle};

impl Node {
    /// The only volume's own mount.
    fn own_mount(&self) -> PathBuf {
        let mut places = fs::read_dir(self.settings.run.join("volumes")).unwrap();
        places.next().unwrap().unwrap().path()
    }

    fn claim(&self) -> Wish {
        let made = self.kubelet.create("claim", &[]).unwrap();
        let mut wish = Wish::inline(&made.volume_id, &self.settings.target("pod", "data"), None);
        wish.attributes = made.volume_context.into_iter().collect();
        wish
    }
}

/// Options of the mount at `path`.
fn options(path: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4) == path.to_str())
        .unwrap_or_else(|| panic!("{} is mounted", path.display()));
    let options = line.split(' ').nth(5).unwrap();
    options.split(',').map(str::to_owned).collect()
}

#[test]
fn a_volume_gives_neither_devices_nor_set_id_bits_unless_a_target_asks_for_them() {
    let node = Node::new("held");
    let target = node.settings.target("pod", "data");
    let wish = Wish::inline(&inline_handle("one"), &target, None);
    node.kubelet.publish(&wish).unwrap();
    let has = |path: &Path, option: &str| options(path).iter().any(|found| found == option);
    for path in [&node.own_mount(), &target] {
        assert!(has(path, "nodev") && has(path, "nosuid"), "{path:?}");
    }
    node.kubelet.unpublish(&wish.volume, &target).unwrap();

    let wish = wish.with("mountFlags", "suid");
    for _ in 0..2 {
        node.kubelet.publish(&wish).unwrap();
    }
    assert!(has(&node.own_mount(), "nosuid"));
    assert!(has(&target, "nodev") && !has(&target, "nosuid"));
    node.kubelet.unpublish(&wish.volume, &target).unwrap();
}

#[test]
fn a_claims_mount_is_not_taken_away_from_under_a_process() {
    let node = Node::new("held");
    let wish = node.claim();
    node.kubelet.publish(&wish).unwrap();
    let held = File::create(node.own_mount().join("note")).unwrap();
    let status = node
        .kubelet
        .unpublish(&wish.volume, &wish.target)
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("in use"), "{status:?}");
    drop(held);
    node.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    assert_eq!(
        fs::read_dir(node.settings.run.join("volumes"))
            .unwrap()
            .count(),
        0
    );
}

/// The kernel would mount a second overlay over the same files, with a warning in its log and torn files.
#[test]
fn a_claim_is_not_mounted_a_second_time_while_a_process_is_in_its_last_mount() {
    let node = Node::new("held");
    let wish = node.claim();
    node.kubelet.publish(&wish).unwrap();
    fs::write(wish.target.join("note"), "kept").unwrap();
    let held = File::open(wish.target.join("note")).unwrap();
    // The target's mount goes out of sight, and lives on in that file.
    node.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    let status = node.kubelet.publish(&wish).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("in use"), "{status:?}");
    drop(held);
    node.kubelet.publish(&wish).unwrap();
    assert_eq!(
        fs::read_to_string(wish.target.join("note")).unwrap(),
        "kept"
    );
    node.kubelet.unpublish(&wish.volume, &wish.target).unwrap();
}

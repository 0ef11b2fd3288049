//! Directories that a layer has members in and no entry for: they stay what the layers below made of them, however
//! the layer came in, and the newest peer finds nothing changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::shared::binary;
use crate::support::image::{Layer, write_layout};
use crate::support::scratch::{Scratch, unmount_below};
use crate::support::tool::{self, Ran, Tool};

/// When everything in the layers was made; no test runs in that second.
const MADE: i64 = 1_700_000_000;

fn layers() -> [Layer; 3] {
    let lowest = Layer::new()
        .member("tmp/", b'5', 0o1777, &[], "")
        .member("srv/", b'5', 0o750, &[], "")
        .member("srv/deep/", b'5', 0o2711, &[], "")
        .file("srv/deep/gone", "deleted above")
        .file("srv/deep/stays", "there to the end");
    let middle = Layer::new()
        .file("tmp/file", "in a directory for all")
        .whiteout("srv/deep/gone");
    let top = Layer::new().file("srv/deep/more", "in two of them");
    [lowest, middle, top]
}

/// A store of one driver.
struct Store {
    scratch: Scratch,
    driver: &'static str,
}

impl Store {
    fn new(driver: &'static str) -> Self {
        tool::require_root();
        let scratch = Scratch::new("implied");
        Self { scratch, driver }
    }

    fn on(&self, tool: Tool, arguments: &[&str]) -> Ran {
        tool.args(["--graph", &self.scratch.text("graph")])
            .args(["--run", &self.scratch.text("run")])
            .args(["--storage-driver", self.driver])
            .args(arguments)
            .ok()
    }

    fn strata(&self, arguments: &[&str]) -> Ran {
        self.on(Tool::at(&binary()), arguments)
    }

    fn pull(&self, tag: &str, layers: &[Layer]) {
        let layout = self.scratch.path().join(format!("layout-{tag}"));
        write_layout(&layout, tag, layers);
        self.strata(&["pull", "-q", &format!("oci:{}:{tag}", layout.display())]);
    }

    fn file(&self, name: &str, layer: &Layer) -> String {
        let path = self.scratch.path().join(name);
        fs::write(&path, layer.tar()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What a container sees whose layer is over `layer`, or that of the image `layer`.
    fn assert_seen(&self, layer: &str) {
        let container = self.strata(&["create-container", layer]).last_line();
        let root = PathBuf::from(self.strata(&["mount", &container]).last_line());
        assert_seen(&root);
        self.strata(&["unmount", &container]);
        self.strata(&["delete-container", &container]);
    }

    fn assert_checked(&self) {
        assert_eq!(self.strata(&["check"]).text(), "");
        let peer = Tool::new("containers-storage-newest");
        assert_eq!(self.on(peer, &["check"]).text(), "");
        unmount_below(self.scratch.path());
    }
}

fn assert_seen(root: &Path) {
    let seen = |name: &str| {
        let found = fs::symlink_metadata(root.join(name)).unwrap();
        (found.mode() & 0o7777, found.mtime())
    };
    assert_eq!(seen("tmp"), (0o1777, MADE));
    assert_eq!(seen("srv"), (0o750, MADE));
    assert_eq!(seen("srv/deep"), (0o2711, MADE));
    assert!(!root.join("srv/deep/gone").exists());
    for name in ["tmp/file", "srv/deep/stays", "srv/deep/more"] {
        assert_eq!(seen(name), (0o644, MADE));
    }
}

#[test]
fn a_pull_keeps_them_side_by_side_and_over_what_is_there() {
    for driver in ["overlay", "vfs"] {
        let whole = Store::new(driver);
        whole.pull("all", &layers());
        whole.assert_seen("localhost/layout-all:all");
        whole.assert_checked();

        let parts = Store::new(driver);
        for count in 1..=3 {
            parts.pull(&format!("part{count}"), &layers()[..count]);
        }
        parts.assert_seen("localhost/layout-part3:part3");
        parts.assert_checked();
    }
}

#[test]
fn an_import_and_an_applied_diff_keep_them() {
    for driver in ["overlay", "vfs"] {
        let store = Store::new(driver);
        let [lowest, middle, top] = layers();
        let lowest = store.file("lowest", &lowest);
        let first = store.strata(&["import-layer", "-f", &lowest]).last_line();
        let middle = store.file("middle", &middle);
        let second = store
            .strata(&["import-layer", "-f", &middle, &first])
            .last_line();
        let third = store.strata(&["create-layer", &second]).last_line();
        let top = store.file("top", &top);
        store.strata(&["applydiff", "-f", &top, &third]);
        store.strata(&["create-image", "--name", "made", &third]);
        store.assert_seen("made");
        store.assert_checked();
    }
}

#[test]
fn an_import_for_other_owners_moves_their_owner() {
    let store = Store::new("overlay");
    let [lowest, middle, top] = layers();
    let lowest = store.file("lowest", &lowest);
    let mut layer = store.strata(&["import-layer", "-f", &lowest]).last_line();
    for (name, archive) in [("middle", &middle), ("top", &top)] {
        let archive = store.file(name, archive);
        let maps = ["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"];
        let import = [&["import-layer", "-f", &archive], &maps[..], &[&layer]].concat();
        let mut tool = Tool::at(&binary());
        tool = tool.env("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes");
        layer = store.on(tool, &import).last_line();
    }
    let tree = store
        .scratch
        .path()
        .join(format!("graph/overlay/{layer}/diff"));
    for (name, mode) in [("srv", 0o750), ("srv/deep", 0o2711)] {
        let found = fs::symlink_metadata(tree.join(name)).unwrap();
        assert_eq!(
            (found.mode() & 0o7777, found.mtime()),
            (mode, MADE),
            "{name}"
        );
        assert_eq!((found.uid(), found.gid()), (200_000, 200_000), "{name}");
    }
}

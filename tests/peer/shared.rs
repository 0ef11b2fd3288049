//! One graph root that Strata and its peers use in turn.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::image::{self, Built};
use crate::support::plugin::{self, Settings};
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Ran, Tool};

/// The two releases of containers-storage that bound the others.
pub const STORAGE_TOOLS: [&str; 2] = ["containers-storage", "containers-storage-newest"];

/// The binary under test.
pub fn binary() -> PathBuf {
    plugin::binary(env!("CARGO_BIN_EXE_strata"))
}

/// A store, a registry with one image, and everybody who works on the store.
#[derive(Debug)]
pub struct Shared {
    /// Kept for what its end takes with it; fields drop in this order: the registry before its folder.
    _registry: Registry,
    pub reference: String,
    pub built: Built,
    pub settings: Settings,
    pub scratch: Scratch,
}

impl Shared {
    pub fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("peer");
        let layout = scratch.path().join("layout");
        let built = image::write_busybox_layout(&layout, "one");
        let registry = Registry::start(&scratch.dir("registry"));
        registry.push(&layout, "test/busybox", "one");
        Self {
            reference: registry.reference("test/busybox", "one"),
            _registry: registry,
            built,
            settings: Settings::below(scratch.path(), &binary()),
            scratch,
        }
    }

    /// A command of Strata on the store.
    pub fn strata(&self, arguments: &[&str]) -> Tool {
        Tool::at(&self.settings.binary)
            .args(self.settings.store_arguments())
            .args(arguments)
    }

    /// A command of one of [`STORAGE_TOOLS`] on the store.
    pub fn storage(&self, program: &str, arguments: &[&str]) -> Tool {
        Tool::new(program)
            .args(self.settings.store_arguments())
            .args(arguments)
    }

    pub fn podman(&self, arguments: &[&str]) -> Tool {
        self.engine("podman")
            .args(["--cgroup-manager", "cgroupfs", "--runtime", "runc"])
            .args(["--tmpdir", &self.scratch.text("podman")])
            .args(["--events-backend", "none"])
            .args(arguments)
    }

    pub fn buildah(&self, arguments: &[&str]) -> Tool {
        self.engine("buildah").args(arguments)
    }

    fn engine(&self, program: &str) -> Tool {
        Tool::new(program)
            .arg("--root")
            .arg(&self.settings.graph)
            .arg("--runroot")
            .arg(&self.settings.run)
            .args(["--storage-driver", "overlay"])
    }

    pub fn skopeo(&self, arguments: &[&str]) -> Tool {
        Tool::new("skopeo").args(arguments)
    }

    /// What skopeo calls an image of the store.
    pub fn skopeo_reference(&self, name: &str) -> String {
        format!(
            "containers-storage:[overlay@{}+{}]{name}",
            self.settings.graph.display(),
            self.settings.run.display()
        )
    }

    /// Strata pulls the image; its ID.
    pub fn pull(&self) -> String {
        let id = self
            .strata(&["pull", "--quiet", &self.reference])
            .ok()
            .last_line();
        assert_eq!(id, self.built.id, "the ID is the digest of the config");
        id
    }

    /// The IDs that a listing command prints as JSON, sorted.
    pub fn ids(ran: &Ran) -> Vec<String> {
        let listed = ran.json();
        let mut ids: Vec<_> = listed
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(|record| record["id"].as_str().expect("an ID").to_owned())
            .collect();
        ids.sort();
        ids
    }

    /// Nothing is left: neither by the records nor on the disk.
    pub fn assert_empty(&self) {
        for kind in ["layers", "images", "containers"] {
            let left = Self::ids(&self.strata(&[kind, "--json"]).ok());
            assert!(left.is_empty(), "{kind} left: {left:?}");
        }
        let home = self.settings.graph.join("overlay");
        let left: Vec<_> = fs::read_dir(&home)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.len() == 64)
            .collect();
        assert!(left.is_empty(), "layer directories left: {left:?}");
        let links = fs::read_dir(home.join("l")).map_or(0, Iterator::count);
        assert_eq!(links, 0, "short links left");
    }

    /// The newest peer finds nothing wrong, on a copy: its check unmounts whatever is mounted.
    pub fn assert_checked(&self) {
        let copy = self.scratch.path().join("copy");
        Tool::new("cp")
            .args(["-a", "--one-file-system"])
            .arg(&self.settings.graph)
            .arg(&copy)
            .ok();
        Tool::new("containers-storage-newest")
            .arg("--graph")
            .arg(&copy)
            .arg("--run")
            .arg(self.scratch.path().join("copy-run"))
            .args(["--storage-driver", "overlay", "check"])
            .ok();
        crate::support::scratch::unmount_below(&copy);
        fs::remove_dir_all(&copy).unwrap();
    }
}

/// What the image's files say in a mounted view of it.
pub fn assert_is_the_image(root: &Path) {
    let text = |path: &str| {
        let path = root.join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
    };
    assert_eq!(text("data/greeting"), "hello from layer two\n");
    assert_eq!(text("data/added"), "added by layer three\n");
    assert_eq!(text("data/linked"), "added by layer three\n");
    assert_eq!(text("data/large").len(), 300_000);
    assert!(!root.join("data/removed").exists(), "the whiteout holds");
    assert_eq!(
        fs::read(root.join("bin/busybox")).unwrap(),
        image::busybox()
    );
}

/// The tar streams that `diff` gives for the image's layers, lowest first, have the layers' diff IDs.
pub fn assert_diffs_are_exact(shared: &Shared, diff: impl Fn(&str) -> Tool) {
    let layers = shared.strata(&["layers", "--json"]).ok().json();
    for diff_id in &shared.built.diff_ids {
        let layer = layers
            .as_array()
            .unwrap()
            .iter()
            .find(|layer| layer["diff-digest"] == *diff_id)
            .unwrap_or_else(|| panic!("no layer of {diff_id}: {layers}"));
        let stream = diff(layer["id"].as_str().unwrap()).ok().stdout;
        assert_eq!(&image::digest(&stream), diff_id);
    }
}

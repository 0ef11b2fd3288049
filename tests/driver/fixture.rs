//! A store's roots with a driver on them, and layers made through the driver alone.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use strata::archive::Whiteouts;
use strata::store::driver::{
    self, Driver, DriverError, DriverKind, MountOptions, PrepareOptions, Roots,
};
use strata::sys::{Dir, mount};
use tempfile::TempDir;

use crate::places::{Disk, FileSystem};

/// Where homes are made, if not beside the build: see the module `places`.
pub const PLACE: &str = "STRATA_TEST_PLACE";

pub struct Home {
    pub driver: Box<dyn Driver>,
    pub kind: DriverKind,
    pub staging: Dir,
    pub graph: PathBuf,
    pub run: PathBuf,
    options: Vec<String>,
    additional: Vec<PathBuf>,
    next: Cell<u32>,
    folder: TempDir,
    /// The file system that the folder is on, made for this home.
    disk: Option<Disk>,
}

/// Mounts need root; and this thread gets mounts that end with it.
pub fn enter() {
    assert!(
        rustix::process::geteuid().is_root(),
        "tests of drivers mount: run them as root, e.g. `sudo -E cargo test --test driver`"
    );
    mount::enter_private_namespace().unwrap();
}

fn open(
    kind: DriverKind,
    graph: &Path,
    run: &Path,
    options: &[String],
    additional: &[PathBuf],
    no_id_mapped_mounts: bool,
) -> Result<Box<dyn Driver>, DriverError> {
    let (graph_dir, run_dir) = (Dir::open(graph).unwrap(), Dir::open(run).unwrap());
    let roots = Roots {
        graph: &graph_dir,
        graph_path: graph,
        run: &run_dir,
        run_path: run,
        additional: additional.to_vec(),
        no_id_mapped_mounts,
        is_read_only: false,
        is_for_images: false,
    };
    driver::open(kind, &roots, options)
}

impl Home {
    pub fn new(kind: DriverKind) -> Self {
        Self::with(kind, "graph", &[], &[])
    }

    /// An overlay home, in mounts of its own.
    pub fn overlay() -> Self {
        enter();
        Self::new(DriverKind::Overlay)
    }

    pub fn with(kind: DriverKind, graph: &str, options: &[&str], additional: &[PathBuf]) -> Self {
        if kind != DriverKind::Vfs {
            enter();
        }
        let mut disk = None;
        let place = match std::env::var_os(PLACE) {
            Some(place) => place.into(),
            None if kind == DriverKind::Btrfs => {
                disk.insert(Disk::new(FileSystem::Btrfs)).path().to_owned()
            }
            // Beside the build: /tmp may be a file system without attributes.
            None => env!("CARGO_TARGET_TMPDIR").into(),
        };
        let mut home = Self::build(kind, &place, graph, options, additional);
        home.disk = disk;
        home
    }

    /// A home in a folder of `place`.
    pub fn at(kind: DriverKind, place: &Path) -> Self {
        Self::build(kind, place, "graph", &[], &[])
    }

    fn build(
        kind: DriverKind,
        place: &Path,
        graph: &str,
        options: &[&str],
        additional: &[PathBuf],
    ) -> Self {
        let folder = tempfile::tempdir_in(place).unwrap();
        let (graph, run) = (folder.path().join(graph), folder.path().join("run"));
        fs::create_dir_all(graph.join("staging")).unwrap();
        fs::create_dir(&run).unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Self {
            driver: open(kind, &graph, &run, &options, additional, false).unwrap(),
            kind,
            staging: Dir::open(graph.join("staging")).unwrap(),
            graph,
            run,
            options,
            additional: additional.to_vec(),
            next: Cell::new(0),
            folder,
            disk: None,
        }
    }

    /// The same roots as another process would open them.
    pub fn reopen(&mut self) {
        self.driver = self.try_reopen().unwrap();
    }

    /// Opens the home anew, for a driver that may not show other owners by mounts.
    pub fn forbid_mapping(&mut self) {
        let (options, additional) = (&self.options, &self.additional);
        let opened = open(self.kind, &self.graph, &self.run, options, additional, true);
        self.driver = opened.unwrap();
    }

    pub fn try_reopen(&self) -> Result<Box<dyn Driver>, DriverError> {
        open(
            self.kind,
            &self.graph,
            &self.run,
            &self.options,
            &self.additional,
            false,
        )
    }

    /// A driver with other options in a graph root of its own, beside this one.
    pub fn open_beside(&self, options: &[&str]) -> Result<Box<dyn Driver>, DriverError> {
        let graph = self.aside("beside");
        fs::create_dir_all(&graph).unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        open(self.kind, &graph, &self.run, &options, &[], false)
    }

    /// A path outside the store.
    pub fn aside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The directory of an overlay layer.
    pub fn layer_path(&self, id: &str) -> PathBuf {
        self.graph.join("overlay").join(id)
    }

    fn name(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("layer-{}", self.next.get())
    }

    /// Prepares a layer, fills it, and gives its name in the staging area.
    pub fn try_prepare(
        &self,
        parent: Option<&str>,
        fill: impl FnOnce(&Path),
    ) -> Result<String, DriverError> {
        self.try_prepare_as(parent, &PrepareOptions::default(), fill)
    }

    /// As [`Home::try_prepare`], a layer of the kind that the options ask for.
    pub fn try_prepare_as(
        &self,
        parent: Option<&str>,
        options: &PrepareOptions,
        fill: impl FnOnce(&Path),
    ) -> Result<String, DriverError> {
        let name = self.name();
        self.staging.create_dir(&name, 0o700).unwrap();
        let at = self.staging.open_dir(&name).unwrap();
        self.driver.prepare(&at, parent, options)?;
        fill(self.driver.prepared_content(&at).unwrap().path());
        Ok(name)
    }

    pub fn layer_with(&self, id: &str, parent: Option<&str>, fill: impl FnOnce(&Path)) {
        let name = self.try_prepare(parent, fill).unwrap();
        self.driver.adopt(&self.staging, &name, id).unwrap();
        assert!(!self.graph.join("staging").join(name).exists());
    }

    /// A layer with these files.
    pub fn layer(&self, id: &str, parent: Option<&str>, files: &[(&str, &str)]) {
        self.layer_with(id, parent, |root| {
            for (path, contents) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, contents).unwrap();
            }
        });
    }

    /// A chain `prefix0` … of this many layers; `prefix0` has the file `base`.
    pub fn chain(&self, prefix: &str, len: usize) -> String {
        let mut parent: Option<String> = None;
        for number in 0..len {
            let id = format!("{prefix}{number}");
            let files: &[(&str, &str)] = if number == 0 {
                &[("base", "deep")]
            } else {
                &[]
            };
            self.layer(&id, parent.as_deref(), files);
            parent = Some(id);
        }
        parent.unwrap()
    }

    pub fn mount(&self, id: &str) -> PathBuf {
        self.mount_with(id, &MountOptions::default()).unwrap()
    }

    pub fn mount_with(&self, id: &str, options: &MountOptions) -> Result<PathBuf, DriverError> {
        self.driver
            .mount(id, &self.driver.default_mount_point(id), options)
    }

    pub fn unmount(&self, id: &str) {
        self.driver
            .unmount(id, &self.driver.default_mount_point(id))
            .unwrap();
    }

    pub fn discard(&self, id: &str) -> bool {
        let name = self.name();
        self.driver.discard(id, &self.staging, &name).unwrap()
    }
}

/// Deletes `path` in a layer's contents as unpacking an archive would.
pub fn delete(driver: &dyn Driver, root: &Path, path: &str) {
    match driver.whiteouts() {
        Whiteouts::Apply => fs::remove_file(root.join(path)).unwrap(),
        Whiteouts::Files => {
            let path = root.join(path);
            let name = path.file_name().unwrap().to_str().unwrap();
            fs::write(path.with_file_name(format!(".wh.{name}")), "").unwrap();
        }
        Whiteouts::Overlay { .. } => {
            let dir = Dir::open(root).unwrap();
            let device = rustix::fs::FileType::CharacterDevice;
            dir.create_node(path, device, 0, (0, 0)).unwrap();
        }
    }
}

pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

pub fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

//! Limits of what containers may write, on file systems with project quotas in force.

use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use strata::store::driver::{self, Driver, DriverKind, Limits, PrepareOptions, Roots};
use strata::sys::Dir;
use strata::sys::quota::{Project, ProjectLimit};

use super::disk::Kind;
use super::report;
use crate::support::scratch::unmount_below;
use crate::support::tool::{Ran, Tool};

const MIB: u64 = 1 << 20;

/// Tries all of it on the file system, which is mounted; whether it passed.
pub fn run(kind: Kind) -> bool {
    let tests: [(&str, fn(&Store)); 6] = [
        ("size", a_container_may_write_so_much_and_no_more),
        ("inodes", a_container_may_make_so_many_files),
        ("own", a_layer_may_have_a_limit_of_its_own),
        ("projects", every_container_is_a_project_of_the_home),
        ("copies", what_is_copied_for_other_owners_does_not_count),
        ("administrator", an_administrators_project_stays_one),
    ];
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests {
        let store = Store::new(kind, name);
        let result = catch_unwind(AssertUnwindSafe(|| test(&store)));
        println!("vm: quotas: {name} on {}: {}", kind.name(), result.is_ok());
        match result {
            Ok(()) => passed += 1,
            Err(_) => failed += 1,
        }
    }
    report::add(&format!("quotas on {}", kind.name()), passed, failed);
    failed == 0
}

/// A store in a folder of its own.
struct Store {
    kind: Kind,
    folder: PathBuf,
}

impl Store {
    fn new(kind: Kind, name: &str) -> Self {
        let folder = Path::new("/disk")
            .join(kind.name())
            .join("quotas")
            .join(name);
        for part in ["graph", "run"] {
            fs::create_dir_all(folder.join(part)).expect("a folder for a store can be made");
        }
        Self { kind, folder }
    }

    fn home(&self) -> Dir {
        Dir::open(self.folder.join("graph/overlay")).expect("there is a home")
    }

    fn tool(&self, options: &[&str], arguments: &[&str]) -> Tool {
        let mut tool = Tool::at(Path::new("/in/strata"))
            .arg("--graph")
            .arg(self.folder.join("graph"))
            .arg("--run")
            .arg(self.folder.join("run"))
            .args(["--storage-driver", "overlay"]);
        for option in options {
            tool = tool.args(["--storage-opt", option]);
        }
        tool.args(arguments)
    }

    fn strata(&self, options: &[&str], arguments: &[&str]) -> Ran {
        self.tool(options, arguments).ok()
    }

    fn first(&self, options: &[&str], arguments: &[&str]) -> String {
        let text = self.strata(options, arguments).text();
        text.lines().next().expect("an ID").to_owned()
    }

    /// An image with a file of so many bytes.
    fn image(&self, options: &[&str], size: u64) -> String {
        let layer = self.first(options, &["create-layer", "--readonly"]);
        let tree = self.folder.join("tree");
        fs::create_dir_all(&tree).expect("a folder can be made");
        let contents = vec![7; size as usize];
        fs::write(tree.join("base"), contents).expect("a file can be written");
        let archive = Tool::new("tar").args(["-c", "-C"]).arg(&tree).arg("base");
        self.tool(options, &["applydiff", &layer])
            .input(archive.ok().stdout)
            .ok();
        self.first(options, &["create-image", &layer])
    }

    /// A container of the image, mounted.
    fn container(&self, options: &[&str], image: &str, more: &[&str]) -> Container<'_> {
        let mut arguments = vec!["create-container"];
        arguments.extend(more);
        arguments.push(image);
        let id = self.first(options, &arguments);
        let root = PathBuf::from(self.strata(options, &["mount", &id]).last_line());
        let record = self.strata(&[], &["container", "--json", &id]).json();
        let layer = record[0]["layer"].as_str().expect("a layer").to_owned();
        Container {
            store: self,
            id,
            layer,
            root,
        }
    }

    /// What this file system says when a limit is reached.
    fn refusal(&self) -> i32 {
        match self.kind {
            Kind::Ext4 => libc::EDQUOT,
            Kind::Xfs => libc::ENOSPC,
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        unmount_below(&self.folder);
    }
}

struct Container<'a> {
    store: &'a Store,
    id: String,
    layer: String,
    root: PathBuf,
}

impl Container<'_> {
    /// Writes so many MiB, durably; the error that stops it.
    fn write(&self, name: &str, size: u64) -> Result<(), i32> {
        let write = || -> io::Result<()> {
            let mut file = File::create(self.root.join(name))?;
            for _ in 0..size {
                file.write_all(&[7; MIB as usize])?;
            }
            file.sync_all()
        };
        write().map_err(|error| error.raw_os_error().expect("an error of the kernel"))
    }

    fn project(&self) -> (u32, Project) {
        let home = self.store.home();
        let project = home.open_dir(&self.layer).and_then(|layer| layer.project());
        let project = project.expect("a directory has a project");
        let found = home.find_project(project).expect("a project has numbers");
        (project, found)
    }

    fn delete(self) -> u32 {
        let (project, _) = self.project();
        self.store.strata(&[], &["unmount", &self.id]);
        self.store.strata(&[], &["delete-container", &self.id]);
        project
    }
}

fn a_container_may_write_so_much_and_no_more(store: &Store) {
    let options = ["overlay.size=16m"];
    let image = store.image(&options, 20 * MIB);
    let one = store.container(&options, &image, &[]);
    assert_eq!(one.write("some", 12), Ok(()));
    assert_eq!(one.write("more", 8), Err(store.refusal()));
    let (_, found) = one.project();
    assert!(found.bytes <= 16 * MIB, "{found:?}");
    assert_eq!(found.limit.bytes, 16 * MIB);
    // What is seen from inside.
    let seen = rustix::fs::statvfs(&one.root).expect("a mount has numbers");
    assert_eq!(seen.f_blocks * seen.f_frsize, 16 * MIB);
    // It may make room again, and the store is what it was.
    fs::remove_file(one.root.join("more")).expect("a file can be removed");
    assert_eq!(one.write("less", 2), Ok(()));
    store.strata(&options, &["check"]);
    // It is the container's limit: another has its own.
    let two = store.container(&options, &image, &[]);
    assert_eq!(two.write("some", 12), Ok(()));
    assert_ne!(one.project().0, two.project().0);
    // A copy of what lies below counts as its own.
    let copied = File::options().append(true).open(two.root.join("base"));
    assert_eq!(
        copied.expect_err("20 MiB do not fit").raw_os_error(),
        Some(store.refusal())
    );
    let first = one.delete();
    let second = two.delete();
    for project in [first, second] {
        let left = store.home().find_project(project).expect("numbers");
        assert_eq!(left.limit, ProjectLimit::default(), "peers find none");
    }
    let list = store.strata(&options, &["containers", "--json"]).json();
    assert!(list.as_array().is_none_or(Vec::is_empty), "{list}");
}

fn a_container_may_make_so_many_files(store: &Store) {
    let options = ["overlay.inodes=100"];
    let image = store.image(&options, MIB);
    let one = store.container(&options, &image, &[]);
    let made =
        (0..200).take_while(|number| File::create(one.root.join(format!("f{number}"))).is_ok());
    let made = made.count();
    assert!((80..100).contains(&made), "{made} files");
    assert_eq!(
        one.project().1.limit,
        ProjectLimit {
            bytes: 0,
            inodes: 100
        }
    );
    one.delete();
}

/// As the library makes a layer with a limit of its own, of any driver's default.
fn a_layer_may_have_a_limit_of_its_own(store: &Store) {
    let driver = open(store, &["overlay.size=64m"]);
    let layer = |name: &str, limits: Limits| {
        let staging = Dir::open(store.folder.join("graph")).expect("a folder");
        staging
            .create_dir(name, 0o700)
            .expect("a folder can be made");
        let at = staging.open_dir(name).expect("it is there");
        let options = PrepareOptions {
            read_write: true,
            limits,
            ..PrepareOptions::default()
        };
        driver
            .prepare(&at, None, &options)
            .expect("a layer can be prepared");
        driver.adopt(&staging, name, name).expect("and moved in");
        let layer = store.home().open_dir(name).expect("it is there");
        let project = layer.project().expect("a project");
        store.home().find_project(project).expect("numbers").limit
    };
    let limit = |size, inodes| Limits { size, inodes };
    let expected = |bytes, inodes| ProjectLimit { bytes, inodes };
    assert_eq!(layer("usual", limit(None, None)), expected(64 * MIB, 0));
    assert_eq!(layer("small", limit(Some(MIB), Some(9))), expected(MIB, 9));
    assert_eq!(layer("free", limit(Some(0), None)), expected(0, 0));
}

fn open(store: &Store, options: &[&str]) -> Box<dyn Driver> {
    let graph = Dir::open(store.folder.join("graph")).expect("a folder");
    let run = Dir::open(store.folder.join("run")).expect("a folder");
    let roots = Roots {
        graph: &graph,
        graph_path: &store.folder.join("graph"),
        run: &run,
        run_path: &store.folder.join("run"),
        additional: Vec::new(),
        no_id_mapped_mounts: false,
        is_read_only: false,
        is_for_images: false,
    };
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    driver::open(DriverKind::Overlay, &roots, &options).expect("the driver opens")
}

fn every_container_is_a_project_of_the_home(store: &Store) {
    let image = store.image(&[], MIB);
    let containers: Vec<_> = (0..20).map(|_| store.container(&[], &image, &[])).collect();
    let projects: std::collections::BTreeSet<_> = containers
        .iter()
        .map(|container| container.project().0)
        .collect();
    if store.kind == Kind::Ext4 {
        // Peers know none there; without a limit there is no need for any.
        assert_eq!(projects.into_iter().collect::<Vec<_>>(), [0]);
        return;
    }
    assert_eq!(projects.len(), 20, "{projects:?}");
    let inode = store
        .home()
        .stat_self()
        .expect("a home has an inode")
        .st_ino;
    // As containers/storage derives it.
    let base = 10_000 + (inode.wrapping_mul(10_000) % (u64::from(u32::MAX) - 10_000));
    for project in projects {
        let above = u64::from(project).checked_sub(base);
        assert!(
            above.is_some_and(|above| (1..=10_000).contains(&above)),
            "{project}, {base}"
        );
    }
    for container in containers {
        assert_eq!(container.project().1.limit, ProjectLimit::default());
        container.delete();
    }
    let record = store.strata(&[], &["layers", "--json"]).json();
    let layer = record[0]["id"]
        .as_str()
        .expect("the image's layer")
        .to_owned();
    let layer = store.home().open_dir(layer).expect("it is there");
    assert_eq!(layer.project().expect("a project"), 0, "images have none");
}

fn what_is_copied_for_other_owners_does_not_count(store: &Store) {
    let options = ["overlay.size=8m"];
    let image = store.image(&options, 20 * MIB);
    let base = store.strata(&[], &["layers", "--json"]).json();
    let base = base[0]["id"]
        .as_str()
        .expect("the image's layer")
        .to_owned();
    let run = |arguments: &[&str]| {
        let tool = store.tool(&options, arguments);
        tool.env("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes").ok()
    };
    let maps = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"];
    // A container's copy is a layer of the image; another layer has its copy in itself.
    for (command, below) in [("create-container", image), ("create-layer", base)] {
        let made = run(&[&[command], &maps[..], &[&below]].concat()).text();
        let id = made.lines().next().expect("an ID").to_owned();
        let root = PathBuf::from(run(&["mount", &id]).last_line());
        let layer = if command == "create-layer" {
            id.clone()
        } else {
            let record = store.strata(&[], &["container", "--json", &id]).json();
            record[0]["layer"].as_str().expect("a layer").to_owned()
        };
        let one = Container {
            store,
            id,
            layer,
            root,
        };
        assert_eq!(one.write("some", 6), Ok(()), "{command}");
        assert_eq!(one.write("more", 6), Err(store.refusal()), "{command}");
        store.strata(&[], &["unmount", &one.id]);
        store.strata(&[], &["delete", &one.id]);
    }
}

fn an_administrators_project_stays_one(store: &Store) {
    let options = ["overlay.size=8m"];
    let image = store.image(&options, MIB);
    for folder in [
        "graph",
        "graph/overlay",
        "graph/strata",
        "graph/strata/staging",
    ] {
        let folder = Dir::open(store.folder.join(folder)).expect("a folder");
        folder.set_project(700_000).expect("root may");
    }
    let one = store.container(&options, &image, &[]);
    let project = one.project().0;
    assert!((700_001..=710_000).contains(&project), "{project}");
    assert_eq!(one.write("more", 10), Err(store.refusal()));
    one.delete();
    let other = store.container(&options, &image, &[]);
    assert_eq!(other.write("some", 6), Ok(()));
    other.delete();
    assert_eq!(store.home().project().expect("a project"), 700_000);
    // The limit of a project that images are made in is not theirs.
    let staging = Dir::open(store.folder.join("graph/strata/staging")).expect("a folder");
    staging.set_project(800_000).expect("root may");
    let limit = ProjectLimit {
        bytes: 1 << 30,
        inodes: 0,
    };
    staging.limit_project(800_000, limit).expect("root may");
    let image = store.image(&options, MIB);
    store.strata(&options, &["delete-image", &image]);
    let found = staging.find_project(800_000).expect("numbers");
    assert_eq!(found.limit, limit);
}

//! The store that every command is tried on, copied for each trial.

use std::fs;
use std::path::{Path, PathBuf};

use super::commands::{Case, Start};
use super::copying;
use super::leftovers;
use super::place::{Kind, Place};
use super::support::image::{self, Layer};
use super::support::plugin::Settings;
use super::support::scratch::{Scratch, unmount_below};
use super::support::tool::{Ran, Tool};

const DIGITS: &[(&str, char)] = &[
    ("LOWEST", '1'),
    ("MIDDLE", '2'),
    ("TOP", '3'),
    ("IMAGE", '4'),
    ("CONTAINER", '5'),
    ("OTHER", '6'),
    ("SPARE", '7'),
    ("NEW", '8'),
    ("PAIR", '9'),
];

/// A store, and what lies beside it.
#[derive(Debug)]
pub struct Scene {
    pub binary: PathBuf,
    pub place: Place,
    /// What words of a command stand for.
    names: Vec<(&'static str, String)>,
    template: Settings,
    /// The call of an import at which a kill leaves garbage.
    leaves_garbage: usize,
}

impl Scene {
    pub fn new(kind: Kind, binary: &Path) -> Self {
        let place = Place::new(kind);
        let names = names(&place.scratch);
        let template = place.store("template", binary);
        let mut scene = Self {
            binary: binary.to_owned(),
            place,
            names,
            template,
            leaves_garbage: 0,
        };
        // In a split store, what is written to lies apart from what is not.
        for line in [
            "create-layer --readonly -i LOWEST",
            "import-layer --readonly -i MIDDLE -f FIRST LOWEST",
            "import-layer --readonly -i TOP -f ARCHIVE MIDDLE",
            "create-image -i IMAGE -n image TOP",
            "create-container -i CONTAINER -n cont image",
            "set-image-data -f VALUE IMAGE key",
            "set-container-data -f VALUE CONTAINER key",
            "create-image -i OTHER -n other TOP",
            "set-image-data -f VALUE OTHER key",
            "create-layer -i SPARE",
            "export -f BACKUP",
        ] {
            scene.ok(&scene.template, line);
        }
        for folder in scene.template.folders() {
            unmount_below(folder);
        }
        scene.leaves_garbage = scene.find_garbage();
        scene
    }

    /// The last call of an import before which a kill leaves a layer in the staging area.
    fn find_garbage(&self) -> usize {
        let leaves = |at: &usize| {
            self.play("garbage", Start::Whole, |settings| {
                self.kill_import(settings, *at);
                settings
                    .roots()
                    .any(|root| leftovers::has_staged(&root.join("strata/staging")))
            })
        };
        let found = (1..=30).rev().find(leaves);
        found.expect("a kill of an import leaves something")
    }

    fn kill_import(&self, settings: &Settings, at: usize) {
        let fault = format!("kill-before:{at}");
        let line = "import-layer -i NEW -f ARCHIVE TOP";
        self.run(settings, Some(("STRATA_FAULT", &fault)), line);
    }

    /// Those of the commands that this driver has, or those that `STRATA_CRASH_COMMAND` names the beginning of.
    pub fn cases(&self, of: &'static [Case]) -> impl Iterator<Item = &'static Case> {
        let is_overlay = self.place.kind.storage_driver() == "overlay";
        let chosen = std::env::var("STRATA_CRASH_COMMAND").unwrap_or_default();
        of.iter().filter(move |case| {
            (is_overlay || !case.is_of_overlay) && case.name.starts_with(&chosen)
        })
    }

    /// A line with what its words in capitals stand for.
    fn resolve(&self, settings: &Settings, line: &str) -> String {
        let place = settings.graph.parent().expect("a parent");
        let line = line.replace("PLACE", place.to_str().expect("UTF-8"));
        let line = line.replace("DRIVER", &settings.storage_driver);
        let names = self.names.iter();
        names.fold(line, |line, (name, value)| line.replace(name, value))
    }

    /// Runs a command of Strata, perhaps with a fault.
    pub fn run(&self, settings: &Settings, fault: Option<(&str, &str)>, line: &str) -> Ran {
        let line = self.resolve(settings, line);
        let mut tool = Tool::at(&self.binary)
            .args(settings.store_arguments())
            .args(line.split(' '));
        if let Some((name, value)) = fault {
            tool = tool.env(name, value);
        }
        tool.output()
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, settings: &Settings, line: &str) -> Ran {
        let ran = self.run(settings, None, line);
        assert!(ran.code == 0, "{ran}");
        ran
    }

    /// A copy of the store in the folder `name`, as it is at this start; and what `act` makes of it.
    pub fn play<T>(&self, name: &str, start: Start, act: impl FnOnce(&Settings) -> T) -> T {
        let settings = self.place.store(name, &self.binary);
        let copies: Vec<_> = settings.folders().map(Scratch::within).collect();
        if start != Start::Empty {
            for (from, to) in self.template.folders().zip(settings.folders()) {
                copying::tree(from, to);
            }
        }
        match start {
            Start::Whole | Start::Empty => {}
            Start::Garbage => self.kill_import(&settings, self.leaves_garbage),
            Start::Without(path) => {
                let path = self.resolve(&settings, path);
                let removed = settings
                    .roots()
                    .any(|root| fs::remove_file(root.join(&path)).is_ok());
                assert!(removed, "{path} is there to be removed");
            }
        }
        let made = act(&settings);
        for copy in copies {
            unmount_below(copy.path());
            fs::remove_dir_all(copy.path()).expect("the store can be removed");
        }
        made
    }

    /// Takes away what a trial in the folder `name` has left that did not come to its end.
    pub fn clear(&self, name: &str) {
        let settings = self.place.store(name, &self.binary);
        for folder in settings.folders() {
            unmount_below(folder);
            drop(fs::remove_dir_all(folder));
        }
    }
}

/// What words in capitals stand for: IDs, and files that are written here.
fn names(scratch: &Scratch) -> Vec<(&'static str, String)> {
    let write = |name: &str, bytes: Vec<u8>| {
        let path = scratch.path().join(name);
        fs::write(&path, bytes).expect("a file can be written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (middle, top) = layers();
    let layout = scratch.path().join("layout");
    let layer = |name: &str| Layer::new().dir("data").file(&format!("data/{name}"), name);
    image::write_layout(&layout, "one", &[layer("low"), layer("high")]);
    let folder = scratch.dir("folder");
    fs::write(folder.join("staged"), "staged\n").expect("a file can be written");
    let twin = Layer::new().file("twin", vec![b'x'; 64 << 10]);
    let mut names: Vec<(&str, String)> = DIGITS
        .iter()
        .map(|(name, digit)| (*name, digit.to_string().repeat(64)))
        .collect();
    names.extend([
        ("FIRST", write("middle.tar", middle.tar())),
        ("ARCHIVE", write("top.tar", top.tar())),
        ("MANY", write("many.tgz", many_files().blob())),
        ("TWIN", write("twin.tar", twin.tar())),
        ("VALUE", write("value", b"what is kept\n".to_vec())),
        (
            "LONGER",
            write("longer", b"what is kept from now on\n".to_vec()),
        ),
        ("LAYOUT", format!("oci:{}:one", layout.display())),
        ("FOLDER", folder.to_str().expect("UTF-8").to_owned()),
        ("BACKUP", scratch.text("backup.tar")),
    ]);
    names
}

/// More files than are filled where they are read, some too large for that; names enough for a recipe of many pieces.
fn many_files() -> Layer {
    let folders = ["many".to_owned(), "many/".to_owned() + &"long".repeat(15)];
    let layer = folders
        .iter()
        .fold(Layer::new(), |layer, dir| layer.dir(dir));
    let files = (0..900).fold(layer, |layer, number| {
        let contents = format!("{number}\n").repeat(match number % 300 {
            299 => 100_000,
            _ => number % 7,
        });
        layer.file(&format!("{}/{number}", folders[number % 2]), contents)
    });
    files.hard_link("many/link", "many/898")
}

/// Two layers: what is in the upper one hides and removes something of the lower.
pub fn layers() -> (Layer, Layer) {
    let middle = Layer::new()
        .dir("data")
        .member(
            "PaxHeaders/kept",
            b'x',
            0o644,
            b"30 SCHILY.xattr.user.note=one\n",
            "",
        )
        .file("data/kept", "kept\n")
        .hard_link("data/other", "data/kept")
        .symlink("data/link", "kept")
        .file("data/removed", "removed\n")
        .dir("data/hidden")
        .file("data/hidden/file", "hidden\n");
    let top = Layer::new()
        .dir("data")
        .whiteout("data/removed")
        .dir("data/hidden")
        .file("data/hidden/.wh..wh..opq", [])
        .file("data/added", "added\n");
    (middle, top)
}

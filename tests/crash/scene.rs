//! The store that every command is tried on, copied for each trial.

use std::fs;
use std::path::{Path, PathBuf};

use super::commands::{self, Case};
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
];

/// A store, and what lies beside it.
#[derive(Debug)]
pub struct Scene {
    pub storage_driver: String,
    pub binary: PathBuf,
    pub scratch: Scratch,
    /// What words of a command stand for.
    names: Vec<(&'static str, String)>,
    template: PathBuf,
}

impl Scene {
    pub fn new(storage_driver: &str, binary: &Path) -> Self {
        let scratch = Scratch::new("commands");
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
        let mut names: Vec<(&str, String)> = DIGITS
            .iter()
            .map(|(name, digit)| (*name, digit.to_string().repeat(64)))
            .collect();
        names.extend([
            ("FIRST", write("middle.tar", middle.tar())),
            ("ARCHIVE", write("top.tar", top.tar())),
            ("VALUE", write("value", b"what is kept\n".to_vec())),
            (
                "LONGER",
                write("longer", b"what is kept from now on\n".to_vec()),
            ),
            ("LAYOUT", format!("oci:{}:one", layout.display())),
            ("FOLDER", folder.to_str().expect("UTF-8").to_owned()),
            ("BACKUP", scratch.text("backup.tar")),
            ("OUT", scratch.text("out")),
        ]);
        let template = scratch.dir("template");
        let scene = Self {
            storage_driver: storage_driver.to_owned(),
            binary: binary.to_owned(),
            scratch,
            names,
            template,
        };
        let settings = scene.settings(&scene.template);
        for line in [
            "create-layer -i LOWEST",
            "import-layer -i MIDDLE -f FIRST LOWEST",
            "import-layer -i TOP -f ARCHIVE MIDDLE",
            "create-image -i IMAGE -n image TOP",
            "create-container -i CONTAINER -n cont image",
            "set-image-data -f VALUE IMAGE key",
            "set-container-data -f VALUE CONTAINER key",
            "create-image -i OTHER -n other TOP",
            "create-layer -i SPARE",
            "export -f BACKUP",
        ] {
            scene.ok(&settings, line);
        }
        unmount_below(&scene.template);
        scene
    }

    /// The commands that this driver has.
    pub fn cases(&self) -> impl Iterator<Item = &'static Case> {
        let is_overlay = self.storage_driver == "overlay";
        commands::ALL
            .iter()
            .filter(move |case| is_overlay || !case.is_of_overlay)
    }

    fn settings(&self, folder: &Path) -> Settings {
        let mut settings = Settings::below(folder, &self.binary);
        settings.storage_driver.clone_from(&self.storage_driver);
        settings
    }

    /// Runs a command of Strata, perhaps with a fault.
    pub fn run(&self, settings: &Settings, fault: Option<(&str, &str)>, line: &str) -> Ran {
        let words = line.split(' ').map(|word| {
            self.names
                .iter()
                .fold(word.to_owned(), |word, (name, value)| {
                    word.replace(name, value)
                })
        });
        let mut tool = Tool::at(&self.binary)
            .args(settings.store_arguments())
            .args(words);
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

    /// A copy of the store in the folder `name`, in which the case's commands before have run; and what `act` makes of it.
    pub fn play<T>(&self, name: &str, case: &Case, act: impl FnOnce(&Settings) -> T) -> T {
        let place = self.scratch.dir(name);
        let place = Scratch::within(&place);
        Tool::new("cp")
            .arg("-a")
            .arg(self.template.join("."))
            .arg(place.path())
            .ok();
        let settings = self.settings(place.path());
        if case.has_garbage {
            let fault = ("STRATA_FAULT", "kill-before:30");
            let line = "import-layer -i NEW -f ARCHIVE TOP";
            let ran = self.run(&settings, Some(fault), line);
            assert_ne!(ran.code, 0, "it was killed");
        }
        for line in case.before {
            self.ok(&settings, line);
        }
        let made = act(&settings);
        unmount_below(place.path());
        fs::remove_dir_all(place.path()).expect("the store can be removed");
        made
    }
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

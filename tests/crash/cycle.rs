//! The life of a store at the command line: layers, an image over them, a container, mounted; and all of it taken away.

use std::fs;
use std::path::Path;

use super::scene;
use super::support::image::Layer;
use super::support::plugin::Settings;
use super::support::tool::{Ran, Tool};

/// What holds once a step is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// There is something of that ID.
    Present(&'static str),
    /// There is nothing of that ID.
    Gone(&'static str),
    /// The container is mounted and shows the image.
    Mounted,
    /// It is not mounted.
    Unmounted,
    /// Nothing that could be asked.
    Swept,
}

/// A command and what it is for.
#[derive(Clone, Debug)]
pub struct Step {
    pub command: Vec<String>,
    pub done: Done,
}

const LOWEST: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const MIDDLE: &str = "2222222222222222222222222222222222222222222222222222222222222222";
const TOP: &str = "3333333333333333333333333333333333333333333333333333333333333333";
const IMAGE: &str = "4444444444444444444444444444444444444444444444444444444444444444";
const CONTAINER: &str = "5555555555555555555555555555555555555555555555555555555555555555";

/// A store of its own, and the commands of the cycle.
#[derive(Debug)]
pub struct Cycle {
    pub settings: Settings,
    pub steps: Vec<Step>,
}

impl Cycle {
    /// Writes the archives to `folder`, where the store will lie too.
    pub fn below(folder: &Path, binary: &Path, storage_driver: &str) -> Self {
        let mut settings = Settings::below(folder, binary);
        settings.storage_driver = storage_driver.to_owned();
        let archive = |name: &str, layer: &Layer| {
            let path = folder.join(name);
            fs::write(&path, layer.tar()).expect("an archive can be written");
            path.to_str().expect("UTF-8").to_owned()
        };
        let (middle, top) = layers();
        let (middle, top) = (archive("middle.tar", &middle), archive("top.tar", &top));
        let step = |done, words: &[&str]| Step {
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            done,
        };
        let import = |id, parent, file: &str| {
            step(
                Done::Present(id),
                &["import-layer", "-i", id, "-f", file, parent],
            )
        };
        let steps = vec![
            step(Done::Present(LOWEST), &["create-layer", "-i", LOWEST]),
            import(MIDDLE, LOWEST, &middle),
            import(TOP, MIDDLE, &top),
            step(
                Done::Present(IMAGE),
                &["create-image", "-i", IMAGE, "-n", "image", TOP],
            ),
            step(
                Done::Present(CONTAINER),
                &["create-container", "-i", CONTAINER, "-n", "cont", "image"],
            ),
            step(Done::Mounted, &["mount", "cont"]),
            step(Done::Unmounted, &["unmount", "--force", "cont"]),
            step(Done::Gone(CONTAINER), &["delete-container", CONTAINER]),
            step(Done::Gone(IMAGE), &["delete-image", IMAGE]),
            step(Done::Swept, &["gc"]),
        ];
        Self { settings, steps }
    }

    /// The whole command line of a step.
    pub fn arguments(&self, step: &Step) -> Vec<String> {
        let mut arguments = self.settings.store_arguments();
        arguments.extend(step.command.iter().cloned());
        arguments
    }

    /// Carries a step out, which must succeed.
    pub fn carry_out(&self, step: &Step) {
        let ran = self.run(&step.command);
        assert!(ran.code == 0, "{ran}");
        self.look(step, &ran);
    }

    /// Carries out again a step that was killed: it succeeds, or says that all is done already; and so it is.
    pub fn repeat(&self, step: &Step) {
        let ran = self.run(&step.command);
        if ran.code != 0 {
            let excuse = match step.done {
                Done::Present(_) => "already in use",
                Done::Gone(_) => "identifier is not a",
                Done::Mounted | Done::Unmounted | Done::Swept => "nothing excuses it",
            };
            assert!(ran.to_string().contains(excuse), "{ran}");
        }
        if ran.code != 0 && step.done == Done::Gone(IMAGE) {
            // The image's record goes first; then nothing leads to its layers but their own IDs.
            for layer in [TOP, MIDDLE, LOWEST] {
                let exists = self.run(&["exists".to_owned(), layer.to_owned()]).code == 0;
                let ran = self.run(&["delete-layer".to_owned(), layer.to_owned()]);
                assert_eq!(ran.code == 0, exists, "{ran}");
            }
        }
        self.look(step, &ran);
    }

    fn run(&self, command: &[String]) -> Ran {
        Tool::at(&self.settings.binary)
            .args(self.settings.store_arguments())
            .args(command)
            .output()
    }

    fn look(&self, step: &Step, ran: &Ran) {
        let answer = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            self.run(&words)
        };
        match step.done {
            Done::Present(id) => assert_eq!(answer(&["exists", id]).code, 0, "{id} is there"),
            Done::Gone(id) => assert_ne!(answer(&["exists", id]).code, 0, "{id} is gone"),
            Done::Mounted => {
                let place = Path::new(&ran.text()).to_owned();
                let read = |name: &str| fs::read(place.join(name)).ok();
                assert_eq!(read("data/kept").as_deref(), Some(&b"kept\n"[..]), "{ran}");
                assert_eq!(read("data/other").as_deref(), Some(&b"kept\n"[..]), "{ran}");
                assert_eq!(
                    read("data/added").as_deref(),
                    Some(&b"added\n"[..]),
                    "{ran}"
                );
                assert_eq!(read("data/removed"), None, "{ran}");
            }
            Done::Unmounted => {
                let text = answer(&["mounted", "cont"]).text();
                assert!(!text.contains("mounted"), "{text}");
            }
            Done::Swept => {}
        }
    }
}

/// Every kind of member that changes a disk in a way of its own.
fn layers() -> (Layer, Layer) {
    let (middle, top) = scene::layers();
    let owned = |layer: Layer, name: &str| {
        let header = format!("PaxHeaders/{name}");
        layer.member(&header, b'x', 0o644, b"8 uid=7\n", "")
    };
    // One is given its owner by name, the other while it is open.
    let middle = owned(middle, "pipe").member("data/pipe", b'6', 0o600, &[], "");
    let middle = owned(middle, "program").program("data/program", vec![b'x'; 200_000]);
    (middle, top)
}

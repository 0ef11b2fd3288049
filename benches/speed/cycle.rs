//! One cycle create-container, mount, unmount, delete as four processes, against the newest peer, in stores of
//! three sizes; what else is measured in them is in [`library`] and [`lists`].

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use strata::store::{Config, NewContainer, Store};

use super::numbers::{Promise, Samples, Table};
use super::support::image;
use super::support::scratch::Scratch;
use super::support::tool::{self, Tool};
use super::{Extent, binary, library, lists};

#[derive(Debug)]
pub struct Side {
    pub program: PathBuf,
    pub store: Vec<String>,
    folder: PathBuf,
    image: String,
    standing: usize,
    samples: Samples,
}

impl Side {
    fn new(program: &Path, folder: &Path, layout: &Path) -> Self {
        let text = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let store = vec![
            "--graph".into(),
            text("graph"),
            "--run".into(),
            text("run"),
            "--storage-driver".into(),
            "overlay".into(),
        ];
        let image = Tool::at(&binary())
            .args(&store)
            .args(["pull", "--quiet"])
            .arg(format!("oci:{}:one", layout.display()))
            .ok()
            .last_line();
        Self {
            program: program.to_owned(),
            store,
            folder: folder.to_owned(),
            image,
            standing: 0,
            samples: Samples::default(),
        }
    }

    pub fn run(&self, arguments: &[&str]) -> tool::Ran {
        Tool::at(&self.program)
            .args(&self.store)
            .args(arguments)
            .ok()
    }

    fn cycle(&mut self) {
        let mut samples = std::mem::take(&mut self.samples);
        samples.time(|| {
            self.run(&["create-container", "--name", "cycle", &self.image]);
            self.run(&["mount", "cycle"]);
            self.run(&["unmount", "cycle"]);
            self.run(&["delete-container", "cycle"]);
        });
        self.samples = samples;
    }

    /// What is seen in a mounted container, as names with sizes: equal on both sides before timing.
    fn look(&self) -> Vec<String> {
        self.run(&["create-container", "--name", "look", &self.image]);
        let place = PathBuf::from(self.run(&["mount", "look"]).last_line());
        let listed = Tool::new("find")
            .arg(&place)
            .args(["-printf", "%P %y %m %s %l\n"])
            .ok()
            .text();
        self.run(&["unmount", "look"]);
        self.run(&["delete-container", "look"]);
        let mut lines: Vec<_> = listed
            .lines()
            .filter(|line| !line.contains(" d "))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }

    /// Makes containers that stand beside the measured one, until there are `count`: by Strata on both
    /// sides, in one process, many at a time.
    fn populate(&mut self, count: usize) {
        let store = Store::open(Config {
            driver: Some("overlay".into()),
            ..Config::in_roots(self.folder.join("graph"), self.folder.join("run"))
        })
        .unwrap();
        let missing = Mutex::new(self.standing..count);
        self.standing = count;
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    while let Some(number) = { missing.lock().unwrap().next() } {
                        let new = NewContainer {
                            names: vec![format!("standing-{number}")],
                            image: Some(self.image.clone()),
                            ..NewContainer::default()
                        };
                        store.create_container(new).unwrap();
                    }
                });
            }
        });
    }
}

pub fn measure(extent: Extent, table: &mut Table) {
    let scratch = Scratch::new("bench");
    let layout = scratch.path().join("layout");
    image::write_busybox_layout(&layout, "one");
    // Both as an installation copies them: what a linker has written is in the page cache in small pieces, which is
    // half a dozen page faults more for each start, or not, as it happens.
    let newest = scratch.program(tool::find("containers-storage-newest"), "newest");
    let own = scratch.program(binary(), "strata");
    let mut ours = Side::new(&own, &scratch.dir("ours"), &layout);
    let mut peer = Side::new(&newest, &scratch.dir("peer"), &layout);
    // Strata's creations survive a loss of power; the peer's do when told so.
    let mut synced = Side::new(&newest, &scratch.dir("synced"), &layout);
    synced
        .store
        .extend(["--storage-opt".into(), "overlay.sync=filesystem".into()]);
    let seen = ours.look();
    assert!(seen.len() > 5, "the image is seen: {seen:?}");
    assert_eq!(seen, peer.look(), "both mount the same files");

    let [some, many] = extent.containers;
    for (count, promise, inside) in [(0, 2.5, 2.0), (some, 4.0, 3.0), (many, 10.0, 7.0)] {
        ours.populate(count);
        peer.populate(count);
        synced.populate(count);
        // The peer takes half a second in the largest store.
        let share = if count == many { 15 } else { 5 };
        let pairs = (extent.pairs / share).max(5);
        for n in 0..pairs + 1 {
            if n == 1 {
                ours.samples = Samples::default();
                peer.samples = Samples::default();
                synced.samples = Samples::default();
            }
            if n % 2 == 0 {
                ours.cycle();
                peer.cycle();
                synced.cycle();
            } else {
                synced.cycle();
                peer.cycle();
                ours.cycle();
            }
        }
        table.add(
            format!("create, mount, unmount, delete; {count} containers, equally durable, p50"),
            "ms",
            ours.samples.median(),
            Some(("containers-storage 1.65, sync", synced.samples.median())),
            Promise::Nothing,
        );
        for percent in [50, 99] {
            let promise = if percent == 50 {
                Promise::Faster(promise)
            } else {
                Promise::Nothing
            };
            table.add(
                format!("create, mount, unmount, delete; {count} containers, p{percent}"),
                "ms",
                ours.samples.percentile(percent),
                Some(("containers-storage 1.65", peer.samples.percentile(percent))),
                promise,
            );
        }
        let sides = [&ours, &peer, &synced].map(|side| (&*side.folder, &*side.image));
        library::cycles(sides, count, pairs, inside, table);
        if count == 0 {
            library::crowd([sides[0], sides[1]], extent, table);
        }
    }
    lists::measure(extent, &ours, &peer, table);
}

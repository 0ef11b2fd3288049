//! A store whose graph root can't be written: it is read, its images are mounted, changes are refused, and not a byte of it
//! is another afterwards.

use std::fs;
use std::path::Path;

use crate::support::image::Layer;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Ran, Tool};

const READING: [&[&str]; 12] = [
    &["layers"],
    &["layers", "-t"],
    &["images", "-j"],
    &["containers", "-j"],
    &["exists", "-i", "img"],
    &["layer", "-j", "base"],
    &["image", "img"],
    &["get-image-data", "img", "key"],
    &["changes", "base"],
    &["diff", "-u", "base"],
    &["metadata", "img"],
    &["check"],
];

const CHANGING: [&[&str]; 14] = [
    &["create-layer"],
    &["import-layer", "-f", "/dev/null"],
    &["create-image", "base"],
    &["create-container", "img"],
    &["create-storage-layer"],
    &["delete-container", "cont"],
    &["delete-image", "img"],
    &["delete", "base"],
    &["set-names", "-n", "x", "img"],
    &["set-metadata", "-m", "x", "img"],
    &["set-image-data", "-f", "/dev/null", "img", "key"],
    &["wipe"],
    &["shutdown"],
    &["gc"],
];

fn strata(driver: &str, graph: &Path, run: &Path) -> Tool {
    Tool::at(Path::new(env!("CARGO_BIN_EXE_strata")))
        .arg("-g")
        .arg(graph)
        .arg("-R")
        .arg(run)
        .args(["-s", driver])
}

/// Everything below a folder, with sizes, modes and times.
fn listing(folder: &Path) -> String {
    let format = "%p %y %m %U %s %T@\\n";
    let listed = Tool::new("find").arg(folder).args(["-printf", format]).ok();
    let text = listed.text();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// A store with a layer, an image and a container, and a place where it can't be written.
struct Place {
    scratch: Scratch,
    driver: &'static str,
}

impl Place {
    fn new(driver: &'static str) -> Self {
        tool::require_root();
        let place = Self {
            scratch: Scratch::new("read-only"),
            driver,
        };
        let tar = Layer::new().dir("d").file("d/one", "one\n").tar();
        fs::write(place.scratch.path().join("base.tar"), tar).unwrap();
        let tar = place.scratch.text("base.tar");
        place.writing(&["import-layer", "-f", &tar, "-n", "base"]);
        place.writing(&["create-image", "-n", "img", "-m", "meta", "base"]);
        place.writing(&["create-container", "-n", "cont", "img"]);
        place.writing(&["set-image-data", "-f", &tar, "img", "key"]);
        place
    }

    fn writing(&self, line: &[&str]) -> Ran {
        let path = self.scratch.path();
        strata(self.driver, &path.join("g"), &path.join("r"))
            .args(line)
            .ok()
    }

    /// Shows the graph root at another place, where nobody can write it.
    fn close(&self) -> std::path::PathBuf {
        let closed = self.scratch.dir("closed");
        let graph = self.scratch.path().join("g");
        Tool::new("mount")
            .arg("--bind")
            .args([&graph, &closed])
            .ok();
        Tool::new("mount")
            .args(["-o", "remount,bind,ro"])
            .arg(&closed)
            .ok();
        closed
    }

    fn check(&self, closed: &Path) {
        let (graph, run) = (
            self.scratch.path().join("g"),
            self.scratch.path().join("r2"),
        );
        let before = listing(&graph);
        let tool = || strata(self.driver, closed, &run);
        for line in READING {
            let (found, expected) = (tool().args(line).ok(), self.writing(line));
            assert_eq!(found.stdout, expected.stdout, "{line:?}");
        }
        // What the writing store does to itself in reading is not meant.
        let before = match self.driver {
            "overlay" => before,
            _ => listing(&graph),
        };
        let mounted = tool().args(["mount", "-r", "img"]).ok().last_line();
        let mounted = Path::new(&mounted);
        assert_eq!(fs::read(mounted.join("d/one")).unwrap(), b"one\n");
        assert!(fs::write(mounted.join("d/two"), "x").is_err());
        let again = tool().args(["mount", "-r", "img"]).ok().last_line();
        assert_eq!(Path::new(&again), mounted);
        for _ in 0..2 {
            tool().args(["unmount", "img"]).ok();
        }
        if self.driver == "overlay" {
            assert!(!mounted.join("d").exists());
        }
        for line in CHANGING {
            let ran = tool().args(line).output();
            assert_eq!(ran.code, 1, "{ran}");
            let is_clear = ["can only be read", "read-only"]
                .iter()
                .any(|words| ran.stderr.to_lowercase().contains(words));
            assert!(is_clear && ran.stdout.is_empty(), "{ran}");
        }
        assert_eq!(listing(&graph), before);
    }
}

fn remove_locks(graph: &Path) {
    for kind in ["layers", "images", "containers"] {
        for driver in ["overlay", "vfs"] {
            drop(fs::remove_file(
                graph.join(format!("{driver}-{kind}/{kind}.lock")),
            ));
        }
    }
}

#[test]
fn a_store_on_a_read_only_file_system_is_read_and_its_images_are_mounted() {
    for driver in ["overlay", "vfs"] {
        let place = Place::new(driver);
        place.check(&place.close());
    }
}

#[test]
fn a_store_without_lock_files_and_strata_s_own_folder_is_read_all_the_same() {
    let place = Place::new("overlay");
    let closed = place.close();
    let graph = place.scratch.path().join("g");
    let run = place.scratch.path().join("r2");
    remove_locks(&graph);
    fs::remove_dir_all(graph.join("strata")).unwrap();
    fs::remove_dir_all(graph.join("overlay-containers")).unwrap();
    let images = strata("overlay", &closed, &run).args(["images", "-q"]).ok();
    assert_eq!(images.text().len(), 64);
    let containers = strata("overlay", &closed, &run).arg("containers").ok();
    assert_eq!(containers.text(), "");
    let layers = strata("overlay", &closed, &run).args(["layers", "-q"]).ok();
    assert_eq!(layers.text().lines().count(), 2);
}

#[test]
fn a_store_of_somebody_else_is_read_by_who_may_read_it() {
    let place = Place::new("overlay");
    let path = place.scratch.path();
    Tool::new("chmod").args(["-R", "a+rX"]).arg(path).ok();
    let program = place
        .scratch
        .program(env!("CARGO_BIN_EXE_strata"), "strata");
    let run = path.join("run-of-nobody");
    fs::create_dir(&run).unwrap();
    std::os::unix::fs::chown(&run, Some(65_534), Some(65_534)).unwrap();
    let nobody = |line: &[&str]| {
        Tool::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program)
            .args(["-s", "overlay", "-g"])
            .arg(path.join("g"))
            .arg("-R")
            .arg(&run)
            .args(line)
            .output()
    };
    let found = nobody(&["images", "-j"]);
    assert_eq!(
        found.stdout,
        place.writing(&["images", "-j"]).stdout,
        "{found}"
    );
    let refused = nobody(&["delete-image", "img"]);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("can only be read"), "{refused}");
}

//! `commit` and `push` are killed before and after each call that changes something, and run again.

use std::fs;
use std::path::{Path, PathBuf};

use super::copying;
use super::leftovers::{self, Checked};
use super::support::image::{self, Built};
use super::support::plugin::{self, Settings};
use super::support::scratch::{Scratch, unmount_below};
use super::support::tool::{self, Ran, Tool};

/// A store with an image and a container with changes, to be copied for each run.
struct Scene {
    template: PathBuf,
    built: Built,
    scratch: Scratch,
}

fn run(settings: &Settings, fault: Option<(&str, &str)>, arguments: &[&str]) -> Ran {
    let mut tool = Tool::at(&settings.binary)
        .args(settings.store_arguments())
        .args(arguments);
    if let Some((name, value)) = fault {
        tool = tool.env(name, value);
    }
    tool.output()
}

fn ok(settings: &Settings, arguments: &[&str]) -> String {
    let ran = run(settings, None, arguments);
    assert!(ran.code == 0, "{ran}");
    ran.last_line()
}

impl Scene {
    fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("crash-commit");
        let layout = scratch.path().join("layout");
        let built = image::write_busybox_layout(&layout, "one");
        let template = scratch.dir("template");
        let settings = Settings::below(&template, &binary());
        ok(
            &settings,
            &[
                "pull",
                "-q",
                "-n",
                "base:1",
                &format!("oci:{}", layout.display()),
            ],
        );
        ok(&settings, &["create-container", "--name", "c", "base:1"]);
        let root = PathBuf::from(ok(&settings, &["mount", "c"]));
        fs::write(root.join("data/note"), "from the container\n").unwrap();
        fs::create_dir(root.join("deep")).unwrap();
        fs::write(root.join("deep/file"), "more\n").unwrap();
        fs::remove_file(root.join("data/added")).unwrap();
        ok(&settings, &["unmount", "c"]);
        unmount_below(&template);
        Self {
            template,
            built,
            scratch,
        }
    }

    /// Runs `act` in a copy of the store.
    fn play(&self, act: impl FnOnce(&Settings, &Path)) {
        let place = self.scratch.path().join("play");
        copying::tree(&self.template, &place);
        act(&Settings::below(&place, &binary()), &place);
        unmount_below(&place);
        fs::remove_dir_all(&place).unwrap();
    }
}

fn binary() -> PathBuf {
    plugin::binary(env!("CARGO_BIN_EXE_strata"))
}

/// How many calls that change something `arguments` makes.
fn count(settings: &Settings, place: &Path, arguments: &[&str]) -> usize {
    let log = place.join("calls");
    let log_text = log.to_str().unwrap();
    let ran = run(settings, Some(("STRATA_FAULT_LOG", log_text)), arguments);
    assert!(ran.code == 0, "{ran}");
    let count = fs::read_to_string(&log)
        .expect("the calls were logged: is the binary built with the feature fault?")
        .lines()
        .count();
    fs::remove_file(&log).unwrap();
    count
}

#[test]
fn a_commit_survives_a_kill_at_every_point() {
    const COMMIT: [&str; 5] = ["commit", "--timestamp", "1700000000", "c", "web:1"];
    let scene = Scene::new();
    let checked = Checked::default();
    let (mut calls, mut id) = (0, String::new());
    scene.play(|settings, place| {
        calls = count(settings, place, &COMMIT);
        id = ok(settings, &COMMIT);
    });
    let faults: Vec<_> = (1..=calls)
        .flat_map(|at| [format!("kill-before:{at}"), format!("kill-after:{at}")])
        .collect();
    println!("commit: {calls} calls, {} points", faults.len());
    assert!(calls > 20);
    for fault in &faults {
        scene.play(|settings, _| {
            let killed = run(settings, Some(("STRATA_FAULT", fault)), &COMMIT);
            assert_ne!(killed.code, 0, "{fault} struck: {killed}");
            leftovers::check_remains_by_the_peer(settings, &checked);
            // The image is there as a whole or not at all.
            let images = run(settings, None, &["images", "--json"]).json();
            for image in images.as_array().unwrap() {
                let layer = image["layer"].as_str().unwrap();
                ok(settings, &["diff", "-u", "-f", "/dev/null", layer]);
                for key in image["big-data-names"].as_array().unwrap() {
                    let item = key.as_str().unwrap();
                    ok(
                        settings,
                        &[
                            "get-image-data",
                            "-f",
                            "/dev/null",
                            image["id"].as_str().unwrap(),
                            item,
                        ],
                    );
                }
            }
            assert_eq!(ok(settings, &COMMIT), id, "{fault}");
            let root = PathBuf::from(ok(
                settings,
                &["create-container", "--name", "d", "localhost/web:1"],
            ));
            assert!(!root.as_os_str().is_empty());
            let root = PathBuf::from(ok(settings, &["mount", "d"]));
            assert_eq!(
                fs::read_to_string(root.join("data/note")).unwrap(),
                "from the container\n"
            );
            assert!(!root.join("data/added").exists());
            ok(settings, &["unmount", "d"]);
            for arguments in [
                ["delete-container", "d"],
                ["delete-container", "c"],
                ["delete-image", id.as_str()],
            ] {
                let ran = run(settings, None, &arguments);
                assert!(ran.code == 0, "{fault}: {ran}");
            }
            leftovers::assert_none(settings, Some(&scene.built), &checked);
        });
    }
}

#[test]
fn a_push_to_a_layout_survives_a_kill_at_every_point() {
    let scene = Scene::new();
    let template = Settings::below(&scene.template, &binary());
    ok(
        &template,
        &[
            "push",
            "-q",
            "base:1",
            &format!("oci:{}:one", scene.template.join("pushed").display()),
        ],
    );
    let before = scene.scratch.path().join("before");
    fs::rename(scene.template.join("pushed"), &before).unwrap();
    scene.play(|settings, place| {
        let layout = place.join("pushed");
        let target = format!("oci:{}:two", layout.display());
        let push = [
            "push",
            "-q",
            "--push-lanes",
            "1",
            "--compression",
            "none",
            "base:1",
            &target,
        ];
        let reset = || {
            drop(fs::remove_dir_all(&layout));
            Tool::new("cp").arg("-a").args([&before, &layout]).ok();
        };
        reset();
        let calls = count(settings, place, &push);
        let faults =
            (1..=calls).flat_map(|at| ["before", "after"].map(|when| format!("kill-{when}:{at}")));
        println!("push: {calls} calls");
        assert!(calls > 10);
        for fault in faults {
            reset();
            let killed = run(settings, Some(("STRATA_FAULT", &fault)), &push);
            assert_ne!(killed.code, 0, "{fault} struck: {killed}");
            // What was there is still there.
            let old = layout.display().to_string();
            Tool::new("skopeo")
                .args(["inspect", &format!("oci:{old}:one")])
                .ok();
            let digest = ok(settings, &push);
            let found = Tool::new("skopeo").args(["inspect", &target]).ok().json();
            assert_eq!(found["Digest"], digest.as_str(), "{fault}");
        }
    });
}

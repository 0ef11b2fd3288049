//! The store, its eight users, and a run of all of them at once.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::engines::{self, Engines, PODMANS_IMAGE};
use super::lane::{self, Done, Lane};
use super::plan::{CONTAINER, Expected, Grammar, IMAGE, Planner};
use super::support::image::{self, Built, Layer};
use super::support::plugin::{self, Settings};
use super::support::scratch::Scratch;
use super::support::tool;
use super::verdict;

/// How many archives there are to import.
const ARCHIVES: usize = 6;

/// What all share.
#[derive(Debug)]
pub struct Scene {
    pub settings: Settings,
    /// The shared image.
    pub built: Built,
    pub podmans: Built,
    pub base: String,
    pub strata: Lane,
    pub newest: Lane,
    pub old: Lane,
    pub engines: [Engines; 2],
    pub scratch: Scratch,
}

impl Scene {
    fn new() -> Result<Self, String> {
        tool::require_root();
        let scratch = Scratch::new("torture");
        let layer = |name: &str| Layer::new().file("shared", "shared\n").file(name, name);
        let layout = scratch.path().join("layout");
        let built = image::write_layout(&layout, "one", &[layer("low"), layer("high")]);
        let other = scratch.path().join("layout-podman");
        let podmans = image::write_layout(&other, "one", &[layer("low"), layer("podman")]);
        let layouts: Vec<_> = (0..3)
            .map(|slot| {
                let path = scratch.path().join(format!("layout-{slot}"));
                let top = Layer::new().file("copied", format!("{slot}"));
                image::write_layout(&path, "one", &[layer("low"), top]);
                path
            })
            .collect();
        let archives = (0..ARCHIVES)
            .map(|number| {
                let path = scratch.path().join(format!("{number}.tar"));
                let mut archive = Layer::new().dir("data");
                for file in 0..=number * 3 {
                    let text = vec![b'a' + file as u8; 700 * file];
                    archive = archive.file(&format!("data/file-{file}"), text);
                }
                let archive = archive.hard_link("data/link", "data/file-0");
                fs::write(&path, archive.whiteout("high").tar())
                    .expect("an archive can be written");
                path
            })
            .collect::<Vec<_>>();
        let binary = plugin::binary(env!("CARGO_BIN_EXE_strata"));
        let settings = Settings::below(&scratch.dir("store"), &binary);
        let lane = |name: &str, program: PathBuf| Lane {
            name: name.to_owned(),
            program,
            arguments: settings.store_arguments(),
            environment: Vec::new(),
            folder: scratch.dir(&format!("lane-{name}")),
            archives: archives.clone(),
        };
        let strata = lane("strata", binary);
        let newest = lane("newest", tool::find("containers-storage-newest"));
        let old = lane("1.43", tool::find("containers-storage"));
        let engines = ["podman", "others"].map(|name| Engines {
            graph: settings.graph.clone(),
            run: settings.run.clone(),
            folder: scratch.dir(name),
            layouts: layouts.clone(),
            podman: tool::find("podman"),
            buildah: tool::find("buildah"),
            skopeo: tool::find("skopeo"),
        });
        // A Go tool first: it binds the driver's home over itself, which would hide mounts that are there already.
        old.ok(&["layers"])?;
        let source = format!("oci:{}:one", layout.display());
        strata.ok(&["pull", "--quiet", "-n", IMAGE, &source])?;
        strata.ok(&["create-container", "-n", CONTAINER, IMAGE])?;
        let source = format!("oci:{}:one", other.display());
        strata.ok(&["pull", "--quiet", "-n", PODMANS_IMAGE, &source])?;
        lane::shared_is_there(&newest)?;
        let record = newest.ok(&["image", "--json", IMAGE])?;
        let record: serde_json::Value =
            serde_json::from_slice(&record.out).expect("the peer prints JSON");
        let base = record[0]["layer"].as_str().expect("a top layer").to_owned();
        Ok(Self {
            settings,
            built,
            podmans,
            base,
            strata,
            newest,
            old,
            engines,
            scratch,
        })
    }

    /// The lane `number` of those in the peer's grammar.
    fn lane(&self, number: usize, grammar: Grammar, without: Option<&str>) -> Lane {
        let mut lane = match grammar {
            Grammar::Strata => self.strata.clone(),
            Grammar::Newest => self.newest.clone(),
            Grammar::Old => self.old.clone(),
        };
        lane.folder = self.scratch.dir(&format!("lane-{number}"));
        lane.name = format!("{} ({number})", lane.name);
        if let Some(lock) = without {
            let variable = ("STRATA_FAULT_WITHOUT".to_owned(), lock.to_owned());
            lane.environment.push(variable);
        }
        lane
    }
}

/// How many hundredths of the operations fall to each lane: Strata's processes are the quickest.
const SHARES: [(Grammar, usize); 6] = [
    (Grammar::Strata, 17),
    (Grammar::Strata, 17),
    (Grammar::Strata, 17),
    (Grammar::Strata, 17),
    (Grammar::Newest, 13),
    (Grammar::Old, 9),
];
const PODMAN_SHARE: usize = 5;
const OTHERS_SHARE: usize = 5;

/// Runs `operations` in the plan of `seed`, perhaps without one of the locks; what is wrong in the end.
pub fn run(seed: u64, operations: usize, without: Option<&str>) -> Vec<String> {
    let scene = match Scene::new() {
        Ok(scene) => scene,
        Err(complaint) => panic!("the scene can't be set: {complaint}"),
    };
    println!("torture: TORTURE_SEED={seed}, {operations} operations");
    let mut expected = Vec::new();
    let mut lanes = Vec::new();
    for (number, (grammar, share)) in SHARES.iter().enumerate() {
        let planner = Planner::new(seed, number, *grammar, &scene.base, ARCHIVES);
        let (plan, wanted) = planner.plan((operations * share).div_ceil(100));
        expected.push(wanted);
        lanes.push((scene.lane(number, *grammar, without), plan));
    }
    let podman = engines::plan_podman(seed, 6, (operations * PODMAN_SHARE).div_ceil(100));
    let others = engines::plan_others(seed, 7, (operations * OTHERS_SHARE).div_ceil(100));
    let start = Instant::now();
    let done: Vec<(String, Done, f32)> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (lane, plan) in &lanes {
            threads.push(scope.spawn(|| (lane.name.clone(), lane.carry_out(plan))));
        }
        let [first, second] = &scene.engines;
        threads.push(scope.spawn(|| ("podman".to_owned(), first.carry_out(&podman))));
        threads.push(scope.spawn(|| ("others".to_owned(), second.carry_out(&others))));
        threads
            .into_iter()
            .map(|thread| {
                let (name, done) = thread.join().expect("a lane does not panic");
                (name, done, start.elapsed().as_secs_f32())
            })
            .collect()
    });
    let (mut total, mut kills, mut complaints) = (0, 0, Vec::new());
    for (name, done, seconds) in done {
        total += done.operations;
        kills += done.kills;
        println!(
            "torture: {name}: {} operations, joined at {seconds:.0} s",
            done.operations
        );
        complaints.extend(done.complaints);
    }
    println!(
        "torture: {total} operations by 8 processes in {:.0} s, {kills} kills of Strata, {} complaints",
        start.elapsed().as_secs_f32(),
        complaints.len()
    );
    if complaints.is_empty() {
        complaints = verdict::complaints(&scene, &union(expected));
    }
    complaints
}

/// What all lanes together lead to.
fn union(lanes: Vec<Expected>) -> Expected {
    let mut all = Expected::default();
    for lane in lanes {
        all.layers.extend(lane.layers);
        all.images.extend(lane.images);
        all.containers.extend(lane.containers);
        all.shared_names.extend(lane.shared_names);
        all.shared_image_data.extend(lane.shared_image_data);
        all.shared_container_data.extend(lane.shared_container_data);
        all.shared_mounts += lane.shared_mounts;
    }
    all
}

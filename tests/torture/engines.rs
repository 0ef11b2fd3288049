//! Podman, Buildah and Skopeo, which clean up after themselves: what they made and took away again leaves nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::lane::Done;
use super::plan::IMAGE;
use super::program;
use super::random::Random;

/// Programs that work on the store by commands of their own.
#[derive(Clone, Debug)]
pub struct Engines {
    pub graph: PathBuf,
    pub run: PathBuf,
    pub folder: PathBuf,
    /// Layouts for Skopeo to copy from.
    pub layouts: Vec<PathBuf>,
    pub podman: PathBuf,
    pub buildah: PathBuf,
    pub skopeo: PathBuf,
}

/// The image that Podman gives names to: its `tag` reads all names, and sets them and one more, without a lock in between,
/// and so loses what others do to the same image meanwhile.
pub const PODMANS_IMAGE: &str = "localhost/podman:1";

/// What one of them does; `usize` tells its things apart.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    PodmanCreate(usize),
    PodmanMount(usize),
    PodmanUnmount(usize),
    PodmanRemove(usize),
    PodmanTag(usize),
    PodmanUntag(usize),
    BuildahFrom(usize),
    BuildahMount(usize),
    BuildahUnmount(usize),
    BuildahCommit(usize),
    BuildahRemoveImage(usize),
    BuildahRemove(usize),
    SkopeoCopy(usize),
    SkopeoDelete(usize),
}

/// A life: what may come after one another, from nothing to nothing.
const PODMAN: &[&[fn(usize) -> Action]] = &[
    &[Action::PodmanCreate, Action::PodmanRemove],
    &[
        Action::PodmanCreate,
        Action::PodmanMount,
        Action::PodmanUnmount,
        Action::PodmanRemove,
    ],
    &[Action::PodmanTag, Action::PodmanUntag],
];
const OTHERS: &[&[fn(usize) -> Action]] = &[
    &[
        Action::BuildahFrom,
        Action::BuildahMount,
        Action::BuildahUnmount,
        Action::BuildahRemove,
    ],
    &[
        Action::BuildahFrom,
        Action::BuildahMount,
        Action::BuildahUnmount,
        Action::BuildahCommit,
        Action::BuildahRemove,
        Action::BuildahRemoveImage,
    ],
    &[Action::SkopeoCopy, Action::SkopeoDelete],
    &[Action::SkopeoCopy, Action::SkopeoDelete],
];

/// Podman's plan.
pub fn plan_podman(seed: u64, lane: u64, count: usize) -> Vec<Action> {
    plan(Random::new(seed, lane), PODMAN, count)
}

/// Buildah's and Skopeo's plan.
pub fn plan_others(seed: u64, lane: u64, count: usize) -> Vec<Action> {
    plan(Random::new(seed, lane), OTHERS, count)
}

/// Several lives at a time, interleaved; all of them end.
fn plan(mut random: Random, lives: &[&[fn(usize) -> Action]], count: usize) -> Vec<Action> {
    let mut going: [Vec<Action>; 3] = Default::default();
    let mut plan = Vec::new();
    while plan.len() < count || going.iter().any(|life| !life.is_empty()) {
        let slot = random.below(going.len());
        if going[slot].is_empty() && plan.len() < count {
            let life = random.pick(lives).expect("there are some");
            going[slot] = life.iter().rev().map(|action| action(slot)).collect();
        }
        plan.extend(going[slot].pop());
    }
    plan
}

impl Engines {
    /// Carries out the plan until it is done or too much went wrong.
    pub fn carry_out(&self, plan: &[Action]) -> Done {
        let mut done = Done::default();
        let mut mounts: [Option<PathBuf>; 3] = Default::default();
        for (number, action) in plan.iter().enumerate() {
            if let Err(complaint) = self.perform(*action, &mut mounts) {
                let complaint = format!("{complaint} (operation {number})");
                done.complaints.push(complaint);
            }
            done.operations += 1;
            if done.complaints.len() >= 3 {
                break;
            }
        }
        done
    }

    fn perform(&self, action: Action, mounts: &mut [Option<PathBuf>; 3]) -> Result<(), String> {
        let (command, mounted) = match action {
            Action::PodmanCreate(slot) => {
                let mut command = self.podman();
                command.args(["create", "--name", &podman_container(slot)]);
                command.args(["--network", "none", IMAGE, "/bin/true"]);
                (command, None)
            }
            Action::PodmanMount(slot) => (
                self.podman_on(&["mount", &podman_container(slot)]),
                Some(slot),
            ),
            Action::PodmanUnmount(slot) => {
                (self.podman_on(&["umount", &podman_container(slot)]), None)
            }
            Action::PodmanRemove(slot) => (self.podman_on(&["rm", &podman_container(slot)]), None),
            Action::PodmanTag(slot) => (
                self.podman_on(&["tag", PODMANS_IMAGE, &podman_tag(slot)]),
                None,
            ),
            Action::PodmanUntag(slot) => (
                self.podman_on(&["untag", PODMANS_IMAGE, &podman_tag(slot)]),
                None,
            ),
            Action::BuildahFrom(slot) => {
                let name = working_container(slot);
                let words = ["from", "--pull-never", "--name", &name, IMAGE];
                (self.buildah_on(&words), None)
            }
            Action::BuildahMount(slot) => (
                self.buildah_on(&["mount", &working_container(slot)]),
                Some(slot),
            ),
            Action::BuildahUnmount(slot) => {
                (self.buildah_on(&["umount", &working_container(slot)]), None)
            }
            Action::BuildahCommit(slot) => {
                let (name, image) = (working_container(slot), built_image(slot));
                (self.buildah_on(&["commit", "--quiet", &name, &image]), None)
            }
            Action::BuildahRemove(slot) => {
                (self.buildah_on(&["rm", &working_container(slot)]), None)
            }
            Action::BuildahRemoveImage(slot) => {
                (self.buildah_on(&["rmi", &built_image(slot)]), None)
            }
            Action::SkopeoCopy(slot) => {
                let mut command = Command::new(&self.skopeo);
                let from = format!("oci:{}:one", self.layouts[slot].display());
                command.args(["copy", "--quiet", &from, &self.skopeo_name(slot)]);
                (command, None)
            }
            Action::SkopeoDelete(slot) => {
                let mut command = Command::new(&self.skopeo);
                command.args(["delete", &self.skopeo_name(slot)]);
                (command, None)
            }
        };
        let text = self.run(command)?;
        if let Some(slot) = mounted {
            let place = Path::new(text.lines().last().unwrap_or_default()).to_owned();
            if !place.join("shared").is_file() {
                return Err(format!("{action:?}: {} shows nothing", place.display()));
            }
            std::fs::write(place.join("built"), format!("{action:?}"))
                .map_err(|error| format!("{action:?}: write into {}: {error}", place.display()))?;
            mounts[slot] = Some(place);
        }
        Ok(())
    }

    fn run(&self, command: Command) -> Result<String, String> {
        let line = format!("{command:?}");
        let ended = program::run(command, &self.folder)?;
        if ended.code == Some(0) {
            return Ok(ended.text());
        }
        Err(format!(
            "{line} ended with {:?}: {}",
            ended.code,
            ended.error.trim()
        ))
    }

    fn podman(&self) -> Command {
        let mut command = self.engine(&self.podman);
        command
            .args([
                "--cgroup-manager",
                "cgroupfs",
                "--runtime",
                "runc",
                "--tmpdir",
            ])
            .arg(self.folder.join("tmp"))
            .args(["--events-backend", "none"]);
        command
    }

    fn podman_on(&self, words: &[&str]) -> Command {
        let mut command = self.podman();
        command.args(words);
        command
    }

    fn buildah_on(&self, words: &[&str]) -> Command {
        let mut command = self.engine(&self.buildah);
        command.args(words);
        command
    }

    fn engine(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .arg("--root")
            .arg(&self.graph)
            .arg("--runroot")
            .arg(&self.run)
            .args(["--storage-driver", "overlay"]);
        command
    }

    fn skopeo_name(&self, slot: usize) -> String {
        format!(
            "containers-storage:[overlay@{}+{}]localhost/copied-{slot}:1",
            self.graph.display(),
            self.run.display()
        )
    }
}

fn podman_container(slot: usize) -> String {
    format!("podman-{slot}")
}

fn podman_tag(slot: usize) -> String {
    format!("localhost/tagged-{slot}:1")
}

fn working_container(slot: usize) -> String {
    format!("working-{slot}")
}

fn built_image(slot: usize) -> String {
    format!("localhost/built-{slot}:1")
}

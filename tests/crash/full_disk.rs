//! A disk that is full at one call of the plugin, at each in turn: whoever asked is told so, finds nothing half done, and
//! succeeds with the next try; or the plugin does without.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tonic::{Code, Status};

use super::leftovers::{self, Checked};
use super::points::{Points, Scene, binary};
use super::script::Step;
use super::support::plugin::{Kubelet, Plugin, Settings, Wish, inline_handle};
use super::support::scratch::{Scratch, unmount_below};
use super::support::standing::Standing;
use super::support::tool::Tool;
use super::trial;

/// What is asked of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// A volume of an image that is there.
    Inline,
    /// A volume of an image that must be pulled.
    Pulling,
    /// A volume of its own, made, used and deleted.
    Claim,
}

/// How a trial ended.
type End = &'static str;

/// Tries `life` with no space at each of its calls.
pub fn run(name: &str, life: Life) {
    let steps: &[Step] = match life {
        Life::Pulling => &[Step::PublishPulling],
        Life::Inline | Life::Claim => &[Step::Publish],
    };
    // One layer at a time: the calls come in the same order in every run.
    let scene = Scene::new(name, Points::EveryOfOneLane, steps);
    let checked = Checked::default();
    let log = scene.scratch.path().join("calls");
    let variable = ("STRATA_FAULT_LOG".to_owned(), log.display().to_string());
    play(&scene, "whole", life, variable, &checked);
    let calls: Vec<String> = fs::read_to_string(&log)
        .expect("the calls were logged: is the binary built with the feature fault?")
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(calls.len() > 20, "{name}: only {} calls", calls.len());
    let ends = trial::in_lanes(calls.len(), |lane, at| {
        let fault = format!("error:{}:{}", at + 1, libc::ENOSPC);
        let variable = ("STRATA_FAULT".to_owned(), fault);
        let play = || play(&scene, lane, life, variable, &checked);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(play)).map_err(|_| {
            let place = scene.scratch.path().join(lane);
            unmount_below(&place);
            drop(fs::remove_dir_all(place));
            calls[at].clone()
        })
    });
    let mut counts = BTreeMap::<End, usize>::new();
    let mut bad = Vec::new();
    for (_, end) in ends {
        match end {
            Ok(end) => *counts.entry(end).or_default() += 1,
            Err(call) => bad.push(call),
        }
    }
    println!(
        "{name}: a full disk at each of {} calls: {counts:?}, {} bad",
        calls.len(),
        bad.len()
    );
    assert!(bad.is_empty(), "{name}: {bad:#?}");
    assert!(
        counts.contains_key(REFUSED),
        "nothing was refused: {counts:?}"
    );
}

const REFUSED: End = "refused once";

/// The whole life in a store of its own, with a plugin in this environment.
fn play(
    scene: &Scene,
    lane: &str,
    life: Life,
    variable: (String, String),
    checked: &Checked,
) -> End {
    let place = scene.scratch.path().join(lane);
    fs::create_dir_all(&place).expect("a folder can be made");
    let place = Scratch::within(&place);
    Tool::new("cp")
        .arg("-a")
        .arg(scene.template.join("."))
        .arg(place.path())
        .ok();
    let mut settings = Settings::below(place.path(), &binary());
    settings.arguments = vec!["--pull-lanes".to_owned(), "1".to_owned()];
    let mut faulty = settings.clone();
    faulty.environment.push(variable);
    let mut trial = Trial {
        kubelet: Kubelet::connect(&settings.socket),
        plugin: Plugin::spawn(&faulty),
        settings,
        image: &scene.reference,
        image_id: &scene.built.id,
        end: "done without it",
    };
    trial.wait_until_ready();
    match life {
        Life::Inline | Life::Pulling => trial.inline(),
        Life::Claim => trial.claim(),
    }
    let Trial {
        plugin,
        settings,
        end,
        ..
    } = trial;
    assert_eq!(
        plugin.stop(),
        0,
        "it ends in order:\n{}",
        settings.log_text()
    );
    // Garbage that could not be removed then is removed now.
    Tool::at(&settings.binary)
        .args(settings.store_arguments())
        .arg("gc")
        .ok();
    forget_mounts_without_layers(&settings);
    leftovers::assert_none(&settings, Some(&scene.built), checked);
    let path = place.path().to_owned();
    drop(place);
    fs::remove_dir_all(path).expect("the store can be removed");
    end
}

struct Trial<'a> {
    kubelet: Kubelet,
    plugin: Plugin,
    settings: Settings,
    image: &'a str,
    image_id: &'a str,
    end: End,
}

impl Trial<'_> {
    /// A plugin that can't start says why, and the next one does.
    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.plugin.is_ready() {
            let log = self.settings.log_text();
            assert!(Instant::now() < deadline, "it does not get ready:\n{log}");
            if self.plugin.has_ended() {
                assert!(self.end != NOT_STARTED, "it ends a second time:\n{log}");
                assert!(log.to_lowercase().contains(FULL), "it says why:\n{log}");
                self.end = NOT_STARTED;
                self.plugin = Plugin::spawn(&self.settings);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Asks, and once more if the disk was full, which must have left all as it was.
    fn ask<T>(
        &mut self,
        what: &str,
        target: Option<&Wish>,
        ask: impl Fn(&Kubelet) -> Result<T, Status>,
    ) -> T {
        let before = Standing::recorded(&self.settings);
        let status = match ask(&self.kubelet) {
            Ok(answer) => return answer,
            Err(status) => status,
        };
        let log = || self.settings.log_text();
        assert_eq!(
            status.code(),
            Code::ResourceExhausted,
            "{what}: {status:?}\n{}",
            log()
        );
        let text = status.message();
        assert!(text.to_lowercase().contains(FULL), "{what}: {status:?}");
        assert!(self.end != REFUSED, "{what}, again: {status:?}\n{}", log());
        self.end = REFUSED;
        if let Some(target) = target {
            // What is there of the volume is for the retry; or the kubelet gives it up.
            self.kubelet
                .unpublish(&target.volume, &target.target)
                .unwrap_or_else(|status| panic!("give up: {status:?}\n{}", log()));
        }
        // What takes away may have done so in part.
        if !what.starts_with("un") && what != "delete" {
            self.forget_image(&before);
            before.assert_like(&self.settings, Standing::recorded);
        }
        self.again(what, ask)
    }

    fn again<T>(&self, what: &str, ask: impl Fn(&Kubelet) -> Result<T, Status>) -> T {
        let log = || self.settings.log_text();
        ask(&self.kubelet).unwrap_or_else(|status| panic!("{what}, again: {status:?}\n{}", log()))
    }

    /// A whole image stays, though its volume had no room.
    fn forget_image(&self, before: &Standing) {
        if before.has_record(self.image_id)
            || !Standing::recorded(&self.settings).has_record(self.image_id)
        {
            return;
        }
        Tool::at(&self.settings.binary)
            .args(self.settings.store_arguments())
            .args(["delete-image", self.image_id])
            .ok();
    }

    fn inline(&mut self) {
        let target = self.settings.target("pod", "data");
        let wish = Wish::inline(&inline_handle("full"), &target, Some(self.image));
        self.ask("publish", Some(&wish), |kubelet| kubelet.publish(&wish));
        look(&target);
        self.ask("unpublish", None, |kubelet| {
            kubelet.unpublish(&wish.volume, &target)
        });
        assert!(!target.exists());
    }

    fn claim(&mut self) {
        let image = self.image;
        let volume = self.ask("create", None, |kubelet| {
            kubelet.create("claim", &[("image", image)])
        });
        let target = self.settings.target("pod", "data");
        let mut wish = Wish::inline(&volume.volume_id, &target, None);
        wish.attributes = volume.volume_context.into_iter().collect();
        self.ask("publish", Some(&wish), |kubelet| kubelet.publish(&wish));
        look(&target);
        fs::write(target.join("note"), "kept").expect("the pod can write");
        self.ask("unpublish", None, |kubelet| {
            kubelet.unpublish(&wish.volume, &target)
        });
        assert!(!target.exists());
        self.ask("publish", Some(&wish), |kubelet| kubelet.publish(&wish));
        assert_eq!(fs::read(target.join("note")).expect("it is there"), b"kept");
        self.ask("unpublish", None, |kubelet| {
            kubelet.unpublish(&wish.volume, &target)
        });
        self.ask("delete", None, |kubelet| kubelet.delete(&wish.volume));
    }
}

/// The record of a mount may outlive the mount and its layer, where the last call could not write it: everybody passes over
/// it, and it ends with the boot, as all of the run root does. A mount of a layer that is there may not be forgotten.
fn forget_mounts_without_layers(settings: &Settings) {
    let file = settings.run.join("overlay-layers/mountpoints.json");
    let Ok(text) = fs::read(&file) else {
        return;
    };
    let mounts: Option<Vec<serde_json::Value>> = serde_json::from_slice(&text).expect("JSON");
    let standing = Standing::recorded(settings);
    for mount in mounts.iter().flatten() {
        let id = mount["id"].as_str().expect("an ID");
        assert!(!standing.has_record(id), "{id} is there and not mounted");
    }
    fs::remove_file(file).expect("it can be removed");
}

/// What is told of it, with a capital or without.
const FULL: &str = "no space left";

const NOT_STARTED: End = "did not start";

fn look(target: &Path) {
    let read = |name: &str| fs::read(target.join(name)).expect("the image is seen");
    assert_eq!(read("data/greeting"), b"hello from layer two\n");
    assert_eq!(read("data/added"), b"added by layer three\n");
}

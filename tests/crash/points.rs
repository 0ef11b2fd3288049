//! Which points are tried: how many there are is learnt from a run without a fault.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::caught;
use super::copying;
use super::leftovers::{self, Checked};
use super::script::{Play, Step};
use super::support::image::{self, Built};
use super::support::plugin::Settings;
use super::support::registry::Registry;
use super::support::scratch::Scratch;
use super::support::tool::{self, Tool};

/// Where the plugin is killed.
#[derive(Clone, Copy, Debug)]
pub enum Points {
    /// Before and after every call.
    Every,
    /// The same, with one layer at a time.
    EveryOfOneLane,
    /// Before and after each of the last so many.
    Last(usize),
    /// As many random ones, layers in parallel.
    Random(usize),
}

/// What all runs of a scenario share.
#[derive(Debug)]
pub struct Scene {
    registry: Registry,
    pub reference: String,
    pub built: Built,
    pub template: std::path::PathBuf,
    arguments: Vec<String>,
    storage_options: Vec<String>,
    /// Of all plugins, those that take the place of a dead one too.
    environment: Vec<(String, String)>,
    pub scratch: Scratch,
}

impl Scene {
    pub fn new(name: &str, points: Points, steps: &[Step]) -> Self {
        tool::require_root();
        let scratch = Scratch::new("crash");
        let layout = scratch.path().join("layout");
        let built = image::write_busybox_layout(&layout, "one");
        let registry = Registry::start(&scratch.dir("registry"));
        registry.push(&layout, "test/busybox", "one");
        let reference = registry.reference("test/busybox", "one");
        let template = scratch.dir("template");
        let mut storage_options = Vec::new();
        if steps.contains(&Step::PublishPulling) {
            drop(Settings::below(&template, &binary()));
        } else if steps.contains(&Step::PublishBringing) {
            drop(Settings::below(&template, &binary()));
            let other = scratch.dir("other");
            let settings = pull(&other, &reference);
            storage_options.push(format!("overlay.imagestore={}", settings.graph.display()));
        } else {
            pull(&template, &reference);
        }
        // Each layer is kept as soon as it is complete.
        let mut arguments = vec!["--pull-keep".to_owned(), "1".to_owned()];
        if matches!(points, Points::EveryOfOneLane) {
            arguments.extend(["--pull-lanes".to_owned(), "1".to_owned()]);
        }
        println!("{name}: image {}", built.id);
        Self {
            registry,
            reference,
            built,
            template,
            arguments,
            storage_options,
            environment: Vec::new(),
            scratch,
        }
    }

    /// Plays the steps with `fault` in a store of their own, and looks for what is left; whether it struck.
    fn play(
        &self,
        place: &Path,
        fault: &[(&str, String)],
        steps: &[Step],
        checked: &Checked,
    ) -> bool {
        copying::tree(&self.template, place);
        let place = Scratch::within(place);
        let mut settings = Settings::below(place.path(), &binary());
        settings.arguments.clone_from(&self.arguments);
        settings.storage_options.clone_from(&self.storage_options);
        settings.environment.clone_from(&self.environment);
        let environment = fault
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let mut play = Play::new(&settings, environment, &self.reference, checked);
        for step in steps {
            play.carry_out(*step, &self.built);
        }
        let has_struck = play.finish();
        leftovers::assert_none(&settings, Some(&self.built), checked);
        let path = place.path().to_owned();
        drop(place);
        fs::remove_dir_all(path).expect("the store can be removed");
        has_struck
    }
}

/// A store below `folder` that has the image.
fn pull(folder: &Path, reference: &str) -> Settings {
    let settings = Settings::below(folder, &binary());
    Tool::at(&settings.binary)
        .args(settings.store_arguments())
        .args(["pull", "--quiet", reference])
        .ok();
    super::support::scratch::unmount_below(folder);
    settings
}

pub fn binary() -> std::path::PathBuf {
    super::support::plugin::binary(env!("CARGO_BIN_EXE_strata"))
}

/// What came of the points of a run.
struct Tried {
    points: usize,
    struck: usize,
    failed: Vec<String>,
}

/// Runs the scenario `name` at the chosen points.
pub fn run(name: &str, points: Points, steps: &[Step]) {
    let Tried {
        points,
        struck,
        failed,
    } = attempt(name, points, steps, None);
    println!(
        "{name}: killed at {struck} of {points} points, {} failed",
        failed.len()
    );
    assert!(failed.is_empty(), "{name}: {}", failed.join("\n"));
    // Who writes what comes from a registry writes as it arrives, more often or less: the last numbers may not come up.
    let missed = match steps.contains(&Step::PublishPulling) {
        true => points / 20,
        false => 0,
    };
    assert!(
        struck + missed >= points,
        "{name}: only {struck} of {points} points were reached"
    );
}

/// Runs the scenario with plugins that leave out a guard, which must be noticed.
pub fn run_without(guard: &str, name: &str, points: Points, steps: &[Step]) {
    let Tried { points, failed, .. } = attempt(name, points, steps, Some(guard));
    println!(
        "{name}: without {guard} {} of {points} points failed, as they should",
        failed.len()
    );
    let first = failed.first();
    let first = first.unwrap_or_else(|| panic!("nothing misses the guard {guard}"));
    let lines: Vec<_> = first.lines().take(3).collect();
    println!("{name}: the first: {}", lines.join(" "));
    assert!(
        failed.len() < points,
        "everything fails without {guard}: that shows nothing"
    );
}

fn attempt(name: &str, points: Points, steps: &[Step], without: Option<&str>) -> Tried {
    let mut scene = Scene::new(name, points, steps);
    let checked = Checked::default();
    let log = scene.scratch.path().join("calls");
    let log_text = log.to_str().expect("UTF-8").to_owned();
    scene.play(
        &scene.scratch.path().join("whole"),
        &[("STRATA_FAULT_LOG", log_text)],
        steps,
        &checked,
    );
    let calls: Vec<String> = fs::read_to_string(&log)
        .expect("the calls were logged: is the binary built with the feature fault?")
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(
        calls.len() > 20,
        "{name}: only {} calls counted",
        calls.len()
    );
    let chosen = choose(name, points, calls.len());
    println!("{name}: {} calls, {} points", calls.len(), chosen.len());
    if let Some(guard) = without {
        let variable = ("STRATA_FAULT_WITHOUT".to_owned(), guard.to_owned());
        scene.environment.push(variable);
    }

    let next = AtomicUsize::new(0);
    let struck = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for lane in 0..3 {
            let (scene, chosen, calls, checked) = (&scene, &chosen, &calls, &checked);
            let (next, struck, failed) = (&next, &struck, &failed);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((when, number)) = chosen.get(at) else {
                        return;
                    };
                    let fault = format!("{when}:{number}");
                    let place = scene.scratch.path().join(format!("lane-{lane}"));
                    let run =
                        || scene.play(&place, &[("STRATA_FAULT", fault.clone())], steps, checked);
                    match caught::complaint(run) {
                        Ok(has_struck) => {
                            struck.fetch_add(usize::from(has_struck), Ordering::Relaxed);
                        }
                        Err(said) => {
                            let call = calls.get(number - 1).map_or("?", String::as_str);
                            let line = format!("{fault} ({call}): {said}");
                            failed.lock().unwrap().push(line);
                            super::support::scratch::unmount_below(&place);
                            drop(fs::remove_dir_all(&place));
                        }
                    }
                }
            });
        }
    });
    drop(scene.registry);
    Tried {
        points: chosen.len(),
        struck: struck.into_inner(),
        failed: failed.into_inner().unwrap(),
    }
}

/// The points of a run, as the fault hook names them.
fn choose(name: &str, points: Points, calls: usize) -> Vec<(&'static str, usize)> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let sample = number("STRATA_CRASH_SAMPLE").unwrap_or(1_u64).max(1) as usize;
    match points {
        Points::Every | Points::EveryOfOneLane => (1..=calls)
            .flat_map(|at| [("kill-before", at), ("kill-after", at)])
            .step_by(sample)
            .collect(),
        Points::Last(count) => (calls.saturating_sub(count) + 1..=calls)
            .flat_map(|at| [("kill-before", at), ("kill-after", at)])
            .collect(),
        Points::Random(count) => {
            let seed = number("STRATA_CRASH_SEED").unwrap_or_else(|| {
                std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(1, |time| time.as_nanos() as u64)
            });
            println!("{name}: STRATA_CRASH_SEED={seed}");
            let mut random = seed | 1;
            (0..count / sample)
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let at = 1 + (random >> 8) as usize % calls;
                    let when = if random & 1 == 0 {
                        "kill-before"
                    } else {
                        "kill-after"
                    };
                    (when, at)
                })
                .collect()
        }
    }
}

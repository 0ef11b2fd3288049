//! Whether the fault hook counts what it should: against what the kernel gets, as strace sees it; and whether a program
//! without the hook, killed at such calls, leaves as little behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::caught;
use super::cycle::{Cycle, Done, Step};
use super::leftovers::{self, Checked};
use super::script::{self, Play};
use super::support::image;
use super::support::plugin::Settings;
use super::support::registry::Registry;
use super::support::scratch::Scratch;
use super::support::tool::{self, Tool};
use super::trace::{self, Call};

/// How many points the program without the hook is killed at.
const POINTS: usize = 50;

/// In each command of the cycle, the hook counts the calls that strace sees, each in its place.
pub fn compare(storage_driver: &str) {
    tool::require_root();
    let scratch = Scratch::new("counting");
    let binary = Path::new(env!("CARGO_BIN_EXE_strata"));
    let cycle = Cycle::below(&scratch.dir("store"), binary, storage_driver);
    let mut kinds = BTreeMap::new();
    let mut differences = Vec::new();
    for (number, step) in cycle.steps.iter().enumerate() {
        let log = scratch.path().join(format!("calls-{number}"));
        let log_text = log.to_str().expect("UTF-8");
        let environment = [("STRATA_FAULT_LOG", log_text)];
        let (ran, calls) = trace::run(binary, &cycle.arguments(step), &environment, &log);
        assert!(ran.code == 0, "{ran}");
        let changes: Vec<_> = calls.iter().filter(|call| call.is_change).collect();
        let hooked = trace::hooked(&log);
        for name in &hooked {
            *kinds
                .entry(trace::common_name(name).to_owned())
                .or_insert(0) += 1;
        }
        println!(
            "{storage_driver}: {}: {} calls by the hook, {} by strace",
            step.command[0],
            hooked.len(),
            changes.len()
        );
        differences.extend(difference(step, &hooked, &changes));
    }
    println!("{storage_driver}: {kinds:?}");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let found: BTreeSet<_> = kinds.keys().map(String::as_str).collect();
    for kind in [
        "open", "write", "rename", "link", "symlink", "unlink", "mkdir", "mknod", "chown",
        "utimens",
    ] {
        assert!(found.contains(kind), "no {kind} among {kinds:?}");
    }
}

/// A plugin that pulls an image, publishes and unpublishes it: as many calls of each kind by the hook as strace sees.
/// Several threads make them, in any order.
pub fn compare_plugin() {
    tool::require_root();
    let scratch = Scratch::new("counting");
    let layout = scratch.path().join("layout");
    let built = image::write_busybox_layout(&layout, "one");
    let registry = Registry::start(&scratch.dir("registry"));
    registry.push(&layout, "test/busybox", "one");
    let reference = registry.reference("test/busybox", "one");

    // strace goes aside, so that the plugin is the child whom the test stops.
    let (log, file) = (scratch.path().join("calls"), scratch.path().join("strace"));
    let traced = scratch.path().join("strata-traced");
    let script = format!(
        "#!/bin/sh\nexec {} -D {} {} \"$@\"\n",
        trace::strace().display(),
        trace::options(&file).join(" ").replace('?', "\\?"),
        env!("CARGO_BIN_EXE_strata")
    );
    fs::write(&traced, script).expect("a script can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&traced, mode).expect("its mode can be set");
    let mut settings = Settings::below(&scratch.dir("node"), &traced);
    settings.arguments = vec!["--pull-lanes".into(), "1".into()];
    let log_text = log.to_str().expect("UTF-8").to_owned();
    let environment = vec![("STRATA_FAULT_LOG".to_owned(), log_text)];
    let checked = Checked::default();
    let mut play = Play::new(&settings, environment, &reference, &checked);
    let process = play.process();
    for step in [
        script::Step::PublishPulling,
        script::Step::Write,
        script::Step::Unpublish,
    ] {
        play.carry_out(step, &built);
    }
    assert!(!play.finish(), "the plugin lives to its end");
    trace::wait_for_end(&file, process);

    let count = |names: &mut dyn Iterator<Item = &str>| {
        let mut kinds = BTreeMap::new();
        for name in names {
            *kinds
                .entry(trace::common_name(name).to_owned())
                .or_insert(0) += 1;
        }
        kinds
    };
    let hooked = trace::hooked_in_any_order(&log);
    let calls = trace::read(&file, &[&log, &settings.log]);
    let changes: Vec<_> = calls.iter().filter(|call| call.is_change).collect();
    let by_hook = count(&mut hooked.iter().map(String::as_str));
    let by_strace = count(&mut changes.iter().map(|call| call.name.as_str()));
    println!("plugin: {by_hook:?}");
    let lines: Vec<_> = changes
        .iter()
        .filter(|call| {
            let kind = trace::common_name(&call.name);
            by_hook.get(kind) != by_strace.get(kind)
        })
        .map(|call| call.line.as_str())
        .collect();
    assert_eq!(by_hook, by_strace, "{}", lines.join("\n"));
    assert!(hooked.len() > 100, "only {} calls", hooked.len());
}

/// Where the two part company first.
fn difference(step: &Step, hooked: &[String], changes: &[&Call]) -> Option<String> {
    let longest = hooked.len().max(changes.len());
    let at = (0..longest).find(|at| {
        let hooked = hooked.get(*at).map(|name| trace::common_name(name));
        hooked != changes.get(*at).map(|call| trace::common_name(&call.name))
    })?;
    let lines = |at: usize| {
        format!(
            "  {at}: hook {:?}, strace {:?}",
            hooked.get(at),
            changes.get(at).map(|call| &call.line)
        )
    };
    let near: Vec<_> = (at.saturating_sub(2)..(at + 5).min(longest))
        .map(lines)
        .collect();
    Some(format!(
        "{}: {} calls by the hook, {} by strace:\n{}",
        step.command[0],
        hooked.len(),
        changes.len(),
        near.join("\n")
    ))
}

/// The program as it is released, without the hook, which `scripts/run-tests` names.
fn plain_binary() -> PathBuf {
    let path = std::env::var_os("STRATA_PLAIN_BINARY").map(PathBuf::from);
    let path = path.filter(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "STRATA_PLAIN_BINARY names no program: it is the released strata, which has no feature fault. Run \
             scripts/run-tests without arguments, which makes one, or: \
             export STRATA_PLAIN_BINARY=$(scripts/build-binary)"
        )
    });
    let bytes = fs::read(&path).expect("the program can be read");
    let word = b"STRATA_FAULT_LOG";
    assert!(
        !bytes.windows(word.len()).any(|window| window == word),
        "{} has the fault hook: build it without the feature fault",
        path.display()
    );
    path
}

/// A call at which a step is killed.
#[derive(Clone, Debug)]
struct Point {
    step: usize,
    call: Call,
    /// Nobody wants the mount any more: the container is deleted next.
    is_given_up: bool,
}

/// Kills the program without the hook before [`POINTS`] of the calls of the cycle, spread evenly; each command then
/// succeeds when it is given again, and nothing is left over. The same for every call of a mount that is not asked for
/// again.
pub fn kill() {
    tool::require_root();
    let binary = plain_binary();
    let scratch = Scratch::new("plain");
    let points = choose(&scratch, &binary);
    let checked = Checked::default();
    let (next, struck) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(point) = points.get(at) else { return };
                    let place = scratch.dir(&format!("point-{at}"));
                    match caught::complaint(|| play(&place, &binary, point, &checked)) {
                        Ok(has_struck) => {
                            struck.fetch_add(usize::from(has_struck), Ordering::Relaxed);
                        }
                        Err(said) => failed.lock().unwrap().push(format!("{point:?}: {said}")),
                    }
                    super::support::scratch::unmount_below(&place);
                    drop(fs::remove_dir_all(&place));
                }
            });
        }
    });
    let (failed, struck) = (failed.into_inner().unwrap(), struck.into_inner());
    println!(
        "without the hook: killed at {struck} of {} points, {} failed",
        points.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // How often a file is looked for may differ from run to run, and with it the number of the call.
    assert!(
        struck + 2 >= points.len(),
        "only {struck} of {} points were reached",
        points.len()
    );
}

/// Learns from an undisturbed cycle which calls there are.
fn choose(scratch: &Scratch, binary: &Path) -> Vec<Point> {
    let cycle = Cycle::below(&scratch.dir("whole"), binary, "overlay");
    let log = scratch.path().join("none");
    let mut all = Vec::new();
    for (number, step) in cycle.steps.iter().enumerate() {
        let (ran, calls) = trace::run(binary, &cycle.arguments(step), &[], &log);
        assert!(ran.code == 0, "{ran}");
        let changes = calls.into_iter().filter(|call| call.is_change);
        all.extend(changes.map(|call| Point {
            step: number,
            call,
            is_given_up: false,
        }));
    }
    assert!(all.len() > POINTS, "only {} calls", all.len());
    let mut chosen: Vec<_> = (0..POINTS)
        .map(|point| all[point * all.len() / POINTS].clone())
        .collect();
    let mounts = |point: &&Point| cycle.steps[point.step].done == Done::Mounted;
    chosen.extend(all.iter().filter(mounts).map(|point| Point {
        is_given_up: true,
        ..point.clone()
    }));
    println!(
        "without the hook: {} calls, {} points",
        all.len(),
        chosen.len()
    );
    chosen
}

/// Plays the cycle with a kill at `point`; whether it struck.
fn play(place: &Path, binary: &Path, point: &Point, checked: &Checked) -> bool {
    let cycle = Cycle::below(place, binary, "overlay");
    let mut has_struck = false;
    for (number, step) in cycle.steps.iter().enumerate() {
        if number != point.step {
            if !(point.is_given_up && step.done == Done::Unmounted) {
                cycle.carry_out(step);
            }
            continue;
        }
        let Call { name, number, .. } = &point.call;
        let ran = Tool::at(&trace::strace())
            .args(["-f", "--output=/dev/null"])
            .arg(format!("--trace={name}"))
            .arg(format!("--inject={name}:signal=KILL:when={number}"))
            .arg(binary)
            .args(cycle.arguments(step))
            .output();
        // strace ends as the program did, by the signal.
        has_struck = ran.code == -1;
        assert!(has_struck || ran.code == 0, "{ran}");
        leftovers::assert_uppers_mounted_once(&cycle.settings);
        leftovers::check_remains_by_the_peer(&cycle.settings, checked);
        if !point.is_given_up {
            cycle.repeat(step);
        }
    }
    leftovers::assert_none(&cycle.settings, None, checked);
    let layers = cycle.settings.graph.join("overlay-layers/layers.json");
    let text = fs::read_to_string(layers).unwrap_or_default();
    assert!(!text.contains("\"id\""), "layers left: {text}");
    has_struck
}

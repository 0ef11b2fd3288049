//! One command at a time is killed, or gets an error, at its calls that change something.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::caught;
use super::commands::{self, Case, Start};
use super::leftovers::{self, Checked};
use super::place::Kind;
use super::scene::Scene;
use super::support::plugin::{self, Settings};
use super::support::tool;

/// How a trial ends when some of the work is there.
const PART: &str = "done in part";

const ERRORS: [i32; 3] = [libc::ENOSPC, libc::EIO, libc::EDQUOT];

/// What is done to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// Before the call, or after the last one.
    Kill(&'static str, usize),
    Error(usize, i32),
    /// Every call is interrupted once, or every write shortened: it does its work all the same.
    Nuisance(&'static str),
}

impl Fault {
    fn text(&self) -> String {
        match self {
            Self::Kill(when, at) => format!("kill-{when}:{at}"),
            Self::Error(at, errno) => format!("error:{at}:{errno}"),
            Self::Nuisance(text) => (*text).to_owned(),
        }
    }

    /// The number of the call that it strikes.
    fn at(&self) -> Option<usize> {
        match self {
            Self::Kill(_, at) | Self::Error(at, _) => Some(*at),
            Self::Nuisance(_) => None,
        }
    }
}

/// How many of the points are tried.
#[derive(Clone, Copy, Debug)]
pub enum Share {
    All,
    /// About so many, evenly spread: the same in every run.
    AtMost(usize),
}

impl Share {
    fn take<T>(self, points: Vec<T>) -> Vec<T> {
        match self {
            Self::All => points,
            Self::AtMost(most) => {
                let step = points.len().div_ceil(most).max(1);
                points.into_iter().step_by(step).collect()
            }
        }
    }
}

/// States of a store that an undisturbed run goes through.
#[derive(Debug)]
struct Run {
    before: String,
    after: String,
    closed: String,
    calls: Vec<String>,
}

/// Before each call and after the last.
fn kills(calls: usize) -> Vec<Fault> {
    let mut faults: Vec<_> = (1..=calls).map(|at| Fault::Kill("before", at)).collect();
    faults.extend((calls > 0).then_some(Fault::Kill("after", calls)));
    faults
}

/// A full disk, a broken one, a quota at each call.
fn errors(calls: usize) -> Vec<Fault> {
    let errors = (1..=calls).flat_map(|at| ERRORS.map(|errno| Fault::Error(at, errno)));
    errors.collect()
}

/// All calls interrupted once, and all writes cut in half.
fn nuisances(_: usize) -> Vec<Fault> {
    vec![Fault::Nuisance("interrupt"), Fault::Nuisance("shorten")]
}

/// Which faults a command with so many calls gets.
type Choice = fn(usize) -> Vec<Fault>;

/// A fault in a command, and what the command does without it.
type Trial = (&'static Case, Arc<Run>, Fault);

/// Kills every command at its calls, gives it errors there, and disturbs it, in such a place.
pub fn run(place: Kind, shares: [Share; 3]) {
    run_of(commands::ALL, place, shares);
}

/// The same with these commands.
pub fn run_of(cases: &'static [Case], place: Kind, [killed, failed, disturbed]: [Share; 3]) {
    tool::require_root();
    let binary = plugin::binary(env!("CARGO_BIN_EXE_strata"));
    let scene = Scene::new(place, &binary);
    let place = place.text();
    let cases: Vec<_> = scene.cases(cases).collect();
    let mut runs = in_lanes(cases.len(), |lane, at| {
        let case = cases[at];
        Arc::new(undisturbed(&scene, lane, case))
    });
    runs.sort_by_key(|(at, _)| *at);
    let counts: Vec<_> = runs
        .iter()
        .map(|(at, run)| format!("{} {}", cases[*at].name, run.calls.len()))
        .collect();
    println!("{place}: calls: {}", counts.join(", "));
    let checked = Checked::default();
    let mut all_bad = 0;
    for (what, share, choose) in [
        ("killed", killed, kills as Choice),
        ("failed", failed, errors as Choice),
        ("disturbed", disturbed, nuisances as Choice),
    ] {
        let all = runs.iter().flat_map(|(at, run)| {
            let faults = choose(run.calls.len()).into_iter();
            faults.map(|fault| (cases[*at], Arc::clone(run), fault))
        });
        let all: Vec<Trial> = all.collect();
        let points = all.len();
        let trials = share.take(all);
        let ends = in_lanes(trials.len(), |lane, at| {
            let end = attempt(&scene, lane, &trials[at], &checked);
            // All of them take hours: what is bad is told at once.
            end.inspect_err(|line| println!("{place}: bad: {line}\n"))
        });
        let mut counts = BTreeMap::new();
        for (_, end) in &ends {
            if let Ok(end) = end {
                *counts.entry(*end).or_insert(0) += 1;
            }
        }
        let bad = ends.iter().filter(|(_, end)| end.is_err()).count();
        all_bad += bad;
        println!(
            "{place}: {} commands {what} at {} of {points} points: {counts:?}, {bad} bad",
            cases.len(),
            trials.len(),
        );
    }
    assert_eq!(all_bad, 0, "points are bad: see above");
}

/// Does something for each number below `count`, three at a time; what came of each.
pub fn in_lanes<T: Send>(count: usize, act: impl Fn(&str, usize) -> T + Sync) -> Vec<(usize, T)> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for lane in 0..3 {
            let (next, done, act) = (&next, &done, &act);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    let made = act(&format!("lane-{lane}"), at);
                    done.lock().unwrap().push((at, made));
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// How a trial ended, or which one it was that went wrong.
fn attempt(
    scene: &Scene,
    lane: &str,
    (case, run, fault): &Trial,
    checked: &Checked,
) -> Result<&'static str, String> {
    let act = || {
        play(scene, lane, case, |settings| {
            try_once(scene, case, run, fault, settings, checked)
        })
    };
    caught::complaint(act).map_err(|said| {
        scene.clear(lane);
        let call = fault.at().and_then(|at| run.calls.get(at.wrapping_sub(1)));
        format!("{}: {} ({call:?}): {said}", case.name, fault.text())
    })
}

/// What `act` makes of a store in which what comes before the command is done.
fn play<T>(scene: &Scene, lane: &str, case: &Case, act: impl FnOnce(&Settings) -> T) -> T {
    scene.play(lane, case.start, |settings| {
        for line in case.before {
            scene.ok(settings, line);
        }
        act(settings)
    })
}

/// The run without a fault.
fn undisturbed(scene: &Scene, lane: &str, case: &Case) -> Run {
    let before = play(scene, lane, case, |settings| state(scene, case, settings));
    play(scene, lane, case, |settings| {
        let log = settings.graph.with_file_name("calls");
        let variable = ("STRATA_FAULT_LOG", log.to_str().expect("UTF-8"));
        let ran = scene.run(settings, Some(variable), case.command);
        assert!(ran.code == 0, "{}: {ran}", case.name);
        let calls = fs::read_to_string(&log).unwrap_or_default();
        fs::remove_file(&log).ok();
        let after = state(scene, case, settings);
        for line in case.closing {
            scene.run(settings, None, line);
        }
        let closed = state(scene, case, settings);
        scene.ok(settings, "check");
        Run {
            before,
            after,
            closed,
            calls: calls.lines().map(str::to_owned).collect(),
        }
    })
}

/// The store once its garbage is removed.
fn state(scene: &Scene, case: &Case, settings: &Settings) -> String {
    scene.ok(settings, "gc");
    if case.may_leave_layer {
        delete_unused(scene, settings);
    }
    leftovers::named_state(settings)
}

/// Deletes the layers of containers that are not there, and copies for other owners that only those stood on.
fn delete_unused(scene: &Scene, settings: &Settings) {
    let list = |kind: &str| -> Vec<Value> {
        let listed = scene.run(settings, None, &format!("{kind} --json")).json();
        listed.as_array().cloned().unwrap_or_default()
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let layers = list("layers");
    let mut used: Vec<_> = list("containers")
        .iter()
        .map(|record| text(&record["layer"]))
        .collect();
    for image in list("images") {
        used.extend(
            image["mapped-layers"]
                .as_array()
                .into_iter()
                .flatten()
                .map(text),
        );
    }
    // Children come after their parents.
    for layer in layers.iter().rev() {
        let id = text(&layer["id"]);
        // The scene's own layers are one digit over and over.
        if id == id[..1].repeat(id.len()) || used.contains(&id) {
            used.push(text(&layer["parent"]));
        } else {
            scene.ok(settings, &format!("delete-layer {id}"));
        }
    }
}

/// How a trial ended.
fn try_once(
    scene: &Scene,
    case: &Case,
    run: &Run,
    fault: &Fault,
    settings: &Settings,
    checked: &Checked,
) -> &'static str {
    let ran = scene.run(
        settings,
        Some(("STRATA_FAULT", &fault.text())),
        case.command,
    );
    leftovers::assert_uppers_mounted_once(settings);
    let is_damaged = matches!(case.start, Start::Without(_));
    if !is_damaged {
        // As it was left, before any Strata may put it right.
        leftovers::check_remains_by_the_peer(settings, checked);
    }
    let found = state(scene, case, settings);
    let end = match fault {
        Fault::Kill(..) => {
            assert_eq!(ran.code, -1, "{} is killed: {ran}", case.name);
            judge(case, run, &found, case.is_atomic && !case.may_leave_part)
        }
        Fault::Nuisance(_) => {
            assert_eq!(ran.code, 0, "{}: {ran}", case.name);
            assert_same(case, &found, &run.after);
            "done in spite of it"
        }
        Fault::Error(..) if ran.code == 0 && case.has_other_way => "done another way",
        Fault::Error(..) if ran.code == 0 => {
            assert_same(case, &found, &run.after);
            "done without it"
        }
        Fault::Error(_, errno) => {
            assert!(ran.code == 1 || ran.code == 125, "it ends in order: {ran}");
            let said = format!("{}{}", ran.stderr, ran.text());
            let number = std::io::Error::from_raw_os_error(*errno).to_string();
            let (number, _) = number.split_once(" (").expect("a text and a number");
            let is_told = said.to_lowercase().contains(&number.to_lowercase());
            assert!(
                is_told && names_a_file(&said, scene),
                "what is wrong: {ran}"
            );
            judge(case, run, &found, case.is_atomic)
        }
    };
    if !case.may_lose && !is_damaged {
        leftovers::check_by_the_peer(settings, checked);
    }
    let is_repeated = match fault {
        Fault::Nuisance(_) => true,
        _ => repeat(scene, case, settings),
    };
    if case.has_other_way && matches!(fault, Fault::Error(..)) {
        return end;
    }
    if case.may_lose && (!is_repeated || end == PART) {
        return "taken away";
    }
    for line in case.closing {
        scene.run(settings, None, line);
    }
    assert_same(case, &state(scene, case, settings), &run.closed);
    if is_damaged {
        leftovers::check_by_the_peer(settings, checked);
    }
    end
}

fn judge(case: &Case, run: &Run, found: &str, is_atomic: bool) -> &'static str {
    if found == run.after {
        return "done";
    }
    if found == run.before {
        return "not done";
    }
    if is_atomic {
        assert_same(case, found, &run.before);
    }
    PART
}

/// The command given again: it succeeds, or finds all done and says so (false).
fn repeat(scene: &Scene, case: &Case, settings: &Settings) -> bool {
    let ran = scene.run(settings, None, case.command);
    if ran.code == 0 {
        return true;
    }
    let excuse = case.excuse.unwrap_or("nothing excuses it");
    assert!(ran.to_string().contains(excuse), "{}: {ran}", case.name);
    if case.name == "delete-image, with layers" {
        // The image's record goes first; then nothing leads to its layers but their own IDs.
        for layer in ["TOP", "MIDDLE", "LOWEST"] {
            scene.run(settings, None, &format!("delete-layer {layer}"));
        }
    }
    false
}

fn names_a_file(said: &str, scene: &Scene) -> bool {
    said.contains(scene.place.scratch.path().to_str().expect("UTF-8"))
}

fn assert_same(case: &Case, found: &str, wanted: &str) {
    if found == wanted {
        return;
    }
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let (found, wanted) = (lines(found), lines(wanted));
    let more: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
    let less: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
    panic!("{}: too much: {more:#?}\nmissing: {less:#?}", case.name);
}

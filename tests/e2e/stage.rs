//! Where a test plays: the plugin is installed before, and nothing is left after.

use std::fs;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::cluster::{kubectl, try_script};
use super::support::tool::Tool;
use super::{chart, leftovers};

static STAGE: Mutex<()> = Mutex::new(());
static AFTERWARDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Plays one test: with the plugin installed, alone, and with nothing left behind. What went wrong is gathered before
/// it is cleared away.
#[track_caller]
pub fn play(test: impl FnOnce()) {
    let place = Location::caller();
    let _alone = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let begun = Instant::now();
    let file = place.file().rsplit('/').next().unwrap_or_default();
    let name = format!("{file}-line-{}", place.line());
    let played = catch_unwind(AssertUnwindSafe(|| {
        chart::install();
        test();
        let failed = put_back();
        assert!(failed.is_empty(), "{failed:#?}");
        clear();
        leftovers::assert_none(&name);
    }));
    print!("{:.1} s ", begun.elapsed().as_secs_f64());
    if let Err(panic) = played {
        gather(&name);
        // With what a failed test has changed no later one would pass.
        for failed in put_back() {
            println!("{failed}");
        }
        chart::restore();
        clear();
        resume_unwind(panic);
    }
}

/// Has commands of bash run when this test has ended, whether it passes or fails: what puts back what the test is about
/// to change on the node. They must also succeed where it is put back already. The last come first.
pub fn afterwards(commands: &str) {
    let mut later = AFTERWARDS.lock().unwrap_or_else(PoisonError::into_inner);
    later.push(commands.to_owned());
}

/// Runs what was left for afterwards. What failed of it.
fn put_back() -> Vec<String> {
    let mut later = AFTERWARDS.lock().unwrap_or_else(PoisonError::into_inner);
    let ran = later.drain(..).rev().map(|commands| try_script(&commands));
    ran.filter(|ran| ran.code != 0)
        .map(|ran| ran.to_string())
        .collect()
}

/// Says something that is to be seen even when the test passes.
pub fn report(text: &str) {
    let Some(path) = std::env::var_os("STRATA_REPORT") else {
        println!("{text}");
        return;
    };
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    std::io::Write::write_all(&mut file.expect("the report"), text.as_bytes())
        .expect("a line of the report");
}

/// Deletes what tests make in the namespace `default`.
fn clear() {
    kubectl(&["delete", "pods,persistentvolumeclaims,secrets", "--all"])
        .args(["--grace-period=1", "--timeout=60s"])
        .output();
}

/// Keeps what tells why a test failed, in the folder that `scripts/run-e2e` prints.
fn gather(name: &str) {
    let Some(folder) = std::env::var_os("STRATA_E2E_FAILURES") else {
        return;
    };
    let folder = std::path::PathBuf::from(folder).join(name);
    fs::create_dir_all(&folder).expect("a folder can be made");
    let logs = [
        "kubectl",
        "logs",
        "--namespace",
        chart::NAMESPACE,
        "daemonset/strata",
        "--all-containers",
        "--prefix",
    ];
    let logs_before = [&logs[..], &["--previous", "--ignore-errors"]].concat();
    let commands: [(&str, &[&str]); 8] = [
        (
            "events",
            &["kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp"],
        ),
        ("pods", &["kubectl", "describe", "pods", "-A"]),
        (
            "claims",
            &[
                "kubectl",
                "describe",
                "persistentvolumeclaims,persistentvolumes,storageclasses,csistoragecapacities",
                "-A",
            ],
        ),
        // What makes pods, and may have made none.
        (
            "controllers",
            &["kubectl", "describe", "daemonsets,jobs,deployments", "-A"],
        ),
        ("nodes", &["kubectl", "describe", "nodes"]),
        ("plugin.log", &logs),
        ("plugin-before.log", &logs_before),
        ("mounts", &["cat", "/proc/self/mountinfo"]),
    ];
    for (name, command) in commands {
        let ran = Tool::new(command[0]).args(&command[1..]).output();
        fs::write(folder.join(name), ran.to_string()).expect("a file can be written");
    }
    // Also of pods that the API server knows no more.
    let logs = Tool::new("cp")
        .args(["-r", "/var/log/pods"])
        .arg(folder.join("containers"));
    print!("{}", logs.output().stderr);
}

//! Where a test plays: the plugin is installed before, and nothing is left after.

use std::fs;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::cluster::kubectl;
use super::support::tool::Tool;
use super::{chart, leftovers};

static STAGE: Mutex<()> = Mutex::new(());

/// Plays one test: with the plugin installed, alone, and with nothing left behind. What went wrong is gathered before
/// it is cleared away.
#[track_caller]
pub fn play(test: impl FnOnce()) {
    let place = Location::caller();
    let _alone = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let begun = Instant::now();
    let played = catch_unwind(AssertUnwindSafe(|| {
        chart::install();
        test();
        clear();
        leftovers::assert_none();
    }));
    print!("{:.1} s ", begun.elapsed().as_secs_f64());
    if let Err(panic) = played {
        gather(place);
        // With the values of a failed test no later one would pass.
        chart::deploy(&[]).output();
        clear();
        resume_unwind(panic);
    }
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

/// Deletes what tests make.
fn clear() {
    // What makes pods goes before them.
    for kinds in ["deployments", "pods,persistentvolumeclaims,secrets"] {
        kubectl(&[
            "delete",
            kinds,
            "--all",
            "--grace-period=1",
            "--timeout=60s",
        ])
        .output();
    }
    let classes = "strata.dev/e2e=true";
    kubectl(&["delete", "storageclasses", "-l", classes]).output();
}

/// Keeps what tells why a test failed, in the folder that `scripts/run-e2e` prints.
fn gather(place: &Location<'_>) {
    let Some(folder) = std::env::var_os("STRATA_E2E_FAILURES") else {
        return;
    };
    let file = place.file().rsplit('/').next().unwrap_or_default();
    let folder = std::path::PathBuf::from(folder).join(format!("{file}-line-{}", place.line()));
    fs::create_dir_all(&folder).expect("a folder can be made");
    let commands: [(&str, &[&str]); 6] = [
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
                "persistentvolumeclaims,persistentvolumes",
                "-A",
            ],
        ),
        ("nodes", &["kubectl", "describe", "nodes"]),
        (
            "plugin.log",
            &[
                "kubectl",
                "logs",
                "--namespace",
                "strata",
                "daemonset/strata",
                "--all-containers",
                "--prefix",
            ],
        ),
        ("mounts", &["cat", "/proc/self/mountinfo"]),
    ];
    for (name, command) in commands {
        let ran = Tool::new(command[0]).args(&command[1..]).output();
        fs::write(folder.join(name), ran.to_string()).expect("a file can be written");
    }
}

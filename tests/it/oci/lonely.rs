//! Tests that could lead a program to another machine run where there is none: in a network name space
//! with a loopback device and no route.

use std::process::Command;

const INSIDE: &str = "STRATA_TEST_WITHOUT_ROUTES";

/// True inside. Outside, runs the test `name` of this binary inside, and fails as it does; the caller then
/// has nothing left to do.
///
/// # Panics
/// When the test fails inside, or there is no inside: without root it needs user name spaces.
pub fn is_inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let output = command
        .args(["--net", "--", "sh", "-c"])
        .arg("ip link set lo up && exec \"$@\"")
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare is there: install util-linux and iproute2, by scripts/install test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} without routes:\n{text}");
    // The name may be wrong, and then nothing was run.
    assert!(text.contains("1 passed"), "{name} was not run:\n{text}");
    false
}

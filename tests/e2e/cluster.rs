//! The cluster that the tests run in: its programs, and the processes of its node.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::tool::{Ran, Tool};

/// The node's name.
pub const NODE: &str = "node-1";
/// The open registry, as the node and its pods with the node's network see it.
pub const OPEN: &str = "127.0.0.1:5000";
/// The registry with a password: user `e2e`, password `strata`.
pub const PRIVATE: &str = "127.0.0.1:5001";
/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of the running cluster.
///
/// # Panics
/// When this process is not inside its node.
pub fn folder() -> PathBuf {
    let folder = std::env::var_os("STRATA_CLUSTER").map(PathBuf::from);
    folder.expect("no cluster: start one with `make cluster`, then `scripts/run-e2e NAME`")
}

/// `kubectl` with these arguments.
pub fn kubectl(arguments: &[&str]) -> Tool {
    Tool::new("kubectl").args(arguments)
}

/// What `kubectl get ... -o json` says.
pub fn get(arguments: &[&str]) -> Value {
    kubectl(&["get", "-o", "json"]).args(arguments).ok().json()
}

/// The objects of `kubectl get ... -o json`.
pub fn list(arguments: &[&str]) -> Vec<Value> {
    match get(arguments)["items"].take() {
        Value::Array(items) => items,
        other => panic!("{arguments:?}: no list: {other}"),
    }
}

/// Creates or changes these objects.
pub fn apply(object: &Value) {
    kubectl(&["apply", "-f", "-"])
        .input(object.to_string())
        .ok();
}

/// Runs commands of bash with the functions of `cluster/cluster.bash`, which must succeed.
pub fn script(commands: &str) -> Ran {
    let ran = try_script(commands);
    assert!(ran.code == 0, "{ran}");
    ran
}

/// The same, whatever comes of it.
pub fn try_script(commands: &str) -> Ran {
    let functions = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/e2e/cluster/cluster.bash"
    );
    Tool::new("bash")
        .args(["-euo", "pipefail", "-c"])
        .arg(format!(". {functions}\n{commands}"))
        .output()
}

/// Waits until `found` gives a value.
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "gave up waiting for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until nothing is found any more.
///
/// # Panics
/// With what is still there after [`PATIENCE`].
#[track_caller]
pub fn wait_until_none(what: &str, mut found: impl FnMut() -> Vec<String>) {
    let begun = Instant::now();
    loop {
        let found = found();
        if found.is_empty() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {found:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The container of this pod as the node's containerd names it.
pub fn container_id(pod: &Value, container: &str) -> Option<String> {
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    let status = statuses.iter().find(|status| status["name"] == container)?;
    let id = status["containerID"].as_str()?;
    Some(id.strip_prefix("containerd://")?.to_owned())
}

/// The first process of a container, as the node numbers it.
pub fn container_process(id: &str) -> u32 {
    let ran = Tool::new("ctr")
        .arg("--address")
        .arg(folder().join("containerd.sock"))
        .args(["--namespace", "k8s.io", "tasks", "list"])
        .ok();
    ran.text()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|columns| columns.first() == Some(&id))
        .and_then(|columns| columns.get(1)?.parse().ok())
        .unwrap_or_else(|| panic!("containerd has no task {id}: {ran}"))
}

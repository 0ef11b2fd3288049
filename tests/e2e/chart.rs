//! Strata in the cluster: installed by its chart, and its plugin's pod.

use serde_json::Value;

use super::cluster::{self, NODE, OPEN, kubectl, list, wait_for};
use super::support::tool::Tool;

/// The driver's name.
pub const DRIVER: &str = "csi.strata.dev";
/// Where the release lives.
pub const NAMESPACE: &str = "strata";
/// The release's name.
pub const RELEASE: &str = "strata";

/// The chart's folder.
pub fn folder() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/strata")
}

/// `helm` with these arguments.
pub fn helm(arguments: &[&str]) -> Tool {
    Tool::new("helm").args(arguments)
}

/// `helm install` or `upgrade` of the chart, with more arguments.
pub fn deploy(arguments: &[&str]) -> Tool {
    helm(&["upgrade", "--install", RELEASE, folder()])
        .args(["--namespace", NAMESPACE, "--create-namespace"])
        .arg("--set")
        .arg(format!("image.repository={OPEN}/strata"))
        .args(arguments)
}

/// Installs the chart where it is not, and waits until the kubelet knows the driver.
pub fn install() {
    if is_ready() {
        return;
    }
    // Helm keeps a release as a secret; `helm list` asks for the same, five times slower.
    let releases = format!("owner=helm,name={RELEASE},status=deployed");
    if list(&["secrets", "--namespace", NAMESPACE, "-l", &releases]).is_empty() {
        deploy(&[]).ok();
    }
    wait_until_ready();
}

/// The chart with its own values again, whatever has become of the release.
pub fn restore() {
    if deploy(&[]).output().code != 0 {
        // A release that is being uninstalled can't be upgraded.
        let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE];
        helm(&uninstall).args(["--no-hooks", "--wait"]).output();
        let ran = deploy(&[]).output();
        if ran.code != 0 {
            println!("{ran}");
        }
    }
}

/// Waits until one plugin runs, is ready and registered.
pub fn wait_until_ready() {
    let daemons = format!("daemonset/{RELEASE}");
    kubectl(&["rollout", "status", &daemons])
        .args(["--namespace", NAMESPACE, "--timeout=60s"])
        .ok();
    wait_for("the kubelet to know the driver", || {
        has_driver(&cluster::get(&["csinode", NODE])).then_some(())
    });
}

/// What [`wait_until_ready`] waits for, in one question: each test asks it.
fn is_ready() -> bool {
    let ran = kubectl(&["get", "-o", "json", "--namespace", NAMESPACE])
        .arg(format!("daemonset/{RELEASE}"))
        .arg(format!("csinode/{NODE}"))
        .output();
    if ran.code != 0 {
        return false;
    }
    let objects = ran.json();
    let [daemons, node] = [0, 1].map(|at| &objects["items"][at]);
    let (metadata, status) = (&daemons["metadata"], &daemons["status"]);
    metadata["deletionTimestamp"].is_null()
        && status["observedGeneration"] == metadata["generation"]
        && [
            "desiredNumberScheduled",
            "updatedNumberScheduled",
            "numberAvailable",
        ]
        .iter()
        .all(|count| status[count] == 1)
        && has_driver(node)
}

/// The kubelet has registered the driver.
fn has_driver(node: &Value) -> bool {
    let drivers = node["spec"]["drivers"].as_array();
    drivers.is_some_and(|drivers| drivers.iter().any(|driver| driver["name"] == DRIVER))
}

/// The pod of the plugin that is not on its way out.
pub fn plugin() -> Value {
    wait_for("one pod of the plugin", || {
        let mut pods = list(&["pods", "--namespace", NAMESPACE]);
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        pods.retain(|pod| pod["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet");
        (pods.len() == 1).then(|| pods.remove(0))
    })
}

/// How often the plugin's container was started again.
pub fn plugin_restarts() -> u64 {
    let pod = plugin();
    let statuses = pod["status"]["containerStatuses"].as_array().cloned();
    statuses
        .iter()
        .flatten()
        .filter(|status| status["name"] == "strata")
        .map(|status| status["restartCount"].as_u64().unwrap_or(0))
        .sum()
}

//! Taking Strata away while pods have volumes of it.

use std::path::Path;

use super::chart::{self, DRIVER, NAMESPACE, RELEASE, helm};
use super::claims;
use super::cluster::{NODE, get, kubectl, wait_for, wait_until_none};
use super::events::{assert_calm, assert_mount_fails};
use super::images::{page, site};
use super::leftovers::{containers, wait_for_volumes};
use super::pod::Pod;
use super::stage::play;
use super::support::tool::Tool;

/// What `kubectl get` names.
fn names(arguments: &[&str]) -> Vec<String> {
    let ran = kubectl(&["get", "-o", "name"]).args(arguments).ok();
    ran.text().lines().map(str::to_owned).collect()
}

/// What the chart, the plugin and csi-provisioner make in the cluster, and the plugin's sockets.
fn left_by_the_release() -> Vec<String> {
    const OF_THE_CLUSTER: &str = "csidrivers,storageclasses,clusterroles,clusterrolebindings,\
        validatingadmissionpolicies,validatingadmissionpolicybindings";
    const OF_NAMESPACES: &str =
        "daemonsets,controllerrevisions,jobs,pods,roles,rolebindings,serviceaccounts,configmaps";
    let label = format!("app.kubernetes.io/instance={RELEASE}");
    let kinds = format!("{OF_THE_CLUSTER},{OF_NAMESPACES}").replace(' ', "");
    let mut left = names(&[&kinds, "--all-namespaces", "-l", &label]);
    let records = "secrets,csistoragecapacities";
    left.extend(names(&[records, "--namespace", NAMESPACE]));
    let drivers = get(&["csinode", NODE])["spec"]["drivers"].take();
    if drivers.to_string().contains(DRIVER) {
        left.push(format!("the kubelet's registration: {drivers}"));
    }
    let sockets = [
        format!("/var/lib/kubelet/plugins/{DRIVER}/csi.sock"),
        format!("/var/lib/kubelet/plugins_registry/{DRIVER}-reg.sock"),
    ];
    left.extend(sockets.into_iter().filter(|path| Path::new(path).exists()));
    left
}

#[test]
fn an_uninstall_with_volumes_in_use_is_refused_and_names_the_pods() {
    play(|| {
        claims::wait_for_capacity("strata");
        claims::claim("room", "strata");
        let tenant = Pod::new("tenant").claim("room", "room").create();
        let pod = Pod::new("holder").image("site", &site("held")).run();
        tenant.wait_until_ready();
        let ran = helm(&["uninstall", RELEASE, "--namespace", NAMESPACE]).output();
        assert!(ran.code != 0, "{ran}");
        let said = format!("{}{}", ran.text(), ran.stderr);
        assert!(said.contains("default/holder"), "{ran}");
        assert!(said.contains("default/tenant"), "{ran}");
        // The plugin is still there and works.
        let other = Pod::new("other").image("site", &site("held")).run();
        assert_eq!(other.shell("cat /site/index.html"), page("held"));
        // What to do instead is said word for word.
        let (_, rollback) = said
            .split_once("To keep the release after all: ")
            .expect("a way back");
        let rollback = rollback.lines().next().unwrap_or_default();
        Tool::new("sh").args(["-c", rollback]).ok();
        let release = helm(&["status", RELEASE, "--namespace", NAMESPACE, "-o", "json"])
            .ok()
            .json();
        assert_eq!(release["info"]["status"], "deployed");
        for pod in [&pod, &other, &tenant] {
            assert_calm(pod);
        }
        kubectl(&["delete", "pods,persistentvolumeclaims", "--all"])
            .arg("--timeout=60s")
            .ok();
        wait_for_volumes(0);
        wait_until_none("persistent volumes", || names(&["persistentvolumes"]));
        helm(&["uninstall", RELEASE, "--namespace", NAMESPACE]).ok();
        wait_until_none("left by the uninstall", left_by_the_release);
        chart::install();
    });
}

#[test]
fn a_forced_uninstall_leaves_pods_their_data_and_a_new_one_finishes_deletions() {
    play(|| {
        let pod = Pod::new("holder").image("site", &site("orphaned")).run();
        pod.shell("echo before > /site/kept");
        helm(&[
            "uninstall",
            RELEASE,
            "--namespace",
            NAMESPACE,
            "--no-hooks",
            "--wait",
        ])
        .ok();
        wait_for("the plugin to be gone", || {
            let pods = get(&["pods", "--namespace", NAMESPACE]);
            pods["items"].as_array()?.is_empty().then_some(())
        });
        assert_eq!(
            pod.shell("cat /site/kept /site/index.html"),
            format!("before\n{}", page("orphaned"))
        );
        pod.shell("echo after >> /site/kept");
        assert_calm(&pod);
        // Who comes now waits, and is told for what.
        let image = site("orphaned");
        let early = Pod::new("early").image("site", &image).create();
        assert_mount_fails(&early, &[DRIVER, "not found in the list of registered"]);
        kubectl(&["delete", "pod", "holder", "--wait=false"]).ok();
        wait_for("its container to end", || {
            let state = &pod.object()["status"]["containerStatuses"][0]["state"];
            state["terminated"].is_object().then_some(())
        });
        assert_eq!(
            containers().len(),
            1,
            "nobody is there to delete the volume"
        );
        chart::install();
        early.wait_until_ready();
        assert_eq!(early.shell("cat /site/index.html"), page("orphaned"));
        // The other one's volume goes.
        wait_for_volumes(1);
        wait_for("the pod to be gone", || {
            let ran = kubectl(&["get", "pod", "holder"]).output();
            (ran.code != 0).then_some(())
        });
    });
}

//! Taking Strata away while pods have volumes of it.

use super::chart::{self, NAMESPACE, RELEASE, helm};
use super::cluster::{get, kubectl, wait_for};
use super::images::{page, site};
use super::leftovers::{containers, wait_for_volumes};
use super::pod::Pod;
use super::stage::play;
use super::support::tool::Tool;

#[test]
fn an_uninstall_with_volumes_in_use_is_refused_and_names_the_pods() {
    play(|| {
        let pod = Pod::new("holder").image("site", &site("held")).run();
        let ran = helm(&["uninstall", RELEASE, "--namespace", NAMESPACE]).output();
        assert!(ran.code != 0, "{ran}");
        let said = format!("{}{}", ran.text(), ran.stderr);
        assert!(said.contains("default/holder"), "{ran}");
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
        other.delete();
        pod.delete();
        wait_for_volumes(0);
        helm(&["uninstall", RELEASE, "--namespace", NAMESPACE]).ok();
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
        wait_for_volumes(0);
        wait_for("the pod to be gone", || {
            let ran = kubectl(&["get", "pod", "holder"]).output();
            (ran.code != 0).then_some(())
        });
    });
}

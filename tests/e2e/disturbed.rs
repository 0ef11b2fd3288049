//! The node's programs die or are replaced while pods write.

use super::chart::{self, plugin_restarts};
use super::claims;
use super::cluster::{container_id, container_process, kubectl, script, wait_for};
use super::events::{self, assert_calm, assert_told};
use super::images::{page, site};
use super::leftovers::wait_for_volumes;
use super::pod::{Pod, Running};
use super::stage::{afterwards, play};
use super::support::tool::Tool;

/// Writes a line twenty times a second to each of its volumes, and says `FAILED` when one can not be written.
const WRITER: &str = "
    for log in /site/lines /room/lines; do
        [ -d ${log%/*} ] || continue
        (n=0; while n=$((n + 1)); do
            echo line $n >> $log || echo FAILED $log $n
            [ \"$(tail -1 $log)\" = \"line $n\" ] || echo FAILED $log $n
            sleep 0.05
        done) &
    done";

/// A pod that writes all the time.
fn writer(pod: &Pod) -> Running {
    let pod = pod.clone().script(WRITER).run();
    wait_for_lines(&pod, 3);
    pod
}

/// The same with a volume of its own and one of a claim.
fn writer_with_claim(image: &str) -> Running {
    claims::wait_for_capacity("strata");
    claims::claim("room", "strata");
    let pod = Pod::new("survivor").image("site", image);
    let pod = writer(&pod.claim("room", "room"));
    assert_eq!(pod.shell("ls -d /*/lines | wc -l"), "2");
    pod
}

/// How many lines it has written at least to each of its volumes.
fn lines(pod: &Running) -> u64 {
    let ran = pod.try_shell("for log in /*/lines; do wc -l < $log; done | sort -n | head -1");
    ran.text().parse().unwrap_or(0)
}

/// Waits until it has written so many lines more.
fn wait_for_lines(pod: &Running, more: u64) {
    let before = lines(pod);
    wait_for("the pod to write", || {
        (lines(pod) >= before + more).then_some(())
    });
}

/// It has written without a failure or a gap, and it goes on; nothing was told of it but that it started.
#[track_caller]
fn assert_undisturbed(pod: &Running) {
    wait_for_lines(pod, 3);
    let log = kubectl(&["logs", &pod.name]).ok().text();
    assert!(!log.contains("FAILED"), "{log}");
    let gap = pod.shell("awk '$2 != FNR { print FILENAME \": gap at \" FNR; exit }' /*/lines");
    assert_eq!(gap, "");
    events::assert_undisturbed(pod);
    let restarts = &pod.object()["status"]["containerStatuses"][0]["restartCount"];
    assert_eq!(restarts, 0, "the pod's own container was started again");
}

#[test]
fn the_plugin_is_killed_while_pods_write() {
    play(|| {
        let image = site("killed");
        let pod = writer_with_claim(&image);
        let restarts = plugin_restarts();
        let plugin = chart::plugin();
        let started = events::times(&plugin, "Started");
        let id = container_id(&plugin, "strata").expect("a container");
        let process = container_process(&id).to_string();
        Tool::new("kill").args(["-9", &process]).ok();
        wait_for("the plugin to be started again", || {
            (plugin_restarts() > restarts).then_some(())
        });
        chart::wait_until_ready();
        assert_undisturbed(&pod);
        wait_for("the kubelet to tell of the start", || {
            (events::times(&plugin, "Started") > started).then_some(())
        });
        let other = Pod::new("newcomer").image("site", &image).run();
        assert_eq!(other.shell("cat /site/index.html"), page("killed"));
        // The image is in the store of before.
        assert_calm(&other);
        events::assert_nothing_pulled(&other);
        wait_for_volumes(3);
        pod.delete();
        wait_for_volumes(2);
    });
}

#[test]
fn the_daemon_set_is_rolled_while_pods_write() {
    play(|| {
        let image = site("rolled");
        let pod = writer_with_claim(&image);
        let before = chart::plugin();
        let daemons = format!("daemonset/{}", chart::RELEASE);
        kubectl(&[
            "rollout",
            "restart",
            &daemons,
            "--namespace",
            chart::NAMESPACE,
        ])
        .ok();
        wait_for("another pod of the plugin", || {
            (chart::plugin()["metadata"]["uid"] != before["metadata"]["uid"]).then_some(())
        });
        chart::wait_until_ready();
        assert_told(&before, "Killing", &["Stopping container strata"]);
        assert_undisturbed(&pod);
        let other = Pod::new("newcomer").image("site", &image).run();
        assert_eq!(other.shell("cat /site/index.html"), page("rolled"));
        assert_calm(&other);
        events::assert_nothing_pulled(&other);
        pod.delete();
        wait_for_volumes(2);
    });
}

#[test]
fn containerd_is_restarted_while_pods_write() {
    play(|| {
        let image = site("restarted");
        let pod = writer(&Pod::new("survivor").image("site", &image));
        afterwards("is_running containerd || start_containerd");
        script("stop containerd; start_containerd");
        wait_for("the node to be ready again", || {
            let pod = Pod::new("newcomer").image("site", &image);
            let ran = kubectl(&["apply", "-f", "-"])
                .input(pod.object().to_string())
                .output();
            (ran.code == 0).then_some(())
        });
        let other = Running {
            name: "newcomer".to_owned(),
        };
        other.wait_until_ready();
        assert_eq!(other.shell("cat /site/index.html"), page("restarted"));
        assert_told(&other.object(), "Started", &["Container started"]);
        assert_undisturbed(&pod);
    });
}

#[test]
fn the_kubelet_is_restarted_while_pods_write() {
    play(|| {
        let image = site("kubelet");
        let pod = writer(&Pod::new("survivor").image("site", &image));
        let watch = events::NodeWatch::begin();
        afterwards("is_running kubelet || start_kubelet");
        script("stop kubelet; start_kubelet");
        chart::wait_until_ready();
        watch.wait_for("Starting", &["Starting kubelet"]);
        let other = Pod::new("newcomer").image("site", &image).run();
        assert_eq!(other.shell("cat /site/index.html"), page("kubelet"));
        assert_calm(&other);
        assert_undisturbed(&pod);
    });
}

#[test]
fn a_pod_is_deleted_by_force() {
    play(|| {
        let pod = writer(&Pod::new("victim").image("site", &site("forced")));
        let object = pod.object();
        kubectl(&["delete", "pod", &pod.name, "--force", "--grace-period=0"]).ok();
        wait_for_volumes(0);
        assert_told(&object, "Killing", &["Stopping container main"]);
        let warnings = events::warnings(&object);
        assert!(warnings.is_empty(), "{warnings:#?}");
    });
}

#[test]
fn inline_volumes_are_saved_when_the_node_goes_down() {
    play(|| {
        let pod = Pod::new("survivor").image("site", &site("saved")).run();
        pod.shell("echo kept > /site/kept");
        // What the unit of docs/operations.md does, and then the runtime.
        let sign = "/run/strata/node-goes-down";
        afterwards("rm -f /run/strata/node-goes-down");
        std::fs::write(sign, "").unwrap();
        let id = container_id(&chart::plugin(), "strata").expect("a container");
        let restarts = plugin_restarts();
        Tool::new("kill")
            .args([container_process(&id).to_string()])
            .ok();
        wait_for("the plugin to be started again", || {
            (plugin_restarts() > restarts).then_some(())
        });
        std::fs::remove_file(sign).unwrap();
        let daemons = format!("daemonset/{}", chart::RELEASE);
        let log = kubectl(&[
            "logs",
            &daemons,
            "--namespace",
            chart::NAMESPACE,
            "--previous",
        ])
        .args(["--container", "strata"])
        .ok()
        .text();
        assert!(
            log.contains("inline volumes are saved drained=1 left=0"),
            "{log}"
        );
        // The node did not go down after all: the volume can be written again.
        chart::wait_until_ready();
        assert_eq!(
            pod.shell("echo more >> /site/kept; cat /site/kept"),
            "kept\nmore"
        );
    });
}

//! The node's programs die or are replaced while pods write.

use super::chart::{self, plugin_restarts};
use super::cluster::{container_id, container_process, kubectl, script, wait_for};
use super::events::{self, assert_calm};
use super::images::{page, site};
use super::leftovers::wait_for_volumes;
use super::pod::{Pod, Running};
use super::stage::play;
use super::support::tool::Tool;

/// Writes a line twenty times a second, and says `FAILED` when one can not be written.
const WRITER: &str = "
    (n=0; while n=$((n + 1)); do
        echo line $n >> /site/log || echo FAILED $n
        [ \"$(tail -1 /site/log)\" = \"line $n\" ] || echo FAILED $n
        sleep 0.05
    done) &";

/// A pod that writes all the time.
fn writer(name: &str, image: &str) -> Running {
    let pod = Pod::new(name).script(WRITER).image("site", image).run();
    wait_for_lines(&pod, 3);
    pod
}

fn lines(pod: &Running) -> u64 {
    pod.shell("wc -l < /site/log").parse().expect("a number")
}

/// Waits until it has written so many lines more.
fn wait_for_lines(pod: &Running, more: u64) {
    let before = pod
        .try_shell("wc -l < /site/log")
        .text()
        .parse()
        .unwrap_or(0);
    wait_for("the pod to write", || {
        let ran = pod.try_shell("wc -l < /site/log");
        (ran.text().parse().unwrap_or(0) >= before + more).then_some(())
    });
}

/// It has written without a failure or a gap, and it goes on.
#[track_caller]
fn assert_undisturbed(pod: &Running) {
    wait_for_lines(pod, 3);
    let log = kubectl(&["logs", &pod.name]).ok().text();
    assert!(!log.contains("FAILED"), "{log}");
    let gap = pod.shell("awk '$2 != NR { print \"gap at \" NR; exit }' /site/log");
    assert_eq!(gap, "");
    let restarts = &pod.object()["status"]["containerStatuses"][0]["restartCount"];
    assert_eq!(restarts, 0, "the pod's own container was started again");
}

#[test]
fn the_plugin_is_killed_while_pods_write() {
    play(|| {
        let image = site("killed");
        let pod = writer("survivor", &image);
        let restarts = plugin_restarts();
        let id = container_id(&chart::plugin(), "strata").expect("a container");
        let process = container_process(&id).to_string();
        Tool::new("kill").args(["-9", &process]).ok();
        wait_for("the plugin to be started again", || {
            (plugin_restarts() > restarts).then_some(())
        });
        chart::wait_until_ready();
        assert_undisturbed(&pod);
        assert_calm(&pod);
        let other = Pod::new("newcomer").image("site", &image).run();
        assert_eq!(other.shell("cat /site/index.html"), page("killed"));
        wait_for_volumes(2);
        let written = lines(&pod);
        assert!(written > 0);
        pod.delete();
        wait_for_volumes(1);
    });
}

#[test]
fn the_daemon_set_is_rolled_while_pods_write() {
    play(|| {
        let image = site("rolled");
        let pod = writer("survivor", &image);
        let before = chart::plugin()["metadata"]["uid"].clone();
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
            (chart::plugin()["metadata"]["uid"] != before).then_some(())
        });
        chart::wait_until_ready();
        assert_undisturbed(&pod);
        assert_calm(&pod);
        let other = Pod::new("newcomer").image("site", &image).run();
        assert_eq!(other.shell("cat /site/index.html"), page("rolled"));
        pod.delete();
        wait_for_volumes(1);
    });
}

#[test]
fn containerd_is_restarted_while_pods_write() {
    play(|| {
        let image = site("restarted");
        let pod = writer("survivor", &image);
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
        assert_undisturbed(&pod);
    });
}

#[test]
fn the_kubelet_is_restarted_while_pods_write() {
    play(|| {
        let image = site("kubelet");
        let pod = writer("survivor", &image);
        script("stop kubelet; start_kubelet");
        chart::wait_until_ready();
        let other = Pod::new("newcomer").image("site", &image).run();
        assert_eq!(other.shell("cat /site/index.html"), page("kubelet"));
        assert_undisturbed(&pod);
    });
}

#[test]
fn a_pod_is_deleted_by_force() {
    play(|| {
        let pod = writer("victim", &site("forced"));
        let object = pod.object();
        kubectl(&["delete", "pod", &pod.name, "--force", "--grace-period=0"]).ok();
        wait_for_volumes(0);
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

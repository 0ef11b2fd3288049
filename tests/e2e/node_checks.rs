//! A node that lacks what volumes need says so in the plugin's readiness and in the node's events, before any pod asks.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::chart::{self, NAMESPACE, RELEASE};
use super::cluster::{apply, kubectl, script, wait_for};
use super::events::NodeWatch;
use super::images::{page, site};
use super::pod::Pod;
use super::stage::{afterwards, play};
use super::support::http;

/// Waits until readiness says all of `texts`, and the node's events as well.
#[track_caller]
fn wait_until_lacking(watch: &NodeWatch, texts: &[&str]) {
    let said = wait_for("the plugin to say that it is not ready", || {
        let (status, said) = readiness()?;
        (status == 503 && texts.iter().all(|text| said.contains(text))).then_some(said)
    });
    println!("readyz: {said}");
    watch.wait_for("StrataNotReady", texts);
}

fn readiness() -> Option<(u16, String)> {
    let address = SocketAddr::from(([127, 0, 0, 1], 9095));
    let answer = http::request(address, "GET", "/readyz", &[], &[]).ok()?;
    Some((answer.status, answer.text()))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned();
    conditions
        .iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn patch(change: &Value) {
    let daemons = format!("daemonset/{RELEASE}");
    kubectl(&[
        "patch",
        &daemons,
        "--namespace",
        NAMESPACE,
        "-p",
        &change.to_string(),
    ])
    .ok();
}

#[test]
fn a_pool_on_an_overlay_is_named() {
    play(|| {
        let watch = NodeWatch::begin();
        afterwards(
            "! mountpoint -q $RUN/on-overlay/merged || umount -l $RUN/on-overlay/merged; rm -rf $RUN/on-overlay",
        );
        script(
            "mkdir -p $RUN/on-overlay/{lower,upper,work,merged}
             mount -t overlay -o lowerdir=$RUN/on-overlay/lower,upperdir=$RUN/on-overlay/upper,workdir=$RUN/on-overlay/work \
                overlay $RUN/on-overlay/merged",
        );
        let pool = super::cluster::folder().join("on-overlay/merged/pool");
        let pool = format!("pool.path={}", pool.display());
        chart::deploy(&["--set", &pool]).ok();
        wait_until_lacking(
            &watch,
            &[
                "on-overlay",
                "lies on an overlay",
                "put it on a directory of",
            ],
        );
        assert!(!is_ready(&chart::plugin()));
        chart::deploy(&[]).ok();
        chart::wait_until_ready();
        script("umount $RUN/on-overlay/merged");
    });
}

#[test]
fn a_full_pool_is_named_until_there_is_room() {
    play(|| {
        let watch = NodeWatch::begin();
        afterwards("! mountpoint -q $RUN/small || umount -l $RUN/small; rm -rf $RUN/small");
        script("mkdir $RUN/small; mount -t tmpfs -o size=32m small $RUN/small");
        let pool = super::cluster::folder().join("small/pool");
        chart::deploy(&["--set", &format!("pool.path={}", pool.display())]).ok();
        chart::wait_until_ready();
        let before = chart::plugin();
        script("head -c 64M /dev/zero > $RUN/small/ballast || true");
        wait_until_lacking(
            &watch,
            &[
                "small/pool is full",
                "MB are free",
                "delete what is not needed",
            ],
        );
        script("rm $RUN/small/ballast");
        watch.wait_for("StrataReady", &[]);
        // Nothing was started again for it.
        let after = chart::plugin();
        assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
        assert_eq!(chart::plugin_restarts(), 0);
        wait_for("readiness", || {
            readiness().filter(|(status, _)| *status == 200)
        });
        chart::deploy(&[]).ok();
        chart::wait_until_ready();
        script("umount $RUN/small");
    });
}

#[test]
fn a_kernel_without_overlays_is_named() {
    play(|| {
        let watch = NodeWatch::begin();
        // Its kernel calls are answered as such a kernel answers them: see cluster/runc-without-overlay.
        apply(&json!({
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": { "name": "without-overlay" },
            "handler": "without-overlay",
        }));
        let runtime = |name: Value| json!({ "spec": { "template": { "spec": { "runtimeClassName": name } } } });
        // Helm would leave what it has not set itself.
        afterwards(&format!(
            "kubectl patch daemonset/{RELEASE} --namespace {NAMESPACE} --patch '{}'
             kubectl delete runtimeclass without-overlay --ignore-not-found",
            runtime(Value::Null)
        ));
        patch(&runtime(json!("without-overlay")));
        wait_until_lacking(
            &watch,
            &["the kernel has no overlay file system", "modprobe overlay"],
        );
        assert!(!is_ready(&chart::plugin()));
        patch(&runtime(Value::Null));
        chart::wait_until_ready();
    });
}

#[test]
fn a_node_whose_mounts_are_not_shared_is_named_until_they_are() {
    play(|| {
        let watch = NodeWatch::begin();
        afterwards("mount --make-shared /run/strata");
        script("mount --make-private /run/strata");
        let daemons = format!("daemonset/{RELEASE}");
        kubectl(&["rollout", "restart", &daemons, "--namespace", NAMESPACE]).ok();
        wait_until_lacking(
            &watch,
            &[
                "/run/strata of this node",
                "not on a shared mount",
                "mount --make-rshared /",
            ],
        );
        let plugin = chart::plugin();
        assert!(!is_ready(&plugin));
        let container = &plugin["status"]["initContainerStatuses"][0];
        assert!(container["state"]["running"].is_object(), "{container}");
        script("mount --make-shared /run/strata");
        watch.wait_for("StrataReady", &[]);
        chart::wait_until_ready();
        let pod = Pod::new("after").image("site", &site("after")).run();
        assert_eq!(pod.shell("cat /site/index.html"), page("after"));
    });
}

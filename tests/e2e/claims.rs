//! Volumes of claims, made by csi-provisioner beside the plugin.

use serde_json::{Value, json};

use super::chart::DRIVER;
use super::cluster::{apply, get, kubectl, list, wait_for};
use super::events::{self, assert_calm};
use super::images::{page, site};
use super::leftovers::{containers, wait_for_volumes};
use super::pod::Pod;
use super::stage::{afterwards, play};

/// A storage class with these parameters.
pub fn class(name: &str, parameters: &Value) {
    afterwards(&format!(
        "kubectl delete storageclass {name} --ignore-not-found"
    ));
    apply(&json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": { "name": name },
        "provisioner": DRIVER,
        "parameters": parameters,
        "volumeBindingMode": "WaitForFirstConsumer",
    }));
}

/// A claim of a class, which is made a volume for its first pod.
pub fn claim(name: &str, class: &str) {
    apply(&json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "storageClassName": class,
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "64Mi" } },
        },
    }));
}

/// The scheduler places no claim before it knows how much room the node has.
pub fn wait_for_capacity(class: &str) {
    wait_for("the node's capacity", || {
        list(&["csistoragecapacities", "--all-namespaces"])
            .iter()
            .any(|capacity| capacity["storageClassName"] == class)
            .then_some(())
    });
}

#[test]
fn a_claim_of_an_image_keeps_its_data_over_pods() {
    play(|| {
        class("sites", &json!({ "image": site("claimed") }));
        wait_for_capacity("sites");
        claim("content", "sites");
        assert_eq!(get(&["pvc", "content"])["status"]["phase"], "Pending");
        assert_eq!(
            containers().len(),
            0,
            "nothing is made before the first pod"
        );
        let first = Pod::new("first").claim("site", "content").run();
        assert_calm(&first);
        let made = events::first(&get(&["pvc", "content"]), "ProvisioningSucceeded");
        assert!(made.contains("Successfully provisioned volume"), "{made}");
        assert_eq!(first.shell("cat /site/index.html"), page("claimed"));
        first.shell("echo kept > /site/index.html; rm /site/data/numbers; sync");
        first.delete();
        wait_for_volumes(1);
        let second = Pod::new("second").claim("site", "content").run();
        assert_calm(&second);
        assert_eq!(
            second.shell("cat /site/index.html; ls /site/data | wc -l"),
            "kept\n0"
        );
        second.delete();
        kubectl(&["delete", "pvc", "content", "--timeout=60s"]).ok();
        wait_for_volumes(0);
        wait_for("the persistent volume to go", || {
            list(&["pv"]).is_empty().then_some(())
        });
    });
}

#[test]
fn a_claim_of_the_charts_own_class_is_scratch() {
    play(|| {
        wait_for_capacity("strata");
        claim("room", "strata");
        let pod = Pod::new("tenant").claim("room", "room").run();
        assert_eq!(
            pod.shell("ls -A /room | wc -l; echo x > /room/file; cat /room/file"),
            "0\nx"
        );
        pod.delete();
        kubectl(&["delete", "pvc", "room", "--timeout=60s"]).ok();
        wait_for_volumes(0);
    });
}

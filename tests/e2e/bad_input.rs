//! What goes wrong is said where people look, at the first try, and heals by itself.

use serde_json::json;

use super::chart::deploy;
use super::claims::{claim, class};
use super::cluster::{OPEN, apply, get, list, script, wait_for};
use super::events::{assert_mount_fails, assert_told};
use super::images::{page, private_site, reference, site};
use super::pod::{Pod, Running};
use super::private::secret;
use super::stage::{afterwards, play};

#[test]
fn an_image_that_does_not_exist_is_named() {
    play(|| {
        let image = reference("missing-yet");
        let pod = Pod::new("early").image("site", &image).create();
        assert_mount_fails(&pod, &[&image, "does not exist", "push it"]);
        // The plugin says so as well.
        assert_told(
            &pod.object(),
            "VolumeImagePullFailed",
            &[&image, "does not exist", "push it"],
        );
        // It is put right by pushing the image.
        site("missing-yet");
        pod.wait_until_ready();
        assert_eq!(pod.shell("cat /site/index.html"), page("missing-yet"));
    });
}

#[test]
fn an_unknown_attribute_is_named_and_a_corrected_template_heals() {
    play(|| {
        let image = site("misspelt");
        // What a pod asks for is fixed: it is put right where the pod comes from. That goes before its pods.
        afterwards("kubectl delete deployments --all");
        deployment("misspelt", &[("imgae", &image)]);
        assert_mount_fails(
            &pod_of("misspelt", false),
            &["unknown attribute \"imgae\"", "did you mean \"image\"?"],
        );
        deployment("misspelt", &[("image", &image)]);
        let pod = pod_of("misspelt", true);
        assert_eq!(pod.shell("cat /site/index.html"), page("misspelt"));
    });
}

/// A deployment of one pod, which is replaced at once when the template changes.
fn deployment(name: &str, attributes: &[(&str, &str)]) {
    let pod = Pod::new(name).inline("site", attributes).object();
    let labels = json!({ "app": name });
    apply(&json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "strategy": { "type": "Recreate" },
            "template": { "metadata": { "labels": labels }, "spec": pod["spec"] },
        },
    }));
}

/// The one pod of a deployment that is not on its way out, once it is ready or while it is not.
fn pod_of(name: &str, is_ready: bool) -> Running {
    let label = format!("app={name}");
    wait_for("the deployment's pod", || {
        let mut pods = list(&["pods", "--namespace", "default", "-l", &label]);
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let status = &pods.first()?["status"]["containerStatuses"][0];
        (status["ready"].as_bool().unwrap_or(false) == is_ready).then(|| Running {
            name: pods[0]["metadata"]["name"]
                .as_str()
                .expect("a name")
                .to_owned(),
        })
    })
}

#[test]
fn a_registry_that_is_down_is_named() {
    play(|| {
        let image = site("unreachable");
        let start = "is_running registry-open || start_registry open";
        afterwards(start);
        script("stop registry-open");
        let pod = Pod::new("patient").image("site", &image).create();
        let texts = [OPEN, "Connection refused", "it is tried again"];
        assert_mount_fails(&pod, &texts);
        script(start);
        pod.wait_until_ready();
        assert_eq!(pod.shell("cat /site/index.html"), page("unreachable"));
    });
}

#[test]
fn a_claim_names_what_its_class_lacks_and_heals() {
    play(|| {
        // A class of an image that does not exist, and the chart's own, with a secret that is wrong.
        let missing = reference("claimed-later");
        class("early", &json!({ "image": missing }));
        secret("class-key", "wrong");
        let locked = private_site("claimed-private");
        let image = format!("storageClass.image={locked}");
        deploy(&["--set", "storageClass.name=locked", "--set", &image])
            .args(["--set", "storageClass.pullSecret.name=class-key"])
            .args(["--set", "storageClass.pullSecret.namespace=default"])
            .ok();
        for name in ["early", "locked"] {
            claim(name, name);
        }
        let pods = ["early", "locked"].map(|name| Pod::new(name).claim("site", name).create());
        let refused = |name: &str, texts: &[&str]| {
            assert_told(&get(&["pvc", name]), "ProvisioningFailed", texts);
        };
        refused("early", &[&missing, "does not exist", "push it"]);
        refused("locked", &[&locked, "Unauthenticated", "\"e2e\" was tried"]);
        // It is put right by pushing the image, and by the right secret.
        site("claimed-later");
        secret("class-key", "strata");
        for (pod, content) in pods.iter().zip(["claimed-later", "claimed-private"]) {
            pod.wait_until_ready();
            assert_eq!(pod.shell("cat /site/index.html"), page(content));
        }
        deploy(&[]).ok();
    });
}

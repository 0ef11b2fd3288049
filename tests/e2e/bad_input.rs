//! What goes wrong is said where people look, at the first try, and heals by itself.

use serde_json::json;

use super::cluster::{OPEN, apply, list, script, wait_for};
use super::events::assert_mount_fails;
use super::images::{page, reference, site};
use super::pod::{Pod, Running};
use super::stage::play;

#[test]
fn an_image_that_does_not_exist_is_named() {
    play(|| {
        let image = reference("missing-yet");
        let pod = Pod::new("early").image("site", &image).create();
        assert_mount_fails(&pod, &[&image, "does not exist", "push it"]);
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
        // What a pod asks for is fixed: it is put right where the pod comes from.
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
        script("stop registry-open");
        let pod = Pod::new("patient").image("site", &image).create();
        let failed = std::panic::catch_unwind(|| {
            assert_mount_fails(&pod, &[OPEN, "Connection refused", "it is tried again"]);
        });
        script("start_registry open");
        failed.unwrap();
        pod.wait_until_ready();
        assert_eq!(pod.shell("cat /site/index.html"), page("unreachable"));
    });
}

//! A registry that wants a password.

use serde_json::json;

use super::cluster::{PRIVATE, apply};
use super::events;
use super::images::{page, private_site};
use super::pod::Pod;
use super::stage::play;

/// A pull secret.
pub fn secret(name: &str, password: &str) {
    let config = json!({ "auths": { PRIVATE: { "username": "e2e", "password": password } } });
    apply(&json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name, "namespace": "default" },
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": config.to_string() },
    }));
}

#[test]
fn the_right_secret_opens_the_registry() {
    play(|| {
        secret("right", "strata");
        let image = private_site("private");
        let pod = Pod::new("insider")
            .image("site", &image)
            .secret("right")
            .run();
        events::assert_calm(&pod);
        events::assert_told(&pod.object(), "VolumeImagePulled", &[&image]);
        assert_eq!(pod.shell("cat /site/index.html"), page("private"));
    });
}

#[test]
fn a_wrong_secret_is_named_and_the_right_one_heals_the_pod() {
    play(|| {
        secret("key", "wrong");
        let image = private_site("private-again");
        let pod = Pod::new("outsider")
            .image("site", &image)
            .secret("key")
            .create();
        events::assert_mount_fails(
            &pod,
            &[
                &image,
                "Unauthenticated",
                "\"e2e\" was tried",
                "give the volume a pull secret",
            ],
        );
        secret("key", "strata");
        pod.wait_until_ready();
        assert_eq!(pod.shell("cat /site/index.html"), page("private-again"));
    });
}

#[test]
fn no_secret_at_all_is_told_from_a_wrong_one() {
    play(|| {
        let image = private_site("private-closed");
        let pod = Pod::new("stranger").image("site", &image).create();
        events::assert_mount_fails(
            &pod,
            &[&image, "no login for it is known", "nodePublishSecretRef"],
        );
    });
}

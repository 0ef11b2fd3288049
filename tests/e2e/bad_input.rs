//! What goes wrong is said where people look, at the first try, and heals by itself.

use super::cluster::{OPEN, script};
use super::events::assert_mount_fails;
use super::images::{page, reference, site};
use super::pod::Pod;
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
fn an_unknown_attribute_is_named() {
    play(|| {
        let image = site("misspelt");
        let pod = Pod::new("misspelt")
            .inline("site", &[("imgae", &image)])
            .create();
        assert_mount_fails(
            &pod,
            &["unknown attribute \"imgae\"", "did you mean \"image\"?"],
        );
        pod.delete();
    });
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

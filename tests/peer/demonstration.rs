//! `make run` with the user's own image.

use std::path::Path;

use crate::support::image;
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

#[test]
fn the_demonstration_takes_an_image_of_the_users_own() {
    tool::require_root();
    let scratch = Scratch::new("demonstration");
    let layout = scratch.path().join("layout");
    image::write_busybox_layout(&layout, "one");
    let registry = Registry::start(&scratch.dir("registry"));
    registry.push(&layout, "team/tool", "one");
    let reference = registry.reference("team/tool", "one");
    let temporary = scratch.dir("tmp");
    let run = |image: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/run");
        Tool::at(&script)
            .outside_of_cargo()
            .env("IMAGE", image)
            .env("TMPDIR", &temporary)
            .output()
    };
    let ran = run(&reference);
    assert_eq!(ran.code, 0, "{ran}");
    let told = ran.text();
    for part in [
        &format!("yours: {reference}"),
        "hello from layer two",
        "The first pod was here.",
        "The plugin is killed",
        "no target, no mount and no volume is left",
        "Done in ",
    ] {
        assert!(told.contains(part), "{part:?} is not told: {ran}");
    }
    // An image that is not there is no success, and is named.
    let missing = registry.reference("team/tool", "two");
    let ran = run(&missing);
    assert_ne!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains(&missing), "{ran}");
    let left = std::fs::read_dir(&temporary).unwrap().count();
    assert_eq!(left, 0, "the demonstrations' folders are gone");
}

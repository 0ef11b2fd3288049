//! `make run`, as it is and with the user's own image.

use std::path::Path;

use crate::support::image;
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Ran, Tool};

fn demonstrate(image: &str, temporary: &Path) -> Ran {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/run");
    Tool::at(&script)
        .outside_of_cargo()
        .env("IMAGE", image)
        .env("TMPDIR", temporary)
        .output()
}

#[test]
fn the_demonstration_shows_the_whole_way_in_ten_seconds() {
    tool::require_root();
    let scratch = Scratch::new("demonstration");
    let ran = demonstrate("", scratch.path());
    assert_eq!(ran.code, 0, "{ran}");
    let told = ran.text();
    for part in [
        "demo/site:latest, 4 layers",
        "the first pod reads:  The first pod was here.",
        "the second pod reads: <h1>This page comes from the image.</h1>",
        "each is, by its digest, the archive that came from the registry: the image is untouched",
        "kill -9; both pods keep their volumes:",
        "no target, no mount and no volume is left",
    ] {
        assert!(told.contains(part), "{part:?} is not told: {ran}");
    }
    let end = told.lines().last().unwrap();
    let seconds = end
        .strip_prefix("Done in ")
        .and_then(|rest| rest.strip_suffix(" s."));
    let seconds: f64 = seconds.expect("it says how long it took").parse().unwrap();
    assert!(seconds < 10.0, "{end}");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

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
    let ran = demonstrate(&reference, &temporary);
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
    let ran = demonstrate(&missing, &temporary);
    assert_ne!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains(&missing), "{ran}");
    let left = std::fs::read_dir(&temporary).unwrap().count();
    assert_eq!(left, 0, "the demonstrations' folders are gone");
}

//! containers-storage, the oldest and the newest release, in one graph root with Strata.

use std::fs;
use std::path::PathBuf;

use crate::shared::{STORAGE_TOOLS, Shared, assert_diffs_are_exact, assert_is_the_image};

fn uses_what_strata_wrote(program: &str) {
    let shared = Shared::new();
    let image = shared.pull();
    let container = shared
        .strata(&["create-container", "--name", "ours", &image])
        .ok()
        .text()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let place = PathBuf::from(shared.strata(&["mount", "ours"]).ok().last_line());
    assert_is_the_image(&place);
    fs::write(place.join("data/note"), "from strata\n").unwrap();
    shared.strata(&["unmount", "ours"]).ok();

    let peer = |arguments: &[&str]| shared.storage(program, arguments);
    for kind in ["layers", "images", "containers"] {
        assert_eq!(
            Shared::ids(&peer(&[kind, "--json"]).ok()),
            Shared::ids(&shared.strata(&[kind, "--json"]).ok()),
            "both list the same {kind}"
        );
    }
    let seen = peer(&["image", "--json", &shared.reference]).ok().json();
    assert_eq!(seen[0]["id"], image.as_str());
    let manifest = peer(&["get-image-data", &image, "manifest"]).ok().stdout;
    assert_eq!(
        manifest, shared.built.manifest,
        "the manifest is the registry's"
    );
    let digest = peer(&["images", "--json"]).ok().json();
    assert_eq!(digest[0]["digest"], shared.built.manifest_digest.as_str());
    assert_diffs_are_exact(&shared, |layer| peer(&["diff", "-u", layer]));

    let place = PathBuf::from(peer(&["mount", &container]).ok().last_line());
    assert_is_the_image(&place);
    assert_eq!(
        fs::read_to_string(place.join("data/note")).unwrap(),
        "from strata\n"
    );
    fs::write(place.join("data/answer"), "from the peer\n").unwrap();
    peer(&["unmount", &container]).ok();

    let place = PathBuf::from(shared.strata(&["mount", "ours"]).ok().last_line());
    assert_eq!(
        fs::read_to_string(place.join("data/answer")).unwrap(),
        "from the peer\n"
    );
    shared.strata(&["unmount", "ours"]).ok();
    shared.assert_checked();

    assert_eq!(
        peer(&["delete-image", &image]).output().code,
        1,
        "it is in use"
    );
    peer(&["delete-container", "ours"]).ok();
    peer(&["delete-image", &image]).ok();
    shared.assert_empty();
}

fn is_used_by_strata(program: &str) {
    let shared = Shared::new();
    let peer = |arguments: &[&str]| shared.storage(program, arguments);
    shared.pull();
    let base = shared.built.id.clone();
    // A layer, an image and a container of the peer's own, over the image.
    let top = shared.strata(&["image", "--json", &base]).ok().json()[0]["layer"]
        .as_str()
        .unwrap()
        .to_owned();
    let added = crate::support::image::Layer::new()
        .dir("data")
        .file("data/theirs", "by the peer\n")
        .whiteout("data/greeting")
        .tar();
    let layer = peer(&["import-layer", "--name", "their-layer", &top])
        .input(added.clone())
        .ok()
        .text()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let image = peer(&[
        "create-image",
        "--name",
        "their-image",
        "--metadata",
        "m",
        &layer,
    ])
    .ok()
    .text()
    .lines()
    .next()
    .unwrap()
    .to_owned();
    peer(&["set-image-data", &image, "key"])
        .input("some data")
        .ok();
    peer(&["create-container", "--name", "theirs", &image]).ok();
    let place = PathBuf::from(peer(&["mount", "theirs"]).ok().last_line());
    fs::write(place.join("data/note"), "from the peer\n").unwrap();
    peer(&["unmount", "theirs"]).ok();

    for kind in ["layers", "images", "containers"] {
        assert_eq!(
            Shared::ids(&shared.strata(&[kind, "--json"]).ok()),
            Shared::ids(&peer(&[kind, "--json"]).ok()),
            "both list the same {kind}"
        );
    }
    assert_eq!(
        shared
            .strata(&["get-image-data", &image, "key"])
            .ok()
            .stdout,
        b"some data"
    );
    assert_eq!(
        shared
            .strata(&["metadata", "-q", "their-image"])
            .ok()
            .text(),
        "m"
    );
    assert_eq!(
        shared.strata(&["diff", "-u", "their-layer"]).ok().stdout,
        added,
        "the layer comes back byte for byte"
    );
    let place = PathBuf::from(shared.strata(&["mount", "theirs"]).ok().last_line());
    let read = |name: &str| fs::read_to_string(place.join(name)).unwrap();
    assert_eq!(read("data/theirs"), "by the peer\n");
    assert_eq!(read("data/note"), "from the peer\n");
    assert!(!place.join("data/greeting").exists());
    shared.strata(&["unmount", "theirs"]).ok();

    assert_eq!(
        shared.strata(&["delete-layer", &layer]).output().code,
        1,
        "it is in use"
    );
    shared.strata(&["delete-container", "theirs"]).ok();
    shared.strata(&["delete-image", &image]).ok();
    shared.assert_checked();
    shared.strata(&["delete-image", &base]).ok();
    shared.assert_empty();
}

/// Counts are shared: what one mounts the other may mount again, and only the last unmount takes it down.
fn counts_mounts_together(program: &str) {
    let shared = Shared::new();
    let image = shared.pull();
    shared
        .strata(&["create-container", "--name", "both", &image])
        .ok();
    let ours = shared.strata(&["mount", "both"]).ok().last_line();
    let theirs = shared.storage(program, &["mount", "both"]).ok().last_line();
    assert_eq!(ours, theirs);
    shared.strata(&["unmount", "both"]).ok();
    let mounted = shared.storage(program, &["mounted", "both"]).ok();
    assert!(mounted.text().contains("both mounted"), "{mounted}");
    shared.storage(program, &["unmount", "both"]).ok();
    let mounted = shared.strata(&["mounted", "both"]).output();
    assert!(!mounted.text().contains("both mounted"), "{mounted}");
    shared.storage(program, &["delete-container", "both"]).ok();
    shared.strata(&["delete-image", &image]).ok();
    shared.assert_empty();
}

#[test]
fn containers_storage_1_43_uses_what_strata_wrote() {
    uses_what_strata_wrote(STORAGE_TOOLS[0]);
}

#[test]
fn containers_storage_1_65_uses_what_strata_wrote() {
    uses_what_strata_wrote(STORAGE_TOOLS[1]);
}

#[test]
fn strata_uses_what_containers_storage_1_43_wrote() {
    is_used_by_strata(STORAGE_TOOLS[0]);
}

#[test]
fn strata_uses_what_containers_storage_1_65_wrote() {
    is_used_by_strata(STORAGE_TOOLS[1]);
}

#[test]
fn strata_and_containers_storage_1_43_count_mounts_together() {
    counts_mounts_together(STORAGE_TOOLS[0]);
}

#[test]
fn strata_and_containers_storage_1_65_count_mounts_together() {
    counts_mounts_together(STORAGE_TOOLS[1]);
}

//! Podman, Buildah and Skopeo in one graph root with Strata.

use std::fs;
use std::path::PathBuf;

use crate::shared::{Shared, assert_diffs_are_exact, assert_is_the_image};

/// What `podman run` needs where resource limits cannot be raised.
const RUN: [&str; 8] = [
    "run",
    "--rm",
    "--network",
    "none",
    "--ulimit",
    "nofile=20000:20000",
    "--ulimit",
    "nproc=4096:4096",
];

#[test]
fn podman_lists_runs_and_removes_what_strata_pulled() {
    let shared = Shared::new();
    let image = shared.pull();
    let listed = shared
        .podman(&[
            "images",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.Repository}}:{{.Tag}} {{.Digest}}",
        ])
        .ok()
        .text();
    assert_eq!(
        listed,
        format!(
            "sha256:{image} {} {}",
            shared.reference, shared.built.manifest_digest
        )
    );
    let said = shared
        .podman(&RUN)
        .args([
            &shared.reference,
            "/bin/cat",
            "/data/greeting",
            "/data/added",
        ])
        .ok()
        .text();
    assert_eq!(said, "hello from layer two\nadded by layer three");

    let place = PathBuf::from(
        shared
            .podman(&["image", "mount", &shared.reference])
            .ok()
            .last_line(),
    );
    assert_is_the_image(&place);
    shared.podman(&["image", "unmount", &shared.reference]).ok();
    shared.assert_checked();
    shared.podman(&["rmi", &shared.reference]).ok();
    shared.assert_empty();
}

#[test]
fn strata_lists_mounts_and_deletes_what_podman_pulled() {
    let shared = Shared::new();
    shared
        .podman(&["pull", "--quiet", "--tls-verify=false", &shared.reference])
        .ok();
    let image = shared
        .strata(&["image", "--json", &shared.reference])
        .ok()
        .json();
    assert_eq!(image[0]["id"], shared.built.id.as_str());
    let manifest = shared
        .strata(&["get-image-data", &shared.reference, "manifest"])
        .ok()
        .stdout;
    assert_eq!(manifest, shared.built.manifest);
    assert_diffs_are_exact(&shared, |layer| shared.strata(&["diff", "-u", layer]));

    shared
        .strata(&["create-container", "--name", "ours", &shared.reference])
        .ok();
    let place = PathBuf::from(shared.strata(&["mount", "ours"]).ok().last_line());
    assert_is_the_image(&place);
    shared.strata(&["unmount", "ours"]).ok();
    // A container that Podman made and ran keeps the image in use.
    shared
        .podman(&[
            "create",
            "--name",
            "theirs",
            "--network",
            "none",
            &shared.reference,
        ])
        .ok();
    shared.strata(&["delete-container", "ours"]).ok();
    let refused = shared.strata(&["delete-image", &shared.built.id]).output();
    assert_eq!(refused.code, 1, "Podman's container uses it: {refused}");
    shared.podman(&["rm", "theirs"]).ok();
    shared.strata(&["delete-image", &shared.built.id]).ok();
    shared.assert_empty();
}

#[test]
fn a_layer_that_is_there_is_not_fetched_again_by_podman() {
    let shared = Shared::new();
    shared.pull();
    let before = Shared::ids(&shared.strata(&["layers", "--json"]).ok());
    shared
        .podman(&["pull", "--quiet", "--tls-verify=false", &shared.reference])
        .ok();
    assert_eq!(
        Shared::ids(&shared.strata(&["layers", "--json"]).ok()),
        before
    );
    assert_eq!(
        shared
            .strata(&["pull", "--quiet", &shared.reference])
            .ok()
            .last_line(),
        shared.built.id
    );
    assert_eq!(
        Shared::ids(&shared.strata(&["layers", "--json"]).ok()),
        before
    );
}

#[test]
fn buildah_builds_on_what_strata_pulled_and_strata_on_what_buildah_built() {
    let shared = Shared::new();
    shared.pull();
    let listed = shared
        .buildah(&["images", "--no-trunc", "--format", "{{.ID}}"])
        .ok()
        .text();
    assert_eq!(listed, format!("sha256:{}", shared.built.id));
    let container = shared
        .buildah(&["from", "--pull-never", &shared.reference])
        .ok()
        .last_line();
    let ran = shared
        .buildah(&["run", "--isolation", "chroot", &container, "--"])
        .args(["/bin/busybox", "echo", "run by buildah"])
        .ok()
        .text();
    assert_eq!(ran, "run by buildah");
    let place = PathBuf::from(shared.buildah(&["mount", &container]).ok().last_line());
    assert_is_the_image(&place);
    fs::write(place.join("data/built"), "by buildah\n").unwrap();
    shared.buildah(&["unmount", &container]).ok();
    let image = shared
        .buildah(&["commit", "--quiet", &container, "localhost/built:one"])
        .ok()
        .last_line();
    shared.buildah(&["rm", &container]).ok();

    let listed = shared
        .strata(&["image", "--json", "localhost/built:one"])
        .ok()
        .json();
    assert_eq!(listed[0]["id"], image.as_str());
    shared
        .strata(&["create-container", "--name", "ours", "localhost/built:one"])
        .ok();
    let place = PathBuf::from(shared.strata(&["mount", "ours"]).ok().last_line());
    assert_is_the_image(&place);
    assert_eq!(
        fs::read_to_string(place.join("data/built")).unwrap(),
        "by buildah\n"
    );
    shared.strata(&["unmount", "ours"]).ok();
    shared.strata(&["delete-container", "ours"]).ok();
    shared.assert_checked();
    shared.strata(&["delete-image", &image]).ok();
    shared.buildah(&["rmi", &shared.reference]).ok();
    shared.assert_empty();
}

#[test]
fn skopeo_reads_what_strata_pulled_and_strata_what_skopeo_copied() {
    let shared = Shared::new();
    shared.pull();
    let name = shared.skopeo_reference(&shared.reference);
    let raw = shared.skopeo(&["inspect", "--raw", &name]).ok().stdout;
    assert_eq!(raw, shared.built.manifest);
    let out = shared.scratch.path().join("out");
    shared
        .skopeo(&["copy", "--quiet", &name])
        .arg(format!("dir:{}", out.display()))
        .ok();
    for diff_id in &shared.built.diff_ids {
        let blob = out.join(diff_id.trim_start_matches("sha256:"));
        assert!(blob.is_file(), "{} is a layer of the copy", blob.display());
    }
    shared.skopeo(&["delete", &name]).ok();
    shared.assert_empty();

    shared
        .skopeo(&["copy", "--quiet", "--src-tls-verify=false"])
        .arg(format!("docker://{}", shared.reference))
        .arg(&name)
        .ok();
    let image = shared
        .strata(&["image", "--json", &shared.reference])
        .ok()
        .json();
    assert_eq!(image[0]["id"], shared.built.id.as_str());
    assert_diffs_are_exact(&shared, |layer| shared.strata(&["diff", "-u", layer]));
    shared
        .strata(&["create-container", "--name", "ours", &shared.reference])
        .ok();
    let place = PathBuf::from(shared.strata(&["mount", "ours"]).ok().last_line());
    assert_is_the_image(&place);
    shared.strata(&["unmount", "ours"]).ok();
    shared.strata(&["delete-container", "ours"]).ok();
    shared.strata(&["delete-image", &shared.built.id]).ok();
    shared.assert_empty();
}

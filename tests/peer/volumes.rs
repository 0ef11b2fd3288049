//! Published volumes and the peers: their calls neither hide a volume nor mount it twice.

use std::fs;
use std::path::PathBuf;

use crate::shared::{STORAGE_TOOLS, Shared, assert_is_the_image};
use crate::support::plugin::{Kubelet, Plugin, Wish, inline_handle};
use crate::support::scratch::mounts_below;
use crate::support::tool::Tool;

/// Decision by decision: the peer's mount returns our path, its unmount leaves our mount and the data.
fn peers_respect_a_volume(program: &str) {
    let shared = Shared::new();
    shared.pull();
    let plugin = Plugin::start(&shared.settings);
    let kubelet = Kubelet::connect(&shared.settings.socket);
    let volume = inline_handle(program);
    let container = volume.trim_start_matches("csi-").to_owned();
    let wish = Wish::inline(
        &volume,
        &shared.settings.target("pod", "data"),
        Some(&shared.reference),
    )
    .with("pullPolicy", "Never");
    kubelet.publish(&wish).unwrap();
    assert_is_the_image(&wish.target);
    fs::write(wish.target.join("note"), "from the pod\n").unwrap();

    let record = shared.strata(&["container", "--json", &container]).ok();
    let layer = record.json()[0]["layer"].as_str().unwrap().to_owned();
    let overlays = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let upper = format!("{layer}/diff");
        table
            .lines()
            .filter(|line| line.contains(" - overlay ") && line.contains(&upper))
            .filter_map(|line| line.split(' ').nth(2).map(str::to_owned))
            .collect::<std::collections::BTreeSet<_>>()
    };
    let devices = overlays();
    assert_eq!(devices.len(), 1, "one overlay: {devices:?}");

    // The plugin binds no home over itself, while the peer's first call does.
    let home = shared.settings.graph.join("overlay");
    assert!(mounts_below(&shared.settings.graph).is_empty());
    let peer = |arguments: &[&str]| shared.storage(program, arguments);
    let place = PathBuf::from(peer(&["mount", &container]).ok().last_line());
    assert_eq!(place, shared.settings.run.join("volumes").join(&container));
    assert!(mounts_below(&shared.settings.graph) == [&*home]);
    assert_eq!(
        overlays(),
        devices,
        "no second overlay on one upper directory"
    );
    let read = |path: PathBuf| fs::read_to_string(path.join("note")).unwrap();
    assert_eq!(read(place.clone()), "from the pod\n");
    peer(&["unmount", &container]).ok();
    assert_eq!(read(wish.target.clone()), "from the pod\n");
    assert_eq!(read(place), "from the pod\n");

    // A call that comes again finds everything in order.
    kubelet.publish(&wish).unwrap();
    assert_eq!(overlays(), devices);

    // The peer removes the container under the volume; unpublish accepts that.
    peer(&["delete-container", &container]).ok();
    kubelet.unpublish(&volume, &wish.target).unwrap();
    assert!(!wish.target.exists());
    assert_eq!(overlays().len(), 0, "no overlay is left");
    let left: Vec<_> = mounts_below(shared.scratch.path())
        .into_iter()
        .filter(|path| *path != home)
        .collect();
    assert!(left.is_empty(), "mounts left: {left:?}");
    assert_eq!(plugin.stop(), 0);
    shared.strata(&["delete-image", &shared.built.id]).ok();
    shared.assert_empty();
}

#[test]
fn containers_storage_1_43_neither_hides_a_volume_nor_mounts_it_twice() {
    peers_respect_a_volume(STORAGE_TOOLS[0]);
}

#[test]
fn containers_storage_1_65_neither_hides_a_volume_nor_mounts_it_twice() {
    peers_respect_a_volume(STORAGE_TOOLS[1]);
}

/// A volume of the image that `pull` has brought to the store is published, and keeps it from being removed by `remove`.
fn a_peers_image_is_published(
    program: &str,
    shared: &Shared,
    pull: Tool,
    remove: fn(&Shared) -> Tool,
) {
    pull.ok();
    let plugin = Plugin::start(&shared.settings);
    let kubelet = Kubelet::connect(&shared.settings.socket);
    let volume = inline_handle(program);
    let wish = Wish::inline(
        &volume,
        &shared.settings.target("pod", "data"),
        Some(&shared.reference),
    )
    .with("pullPolicy", "Never");
    kubelet.publish(&wish).unwrap();
    assert_is_the_image(&wish.target);
    // While the volume is there nobody removes the image.
    let refused = remove(shared).output();
    assert_ne!(refused.code, 0, "the volume uses it: {refused}");
    assert_is_the_image(&wish.target);
    kubelet.unpublish(&volume, &wish.target).unwrap();
    remove(shared).ok();
    assert_eq!(plugin.stop(), 0);
    shared.assert_empty();
}

#[test]
fn a_volume_of_an_image_that_podman_pulled_is_published() {
    let shared = Shared::new();
    let pull = shared.podman(&["pull", "--quiet", "--tls-verify=false", &shared.reference]);
    a_peers_image_is_published("podman", &shared, pull, |shared| {
        shared.podman(&["rmi", &shared.reference])
    });
}

#[test]
fn a_volume_of_an_image_that_buildah_pulled_is_published() {
    let shared = Shared::new();
    let pull = shared.buildah(&["pull", "--quiet", "--tls-verify=false", &shared.reference]);
    a_peers_image_is_published("buildah", &shared, pull, |shared| {
        shared.buildah(&["rmi", &shared.reference])
    });
}

#[test]
fn a_volume_of_an_image_that_skopeo_copied_is_published() {
    let shared = Shared::new();
    let place = shared.skopeo_reference(&shared.reference);
    let from = format!("docker://{}", shared.reference);
    let copy = shared.skopeo(&["copy", "--quiet", "--src-tls-verify=false", &from, &place]);
    a_peers_image_is_published("skopeo", &shared, copy, |shared| {
        shared.skopeo(&["delete", &shared.skopeo_reference(&shared.reference)])
    });
}

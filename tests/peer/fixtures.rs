//! The images that the other tests make are images to everybody.

use std::fs;

use crate::support::image;
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;
use crate::support::tool::Tool;

#[test]
fn an_image_comes_back_from_the_registry_byte_for_byte() {
    let scratch = Scratch::new("fixture");
    let layout = scratch.path().join("layout");
    let built = image::write_busybox_layout(&layout, "test");
    let registry = Registry::start(&scratch.dir("registry"));
    let digest = registry.push(&layout, "test/busybox", "one");
    assert_eq!(digest, built.manifest_digest);

    let back = scratch.path().join("back");
    Tool::new("skopeo")
        .args(["copy", "--src-tls-verify=false"])
        .arg(format!(
            "docker://{}",
            registry.reference("test/busybox", "one")
        ))
        .arg(format!("dir:{}", back.display()))
        .ok();
    assert_eq!(
        fs::read(back.join("manifest.json")).unwrap(),
        built.manifest
    );
}

#[test]
fn umoci_builds_an_image_of_several_layers() {
    let scratch = Scratch::new("fixture");
    let layout = scratch.path().join("layout");
    let layers = image::build_with_umoci(scratch.path(), &layout, "demo");
    let inspected = Tool::new("skopeo")
        .args(["inspect", "--raw"])
        .arg(format!("oci:{}:demo", layout.display()))
        .ok()
        .json();
    assert_eq!(inspected["layers"].as_array().unwrap().len(), layers);
}

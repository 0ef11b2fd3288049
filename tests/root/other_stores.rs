//! Volumes of images that another tool's store has: they must not depend on it.

use std::fs;

use crate::support::http;
use crate::support::image;
use crate::support::plugin::{self, Kubelet, Plugin, Settings, Wish, inline_handle};
use crate::support::scratch::{Scratch, mounts_below};
use crate::support::tool::{self, Tool};

#[test]
fn a_volume_outlives_the_store_that_had_its_image() {
    tool::require_root();
    let scratch = Scratch::new("other");
    let layout = scratch.path().join("layout");
    let built = image::write_busybox_layout(&layout, "one");
    let (other, run) = (scratch.dir("other"), scratch.dir("other-run"));
    // Nobody listens there: what is found is in the other store.
    let reference = "127.0.0.1:1/test/busybox:one";
    Tool::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}:one", layout.display()))
        .arg(format!(
            "containers-storage:[overlay@{}+{}]{reference}",
            other.display(),
            run.display()
        ))
        .ok();
    let mut settings = Settings::below(
        scratch.path(),
        &plugin::binary(env!("CARGO_BIN_EXE_strata")),
    );
    settings
        .storage_options
        .push(format!("overlay.imagestore={}", other.display()));
    let plugin = Plugin::start(&settings);
    let kubelet = Kubelet::connect(&settings.socket);
    let wish = |name: &str| {
        Wish::inline(
            &inline_handle(name),
            &settings.target(name, "data"),
            Some(reference),
        )
        .with("pullPolicy", "Never")
    };
    let one = wish("one");
    kubelet.publish(&one).unwrap_or_else(|status| {
        panic!("{status:?}\n{}", settings.log_text());
    });
    let metrics = http::request(plugin.http, "GET", "/metrics", &[], &[]).unwrap();
    let metrics = metrics.text();
    assert!(
        metrics.contains(r#"strata_pulls_total{outcome="done"} 1"#),
        "{metrics}"
    );
    assert!(
        settings
            .log_text()
            .contains("brought from an additional store")
    );

    fs::write(one.target.join("data/note"), "written").unwrap();
    crate::support::scratch::unmount_below(&other);
    for entry in fs::read_dir(&other).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).ok();
    }
    let plugin_settings = plugin.kill();
    let plugin = Plugin::start(&plugin_settings);
    let kubelet = Kubelet::connect(&settings.socket);
    let two = wish("two");
    kubelet.publish(&two).unwrap();
    for wish in [&one, &two] {
        let read = |name: &str| fs::read(wish.target.join(name)).unwrap();
        assert_eq!(
            image::hex(&read("bin/busybox")),
            image::hex(&image::busybox())
        );
        assert_eq!(read("data/added"), b"added by layer three\n");
    }
    assert_eq!(
        fs::read_to_string(one.target.join("data/note")).unwrap(),
        "written"
    );
    for wish in [&one, &two] {
        kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    }
    assert_eq!(plugin.stop(), 0);
    crate::support::scratch::unmount_below(&settings.graph);
    assert!(mounts_below(scratch.path()).is_empty());

    // The newest peer gives the layers back byte for byte, and finds the store in order.
    let peer = |arguments: &[&str]| {
        Tool::new("containers-storage-newest")
            .args(["--graph", settings.graph.to_str().unwrap()])
            .args(["--run", settings.run.to_str().unwrap()])
            .args(["--storage-driver", "overlay"])
            .args(arguments)
            .ok()
    };
    let layers = peer(&["layers", "--json"]).json();
    let mut diff_ids: Vec<String> = Vec::new();
    for layer in layers.as_array().unwrap() {
        let stream = peer(&["diff", "-u", layer["id"].as_str().unwrap()]).stdout;
        let digest = image::digest(&stream);
        assert_eq!(layer["diff-digest"], digest.as_str());
        diff_ids.push(digest);
    }
    diff_ids.sort();
    let mut expected = built.diff_ids.clone();
    expected.sort();
    assert_eq!(diff_ids, expected);
    peer(&["check"]);
}

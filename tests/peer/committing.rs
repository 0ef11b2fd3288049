//! Images that Strata makes of containers and pushes, in the hands of Podman, Buildah, Skopeo and a real registry.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::shared::Shared;
use crate::support::tool::Tool;

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

/// A store with an image that Strata made of a container on the pulled one.
fn committed() -> (Shared, Value) {
    let shared = Shared::new();
    shared.pull();
    shared
        .strata(&["create-container", "--name", "c", &shared.reference])
        .ok();
    let root = PathBuf::from(shared.strata(&["mount", "c"]).ok().last_line());
    fs::write(root.join("data/greeting"), "hello from the container\n").unwrap();
    fs::remove_file(root.join("data/added")).unwrap();
    fs::remove_dir_all(root.join("tmp")).unwrap();
    fs::create_dir(root.join("tmp")).unwrap();
    fs::write(root.join("tmp/new"), "new\n").unwrap();
    // While it is mounted.
    let image = shared
        .strata(&["commit", "--json", "-c", "USER 7", "-c", "LABEL a=b"])
        .args(["-c", r#"CMD ["/bin/cat", "/data/greeting", "/tmp/new"]"#])
        .args(["c", "web:1"])
        .ok()
        .json();
    shared.strata(&["unmount", "c"]).ok();
    shared.strata(&["delete-container", "c"]).ok();
    (shared, image)
}

#[test]
fn engines_list_run_and_build_on_what_strata_committed() {
    let (shared, image) = committed();
    let listed = shared
        .podman(&["images", "--no-trunc", "--digests", "--format"])
        .args(["{{.ID}} {{.Digest}}", "web:1"])
        .ok()
        .text();
    let (id, digest) = (
        image["id"].as_str().unwrap(),
        image["digest"].as_str().unwrap(),
    );
    assert_eq!(listed, format!("sha256:{id} {digest}"));
    let inspected = shared.podman(&["inspect", "web:1"]).ok().json();
    assert_eq!(inspected[0]["User"], "7");
    assert_eq!(inspected[0]["Labels"]["a"], "b");
    // What the base said stays.
    assert_eq!(inspected[0]["Config"]["Env"][0], "PATH=/bin");
    let said = shared.podman(&RUN).arg("localhost/web:1").ok().text();
    assert_eq!(said, "hello from the container\nnew");

    let container = shared
        .buildah(&["from", "--pull-never", "localhost/web:1"])
        .ok()
        .last_line();
    let root = PathBuf::from(shared.buildah(&["mount", &container]).ok().last_line());
    assert!(!root.join("data/added").exists() && root.join("data/large").exists());
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 1);
    fs::write(root.join("built"), "by buildah\n").unwrap();
    shared.buildah(&["unmount", &container]).ok();
    shared
        .buildah(&["commit", "--quiet", &container, "localhost/built:1"])
        .ok();
    shared.buildah(&["rm", &container]).ok();
    // And the other way round: a container of Buildah's image, committed by us.
    shared
        .strata(&["create-container", "--name", "d", "localhost/built:1"])
        .ok();
    let root = PathBuf::from(shared.strata(&["mount", "d"]).ok().last_line());
    assert_eq!(
        fs::read_to_string(root.join("built")).unwrap(),
        "by buildah\n"
    );
    fs::write(root.join("ours"), "by strata\n").unwrap();
    shared.strata(&["unmount", "d"]).ok();
    shared.strata(&["commit", "d", "built:2"]).ok();
    shared.strata(&["delete-container", "d"]).ok();
    let said = shared
        .podman(&RUN)
        .args(["localhost/built:2", "/bin/cat", "/built", "/ours"])
        .ok()
        .text();
    assert_eq!(said, "by buildah\nby strata");
    shared.assert_checked();
    for name in ["localhost/built:2", "localhost/built:1", "localhost/web:1"] {
        shared.podman(&["rmi", name]).ok();
    }
    shared.podman(&["rmi", &shared.reference]).ok();
    shared.assert_empty();
}

#[test]
fn a_squashed_image_is_one_layer_of_all_that_is_seen() {
    let (shared, _) = committed();
    shared
        .strata(&["create-container", "-n", "c", "localhost/web:1"])
        .ok();
    let root = PathBuf::from(shared.strata(&["mount", "c"]).ok().last_line());
    fs::write(root.join("last"), "last\n").unwrap();
    shared.strata(&["unmount", "c"]).ok();
    shared.strata(&["commit", "--squash", "c", "flat:1"]).ok();
    shared.strata(&["delete-container", "c"]).ok();
    // The layers that it was made of are no longer needed.
    shared.strata(&["delete-image", "localhost/web:1"]).ok();
    shared.strata(&["delete-image", &shared.reference]).ok();
    let inspected = shared.podman(&["inspect", "flat:1"]).ok().json();
    assert_eq!(
        inspected[0]["RootFS"]["Layers"].as_array().unwrap().len(),
        1
    );
    assert_eq!(inspected[0]["History"].as_array().unwrap().len(), 1);
    assert_eq!(inspected[0]["User"], "7");
    assert_eq!(inspected[0]["Labels"]["a"], "b");
    let script = ["/bin/cat", "/data/greeting", "/tmp/new", "/last"];
    let ran = shared
        .podman(&RUN)
        .arg("localhost/flat:1")
        .args(script)
        .ok();
    assert_eq!(ran.text(), "hello from the container\nnew\nlast");
    // What was deleted is not there, nor is its mark.
    let layers = shared.strata(&["layers", "-q"]).ok().text();
    assert_eq!(layers.lines().count(), 1, "{layers}");
    let names = shared.strata(&["changes", &layers]).ok().text();
    assert!(
        !names.contains("data/added") && !names.contains(".wh."),
        "{names}"
    );
    shared.assert_checked();
    shared.podman(&["rmi", "localhost/flat:1"]).ok();
    shared.assert_empty();
}

#[test]
fn others_pull_what_strata_pushed() {
    let (shared, image) = committed();
    let target = shared.reference.replace("test/busybox:one", "test/web:two");
    let pushed = shared
        .strata(&["push", "-jq", "web:1", &target])
        .ok()
        .json();
    // The lower layers were in the registry; it took them from there.
    assert_eq!(pushed["layers-sent"], 1);
    assert_eq!(pushed["layers-present"], 3);
    let inspect = Tool::new("skopeo")
        .args(["inspect", "--tls-verify=false"])
        .arg(format!("docker://{target}"))
        .ok()
        .json();
    assert_eq!(inspect["Digest"], pushed["digest"]);
    for (layer, original) in inspect["Layers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(&shared.built.layer_digests)
    {
        assert_eq!(
            layer, original,
            "the layers below are those that were pulled"
        );
    }
    // As it was pulled it is pushed: byte for byte.
    let same = shared
        .reference
        .replace("test/busybox:one", "test/copy:one");
    let copied = shared
        .strata(&["push", "-q", &shared.reference, &same])
        .ok();
    assert_eq!(copied.last_line(), shared.built.manifest_digest);

    // Podman, in a store of its own.
    let root = shared.scratch.dir("elsewhere");
    let podman = |arguments: &[&str]| {
        Tool::new("podman")
            .arg("--root")
            .arg(root.join("graph"))
            .arg("--runroot")
            .arg(root.join("run"))
            .args([
                "--storage-driver",
                "overlay",
                "--cgroup-manager",
                "cgroupfs",
            ])
            .args(["--runtime", "runc", "--events-backend", "none"])
            .arg("--tmpdir")
            .arg(root.join("tmp"))
            .args(arguments)
    };
    let id = podman(&["pull", "--quiet", "--tls-verify=false", &target])
        .ok()
        .last_line();
    assert_eq!(id, image["id"].as_str().unwrap());
    let said = podman(&RUN).arg(&target).ok().text();
    assert_eq!(said, "hello from the container\nnew");
    podman(&["rmi", &target]).ok();
}

#[test]
fn layouts_and_archives_are_read_by_others() {
    let (shared, image) = committed();
    let layout = shared.scratch.path().join("pushed");
    let archive = shared.scratch.path().join("pushed.tar");
    let [layout, archive] = [("oci", layout), ("oci-archive", archive)]
        .map(|(kind, path)| format!("{kind}:{}:web", path.display()));
    for compression in ["gzip", "zstd", "none"] {
        for target in [&layout, &archive] {
            let digest = shared
                .strata(&["push", "-q", "--compression", compression, "web:1", target])
                .ok()
                .last_line();
            let inspected = Tool::new("skopeo").args(["inspect", target]).ok().json();
            assert_eq!(inspected["Digest"], digest.as_str());
            // Into a store of their own, which checks every layer.
            let elsewhere = shared.scratch.path().join(format!("s{compression}"));
            let store = format!(
                "containers-storage:[vfs@{0}/graph+{0}/run]localhost/web:1",
                elsewhere.display()
            );
            Tool::new("skopeo")
                .args(["copy", "--quiet", target, &store])
                .ok();
            let config = Tool::new("skopeo")
                .args(["inspect", "--raw", "--config", &store])
                .ok()
                .stdout;
            assert_eq!(
                crate::support::image::hex(&config),
                image["id"].as_str().unwrap()
            );
            fs::remove_dir_all(&elsewhere).unwrap();
        }
    }
    let unpacked = shared.scratch.path().join("unpacked");
    let place = layout.trim_start_matches("oci:");
    Tool::new("umoci")
        .args(["unpack", "--image", place])
        .arg(&unpacked)
        .ok();
    let read = |name: &str| fs::read_to_string(unpacked.join("rootfs").join(name)).unwrap();
    assert_eq!(read("data/greeting"), "hello from the container\n");
    assert!(!unpacked.join("rootfs/data/added").exists());
}

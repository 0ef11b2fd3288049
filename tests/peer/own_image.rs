//! The container image that Strata builds of itself, with the script of `make image`.

use std::path::Path;

use crate::shared::binary;
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;
use crate::support::tool::{Ran, Tool};

/// Runs the script with the binary under test in place of a release.
fn build(folder: &Path, umask: &str, push: Option<&str>) -> Ran {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let temporary = folder.with_extension("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut tool = Tool::new("bash")
        .args(["-c", "umask $0; exec \"$1\"", umask])
        .arg(root.join("scripts/build-image"))
        .env("STRATA_BINARY", binary())
        .env("LAYOUT", folder)
        .env("TMPDIR", &temporary);
    if let Some(push) = push {
        tool = tool.env("PUSH", push);
    }
    let ran = tool.ok();
    let left = std::fs::read_dir(&temporary).unwrap().count();
    assert_eq!(left, 0, "the store of the build is gone: {ran}");
    ran
}

#[test]
fn two_builds_of_one_binary_give_the_same_bytes_and_others_can_use_them() {
    let scratch = Scratch::new("own-image");
    let registry = Registry::start(&scratch.dir("registry"));
    let reference = registry.reference("strata", "test");
    let [one, two] = ["one", "two"].map(|name| scratch.path().join(name));
    let image = build(&one, "022", None).last_line();
    let other = build(&two, "077", Some(&reference));
    Tool::new("diff").arg("-r").args([&one, &two]).ok();

    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(image, format!("oci:{}:{version}", one.display()));
    assert_eq!(
        other.last_line(),
        format!("oci:{}:{version}", two.display())
    );
    let inspect = |what: &str| {
        Tool::new("skopeo")
            .args(["inspect", "--tls-verify=false", what])
            .ok()
            .json()
    };
    let pushed = inspect(&format!("docker://{reference}"));
    assert_eq!(pushed["Digest"], inspect(&image)["Digest"]);
    let labels = &pushed["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], version);
    assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0");
    let config = Tool::new("skopeo")
        .args(["inspect", "--config", &image])
        .ok()
        .json();
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/strata");
    assert_eq!(config["config"]["User"], "0:0");

    let unpacked = scratch.path().join("unpacked");
    let place = image.trim_start_matches("oci:");
    Tool::new("umoci")
        .args(["unpack", "--image", place])
        .arg(&unpacked)
        .ok();
    let found = std::fs::read(unpacked.join("rootfs/usr/bin/strata")).unwrap();
    assert!(
        found == std::fs::read(binary()).unwrap(),
        "the program is whole"
    );
    let listed = Tool::new("find")
        .arg(unpacked.join("rootfs"))
        .args(["-mindepth", "1", "-printf", "%P %U:%G %m\n"])
        .ok();
    let mut listed: Vec<_> = listed.text().lines().map(str::to_owned).collect();
    listed.sort();
    let expected = [
        "usr 0:0 755",
        "usr/bin 0:0 755",
        "usr/bin/strata 0:0 755",
        "usr/share 0:0 755",
        "usr/share/licenses 0:0 755",
        "usr/share/licenses/strata 0:0 755",
        "usr/share/licenses/strata/LICENSE 0:0 644",
    ];
    assert_eq!(listed, expected);
}

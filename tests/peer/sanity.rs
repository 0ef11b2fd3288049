//! csi-sanity, the conformance suite of CSI drivers, against the real plugin.

use std::io::Write;

use crate::shared::{Shared, binary};
use crate::support::plugin::{Plugin, Settings};
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

/// Tells whoever runs the tests, even when they pass.
fn report(line: &str) {
    println!("{line}");
    if let Some(path) = std::env::var_os("STRATA_REPORT") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// Runs the suite with `parameters` for new volumes, prints its counts, and fails as it does.
fn passes(name: &str, parameters: Option<&str>) {
    tool::require_root();
    let scratch = Scratch::new("sanity");
    let settings = Settings::below(scratch.path(), &binary());
    let plugin = Plugin::start(&settings);
    let mut sanity = Tool::new("csi-sanity")
        .args([
            "--csi.endpoint",
            &format!("unix://{}", settings.socket.display()),
        ])
        .args(["--csi.mountdir", &scratch.text("kubelet/pods/mount")])
        .args(["--csi.stagingdir", &scratch.text("kubelet/pods/staging")])
        .args(["--csi.testvolumesize", "1048576"])
        .args(["--ginkgo.no-color"]);
    if let Some(parameters) = parameters {
        let file = scratch.path().join("parameters.yaml");
        std::fs::write(&file, parameters).unwrap();
        sanity = sanity.args(["--csi.testvolumeparameters", file.to_str().unwrap()]);
    }
    let ran = sanity.output();
    let text = ran.text();
    let counts = text
        .lines()
        .find(|line| line.contains("Passed") && line.contains("Skipped"))
        .unwrap_or("csi-sanity printed no counts");
    let extent = text
        .lines()
        .find(|line| line.starts_with("Ran ") && line.contains("Specs"))
        .unwrap_or("csi-sanity did not say how many it ran");
    report(&format!("csi-sanity, {name}: {extent}; {counts}"));
    assert_eq!(ran.code, 0, "{ran}\nplugin: {}", settings.log_text());
    assert_eq!(plugin.stop(), 0);
}

#[test]
fn csi_sanity_passes_with_scratch_volumes() {
    passes("scratch volumes", None);
}

#[test]
fn csi_sanity_passes_with_volumes_of_an_image() {
    let shared = Shared::new();
    passes(
        "volumes of an image",
        Some(&format!("image: {}\n", shared.reference)),
    );
}

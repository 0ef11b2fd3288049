//! `pull` from an OCI layout, and what `pull` and `node` say when they can't begin.

use std::process::Command;

use super::{Ran, Sandbox, strata};

fn digest(bytes: &[u8]) -> String {
    strata::digest::Digest::of(bytes).to_string()
}

/// An OCI layout with an image of one layer without files; its ID.
fn layout(sandbox: &Sandbox) -> String {
    let blobs = sandbox.path("layout/blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = digest(bytes);
        std::fs::write(format!("{blobs}/{}", &digest[7..]), bytes).unwrap();
        (digest, bytes.len())
    };
    let (layer, layer_size) = blob(&[0; 1024]);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
    );
    let (config, config_size) = blob(config.as_bytes());
    let oci = "application/vnd.oci.image";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{oci}.manifest.v1+json",
            "config":{{"mediaType":"{oci}.config.v1+json","digest":"{config}","size":{config_size}}},
            "layers":[{{"mediaType":"{oci}.layer.v1.tar","digest":"{layer}","size":{layer_size}}}]}}"#
    );
    let (manifest, manifest_size) = blob(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{oci}.manifest.v1+json",
            "digest":"{manifest}","size":{manifest_size}}}]}}"#
    );
    sandbox.file("layout/index.json", index);
    sandbox.file("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    config[7..].to_owned()
}

#[test]
fn an_image_is_pulled_once_and_told_in_lines_or_json() {
    let sandbox = Sandbox::new();
    let id = layout(&sandbox);
    let reference = format!("oci:{}", sandbox.path("layout"));
    let ran = sandbox.run(&["pull", "--platform", "linux/amd64", &reference]);
    assert_eq!((ran.code, ran.out), (0, format!("{id}\n")), "{}", ran.err);
    assert!(ran.err.contains("1 layers to fetch"), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 2, "{}", ran.err);
    let text = sandbox.ok(&[
        "pull",
        "--platform=linux/amd64",
        "-j",
        &reference,
        "-n",
        "a.b/c:d",
    ]);
    let pulled: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(pulled["id"], id);
    assert_eq!(pulled["names"], serde_json::json!(["a.b/c:d"]));
    assert_eq!(pulled["layers-reused"], 1);
    let ran = sandbox.run(&["pull", "-q", "--platform", "linux/amd64", &reference]);
    assert_eq!(
        (ran.code, ran.out, ran.err),
        (0, format!("{id}\n"), String::new())
    );
    assert_eq!(sandbox.ok(&["images", "-q"]), format!("{id}\n"));
}

#[test]
fn a_pull_that_fails_says_what_to_do() {
    let sandbox = Sandbox::new();
    let text = sandbox.fails(&["pull", "oci:/nonexistent"]);
    assert!(
        text.contains("/nonexistent") && text.contains("\nhint: "),
        "{text}"
    );
    let text = sandbox.fails(&["pull", "--policy", "never", "busybox"]);
    assert!(
        text.contains("busybox") && text.contains("hint: leave out --policy"),
        "{text}"
    );
    assert!(sandbox.fails(&["pull", "UPPER"]).contains("UPPER"));
    assert!(
        sandbox
            .fails(&["pull", "--platform", "x", "busybox"])
            .contains("linux/amd64")
    );
    assert_eq!(
        sandbox.run(&["pull", "--policy", "often", "busybox"]).code,
        125
    );
    assert_eq!(sandbox.run(&["pull"]).code, 125);
    assert_eq!(sandbox.ok(&["layers", "-j"]), "null\n");
}

#[test]
fn a_plugin_that_lacks_something_says_what() {
    let ran = strata(&["node", "--node-name", "n"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(
        ran.err
            .starts_with("the environment variable CSI_ENDPOINT is not set\nhint: ")
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    command
        .env_clear()
        .env("CSI_ENDPOINT", "unix:///nonexistent/csi.sock")
        .arg("node");
    let ran: Ran = command.output().unwrap().into();
    assert!(
        ran.code == 1 && ran.err.contains("hint: give --node-name"),
        "{}",
        ran.err
    );
    command.args(["--node-name", "n", "--http", "localhost"]);
    let ran: Ran = command.output().unwrap().into();
    assert!(
        ran.code == 1 && ran.err.starts_with("--http: \"localhost\""),
        "{}",
        ran.err
    );
}

//! zstd:chunked: layers with a table of contents behind their contents, and what a partial pull by a peer leaves at a layer's
//! record. Strata needs neither to read a layer, and loses neither.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::shared::binary;
use crate::support::image::{self, Built, Layer};
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

/// A store that both use in turn.
struct Store {
    scratch: Scratch,
}

impl Store {
    fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("chunked");
        Self { scratch }
    }

    fn tool(&self, tool: Tool, graph: &str, arguments: &[&str]) -> Tool {
        tool.args(["--graph", &self.scratch.text(graph)])
            .args(["--run", &self.scratch.text("run")])
            .args(["--storage-driver", "overlay"])
            .args(arguments)
    }

    fn strata(&self, arguments: &[&str]) -> String {
        let tool = self.tool(Tool::at(&binary()), "graph", arguments);
        tool.ok().text()
    }

    fn peer(&self, graph: &str, arguments: &[&str]) -> Vec<u8> {
        let peer = Tool::new("containers-storage-newest");
        self.tool(peer, graph, arguments).ok().stdout
    }

    fn rows(&self, graph: &str) -> Value {
        let file = format!("{graph}/overlay-layers/layers.json");
        read(&self.scratch.path().join(file))
    }
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// A frame that decoders pass over.
fn skippable(bytes: &[u8]) -> Vec<u8> {
    let mut frame = 0x184d_2a50_u32.to_le_bytes().to_vec();
    frame.extend((bytes.len() as u32).to_le_bytes());
    frame.extend(bytes);
    frame
}

/// An image whose layer is a frame for each half of the archive, then its table of contents and where that lies, and whose
/// manifest says so. Returns its manifest as well.
fn write_image(layout: &Path) -> (Built, Value) {
    let layer = Layer::new().dir("d").file("d/f", [b'x'; 5000]);
    let tar = layer.tar();
    let built = image::write_layout(layout, "one", &[layer]);
    let table = zstd::encode_all(&br#"{"version":1,"entries":[]}"#[..], 1).unwrap();
    let mut blob: Vec<u8> = tar
        .chunks(tar.len() / 2)
        .flat_map(|half| zstd::encode_all(half, 1).unwrap())
        .collect();
    let position = format!("{}:{}:26:1", blob.len() + 8, table.len());
    blob.extend(skippable(&table));
    blob.extend(skippable(&[0x47; 64]));
    let digest = image::digest(&blob);
    let put = |bytes: &[u8]| {
        let name = image::digest(bytes).replace(':', "/");
        fs::write(layout.join("blobs").join(name), bytes).unwrap();
    };
    put(&blob);
    let mut manifest: Value = serde_json::from_slice(&built.manifest).unwrap();
    manifest["layers"] = json!([{
        "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
        "digest": digest,
        "size": blob.len(),
        "annotations": {
            "io.github.containers.zstd-chunked.manifest-checksum": image::digest(&table),
            "io.github.containers.zstd-chunked.manifest-position": position,
        },
    }]);
    let bytes = manifest.to_string().into_bytes();
    put(&bytes);
    let mut index = read(&layout.join("index.json"));
    index["manifests"][0]["digest"] = json!(image::digest(&bytes));
    index["manifests"][0]["size"] = json!(bytes.len());
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    (built, manifest)
}

fn manifest_of(layout: &Path) -> Value {
    let index = read(&layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    read(&layout.join("blobs").join(digest.replace(':', "/")))
}

#[test]
fn annotations_of_a_layer_stay_as_long_as_they_are_true() {
    let store = Store::new();
    let layout = store.scratch.path().join("layout");
    let (built, manifest) = write_image(&layout);
    let source = format!("oci:{}:one", layout.display());
    store.strata(&["pull", "--quiet", "-n", "example.test/chunked:one", &source]);
    let row = &store.rows("graph")[0];
    assert_eq!(row["diff-digest"], built.diff_ids[0].as_str());
    assert_eq!(
        row["compressed-diff-digest"],
        manifest["layers"][0]["digest"]
    );
    assert_eq!(row["compression"], 4);
    // The peer's library has the manifest as it was.
    let theirs = Tool::new("skopeo").args(["inspect", "--raw"]).arg(format!(
        "containers-storage:[overlay@{}+{}]example.test/chunked:one",
        store.scratch.text("graph"),
        store.scratch.text("run")
    ));
    assert_eq!(theirs.ok().json(), manifest);
    // Where the blob is, it is the same image; where it is not, another blob is sent, without that table.
    store.strata(&[
        "push",
        "--quiet",
        "example.test/chunked:one",
        &format!("oci:{}:two", layout.display()),
    ]);
    assert_eq!(manifest_of(&layout), manifest);
    let other = store.scratch.path().join("other");
    store.strata(&[
        "push",
        "--quiet",
        "example.test/chunked:one",
        &format!("oci:{}:one", other.display()),
    ]);
    let sent = &manifest_of(&other)["layers"][0];
    assert_ne!(sent["digest"], manifest["layers"][0]["digest"]);
    assert_eq!(sent.get("annotations"), None);
}

#[test]
fn what_a_partial_pull_left_at_a_layer_survives() {
    let store = Store::new();
    let archive = store.scratch.text("archive");
    fs::write(&archive, Layer::new().file("f", b"text").tar()).unwrap();
    store.peer("graph", &["import-layer", "-i", "l1", "-f", &archive]);
    let data = [
        ("zstd-chunked-manifest", b"{\"version\":1}".to_vec()),
        ("chunked-manifest-cache", (0..=255).collect()),
        ("zstd-chunked-layer-data", b"[]".to_vec()),
    ];
    for (key, bytes) in &data {
        let file = store.scratch.text("data");
        fs::write(&file, bytes).unwrap();
        store.peer("graph", &["set-layer-data", "-f", &file, "l1", key]);
    }
    // As Go's library leaves a record whose contents came by their table; no command of the peer does.
    let toc = image::digest(b"a table");
    let mut rows = store.rows("graph");
    rows[0]["toc-digest"] = json!(toc);
    rows[0]["flags"] = json!({ "expected-layer-diffid": image::digest(b"an archive"), "of-another": { "a": [1, null] } });
    let file = store
        .scratch
        .path()
        .join("graph/overlay-layers/layers.json");
    fs::write(file, rows.to_string()).unwrap();
    let kept = rows[0].clone();
    let assert_kept = |graph: &str, when: &str| {
        let row = &store.rows(graph)[0];
        for field in [
            "toc-digest",
            "flags",
            "big-data-names",
            "diff-digest",
            "diff-size",
        ] {
            assert_eq!(row[field], kept[field], "{field} {when}");
        }
        for (key, bytes) in &data {
            let found = store.peer(graph, &["get-layer-data", "l1", key]);
            assert!(found == *bytes, "{key} {when}");
        }
    };
    store.strata(&["set-names", "-n", "partial", "l1"]);
    store.strata(&["set-metadata", "-m", "text", "l1"]);
    store.strata(&["create-layer", "-i", "l2", "l1"]);
    store.strata(&["delete-layer", "l2"]);
    store.strata(&["check"]);
    store.strata(&["gc"]);
    assert_kept("graph", "after changes");
    let backup = store.scratch.text("backup");
    store.strata(&["export", "-f", &backup]);
    store
        .tool(Tool::at(&binary()), "restored", &["import", "-f", &backup])
        .ok();
    assert_kept("restored", "after a restore");
}

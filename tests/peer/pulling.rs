//! What a pull writes is what skopeo writes for the same image, but for times and mount labels.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use strata::oci::pull::{Policy, PullerOptions};
use strata::oci::{ImageSource, PullRequest, Puller, RegistryOptions, Transport};
use strata::store::{Config, Store};

use crate::support::image::{self, Format, Layer};
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Tool};

/// Two stores: skopeo copies into the first, Strata pulls into the second.
struct Pair {
    scratch: Scratch,
    registry: Registry,
}

impl Pair {
    fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("pulling");
        let registry = Registry::start(&scratch.dir("registry"));
        Self { scratch, registry }
    }

    fn fetch(&self, reference: &str) {
        self.fetch_for(reference, &[], None);
    }

    /// For a platform, which skopeo is told by flags.
    fn fetch_for(&self, reference: &str, flags: &[&str], platform: Option<&str>) {
        let at = |name: &str| self.scratch.text(name);
        Tool::new("skopeo")
            .args(flags)
            .args(["copy", "--quiet", "--src-tls-verify=false"])
            .arg(format!("docker://{reference}"))
            .arg(format!(
                "containers-storage:[overlay@{}+{}]{reference}",
                at("theirs"),
                at("their-run")
            ))
            .ok();
        let mut config = Config::in_roots(at("ours"), at("our-run"));
        config.driver = Some("overlay".into());
        let store = Store::open(config).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let puller = Puller::new(
            store,
            runtime.handle().clone(),
            Transport::new(RegistryOptions::default()),
            PullerOptions::default(),
        );
        let source: ImageSource = reference.parse().unwrap();
        let mut request = PullRequest::new(source);
        request.policy = Policy::Always;
        request.platform = platform.map(|text| text.parse().unwrap());
        puller.pull_here(&request).unwrap();
    }

    fn read(&self, root: &str, file: &str) -> Value {
        let path = self.scratch.path().join(root).join(file);
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()
    }

    /// The records of both, without what may differ.
    #[track_caller]
    fn assert_same(&self) {
        for file in ["overlay-layers/layers.json", "overlay-images/images.json"] {
            let [theirs, ours] = ["theirs", "ours"].map(|root| {
                let mut rows = self.read(root, file);
                for row in rows.as_array_mut().unwrap() {
                    let row = row.as_object_mut().unwrap();
                    if file.contains("layers") {
                        row.remove("created");
                        row.remove("mountlabel");
                    }
                }
                sorted(rows)
            });
            let (ours, theirs) = (pretty(&ours), pretty(&theirs));
            assert!(
                ours == theirs,
                "{file}: strata wrote\n{ours}\nskopeo wrote\n{theirs}"
            );
        }
        let [theirs, ours] = ["theirs", "ours"].map(|root| {
            let folder = self.scratch.path().join(root).join("overlay-images");
            files(&folder)
        });
        assert!(!theirs.is_empty());
        assert_eq!(ours, theirs);
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

/// Rows by ID: the order in which parallel pulls record layers is nobody's promise.
fn sorted(rows: Value) -> Value {
    let Value::Array(mut rows) = rows else {
        panic!("not a list");
    };
    rows.sort_by_key(|row| row["id"].to_string());
    Value::Array(rows)
}

/// The big data of all images: path and contents.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for image in fs::read_dir(folder).unwrap() {
        let image = image.unwrap();
        if !image.file_type().unwrap().is_dir() {
            continue;
        }
        for file in fs::read_dir(image.path()).unwrap() {
            let file = file.unwrap().path();
            let name = file.strip_prefix(folder).unwrap();
            found.push((name.to_str().unwrap().to_owned(), fs::read(&file).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_pulled_image_is_recorded_as_skopeo_records_it() {
    let pair = Pair::new();
    let layout = pair.scratch.path().join("layout");
    image::write_busybox_layout(&layout, "x");
    pair.registry.push(&layout, "test/plain", "one");
    pair.fetch(&pair.registry.reference("test/plain", "one"));
    pair.assert_same();
}

#[test]
fn an_image_of_another_tool_is_recorded_as_skopeo_records_it() {
    let pair = Pair::new();
    let layout = pair.scratch.path().join("layout");
    image::build_with_umoci(pair.scratch.path(), &layout, "demo");
    let reference = pair.registry.reference("test/umoci", "demo");
    // Converted on the way: Docker's media types.
    Tool::new("skopeo")
        .args([
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            "--format=v2s2",
        ])
        .arg(format!("oci:{}:demo", layout.display()))
        .arg(format!("docker://{reference}"))
        .ok();
    pair.fetch(&reference);
    pair.assert_same();
}

#[test]
fn a_docker_list_is_recorded_as_skopeo_records_it_for_each_platform() {
    let pair = Pair::new();
    let platforms = ["linux/amd64", "linux/arm/v7", "linux/arm64/v8"];
    let images = platforms.map(|platform| {
        let layer = Layer::new().file("platform", platform);
        let image = image::assemble(Format::Docker, platform, &[layer]);
        pair.registry.push_image("test/list", &image);
        (platform, image)
    });
    let entries: Vec<_> = images.iter().map(|(name, image)| (*name, image)).collect();
    let list = image::index(Format::Docker, &entries);
    let kind = Format::Docker.index();
    pair.registry.push_manifest("test/list", "all", kind, &list);
    let reference = pair.registry.reference("test/list", "all");
    for platform in platforms {
        let mut flags = vec!["--override-os", "linux", "--override-arch"];
        let mut parts = platform.split('/').skip(1);
        flags.extend(parts.next());
        if let Some(variant) = parts.next() {
            flags.extend(["--override-variant", variant]);
        }
        pair.fetch_for(&reference, &flags, Some(platform));
        pair.assert_same();
    }
}

#[test]
fn an_index_is_recorded_as_skopeo_records_it() {
    let pair = Pair::new();
    let layout = pair.scratch.path().join("layout");
    let built = image::write_busybox_layout(&layout, "x");
    pair.registry.push(&layout, "test/index", "amd64");
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": built.manifest_digest,
            "size": built.manifest.len(),
            "platform": { "os": "linux", "architecture": "amd64" },
        }],
    })
    .to_string();
    pair.registry.push_manifest(
        "test/index",
        "all",
        "application/vnd.oci.image.index.v1+json",
        index.as_bytes(),
    );
    pair.fetch(&pair.registry.reference("test/index", "all"));
    pair.assert_same();
    // By digest, the name has the digest and no tag.
    let repository = pair.registry.reference("test/index", "");
    let by_digest = format!(
        "{}@{}",
        repository.trim_end_matches(':'),
        image::digest(index.as_bytes())
    );
    pair.fetch(&by_digest);
    pair.assert_same();
}

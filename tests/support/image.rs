//! OCI layouts, written by hand or by umoci.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use strata::digest::Digest;

use super::tool::{self, Tool};

/// How a layer's tar is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    None,
    #[default]
    Gzip,
    Zstd,
    /// With a window of 64 MiB.
    ZstdLong,
}

/// A layer in the making: a tar stream.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    tar: Vec<u8>,
    compression: Compression,
}

impl Layer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    pub fn dir(self, path: &str) -> Self {
        self.member(path, b'5', 0o755, &[], "")
    }

    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.member(path, b'0', 0o644, content.as_ref(), "")
    }

    pub fn program(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.member(path, b'0', 0o755, content.as_ref(), "")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.member(path, b'2', 0o777, &[], target)
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.member(path, b'1', 0o644, &[], target)
    }

    /// Removes what the layers below have at `path`.
    pub fn whiteout(self, path: &str) -> Self {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let marker = format!("{folder}/.wh.{name}");
        self.file(marker.trim_start_matches('/'), [])
    }

    /// A member whose header is written without any check, so that bad ones can be made.
    pub fn member(mut self, path: &str, kind: u8, mode: u32, content: &[u8], link: &str) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(path.len() <= 100 && link.len() <= 100, "short names only");
        put(0, path.as_bytes());
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, format!("{:011o}\0", 1_700_000_000).as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000root");
        put(297, b"root");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.tar.extend_from_slice(&header);
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// The finished tar stream.
    pub fn tar(&self) -> Vec<u8> {
        let mut tar = self.tar.clone();
        tar.resize(tar.len() + 1024, 0);
        tar
    }

    /// The tar stream as it is stored.
    pub fn blob(&self) -> Vec<u8> {
        let tar = self.tar();
        match self.compression {
            Compression::None => tar,
            Compression::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&tar).expect("memory takes everything");
                encoder.finish().expect("memory takes everything")
            }
            Compression::Zstd => {
                zstd::encode_all(tar.as_slice(), 1).expect("memory takes everything")
            }
            Compression::ZstdLong => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("memory");
                encoder.window_log(26).expect("a window");
                encoder.write_all(&tar).expect("memory takes everything");
                encoder.finish().expect("memory takes everything")
            }
        }
    }
}

/// An image that was written to a layout.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its ID in the store: the hex digits of the config's digest.
    pub id: String,
    pub manifest_digest: String,
    pub manifest: Vec<u8>,
    pub diff_ids: Vec<String>,
    pub layer_digests: Vec<String>,
}

/// The digest of `bytes`, as text.
pub fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// The SHA-256 of `bytes` as 64 hex digits.
pub fn hex(bytes: &[u8]) -> String {
    Digest::of(bytes).hex().to_owned()
}

/// Whose media types an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Oci,
    /// Docker's second schema.
    Docker,
}

impl Format {
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    /// Several manifests.
    pub fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn layer(self, compression: Compression) -> String {
        let (stem, joint) = match self {
            Self::Oci => ("application/vnd.oci.image.layer.v1.tar", '+'),
            Self::Docker => ("application/vnd.docker.image.rootfs.diff.tar", '.'),
        };
        match compression {
            Compression::None => stem.to_owned(),
            Compression::Gzip => format!("{stem}{joint}gzip"),
            Compression::Zstd | Compression::ZstdLong => format!("{stem}{joint}zstd"),
        }
    }
}

/// An image that lies nowhere yet.
#[derive(Clone, Debug)]
pub struct Assembled {
    pub built: Built,
    pub format: Format,
    /// Layers and config.
    pub blobs: Vec<Vec<u8>>,
}

/// An image of `layers`, lowest first, whose config says that it is for `platform`.
pub fn assemble(format: Format, platform: &str, layers: &[Layer]) -> Assembled {
    let mut diff_ids = Vec::new();
    let mut layer_digests = Vec::new();
    let mut descriptors = Vec::new();
    let mut blobs = Vec::new();
    for layer in layers {
        diff_ids.push(digest(&layer.tar()));
        let bytes = layer.blob();
        let digest = digest(&bytes);
        descriptors.push(json!({
            "mediaType": format.layer(layer.compression),
            "digest": digest,
            "size": bytes.len(),
        }));
        layer_digests.push(digest);
        blobs.push(bytes);
    }
    let mut config = platform_fields(platform);
    config["created"] = json!("2024-01-01T00:00:00Z");
    config["config"] = json!({ "Cmd": ["/bin/sh"], "Env": ["PATH=/bin"] });
    config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
    let config = config.to_string().into_bytes();
    let config_digest = digest(&config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": format.manifest(),
        "config": {
            "mediaType": format.config(),
            "digest": config_digest,
            "size": config.len(),
        },
        "layers": descriptors,
    })
    .to_string()
    .into_bytes();
    blobs.push(config);
    Assembled {
        built: Built {
            id: config_digest.trim_start_matches("sha256:").to_owned(),
            manifest_digest: digest(&manifest),
            manifest,
            diff_ids,
            layer_digests,
        },
        format,
        blobs,
    }
}

/// An index that lists images, each for a platform.
pub fn index(format: Format, images: &[(&str, &Assembled)]) -> Vec<u8> {
    let manifests: Vec<_> = images
        .iter()
        .map(|(platform, image)| {
            json!({
                "mediaType": image.format.manifest(),
                "digest": image.built.manifest_digest,
                "size": image.built.manifest.len(),
                "platform": platform_fields(platform),
            })
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": format.index(), "manifests": manifests })
        .to_string()
        .into_bytes()
}

/// `os/architecture[/variant]` as configs and indexes have it.
fn platform_fields(platform: &str) -> serde_json::Value {
    let mut parts = platform.split('/');
    let mut fields = json!({ "os": parts.next(), "architecture": parts.next() });
    if let Some(variant) = parts.next() {
        fields["variant"] = json!(variant);
    }
    fields
}

/// Writes an image of `layers`, lowest first, to the OCI layout `layout` under `tag`.
pub fn write_layout(layout: &Path, tag: &str, layers: &[Layer]) -> Built {
    fs::create_dir_all(layout.join("blobs/sha256")).expect("a layout's folder can be made");
    let image = assemble(Format::Oci, "linux/amd64", layers);
    let built = image.built;
    for bytes in image.blobs.iter().chain([&built.manifest]) {
        let path = layout.join("blobs").join(digest(bytes).replace(':', "/"));
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": Format::Oci.manifest(),
            "digest": built.manifest_digest,
            "size": built.manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": tag },
        }],
    });
    fs::write(layout.join("index.json"), index.to_string()).expect("the index can be written");
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("the layout's mark can be written");
    built
}

/// Debian's static busybox, which runs in any image.
pub fn busybox() -> Vec<u8> {
    fs::read(tool::find("busybox")).expect("busybox can be read")
}

/// An image that runs: busybox with a shell, data in a second layer, and changes of it in a third.
pub fn write_busybox_layout(layout: &Path, tag: &str) -> Built {
    let mut shell = Layer::new().dir("bin").program("bin/busybox", busybox());
    for name in ["sh", "cat", "ls", "echo", "sha256sum", "true"] {
        shell = shell.symlink(&format!("bin/{name}"), "busybox");
    }
    for name in ["dev", "proc", "sys", "etc", "run", "tmp"] {
        shell = shell.dir(name);
    }
    let data = Layer::new()
        .dir("data")
        .file("data/greeting", "hello from layer two\n")
        .file("data/removed", "hidden by layer three\n")
        .file("data/large", vec![b'x'; 300_000]);
    let changes = Layer::new()
        .dir("data")
        .whiteout("data/removed")
        .file("data/added", "added by layer three\n")
        .hard_link("data/linked", "data/added");
    write_layout(layout, tag, &[shell, data, changes])
}

/// The same kind of image by umoci, as other people's tools write them. Returns its layer count.
pub fn build_with_umoci(folder: &Path, layout: &Path, tag: &str) -> usize {
    let image = format!("{}:{tag}", layout.display());
    let source = folder.join("source");
    let make = |path: &str| {
        let path = source.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder can be made");
        path
    };
    fs::write(make("bin/busybox"), busybox()).expect("busybox can be copied");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(source.join("bin/busybox"), mode).expect("its mode can be set");
    for name in ["sh", "cat", "ls"] {
        std::os::unix::fs::symlink("busybox", source.join("bin").join(name)).expect("a link");
    }
    fs::write(make("etc/motd"), "welcome\n").expect("a file can be written");
    fs::write(
        make("srv/index.html"),
        "<h1>This page comes from the image.</h1>\n",
    )
    .expect("a file can be written");
    fs::write(make("srv/draft.html"), "removed by the last layer\n").expect("a file");

    let umoci = |arguments: &[&str]| Tool::new("umoci").args(arguments).ok();
    umoci(&["init", "--layout", layout.to_str().expect("UTF-8")]);
    umoci(&["new", "--image", &image]);
    for part in ["bin", "etc", "srv"] {
        let from = source.join(part);
        umoci(&[
            "insert",
            "--image",
            &image,
            from.to_str().expect("UTF-8"),
            &format!("/{part}"),
        ]);
    }
    umoci(&["insert", "--image", &image, "--whiteout", "/srv/draft.html"]);
    umoci(&["config", "--image", &image, "--config.cmd", "/bin/sh"]);
    4
}

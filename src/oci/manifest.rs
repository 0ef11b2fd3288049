//! Manifests and indexes of OCI and of Docker's second schema, and the choice of a platform.
//!
//! The raw bytes are what is stored and hashed; these types only read them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::source::SourceError;
use crate::archive::compression::Compression;
use crate::digest::Digest;

/// The largest manifest or index that is read; what registries accept at most.
pub const LARGEST_MANIFEST: u64 = 4 * 1024 * 1024;
/// The largest config blob that is read.
pub const LARGEST_CONFIG: u64 = 8 * 1024 * 1024;

/// Media types by name.
pub mod media_type {
    /// An OCI manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A Docker manifest, second schema.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
}

/// What is asked for when a manifest is fetched.
pub const ACCEPTED: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_LIST,
    media_type::DOCKER_MANIFEST,
];

/// Points at some bytes: what they are, their digest and their size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are; empty when the descriptor does not say.
    #[serde(default)]
    pub media_type: String,
    /// Their digest.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// For which machines, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

impl Descriptor {
    /// A descriptor without platform and annotations.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: None,
        }
    }

    /// The annotation with this key.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// An operating system and a processor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// Go's name of the processor: `amd64`, `arm64`.
    pub architecture: String,
    /// A generation of it: `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: write OS/ARCHITECTURE[/VARIANT], for example linux/amd64")]
pub struct ParsePlatformError(String);

impl Platform {
    /// The platform of this host.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "x86" => "386",
            "loongarch64" => "loong64",
            other => other,
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        }
    }

    /// How well `offered` serves a host of this platform, lower is better; none when not at all.
    fn rank(&self, offered: &Self) -> Option<usize> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let offered = offered.variant.as_deref().unwrap_or("");
        let wanted = self.variant.as_deref().unwrap_or("");
        let (generations, ordinary) = generations(&self.architecture);
        let wanted = if wanted.is_empty() { ordinary } else { wanted };
        let known = generations.iter().position(|one| *one == wanted);
        let usable = match known {
            Some(at) => &generations[at..],
            None => &[wanted],
        };
        // What names no generation is for all of them; most images for `amd64` do not.
        usable
            .iter()
            .position(|variant| *variant == offered)
            .or_else(|| offered.is_empty().then_some(usable.len()))
    }

    /// True when an image for `offered` runs on a host of this platform.
    pub fn accepts(&self, offered: &Self) -> bool {
        self.rank(offered).is_some()
    }
}

/// The generations of a processor, latest first: each runs what was built for those after it. And the one that a
/// platform without a variant means.
fn generations(architecture: &str) -> (&'static [&'static str], &'static str) {
    match architecture {
        "amd64" => (&["v4", "v3", "v2", "v1"], "v1"),
        "arm64" => (&["v9", "v8"], "v8"),
        "arm" => (&["v8", "v7", "v6", "v5"], "v7"),
        _ => (&[], ""),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(formatter, "/{variant}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        };
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(is_word) {
            return Err(ParsePlatformError(text.to_owned()));
        }
        Ok(Self {
            os: parts[0].to_owned(),
            architecture: parts[1].to_owned(),
            variant: parts.get(2).map(|variant| (*variant).to_owned()),
        })
    }
}

/// The compression that a layer's media type names.
///
/// # Errors
/// When it is no layer that Strata can unpack.
pub fn layer_compression(media_type: &str) -> Result<Compression, SourceError> {
    Ok(match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Compression::None,
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Compression::Gzip,
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Compression::Zstd,
        other => {
            return Err(SourceError::unsupported(
                format_args!("a layer of the media type {other:?}"),
                "expected a tar, plain or compressed with gzip or zstd",
            ));
        }
    })
}

/// OCI's media type for a layer in this compression; none for those that it has no name for.
pub fn layer_media_type(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => Some("application/vnd.oci.image.layer.v1.tar"),
        Compression::Gzip => Some("application/vnd.oci.image.layer.v1.tar+gzip"),
        Compression::Zstd => Some("application/vnd.oci.image.layer.v1.tar+zstd"),
        Compression::Bzip2 | Compression::Xz => None,
    }
}

/// One image: its config and its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The config blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// The bytes of an OCI manifest that says this.
    pub fn to_oci(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Written<'a> {
            schema_version: u32,
            media_type: &'a str,
            config: &'a Descriptor,
            layers: &'a [Descriptor],
        }
        let written = Written {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST,
            config: &self.config,
            layers: &self.layers,
        };
        serde_json::to_vec(&written).expect("its keys are texts, and memory takes everything")
    }
}

/// The manifests of one image for several platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The manifests.
    pub manifests: Vec<Descriptor>,
}

/// What a manifest's bytes can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads a manifest or index that came with this media type (empty or general when unknown).
    ///
    /// # Errors
    /// When it is neither, or its parts disagree about what it is.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, SourceError> {
        let corrupt = |detail: &str| SourceError::corrupt("the manifest", detail);
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            schema_version: u32,
        }
        let version: Version =
            serde_json::from_slice(bytes).map_err(|error| corrupt(&error.to_string()))?;
        if version.schema_version == 1 {
            return Err(SourceError::unsupported(
                "a manifest of Docker's first schema",
                "push the image again with a current tool",
            ));
        }
        let raw: RawDocument =
            serde_json::from_slice(bytes).map_err(|error| corrupt(&error.to_string()))?;
        if raw.schema_version != 2 {
            return Err(corrupt("its schema version is not 2"));
        }
        let outer = media_type.split(';').next().unwrap_or("").trim();
        let kind = declared_kind(outer, &raw.media_type)?;
        match (raw.config, raw.layers, raw.manifests) {
            (Some(config), Some(layers), None) if kind != Some(Kind::Index) => {
                check_config(&config)?;
                for layer in &layers {
                    layer_compression(&layer.media_type)?;
                }
                Ok(Self::Manifest(Manifest { config, layers }))
            }
            (None, None, Some(manifests)) if kind != Some(Kind::Manifest) => {
                Ok(Self::Index(Index { manifests }))
            }
            (None, None, None) => Err(corrupt("it has neither layers nor manifests")),
            _ => Err(corrupt("its fields do not fit its media type")),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest,
    Index,
}

/// What the media types outside and inside the document say that it is.
fn declared_kind(outer: &str, inner: &str) -> Result<Option<Kind>, SourceError> {
    let kind = |text: &str| match text {
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Some(Kind::Manifest),
        media_type::OCI_INDEX | media_type::DOCKER_LIST => Some(Kind::Index),
        _ => None,
    };
    if !inner.is_empty() && kind(inner).is_none() {
        return Err(SourceError::unsupported(
            format_args!("a manifest of the media type {inner:?}"),
            "expected an OCI or Docker image",
        ));
    }
    match (kind(outer), kind(inner)) {
        (Some(_), Some(_)) if outer != inner => Err(SourceError::corrupt(
            "the manifest",
            format_args!("it came as {outer:?} and calls itself {inner:?}"),
        )),
        (outer, inner) => Ok(inner.or(outer)),
    }
}

fn check_config(config: &Descriptor) -> Result<(), SourceError> {
    match config.media_type.as_str() {
        media_type::OCI_CONFIG | media_type::DOCKER_CONFIG => Ok(()),
        other => Err(SourceError::unsupported(
            format_args!("an artifact with a config of the media type {other:?}"),
            "it is not an image that has a file system",
        )),
    }
}

impl Index {
    /// The manifest that fits best; the first without a platform if none does.
    ///
    /// # Errors
    /// When there is none for `wanted`; the message lists what there is.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor, SourceError> {
        let ranked = self
            .manifests
            .iter()
            .filter_map(|entry| Some((wanted.rank(entry.platform.as_ref()?)?, entry)));
        if let Some((_, entry)) = ranked.min_by_key(|(rank, _)| *rank) {
            return Ok(entry);
        }
        let unmarked = self.manifests.iter().find(|entry| entry.platform.is_none());
        unmarked.ok_or_else(|| {
            // Attestations are listed for unknown/unknown.
            let offered: Vec<String> = self
                .manifests
                .iter()
                .filter_map(|entry| entry.platform.as_ref())
                .filter(|platform| platform.os != "unknown")
                .map(Platform::to_string)
                .collect();
            let offered = match offered.as_slice() {
                [] => "nothing".to_owned(),
                some => some.join(", "),
            };
            SourceError::NotFound {
                what: format!("an image for {wanted} (there is {offered})"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> String {
        let digest = Digest::of(b"x");
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1}}"#)
    }

    fn manifest(inner: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{inner}","config":{},"layers":[{}]}}"#,
            descriptor(media_type::OCI_CONFIG),
            descriptor("application/vnd.oci.image.layer.v1.tar+gzip"),
        )
    }

    #[test]
    fn a_manifest_is_what_it_says() {
        for outer in ["", "application/json", media_type::OCI_MANIFEST] {
            for inner in ["", media_type::OCI_MANIFEST] {
                let parsed = Document::parse(manifest(inner).as_bytes(), outer).unwrap();
                assert!(matches!(parsed, Document::Manifest(_)));
            }
        }
        let both = manifest("").replace("\"layers\"", "\"manifests\":[],\"layers\"");
        let cases = [
            (
                manifest(media_type::OCI_MANIFEST),
                media_type::DOCKER_MANIFEST,
                "calls itself",
            ),
            (manifest(""), media_type::OCI_INDEX, "do not fit"),
            (manifest("text/x"), "", "not supported"),
            (both, "", "do not fit"),
            (
                r#"{"schemaVersion":1,"fsLayers":[]}"#.into(),
                "",
                "first schema",
            ),
            (r#"{"schemaVersion":2}"#.into(), "", "neither"),
            (r#"{"schemaVersion":3}"#.into(), "", "version"),
            ("{".into(), "", "corrupt"),
            (
                manifest("").replace("tar+gzip", "tar+lz4"),
                "",
                "not supported",
            ),
            (
                manifest("").replace("image.config", "other"),
                "",
                "artifact",
            ),
        ];
        for (bytes, outer, expected) in cases {
            let error = Document::parse(bytes.as_bytes(), outer)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{bytes}: {error}");
        }
    }

    fn index(platforms: &[Option<&str>]) -> Index {
        let entry = |(number, platform): (usize, &Option<&str>)| {
            let mut entry = Descriptor::new("x", Digest::of(b"x"), number as u64);
            entry.platform = platform.map(|text| text.parse().unwrap());
            entry
        };
        Index {
            manifests: platforms.iter().enumerate().map(entry).collect(),
        }
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let offered = index(&[
            Some("linux/arm/v6"),
            Some("linux/arm/v7"),
            Some("linux/amd64/v3"),
            Some("linux/amd64"),
            Some("linux/arm64/v8"),
            Some("windows/amd64"),
            Some("unknown/unknown"),
        ]);
        for (wanted, expected) in [
            ("linux/amd64", 3),
            ("linux/amd64/v3", 2),
            ("linux/arm64", 4),
            ("linux/arm64/v9", 4),
            ("linux/arm", 1),
            ("linux/arm/v8", 1),
            ("linux/arm/v6", 0),
            // Each processor runs what was built for the ones before it.
            ("linux/amd64/v2", 3),
            ("linux/amd64/v4", 2),
        ] {
            let wanted = wanted.parse().unwrap();
            assert_eq!(offered.choose(&wanted).unwrap().size, expected, "{wanted}");
        }
        let older: Platform = "linux/arm/v5".parse().unwrap();
        assert!(offered.choose(&older).is_err());
        let wanted: Platform = "linux/s390x".parse().unwrap();
        let error = offered.choose(&wanted).unwrap_err().to_string();
        assert!(
            error.contains("linux/arm/v6") && !error.contains("unknown"),
            "{error}"
        );
        let unmarked = index(&[Some("linux/arm64"), None]);
        assert_eq!(unmarked.choose(&wanted).unwrap().size, 1);
    }

    #[test]
    fn platforms_are_two_or_three_words() {
        for bad in ["linux", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        assert_eq!(
            "linux/arm/v7".parse::<Platform>().unwrap().to_string(),
            "linux/arm/v7"
        );
    }
}

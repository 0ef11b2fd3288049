//! The config blob of an image, and the IDs that its layers get in the store.

use serde::Deserialize;

use super::manifest::Platform;
use super::source::SourceError;
use crate::digest::Digest;

/// What Strata reads from a config blob; the bytes themselves are kept as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    /// The uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// For which machines the image was built.
    pub platform: Platform,
    /// When it was built, as the config says it.
    pub created: Option<String>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    rootfs: Option<RawRootFs>,
}

#[derive(Deserialize)]
struct RawRootFs {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

impl ImageConfig {
    /// Reads a config blob.
    ///
    /// # Errors
    /// When it is no image config.
    pub fn parse(bytes: &[u8]) -> Result<Self, SourceError> {
        let corrupt = |detail: String| SourceError::corrupt("the image config", detail);
        let raw: RawConfig =
            serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
        let root = raw
            .rootfs
            .ok_or_else(|| corrupt("it lists no layers (rootfs)".into()))?;
        if root.kind != "layers" {
            return Err(corrupt(format!("rootfs has the type {:?}", root.kind)));
        }
        Ok(Self {
            diff_ids: root.diff_ids.unwrap_or_default(),
            platform: Platform {
                os: raw.os,
                architecture: raw.architecture,
                variant: raw.variant.filter(|variant| !variant.is_empty()),
            },
            created: raw.created,
        })
    }

    /// The store's IDs of the layers, lowest first.
    pub fn layer_ids(&self) -> Vec<String> {
        layer_ids(&self.diff_ids)
    }
}

/// The store's IDs for layers with these diff ids over each other, lowest first.
///
/// The first is the hex of its diff id, each other the SHA-256 of `<parent>+<hex of the diff id>`:
/// every tool that pulls an image finds the same IDs.
pub fn layer_ids(diff_ids: &[Digest]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match ids.last() {
            None => diff_id.hex().to_owned(),
            Some(parent) => {
                let text = format!("{parent}+{}", diff_id.hex());
                Digest::of(text.as_bytes()).hex().to_owned()
            }
        };
        ids.push(id);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_ids_depend_on_everything_below() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let ids = layer_ids(&[a.clone(), b.clone(), b.clone()]);
        assert_eq!(ids[0], a.hex());
        let second = Digest::of(format!("{}+{}", a.hex(), b.hex()).as_bytes());
        assert_eq!(ids[1], second.hex());
        assert_ne!(ids[1], ids[2]);
        assert!(layer_ids(&[]).is_empty());
    }

    #[test]
    fn configs_must_list_layers() {
        let good = format!(
            r#"{{"created":"2024-01-02T03:04:05Z","os":"linux","architecture":"amd64",
            "rootfs":{{"type":"layers","diff_ids":["{}"]}},"other":1}}"#,
            Digest::of(b"a")
        );
        let config = ImageConfig::parse(good.as_bytes()).unwrap();
        assert_eq!(config.diff_ids, [Digest::of(b"a")]);
        assert_eq!(config.created.as_deref(), Some("2024-01-02T03:04:05Z"));
        for bad in [
            "{}",
            "[]",
            r#"{"rootfs":{"type":"x","diff_ids":[]}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:1"]}}"#,
        ] {
            assert!(ImageConfig::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

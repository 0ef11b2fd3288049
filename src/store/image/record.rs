//! The JSON row of an image: section "images.json" of docs/on-disk-format.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::store::flags::Flags;
use crate::store::recorded_digest::RecordedDigest;
use crate::store::row::{Record, Shape};
use crate::store::time::Time;

/// An image as `images.json` has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Unique among images; the hex digest of the config blob for images from registries.
    pub id: String,
    /// The digest given at creation, else the first manifest digest.
    #[serde(default, skip_serializing_if = "RecordedDigest::is_none")]
    pub digest: RecordedDigest,
    /// Human names, unique among the images of one store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Names it had, the latest first.
    #[serde(
        default,
        rename = "names-history",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub names_history: Vec<String>,
    /// ID of the top layer; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layer: String,
    /// Alternate top layers with other ID mappings.
    #[serde(
        default,
        rename = "mapped-layers",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub mapped_layers: Vec<String>,
    /// The caller's text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// Keys of its big data, in the order in which they came.
    #[serde(
        default,
        rename = "big-data-names",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub big_data_names: Vec<String>,
    /// Length of each item in bytes.
    #[serde(
        default,
        rename = "big-data-sizes",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub big_data_sizes: BTreeMap<String, i64>,
    /// Digest of each item; of manifests, the manifest digest.
    #[serde(
        default,
        rename = "big-data-digests",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub big_data_digests: BTreeMap<String, RecordedDigest>,
    /// When the image was made.
    #[serde(default)]
    pub created: Time,
    /// Open-ended.
    #[serde(default, skip_serializing_if = "Flags::is_empty")]
    pub flags: Flags,
}

/// Big data keys that start so hold manifests; their digests find the image.
pub const MANIFEST_PREFIX: &str = "manifest";

impl ImageRecord {
    /// Every digest that finds this image: its own first, then those of its manifests.
    pub fn digests(&self) -> Vec<&Digest> {
        let manifests = self
            .big_data_digests
            .iter()
            .filter(|(key, _)| key.starts_with(MANIFEST_PREFIX))
            .filter_map(|(_, digest)| digest.get());
        let mut digests: Vec<&Digest> = Vec::new();
        for digest in self.digest.get().into_iter().chain(manifests) {
            if !digests.contains(&digest) {
                digests.push(digest);
            }
        }
        digests
    }

    /// The top layer and its mapped variants.
    pub fn top_layers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.layer.as_str())
            .filter(|layer| !layer.is_empty())
            .chain(self.mapped_layers.iter().map(String::as_str))
    }

    /// Sets the image's own digest to that of its manifest, when it has none yet, as Go does at load.
    pub(in crate::store) fn settle_digest(&mut self) {
        if self.digest.is_none()
            && let Some(digest) = self.digests().first()
        {
            self.digest = (*digest).clone().into();
        }
    }
}

impl Record for ImageRecord {
    fn shape(key: &str) -> Option<Shape> {
        match key {
            "id" | "digest" | "layer" | "metadata" | "created" => Some(Shape::Text),
            "names" | "names-history" | "mapped-layers" | "big-data-names" => Some(Shape::List),
            "big-data-sizes" | "big-data-digests" | "flags" => Some(Shape::Map),
            _ => None,
        }
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn layer(&self) -> &str {
        &self.layer
    }

    fn data_keys(&self) -> &[String] {
        &self.big_data_names
    }

    fn names_mut(&mut self) -> Option<&mut Vec<String>> {
        Some(&mut self.names)
    }
}

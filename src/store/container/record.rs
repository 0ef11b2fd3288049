//! The JSON row of a container: section "containers.json" of docs/on-disk-format.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::store::flags::Flags;
use crate::store::id_map::IdMap;
use crate::store::recorded_digest::RecordedDigest;
use crate::store::row::{Record, Shape};
use crate::store::time::Time;

/// A container as `containers.json` has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Unique among containers.
    pub id: String,
    /// Human names, unique among containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// ID of the image that it was made from; empty when there is none.
    #[serde(default)]
    pub image: String,
    /// ID of its writable layer.
    #[serde(default)]
    pub layer: String,
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
    /// SHA-256 of each item.
    #[serde(
        default,
        rename = "big-data-digests",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub big_data_digests: BTreeMap<String, RecordedDigest>,
    /// When it was made.
    #[serde(default)]
    pub created: Time,
    /// User ID mapping of its user namespace.
    #[serde(default, rename = "uidmap", skip_serializing_if = "Vec::is_empty")]
    pub uid_map: Vec<IdMap>,
    /// Group ID mapping of its user namespace.
    #[serde(default, rename = "gidmap", skip_serializing_if = "Vec::is_empty")]
    pub gid_map: Vec<IdMap>,
    /// Labels, mount options, [`Flags::VOLATILE`].
    #[serde(default, skip_serializing_if = "Flags::is_empty")]
    pub flags: Flags,
}

impl Record for ContainerRecord {
    fn shape(key: &str) -> Option<Shape> {
        match key {
            "id" | "image" | "layer" | "metadata" | "created" => Some(Shape::Text),
            "names" | "big-data-names" | "uidmap" | "gidmap" => Some(Shape::List),
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

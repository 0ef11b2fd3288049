//! The JSON row of a layer: section "layers.json" of docs/on-disk-format.md.

use serde::{Deserialize, Serialize};

use crate::store::flags::Flags;
use crate::store::id_map::IdMap;
use crate::store::recorded_digest::RecordedDigest;
use crate::store::row::{Record, Shape};
use crate::store::time::Time;

/// A layer as `layers.json` has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Unique among layers.
    pub id: String,
    /// Human names, unique among layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// ID of the layer below; empty for a base layer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// The caller's text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// SELinux label for mounts that give none.
    #[serde(
        default,
        rename = "mountlabel",
        skip_serializing_if = "String::is_empty"
    )]
    pub mount_label: String,
    /// When it was made.
    #[serde(default)]
    pub created: Time,
    /// Digest of the blob as it was handed in.
    #[serde(
        default,
        rename = "compressed-diff-digest",
        skip_serializing_if = "RecordedDigest::is_none"
    )]
    pub compressed_diff_digest: RecordedDigest,
    /// Length of that blob in bytes.
    #[serde(default, rename = "compressed-size", skip_serializing_if = "is_zero")]
    pub compressed_size: i64,
    /// Digest of the uncompressed tar: the diff ID.
    #[serde(
        default,
        rename = "diff-digest",
        skip_serializing_if = "RecordedDigest::is_none"
    )]
    pub diff_digest: RecordedDigest,
    /// Digest of the table of contents of a partially pulled layer.
    #[serde(
        default,
        rename = "toc-digest",
        skip_serializing_if = "RecordedDigest::is_none"
    )]
    pub toc_digest: RecordedDigest,
    /// Length of the uncompressed tar in bytes; meaningful with `diff_digest` only.
    #[serde(default, rename = "diff-size", skip_serializing_if = "is_zero")]
    pub diff_size: i64,
    /// 0 none, 1 bzip2, 2 gzip, 3 xz, 4 zstd: what the blob was compressed with.
    #[serde(default, skip_serializing_if = "is_none")]
    pub compression: u32,
    /// Distinct user IDs of the tar headers, ascending.
    #[serde(default, rename = "uidset", skip_serializing_if = "Vec::is_empty")]
    pub uids: Vec<u32>,
    /// Distinct group IDs of the tar headers, ascending.
    #[serde(default, rename = "gidset", skip_serializing_if = "Vec::is_empty")]
    pub gids: Vec<u32>,
    /// Open-ended; see [`Flags`].
    #[serde(default, skip_serializing_if = "Flags::is_empty")]
    pub flags: Flags,
    /// User ID mapping of this layer's own contents.
    #[serde(default, rename = "uidmap", skip_serializing_if = "Vec::is_empty")]
    pub uid_map: Vec<IdMap>,
    /// Group ID mapping of this layer's own contents.
    #[serde(default, rename = "gidmap", skip_serializing_if = "Vec::is_empty")]
    pub gid_map: Vec<IdMap>,
    /// Keys of the layer's big data, in the order in which they came.
    #[serde(
        default,
        rename = "big-data-names",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub big_data_names: Vec<String>,
}

impl LayerRecord {
    /// True while it is being created or deleted; nobody may use it.
    pub fn is_incomplete(&self) -> bool {
        self.flags.is_set(Flags::INCOMPLETE)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_none(compression: &u32) -> bool {
    *compression == 0
}

impl Record for LayerRecord {
    fn shape(key: &str) -> Option<Shape> {
        match key {
            "id"
            | "parent"
            | "metadata"
            | "mountlabel"
            | "created"
            | "compressed-diff-digest"
            | "diff-digest"
            | "toc-digest" => Some(Shape::Text),
            "names" | "uidset" | "gidset" | "uidmap" | "gidmap" | "big-data-names" => {
                Some(Shape::List)
            }
            "compressed-size" | "diff-size" | "compression" => Some(Shape::Number),
            "flags" => Some(Shape::Map),
            _ => None,
        }
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn data_keys(&self) -> &[String] {
        &self.big_data_names
    }

    fn names_mut(&mut self) -> Option<&mut Vec<String>> {
        Some(&mut self.names)
    }
}

//! [`Problem`]: one thing that is wrong with a store, in the peer's words.

use crate::store::error::Kind;

/// One thing that is wrong. The texts name what is damaged, which may lie below where they are told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A layer's data item has no file.
    #[error("layer {0}: data item {1:?}: layer data item is missing")]
    LayerDataMissing(String, String),
    /// A layer's archive can't be put together again as it came in.
    #[error("layer {0}: layer content incorrect digest")]
    LayerDigest(String),
    /// It has another length.
    #[error("layer {0}: layer content incorrect size")]
    LayerSize(String),
    /// A file is not what the archive says of it.
    #[error("layer {0}: {1}, layer content modified")]
    LayerModified(String, String),
    /// A layer can't be read.
    #[error("layer {0}: {1}")]
    LayerUnreadable(String, String),
    /// A layer that another one stands on is not there.
    #[error("layer {0}: layer is missing")]
    LayerMissing(String),
    /// No image and no container stands on the layer.
    #[error("layer {0}: layer not referenced by any images or containers")]
    Unused(String),
    /// The driver has a directory that no record speaks of.
    #[error("layer {0}: layer in lower level storage driver not accounted for")]
    Unrecorded(String),
    /// A layer of an image is not there.
    #[error("image {0}: layer {1}: image layer is missing")]
    ImageLayerMissing(String, String),
    /// An image's data item has no file.
    #[error("image {0}: data item {1:?}: image data item is missing")]
    ImageDataMissing(String, String),
    /// It has another length.
    #[error("image {0}: data item {1:?}: image data item has incorrect size")]
    ImageDataSize(String, String),
    /// What a record has in the place of a digest is none.
    #[error("{kind} {id}: {what} is no digest: {text:?}")]
    NotADigest {
        /// Of which kind.
        kind: Kind,
        /// Its ID.
        id: String,
        /// Which digest.
        what: String,
        /// What is there.
        text: String,
    },
    /// A container's image is not there.
    #[error("image {0}: image missing")]
    ImageMissing(String),
    /// A container's own layer is not there.
    #[error("container {0}: layer {1}: layer is missing")]
    ContainerLayerMissing(String, String),
    /// A container's data item has no file.
    #[error("container {0}: data item {1:?}: container data item is missing")]
    ContainerDataMissing(String, String),
    /// It has another length.
    #[error("container {0}: data item {1:?}: container data item has incorrect size")]
    ContainerDataSize(String, String),
    /// It is an additional store's.
    #[error("read-only {0}")]
    ReadOnly(Box<Problem>),
}

impl Problem {
    /// The layer that is damaged, when it is one that is there.
    pub(super) fn layer(&self) -> Option<&String> {
        match self {
            Self::LayerDataMissing(id, _)
            | Self::LayerDigest(id)
            | Self::LayerSize(id)
            | Self::LayerModified(id, _)
            | Self::LayerUnreadable(id, _) => Some(id),
            Self::NotADigest {
                kind: Kind::Layer,
                id,
                ..
            } => Some(id),
            Self::ReadOnly(problem) => problem.layer(),
            _ => None,
        }
    }
}

//! [`PushError`]: why an image was not pushed, and what can be done about it.

use crate::digest::Digest;
use crate::oci::pull::Trouble;
use crate::oci::source::SourceError;
use crate::oci::stored::StoredError;
use crate::store;
use crate::store::layer::diff::DiffError;

/// Why an image was not pushed. Some of its blobs may be at the destination; its name is not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The store has no such image.
    #[error("{0}: image not known")]
    Unknown(String),
    /// The image was made by hand and is no more than a record.
    #[error("the image {0} has no manifest")]
    NoManifest(String),
    /// The destination failed.
    #[error(transparent)]
    Destination(SourceError),
    /// What the store has of the image is broken.
    #[error("the image {image}")]
    Broken {
        /// The image.
        image: String,
        /// What is wrong with it.
        source: SourceError,
    },
    /// A layer can't be read back as it came.
    #[error("layer {diff_id} of {image}")]
    Layer {
        /// The image.
        image: String,
        /// The layer's uncompressed archive.
        diff_id: Digest,
        /// Why.
        source: DiffError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The thread that pushed is gone without a word.
    #[error("the push of {0} was abandoned: this is a bug in strata")]
    Abandoned(String),
}

impl PushError {
    /// From reading an image of the store.
    pub(super) fn stored(image: &str, error: StoredError) -> Self {
        match error {
            StoredError::Store(error) => Self::Store(error),
            StoredError::Broken(source) => Self::Broken {
                image: image.to_owned(),
                source,
            },
        }
    }

    /// What can be done about it.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Unknown(_) => Trouble::NotFound,
            Self::NoManifest(_) => Trouble::Unsupported,
            Self::Destination(error) => error.into(),
            Self::Broken { .. } => Trouble::Corrupt,
            Self::Layer { source, .. } => source.into(),
            Self::Store(error) => error.into(),
            Self::Abandoned(_) => Trouble::Internal,
        }
    }
}

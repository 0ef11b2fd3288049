//! [`PullError`]: why an image was not pulled.

use super::trouble::Trouble;
use crate::digest::Digest;
use crate::oci::source::SourceError;
use crate::store::{self, StageError};

/// Why an image was not pulled. Nothing of it is left in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The image is not in the store and may not be pulled.
    #[error("{0} is not in the store, and the policy is never to pull")]
    Absent(String),
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The image was built for another platform.
    #[error("{image} is for {found}, not for {wanted}")]
    Platform {
        /// The image.
        image: String,
        /// What it is for.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// A layer can't be unpacked.
    #[error("layer {digest} of {image}")]
    Layer {
        /// The image.
        image: String,
        /// The layer's blob.
        digest: Digest,
        /// Why.
        source: StageError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A thread could not be started.
    #[error("start a thread for {image}")]
    Thread {
        /// The image.
        image: String,
        /// Why.
        source: std::io::Error,
    },
    /// The thread that pulled is gone without a word.
    #[error("the pull of {0} was abandoned: this is a bug in strata")]
    Abandoned(String),
}

impl PullError {
    /// What can be done about it.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Absent(_) | Self::Platform { .. } => Trouble::NotFound,
            Self::Source(error) => error.into(),
            Self::Layer { source, .. } => source.into(),
            Self::Store(error) => error.into(),
            Self::Thread { .. } => Trouble::Unavailable,
            Self::Abandoned(_) => Trouble::Internal,
        }
    }
}

/// Makes an error of the store that another pull of the same image can do without.
pub(super) fn is_worth_another_try(error: &PullError) -> bool {
    matches!(
        error,
        PullError::Store(
            store::Error::ParentUnknown
                | store::Error::Changed(_)
                | store::Error::Unknown(store::Kind::Layer)
                | store::Error::DuplicateName { .. }
        )
    )
}

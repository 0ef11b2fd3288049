//! [`PullError`]: why an image was not pulled, and what can be done about it.

use crate::archive::unpack::UnpackError;
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

/// What can be done about a failed pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Name another image: this one does not exist, or not for this platform.
    NotFound,
    /// Give other credentials, or any.
    Unauthenticated,
    /// Ask for access.
    Denied,
    /// Wait.
    Unavailable,
    /// Repair the image: its bytes are not what they should be.
    Corrupt,
    /// Raise a limit, or build a smaller image.
    TooLarge,
    /// Free some space.
    NoSpace,
    /// Build or configure it otherwise: Strata can't do this.
    Unsupported,
    /// Look at the store or at Strata.
    Internal,
}

impl PullError {
    /// What can be done about it.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Absent(_) | Self::Platform { .. } => Trouble::NotFound,
            Self::Source(error) => error.trouble(),
            Self::Layer { source, .. } => stage_trouble(source),
            Self::Store(error) => store_trouble(error),
            Self::Thread { .. } => Trouble::Unavailable,
            Self::Abandoned(_) => Trouble::Internal,
        }
    }
}

impl SourceError {
    /// What can be done about it.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::NotFound { .. } => Trouble::NotFound,
            Self::Unauthenticated { .. } => Trouble::Unauthenticated,
            Self::Denied { .. } => Trouble::Denied,
            Self::Unavailable { .. } => Trouble::Unavailable,
            Self::Corrupt { .. } => Trouble::Corrupt,
            Self::TooLarge { .. } => Trouble::TooLarge,
            Self::Unsupported { .. } | Self::Refused { .. } => Trouble::Unsupported,
            Self::File(error) if error.is_no_space() => Trouble::NoSpace,
            Self::File(error) if error.is_not_found() => Trouble::NotFound,
            Self::File(_) => Trouble::Internal,
        }
    }
}

fn stage_trouble(error: &StageError) -> Trouble {
    match error {
        error if error.is_no_space() => Trouble::NoSpace,
        StageError::Mismatch { .. } | StageError::Read(_) => Trouble::Corrupt,
        StageError::Unpack(UnpackError::Limit { .. }) => Trouble::TooLarge,
        StageError::Unpack(UnpackError::System(error)) if is_of_the_archive(error) => {
            Trouble::Corrupt
        }
        StageError::Unpack(UnpackError::System(_) | UnpackError::Recipe(_)) => Trouble::Internal,
        StageError::Unpack(_) => Trouble::Corrupt,
        StageError::Store(error) => store_trouble(error),
        _ => Trouble::Internal,
    }
}

/// What the kernel says of names in an archive that can't be: links to nothing, in circles or outwards,
/// members below what is no directory.
fn is_of_the_archive(error: &crate::sys::Error) -> bool {
    use rustix::io::Errno;
    let said = error.errno().map(Errno::from_raw_os_error);
    matches!(
        said,
        Some(
            Errno::NOENT
                | Errno::LOOP
                | Errno::NOTDIR
                | Errno::EXIST
                | Errno::ISDIR
                | Errno::NAMETOOLONG
                | Errno::XDEV
        )
    )
}

fn store_trouble(error: &store::Error) -> Trouble {
    match error {
        error if error.is_no_space() => Trouble::NoSpace,
        store::Error::Stage(error) => stage_trouble(error),
        // Deleted by another tool in the middle: the next try finds or fetches it.
        store::Error::Changed(_) | store::Error::ParentUnknown | store::Error::Unknown(_) => {
            Trouble::Unavailable
        }
        _ => Trouble::Internal,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::driver::DriverError;
    use crate::sys;

    #[test]
    fn names_that_can_not_be_are_the_archives_fault() {
        let trouble = |errno| {
            let error = sys::Error::new("link", "a", std::io::Error::from_raw_os_error(errno));
            stage_trouble(&StageError::Unpack(UnpackError::System(error)))
        };
        for errno in [
            libc::ENOENT,
            libc::ELOOP,
            libc::ENOTDIR,
            libc::EEXIST,
            libc::EISDIR,
            libc::ENAMETOOLONG,
            libc::EXDEV,
        ] {
            assert_eq!(trouble(errno), Trouble::Corrupt, "{errno}");
        }
        assert_eq!(trouble(libc::EIO), Trouble::Internal);
        assert_eq!(trouble(libc::ENOSPC), Trouble::NoSpace);
    }

    /// The driver's own calls met it: no layer of errors between may hide that.
    #[test]
    fn a_disk_that_is_full_for_the_driver_is_full() {
        let driver = || {
            let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
            DriverError::Io(sys::Error::new("make directory", "diff", full))
        };
        for error in [
            StageError::Driver(driver()),
            StageError::Store(driver().into()),
        ] {
            assert_eq!(stage_trouble(&error), Trouble::NoSpace, "{error:?}");
        }
        let error = PullError::Store(driver().into());
        assert_eq!(error.trouble(), Trouble::NoSpace);
    }
}

//! [`Trouble`]: what can be done about an image that was not had, whoever met the failure. This is the one table.

use crate::archive::unpack::UnpackError;
use crate::oci::source::SourceError;
use crate::store::driver::DriverError;
use crate::store::layer::diff::DiffError;
use crate::store::{self, StageError};

/// What can be done about a failed pull or push.
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
    /// Repair the store: its records or layers are not what they should be.
    Damaged,
    /// Raise a limit, or build a smaller image.
    TooLarge,
    /// Free some space.
    NoSpace,
    /// Build or configure it otherwise: Strata can't do this, or not with this store.
    Unsupported,
    /// Look at the store or at Strata.
    Internal,
}

impl From<&SourceError> for Trouble {
    fn from(error: &SourceError) -> Self {
        match error {
            SourceError::NotFound { .. } => Self::NotFound,
            SourceError::Unauthenticated { .. } => Self::Unauthenticated,
            SourceError::Denied { .. } => Self::Denied,
            SourceError::Unavailable { .. } => Self::Unavailable,
            SourceError::Corrupt { .. } => Self::Corrupt,
            SourceError::TooLarge { .. } => Self::TooLarge,
            SourceError::Unsupported { .. } | SourceError::Refused { .. } => Self::Unsupported,
            SourceError::File(error) if error.is_no_space() => Self::NoSpace,
            SourceError::File(error) if error.is_not_found() => Self::NotFound,
            SourceError::File(_) => Self::Internal,
        }
    }
}

impl From<&store::Error> for Trouble {
    fn from(error: &store::Error) -> Self {
        use store::Error as E;
        match error {
            _ if error.is_no_space() => Self::NoSpace,
            E::Stage(error) => error.as_ref().into(),
            E::Diff(error) => error.as_ref().into(),
            E::Driver(error) => error.as_ref().into(),
            // Changed by another tool in the middle: the next try finds what is there now, or fetches it.
            E::Changed(_) | E::ParentUnknown | E::Unknown(_) => Self::Unavailable,
            E::Load { .. } => Self::Damaged,
            E::ReadOnly | E::StoreReadOnly(_) | E::NotSupported(_) => Self::Unsupported,
            _ => Self::Internal,
        }
    }
}

impl From<&StageError> for Trouble {
    fn from(error: &StageError) -> Self {
        match error {
            _ if error.is_no_space() => Self::NoSpace,
            StageError::Mismatch { .. } | StageError::Read(_) => Self::Corrupt,
            StageError::Unpack(UnpackError::Limit { .. }) => Self::TooLarge,
            StageError::Unpack(UnpackError::System(error)) if is_of_the_archive(error) => {
                Self::Corrupt
            }
            StageError::Unpack(UnpackError::System(_) | UnpackError::Recipe(_)) => Self::Internal,
            StageError::Unpack(_) => Self::Corrupt,
            StageError::ParentUnknown | StageError::Thread(_) => Self::Unavailable,
            StageError::Driver(error) => error.into(),
            StageError::Store(error) => error.into(),
            StageError::Io(_) => Self::Internal,
        }
    }
}

impl From<&DiffError> for Trouble {
    fn from(error: &DiffError) -> Self {
        match error {
            _ if error.is_no_space() => Self::NoSpace,
            DiffError::Reassemble(_) | DiffError::Digest { .. } | DiffError::Blob(_) => {
                Self::Corrupt
            }
            DiffError::Driver(error) => error.into(),
            DiffError::Store(error) => error.into(),
            DiffError::Compression(_) => Self::Unsupported,
            DiffError::Write(_) | DiffError::Io(_) => Self::Internal,
        }
    }
}

impl From<&DriverError> for Trouble {
    fn from(error: &DriverError) -> Self {
        match error {
            _ if error.is_no_space() => Self::NoSpace,
            DriverError::InUse(_) => Self::Unavailable,
            DriverError::Damaged { .. } | DriverError::Missing(_) => Self::Damaged,
            DriverError::TooDeep { .. }
            | DriverError::Prerequisites(_)
            | DriverError::MountOption(_)
            | DriverError::Unmappable(_) => Self::Unsupported,
            _ => Self::Internal,
        }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::store::table::ParseTableError;
    use crate::sys;

    fn said(errno: i32) -> sys::Error {
        sys::Error::new("link", "a", std::io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn names_that_can_not_be_are_the_archives_fault() {
        let trouble = |errno| Trouble::from(&StageError::Unpack(UnpackError::System(said(errno))));
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

    /// Wherever in a pull the driver is called: what it says counts.
    #[test]
    fn what_a_driver_says_is_not_lost_on_the_way() {
        let text = || "text".to_owned();
        let cases: [(fn(String) -> DriverError, Trouble); 7] = [
            (|_| DriverError::Io(said(libc::ENOSPC)), Trouble::NoSpace),
            (DriverError::InUse, Trouble::Unavailable),
            (DriverError::Missing, Trouble::Damaged),
            (
                |id| DriverError::Damaged {
                    reason: id.clone(),
                    id,
                },
                Trouble::Damaged,
            ),
            (
                |id| DriverError::TooDeep {
                    id,
                    found: 501,
                    limit: 500,
                },
                Trouble::Unsupported,
            ),
            (DriverError::Prerequisites, Trouble::Unsupported),
            (DriverError::Name, Trouble::Internal),
        ];
        for (error, trouble) in cases {
            let error = || error(text());
            let of_store = || store::Error::Driver(Arc::new(error()));
            assert_eq!(Trouble::from(&of_store()), trouble);
            assert_eq!(Trouble::from(&StageError::Driver(error())), trouble);
            assert_eq!(Trouble::from(&StageError::Store(of_store())), trouble);
            assert_eq!(Trouble::from(&DiffError::Driver(error())), trouble);
        }
    }

    #[test]
    fn a_store_that_is_broken_or_closed_is_told_from_a_bug() {
        use store::Error as E;
        let load = E::Load {
            path: PathBuf::from("layers.json"),
            source: Arc::new(ParseTableError::TooLong),
        };
        for (error, trouble) in [
            (load, Trouble::Damaged),
            (E::StoreReadOnly(PathBuf::new()), Trouble::Unsupported),
            (E::ReadOnly, Trouble::Unsupported),
            (E::NotSupported(String::new()), Trouble::Unsupported),
            (E::Changed(store::Kind::Layer), Trouble::Unavailable),
            (E::Unknown(store::Kind::Image), Trouble::Unavailable),
            (E::ParentUnknown, Trouble::Unavailable),
            (E::Abandoned, Trouble::Internal),
        ] {
            assert_eq!(Trouble::from(&error), trouble, "{error:?}");
            let staged = StageError::Store(error);
            assert_eq!(Trouble::from(&staged), trouble, "{staged:?}");
        }
    }
}

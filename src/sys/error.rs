//! The one error of this module: what was being done, to what, and what the kernel said.

use std::io;
use std::path::{Path, PathBuf};

/// A system call that failed.
///
/// Displays as `verb path`; the kernel's text is the source.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {}", path.display())]
pub struct Error {
    verb: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Error {
    /// `verb` is what was attempted ("open", "rename"), `path` what it was attempted on.
    pub fn new(verb: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self {
            verb,
            path: path.into(),
            source: source.into(),
        }
    }

    /// The path that the failed call was given, as far as it is known.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kind of the underlying error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The kernel's error number, when there is one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// True when the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// True when the thing exists already.
    pub fn is_already_exists(&self) -> bool {
        self.kind() == io::ErrorKind::AlreadyExists
    }

    /// True when this process may not write there, or nobody may.
    pub fn is_read_only(&self) -> bool {
        matches!(self.errno(), Some(libc::EROFS | libc::EACCES))
    }

    /// True when the file system or a quota is full.
    pub fn is_no_space(&self) -> bool {
        is_no_space(&self.source)
    }
}

/// True when the file system or a quota is full, also where an [`Error`] has become an [`io::Error`].
pub fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_however_often_its_error_is_wrapped() {
        let error = |errno| Error::new("write", "file", io::Error::from_raw_os_error(errno));
        for errno in [libc::ENOSPC, libc::EDQUOT] {
            assert!(error(errno).is_no_space());
            let wrapped = io::Error::from(error(errno));
            assert!(is_no_space(&wrapped));
            assert!(Error::new("copy", "file", wrapped).is_no_space());
        }
        assert!(!error(libc::EIO).is_no_space());
    }
}

//! Extended attributes, by descriptor and by directory and name.
//!
//! By name they go through `/proc/self/fd`, as the kernel has calls relative to a directory only
//! since 6.13; a symbolic link itself is meant, never what it points to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

use super::{Dir, Error, File, fault};

/// What most values fit into; longer ones are asked for twice.
const USUAL_LEN: usize = 256;

/// The kernel's own limit for one value and for all names together.
const MAX_LEN: usize = 64 * 1024;

fn read(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; USUAL_LEN];
    let len = match call(&mut value) {
        Err(Errno::RANGE) => {
            value.resize(MAX_LEN, 0);
            call(&mut value)
        }
        result => result,
    }?;
    value.truncate(len);
    Ok(value)
}

fn value(result: Result<Vec<u8>, Errno>) -> Result<Option<Vec<u8>>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn names(result: Result<Vec<u8>, Errno>) -> Result<Vec<Vec<u8>>, Errno> {
    match result {
        Ok(list) => Ok(list
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect()),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// Where the kernel finds `name` in the open directory `fd`.
fn at(fd: BorrowedFd<'_>, name: &Path) -> PathBuf {
    let mut path = format!("/proc/self/fd/{}/", fd.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_os_str().as_bytes());
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

impl Dir {
    fn failed<'a>(
        &'a self,
        verb: &'static str,
        name: &'a Path,
    ) -> impl FnOnce(Errno) -> Error + use<'a> {
        move |errno| Error::new(verb, self.path().join(name), io::Error::from(errno))
    }

    /// The attribute `key` of `name`, a single component, or of this directory when it is `""`; `None` when it has none
    /// or the file system knows no attributes.
    ///
    /// # Errors
    /// When the name is missing or the kernel refuses.
    pub fn attribute(&self, name: impl AsRef<Path>, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let name = name.as_ref();
        let result = if name.as_os_str().is_empty() {
            read(|buffer| fs::fgetxattr(self.as_fd(), key, buffer))
        } else {
            let path = at(self.as_fd(), name);
            read(|buffer| fs::lgetxattr(&path, key, buffer))
        };
        value(result).map_err(self.failed("read an attribute of", name))
    }

    /// The keys of all attributes of `name`, or of this directory when it is `""`.
    ///
    /// # Errors
    /// When the name is missing or the kernel refuses.
    pub fn attributes(&self, name: impl AsRef<Path>) -> Result<Vec<Vec<u8>>, Error> {
        let name = name.as_ref();
        let result = if name.as_os_str().is_empty() {
            read(|buffer| fs::flistxattr(self.as_fd(), buffer))
        } else {
            let path = at(self.as_fd(), name);
            read(|buffer| fs::llistxattr(&path, buffer))
        };
        names(result).map_err(self.failed("list the attributes of", name))
    }

    /// Sets an attribute of `name`, or of this directory when it is `""`.
    ///
    /// # Errors
    /// When the name is missing or the kernel refuses.
    pub fn set_attribute(
        &self,
        name: impl AsRef<Path>,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Error> {
        let name = name.as_ref();
        let flags = XattrFlags::empty();
        let result = if name.as_os_str().is_empty() {
            fault::change("fsetxattr", || {
                Ok(fs::fsetxattr(self.as_fd(), key, value, flags)?)
            })
        } else {
            let path = at(self.as_fd(), name);
            fault::change("lsetxattr", || Ok(fs::lsetxattr(&path, key, value, flags)?))
        };
        result.map_err(|error| Error::new("set an attribute of", self.path().join(name), error))
    }

    /// Removes an attribute of `name`, or of this directory when it is `""`; false when it had none.
    ///
    /// # Errors
    /// When the name is missing or the kernel refuses.
    pub fn remove_attribute(&self, name: impl AsRef<Path>, key: &[u8]) -> Result<bool, Error> {
        let name = name.as_ref();
        let result = if name.as_os_str().is_empty() {
            fault::change("fremovexattr", || Ok(fs::fremovexattr(self.as_fd(), key)?))
        } else {
            let path = at(self.as_fd(), name);
            fault::change("lremovexattr", || Ok(fs::lremovexattr(&path, key)?))
        };
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(false),
            Err(error) => Err(Error::new(
                "remove an attribute of",
                self.path().join(name),
                error,
            )),
        }
    }
}

impl File {
    /// The attribute `key`; `None` when it has none or the file system knows no attributes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attribute(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        value(read(|buffer| fs::fgetxattr(self, key, buffer)))
            .map_err(|errno| Error::new("read an attribute of", self.path(), errno))
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_attribute(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        fault::change("fsetxattr", || {
            Ok(fs::fsetxattr(self, key, value, XattrFlags::empty())?)
        })
        .map_err(|error| Error::new("set an attribute of", self.path(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_belong_to_the_name_and_not_to_a_target() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        dir.write_new("file", b"", 0o600).unwrap();
        dir.symlink("link", "file").unwrap();
        let long = vec![7; 1000];
        dir.set_attribute("file", b"user.long", &long).unwrap();
        dir.set_attribute("", b"user.own", b"1").unwrap();
        assert_eq!(
            dir.attribute("file", b"user.long").unwrap(),
            Some(long.clone())
        );
        let file = dir.open_file("file").unwrap();
        assert_eq!(file.attribute(b"user.long").unwrap(), Some(long));
        assert_eq!(dir.attribute("file", b"user.none").unwrap(), None);
        assert!(
            dir.attributes("file")
                .unwrap()
                .contains(&b"user.long".to_vec())
        );
        assert!(
            !dir.attributes("link")
                .unwrap()
                .contains(&b"user.long".to_vec())
        );
        // Links have no user attributes: the kernel refuses instead of following.
        assert!(dir.set_attribute("link", b"user.x", b"").is_err());
        assert_eq!(dir.attribute("", b"user.own").unwrap(), Some(b"1".to_vec()));
        assert!(dir.remove_attribute("", b"user.own").unwrap());
        assert!(!dir.remove_attribute("", b"user.own").unwrap());
    }
}

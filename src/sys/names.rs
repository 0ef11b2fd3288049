//! Names in a directory: renames, and links of both kinds.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use super::{Dir, Error, File, fault};

impl Dir {
    /// Gives an unnamed file its name.
    ///
    /// # Errors
    /// When the name exists or can't be made.
    pub fn link_file(&self, file: &File, name: impl AsRef<Path>) -> Result<(), Error> {
        let name = name.as_ref();
        let source = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        fault::change("linkat", || {
            Ok(fs::linkat(
                fs::CWD,
                &*source,
                self.as_fd(),
                name,
                AtFlags::SYMLINK_FOLLOW,
            )?)
        })
        .map_err(self.fail_io("link", name))
    }

    /// Makes `name` another name of the file `target` in `target_dir`; symbolic links are not followed.
    ///
    /// # Errors
    /// When the name exists, the target is missing, or it lies on another file system.
    pub fn hard_link(
        &self,
        name: impl AsRef<Path>,
        target_dir: &Self,
        target: impl AsRef<Path>,
    ) -> Result<(), Error> {
        let name = name.as_ref();
        fault::change("linkat", || {
            Ok(fs::linkat(
                target_dir.as_fd(),
                target.as_ref(),
                self.as_fd(),
                name,
                AtFlags::empty(),
            )?)
        })
        .map_err(self.fail_io("link", name))
    }

    /// Renames `from` here to `to` in another directory, replacing what is there.
    ///
    /// # Errors
    /// When the kernel refuses; nothing has then changed.
    pub fn rename(
        &self,
        from: impl AsRef<Path>,
        to_dir: &Self,
        to: impl AsRef<Path>,
    ) -> Result<(), Error> {
        self.rename_with(from.as_ref(), to_dir, to.as_ref(), fs::RenameFlags::empty())
    }

    /// As [`Dir::rename`], but refuses to replace.
    ///
    /// # Errors
    /// When the new name exists, or the kernel refuses; nothing has then changed.
    pub fn rename_new(
        &self,
        from: impl AsRef<Path>,
        to_dir: &Self,
        to: impl AsRef<Path>,
    ) -> Result<(), Error> {
        self.rename_with(
            from.as_ref(),
            to_dir,
            to.as_ref(),
            fs::RenameFlags::NOREPLACE,
        )
    }

    /// Lets two existing names change places.
    ///
    /// # Errors
    /// When one is missing, or the file system can't (`EINVAL`); nothing has then changed.
    pub fn exchange(
        &self,
        name: impl AsRef<Path>,
        other_dir: &Self,
        other: impl AsRef<Path>,
    ) -> Result<(), Error> {
        self.rename_with(
            name.as_ref(),
            other_dir,
            other.as_ref(),
            fs::RenameFlags::EXCHANGE,
        )
    }

    fn rename_with(
        &self,
        from: &Path,
        to_dir: &Self,
        to: &Path,
        flags: fs::RenameFlags,
    ) -> Result<(), Error> {
        fault::change("renameat2", || {
            if flags.is_empty() {
                Ok(fs::renameat(self.as_fd(), from, to_dir.as_fd(), to)?)
            } else {
                Ok(fs::renameat_with(
                    self.as_fd(),
                    from,
                    to_dir.as_fd(),
                    to,
                    flags,
                )?)
            }
        })
        .map_err(self.fail_io("rename", from))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// When the name exists or can't be made.
    pub fn symlink(&self, name: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), Error> {
        let name = name.as_ref();
        fault::change("symlinkat", || {
            Ok(fs::symlinkat(target.as_ref(), self.as_fd(), name)?)
        })
        .map_err(self.fail_io("create", name))
    }

    /// Reads a symbolic link; `None` when the name is missing or no link.
    ///
    /// # Errors
    /// When the kernel can't say.
    pub fn find_link(&self, name: impl AsRef<Path>) -> Result<Option<PathBuf>, Error> {
        let name = name.as_ref();
        match fs::readlinkat(self.as_fd(), name, Vec::new()) {
            Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()).into())),
            Err(Errno::NOENT | Errno::INVAL | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.fail("read the link", name)(errno)),
        }
    }
}

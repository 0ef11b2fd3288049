//! Inodes of every kind by directory and name: devices, modes and times, no link followed.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{Dir, Error, File, fault};

impl Dir {
    /// True when this process may make and remove names in the directory.
    ///
    /// # Errors
    /// When the kernel can't say.
    pub fn is_writable(&self) -> Result<bool, Error> {
        let access = fs::Access::WRITE_OK | fs::Access::EXEC_OK;
        match fs::accessat(self.as_fd(), ".", access, AtFlags::EACCESS) {
            Ok(()) => Ok(true),
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Ok(false),
            Err(errno) => Err(Error::new("look at", self.path(), errno)),
        }
    }

    /// Creates a device, pipe or socket; the mode is subject to the umask.
    ///
    /// # Errors
    /// When the name exists or the kernel refuses.
    pub fn create_node(
        &self,
        name: impl AsRef<Path>,
        file_type: FileType,
        mode: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), Error> {
        let name = name.as_ref();
        let mode = Mode::from_raw_mode(mode);
        let device = fs::makedev(major, minor);
        fault::change("mknodat", || {
            Ok(fs::mknodat(self.as_fd(), name, file_type, mode, device)?)
        })
        .map_err(|error| Error::new("create", self.path().join(name), error))
    }

    /// Sets the permission bits of `name`, which must be no symbolic link.
    ///
    /// # Errors
    /// When the name is missing or the kernel refuses.
    pub fn set_mode_of(&self, name: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
        let name = name.as_ref();
        let fail =
            |error: io::Error| Error::new("change the mode of", self.path().join(name), error);
        // A descriptor of the inode itself: a path would be followed when it has become a link.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(self.as_fd(), name, flags, Mode::empty())
            .map_err(|errno| fail(errno.into()))?;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fault::change("chmod", || {
            Ok(fs::chmod(&*path, Mode::from_raw_mode(mode))?)
        })
        .map_err(fail)
    }

    /// Sets access and modification time of `name`, a symbolic link itself; of this directory when it is `""`.
    ///
    /// # Errors
    /// When the name is missing or the kernel refuses.
    pub fn set_times(
        &self,
        name: impl AsRef<Path>,
        accessed: Timespec,
        modified: Timespec,
    ) -> Result<(), Error> {
        let name = name.as_ref();
        let times = Timestamps {
            last_access: accessed,
            last_modification: modified,
        };
        let result = if name.as_os_str().is_empty() {
            fault::change("futimens", || Ok(fs::futimens(self.as_fd(), &times)?))
        } else {
            fault::change("utimensat", || {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                Ok(fs::utimensat(self.as_fd(), name, &times, flags)?)
            })
        };
        result.map_err(|error| Error::new("change the times of", self.path().join(name), error))
    }

    /// Opens a directory by a path for which this directory is the root: links are followed, absolute ones and `..`
    /// end here.
    ///
    /// # Errors
    /// When it is missing or no directory.
    pub fn open_dir_in_root(&self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let fd = self.in_root(path, OFlags::DIRECTORY | OFlags::RDONLY)?;
        Ok(Self::from_fd(fd, self.path().join(path)))
    }

    /// Opens a file for reading by a path for which this directory is the root, see [`Dir::open_dir_in_root`]. It
    /// does not wait for a pipe's other end and does not become the controlling terminal.
    ///
    /// # Errors
    /// When it is missing.
    pub fn open_file_in_root(&self, path: impl AsRef<Path>) -> Result<File, Error> {
        let path = path.as_ref();
        let fd = self.in_root(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        Ok(File::new(fd, self.path().join(path)))
    }

    fn in_root(&self, path: &Path, flags: OFlags) -> Result<std::os::fd::OwnedFd, Error> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        loop {
            match fs::openat2(self.as_fd(), relative, flags, Mode::empty(), resolve) {
                // The kernel saw a rename somewhere on the way and can't tell; it asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => {
                    return result
                        .map_err(|errno| Error::new("open", self.path().join(relative), errno));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_a_root_end_at_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        dir.create_dir("usr", 0o755).unwrap();
        dir.write_new("usr/file", b"in", 0o600).unwrap();
        dir.symlink("absolute", "/usr").unwrap();
        dir.symlink("up", "../../../usr").unwrap();
        for path in [
            "absolute/file",
            "up/file",
            "/usr/file",
            "../usr/../usr/file",
        ] {
            let mut file = dir.open_file_in_root(path).unwrap();
            assert_eq!(file.read_all().unwrap(), b"in", "{path}");
        }
        assert!(dir.open_dir_in_root("up").is_ok());
        assert!(dir.open_dir_in_root("..").is_ok());
        assert!(dir.open_file_in_root("/etc/passwd").is_err());
    }

    #[test]
    fn modes_and_times_of_links_are_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let file = FileType::RegularFile;
        dir.create_node("file", file, 0o600, (0, 0)).unwrap();
        dir.symlink("link", "file").unwrap();
        dir.set_mode_of("file", 0o4751).unwrap();
        assert_eq!(dir.stat("file").unwrap().unwrap().st_mode & 0o7777, 0o4751);
        assert!(dir.set_mode_of("link", 0o700).is_err());
        let time = Timespec {
            tv_sec: 5,
            tv_nsec: 6,
        };
        dir.set_times("link", time, time).unwrap();
        assert_eq!(dir.stat("link").unwrap().unwrap().st_mtime, 5);
        assert_ne!(dir.stat("file").unwrap().unwrap().st_mtime, 5);
    }
}

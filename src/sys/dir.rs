//! [`Dir`]: an owned directory. Every path given to it is relative and may not leave it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{Error, File, FileIdentity, fault};

/// An open directory.
///
/// Names are resolved with `openat2` beneath it: no `..`, no absolute path, no symbolic link and no
/// magic link is followed unless a method says so. The remembered path is for messages and for the
/// few kernel interfaces that take paths.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, one component.
    pub name: OsString,
    /// What it is, as the directory says.
    pub file_type: FileType,
}

/// The absolute path of what is at `path`, without symbolic links.
///
/// # Errors
/// When there is nothing, or it can't be looked at.
pub fn resolve(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize()
        .map_err(|error| Error::new("resolve", path, error))
}

/// 64 bits from the kernel's generator.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    random_bytes(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// Fills `bytes` from the kernel's generator.
pub fn random_bytes(bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(error) => panic!("getrandom can't fail on a kernel that has openat2: {error}"),
        }
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the directory at `path`, following symbolic links.
    ///
    /// # Errors
    /// When it is missing or no directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let fd = fs::open(path, DIRECTORY, Mode::empty())
            .map_err(|error| Error::new("open", path, error))?;
        Ok(Self {
            fd,
            path: path.to_path_buf(),
        })
    }

    /// Opens the directory at the absolute `path`, creating it and its parents with `mode`.
    ///
    /// # Errors
    /// When a part can't be created or opened; parts created before stay.
    pub fn open_or_create(path: impl AsRef<Path>, mode: u32) -> Result<Self, Error> {
        let path = path.as_ref();
        match Self::open(path) {
            Err(error) if error.is_not_found() => {}
            result => return result,
        }
        if let Some(parent) = path.parent() {
            drop(Self::open_or_create(parent, mode)?);
        }
        let made = fault::change("mkdir", || Ok(fs::mkdir(path, Mode::from_raw_mode(mode))?));
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::new("create", path, error))
            }
            _ => Self::open(path),
        }
    }

    /// Creates the directory at the absolute `path`, and its parents, with `mode`; one that is there is left alone.
    ///
    /// # Errors
    /// When a part can't be created; parts created before stay.
    pub fn ensure_path(path: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
        let path = path.as_ref();
        let made = fault::change("mkdir", || Ok(fs::mkdir(path, Mode::from_raw_mode(mode))?));
        match made {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::open_or_create(path, mode).map(drop)
            }
            Err(error) => Err(Error::new("create", path, error)),
        }
    }

    /// Wraps a descriptor of a directory; `path` is for messages.
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self {
            fd,
            path: path.into(),
        }
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The absolute path as the kernel has it, without links; of a directory that is gone what it was.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn real_path(&self) -> Result<PathBuf, Error> {
        let number = self.as_fd().as_raw_fd().to_string();
        let found = Self::open("/proc/self/fd")?.find_link(number)?;
        Ok(found.unwrap_or_else(|| self.path.clone()))
    }

    /// A second descriptor of the same directory.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let fd = self
            .fd
            .try_clone()
            .map_err(|error| Error::new("open", &self.path, error))?;
        Ok(Self {
            fd,
            path: self.path.clone(),
        })
    }

    pub(super) fn fail<'a>(
        &'a self,
        verb: &'static str,
        name: &'a Path,
    ) -> impl FnOnce(Errno) -> Error + use<'a> {
        move |errno| Error::new(verb, self.path.join(name), errno)
    }

    pub(super) fn fail_io<'a>(
        &'a self,
        verb: &'static str,
        name: &'a Path,
    ) -> impl FnOnce(io::Error) -> Error + use<'a> {
        move |error| Error::new(verb, self.path.join(name), error)
    }

    pub(super) fn open_beneath(
        &self,
        name: &Path,
        flags: OFlags,
        mode: u32,
    ) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        // One plain component needs no confinement beyond NOFOLLOW, and openat is the cheaper call.
        let mut components = name.components();
        if let (Some(Component::Normal(_)), None) = (components.next(), components.next()) {
            return rustix::io::retry_on_intr(|| {
                fs::openat(&self.fd, name, flags | OFlags::NOFOLLOW, mode)
            });
        }
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match fs::openat2(&self.fd, name, flags, mode, resolve) {
                // The kernel saw a rename somewhere on the way and can't tell; it asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Opens a directory below this one.
    ///
    /// # Errors
    /// When it is missing, no directory, or reached through a symbolic link.
    pub fn open_dir(&self, name: impl AsRef<Path>) -> Result<Self, Error> {
        let name = name.as_ref();
        let fd = self
            .open_beneath(name, DIRECTORY, 0)
            .map_err(self.fail("open", name))?;
        Ok(Self {
            fd,
            path: self.path.join(name),
        })
    }

    /// Opens a directory below this one, `None` when there is none.
    ///
    /// # Errors
    /// When it is something else than a directory, or can't be opened.
    pub fn find_dir(&self, name: impl AsRef<Path>) -> Result<Option<Self>, Error> {
        found(self.open_dir(name))
    }

    /// Opens a directory, creating it (one component, mode before umask) when missing.
    ///
    /// # Errors
    /// When it can be neither opened nor created.
    pub fn ensure_dir(&self, name: impl AsRef<Path>, mode: u32) -> Result<Self, Error> {
        let name = name.as_ref();
        if let Some(dir) = self.find_dir(name)? {
            return Ok(dir);
        }
        match self.create_dir(name, mode) {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => self.open_dir(name),
        }
    }

    /// Creates a directory; the mode is subject to the umask.
    ///
    /// # Errors
    /// When the name exists or can't be created.
    pub fn create_dir(&self, name: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
        let name = name.as_ref();
        fault::change("mkdirat", || {
            Ok(fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))?)
        })
        .map_err(self.fail_io("create", name))
    }

    /// Opens a file for reading. Of a named pipe no writer is waited for: it is empty.
    ///
    /// # Errors
    /// When it is missing or reached through a symbolic link.
    pub fn open_file(&self, name: impl AsRef<Path>) -> Result<File, Error> {
        let name = name.as_ref();
        let fd = self
            .open_beneath(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)
            .map_err(self.fail("open", name))?;
        Ok(File::new(fd, self.path.join(name)))
    }

    /// Opens a file for reading, `None` when there is none.
    ///
    /// # Errors
    /// When it exists but can't be opened.
    pub fn find_file(&self, name: impl AsRef<Path>) -> Result<Option<File>, Error> {
        found(self.open_file(name))
    }

    /// Creates a file that may not exist yet, for reading and writing.
    ///
    /// # Errors
    /// When the name exists or can't be created.
    pub fn create_file(&self, name: impl AsRef<Path>, mode: u32) -> Result<File, Error> {
        self.open_changing(
            name.as_ref(),
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            mode,
        )
    }

    /// Opens a file for reading and writing, creating it when missing.
    ///
    /// # Errors
    /// When it can be neither opened nor created.
    pub fn ensure_file(&self, name: impl AsRef<Path>, mode: u32) -> Result<File, Error> {
        let name = name.as_ref();
        match self.open_beneath(name, OFlags::RDWR, 0) {
            Ok(fd) => Ok(File::new(fd, self.path.join(name))),
            Err(Errno::NOENT) => self.open_changing(name, OFlags::RDWR | OFlags::CREATE, mode),
            Err(errno) => Err(self.fail("open", name)(errno)),
        }
    }

    fn open_changing(&self, name: &Path, flags: OFlags, mode: u32) -> Result<File, Error> {
        let fd = fault::change("openat", || Ok(self.open_beneath(name, flags, mode)?))
            .map_err(self.fail_io("create", name))?;
        Ok(File::new(fd, self.path.join(name)))
    }

    /// Makes a file of this file system that has no name yet; [`Dir::link_file`] gives it one.
    ///
    /// # Errors
    /// When the file system has no unnamed files or no room.
    pub fn create_unnamed_file(&self, mode: u32) -> Result<File, Error> {
        let fd = fault::change("openat", || {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            Ok(fs::openat(&self.fd, ".", flags, Mode::from_raw_mode(mode))?)
        })
        .map_err(self.fail_io("create a file in", Path::new("")))?;
        Ok(File::new(fd, self.path.clone()))
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// When it is missing or can't be read.
    pub fn read(&self, name: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
        self.open_file(name)?.read_all()
    }

    /// Reads a whole file, `None` when there is none.
    ///
    /// # Errors
    /// When it exists but can't be read.
    pub fn find(&self, name: impl AsRef<Path>) -> Result<Option<Vec<u8>>, Error> {
        self.find_file(name)?
            .map(|mut file| file.read_all())
            .transpose()
    }

    /// Creates a file with these contents; not for what a reader may see half written.
    ///
    /// # Errors
    /// When the name exists or the contents can't be written; the file may then be there in part.
    pub fn write_new(
        &self,
        name: impl AsRef<Path>,
        contents: &[u8],
        mode: u32,
    ) -> Result<File, Error> {
        use std::io::Write;
        let name = name.as_ref();
        let mut file = self.create_file(name, mode)?;
        file.write_all(contents)
            .map_err(self.fail_io("write", name))?;
        Ok(file)
    }

    /// What `name` is, a symbolic link itself; `None` when missing.
    ///
    /// # Errors
    /// When the kernel can't say.
    pub fn stat(&self, name: impl AsRef<Path>) -> Result<Option<Stat>, Error> {
        let name = name.as_ref();
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.fail("stat", name)(errno)),
        }
    }

    /// What this directory is.
    ///
    /// # Errors
    /// When the kernel can't say.
    pub fn stat_self(&self) -> Result<Stat, Error> {
        fs::fstat(&self.fd).map_err(self.fail("stat", Path::new("")))
    }

    /// Inode, size and modification time of `name`; `None` when missing.
    ///
    /// # Errors
    /// When the kernel can't say.
    pub fn identity(&self, name: impl AsRef<Path>) -> Result<Option<FileIdentity>, Error> {
        Ok(self.stat(name)?.as_ref().map(FileIdentity::from))
    }

    /// Removes a file or link; missing is an error, see [`Dir::remove_file_if_found`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_file(&self, name: impl AsRef<Path>) -> Result<(), Error> {
        let name = name.as_ref();
        fault::change("unlinkat", || {
            Ok(fs::unlinkat(&self.fd, name, AtFlags::empty())?)
        })
        .map_err(self.fail_io("remove", name))
    }

    /// Removes a file or link; false when there was none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_file_if_found(&self, name: impl AsRef<Path>) -> Result<bool, Error> {
        Ok(found(self.remove_file(name))?.is_some())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// When it is missing, not empty, a mount point, or the kernel refuses.
    pub fn remove_dir(&self, name: impl AsRef<Path>) -> Result<(), Error> {
        let name = name.as_ref();
        fault::change("unlinkat", || {
            Ok(fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
        })
        .map_err(self.fail_io("remove", name))
    }

    /// All names but `.` and `..`, in the order in which the file system gives them.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let fail = || self.fail("list", Path::new(""));
        // A descriptor of its own: the position of a shared one is shared as well.
        let own = fs::openat(&self.fd, ".", DIRECTORY, Mode::empty()).map_err(fail())?;
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut entries = Vec::new();
        let mut iterator = fs::RawDir::new(own, buffer.spare_capacity_mut());
        while let Some(entry) = iterator.next() {
            let entry = entry.map_err(fail())?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let name = OsString::from_vec(name.to_vec());
            let file_type = match entry.file_type() {
                FileType::Unknown => self.file_type(&name)?,
                known => known,
            };
            entries.push(Entry { name, file_type });
        }
        Ok(entries)
    }

    fn file_type(&self, name: &OsStr) -> Result<FileType, Error> {
        Ok(self.stat(name)?.map_or(FileType::Unknown, |stat| {
            FileType::from_raw_mode(stat.st_mode)
        }))
    }

    /// Makes the names in this directory durable.
    ///
    /// # Errors
    /// When the kernel can't.
    pub fn sync(&self) -> Result<(), Error> {
        if fault::is_left_out("sync-of-folders") {
            return Ok(());
        }
        rustix::io::retry_on_intr(|| fs::fsync(&self.fd)).map_err(self.fail("sync", Path::new("")))
    }

    /// Makes everything on this directory's file system durable: one call for many files.
    ///
    /// # Errors
    /// When the kernel can't.
    pub fn sync_file_system(&self) -> Result<(), Error> {
        if fault::is_left_out("sync-of-contents") {
            return Ok(());
        }
        rustix::io::retry_on_intr(|| fs::syncfs(&self.fd))
            .map_err(self.fail("sync the file system of", Path::new("")))
    }

    /// Sets permission bits of this directory, set-id bits among them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_mode(&self, mode: u32) -> Result<(), Error> {
        fault::change("fchmod", || {
            Ok(fs::fchmod(&self.fd, Mode::from_raw_mode(mode))?)
        })
        .map_err(self.fail_io("change the mode of", Path::new("")))
    }

    /// Sets owner and group of `name`, a symbolic link itself; of this directory when it is `""`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_owner(&self, name: impl AsRef<Path>, uid: u32, gid: u32) -> Result<(), Error> {
        let name = name.as_ref();
        fault::change("fchownat", || {
            Ok(fs::chownat(
                &self.fd,
                name,
                Some(fs::Uid::from_raw(uid)),
                Some(fs::Gid::from_raw(gid)),
                AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH,
            )?)
        })
        .map_err(self.fail_io("change the owner of", name))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Turns "there is none" into `None`.
fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, Dir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        (folder, dir)
    }

    #[test]
    fn paths_that_leave_the_directory_are_refused() {
        let (_folder, dir) = dir();
        dir.create_dir("a", 0o700).unwrap();
        dir.symlink("up", "..").unwrap();
        for path in ["a/../..", "/etc", "up", "a/../up/etc"] {
            assert!(dir.open_dir(path).is_err(), "{path}");
        }
        assert!(dir.open_dir("a").is_ok());
    }

    #[test]
    fn a_named_pipe_is_opened_without_a_writer() {
        let (folder, dir) = dir();
        let pipe = folder.path().join("pipe");
        fs::mknodat(fs::CWD, pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(dir.read("pipe").unwrap(), b"");
    }

    #[test]
    fn an_unnamed_file_gets_its_name_once() {
        let (_folder, dir) = dir();
        let file = dir.create_unnamed_file(0o600).unwrap();
        assert!(dir.list().unwrap().is_empty());
        dir.link_file(&file, "lock").unwrap();
        assert!(
            dir.link_file(&file, "lock")
                .unwrap_err()
                .is_already_exists()
        );
        assert_eq!(dir.list().unwrap()[0].name, "lock");
    }
}

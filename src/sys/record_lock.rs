//! Open-file-description locks over a whole file.
//!
//! They exclude the POSIX record locks of Go's containers/storage and each other, between processes
//! and between threads that took them apart, and are released when the descriptor is closed
//! (`fcntl(2)`, "Open file description locks"). `flock` would exclude neither.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use super::{Dir, Error, File, fault};

/// Who else may hold the lock meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Other shared holders.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct RecordLock {
    file: File,
}

impl RecordLock {
    /// Opens `name` in `dir`, creating it with mode 0644, and waits for the lock.
    ///
    /// # Errors
    /// When the file can be neither opened nor created, or the kernel can't lock it.
    pub fn acquire(dir: &Dir, name: impl AsRef<Path>, access: Access) -> Result<Self, Error> {
        let name = name.as_ref();
        let file = dir.ensure_file(name, 0o644)?;
        if name.to_str().is_some_and(fault::is_left_out) {
            return Ok(Self { file });
        }
        Self::wait(file, access)
    }

    /// Opens `name` read-only and waits for the shared lock: for stores that we may not change.
    ///
    /// # Errors
    /// When the file is missing, or the kernel can't lock it.
    pub fn acquire_read_only(dir: &Dir, name: impl AsRef<Path>) -> Result<Self, Error> {
        Self::wait(dir.open_file(name)?, Access::Shared)
    }

    fn wait(file: File, access: Access) -> Result<Self, Error> {
        match lock(&file, access, libc::F_OFD_SETLKW) {
            Ok(_) => Ok(Self { file }),
            Err(error) => Err(Error::new("lock", file.path(), error)),
        }
    }

    /// Locks an open file without waiting; gives it back in `Err` when somebody else holds it.
    ///
    /// # Errors
    /// The outer one when the kernel can't lock it.
    pub fn try_exclusive(file: File) -> Result<Result<Self, File>, Error> {
        match lock(&file, Access::Exclusive, libc::F_OFD_SETLK) {
            Ok(true) => Ok(Ok(Self { file })),
            Ok(false) => Ok(Err(file)),
            Err(error) => Err(Error::new("lock", file.path(), error)),
        }
    }

    /// The lock of somebody who has ended: the file `name` in `dir`, which is made when missing. `None` while somebody holds it,
    /// or when somebody else has removed it.
    ///
    /// # Errors
    /// When the file can be neither opened nor created, or the kernel can't lock it.
    pub fn of_the_dead(dir: &Dir, name: impl AsRef<Path>) -> Result<Option<Self>, Error> {
        let name = name.as_ref();
        let Ok(lock) = Self::try_exclusive(dir.ensure_file(name, 0o600)?)? else {
            return Ok(None);
        };
        // Somebody else may have removed the file before we had the lock.
        let ours = lock.file.identity()?.inode;
        Ok(dir
            .identity(name)?
            .is_some_and(|found| found.inode == ours)
            .then_some(lock))
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// True when locked, false when somebody else holds it and `command` does not wait.
#[allow(
    unsafe_code,
    reason = "neither std nor rustix has open-file-description locks"
)]
fn lock(file: &File, access: Access, command: libc::c_int) -> io::Result<bool> {
    let kind = match access {
        Access::Shared => libc::F_RDLCK,
        Access::Exclusive => libc::F_WRLCK,
    };
    let wanted = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        // SAFETY: the descriptor is open for the whole call, and `wanted` is a valid flock that the
        // kernel only reads for these commands.
        let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &wanted) };
        if result == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN | libc::EACCES) if command == libc::F_OFD_SETLK => return Ok(false),
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_descriptors_of_one_process_exclude_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let held = RecordLock::acquire(&dir, "lock", Access::Exclusive).unwrap();
        let file = dir.ensure_file("lock", 0o644).unwrap();
        let file = RecordLock::try_exclusive(file).unwrap().unwrap_err();
        // Closing another descriptor of the file does not release it, as it would a POSIX lock.
        drop(dir.ensure_file("lock", 0o644).unwrap());
        let file = RecordLock::try_exclusive(file).unwrap().unwrap_err();
        drop(held);
        assert!(RecordLock::try_exclusive(file).unwrap().is_ok());
    }
}

//! Subvolumes of btrfs: making, copying and removing them in constant time, and limiting what they hold.
//!
//! A new subvolume or snapshot is whole on disk when the call returns: the kernel commits it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FsWord;
use rustix::io::Errno;

use super::{Dir, Error, fault};

/// `BTRFS_SUPER_MAGIC` of `linux/magic.h`.
const MAGIC: FsWord = 0x9123_683e;
/// The inode of every subvolume's root: `BTRFS_FIRST_FREE_OBJECTID` of `linux/btrfs_tree.h`.
const ROOT_INODE: u64 = 256;
/// `BTRFS_IOCTL_MAGIC` of `linux/btrfs.h`.
const GROUP: u8 = 0x94;

const SUBVOLUME_CREATE: libc::Ioctl = number(WRITE, 14, size_of::<Named>());
const SNAPSHOT_DESTROY: libc::Ioctl = number(WRITE, 15, size_of::<Named>());
const SNAPSHOT_CREATE: libc::Ioctl = number(WRITE, 23, size_of::<NamedWithFlags>());
const QUOTA_CONTROL: libc::Ioctl = number(READ | WRITE, 40, size_of::<QuotaControl>());
const GROUP_LIMIT: libc::Ioctl = number(READ, 43, size_of::<GroupLimit>());

const WRITE: u32 = 1;
const READ: u32 = 2;

/// `_IOC` of `asm-generic/ioctl.h`.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the sizes are of a page at most"
)]
const fn number(direction: u32, number: u8, size: usize) -> libc::Ioctl {
    let number = (direction << 30) | ((size as u32) << 16) | ((GROUP as u32) << 8) | number as u32;
    number as libc::Ioctl
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Named {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct NamedWithFlags {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct QuotaControl {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct GroupLimit {
    /// 0: that of the subvolume which the descriptor is of.
    group: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

#[allow(unsafe_code, reason = "neither std nor rustix has the calls of btrfs")]
fn call<T>(fd: BorrowedFd<'_>, number: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    fault::change("ioctl", || {
        // SAFETY: the descriptor is open for the whole call, and `argument` is the structure of the kernel's header that
        // belongs to `number`, all bytes of it set; its size is part of the number.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), number, std::ptr::from_mut(argument)) };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

fn copy_name<const N: usize>(name: &OsStr) -> io::Result<[u8; N]> {
    let mut field = [0; N];
    let bytes = name.as_bytes();
    // The last byte ends the name.
    match field.get_mut(..bytes.len()).filter(|_| bytes.len() < N) {
        Some(start) => start.copy_from_slice(bytes),
        None => return Err(io::ErrorKind::InvalidFilename.into()),
    }
    Ok(field)
}

/// True when the directory is on btrfs.
///
/// # Errors
/// When the kernel can't say.
pub fn is_on_btrfs(dir: &Dir) -> Result<bool, Error> {
    let stat = rustix::fs::fstatfs(dir.as_fd());
    let stat = stat.map_err(|errno| Error::new("find the file system of", dir.path(), errno))?;
    Ok(stat.f_type == MAGIC)
}

/// True when the directory is the root of a subvolume.
///
/// # Errors
/// When the kernel can't say.
pub fn is_subvolume(dir: &Dir) -> Result<bool, Error> {
    Ok(dir.stat_self()?.st_ino == ROOT_INODE && is_on_btrfs(dir)?)
}

impl Dir {
    /// Makes an empty subvolume of that name.
    ///
    /// # Errors
    /// When there is something of that name, or the file system is not btrfs.
    pub fn create_subvolume(&self, name: impl AsRef<Path>) -> Result<(), Error> {
        let name = name.as_ref();
        let create = || {
            let name = copy_name(name.as_os_str())?;
            call(self.as_fd(), SUBVOLUME_CREATE, &mut Named { fd: 0, name })
        };
        create().map_err(|error| Error::new("make the subvolume", self.path().join(name), error))
    }

    /// Makes a writable snapshot of the subvolume `source`, whose contents they share from then on.
    ///
    /// # Errors
    /// When there is something of that name, or `source` is no subvolume or one of another file system.
    pub fn snapshot(&self, name: impl AsRef<Path>, source: &Self) -> Result<(), Error> {
        let name = name.as_ref();
        let create = || {
            let mut argument = NamedWithFlags {
                fd: source.as_fd().as_raw_fd().into(),
                transaction: 0,
                flags: 0,
                unused: [0; 4],
                name: copy_name(name.as_os_str())?,
            };
            call(self.as_fd(), SNAPSHOT_CREATE, &mut argument)
        };
        create().map_err(|error| Error::new("make the snapshot", self.path().join(name), error))
    }

    /// Removes a subvolume with all that is in it; false when it has to be removed file by file: it is none, another
    /// one is in it, or only root of the machine may.
    ///
    /// # Errors
    /// When the kernel refuses otherwise.
    pub(super) fn remove_subvolume(&self, name: &Path) -> Result<bool, Error> {
        let remove = || {
            let name = copy_name(name.as_os_str())?;
            call(self.as_fd(), SNAPSHOT_DESTROY, &mut Named { fd: 0, name })
        };
        let error = match remove() {
            Ok(()) => return Ok(true),
            Err(error) => error,
        };
        match Errno::from_io_error(&error) {
            Some(Errno::NOTEMPTY | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOTTY) => {
                Ok(false)
            }
            _ => {
                let path = self.path().join(name);
                Err(Error::new("remove the subvolume", path, error))
            }
        }
    }

    /// Makes the file system of this directory count what each subvolume holds; true when it did not before.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn count_subvolumes(&self) -> Result<bool, Error> {
        const ENABLE: u64 = 1;
        let mut argument = QuotaControl {
            command: ENABLE,
            status: 0,
        };
        match call(self.as_fd(), QUOTA_CONTROL, &mut argument) {
            Ok(()) => Ok(true),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => Ok(false),
            Err(error) => Err(Error::new("enable quotas on", self.path(), error)),
        }
    }

    /// Limits what this subvolume may hold, what it shares with others included, to so many bytes.
    ///
    /// # Errors
    /// When this is no subvolume, nothing is counted, or the kernel refuses.
    pub fn limit_subvolume(&self, bytes: u64) -> Result<(), Error> {
        const REFERENCED: u64 = 1;
        let mut argument = GroupLimit {
            group: 0,
            flags: REFERENCED,
            max_referenced: bytes,
            max_exclusive: 0,
            reserved_referenced: 0,
            reserved_exclusive: 0,
        };
        call(self.as_fd(), GROUP_LIMIT, &mut argument)
            .map_err(|error| Error::new("limit the size of", self.path(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernels_header() {
        assert_eq!(size_of::<Named>(), 4096);
        assert_eq!(size_of::<NamedWithFlags>(), 4096);
        assert_eq!(SUBVOLUME_CREATE, 0x5000_940e);
        assert_eq!(SNAPSHOT_DESTROY, 0x5000_940f);
        assert_eq!(SNAPSHOT_CREATE, 0x5000_9417);
        assert_eq!(QUOTA_CONTROL, 0xc010_9428);
        assert_eq!(GROUP_LIMIT, 0x8030_942b);
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let name = "x".repeat(4088);
        assert!(copy_name::<4088>(OsStr::new(&name)).is_err());
        assert!(copy_name::<4089>(OsStr::new(&name)).is_ok());
    }

    #[test]
    fn another_file_system_has_no_subvolumes() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        assert!(!is_subvolume(&dir).unwrap());
        assert!(dir.create_subvolume("a").is_err());
        assert!(!dir.remove_subvolume(Path::new("a")).unwrap());
    }
}

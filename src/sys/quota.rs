//! Project quotas of ext4 and xfs: which project a directory belongs to, and how much a project may hold.
//!
//! A file belongs to the project of the directory that it was made in, if that one hands its own down. The limits are set
//! by the calls of xfs, which the kernel does for ext4 as well, and by a directory's descriptor: no node of the block
//! device is needed (`linux/dqblk_xfs.h`, `quotactl_fd(2)`; kernels from 5.14 on).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::{Dir, Error, fault};

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR` of `linux/fs.h`.
const GET_ATTRIBUTES: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const SET_ATTRIBUTES: libc::Ioctl = 0x401c_5820_u32 as libc::Ioctl;
/// `FS_XFLAG_PROJINHERIT`.
const HANDS_DOWN: u32 = 0x200;

/// `QCMD` of `linux/quota.h`, for projects: `PRJQUOTA`.
const fn command(number: u32) -> u32 {
    let command = (b'X' as u32) << 8 | number;
    command << 8 | 2
}
const GET_QUOTA: u32 = command(3);
const SET_LIMIT: u32 = command(4);
const GET_STATE: u32 = command(8);

/// Both parts of `FS_QUOTA_PDQ_ACCT | FS_QUOTA_PDQ_ENFD`: projects are counted, and limits hold.
const IN_FORCE: u16 = 1 << 4 | 1 << 5;
/// `FS_DQ_ISOFT`, `FS_DQ_IHARD`, `FS_DQ_BSOFT` and `FS_DQ_BHARD`: the limits that are set.
const LIMIT_FIELDS: u16 = 0b1111;
/// `FS_PROJ_QUOTA`.
const OF_PROJECT: i8 = 1 << 1;
/// Limits are told in these.
const BLOCK: u64 = 512;

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct fs_disk_quota` of `linux/dqblk_xfs.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    blocks: u64,
    inodes: u64,
    timers: [i32; 2],
    warnings: [u16; 2],
    timers_high: [i8; 4],
    realtime: [u64; 3],
    realtime_timer: i32,
    realtime_warnings: u16,
    padding: i16,
    more_padding: [u8; 8],
}

/// `struct fs_quota_statv` of `linux/dqblk_xfs.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct State {
    version: i8,
    padding: u8,
    flags: u16,
    in_core: u32,
    files: [[u64; 3]; 3],
    time_limits: [i32; 3],
    warning_limits: [u16; 3],
    padding_16: u16,
    padding_32: u32,
    padding_64: [u64; 7],
}

/// What a project holds, and what it may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// How many bytes its files take on the disk.
    pub bytes: u64,
    /// How many files, directories and others there are.
    pub inodes: u64,
    /// How much it may hold.
    pub limit: ProjectLimit,
}

/// How much a project may hold; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProjectLimit {
    /// In bytes, of which a part of 512 does not count.
    pub bytes: u64,
    /// In inodes.
    pub inodes: u64,
}

#[allow(unsafe_code, reason = "neither std nor rustix has these calls")]
fn attributes(fd: BorrowedFd<'_>, call: libc::Ioctl, value: &mut Attributes) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call, and `value` is the kernel's structure for both calls, whose size
    // is part of their numbers.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), call, std::ptr::from_mut(value)) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[allow(unsafe_code, reason = "neither std nor rustix has this call")]
fn quotactl<T>(fd: BorrowedFd<'_>, command: u32, id: u32, value: &mut T) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call, and `value` is the kernel's structure for the command, all bytes of
    // it set.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            fd.as_raw_fd(),
            command,
            id,
            std::ptr::from_mut(value),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Dir {
    fn attributes_of_inode(&self) -> Result<Option<Attributes>, Error> {
        let mut found = Attributes::default();
        match attributes(self.as_fd(), GET_ATTRIBUTES, &mut found) {
            Ok(()) => Ok(Some(found)),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
                _ => Err(Error::new("find the project of", self.path(), error)),
            },
        }
    }

    fn set_attributes_of_inode(&self, mut value: Attributes) -> Result<(), Error> {
        fault::change("ioctl", || {
            attributes(self.as_fd(), SET_ATTRIBUTES, &mut value)
        })
        .map_err(|error| Error::new("set the project of", self.path(), error))
    }

    /// The project of the directory; 0 when it has none, or the file system no projects.
    ///
    /// # Errors
    /// When the kernel can't say.
    pub fn project(&self) -> Result<u32, Error> {
        Ok(self.attributes_of_inode()?.map_or(0, |found| found.project))
    }

    /// Puts the empty directory into a project, and all that will be made in it.
    ///
    /// # Errors
    /// When the file system has no projects, or this is not root of the machine.
    pub fn set_project(&self, project: u32) -> Result<(), Error> {
        let Some(found) = self.attributes_of_inode()? else {
            return Err(Error::new(
                "set the project of",
                self.path(),
                Errno::OPNOTSUPP,
            ));
        };
        self.set_attributes_of_inode(Attributes {
            project,
            flags: found.flags | HANDS_DOWN,
            ..found
        })
    }

    /// Stops the directory from handing its project down, since nothing of another project can then be moved into it; true
    /// when it did so.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep_project(&self) -> Result<bool, Error> {
        match self.attributes_of_inode()? {
            Some(found) if found.flags & HANDS_DOWN != 0 => {
                self.set_attributes_of_inode(Attributes {
                    flags: found.flags & !HANDS_DOWN,
                    ..found
                })?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// True when limits of projects hold on the file system of this directory.
    ///
    /// # Errors
    /// When the kernel can't say.
    pub fn has_project_limits(&self) -> Result<bool, Error> {
        let mut state = State {
            version: 1,
            ..State::default()
        };
        match quotactl(self.as_fd(), GET_STATE, 0, &mut state) {
            Ok(()) => Ok(state.flags & IN_FORCE == IN_FORCE),
            Err(error) => match Errno::from_io_error(&error) {
                // No quotas, none in force, no such call.
                Some(
                    Errno::NOSYS | Errno::SRCH | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOTBLK,
                ) => Ok(false),
                _ => Err(Error::new("find the quotas of", self.path(), error)),
            },
        }
    }

    /// What a project holds on the file system of this directory, and what it may hold.
    ///
    /// # Errors
    /// When there are no project quotas, or this is not root of the machine.
    pub fn find_project(&self, project: u32) -> Result<Project, Error> {
        let mut found = DiskQuota::default();
        match quotactl(self.as_fd(), GET_QUOTA, project, &mut found) {
            Ok(()) => {}
            // Nothing was ever in it.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {}
            Err(error) => return Err(Error::new("read a quota of", self.path(), error)),
        }
        Ok(Project {
            bytes: found.blocks.saturating_mul(BLOCK),
            inodes: found.inodes,
            limit: ProjectLimit {
                bytes: found.blocks_hard.saturating_mul(BLOCK),
                inodes: found.inodes_hard,
            },
        })
    }

    /// Limits what a project may hold on the file system of this directory; an earlier limit is replaced.
    ///
    /// # Errors
    /// When there are no project quotas, or this is not root of the machine.
    pub fn limit_project(&self, project: u32, limit: ProjectLimit) -> Result<(), Error> {
        let mut value = DiskQuota {
            version: 1,
            flags: OF_PROJECT,
            fields: LIMIT_FIELDS,
            id: project,
            blocks_hard: limit.bytes / BLOCK,
            blocks_soft: limit.bytes / BLOCK,
            inodes_hard: limit.inodes,
            inodes_soft: limit.inodes,
            ..DiskQuota::default()
        };
        fault::change("quotactl_fd", || {
            quotactl(self.as_fd(), SET_LIMIT, project, &mut value)
        })
        .map_err(|error| Error::new("set a quota of", self.path(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_and_numbers_are_those_of_the_kernel() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<DiskQuota>(), 112);
        assert_eq!(size_of::<State>(), 160);
        // `Q_XGETPQUOTA`, `Q_XSETPQLIM` and `Q_XGETPQSTATV`.
        assert_eq!(GET_QUOTA, 0x58_0302);
        assert_eq!(SET_LIMIT, 0x58_0402);
        assert_eq!(GET_STATE, 0x58_0802);
    }

    #[test]
    fn a_file_system_without_projects_has_none_and_no_limits() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        assert!(!dir.has_project_limits().unwrap());
        assert_eq!(dir.project().unwrap(), 0);
        assert!(!dir.keep_project().unwrap());
        assert!(dir.limit_project(7, ProjectLimit::default()).is_err());
    }
}

//! What is at a path, and through which mount it is seen.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::Flags;
use crate::sys::{Dir, Error};

/// What is visible at a path, and through which mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Major and minor number of the file system's device.
    pub device: (u32, u32),
    /// The inode.
    pub inode: u64,
    /// Properties of the mount that it is seen through.
    pub flags: Flags,
}

fn statx(path: &Path) -> Result<Option<fs::Statx>, Error> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match fs::statx(CWD, path, flags, StatxFlags::MNT_ID | StatxFlags::INO) {
        Ok(statx) => Ok(Some(statx)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(Error::new("stat", path, errno)),
    }
}

fn has_mount_root(statx: &fs::Statx) -> bool {
    statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
}

/// The kernel's number of the mount at `path`; `None` when nothing is mounted exactly there. No link is followed.
///
/// # Errors
/// When the kernel can't say; a missing path is `None`.
pub fn mount_id(path: &Path) -> Result<Option<u64>, Error> {
    Ok(statx(path)?
        .filter(has_mount_root)
        .map(|statx| statx.stx_mnt_id))
}

/// True when the directory was reached through a mount that begins at it.
///
/// # Errors
/// When the kernel can't say.
pub fn is_mount_root(dir: &Dir) -> Result<bool, Error> {
    let statx = fs::statx(dir.as_fd(), c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map_err(|errno| Error::new("stat", dir.path(), errno))?;
    Ok(has_mount_root(&statx))
}

/// True when something is mounted exactly at `path`.
///
/// # Errors
/// When the kernel can't say; a missing path is false.
pub fn is_mount_point(path: &Path) -> Result<bool, Error> {
    Ok(mount_id(path)?.is_some())
}

/// What is visible at `path`, whether or not it is a mount of its own; `None` when nothing is. No link is followed.
///
/// # Errors
/// When the kernel can't say.
pub fn place(path: &Path) -> Result<Option<Place>, Error> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fail = |errno: Errno| Error::new("stat", path, errno);
    let fd = match fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        result => result.map_err(fail)?,
    };
    let statx = fs::statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::INO).map_err(fail)?;
    let flags = fs::fstatvfs(&fd).map_err(fail)?.f_flag;
    Ok(Some(Place {
        device: (statx.stx_dev_major, statx.stx_dev_minor),
        inode: statx.stx_ino,
        flags: flags.into(),
    }))
}

/// True when an overlay is mounted exactly at `path`.
///
/// # Errors
/// When the kernel can't say; a missing path is false.
pub fn is_overlay(path: &Path) -> Result<bool, Error> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fail = |errno: Errno| Error::new("find the mount at", path, errno);
    // One descriptor for both questions: between two paths another mount could come.
    let fd = match fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        result => result.map_err(fail)?,
    };
    let statx = fs::statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map_err(fail)?;
    Ok(has_mount_root(&statx)
        && fs::fstatfs(&fd).map_err(fail)?.f_type == libc::OVERLAYFS_SUPER_MAGIC)
}

/// True when the directory lies on an overlay, which can't carry another one's upper directory.
///
/// # Errors
/// When the kernel can't say.
pub fn is_on_overlay(dir: &Dir) -> Result<bool, Error> {
    Ok(file_system_type(dir)? == libc::OVERLAYFS_SUPER_MAGIC)
}

/// File systems whose files another machine has, as containers/storage lists them: NFS, SMB (three versions), ACFS, AFS (two),
/// Ceph, GPFS, IBRIX, Lustre, NCP, NFS's own, OCFS2, PanFS, Parallels' and VirtualBox's shared folders, StorNext, VxFS.
const OF_NETWORKS: [fs::FsWord; 19] = [
    0x6969,
    0x517b,
    0xfe53_4d42,
    0xff53_4d42,
    0x6163_6673,
    0x5346_414f,
    0x6b41_4653,
    0x00c3_6400,
    0x4750_4653,
    0x0131_11a8,
    0x0bd0_0bd0,
    0x564c,
    0x6e66_7364,
    0x7461_636f,
    0xaad7_aaea,
    0x7c7c_6673,
    0x786f_4256,
    0xbeef_dead,
    0xa501_fcf5,
];

/// True when the directory is on a file system of a network, whose owners this machine has not to give.
///
/// # Errors
/// When the kernel can't say.
pub fn is_on_network(dir: &Dir) -> Result<bool, Error> {
    Ok(OF_NETWORKS.contains(&file_system_type(dir)?))
}

fn file_system_type(dir: &Dir) -> Result<fs::FsWord, Error> {
    let statfs = fs::fstatfs(dir)
        .map_err(|errno| Error::new("stat the file system of", dir.path(), errno))?;
    Ok(statfs.f_type)
}

/// What containers/storage calls the directory's file system.
///
/// # Errors
/// When the kernel can't say.
pub fn file_system_name(dir: &Dir) -> Result<String, Error> {
    let number = file_system_type(dir)?;
    Ok(match number {
        libc::EXT4_SUPER_MAGIC => "extfs".to_owned(),
        libc::XFS_SUPER_MAGIC => "xfs".to_owned(),
        libc::BTRFS_SUPER_MAGIC => "btrfs".to_owned(),
        libc::TMPFS_MAGIC => "tmpfs".to_owned(),
        libc::OVERLAYFS_SUPER_MAGIC => "overlayfs".to_owned(),
        _ => format!("{number:#x}"),
    })
}

//! Mounting: overlays, binds, unmounts, and what is mounted where.
//!
//! Everything goes through the new mount API (`fsopen`, `open_tree`, `move_mount`): a mount is complete,
//! with its flags, before it becomes visible. Where `fsconfig` does not know `lowerdir+` (before Linux
//! 6.5), an overlay is made by `mount(2)` with short paths.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use super::{Dir, Error, fault};

/// Properties of one mount, as opposed to those of its file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// No writes.
    pub read_only: bool,
    /// No device files.
    pub no_devices: bool,
    /// No set-id bits.
    pub no_set_id: bool,
    /// No programs.
    pub no_exec: bool,
    /// Access times are not kept.
    pub no_access_time: bool,
}

impl Flags {
    fn attributes(self) -> MountAttrFlags {
        let mut attributes = MountAttrFlags::empty();
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, self.read_only);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, self.no_devices);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, self.no_set_id);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, self.no_exec);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOATIME, self.no_access_time);
        attributes
    }

    fn mount_flags(self) -> MountFlags {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NODEV, self.no_devices);
        flags.set(MountFlags::NOSUID, self.no_set_id);
        flags.set(MountFlags::NOEXEC, self.no_exec);
        flags.set(MountFlags::NOATIME, self.no_access_time);
        flags
    }
}

/// An overlay to be mounted.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// Read-only directories, the topmost first; at least one.
    pub lowers: Vec<PathBuf>,
    /// The directory that takes the writes, and the work directory beside it.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Options of the file system: a name, or `name=value`.
    pub options: Vec<String>,
    /// The SELinux context of everything in it.
    pub context: Option<String>,
    /// Properties of the mount.
    pub flags: Flags,
}

/// Mounts an overlay at `target`.
///
/// # Errors
/// When the kernel refuses; nothing is then mounted. Its own words are in the error where it gives any.
pub fn overlay(overlay: &Overlay, target: &Path) -> Result<(), Error> {
    match overlay_mount(overlay) {
        Ok(mounted) => attach(&mounted, target),
        // A kernel that knows no `lowerdir+` says that the option is invalid.
        Err(Failure::NoLayerOption) => overlay_by_mount(overlay, target),
        Err(Failure::Error(error)) => Err(Error::new("mount an overlay at", target, error)),
    }
}

enum Failure {
    NoLayerOption,
    Error(io::Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Error(errno.into())
    }
}

/// Makes the overlay without attaching it.
fn overlay_mount(overlay: &Overlay) -> Result<OwnedFd, Failure> {
    let context = fault::change("fsopen", || {
        Ok(mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?)
    })
    .map_err(Failure::Error)?;
    let set = |key: &str, value: &[u8]| -> Result<(), Failure> {
        mount::fsconfig_set_string(context.as_fd(), key, value)
            .map_err(|errno| explain(&context, errno))
    };
    for (number, lower) in overlay.lowers.iter().enumerate() {
        match set("lowerdir+", lower.as_os_str().as_bytes()) {
            Err(Failure::Error(error))
                if number == 0 && error.raw_os_error() == Some(libc::EINVAL) =>
            {
                return Err(Failure::NoLayerOption);
            }
            result => result?,
        }
    }
    if let Some((upper, work)) = &overlay.upper {
        set("upperdir", upper.as_os_str().as_bytes())?;
        set("workdir", work.as_os_str().as_bytes())?;
    }
    for option in &overlay.options {
        match option.split_once('=') {
            Some((key, value)) => set(key, value.as_bytes())?,
            None => mount::fsconfig_set_flag(context.as_fd(), option.as_str())
                .map_err(|errno| explain(&context, errno))?,
        }
    }
    if let Some(label) = &overlay.context {
        set("context", label.as_bytes())?;
    }
    fault::change("fsconfig", || Ok(mount::fsconfig_create(context.as_fd())?)).map_err(
        |error| match Errno::from_io_error(&error) {
            Some(errno) => explain(&context, errno),
            None => Failure::Error(error),
        },
    )?;
    let attributes = overlay.flags.attributes();
    fault::change("fsmount", || {
        Ok(mount::fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            attributes,
        )?)
    })
    .map_err(Failure::Error)
}

/// Adds what the kernel wrote about the failure.
fn explain(context: &OwnedFd, errno: Errno) -> Failure {
    let mut message = [0; 1024];
    match rustix::io::read(context, &mut message[..]) {
        Ok(len) if len > 2 => {
            let text = String::from_utf8_lossy(&message[2..len]);
            let error = io::Error::from(errno);
            Failure::Error(io::Error::new(
                error.kind(),
                format!("{}: {error}", text.trim()),
            ))
        }
        _ => Failure::Error(errno.into()),
    }
}

/// An overlay that is attached nowhere: it ends when the returned directory is closed. `path` is for
/// messages.
///
/// # Errors
/// When the kernel refuses.
pub fn overlay_view(overlay: &Overlay, path: &Path) -> Result<Dir, Error> {
    match overlay_mount(overlay) {
        Ok(mounted) => Ok(Dir::from_fd(mounted, path)),
        Err(Failure::Error(error)) => Err(Error::new("mount an overlay of", path, error)),
        Err(Failure::NoLayerOption) => {
            let error = io::Error::from(io::ErrorKind::Unsupported);
            Err(Error::new(
                "mount, on a kernel before 6.5, an unattached overlay of",
                path,
                error,
            ))
        }
    }
}

/// One page bounds the options of `mount(2)`.
fn overlay_by_mount(overlay: &Overlay, target: &Path) -> Result<(), Error> {
    fn push(data: &mut Vec<u8>, key: &str, path: &Path) {
        data.extend_from_slice(key.as_bytes());
        for byte in path.as_os_str().as_bytes() {
            if matches!(byte, b':' | b',' | b'\\') {
                data.push(b'\\');
            }
            data.push(*byte);
        }
    }
    let mut data = Vec::new();
    for (number, lower) in overlay.lowers.iter().enumerate() {
        push(
            &mut data,
            if number == 0 { "lowerdir=" } else { ":" },
            lower,
        );
    }
    if let Some((upper, work)) = &overlay.upper {
        push(&mut data, ",upperdir=", upper);
        push(&mut data, ",workdir=", work);
    }
    for option in &overlay.options {
        data.push(b',');
        data.extend_from_slice(option.as_bytes());
    }
    if let Some(label) = &overlay.context {
        data.extend_from_slice(format!(",context=\"{label}\"").as_bytes());
    }
    data.push(0);
    let fail = |error: io::Error| Error::new("mount an overlay at", target, error);
    let data = CStr::from_bytes_with_nul(&data)
        .map_err(|_| fail(io::Error::from_raw_os_error(libc::EINVAL)))?;
    fault::change("mount", || {
        Ok(mount::mount(
            "overlay",
            target,
            "overlay",
            overlay.flags.mount_flags(),
            data,
        )?)
    })
    .map_err(fail)
}

fn attach(mounted: &OwnedFd, target: &Path) -> Result<(), Error> {
    fault::change("move_mount", || {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(mount::move_mount(mounted, "", CWD, target, flags)?)
    })
    .map_err(|error| Error::new("mount at", target, error))
}

/// Makes the directory `source` visible at `target` too, with flags of its own; mounts below `source`
/// are not.
///
/// # Errors
/// When the kernel refuses; nothing is then mounted.
pub fn bind(source: &Path, target: &Path, flags: Flags) -> Result<(), Error> {
    let clone = fault::change("open_tree", || {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(mount::open_tree(CWD, source, flags)?)
    })
    .map_err(|error| Error::new("clone the mount of", source, error))?;
    if flags != Flags::default() {
        set_attributes(&clone, flags).map_err(|error| Error::new("bind at", target, error))?;
    }
    attach(&clone, target)
}

/// A copy of the directory's mount that is attached nowhere and has no other mounts below: in it,
/// renames reach across places that are mounted over.
///
/// # Errors
/// When the kernel refuses; it needs CAP_SYS_ADMIN.
pub fn detached(path: &Path) -> Result<Dir, Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = mount::open_tree(CWD, path, flags)
        .map_err(|errno| Error::new("clone the mount of", path, errno))?;
    Ok(Dir::from_fd(clone, path))
}

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

#[allow(unsafe_code, reason = "neither std nor rustix has mount_setattr")]
fn set_attributes(mounted: &OwnedFd, flags: Flags) -> io::Result<()> {
    let attributes = MountAttr {
        set: u64::from(flags.attributes().bits()),
        clear: if flags.no_access_time {
            u64::from(libc::MOUNT_ATTR__ATIME as u32)
        } else {
            0
        },
        propagation: 0,
        user_namespace: 0,
    };
    fault::change("mount_setattr", || {
        // SAFETY: the descriptor is open, the path is a constant with its terminator, and the kernel
        // reads `attributes` within the size that it is given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                mounted.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                std::ptr::from_ref(&attributes),
                size_of::<MountAttr>(),
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    })
}

/// Takes the topmost mount at `target` out of the tree; false when there is none. What is open in it
/// stays usable until it is closed.
///
/// # Errors
/// When the kernel refuses.
pub fn unmount(target: &Path) -> Result<bool, Error> {
    let result = fault::change("umount2", || {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        Ok(mount::unmount(target, flags)?)
    });
    match result {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
            Ok(false)
        }
        Err(error) => Err(Error::new("unmount", target, error)),
    }
}

/// The unique ID of the mount at `path`, when `path` is the root of one; no link is followed.
///
/// # Errors
/// When the kernel can't say; a missing path is `None`.
pub fn mount_id(path: &Path) -> Result<Option<u64>, Error> {
    // STATX_MNT_ID, which rustix names only by its bit.
    let mask = StatxFlags::from_bits_retain(libc::STATX_MNT_ID);
    let statx = match fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, mask) {
        Ok(statx) => statx,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(Error::new("stat", path, errno)),
    };
    let is_root = statx.stx_attributes.bits() & (libc::STATX_ATTR_MOUNT_ROOT as u64) != 0;
    Ok(is_root.then_some(statx.stx_mnt_id))
}

/// True when an overlay is mounted at `path`.
///
/// # Errors
/// When the kernel can't say.
pub fn is_overlay(path: &Path) -> Result<bool, Error> {
    if mount_id(path)?.is_none() {
        return Ok(false);
    }
    let statfs = match fs::statfs(path) {
        Ok(statfs) => statfs,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(Error::new("stat the file system of", path, errno)),
    };
    Ok(statfs.f_type == libc::OVERLAYFS_SUPER_MAGIC)
}

/// True when the directory lies on an overlay, which can't carry another one's upper directory.
///
/// # Errors
/// When the kernel can't say.
pub fn is_on_overlay(dir: &Dir) -> Result<bool, Error> {
    Ok(file_system_type(dir)? == libc::OVERLAYFS_SUPER_MAGIC)
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

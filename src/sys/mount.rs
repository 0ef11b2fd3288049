//! Mounting: overlays, binds, taking mounts down, and telling what is mounted where.
//!
//! Everything goes through the mount API of descriptors, in which a mount is finished before it gets its
//! place: no one sees a bind that is not read-only yet. Where the kernel lacks a part of it, `mount(2)`
//! does the same in steps.
//!
//! No path in the mount table is trusted here: another mount may hide it. [`mount_id`] and [`place`] ask the path
//! itself.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    self, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;
use rustix::mount::{
    self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags,
    MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::{Dir, Error, fault};

/// Properties of one mount, as opposed to those of its file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// No writes.
    pub read_only: bool,
    /// No device files.
    pub no_devices: bool,
    /// No set-id bits and file capabilities.
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

impl From<StatVfsMountFlags> for Flags {
    fn from(flags: StatVfsMountFlags) -> Self {
        Self {
            read_only: flags.contains(StatVfsMountFlags::RDONLY),
            no_devices: flags.contains(StatVfsMountFlags::NODEV),
            no_set_id: flags.contains(StatVfsMountFlags::NOSUID),
            no_exec: flags.contains(StatVfsMountFlags::NOEXEC),
            no_access_time: flags.contains(StatVfsMountFlags::NOATIME),
        }
    }
}

/// An overlay to be mounted.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// Absolute paths of the lower layers, nearest first; at least one, without an upper at least two.
    pub lowers: Vec<PathBuf>,
    /// Absolute paths of the directory that takes the writes and of the work directory beside it.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Options of the file system: a name, or `name=value`.
    pub options: Vec<String>,
    /// The SELinux context of everything in it.
    pub context: Option<String>,
    /// Properties of the mount.
    pub flags: Flags,
}

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

/// The kernel takes at most this many bytes, with the final zero, as the value of one option.
const MAX_VALUE: usize = 256;

/// Mounts an overlay at `target`, which must be a directory.
///
/// # Errors
/// When a layer is missing or the kernel refuses; nothing is then mounted. The kernel's own words are in the error where
/// it gives any.
pub fn overlay(overlay: &Overlay, target: &Path) -> Result<(), Error> {
    match detached_overlay(overlay) {
        Ok(tree) => attach(&tree, target),
        Err(Failure::OldKernel) => overlay_in_one(overlay, target),
        Err(Failure::Error(error)) => Err(Error::new("mount an overlay at", target, error)),
    }
}

/// An overlay that has no place: it ends when the returned directory is closed. `path` is for messages.
///
/// # Errors
/// When a layer is missing or the kernel refuses.
pub fn overlay_view(overlay: &Overlay, path: &Path) -> Result<Dir, Error> {
    let fail = |error: io::Error| Error::new("mount an overlay of", path, error);
    match detached_overlay(overlay) {
        // The descriptor of a mount without a place can't be listed; one of its root can.
        Ok(tree) => Ok(Dir::from_fd(open_root(&tree).map_err(fail)?, path)),
        Err(Failure::OldKernel) => Err(fail(io::ErrorKind::Unsupported.into())),
        Err(Failure::Error(error)) => Err(fail(error)),
    }
}

enum Failure {
    /// Before 6.7: the layers of an overlay can't be given one by one.
    OldKernel,
    Error(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Error(error)
    }
}

fn detached_overlay(overlay: &Overlay) -> Result<OwnedFd, Failure> {
    let context = match new_context() {
        Err(error) if is_missing_call(&error) => return Err(Failure::OldKernel),
        result => result?,
    };
    match configure(&context, overlay) {
        Err(Failure::Error(error)) => Err(Failure::Error(explain(&context, error))),
        result => result,
    }
}

fn new_context() -> io::Result<OwnedFd> {
    fault::change("fsopen", || {
        Ok(mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?)
    })
}

/// True for calls that the kernel lacks. Old sandboxes answer EPERM to what they don't know.
fn is_missing_call(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSYS | Errno::PERM)
    )
}

fn configure(context: &OwnedFd, overlay: &Overlay) -> Result<OwnedFd, Failure> {
    // What the mount table shows as the source, as peers' mounts do.
    set(context, c"source", b"overlay")?;
    let mut kept = Vec::new();
    for (number, lower) in overlay.lowers.iter().enumerate() {
        match set_path(context, c"lowerdir+", lower, &mut kept) {
            Err(error)
                if number == 0
                    && Errno::from_io_error(&error) == Some(Errno::INVAL)
                    && !takes_layers_one_by_one() =>
            {
                return Err(Failure::OldKernel);
            }
            result => result?,
        }
    }
    if let Some((upper, work)) = &overlay.upper {
        set_path(context, c"upperdir", upper, &mut kept)?;
        set_path(context, c"workdir", work, &mut kept)?;
    }
    for option in &overlay.options {
        match option.split_once('=') {
            Some((key, value)) => set_string(context, key, value.as_bytes())?,
            None => mount::fsconfig_set_flag(context, option.as_str()).map_err(io::Error::from)?,
        }
    }
    if let Some(label) = &overlay.context {
        set(context, c"context", label.as_bytes())?;
    }
    fault::change("fsconfig", || Ok(mount::fsconfig_create(context)?))?;
    let attributes = overlay.flags.attributes();
    Ok(fault::change("fsmount", || {
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        Ok(mount::fsmount(context, flags, attributes)?)
    })?)
}

/// An unknown key and an unusable layer are the same error: asks with a layer that can be used.
fn takes_layers_one_by_one() -> bool {
    new_context().is_ok_and(|context| set(&context, c"lowerdir+", b"/").is_ok())
}

fn set(context: &OwnedFd, key: &CStr, value: &[u8]) -> io::Result<()> {
    Ok(mount::fsconfig_set_string(context, key, value)?)
}

fn set_string(context: &OwnedFd, key: &str, value: &[u8]) -> io::Result<()> {
    Ok(mount::fsconfig_set_string(context, key, value)?)
}

/// Sets a path; one that is too long for a value by a descriptor, which goes to `kept`.
fn set_path(context: &OwnedFd, key: &CStr, path: &Path, kept: &mut Vec<OwnedFd>) -> io::Result<()> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() < MAX_VALUE {
        return set(context, key, bytes);
    }
    let fd = open_path(path)?;
    let value = format!("/proc/self/fd/{}", fd.as_raw_fd());
    kept.push(fd);
    set(context, key, value.as_bytes())
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fs::open(path, flags, Mode::empty())?)
}

fn open_root(tree: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(fs::openat(tree, c".", flags, Mode::empty())?)
}

/// Adds what the kernel wrote about the failure.
fn explain(context: &OwnedFd, error: io::Error) -> io::Error {
    let mut message = [0; 1024];
    match rustix::io::read(context, &mut message[..]) {
        // "e overlay: ..."
        Ok(len) if len > 2 => {
            let text = String::from_utf8_lossy(&message[2..len]);
            io::Error::new(error.kind(), format!("{}: {error}", text.trim()))
        }
        _ => error,
    }
}

/// Gives a mount its place.
fn attach(tree: &OwnedFd, target: &Path) -> Result<(), Error> {
    fault::change("move_mount", || {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(mount::move_mount(tree, c"", CWD, target, flags)?)
    })
    .map_err(|error| Error::new("mount at", target, error))
}

/// As [`overlay`], with `mount(2)`, whose options must fit into one page.
///
/// The layers are named by descriptors, relative to the directory of descriptors, so that any number that the kernel
/// takes fits. The working directory belongs to a process, so a thread with one of its own makes the call.
fn overlay_in_one(overlay: &Overlay, target: &Path) -> Result<(), Error> {
    let fail = |error: io::Error| Error::new("mount an overlay at", target, error);
    let mut kept = Vec::new();
    let mut name = |path: &Path| -> Result<String, Error> {
        let fd = open_path(path).map_err(|error| Error::new("open", path, error))?;
        let name = fd.as_raw_fd().to_string();
        kept.push(fd);
        Ok(name)
    };
    let lowers = overlay.lowers.iter().map(|lower| name(lower));
    let lowers = lowers.collect::<Result<Vec<_>, _>>()?;
    let mut data = format!("lowerdir={}", lowers.join(":"));
    if let Some((upper, work)) = &overlay.upper {
        let (upper, work) = (name(upper)?, name(work)?);
        data.push_str(&format!(",upperdir={upper},workdir={work}"));
    }
    let mut flags = overlay.flags.mount_flags();
    for option in &overlay.options {
        match option.as_str() {
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            _ => {
                data.push(',');
                data.push_str(option);
            }
        }
    }
    if let Some(label) = &overlay.context {
        data.push_str(&format!(",context=\"{label}\""));
    }
    let place = name(target)?;
    let data = CString::new(data).map_err(|error| fail(error.into()))?;
    fault::change("mount", || {
        in_directory(c"/proc/self/fd", || {
            Ok(mount::mount("overlay", place, "overlay", flags, &*data)?)
        })
    })
    .map_err(fail)
}

/// Runs `call` in a thread whose working directory is `directory`.
#[allow(
    unsafe_code,
    reason = "rustix leaves the judgement about unshare to us"
)]
fn in_directory<T: Send>(
    directory: &CStr,
    call: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: working directory, root and umask of this thread alone are set apart from the others';
            // descriptors stay shared.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }?;
            rustix::process::chdir(directory)?;
            call()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Makes what is at `source` visible at `target` too, with flags of its own: a directory on a directory, a file on a
/// file. Mounts below `source` are left out. A symbolic link at `source` is followed, one at `target` is not.
///
/// # Errors
/// When one of them is missing or the kernel refuses; nothing is then mounted.
pub fn bind(source: &Path, target: &Path, flags: Flags) -> Result<(), Error> {
    let tree = fault::change("open_tree", || {
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(mount::open_tree(CWD, source, clone)?)
    })
    .map_err(|error| Error::new("clone the mount of", source, error))?;
    if flags != Flags::default() {
        match fault::change("mount_setattr", || set_attributes(&tree, flags)) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOSYS) => {
                return bind_in_steps(source, target, flags);
            }
            result => result.map_err(|error| Error::new("bind at", target, error))?,
        }
    }
    attach(&tree, target)
}

/// As [`bind`], for kernels before 5.12.
fn bind_in_steps(source: &Path, target: &Path, flags: Flags) -> Result<(), Error> {
    let fail = |error: io::Error| Error::new("bind at", target, error);
    fault::change("mount", || Ok(mount::mount_bind(source, target)?)).map_err(fail)?;
    let flags = MountFlags::BIND | flags.mount_flags();
    fault::change("mount", || Ok(mount::mount_remount(target, flags, c"")?)).map_err(|error| {
        // The first error is the one to report.
        drop(unmount(target));
        fail(error)
    })
}

/// Makes a directory a mount of its own, from and to which no mounts spread.
///
/// # Errors
/// When the kernel refuses; the directory may then be a mount already, with the propagation it had.
pub fn make_private(path: &Path) -> Result<(), Error> {
    bind(path, path, Flags::default())?;
    fault::change("mount", || {
        Ok(mount::mount_change(
            path,
            mount::MountPropagationFlags::PRIVATE,
        )?)
    })
    .map_err(|error| Error::new("make private", path, error))
}

/// A copy of the directory's mount that has no place and no other mounts below: in it, renames reach across places that
/// are mounted over.
///
/// # Errors
/// When the kernel refuses; it needs CAP_SYS_ADMIN.
pub fn detached(path: &Path) -> Result<Dir, Error> {
    let fail = |error: io::Error| Error::new("clone the mount of", path, error);
    let tree = fault::change("open_tree", || {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(mount::open_tree(CWD, path, flags)?)
    })
    .map_err(fail)?;
    Ok(Dir::from_fd(open_root(&tree).map_err(fail)?, path))
}

/// Takes the topmost mount at `target` out of sight; false when there is none. It ends when nobody uses it any more.
///
/// # Errors
/// When the kernel refuses.
pub fn unmount(target: &Path) -> Result<bool, Error> {
    unmount_with(target, UnmountFlags::DETACH)
}

/// As [`unmount`], but refuses as busy when something in the mount is in use.
///
/// # Errors
/// When it is in use or the kernel refuses.
pub fn unmount_unused(target: &Path) -> Result<bool, Error> {
    unmount_with(target, UnmountFlags::empty())
}

fn unmount_with(target: &Path, flags: UnmountFlags) -> Result<bool, Error> {
    let flags = flags | UnmountFlags::NOFOLLOW;
    match fault::change("umount2", || Ok(mount::unmount(target, flags)?)) {
        Ok(()) => Ok(true),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => Ok(false),
            _ => Err(Error::new("unmount", target, error)),
        },
    }
}

fn statx(path: &Path) -> Result<Option<fs::Statx>, Error> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match fs::statx(CWD, path, flags, StatxFlags::MNT_ID | StatxFlags::INO) {
        Ok(statx) => Ok(Some(statx)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(Error::new("stat", path, errno)),
    }
}

fn is_mount_root(statx: &fs::Statx) -> bool {
    statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
}

/// The kernel's number of the mount at `path`; `None` when nothing is mounted exactly there. No link is followed.
///
/// # Errors
/// When the kernel can't say; a missing path is `None`.
pub fn mount_id(path: &Path) -> Result<Option<u64>, Error> {
    Ok(statx(path)?
        .filter(is_mount_root)
        .map(|statx| statx.stx_mnt_id))
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
    Ok(is_mount_root(&statx)
        && fs::fstatfs(&fd).map_err(fail)?.f_type == libc::OVERLAYFS_SUPER_MAGIC)
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

/// Gives the calling thread, and threads that it starts, a mount name space that nobody else sees.
///
/// # Errors
/// When the process may not.
#[allow(
    unsafe_code,
    reason = "rustix leaves the judgement about unshare to us"
)]
pub fn enter_private_namespace() -> Result<(), Error> {
    let fail = |errno: Errno| Error::new("leave the mount name space of", "/", errno);
    // SAFETY: mounts, and with them working directory and root, of this thread alone are set apart; descriptors and
    // memory stay as they are.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.map_err(fail)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    fault::change("mount", || Ok(mount::mount_change("/", private)?))
        .map_err(|error| Error::new("make private the mounts of", "/", error))
}

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

#[allow(unsafe_code, reason = "neither std nor rustix has mount_setattr")]
fn set_attributes(tree: &OwnedFd, flags: Flags) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: u64::from(flags.attributes().bits()),
        // The rule for access times is a number within the bits: it must be cleared to be set.
        attr_clr: match flags.no_access_time {
            true => u64::from(MountAttrFlags::MOUNT_ATTR__ATIME.bits()),
            false => 0,
        },
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the descriptor is open for the whole call, the path is an empty C string, and `attr` is a valid
    // mount_attr of the size that is given, which the kernel only reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(&attr),
            size_of::<MountAttr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with `l1` … `ln`, `upper`, `work` and `target`, in mounts of this thread's own.
    fn layers(count: usize) -> (tempfile::TempDir, Overlay, PathBuf) {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts: run it as root"
        );
        enter_private_namespace().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = folder.path().canonicalize().unwrap().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let overlay = Overlay {
            lowers: (0..count)
                .map(|number| path(&format!("l{number}")))
                .collect(),
            upper: Some((path("upper"), path("work"))),
            options: vec!["volatile".to_owned(), "index=off".to_owned()],
            context: None,
            flags: Flags {
                no_devices: true,
                ..Flags::default()
            },
        };
        let target = path("target");
        (folder, overlay, target)
    }

    fn check_mounted(overlay: &Overlay, target: &Path) {
        std::fs::write(target.join("written"), "").unwrap();
        assert!(target.join("deep").exists());
        let (upper, _) = overlay.upper.as_ref().unwrap();
        assert!(upper.join("written").exists());
        let found = place(target).unwrap().unwrap();
        assert!(found.flags.no_devices && is_overlay(target).unwrap());
        assert!(unmount_unused(target).unwrap());
    }

    #[test]
    fn an_old_kernel_mounts_as_many_layers() {
        let (_folder, overlay, target) = layers(500);
        std::fs::write(overlay.lowers[499].join("deep"), "").unwrap();
        overlay_in_one(&overlay, &target).unwrap();
        check_mounted(&overlay, &target);
    }

    #[test]
    fn the_kernel_takes_layers_one_by_one() {
        let (_folder, mut overlay, target) = layers(3);
        std::fs::write(overlay.lowers[2].join("deep"), "").unwrap();
        assert!(takes_layers_one_by_one());
        super::overlay(&overlay, &target).unwrap();
        check_mounted(&overlay, &target);
        overlay.lowers[1].push("missing");
        let error = super::overlay(&overlay, &target).unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
        assert!(!is_mount_point(&target).unwrap());
    }

    #[test]
    fn an_old_kernel_binds_with_properties() {
        let (_folder, overlay, target) = layers(1);
        let flags = Flags {
            read_only: true,
            no_exec: true,
            ..Flags::default()
        };
        bind_in_steps(&overlay.lowers[0], &target, flags).unwrap();
        assert_eq!(place(&target).unwrap().unwrap().flags, flags);
        assert!(unmount(&target).unwrap());
    }

    #[test]
    fn a_view_is_seen_by_its_descriptor_alone() {
        let (_folder, mut overlay, _target) = layers(2);
        std::fs::write(overlay.lowers[1].join("deep"), "x").unwrap();
        overlay.upper = None;
        overlay.options.clear();
        let view = overlay_view(&overlay, Path::new("view")).unwrap();
        assert_eq!(view.read("deep").unwrap(), b"x");
        assert_eq!(view.list().unwrap().len(), 1);
    }
}

//! Making a tree visible somewhere else.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{self, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags};

use super::{Flags, attach, open_root, unmount};
use crate::sys::userns::UserNamespace;
use crate::sys::{Dir, Error, fault};

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

fn set_attributes(tree: &OwnedFd, flags: Flags) -> io::Result<()> {
    let mut cleared = MountAttrFlags::empty();
    // The rule for access times is a number within the bits: it must be cleared to be set.
    cleared.set(
        MountAttrFlags::MOUNT_ATTR__ATIME,
        flags.no_access_time || flags.strict_access_time,
    );
    cleared.set(MountAttrFlags::MOUNT_ATTR_NOSUID, flags.set_id);
    let attr = MountAttr {
        attr_set: u64::from(flags.attributes().bits()),
        attr_clr: cleared.bits().into(),
        propagation: 0,
        userns_fd: 0,
    };
    set(tree, &attr)
}

/// Makes the owners in a mount that has no place yet seem to be others: those of the name space's maps.
///
/// # Errors
/// When the kernel or the file system can't, or the mount has other owners already.
pub fn set_id_map(tree: &OwnedFd, namespace: &UserNamespace) -> io::Result<()> {
    let descriptor = u64::try_from(namespace.as_fd().as_raw_fd());
    let attr = MountAttr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: descriptor.map_err(io::Error::other)?,
    };
    set(tree, &attr)
}

#[allow(unsafe_code, reason = "neither std nor rustix has mount_setattr")]
fn set(tree: &OwnedFd, attr: &MountAttr) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call, the path is an empty C string, and `attr` is a valid
    // mount_attr of the size that is given, which the kernel only reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attr),
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
    use super::super::place;
    use super::*;

    #[test]
    fn an_old_kernel_binds_with_properties() {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts: run it as root"
        );
        enter_private_namespace().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (source, target) = (path("source"), path("target"));
        let flags = Flags {
            read_only: true,
            no_exec: true,
            ..Flags::default()
        };
        bind_in_steps(&source, &target, flags).unwrap();
        assert_eq!(place(&target).unwrap().unwrap().flags, flags);
        assert!(unmount(&target).unwrap());
    }
}

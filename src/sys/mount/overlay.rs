//! Mounting an overlay: layer by layer through descriptors, or at once on an old kernel.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountFlags};

use super::{Flags, attach, enter_private_namespace, open_path, open_root, unmount};
use crate::sys::{Dir, Error, fault};

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

/// The kernel takes at most this many bytes, with the final zero, as the value of one option.
const MAX_VALUE: usize = 256;

/// Mounts an overlay at `target`, which must be a directory.
///
/// # Errors
/// When a layer is missing or the kernel refuses, or would mount read-only what shall be written for want of room; nothing
/// is then mounted. The kernel's own words are in the error where
/// it gives any.
pub fn overlay(overlay: &Overlay, target: &Path) -> Result<(), Error> {
    match detached_overlay(overlay) {
        Ok(tree) => attach(&tree, target),
        Err(Failure::OldKernel) => overlay_in_one(overlay, target),
        Err(Failure::Error(error)) => Err(Error::new("mount an overlay at", target, error)),
    }
}

/// An overlay that has no place: it ends when the returned directory is closed. `path` is for messages, and must be a
/// directory.
///
/// # Errors
/// When a layer is missing or the kernel refuses.
pub fn overlay_view(overlay: &Overlay, path: &Path) -> Result<Dir, Error> {
    let fail = |error: io::Error| Error::new("mount an overlay of", path, error);
    match detached_overlay(overlay) {
        // The descriptor of a mount without a place can't be listed; one of its root can.
        Ok(tree) => Ok(Dir::from_fd(open_root(&tree).map_err(fail)?, path)),
        Err(Failure::OldKernel) => view_in_one(overlay, path),
        Err(Failure::Error(error)) => Err(fail(error)),
    }
}

/// As [`overlay_view`], for kernels before 6.7: the mount's place is `path` in mounts that nobody else sees and that end
/// at once, all but the descriptor.
fn view_in_one(overlay: &Overlay, path: &Path) -> Result<Dir, Error> {
    let view = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter_private_namespace()?;
            overlay_in_one(overlay, path)?;
            Dir::open(path)
        });
        thread.join()
    });
    view.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
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

/// Whether the kernel has overlays, loading its module when it must.
pub fn has_overlay() -> bool {
    match new_context() {
        Ok(_) => true,
        // Any other refusal is about this process or an old kernel, not about overlays.
        Err(error) => Errno::from_io_error(&error) != Some(Errno::NODEV),
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
    let tree = fault::change("fsmount", || {
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        Ok(mount::fsmount(context, flags, attributes)?)
    })?;
    let flags = rustix::fs::fstatvfs(&tree).map_err(io::Error::from)?.f_flag;
    refuse_read_only(overlay, flags)?;
    Ok(tree)
}

/// The kernel mounts an overlay read-only when it can't make what it needs in the work directory, as on a full disk, and
/// says so in its own log alone. Fails as the making does.
fn refuse_read_only(overlay: &Overlay, flags: StatVfsMountFlags) -> io::Result<()> {
    let Some((_, work)) = &overlay.upper else {
        return Ok(());
    };
    if overlay.flags.read_only || !flags.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let trial = work.join("trial");
    fault::change("mkdir", || Ok(rustix::fs::mkdir(&trial, Mode::RWXU)?))?;
    fault::change("rmdir", || Ok(rustix::fs::rmdir(&trial)?))?;
    Err(Errno::ROFS.into())
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
            Ok(mount::mount(
                "overlay",
                place.as_str(),
                "overlay",
                flags,
                &*data,
            )?)
        })
    })
    .map_err(fail)?;
    let flags = rustix::fs::statvfs(target)
        .map_err(|errno| fail(errno.into()))?
        .f_flag;
    refuse_read_only(overlay, flags).map_err(|error| match unmount(target) {
        Ok(_) => fail(error),
        Err(stays) => stays,
    })
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

#[cfg(test)]
mod tests {
    use super::super::{is_mount_point, is_overlay, place, unmount_unused};
    use super::*;
    use crate::sys::mount::enter_private_namespace;

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
    fn a_view_is_seen_by_its_descriptor_alone() {
        let (_folder, mut overlay, _target) = layers(2);
        std::fs::write(overlay.lowers[1].join("deep"), "x").unwrap();
        overlay.upper = None;
        overlay.options.clear();
        let view = overlay_view(&overlay, Path::new("view")).unwrap();
        assert_eq!(view.read("deep").unwrap(), b"x");
        assert_eq!(view.list().unwrap().len(), 1);
    }

    #[test]
    fn an_old_kernel_shows_a_view_to_its_descriptor_alone() {
        let (_folder, mut overlay, target) = layers(2);
        std::fs::write(overlay.lowers[1].join("deep"), "x").unwrap();
        overlay.upper = None;
        overlay.options.clear();
        let view = view_in_one(&overlay, &target).unwrap();
        assert_eq!(view.read("deep").unwrap(), b"x");
        assert!(!is_mount_point(&target).unwrap());
    }
}

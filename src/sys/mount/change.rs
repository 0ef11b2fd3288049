//! Taking mounts down, and making file systems read-only.

use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{self, FsPickFlags, UnmountFlags};

use crate::sys::{Error, fault};

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

/// Makes the file system that is mounted at `target` read-only, or writable again: through every mount of it, in every
/// name space. Refused as busy while anybody has a file open for writing.
///
/// # Errors
/// When a writer is there or the kernel refuses; nothing is then changed.
pub fn set_read_only(target: &Path, read_only: bool) -> Result<(), Error> {
    let fail = |error| Error::new("make read-only or writable", target, error);
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_SYMLINK_NOFOLLOW;
    let picked = mount::fspick(CWD, target, flags).map_err(|errno| fail(errno.into()))?;
    let flag = if read_only { c"ro" } else { c"rw" };
    mount::fsconfig_set_flag(&picked, flag).map_err(|errno| fail(errno.into()))?;
    fault::change("fsconfig", || Ok(mount::fsconfig_reconfigure(&picked)?)).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, Overlay, enter_private_namespace, overlay};
    use super::*;

    #[test]
    fn a_file_system_with_a_writer_does_not_become_read_only() {
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
        let target = path("target");
        let layers = Overlay {
            lowers: vec![path("lower")],
            upper: Some((path("upper"), path("work"))),
            options: vec!["volatile".to_owned()],
            context: None,
            flags: Flags::default(),
        };
        overlay(&layers, &target).unwrap();
        let other = path("other");
        super::super::bind(&target, &other, Flags::default()).unwrap();
        let file = std::fs::File::create(other.join("file")).unwrap();
        let error = set_read_only(&target, true).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::BUSY.raw_os_error()), "{error:?}");
        drop(file);
        set_read_only(&target, true).unwrap();
        for place in [&target, &other] {
            let error = std::fs::File::create(place.join("file")).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
        }
        set_read_only(&target, false).unwrap();
        std::fs::File::create(other.join("more")).unwrap();
        unmount(&other).unwrap();
        unmount(&target).unwrap();
    }
}

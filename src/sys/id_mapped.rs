//! ID-mapped mounts: a directory whose files seem to have other owners.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{self, MoveMountFlags, OpenTreeFlags};

use super::userns::UserNamespace;
use super::{Error, fault};

/// A copy of a directory's mount in which what `inside` owns in the name space's maps is `outside`'s. Mounts below the
/// directory are not in it. It has no place, and ends with this value.
#[derive(Debug)]
pub struct IdMapped(OwnedFd);

/// True when the kernel makes overlays over such mounts: from 5.19 on.
pub fn fits_overlays() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let major = numbers.next().unwrap_or_default();
    (major, numbers.next().unwrap_or_default()) >= (5, 19)
}

impl IdMapped {
    /// Makes the copy of the mount at `path`.
    ///
    /// # Errors
    /// When the kernel or the file system has no ID-mapped mounts, or `path` is ID-mapped itself.
    pub fn new(path: &Path, namespace: &UserNamespace) -> Result<Self, Error> {
        let fail = |error: io::Error| Error::new("map the owners of", path, error);
        let tree = fault::change("open_tree", || {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            Ok(mount::open_tree(CWD, path, flags)?)
        })
        .map_err(fail)?;
        fault::change("mount_setattr", || {
            super::mount::set_id_map(&tree, namespace)
        })
        .map_err(fail)?;
        Ok(Self(tree))
    }

    /// A path by which this process finds it, as long as the value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Gives it a place at the directory `target`, for kernels that build an overlay only of mounts that have one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(&self, target: &Path) -> Result<(), Error> {
        fault::change("move_mount", || {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            Ok(mount::move_mount(&self.0, c"", CWD, target, flags)?)
        })
        .map_err(|error| Error::new("mount at", target, error))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::super::mount::{self, Overlay};
    use super::super::userns::Range;
    use super::*;

    fn seen(lower: PathBuf, folder: &Path) -> Result<(u32, u32), Error> {
        let overlay = Overlay {
            lowers: vec![lower, folder.join("other")],
            ..Overlay::default()
        };
        let target = folder.join("target");
        mount::overlay(&overlay, &target)?;
        let stat = std::fs::metadata(target.join("file")).unwrap();
        assert!(mount::unmount_unused(&target).unwrap());
        Ok((stat.uid(), stat.gid()))
    }

    #[test]
    fn an_overlay_over_a_mapped_mount_shows_the_other_owners() {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts: run it as root"
        );
        mount::enter_private_namespace().unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["lower", "other", "target", "place"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let file = folder.path().join("lower/file");
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(5), Some(6)).unwrap();
        let range = Range {
            inside: 0,
            outside: 100_000,
            size: 65_536,
        };
        let namespace = UserNamespace::new(&[range], &[]).unwrap();
        let mapped = IdMapped::new(folder.path(), &namespace).unwrap();
        // Kernels before 6.15 need the place.
        let without_place = seen(mapped.path().join("lower"), folder.path());
        let place = folder.path().join("place");
        mapped.attach(&place).unwrap();
        assert_eq!(
            seen(place.join("lower"), folder.path()).unwrap(),
            (100_005, 6)
        );
        assert!(mount::unmount(&place).unwrap());
        if let Ok(owner) = without_place {
            assert_eq!(owner, (100_005, 6));
        }
    }
}

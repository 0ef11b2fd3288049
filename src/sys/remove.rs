//! Removing trees, however deep they are.
//!
//! Whoever writes in a volume chooses how deep its tree is, beyond the longest path and the most descriptors that there
//! can be. What lies deeper than [`DEPTH`] is moved up first, so that neither stack nor descriptors run out.

use std::ffi::OsString;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Dir, Error, btrfs, mount};

/// How many directories are open at once.
const DEPTH: usize = 64;

impl Dir {
    /// Removes `name` and everything below it, following no link; false when there was nothing.
    ///
    /// It never crosses into another file system: a mount point below is an error (busy). Subvolumes of btrfs are
    /// parts of the tree.
    ///
    /// # Errors
    /// When something can't be removed; a part may then be gone.
    pub fn remove_tree(&self, name: impl AsRef<Path>) -> Result<bool, Error> {
        let name = name.as_ref();
        match self.remove_file(name) {
            Ok(()) => return Ok(true),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) if matches!(error.errno(), Some(libc::EISDIR | libc::EPERM)) => {}
            Err(error) => return Err(error),
        }
        let Some(dir) = self.find_dir(name)? else {
            return Ok(false);
        };
        if dir.stat_self()?.st_dev != self.stat_self()?.st_dev {
            dir.require_subvolume()?;
            if self.remove_subvolume(name)? {
                return Ok(true);
            }
        }
        dir.remove_contents()?;
        match self.remove_dir(name) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(true),
        }
    }

    /// Removes everything in this directory, as [`Dir::remove_tree`] does, and keeps the directory.
    ///
    /// # Errors
    /// When something can't be removed; a part may then be gone.
    pub fn remove_contents(&self) -> Result<(), Error> {
        let mut work = Removal {
            outermost: self,
            moved: 0,
        };
        loop {
            work.remove_subvolume_contents(self, 0)?;
            if std::mem::take(&mut work.moved) == 0 {
                return Ok(());
            }
        }
    }

    /// Refuses a directory with a device number of its own, unless it has that as a subvolume of the same file system.
    fn require_subvolume(&self) -> Result<(), Error> {
        if btrfs::is_subvolume(self)? && !mount::is_mount_root(self)? {
            return Ok(());
        }
        Err(Error::new("remove", self.path(), Errno::BUSY))
    }
}

/// A tree that is being removed. Between subvolumes only subvolumes can be renamed, so each has a top of its own.
struct Removal<'a> {
    outermost: &'a Dir,
    /// Subvolumes that were moved to the outermost directory, as they were too deep.
    moved: u64,
}

impl Removal<'_> {
    /// Removes what is in `top`, a subvolume's root or the outermost directory.
    fn remove_subvolume_contents(&mut self, top: &Dir, depth: usize) -> Result<(), Error> {
        let device = top.stat_self()?.st_dev;
        loop {
            let mut moved = 0;
            self.remove_below(top, (top, device), depth, &mut moved)?;
            if moved == 0 {
                return Ok(());
            }
        }
    }

    /// Removes what is in `dir`; what is too deep goes to `top` and is counted.
    fn remove_below(
        &mut self,
        dir: &Dir,
        (top, device): (&Dir, u64),
        depth: usize,
        moved: &mut u64,
    ) -> Result<(), Error> {
        let move_to = |name: &OsString, top: &Dir| {
            let new = format!(".strata-remove-{:016x}", super::dir::random_u64());
            dir.rename_new(name, top, OsString::from(new))
        };
        for entry in dir.list()? {
            let name = &entry.name;
            if entry.file_type != FileType::Directory {
                match dir.remove_file(name) {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => continue,
                }
            }
            let Some(below) = dir.find_dir(name)? else {
                continue;
            };
            if below.stat_self()?.st_dev != device {
                below.require_subvolume()?;
                if dir.remove_subvolume(name.as_ref())? {
                    continue;
                }
                // Half of the levels are for what is in it.
                if depth >= DEPTH / 2 {
                    move_to(name, self.outermost)?;
                    self.moved += 1;
                    continue;
                }
                self.remove_subvolume_contents(&below, depth + 1)?;
            } else if depth == DEPTH {
                move_to(name, top)?;
                *moved += 1;
                continue;
            } else {
                self.remove_below(&below, (top, device), depth + 1, moved)?;
            }
            match dir.remove_dir(name) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, Dir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        (folder, dir)
    }

    #[test]
    fn removing_a_tree_follows_no_link() {
        let (_folder, dir) = dir();
        dir.create_dir("kept", 0o700).unwrap();
        dir.write_new("kept/file", b"x", 0o600).unwrap();
        dir.create_dir("tree", 0o700).unwrap();
        dir.create_dir("tree/below", 0o700).unwrap();
        dir.symlink("tree/below/link", "../../kept").unwrap();
        assert!(dir.remove_tree("tree").unwrap());
        assert!(!dir.remove_tree("tree").unwrap());
        assert_eq!(dir.read("kept/file").unwrap(), b"x");
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let (_folder, dir) = dir();
        let mut here = dir.try_clone().unwrap();
        for level in 0..2100 {
            here.write_new("file", b"", 0o600).unwrap();
            here.create_dir("d", 0o700).unwrap();
            // Remembered paths would grow with the square of the depth.
            let below = here.open_dir("d").unwrap();
            here = Dir::from_fd(
                std::os::fd::AsFd::as_fd(&below)
                    .try_clone_to_owned()
                    .unwrap(),
                format!("{level}"),
            );
        }
        drop(here);
        assert!(dir.remove_tree("d").unwrap());
        assert_eq!(dir.list().unwrap().len(), 1);
    }
}

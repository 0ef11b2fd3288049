//! Removing trees, however deep they are.
//!
//! Whoever writes in a volume chooses how deep its tree is, beyond the longest path and the most descriptors that there
//! can be. What lies deeper than [`DEPTH`] is moved up first, so that neither stack nor descriptors run out.

use std::ffi::OsString;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Dir, Error};

/// How many directories are open at once.
const DEPTH: usize = 64;

impl Dir {
    /// Removes `name` and everything below it, following no link; false when there was nothing.
    ///
    /// It never crosses into another file system: a mount point below is an error (busy).
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
            return Err(Error::new("remove", dir.path(), Errno::BUSY));
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
        let device = self.stat_self()?.st_dev;
        loop {
            let mut moved = 0;
            self.remove_below(self, device, 0, &mut moved)?;
            if moved == 0 {
                return Ok(());
            }
        }
    }

    /// Removes what is in this directory; what is too deep goes to `top` and is counted.
    fn remove_below(
        &self,
        top: &Self,
        device: u64,
        depth: usize,
        moved: &mut u64,
    ) -> Result<(), Error> {
        for entry in self.list()? {
            if entry.file_type != FileType::Directory {
                match self.remove_file(&entry.name) {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => continue,
                }
            }
            if depth == DEPTH {
                let name = format!(".strata-remove-{:016x}", super::dir::random_u64());
                self.rename_new(&entry.name, top, OsString::from(name))?;
                *moved += 1;
                continue;
            }
            let Some(below) = self.find_dir(&entry.name)? else {
                continue;
            };
            if below.stat_self()?.st_dev != device {
                return Err(Error::new("remove", below.path(), Errno::BUSY));
            }
            below.remove_below(top, device, depth + 1, moved)?;
            match self.remove_dir(&entry.name) {
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

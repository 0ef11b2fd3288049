//! Walking a tree of any depth.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::{Dir, Error};

/// Something in a tree that is walked.
#[derive(Debug)]
pub struct Met<'a> {
    /// The directory that it is in.
    pub parent: &'a Dir,
    /// Where that is, relative to where the walk began.
    pub below: &'a Path,
    /// Its name there.
    pub name: OsString,
    /// What it is.
    pub stat: Stat,
}

impl Dir {
    /// Calls `meet` for everything below this directory, in no particular order; what vanishes meanwhile is left out.
    ///
    /// # Errors
    /// When the tree can't be read, or what `meet` returns.
    pub fn walk<E: From<Error>>(
        &self,
        mut meet: impl FnMut(&Met<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut ahead = vec![PathBuf::new()];
        while let Some(path) = ahead.pop() {
            let opened;
            let parent = if path.as_os_str().is_empty() {
                self
            } else {
                let Some(found) = self.find_dir(&path)? else {
                    continue;
                };
                opened = found;
                &opened
            };
            for entry in parent.list()? {
                let Some(stat) = parent.stat(&entry.name)? else {
                    continue;
                };
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    ahead.push(path.join(&entry.name));
                }
                let name = entry.name;
                meet(&Met {
                    parent,
                    below: &path,
                    name,
                    stat,
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_is_met_once() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        dir.create_dir("a", 0o700).unwrap();
        dir.create_dir("a/b", 0o700).unwrap();
        dir.create_file("a/b/file", 0o600).unwrap();
        dir.symlink("a/link", "/").unwrap();
        let mut met = Vec::new();
        dir.walk(|found| {
            met.push(found.below.join(&found.name));
            Ok::<_, Error>(())
        })
        .unwrap();
        met.sort();
        assert_eq!(met, ["a", "a/b", "a/b/file", "a/link"].map(PathBuf::from));
    }
}

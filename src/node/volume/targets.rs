//! Targets: which paths may be one, and which volume is visible where.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::error::TargetError;
use super::mounts::Source;
use crate::sys::{self, Dir};

/// The directory below which all targets are: the kubelet's.
#[derive(Debug)]
pub struct Places {
    dir: Dir,
    path: PathBuf,
}

/// A path that may be a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPath {
    path: PathBuf,
    relative: PathBuf,
}

impl TargetPath {
    /// The whole path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn name(&self) -> &OsStr {
        self.relative.file_name().unwrap_or_default()
    }
}

impl Places {
    /// Targets are below `kubelet`, an absolute path that exists.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(kubelet: &Path) -> Result<Self, sys::Error> {
        Ok(Self {
            dir: Dir::open(kubelet)?,
            path: kubelet.components().collect(),
        })
    }

    /// The kubelet's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the kubelet has a directory for each pod; `None` when missing.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn pods(&self) -> Result<Option<Dir>, sys::Error> {
        self.dir.find_dir("pods")
    }

    /// Checks that a path may be a target, by its form alone.
    ///
    /// # Errors
    /// When it is not absolute, has `.` or `..` in it, or is not below the kubelet's directory.
    pub fn check(&self, path: &Path) -> Result<TargetPath, TargetError> {
        let has_parents = path
            .components()
            .any(|component| matches!(component, Component::ParentDir | Component::CurDir));
        if !path.is_absolute() || has_parents {
            return Err(TargetError::Form {
                path: path.to_owned(),
            });
        }
        match path.strip_prefix(&self.path) {
            Ok(relative) if relative.file_name().is_some() => Ok(TargetPath {
                path: path.components().collect(),
                relative: relative.components().collect(),
            }),
            _ => Err(TargetError::Outside {
                path: path.to_owned(),
                kubelet: self.path.clone(),
            }),
        }
    }

    /// The directory that the target is in; `None` when it is missing, no directory, or to be reached
    /// through symbolic links only.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn parent(&self, target: &TargetPath) -> Result<Option<Parent>, sys::Error> {
        let dir = match target.relative.parent() {
            Some(parent) if parent != Path::new("") => match self.dir.find_dir(parent) {
                Err(error)
                    if matches!(
                        error.errno(),
                        Some(libc::ENOTDIR | libc::ELOOP | libc::EXDEV)
                    ) =>
                {
                    None
                }
                result => result?,
            },
            _ => Some(self.dir.try_clone()?),
        };
        Ok(dir.map(|dir| Parent {
            dir,
            name: target.name().to_owned(),
        }))
    }
}

/// The directory of a target, and the target's name in it.
#[derive(Debug)]
pub struct Parent {
    dir: Dir,
    name: std::ffi::OsString,
}

/// What is at the path of a target, mounts aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtTarget {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

impl Parent {
    /// What is there.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn look(&self) -> Result<AtTarget, sys::Error> {
        Ok(match self.dir.stat(&self.name)? {
            None => AtTarget::Nothing,
            Some(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() => {
                AtTarget::Directory
            }
            Some(_) => AtTarget::Other,
        })
    }

    /// Whether the directory has nothing in it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn is_empty(&self) -> Result<bool, sys::Error> {
        Ok(self.dir.open_dir(&self.name)?.list()?.is_empty())
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create(&self) -> Result<(), sys::Error> {
        match self.dir.create_dir(&self.name, 0o750) {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the directory, which must be empty; missing is fine.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self) -> Result<(), sys::Error> {
        match self.dir.remove_dir(&self.name) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Which volume is visible where: kept in memory, so that no call reads the whole mount table; made
/// from it at start, and checked against the kernel where a call relies on it.
#[derive(Debug, Default)]
pub struct Index {
    volumes: HashMap<String, Visible>,
    owners: HashMap<PathBuf, String>,
}

#[derive(Debug, Default)]
struct Visible {
    source: Option<Source>,
    targets: BTreeSet<PathBuf>,
}

impl Index {
    /// The volume is visible at `target`.
    pub fn insert(&mut self, volume: &str, target: &Path, source: Source) {
        if let Some(other) = self.owners.insert(target.to_owned(), volume.to_owned())
            && other != volume
        {
            self.forget(&other, target);
        }
        let visible = self.volumes.entry(volume.to_owned()).or_default();
        visible.source = Some(source);
        visible.targets.insert(target.to_owned());
    }

    /// The volume is no longer visible at `target`.
    pub fn remove(&mut self, volume: &str, target: &Path) {
        if self.owners.get(target).is_some_and(|owner| owner == volume) {
            self.owners.remove(target);
        }
        self.forget(volume, target);
    }

    fn forget(&mut self, volume: &str, target: &Path) {
        if let Some(visible) = self.volumes.get_mut(volume) {
            visible.targets.remove(target);
            if visible.targets.is_empty() {
                self.volumes.remove(volume);
            }
        }
    }

    /// The volume at `target`.
    pub fn owner(&self, target: &Path) -> Option<&str> {
        self.owners.get(target).map(String::as_str)
    }

    /// Where the volume is visible.
    pub fn targets(&self, volume: &str) -> Vec<PathBuf> {
        self.volumes
            .get(volume)
            .map(|visible| visible.targets.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// What the volume's targets show.
    pub fn source(&self, volume: &str) -> Option<Source> {
        self.volumes.get(volume).and_then(|visible| visible.source)
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Source = Source {
        device: (0, 42),
        inode: 7,
    };

    #[test]
    fn targets_are_below_the_kubelets_directory() {
        let temp = tempfile::tempdir().unwrap();
        let places = Places::open(temp.path()).unwrap();
        let target = places.check(&temp.path().join("pods/a/mount")).unwrap();
        assert!(places.parent(&target).unwrap().is_none());
        std::fs::create_dir_all(temp.path().join("pods/a")).unwrap();
        let parent = places.parent(&target).unwrap().unwrap();
        assert_eq!(parent.look().unwrap(), AtTarget::Nothing);
        parent.create().unwrap();
        parent.create().unwrap();
        assert_eq!(parent.look().unwrap(), AtTarget::Directory);
        assert!(parent.is_empty().unwrap());
        parent.remove().unwrap();
        parent.remove().unwrap();
        for bad in ["pods/a", "/", "/etc/passwd", ""] {
            assert!(places.check(Path::new(bad)).is_err(), "{bad}");
        }
        assert!(places.check(temp.path()).is_err());
        assert!(places.check(&temp.path().join("pods/../../x")).is_err());
    }

    #[test]
    fn a_parent_behind_a_symbolic_link_or_a_file_is_none() {
        let temp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", temp.path().join("pods")).unwrap();
        let places = Places::open(temp.path()).unwrap();
        let target = places.check(&temp.path().join("pods/mount")).unwrap();
        assert!(places.parent(&target).unwrap().is_none());
        std::fs::write(temp.path().join("file"), "").unwrap();
        let target = places.check(&temp.path().join("file/mount")).unwrap();
        assert!(places.parent(&target).unwrap().is_none());
    }

    #[test]
    fn the_index_knows_both_ways() {
        let mut index = Index::default();
        index.insert("a", Path::new("/1"), SOURCE);
        index.insert("a", Path::new("/2"), SOURCE);
        assert_eq!(index.targets("a").len(), 2);
        assert_eq!(index.owner(Path::new("/1")), Some("a"));
        index.insert("b", Path::new("/1"), SOURCE);
        assert_eq!(index.targets("a"), [Path::new("/2")]);
        index.remove("a", Path::new("/1"));
        assert_eq!(index.owner(Path::new("/1")), Some("b"));
        index.remove("a", Path::new("/2"));
        assert_eq!(index.source("a"), None);
        assert_eq!(index.len(), 1);
    }
}

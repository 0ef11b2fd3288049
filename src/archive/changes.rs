//! What differs between two trees, or between an overlay layer and the layers below it.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::id_shift::IdMaps;
use super::lowers::{Lowers, is_opaque, is_whiteout};
use crate::sys::{Dir, Error};

/// How a path differs; the numbers are those of Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// It is in both and differs, or something below it does.
    Modify = 0,
    /// It is only in the new tree.
    Add = 1,
    /// It is only in the old tree.
    Delete = 2,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Modify => "C",
            Self::Add => "A",
            Self::Delete => "D",
        })
    }
}

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The path, absolute in the tree.
    pub path: PathBuf,
    /// How it differs.
    pub kind: Kind,
}

/// Displays as `C /path`.
impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind, self.path.display())
    }
}

/// Compares two trees; without an old one everything is new.
///
/// The changes come in the order of a walk, names in order, each directory in front of what is in it.
///
/// # Errors
/// When a tree can't be read.
pub fn between(old: Option<&Tree<'_>>, new: &Tree<'_>) -> Result<Vec<Change>, Error> {
    let mut comparison = Comparison {
        old_maps: old.map(|tree| &tree.id_maps),
        new_maps: &new.id_maps,
        changes: Vec::new(),
    };
    comparison.directory(old.map(|tree| tree.dir), new.dir, Path::new("/"))?;
    Ok(comparison.changes)
}

/// A tree and how its owners are mapped; those of two trees are compared as the containers see them.
#[derive(Debug)]
pub struct Tree<'a> {
    /// Its root.
    pub dir: &'a Dir,
    /// Where the container's owners are outside.
    pub id_maps: IdMaps,
}

impl<'a> Tree<'a> {
    /// A tree whose owners are what they are.
    pub fn new(dir: &'a Dir) -> Self {
        Self {
            dir,
            id_maps: IdMaps::default(),
        }
    }
}

struct Comparison<'a> {
    old_maps: Option<&'a IdMaps>,
    new_maps: &'a IdMaps,
    changes: Vec<Change>,
}

fn sorted(dir: &Dir) -> Result<Vec<OsString>, Error> {
    let mut names: Vec<OsString> = dir.list()?.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    Ok(names)
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Equal, or as equal as a file system without nanoseconds leaves them.
fn is_same_time(old: &Stat, new: &Stat) -> bool {
    old.st_mtime == new.st_mtime
        && (old.st_mtime_nsec == new.st_mtime_nsec
            || old.st_mtime_nsec == 0
            || new.st_mtime_nsec == 0)
}

/// Key and value of an extended attribute.
type Attribute = (Vec<u8>, Vec<u8>);

/// The attributes that count as contents.
fn attributes(dir: &Dir, name: &OsStr) -> Result<Vec<Attribute>, Error> {
    let mut keys = dir.attributes(name)?;
    keys.retain(|key| key == b"security.capability" || key.starts_with(b"user."));
    keys.sort_unstable();
    let mut attributes = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(value) = dir.attribute(name, &key)? {
            attributes.push((key, value));
        }
    }
    Ok(attributes)
}

impl Comparison<'_> {
    fn record(&mut self, path: &Path, kind: Kind) {
        self.changes.push(Change {
            path: path.to_path_buf(),
            kind,
        });
    }

    fn directory(&mut self, old: Option<&Dir>, new: &Dir, path: &Path) -> Result<(), Error> {
        let mut old_names = old.map(sorted).transpose()?.unwrap_or_default().into_iter();
        let mut next_old = old_names.next();
        for name in sorted(new)? {
            while let Some(gone) = next_old.take_if(|old| *old < name) {
                self.record(&path.join(gone), Kind::Delete);
                next_old = old_names.next();
            }
            let is_in_old = next_old.take_if(|old| *old == name).is_some();
            if is_in_old {
                next_old = old_names.next();
            }
            self.name(old.filter(|_| is_in_old), new, &name, path)?;
        }
        for gone in next_old.into_iter().chain(old_names) {
            self.record(&path.join(gone), Kind::Delete);
        }
        Ok(())
    }

    fn name(
        &mut self,
        old: Option<&Dir>,
        new: &Dir,
        name: &OsStr,
        parent: &Path,
    ) -> Result<(), Error> {
        let path = parent.join(name);
        let Some(new_stat) = new.stat(name)? else {
            return Ok(());
        };
        let old_stat = old.map(|old| old.stat(name)).transpose()?.flatten();
        let mut is_recorded = true;
        match (old, &old_stat) {
            (Some(old), Some(old_stat)) => {
                let is_same_inode =
                    (old_stat.st_dev, old_stat.st_ino) == (new_stat.st_dev, new_stat.st_ino);
                if is_same_inode {
                    return Ok(());
                }
                is_recorded = self.differs(old, old_stat, new, &new_stat, name)?;
                if is_recorded {
                    self.record(&path, Kind::Modify);
                }
            }
            _ => self.record(&path, Kind::Add),
        }
        if !is_dir(&new_stat) {
            return Ok(());
        }
        let Some(new_below) = new.find_dir(name)? else {
            return Ok(());
        };
        let old_below = match old {
            Some(old) if old_stat.as_ref().is_some_and(is_dir) => old.find_dir(name)?,
            _ => None,
        };
        let before = self.changes.len();
        self.directory(old_below.as_ref(), &new_below, &path)?;
        if !is_recorded && self.changes.len() > before {
            let kind = Kind::Modify;
            self.changes.insert(before, Change { path, kind });
        }
        Ok(())
    }

    fn differs(
        &self,
        old_dir: &Dir,
        old: &Stat,
        new_dir: &Dir,
        new: &Stat,
        name: &OsStr,
    ) -> Result<bool, Error> {
        let owner = |maps: Option<&IdMaps>, stat: &Stat| match maps {
            Some(maps) => maps.to_container(stat.st_uid, stat.st_gid),
            None => Some((stat.st_uid, stat.st_gid)),
        };
        // The size of a directory tells of the file system, not of what is in it.
        if old.st_mode != new.st_mode
            || owner(self.old_maps, old) != owner(Some(self.new_maps), new)
            || old.st_rdev != new.st_rdev
            || !is_same_time(old, new)
            || !is_dir(new) && old.st_size != new.st_size
        {
            return Ok(true);
        }
        let is_link = FileType::from_raw_mode(new.st_mode) == FileType::Symlink;
        if is_link && old_dir.find_link(name)? != new_dir.find_link(name)? {
            return Ok(true);
        }
        Ok(attributes(old_dir, name)? != attributes(new_dir, name)?)
    }
}

/// What the overlay layer `diff` changes in the layers below it, nearest first.
///
/// Where the layer makes a directory opaque that was there before, this is a deletion of it followed by what it holds
/// now, as in Go.
///
/// # Errors
/// When a layer can't be read.
pub fn overlay(diff: &Dir, lowers: &[Dir]) -> Result<Vec<Change>, Error> {
    let lowers = Lowers(lowers);
    let mut walk = OverlayWalk {
        lowers,
        changes: Vec::new(),
        recorded: HashSet::new(),
    };
    walk.directory(diff, Path::new("/"), &lowers.all())?;
    Ok(walk.changes)
}

struct OverlayWalk<'a> {
    lowers: Lowers<'a>,
    changes: Vec<Change>,
    /// Directories that need not be reported for what is in them.
    recorded: HashSet<PathBuf>,
}

impl OverlayWalk<'_> {
    fn directory(&mut self, dir: &Dir, path: &Path, which: &[usize]) -> Result<(), Error> {
        let names = sorted(dir)?;
        let relative = path.strip_prefix("/").unwrap_or(path);
        let found = self.lowers.find(relative, which, &names)?;
        for (name, found) in names.iter().zip(found) {
            let Some(stat) = dir.stat(name)? else {
                continue;
            };
            let below = match is_dir(&stat) {
                true => dir.find_dir(name)?,
                false => None,
            };
            let path = path.join(name);
            let is_deleted = match &below {
                Some(below) => found.stat.is_some() && is_opaque(below)?,
                None => is_whiteout(&stat),
            };
            let kind = match &found.stat {
                _ if is_deleted => Kind::Delete,
                None => Kind::Add,
                Some(_) => Kind::Modify,
            };
            let is_unchanged = kind == Kind::Modify
                && found.stat.as_ref().is_some_and(|old| {
                    is_dir(old)
                        && is_dir(&stat)
                        && old.st_size == stat.st_size
                        && old.st_mode == stat.st_mode
                        && is_same_time(old, &stat)
                });
            if !is_unchanged {
                self.record(&path, kind, below.is_some());
            }
            if let Some(below) = below {
                self.directory(&below, &path, &found.below)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, path: &Path, kind: Kind, is_dir: bool) {
        if is_dir {
            self.recorded.insert(path.to_path_buf());
        }
        if kind != Kind::Modify {
            let mut parents: Vec<&Path> = path
                .ancestors()
                .skip(1)
                .filter(|parent| parent.as_os_str().as_bytes() != b"/")
                .filter(|parent| !self.recorded.contains(*parent))
                .collect();
            parents.reverse();
            for parent in parents {
                self.recorded.insert(parent.to_path_buf());
                self.changes.push(Change {
                    path: parent.to_path_buf(),
                    kind: Kind::Modify,
                });
            }
        }
        self.changes.push(Change {
            path: path.to_path_buf(),
            kind,
        });
    }
}

/// The bytes of all files and links in a tree, each inode counted once.
///
/// # Errors
/// When the tree can't be read.
pub fn size(dir: &Dir) -> Result<u64, Error> {
    let mut seen = HashSet::new();
    size_below(dir, &mut seen)
}

fn size_below(dir: &Dir, seen: &mut HashSet<(u64, u64)>) -> Result<u64, Error> {
    let mut total = 0;
    for entry in dir.list()? {
        if entry.file_type == FileType::Directory {
            if let Some(below) = dir.find_dir(&entry.name)? {
                total += size_below(&below, seen)?;
            }
            continue;
        }
        if let Some(stat) = dir.stat(&entry.name)? {
            total += count(&stat, seen);
        }
    }
    Ok(total)
}

fn count(stat: &Stat, seen: &mut HashSet<(u64, u64)>) -> u64 {
    if stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
        return 0;
    }
    stat.st_size.unsigned_abs()
}

/// The bytes of the regular files among the changed paths of a tree, each inode counted once.
///
/// # Errors
/// When the tree can't be read.
pub fn size_of(dir: &Dir, changes: &[Change]) -> Result<u64, Error> {
    let mut seen = HashSet::new();
    let mut total = 0;
    for change in changes {
        if change.kind == Kind::Delete {
            continue;
        }
        let relative = change.path.strip_prefix("/").unwrap_or(&change.path);
        let (Some(parent), Some(name)) = (relative.parent(), relative.file_name()) else {
            continue;
        };
        let stat = if parent.as_os_str().is_empty() {
            dir.stat(name)?
        } else {
            match dir.find_dir(parent)? {
                Some(parent) => parent.stat(name)?,
                None => None,
            }
        };
        if let Some(stat) = stat.filter(|stat| !is_dir(stat)) {
            total += count(&stat, &mut seen);
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn place(script: &str) -> (tempfile::TempDir, Dir) {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let status = Command::new("sh")
            .current_dir(folder.path())
            .args(["-ec", script])
            .status();
        assert!(status.unwrap().success());
        let dir = Dir::open(folder.path()).unwrap();
        (folder, dir)
    }

    fn text(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn two_trees_are_compared_by_what_a_reader_sees() {
        let (_folder, dir) = place(
            "mkdir -p old/a/deep old/b/gone old/same; echo 1 > old/a/deep/file; echo 2 > old/kept; \
             echo 3 > old/b/gone/x; ln -s one old/link; echo 4 > old/kind; echo 5 > old/owner; \
             find old -exec touch -hd @1000.5 {} +; cp -a old new; \
             echo 11 > new/a/deep/file; rm -r new/b/gone; ln -sfn two new/link; \
             rm new/kind; mkdir new/kind; touch -d @1000.5 new/a new/b; touch new/kind/x; chown 5 new/owner; mkdir new/z; \
             touch new/z/z; touch -hd @1000.5 new/link; touch -d @2000 new/same new/a/deep; \
             ln old/kept new/hard; touch -d @1000 new/kept",
        );
        let (old, new) = (dir.open_dir("old").unwrap(), dir.open_dir("new").unwrap());
        let changes = between(Some(&Tree::new(&old)), &Tree::new(&new)).unwrap();
        let expected = [
            "C /a",
            "C /a/deep",
            "C /a/deep/file",
            "C /b",
            "D /b/gone",
            "A /hard",
            "C /kind",
            "A /kind/x",
            "C /link",
            "C /owner",
            "C /same",
            "A /z",
            "A /z/z",
        ];
        assert_eq!(text(&changes), expected);
        assert_eq!(size_of(&new, &changes).unwrap(), 3 + 2 + 3 + 2);
        assert_eq!(between(None, &Tree::new(&new)).unwrap().len(), 13);
        assert_eq!(
            between(Some(&Tree::new(&new)), &Tree::new(&new)).unwrap(),
            []
        );
    }

    #[test]
    fn attributes_count_as_contents() {
        let (_folder, dir) = place("mkdir old new; touch -d @1 old/f new/f");
        let (old, new) = (dir.open_dir("old").unwrap(), dir.open_dir("new").unwrap());
        let compare = || between(Some(&Tree::new(&old)), &Tree::new(&new)).unwrap();
        assert_eq!(compare(), []);
        new.set_attribute("f", b"user.a", b"1").unwrap();
        assert_eq!(text(&compare()), ["C /f"]);
        old.set_attribute("f", b"user.a", b"1").unwrap();
        assert_eq!(compare(), []);
    }

    #[test]
    fn an_overlay_layer_is_compared_without_a_mount() {
        let (_folder, dir) = place(
            "mkdir -p far/d/e far/gone far/o near upper/d/e upper/new upper/o upper/gone; \
             touch far/d/e/f far/d/untouched far/x upper/d/e/f upper/d/e/g upper/o/n; \
             mknod near/gone c 0 0; mknod upper/x c 0 0; touch -d @5 far/d upper/d far/d/e upper/d/e",
        );
        let upper = dir.open_dir("upper").unwrap();
        let opaque = upper.open_dir("o").unwrap();
        opaque
            .set_attribute("", b"trusted.overlay.opaque", b"y")
            .unwrap();
        let lowers = [dir.open_dir("near").unwrap(), dir.open_dir("far").unwrap()];
        let changes = overlay(&upper, &lowers).unwrap();
        let expected = [
            "C /d/e/f", "C /d", "C /d/e", "A /d/e/g", "A /gone", "A /new", "D /o", "A /o/n", "D /x",
        ];
        assert_eq!(text(&changes), expected);
    }

    #[test]
    fn sizes_count_each_inode_once() {
        let (_folder, dir) = place("mkdir d; echo hello > d/f; ln d/f g; ln -s abc l");
        assert_eq!(size(&dir).unwrap(), 9);
    }
}

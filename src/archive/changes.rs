//! What differs between two trees, or between an overlay layer and the layers below it.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::id_shift::IdMaps;
use super::lowers::{Found, Lowers, is_opaque, is_whiteout};
use crate::sys::{Cursor, Dir, Error};

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
    comparison.trees(old.map(|tree| tree.dir), new.dir)?;
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

/// One name of a directory in two trees.
struct Pair {
    name: OsString,
    is_in_old: bool,
    is_in_new: bool,
}

/// A directory that is being compared.
struct Level {
    names: std::vec::IntoIter<Pair>,
    /// How many changes there were before it.
    before: usize,
    /// Whether the directory itself is among them.
    is_recorded: bool,
    is_in_old: bool,
}

impl Level {
    fn new(old: Option<&Dir>, new: &Dir, before: usize, is_recorded: bool) -> Result<Self, Error> {
        let mut old_names = old.map(sorted).transpose()?.unwrap_or_default().into_iter();
        let mut next_old = old_names.next();
        let mut names = Vec::new();
        let gone = |name| Pair {
            name,
            is_in_old: true,
            is_in_new: false,
        };
        for name in sorted(new)? {
            while let Some(old) = next_old.take_if(|old| *old < name) {
                names.push(gone(old));
                next_old = old_names.next();
            }
            let is_in_old = next_old.take_if(|old| *old == name).is_some();
            if is_in_old {
                next_old = old_names.next();
            }
            names.push(Pair {
                name,
                is_in_old,
                is_in_new: true,
            });
        }
        names.extend(next_old.into_iter().chain(old_names).map(gone));
        Ok(Self {
            names: names.into_iter(),
            before,
            is_recorded,
            is_in_old: old.is_some(),
        })
    }
}

/// What comparing a directory said about itself.
struct Outcome {
    is_recorded: bool,
    is_old_dir: bool,
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

    /// Walks both trees in step.
    fn trees(&mut self, old: Option<&Dir>, new: &Dir) -> Result<(), Error> {
        let mut cursors = (old.map(Cursor::new), Cursor::new(new));
        let mut levels = vec![Level::new(old, new, 0, true)?];
        while let Some(level) = levels.last_mut() {
            let Some(pair) = level.names.next() else {
                self.end(level, cursors.1.path());
                if level.is_in_old
                    && let Some(old) = &mut cursors.0
                {
                    old.leave();
                }
                cursors.1.leave();
                levels.pop();
                continue;
            };
            let path = Path::new("/").join(cursors.1.path()).join(&pair.name);
            if !pair.is_in_new {
                self.record(&path, Kind::Delete);
                continue;
            }
            let Some(new) = cursors.1.dir()? else {
                continue;
            };
            let old = match &mut cursors.0 {
                Some(old) if pair.is_in_old => old.dir()?,
                _ => None,
            };
            let Some(outcome) = self.name(old, new, &pair.name, &path)? else {
                continue;
            };
            if !cursors.1.enter(&pair.name)? {
                continue;
            }
            let is_in_old = match &mut cursors.0 {
                Some(old) if outcome.is_old_dir => old.enter(&pair.name)?,
                _ => false,
            };
            let old = match &mut cursors.0 {
                Some(old) if is_in_old => old.dir()?,
                _ => None,
            };
            let Some(new) = cursors.1.dir()? else {
                continue;
            };
            let before = self.changes.len();
            let mut below = Level::new(old, new, before, outcome.is_recorded)?;
            below.is_in_old = is_in_old;
            levels.push(below);
        }
        Ok(())
    }

    /// Puts a directory in front of the changes in it, unless it is there by itself.
    fn end(&mut self, level: &Level, relative: &Path) {
        if !level.is_recorded && self.changes.len() > level.before {
            let path = Path::new("/").join(relative);
            let kind = Kind::Modify;
            self.changes.insert(level.before, Change { path, kind });
        }
    }

    /// Compares one name that the new tree has; `None` when there is nothing below to compare.
    fn name(
        &mut self,
        old: Option<&Dir>,
        new: &Dir,
        name: &OsStr,
        path: &Path,
    ) -> Result<Option<Outcome>, Error> {
        let Some(new_stat) = new.stat(name)? else {
            return Ok(None);
        };
        let mut outcome = Outcome {
            is_recorded: true,
            is_old_dir: false,
        };
        let old = match old {
            Some(old) => old.stat(name)?.map(|stat| (old, stat)),
            None => None,
        };
        match old {
            Some((old, old_stat)) => {
                let inode = |stat: &Stat| (stat.st_dev, stat.st_ino);
                if inode(&old_stat) == inode(&new_stat) {
                    return Ok(None);
                }
                outcome.is_old_dir = is_dir(&old_stat);
                outcome.is_recorded = self.differs(old, &old_stat, new, &new_stat, name)?;
                if outcome.is_recorded {
                    self.record(path, Kind::Modify);
                }
            }
            None => self.record(path, Kind::Add),
        }
        Ok(Some(outcome).filter(|_| is_dir(&new_stat)))
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
    let mut walk = OverlayWalk {
        lowers: Lowers(lowers),
        changes: Vec::new(),
        // The root itself is never reported.
        recorded: vec![true],
        settled: 1,
    };
    walk.tree(diff)?;
    Ok(walk.changes)
}

struct OverlayWalk<'a> {
    lowers: Lowers<'a>,
    changes: Vec<Change>,
    /// Which of the directories that it is in are reported, from the root on.
    recorded: Vec<bool>,
    /// How many of the first of them are.
    settled: usize,
}

impl OverlayWalk<'_> {
    fn tree(&mut self, diff: &Dir) -> Result<(), Error> {
        let mut cursor = Cursor::new(diff);
        let mut levels = vec![self.level(diff, Path::new(""), &self.lowers.all())?];
        while let Some(level) = levels.last_mut() {
            let Some((name, found)) = level.next() else {
                levels.pop();
                self.recorded.pop();
                self.settled = self.settled.min(self.recorded.len());
                cursor.leave();
                continue;
            };
            let path = Path::new("/").join(cursor.path()).join(&name);
            let Some(stat) = cursor
                .dir()?
                .map(|dir| dir.stat(&name))
                .transpose()?
                .flatten()
            else {
                continue;
            };
            if !is_dir(&stat) {
                self.compare(&path, &stat, &found, is_whiteout(&stat));
            } else if cursor.enter(&name)? {
                let relative = cursor.path().to_path_buf();
                let Some(below) = cursor.dir()? else {
                    continue;
                };
                let is_deleted = found.stat.is_some() && is_opaque(below)?;
                let level = self.level(below, &relative, &found.below)?;
                let is_recorded = self.compare(&path, &stat, &found, is_deleted);
                self.recorded.push(is_recorded);
                levels.push(level);
            }
        }
        Ok(())
    }

    fn level(
        &self,
        dir: &Dir,
        path: &Path,
        which: &[usize],
    ) -> Result<std::vec::IntoIter<(OsString, Found)>, Error> {
        let names = sorted(dir)?;
        let found = self.lowers.find(path, which, &names)?;
        let level: Vec<_> = names.into_iter().zip(found).collect();
        Ok(level.into_iter())
    }

    /// Records how a path differs, if it does.
    fn compare(&mut self, path: &Path, stat: &Stat, found: &Found, is_deleted: bool) -> bool {
        let kind = match &found.stat {
            _ if is_deleted => Kind::Delete,
            None => Kind::Add,
            Some(_) => Kind::Modify,
        };
        // A directory is in the layer also when only something in it has changed.
        let is_unchanged = kind == Kind::Modify
            && found.stat.as_ref().is_some_and(|old| {
                is_dir(old)
                    && is_dir(stat)
                    && old.st_size == stat.st_size
                    && old.st_mode == stat.st_mode
                    && is_same_time(old, stat)
            });
        if !is_unchanged {
            self.record(path, kind);
        }
        !is_unchanged
    }

    fn record(&mut self, path: &Path, kind: Kind) {
        if kind != Kind::Modify && self.settled < self.recorded.len() {
            let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
            parents.reverse();
            for (level, parent) in parents.into_iter().enumerate().skip(self.settled) {
                if !std::mem::replace(&mut self.recorded[level], true) {
                    self.changes.push(Change {
                        path: parent.to_path_buf(),
                        kind: Kind::Modify,
                    });
                }
            }
            self.settled = self.recorded.len();
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
    let mut total = 0;
    let mut ahead = vec![PathBuf::new()];
    while let Some(path) = ahead.pop() {
        let opened;
        let here = if path.as_os_str().is_empty() {
            dir
        } else {
            let Some(found) = dir.find_dir(&path)? else {
                continue;
            };
            opened = found;
            &opened
        };
        for entry in here.list()? {
            if entry.file_type == FileType::Directory {
                ahead.push(path.join(&entry.name));
            } else if let Some(stat) = here.stat(&entry.name)? {
                total += count(&stat, &mut seen);
            }
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
        let folder = tempfile::tempdir().unwrap();
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

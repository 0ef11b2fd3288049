//! Two trees, compared as they are.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rustix::fs::{FileType, Stat};

use super::{Change, Kind, is_dir, is_same_time, sorted};
use crate::archive::id_shift::IdMaps;
use crate::sys::{Cursor, Dir, Error};

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

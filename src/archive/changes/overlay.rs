//! An overlay layer and those below it, compared without a mount.

use std::ffi::OsString;
use std::path::Path;

use rustix::fs::Stat;

use super::{Change, Kind, is_dir, is_same_time, sorted};
use crate::archive::lowers::{Found, Lowers, is_opaque, is_whiteout};
use crate::sys::{Cursor, Dir, Error};

/// What the overlay layer `diff` changes in the layers below it, nearest first.
///
/// Where the layer makes a directory opaque that was there before, this is a deletion of it followed by what it holds
/// now, as in Go.
///
/// # Errors
/// When a layer can't be read.
pub fn overlay(diff: &Dir, lowers: &[Dir]) -> Result<Vec<Change>, Error> {
    let mut walk = OverlayWalk {
        lowers: Lowers {
            dirs: lowers,
            has_files: false,
        },
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

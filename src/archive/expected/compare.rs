//! How a tree differs from what it must be.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Stat};

use super::{Attributes, Deletions, Expected, Holds, What};
use crate::archive::id_shift::IdMaps;
use crate::archive::lowers::{Lowers, is_opaque, is_opaque_to_programs, is_whiteout};
use crate::archive::names;
use crate::archive::override_stat;
use crate::sys::{Cursor, Dir, Error};

/// The tree that is compared, and what belongs to it.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// Its root.
    pub root: &'a Dir,
    /// Where it has the owners of the headers.
    pub id_maps: &'a IdMaps,
    /// What lies below it, nearest first: what it should hide.
    pub lowers: &'a [Dir],
}

impl Expected {
    /// How a tree differs, a line each: `-/name` is missing, `+/name` is too many or shows through from below,
    /// `/name(mode:0644￫0600)` is another.
    ///
    /// # Errors
    /// When the tree, or what lies below it, can't be read.
    pub fn compare(&self, tree: &Found<'_>, holds: Holds) -> Result<Vec<String>, Error> {
        let root = tree.root;
        let mut lines = Vec::new();
        let mut left: BTreeMap<&[u8], &Attributes> = self
            .names
            .iter()
            .map(|(name, attributes)| (name.as_slice(), attributes))
            .collect();
        let mut cursor = Cursor::new(root);
        let hides = self.check_opaque(tree, holds, b"", root, &mut lines)?;
        let mut levels = vec![(names_in(root)?, hides)];
        while let Some((level, hides)) = levels.last_mut() {
            let is_hidden = *hides;
            let next = level.next();
            let (Some(last), Some(dir)) = (next, cursor.dir()?) else {
                levels.pop();
                cursor.leave();
                continue;
            };
            let Some(mut stat) = dir.stat(&last)? else {
                continue;
            };
            if holds.overrides {
                stat = override_stat::meant(dir, &last, stat)?;
            }
            let name = names::join(cursor.path().as_os_str().as_bytes(), last.as_bytes());
            if holds.deletions == Deletions::MarksOrFiles
                && let Some(deleted) = last.as_bytes().strip_prefix(b".wh.")
                && self.takes_file(&name, deleted, &mut left)
            {
                continue;
            }
            let Some(expected) = left.remove(name.as_slice()) else {
                lines.push(format!("+{}", shown(&name)));
                continue;
            };
            let changes = expected.compare(&stat, tree.id_maps);
            if !changes.is_empty() {
                lines.push(format!("{}({})", shown(&name), changes.join(",")));
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                && cursor.enter(&last)?
            {
                let (below, hides) = match cursor.dir()? {
                    Some(dir) if is_hidden => (names_in(dir)?, true),
                    Some(dir) => {
                        let hides = self.check_opaque(tree, holds, &name, dir, &mut lines)?;
                        (names_in(dir)?, hides)
                    }
                    None => (Vec::new().into_iter(), true),
                };
                levels.push((below, hides));
            }
        }
        let mut missing: Vec<&[u8]> = Vec::new();
        for name in left.into_keys() {
            let is_told = |above: &&[u8]| {
                name.strip_prefix(*above)
                    .is_some_and(|rest| rest.starts_with(b"/"))
            };
            if missing.last().is_some_and(is_told) {
                continue;
            }
            lines.push(format!("-{}", shown(name)));
            missing.push(name);
        }
        Ok(lines)
    }

    /// True for the file of a deletion that the archive has; what is to be there for it is no longer left.
    fn takes_file(
        &self,
        name: &[u8],
        deleted: &[u8],
        left: &mut BTreeMap<&[u8], &Attributes>,
    ) -> bool {
        let parent = names::split(name).0;
        if deleted == b".wh..opq" {
            return self.opaque.contains(parent);
        }
        // Other marks that begin so are old tools' own.
        if deleted.starts_with(b".wh.") {
            return true;
        }
        let hidden = names::join(parent, deleted);
        let is_mark = left
            .get(hidden.as_slice())
            .is_some_and(|found| found.what == What::Whiteout);
        if is_mark {
            left.remove(hidden.as_slice());
        }
        is_mark || self.deleted_below.contains(&hidden)
    }

    /// Notes what shows through a directory that should be opaque and is not. True when it is.
    fn check_opaque(
        &self,
        tree: &Found<'_>,
        holds: Holds,
        name: &[u8],
        dir: &Dir,
        lines: &mut Vec<String>,
    ) -> Result<bool, Error> {
        let has_files = match holds.deletions {
            Deletions::Applied => return Ok(false),
            Deletions::Marks => false,
            Deletions::MarksOrFiles => true,
        };
        let is_opaque = match has_files {
            true => is_opaque_to_programs(dir)?,
            false => is_opaque(dir)?,
        };
        if !is_opaque && self.opaque.contains(name) {
            let dirs = tree.lowers;
            let lowers = Lowers { dirs, has_files };
            for below in lowers.names(Path::new(OsStr::from_bytes(name)))? {
                let shows = names::join(name, below.as_bytes());
                if !self.names.contains_key(&shows) {
                    lines.push(format!("+{}", shown(&shows)));
                }
            }
        }
        Ok(is_opaque)
    }
}

fn names_in(dir: &Dir) -> Result<std::vec::IntoIter<std::ffi::OsString>, Error> {
    let mut names: Vec<_> = dir.list()?.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    Ok(names.into_iter())
}

pub(super) fn shown(name: &[u8]) -> String {
    format!("/{}", OsStr::from_bytes(name).display())
}

impl Attributes {
    /// What differs, in the peer's words.
    fn compare(&self, stat: &Stat, id_maps: &IdMaps) -> Vec<String> {
        let mut changes = Vec::new();
        let found = FileType::from_raw_mode(stat.st_mode);
        let expected = match self.what {
            What::Whiteout if is_whiteout(stat) => return changes,
            What::Whiteout => "whiteout",
            What::Is(kind) if kind == found => "",
            What::Is(kind) => word(kind),
            What::Anything => "",
        };
        if !expected.is_empty() {
            changes.push(format!("filetype:{expected}￫{}", word(found)));
            return changes;
        }
        let user = inside(
            self.uid,
            stat.st_uid,
            |id| id_maps.user_to_host(id),
            |id| id_maps.user_to_container(id),
        );
        let group = inside(
            self.gid,
            stat.st_gid,
            |id| id_maps.group_to_host(id),
            |id| id_maps.group_to_container(id),
        );
        let unmapped = [user, group].into_iter().flatten().find_map(Result::err);
        if let Some(id) = unmapped {
            changes.push(format!("host ID {id} cannot be mapped to a container ID"));
        }
        let mut compare = |what: &str, old: Option<i64>, new: i64, show: fn(i64) -> String| {
            if let Some(old) = old
                && old != new
            {
                changes.push(format!("{what}:{}￫{}", show(old), show(new)));
            }
        };
        let plain = |number: i64| number.to_string();
        for (what, old, new) in [("uid", self.uid, user), ("gid", self.gid, group)] {
            if let Some(Ok(new)) = new {
                compare(what, old, new.into(), plain);
            }
        }
        let size = self.size.and_then(|size| i64::try_from(size).ok());
        compare("size", size, stat.st_size, plain);
        let mode = i64::from(stat.st_mode & 0o7777);
        compare("mode", self.mode.map(i64::from), mode, |mode| {
            format!("{mode:04o}")
        });
        compare("mtime", self.modified, stat.st_mtime, |time| {
            format!("{time:#x}")
        });
        changes
    }
}

/// What the owner `found` is in the container, or itself when it is nobody there. `None` when it is not to be compared: an
/// archive's owner that has no place in the maps became whoever could be had.
fn inside(
    expected: Option<i64>,
    found: u32,
    to_host: impl Fn(u32) -> Option<u32>,
    to_container: impl Fn(u32) -> Option<u32>,
) -> Option<Result<u32, u32>> {
    let expected = u32::try_from(expected?).ok()?;
    to_host(expected)?;
    Some(to_container(found).ok_or(found))
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "regular",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "unknown",
    }
}

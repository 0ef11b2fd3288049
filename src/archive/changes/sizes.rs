//! How many bytes a tree, or what changed in it, amounts to.

use std::collections::HashSet;
use std::path::PathBuf;

use rustix::fs::{FileType, Stat};

use super::{Change, Kind, is_dir};
use crate::sys::{Dir, Error};

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

//! What peers that died have left where they make layers ready and where they put deleted ones: folders whose owner holds a
//! lock beside them, or in them, for as long as it lives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::store::Time;
use crate::sys::record_lock::RecordLock;
use crate::sys::{Dir, Error};

/// The lock in a directory of a pull by parts.
const STAGING_LOCK: &str = "staging.lock";

/// Peers make a lock, or the directory it is for, before they hold it: what has no holder is theirs for so many seconds.
const YOUNG: i64 = 10;

fn is_young(folder: &Dir, name: &str) -> Result<bool, Error> {
    let stat = folder.stat(name)?;
    Ok(stat.is_some_and(|stat| Time::now().seconds() - stat.st_ctime < YOUNG))
}

/// Removes each `temp-dir-N` of `folder` whose owner no longer holds `lock-N`, and that file. Returns what was removed.
///
/// # Errors
/// When something can't be read or removed; the next time it is tried again.
pub(in crate::store) fn remove_temporary(folder: &Dir) -> Result<Vec<PathBuf>, Error> {
    let mut found = BTreeMap::<String, bool>::new();
    for entry in folder.list()? {
        let Some(name) = entry.name.to_str() else {
            continue;
        };
        if let Some(number) = name.strip_prefix("temp-dir-") {
            found.insert(number.to_owned(), true);
        } else if let Some(number) = name.strip_prefix("lock-") {
            found.entry(number.to_owned()).or_default();
        }
    }
    let mut removed = Vec::new();
    for (number, has_dir) in found {
        let (dir, lock) = (format!("temp-dir-{number}"), format!("lock-{number}"));
        if !has_dir && is_young(folder, &lock)? {
            continue;
        }
        let Some(held) = RecordLock::of_the_dead(folder, &lock)? else {
            continue;
        };
        folder.remove_tree(&dir)?;
        folder.remove_file_if_found(&lock)?;
        drop(held);
        removed.push(folder.path().join(if has_dir { dir } else { lock }));
    }
    Ok(removed)
}

/// Removes each directory of `folder` whose owner no longer holds the lock in it. Returns what was removed.
///
/// # Errors
/// As [`remove_temporary`].
pub(in crate::store) fn remove_staged(folder: &Dir) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    for entry in folder.list()? {
        let Some(name) = entry.name.to_str() else {
            continue;
        };
        let Some(dir) = folder.find_dir(name)? else {
            continue;
        };
        if dir.stat(STAGING_LOCK)?.is_none() && is_young(folder, name)? {
            continue;
        }
        let Some(held) = RecordLock::of_the_dead(&dir, STAGING_LOCK)? else {
            continue;
        };
        folder.remove_tree(name)?;
        drop(held);
        removed.push(folder.path().join(name));
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Dir) -> Vec<String> {
        let mut names: Vec<String> = dir
            .list()
            .unwrap()
            .into_iter()
            .map(|entry| entry.name.into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn hold(dir: &Dir, name: &str) -> RecordLock {
        let file = dir.ensure_file(name, 0o600).unwrap();
        RecordLock::try_exclusive(file).unwrap().unwrap()
    }

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        for number in [1, 2, 3] {
            dir.create_dir(format!("temp-dir-{number}"), 0o700).unwrap();
            dir.write_new(format!("temp-dir-{number}/0-layer"), b"x", 0o600)
                .unwrap();
        }
        dir.write_new("lock-1", b"", 0o600).unwrap();
        dir.write_new("lock-4", b"", 0o600).unwrap();
        let held = hold(&dir, "lock-2");
        assert_eq!(remove_temporary(&dir).unwrap().len(), 2);
        // Whoever made the last one a moment ago may be about to lock it.
        assert_eq!(names(&dir), ["lock-2", "lock-4", "temp-dir-2"]);
        drop(held);
        assert_eq!(remove_temporary(&dir).unwrap().len(), 1);
        assert_eq!(names(&dir), ["lock-4"]);
    }

    #[test]
    fn staged_directories_are_removed_when_their_owner_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        for name in ["alive", "dead", "new"] {
            dir.create_dir(name, 0o700).unwrap();
        }
        dir.write_new("dead/staging.lock", b"", 0o600).unwrap();
        let _held = hold(&dir, "alive/staging.lock");
        assert_eq!(remove_staged(&dir).unwrap(), [dir.path().join("dead")]);
        assert_eq!(names(&dir), ["alive", "new"]);
    }
}

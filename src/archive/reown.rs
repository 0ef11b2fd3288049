//! Copying a tree for other owners, by several threads.
//!
//! Each folder is one piece of work. Files with several names wait until all folders are there, and the folders
//! themselves come last, deepest first, as what is made in a folder changes its time.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, Stat};

use super::id_shift::Shift;
use super::override_stat;
use crate::sys::tree::{self, Copied};
use crate::sys::{Dir, Error};

/// More threads than this wait for the disk more than for each other.
const MAX_THREADS: usize = 8;

/// Copies everything in `from` into the empty directory `to` and moves the owners: contents, modes, times, extended
/// attributes, hard links, links and devices are kept, and capabilities go to the new root. Of `to` itself mode, owner
/// and attributes are set. With a `force_mask`, all of it has that mode and our owner, and what it is meant to be is in an
/// attribute ([`override_stat`]).
///
/// # Errors
/// When something can't be read or written; a part is then there.
pub fn copy(from: &Dir, to: &Dir, shift: &Shift, force_mask: Option<u32>) -> Result<Copied, Error> {
    let work = Work {
        from,
        to,
        shift,
        force_mask,
        state: Mutex::new(State {
            folders: vec![PathBuf::new()],
            ..State::default()
        }),
        progress: Condvar::new(),
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 1..threads.min(MAX_THREADS) {
            scope.spawn(|| work.help());
        }
        work.help();
    });
    work.finish()
}

/// A tree that is being copied.
struct Work<'a> {
    from: &'a Dir,
    to: &'a Dir,
    shift: &'a Shift,
    force_mask: Option<u32>,
    state: Mutex<State>,
    progress: Condvar,
}

#[derive(Default)]
struct State {
    /// Folders that are there and still empty; the one found last is taken first.
    folders: Vec<PathBuf>,
    /// Threads that may find more.
    busy: usize,
    /// Folders whose files are there.
    filled: Vec<PathBuf>,
    /// Every name of the files that have several, by inode.
    linked: BTreeMap<u64, Vec<PathBuf>>,
    copied: Copied,
    error: Option<Error>,
}

/// What one folder holds.
#[derive(Default)]
struct Folder {
    folders: Vec<PathBuf>,
    linked: Vec<(u64, PathBuf)>,
    copied: Copied,
}

impl Work<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies folders until there are none left.
    fn help(&self) {
        let mut state = self.lock();
        loop {
            if state.error.is_some() {
                return;
            }
            let Some(path) = state.folders.pop() else {
                if state.busy == 0 {
                    return;
                }
                state = self
                    .progress
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy += 1;
            drop(state);
            let result = self.folder(&path);
            state = self.lock();
            state.busy -= 1;
            match result {
                Ok(found) => {
                    state.folders.extend(found.folders);
                    for (inode, path) in found.linked {
                        state.linked.entry(inode).or_default().push(path);
                    }
                    state.copied.shared += found.copied.shared;
                    state.copied.copied += found.copied.copied;
                    state.filled.push(path);
                }
                Err(error) => state.error = Some(error),
            }
            self.progress.notify_all();
        }
    }

    fn folder(&self, path: &Path) -> Result<Folder, Error> {
        let mut found = Folder::default();
        let (from, to) = (below(self.from, path)?, below(self.to, path)?);
        for entry in from.list()? {
            let name = entry.name.as_os_str();
            let Some(stat) = from.stat(name)? else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                to.create_dir(name, 0o700)?;
                found.folders.push(path.join(name));
            } else if stat.st_nlink > 1 {
                found.linked.push((stat.st_ino, path.join(name)));
            } else {
                self.file(&from, &to, name, &stat, &mut found.copied)?;
            }
        }
        Ok(found)
    }

    /// Copies one name that is no folder.
    fn file(
        &self,
        from: &Dir,
        to: &Dir,
        name: &OsStr,
        stat: &Stat,
        copied: &mut Copied,
    ) -> Result<(), Error> {
        let stands_in = matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo
        );
        match self.force_mask {
            Some(mask) if stands_in => drop(to.create_file(name, mask)?),
            _ => tree::copy_entry(from, to, name, stat, copied)?,
        }
        self.describe(from, to, name, stat)
    }

    fn describe(&self, from: &Dir, to: &Dir, name: &OsStr, stat: &Stat) -> Result<(), Error> {
        if let Some(mask) = self.force_mask {
            return override_stat::describe(from, to, name, stat, (mask, self.shift), |_| false);
        }
        let (user, group) = (self.shift.user(stat.st_uid), self.shift.group(stat.st_gid));
        to.set_owner(name, user, group)?;
        tree::describe(from, to, name, stat, |key, value| {
            Some(self.shift.attribute(key, value))
        })
    }

    fn finish(self) -> Result<Copied, Error> {
        let state = self.state.into_inner();
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let work = Work {
            state: Mutex::default(),
            progress: Condvar::new(),
            ..self
        };
        for names in std::mem::take(&mut state.linked).into_values() {
            work.links(&names, &mut state.copied)?;
        }
        let mut folders = std::mem::take(&mut state.filled);
        folders.sort_unstable_by_key(|path| std::cmp::Reverse(path.components().count()));
        for path in folders {
            let (from, to) = (below(work.from, &path)?, below(work.to, &path)?);
            work.describe(&from, &to, OsStr::new(""), &from.stat_self()?)?;
        }
        Ok(state.copied)
    }

    /// Copies a file under its first name, and gives the copy the others.
    fn links(&self, names: &[PathBuf], copied: &mut Copied) -> Result<(), Error> {
        let mut first: Option<&Path> = None;
        for path in names {
            let folder = path.parent().unwrap_or(Path::new(""));
            let name = path.file_name().unwrap_or_default();
            let to = below(self.to, folder)?;
            if let Some(first) = first {
                to.hard_link(name, self.to, first)?;
                continue;
            }
            let from = below(self.from, folder)?;
            let Some(stat) = from.stat(name)? else {
                continue;
            };
            self.file(&from, &to, name, &stat, copied)?;
            first = Some(path);
        }
        Ok(())
    }
}

fn below(dir: &Dir, path: &Path) -> Result<Dir, Error> {
    if path.as_os_str().is_empty() {
        dir.try_clone()
    } else {
        dir.open_dir(path)
    }
}

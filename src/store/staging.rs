//! Where layers are made ready and where deleted ones go: outside the driver home, on its file system.
//!
//! ```text
//! <graph root>/strata/staging/<area>.lock   held while the process lives
//! <graph root>/strata/staging/<area>.<n>    a layer in the making, or a deleted one
//! ```
//!
//! An area belongs to one opened store. Its lock file appears locked (an unnamed file is locked, then
//! linked), so an area whose lock can be had is a dead process's, and is removed.
//!
//! On a disk that has no room even for an empty file, a process deletes in the area [`RESERVE`], whose
//! lock file is made when the store is opened and stays.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, Weak};

use crate::sys::dir::random_u64;
use crate::sys::record_lock::RecordLock;
use crate::sys::{Dir, Error};

const RESERVE: &str = "reserve";

/// The staging folder of a graph root; the area is made when first needed.
#[derive(Debug)]
pub struct Staging {
    folder: Arc<Dir>,
    area: Mutex<Areas>,
    /// The graph root can't be written.
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Areas {
    own: Option<Arc<Area>>,
    /// Given back as soon as its entries are gone.
    reserve: Weak<Area>,
}

/// The names of this process.
#[derive(Debug)]
struct Area {
    folder: Arc<Dir>,
    name: String,
    next: AtomicU64,
    /// Held until the process ends.
    _lock: RecordLock,
}

impl Drop for Area {
    fn drop(&mut self) {
        if self.name == RESERVE {
            return;
        }
        // Entries keep the area alive, so there are none unless a removal failed: the next process that
        // opens the store tries again.
        if let Err(error) = self.folder.remove_file(lock_name(&self.name)) {
            tracing::debug!(%error, "the staging area is left to the next process");
        }
    }
}

fn lock_name(area: &str) -> String {
    format!("{area}.lock")
}

/// A name in the area, with nothing under it yet or with something that is to be removed.
///
/// Dropping it removes what is there.
#[derive(Debug)]
pub struct Entry {
    area: Arc<Area>,
    name: String,
}

impl Staging {
    /// The staging area below `folder` (`<graph root>/strata/staging`).
    pub fn new(folder: Dir) -> Self {
        Self {
            folder: Arc::new(folder),
            area: Mutex::default(),
            is_closed: false,
        }
    }

    /// The staging area of a graph root that can't be written: there is none.
    pub fn closed(graph: Dir) -> Self {
        Self {
            is_closed: true,
            ..Self::new(graph)
        }
    }

    /// Sets aside what a deletion on a full disk needs; what can't be had is only logged.
    pub fn reserve(&self) {
        if let Err(error) = self.folder.ensure_file(lock_name(RESERVE), 0o600) {
            tracing::debug!(%error, "no staging area is set aside for a full disk");
        }
    }

    fn area(&self) -> Result<Arc<Area>, Error> {
        if self.is_closed {
            let path = self.folder.path();
            return Err(Error::new(
                "stage a layer in",
                path,
                rustix::io::Errno::ROFS,
            ));
        }
        let mut areas = self.area.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(area) = areas.own.clone().or_else(|| areas.reserve.upgrade()) {
            return Ok(area);
        }
        // What a dead process left and can't be removed yet must not stop the living.
        if let Err(error) = self.remove_leftovers() {
            tracing::warn!(%error, "what a dead process left in the staging area stays for now");
        }
        match self.new_area() {
            Err(error) if error.is_no_space() => {
                let lock = self.dead_owner(RESERVE, &[])?.ok_or(error)?;
                let reserve = Arc::new(self.area_of(RESERVE.to_owned(), lock));
                areas.reserve = Arc::downgrade(&reserve);
                Ok(reserve)
            }
            result => Ok(Arc::clone(areas.own.insert(Arc::new(result?)))),
        }
    }

    fn area_of(&self, name: String, lock: RecordLock) -> Area {
        Area {
            folder: Arc::clone(&self.folder),
            name,
            next: AtomicU64::new(0),
            _lock: lock,
        }
    }

    fn new_area(&self) -> Result<Area, Error> {
        let name = format!("{:016x}", random_u64());
        let file = self.folder.create_unnamed_file(0o600)?;
        let lock = match RecordLock::try_exclusive(file)? {
            Ok(lock) => lock,
            Err(file) => {
                let busy = std::io::Error::from_raw_os_error(libc::EAGAIN);
                return Err(Error::new("lock", file.path(), busy));
            }
        };
        self.folder.link_file(lock.file(), lock_name(&name))?;
        Ok(self.area_of(name, lock))
    }

    /// A new name. Nothing is created.
    ///
    /// # Errors
    /// When the area can't be made.
    pub fn entry(&self) -> Result<Entry, Error> {
        let area = self.area()?;
        let number = area.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{number}", area.name);
        Ok(Entry { area, name })
    }

    /// Removes the areas of processes that are gone; those in use are left alone.
    ///
    /// # Errors
    /// When the folder can't be read or something can't be removed.
    pub fn remove_leftovers(&self) -> Result<(), Error> {
        let mut areas = BTreeMap::<String, Vec<String>>::new();
        for entry in self.folder.list()? {
            let Some(name) = entry.name.to_str() else {
                continue;
            };
            let (area, rest) = name.split_once('.').unwrap_or((name, ""));
            let names = areas.entry(area.to_owned()).or_default();
            if rest != "lock" {
                names.push(name.to_owned());
            }
        }
        for (area, names) in areas {
            if area == RESERVE && names.is_empty() {
                continue;
            }
            let Some(lock) = self.dead_owner(&area, &names)? else {
                continue;
            };
            for name in &names {
                self.folder.remove_tree(name)?;
            }
            if area != RESERVE {
                self.folder.remove_file_if_found(lock_name(&area))?;
            }
            drop(lock);
        }
        Ok(())
    }

    /// True for the name of this process's own area.
    pub fn is_own(&self, area: &str) -> bool {
        let areas = self.area.lock().unwrap_or_else(PoisonError::into_inner);
        areas.own.as_ref().is_some_and(|own| own.name == area)
    }

    /// True while the process lives whose area has this name.
    ///
    /// # Errors
    /// When that can't be told.
    pub fn is_alive(&self, area: &str) -> Result<bool, Error> {
        let lock_name = lock_name(area);
        if self.folder.stat(&lock_name)?.is_none() {
            return Ok(false);
        }
        let file = self.folder.ensure_file(&lock_name, 0o600)?;
        Ok(RecordLock::try_exclusive(file)?.is_err())
    }

    /// Gives the area back now: for a process that ends without dropping its store.
    pub fn leave(&self) {
        let own = self
            .area
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .own
            .take();
        drop(own);
    }

    /// The lock of an area whose owner is gone.
    ///
    /// An area without a lock file is being removed, or its owner could not remove everything: it is
    /// locked by making the lock file anew.
    fn dead_owner(&self, area: &str, names: &[String]) -> Result<Option<RecordLock>, Error> {
        let lock_name = lock_name(area);
        if self.folder.stat(&lock_name)?.is_none() {
            let mut is_found = false;
            for name in names {
                is_found |= self.folder.stat(name)?.is_some();
            }
            if !is_found {
                return Ok(None);
            }
        }
        RecordLock::of_the_dead(&self.folder, &lock_name)
    }
}

impl Entry {
    /// The folder that the name is in.
    pub fn folder(&self) -> &Dir {
        &self.area.folder
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the area.
    pub fn area(&self) -> &str {
        &self.area.name
    }

    /// Makes it a directory.
    ///
    /// # Errors
    /// When it exists, or can't be made.
    pub fn create_dir(&self) -> Result<Dir, Error> {
        self.area.folder.create_dir(&self.name, 0o700)?;
        self.area.folder.open_dir(&self.name)
    }

    /// Moves what is at `from` in `dir` here, to be removed; false when nothing is there.
    ///
    /// # Errors
    /// When it can't be moved; it is then where it was.
    pub fn take_in(&self, dir: &Dir, from: impl AsRef<Path>) -> Result<bool, Error> {
        match dir.rename(from, &self.area.folder, &self.name) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Err(error) = self.area.folder.remove_tree(&self.name) {
            // The area keeps it; the next process that opens the store tries again.
            tracing::warn!(error = %Chain(&error), "something deleted could not be removed yet");
        }
    }
}

/// An error with its sources, for the log.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(formatter, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Dir) -> usize {
        dir.list().unwrap().len()
    }

    #[test]
    fn a_dropped_entry_and_a_dropped_store_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let staging = Staging::new(dir.try_clone().unwrap());
        let entry = staging.entry().unwrap();
        entry
            .create_dir()
            .unwrap()
            .write_new("file", b"x", 0o600)
            .unwrap();
        assert_eq!(names(&dir), 2);
        drop(entry);
        drop(staging);
        assert_eq!(names(&dir), 0);
    }

    #[test]
    fn the_reserve_is_emptied_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let staging = Staging::new(dir.try_clone().unwrap());
        staging.reserve();
        dir.create_dir("reserve.0", 0o700).unwrap();
        let held = staging.dead_owner(RESERVE, &[]).unwrap();
        assert!(held.is_some());
        staging.remove_leftovers().unwrap();
        assert_eq!(names(&dir), 2);
        drop(held);
        staging.remove_leftovers().unwrap();
        assert_eq!(names(&dir), 1);
    }

    #[test]
    fn only_the_areas_of_the_dead_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let alive = Staging::new(dir.try_clone().unwrap());
        let entry = alive.entry().unwrap();
        entry.create_dir().unwrap();
        dir.create_dir("dead", 0o700).unwrap();
        dir.write_new("dead/file", b"x", 0o600).unwrap();
        dir.write_new("dead.lock", b"", 0o600).unwrap();
        dir.create_dir("gone.0", 0o700).unwrap();
        dir.write_new("gone.lock", b"", 0o600).unwrap();
        dir.create_dir("unlocked.1", 0o700).unwrap();
        Staging::new(dir.try_clone().unwrap())
            .remove_leftovers()
            .unwrap();
        assert_eq!(names(&dir), 2);
        assert!(entry.folder().find_dir(entry.name()).unwrap().is_some());
    }
}

//! [`TableFile`]: a table, the JSON files that hold it, the lock that guards it, and when to reload.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::error::Error;
use super::last_write::LastWrite;
use super::row::Record;
use super::spare::{self, Staged};
use super::table::Table;
use crate::sys::record_lock::{Access, RecordLock};
use crate::sys::{Dir, Durability, FileIdentity};

/// At most so many files hold one table.
pub const MAX_FILES: usize = 3;

/// Which files of a table are meant.
pub type Marked = [bool; MAX_FILES];

/// A file of a table.
#[derive(Debug)]
pub struct Place {
    /// Its folder.
    pub dir: Dir,
    /// Its name.
    pub name: &'static str,
    /// Where its spare lies; none for read-only stores.
    pub spares: Option<Dir>,
}

/// One kind of record of one store.
#[derive(Debug)]
pub struct TableFile<R> {
    /// Where the records' own folders are.
    dir: Dir,
    /// Where the lock file is.
    lock_dir: Dir,
    lock: &'static str,
    /// Where a second file of that name is, which is locked after the first: of a split store.
    second_lock_dir: Option<Dir>,
    places: Vec<Place>,
    /// Records have their folders beside the file that they are in.
    has_folders_beside: bool,
    /// Of each saved file; the names are made durable by whoever promised it.
    durability: Durability,
    is_read_only: bool,
    state: RwLock<State<R>>,
}

/// The table as it was loaded, and what tells whether it is still current.
#[derive(Debug)]
struct State<R> {
    table: Arc<Table<R>>,
    /// `None`: to be loaded.
    token: Option<Tokens>,
    identities: Vec<Option<FileIdentity>>,
    /// The files assign a name twice; a writer should save the resolved table.
    has_conflicts: bool,
}

/// Who wrote last, by each lock file.
type Tokens = (LastWrite, Option<LastWrite>);

/// A table's lock, held.
#[derive(Debug)]
pub struct TableLock {
    first: RecordLock,
    second: Option<RecordLock>,
}

/// Files of one table that were written ahead of their save.
#[derive(Debug, Default)]
pub struct Ahead<'a>(Vec<(usize, Staged<'a>)>);

impl<'a> Ahead<'a> {
    fn take(&mut self, number: usize) -> Option<Staged<'a>> {
        let at = self.0.iter().position(|(own, _)| *own == number)?;
        Some(self.0.swap_remove(at).1)
    }
}

impl<R> TableFile<R> {
    /// Makes the next [`TableFile::enter`] load what is on disk.
    pub fn forget(&self) {
        self.state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .token = None;
    }
}

impl<R: Record> TableFile<R> {
    /// A table of records with folders in `dir`, guarded by the file `lock` in `lock_dir`. The files at `places` are read
    /// in order; the first is where records go by default.
    pub fn new(
        dir: Dir,
        (lock_dir, lock): (Dir, &'static str),
        places: Vec<Place>,
        durability: Durability,
    ) -> Self {
        assert!(places.len() <= MAX_FILES, "a table has few files");
        let state = State {
            table: Arc::default(),
            token: None,
            identities: vec![None; places.len()],
            has_conflicts: false,
        };
        Self {
            dir,
            lock_dir,
            lock,
            second_lock_dir: None,
            places,
            has_folders_beside: false,
            durability,
            is_read_only: false,
            state: RwLock::new(state),
        }
    }

    /// A table of a store that we may only read, all of it in `dir`.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn read_only(dir: Dir, lock: &'static str, files: &[&'static str]) -> Result<Self, Error> {
        let place = |name: &&'static str| -> Result<Place, Error> {
            Ok(Place {
                dir: dir.try_clone()?,
                name,
                spares: None,
            })
        };
        let places = files.iter().map(place).collect::<Result<_, _>>()?;
        let lock = (dir.try_clone()?, lock);
        let table = Self::new(dir, lock, places, Durability::Atomic);
        Ok(Self {
            is_read_only: true,
            ..table
        })
    }

    /// The same table, of which nothing is ever written.
    #[must_use]
    pub fn never_written(mut self) -> Self {
        self.is_read_only = true;
        self
    }

    /// The same table, with another file.
    #[must_use]
    pub fn with_file(mut self, place: Place) -> Self {
        assert!(self.places.len() < MAX_FILES, "a table has few files");
        self.places.push(place);
        self.state_mut().identities.push(None);
        self
    }

    /// The same table, guarded by a second lock file of that name in `dir`.
    #[must_use]
    pub fn with_second_lock(mut self, dir: Dir) -> Self {
        self.second_lock_dir = Some(dir);
        self
    }

    /// The same table, whose records have their folders beside the file that they are in.
    #[must_use]
    pub fn with_folders_beside(mut self) -> Self {
        self.has_folders_beside = true;
        self
    }

    /// All folders in which records have theirs.
    pub fn dirs(&self) -> Vec<&Dir> {
        match self.has_folders_beside {
            true => self.places.iter().map(|place| &place.dir).collect(),
            false => vec![&self.dir],
        }
    }

    /// The folders of its files, each once: a save that a death cuts short leaves its temporary file there.
    pub fn file_dirs(&self) -> Vec<&Dir> {
        let mut dirs: Vec<&Dir> = Vec::with_capacity(self.places.len());
        for place in &self.places {
            if dirs.iter().all(|dir| dir.path() != place.dir.path()) {
                dirs.push(&place.dir);
            }
        }
        dirs
    }

    /// The folder in which the record with exactly this ID has its own, as this process knows it; that of new ones for one
    /// that is not there.
    pub fn dir_of(&self, id: &str) -> &Dir {
        if !self.has_folders_beside {
            return &self.dir;
        }
        let file = self.peek(|table| table.find_id(id).map(|row| row.file));
        file.and_then(|file| self.places.get(file))
            .map_or(&self.dir, |place| &place.dir)
    }

    /// The folder in which new records have theirs.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    fn state(&self) -> RwLockReadGuard<'_, State<R>> {
        // A panic in a writer unsets the token: the table is loaded anew.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State<R>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table as this process knows it, without the lock: for what is only shown, or verified later
    /// under the lock. Empty before the first load.
    pub fn peek<T>(&self, look: impl FnOnce(&Table<R>) -> T) -> T {
        look(&self.state().table)
    }

    /// Changes the table in memory.
    ///
    /// LOCKS: this table's, exclusive, by [`TableFile::enter`].
    pub fn change<T>(&self, change: impl FnOnce(&mut Table<R>) -> T) -> T {
        // Somebody may still look at the table as it was.
        change(Arc::make_mut(&mut self.state_mut().table))
    }

    /// Adds or replaces a record in memory: see [`Table::put`].
    ///
    /// LOCKS: this table's, exclusive, by [`TableFile::enter`].
    ///
    /// # Errors
    /// When a record that is changed says nothing that we understand.
    pub fn put(&self, record: R, file: usize) -> Result<(), Error> {
        let put = self.change(|table| table.put(record, file));
        put.map_err(|source| Error::Load {
            path: self.places[0].dir.path().join(self.places[0].name),
            source: Arc::new(source),
        })
    }

    /// True when the loaded files assign a name twice.
    pub fn has_conflicts(&self) -> bool {
        self.state().has_conflicts
    }

    /// Takes the lock and makes the table current, reloading when somebody wrote.
    ///
    /// # Errors
    /// When the lock can't be had, or the files can't be read or are broken; the table is then loaded
    /// by the next call.
    pub fn enter(&self, access: Access) -> Result<TableLock, Error> {
        let first = if self.is_read_only {
            self.enter_read_only()?
        } else {
            RecordLock::acquire(&self.lock_dir, self.lock, access)?
        };
        let second = match &self.second_lock_dir {
            None => None,
            Some(dir) => Some(RecordLock::acquire(dir, self.lock, access)?),
        };
        let token = (
            LastWrite::read(&first)?,
            second.as_ref().map(LastWrite::read).transpose()?,
        );
        let lock = TableLock { first, second };
        let identities = self
            .places
            .iter()
            .map(|place| place.dir.identity(place.name))
            .collect::<Result<Vec<_>, _>>()?;
        {
            let state = self.state();
            if state.token.as_ref() == Some(&token) && state.identities == identities {
                return Ok(lock);
            }
        }
        let mut table = Table::default();
        let mut has_conflicts = false;
        for (number, place) in self.places.iter().enumerate() {
            if identities[number].is_none() {
                continue;
            }
            let text = place.dir.find(place.name)?.unwrap_or_default();
            let path = place.dir.path().join(Path::new(place.name));
            has_conflicts |= table.absorb(number, &path, text)?.has_conflicts;
        }
        *self.state_mut() = State {
            table: Arc::new(table),
            token: Some(token),
            identities,
            has_conflicts,
        };
        Ok(lock)
    }

    /// The lock of a table that may only be read. Where there is no lock file and none can be made, nobody writes: the
    /// first of its files stands in.
    fn enter_read_only(&self) -> Result<RecordLock, Error> {
        match RecordLock::acquire_read_only(&self.lock_dir, self.lock) {
            Err(error) if error.is_not_found() => {}
            result => return Ok(result?),
        }
        let made = RecordLock::acquire(&self.lock_dir, self.lock, Access::Shared);
        let error = match made {
            Err(error) if error.is_read_only() => error,
            result => return Ok(result?),
        };
        for place in &self.places {
            if place.dir.stat(place.name)?.is_some() {
                return Ok(RecordLock::acquire_read_only(&place.dir, place.name)?);
            }
        }
        Err(error.into())
    }

    /// Looks at the current table, under a shared lock.
    ///
    /// # Errors
    /// As [`TableFile::enter`].
    pub fn read<T>(&self, look: impl FnOnce(&Table<R>) -> T) -> Result<T, Error> {
        let lock = self.enter(Access::Shared)?;
        let result = look(&self.state().table);
        drop(lock);
        Ok(result)
    }

    /// The current table as a whole.
    ///
    /// # Errors
    /// As [`TableFile::enter`].
    pub fn snapshot(&self) -> Result<Arc<Table<R>>, Error> {
        let lock = self.enter(Access::Shared)?;
        let table = Arc::clone(&self.state().table);
        drop(lock);
        Ok(table)
    }

    /// The record that `key` finds.
    ///
    /// # Errors
    /// As [`TableFile::enter`], or when it says nothing that we understand.
    pub fn find(&self, key: &str) -> Result<Option<Arc<R>>, Error> {
        self.read(|table| table.find(key).map(|row| row.record().cloned()).transpose())?
    }

    /// True when there is a record with exactly this ID.
    ///
    /// # Errors
    /// As [`TableFile::enter`].
    pub fn has(&self, id: &str) -> Result<bool, Error> {
        self.read(|table| table.find_id(id).is_some())
    }

    /// The record with exactly this ID as this process knows it: see [`TableFile::peek`].
    pub fn peek_id(&self, id: &str) -> Option<Arc<R>> {
        self.peek(|table| table.find_id(id)?.record().ok().cloned())
    }

    /// Writes the files whose `dirty` is set aside, and waits for no disk: when several tables are saved,
    /// the first sync pays for all. What can't be written now is left to [`TableFile::save`].
    pub fn write_ahead(&self, dirty: &[bool]) -> Ahead<'_> {
        let mut ahead = Ahead::default();
        for (number, place) in self.places.iter().enumerate() {
            if dirty.get(number).copied().unwrap_or(false) {
                let table = Arc::clone(&self.state().table);
                let staged = spare::stage(place, &table.pieces(number), self.durability);
                let staged = staged.and_then(|staged| {
                    staged.start_writeback()?;
                    Ok(staged)
                });
                match staged {
                    Ok(staged) => ahead.0.push((number, staged)),
                    // The save tries again, and reports it.
                    Err(error) => tracing::debug!(file = place.name, %error, "not written ahead"),
                }
            }
        }
        ahead
    }

    /// Makes the names of these files survive a loss of power.
    ///
    /// # Errors
    /// When the kernel can't.
    pub fn sync(&self, saved: &[bool]) -> Result<(), Error> {
        for (place, saved) in self.places.iter().zip(saved) {
            if *saved {
                place.dir.sync()?;
                place.settle()?;
            }
        }
        Ok(())
    }

    /// Saves the files whose `dirty` is set: those written ahead as they were then.
    ///
    /// The token is stamped first: a crash in between makes others reload the old file for nothing,
    /// while the other order would leave them with stale data.
    ///
    /// LOCKS: `lock` is this table's, exclusive.
    ///
    /// # Errors
    /// When a file can't be written. Files before it are saved; the table is reloaded by the next call
    /// of [`TableFile::enter`].
    pub fn save(
        &self,
        lock: &TableLock,
        dirty: &[bool],
        ahead: &mut Ahead<'_>,
    ) -> Result<(), Error> {
        let second = lock.second.as_ref().map(LastWrite::stamp).transpose()?;
        let token = (LastWrite::stamp(&lock.first)?, second);
        // Set again only when all is saved: a failure makes the next user load what is on disk.
        self.state_mut().token = None;
        for (number, place) in self.places.iter().enumerate() {
            if !dirty.get(number).copied().unwrap_or(false) {
                continue;
            }
            let table = Arc::clone(&self.state().table);
            let stage = || spare::stage(place, &table.pieces(number), self.durability);
            let staged = ahead.take(number).map_or_else(stage, Ok)?;
            let identity = match staged.publish(self.durability) {
                // There was room for the contents, but not for their name or what leads to them.
                Err(full) if full.is_no_space() => {
                    let pieces = table.pieces(number);
                    let staged = spare::stage_on_full_disk(place, &pieces, self.durability, full)?;
                    staged.publish(self.durability)?
                }
                result => result?,
            };
            place.keep_spare(identity.size);
            self.state_mut().identities[number] = Some(identity);
        }
        let mut state = self.state_mut();
        state.token = Some(token);
        state.has_conflicts = false;
        Ok(())
    }
}

//! [`Edit`]: one table under its exclusive lock, with what was changed in it and what of that is saved.

use std::sync::Arc;

use super::error::Error;
use super::row::{Record, Row};
use super::table::Table;
use super::table_file::{Ahead, MAX_FILES, Marked, TableFile, TableLock};
use crate::sys::record_lock::Access;

/// A table under its exclusive lock.
#[derive(Debug)]
pub struct Edit<'a, R> {
    file: &'a TableFile<R>,
    lock: TableLock,
    dirty: Marked,
    /// Files that this transaction has written.
    saved: Marked,
    has_additions: bool,
    has_removals: bool,
    /// Removed rows that stay in the file until what points at them is saved.
    removed: Vec<Row<R>>,
    /// What was written ahead of the save.
    ahead: Ahead<'a>,
    /// The table in memory is what is on disk.
    is_settled: bool,
}

impl<R> Drop for Edit<'_, R> {
    fn drop(&mut self) {
        // A panic: what is in memory was never saved, and must not be saved by the next change.
        if !self.is_settled {
            self.file.forget();
        }
    }
}

impl<'a, R: Record> Edit<'a, R> {
    pub(super) fn new(file: &'a TableFile<R>) -> Result<Self, Error> {
        let lock = file.enter(Access::Exclusive)?;
        let has_conflicts = file.has_conflicts();
        Ok(Self {
            file,
            lock,
            dirty: [has_conflicts; MAX_FILES],
            saved: [false; MAX_FILES],
            has_additions: false,
            has_removals: false,
            removed: Vec::new(),
            ahead: Ahead::default(),
            is_settled: false,
        })
    }

    /// Looks at the table.
    pub fn look<T>(&self, look: impl FnOnce(&Table<R>) -> T) -> T {
        self.file.peek(look)
    }

    /// The record that `key` finds.
    ///
    /// # Errors
    /// When it says nothing that we understand.
    pub fn find(&self, key: &str) -> Result<Option<Arc<R>>, Error> {
        self.look(|table| table.find(key).map(|row| row.record().cloned()).transpose())
    }

    /// The record with exactly this ID.
    ///
    /// # Errors
    /// When it says nothing that we understand.
    pub fn find_id(&self, id: &str) -> Result<Option<Arc<R>>, Error> {
        self.look(|table| {
            let row = table.find_id(id);
            row.map(|row| row.record().cloned()).transpose()
        })
    }

    /// See [`Table::search`].
    ///
    /// # Errors
    /// When a record says nothing that we understand.
    pub fn search(
        &self,
        value: &str,
        is_wanted: impl Fn(&R) -> bool,
    ) -> Result<Option<Arc<R>>, Error> {
        self.look(|table| table.search(value, is_wanted))
    }

    /// IDs of all records, in the order in which they came.
    pub fn ids(&self) -> Vec<String> {
        self.look(|table| table.iter().map(|row| row.id().to_owned()).collect())
    }

    /// True when there is a record with exactly this ID.
    pub fn has(&self, id: &str) -> bool {
        self.look(|table| table.find_id(id).is_some())
    }

    /// The ID of the record that has `name`.
    pub fn owner_of(&self, name: &str) -> Option<String> {
        self.look(|table| table.find_name(name).map(|row| row.id().to_owned()))
    }

    /// Adds the record, or replaces the one with its ID. New ones go to file number `file`.
    ///
    /// # Errors
    /// When a record that is changed says nothing that we understand.
    pub fn put(&mut self, record: R, file: usize) -> Result<(), Error> {
        let is_new = !self.has(record.id());
        self.has_additions |= is_new;
        // A name may be taken from a record in the other file: both are saved then.
        let touches_both = record.names().iter().any(|name| {
            self.owner_of(name)
                .is_some_and(|owner| owner != record.id())
        });
        let id = record.id().to_owned();
        self.file.put(record, file)?;
        let at = self.look(|table| table.find_id(&id).map_or(0, |row| row.file));
        self.dirty[at] = true;
        if touches_both {
            self.dirty = self.used_files();
        }
        Ok(())
    }

    fn used_files(&self) -> Marked {
        let mut used = self.dirty;
        self.look(|table| {
            for (file, used) in used.iter_mut().enumerate() {
                *used |= table.has_rows_in(file);
            }
        });
        used
    }

    /// Takes the record out.
    pub fn remove(&mut self, id: &str) {
        if let Some(row) = self.file.change(|table| table.remove(id)) {
            self.dirty[row.file] = true;
            self.has_removals = true;
            self.removed.push(row);
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty.contains(&true)
    }

    /// Starts the save, unless it will have two halves.
    pub(super) fn write_ahead(&mut self) {
        if self.is_dirty() && !(self.has_additions && self.has_removals) {
            self.ahead = self.file.write_ahead(&self.dirty);
        }
    }

    pub(super) fn save(&mut self) -> Result<(), Error> {
        if self.is_dirty() {
            let mut ahead = std::mem::take(&mut self.ahead);
            // Noted before: a save that fails may have replaced a file already (its folder could not be
            // synced, or the second file not be written), and is then taken back like one that succeeded.
            self.note_saved();
            self.file.save(&self.lock, &self.dirty, &mut ahead)?;
            self.dirty = [false; MAX_FILES];
        }
        Ok(())
    }

    fn note_saved(&mut self) {
        for (saved, dirty) in self.saved.iter_mut().zip(self.dirty) {
            *saved |= dirty;
        }
    }

    /// Writes the files that this transaction has written once more, as the table is now.
    pub(super) fn save_again(&mut self) -> Result<(), Error> {
        if self.saved.contains(&true) {
            self.file
                .save(&self.lock, &self.saved, &mut Ahead::default())?;
        }
        Ok(())
    }

    /// Makes what was saved survive a loss of power.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync(&self.saved)
    }

    /// The first half of a save, when records of other kinds will point at what is added: with the
    /// removed rows still in the file, as old pointers may be on disk yet.
    pub(super) fn save_additions(&mut self, has_pointers: bool) -> Result<(), Error> {
        if !self.has_additions || !has_pointers {
            return Ok(());
        }
        if !self.has_removals {
            return self.save();
        }
        let removed = std::mem::take(&mut self.removed);
        let mark = self.file.change(|table| {
            let mark = table.mark();
            for row in &removed {
                // An ID that was removed and made again is there already.
                if table.find_id(row.id()).is_none() {
                    table.put_row(row.clone());
                }
            }
            mark
        });
        let result = self
            .file
            .save(&self.lock, &self.dirty, &mut Ahead::default());
        self.file.change(|table| table.roll_back(mark));
        self.removed = removed;
        self.note_saved();
        result
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            journal: self.look(Table::mark),
            dirty: self.dirty,
            has_additions: self.has_additions,
            has_removals: self.has_removals,
            removed: self.removed.len(),
        }
    }

    pub(super) fn roll_back(&mut self, mark: &Mark) {
        self.file.change(|table| table.roll_back(mark.journal));
        self.dirty = mark.dirty;
        for (dirty, saved) in self.dirty.iter_mut().zip(self.saved) {
            *dirty |= saved;
        }
        self.has_additions = mark.has_additions;
        self.has_removals = mark.has_removals;
        self.removed.truncate(mark.removed);
        self.ahead = Ahead::default();
    }

    /// Forgets how to undo: what is in memory is what is on disk.
    pub(super) fn settle(&mut self) {
        self.file.change(Table::settle);
        self.is_settled = true;
    }
}

/// Where an edit stood before a change.
#[derive(Debug)]
pub(super) struct Mark {
    journal: usize,
    dirty: Marked,
    has_additions: bool,
    has_removals: bool,
    removed: usize,
}

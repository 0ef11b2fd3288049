//! [`View`]: a consistent look at all records of one kind.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::Error;
use super::row::{Record, Row};
use super::table::Table;

/// A record, and whether it belongs to a store that we may only read.
#[derive(Debug)]
pub struct Found<R> {
    /// What it says.
    pub record: Arc<R>,
    /// True for a record of an additional store.
    pub is_read_only: bool,
}

impl<R> Clone for Found<R> {
    fn clone(&self) -> Self {
        Self {
            record: Arc::clone(&self.record),
            is_read_only: self.is_read_only,
        }
    }
}

impl<R> std::ops::Deref for Found<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.record
    }
}

/// The records of a store and of its additional stores, as they were at one moment each. All of them are
/// read: who wants a few asks the store for those.
#[derive(Debug)]
pub struct View<R> {
    /// The store's own first.
    tables: Vec<Arc<Table<R>>>,
}

impl<R: Record> View<R> {
    /// # Errors
    /// When a record says nothing that we understand.
    pub(super) fn new(tables: Vec<Arc<Table<R>>>) -> Result<Self, Error> {
        for row in tables.iter().flat_map(|table| table.iter()) {
            row.record()?;
        }
        Ok(Self { tables })
    }

    fn tables(&self) -> impl Iterator<Item = (&Table<R>, bool)> {
        let numbered = self.tables.iter().enumerate();
        numbered.map(|(number, table)| (&**table, number > 0))
    }

    /// The record with this ID, else with this name, else with the only ID that starts so; the store's
    /// own before those of additional stores.
    pub fn find(&self, key: &str) -> Option<Found<R>> {
        let primary = self.tables.first()?;
        self.tables().find_map(|(table, is_read_only)| {
            let row = table.find(key)?;
            // A record that the store has itself hides what others call it.
            if is_read_only && primary.find_id(row.id()).is_some() {
                return None;
            }
            found(row, is_read_only)
        })
    }

    /// The record with exactly this ID.
    pub fn find_id(&self, id: &str) -> Option<Found<R>> {
        self.tables()
            .find_map(|(table, is_read_only)| found(table.find_id(id)?, is_read_only))
    }

    /// Every record, in the order of the files; a record of an additional store also when the store
    /// has one with the same ID.
    pub fn iter(&self) -> impl Iterator<Item = Found<R>> {
        self.tables().flat_map(|(table, is_read_only)| {
            table.iter().filter_map(move |row| found(row, is_read_only))
        })
    }

    /// Number of records that [`View::iter`] gives.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|table| table.len()).sum()
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// IDs of all records.
    pub fn ids(&self) -> HashSet<String> {
        self.tables()
            .flat_map(|(table, _)| table.iter())
            .map(|row| row.id().to_owned())
            .collect()
    }
}

/// What a row of a view says: it was read when the view was made.
fn found<R: Record>(row: &Row<R>, is_read_only: bool) -> Option<Found<R>> {
    let record = Arc::clone(row.record().ok()?);
    Some(Found {
        record,
        is_read_only,
    })
}

//! [`View`]: a consistent look at all records of one kind.

use std::collections::HashSet;
use std::sync::Arc;

use super::table::{Record, Table};

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

/// The records of a store and of its additional stores, as they were at one moment each.
#[derive(Debug)]
pub struct View<R> {
    primary: Table<R>,
    others: Vec<Table<R>>,
}

impl<R: Record> View<R> {
    pub(super) fn new(primary: Table<R>, others: Vec<Table<R>>) -> Self {
        Self { primary, others }
    }

    fn tables(&self) -> impl Iterator<Item = (&Table<R>, bool)> {
        std::iter::once((&self.primary, false)).chain(self.others.iter().map(|other| (other, true)))
    }

    /// The record with this ID, else with this name, else with the only ID that starts so; the store's
    /// own before those of additional stores.
    pub fn find(&self, key: &str) -> Option<Found<R>> {
        self.tables().find_map(|(table, is_read_only)| {
            let row = table.find(key)?;
            // A record that the store has itself hides what others call it.
            if is_read_only && self.primary.find_id(row.record.id()).is_some() {
                return None;
            }
            Some(Found {
                record: Arc::clone(&row.record),
                is_read_only,
            })
        })
    }

    /// The record with exactly this ID.
    pub fn find_id(&self, id: &str) -> Option<Found<R>> {
        self.tables().find_map(|(table, is_read_only)| {
            let row = table.find_id(id)?;
            Some(Found {
                record: Arc::clone(&row.record),
                is_read_only,
            })
        })
    }

    /// Every record, in the order of the files; a record of an additional store also when the store
    /// has one with the same ID.
    pub fn iter(&self) -> impl Iterator<Item = Found<R>> {
        self.tables().flat_map(|(table, is_read_only)| {
            table.iter().map(move |row| Found {
                record: Arc::clone(&row.record),
                is_read_only,
            })
        })
    }

    /// Number of records that [`View::iter`] gives.
    pub fn len(&self) -> usize {
        self.tables().map(|(table, _)| table.len()).sum()
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// IDs of all records.
    pub fn ids(&self) -> HashSet<String> {
        self.iter()
            .map(|found| found.record.id().to_owned())
            .collect()
    }
}

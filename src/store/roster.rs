//! [`Roster`]: who is in a store, without a look at what the records say beyond that.

use std::sync::Arc;

use super::Store;
use super::container::record::ContainerRecord;
use super::error::Error;
use super::layer::record::LayerRecord;
use super::row::{Record, Row};
use super::table::Table;

/// IDs, names and the like of all records of one kind, the store's own first. None of them is parsed:
/// one that says something impossible is in the list, and refused by whoever reads it.
#[derive(Debug)]
pub struct Roster<R>(Vec<Arc<Table<R>>>);

impl<R: Record> Roster<R> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|table| table.len()).sum()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries, in the order of the files.
    pub fn iter(&self) -> impl Iterator<Item = &Row<R>> {
        self.0.iter().flat_map(|table| table.iter())
    }
}

impl Store {
    /// Who is among the layers, those of additional stores last.
    ///
    /// # Errors
    /// When the files can't be locked or loaded.
    pub fn layer_roster(&self) -> Result<Roster<LayerRecord>, Error> {
        Ok(Roster(self.layer_tables()?))
    }

    /// Who is among the containers.
    ///
    /// # Errors
    /// When the files can't be locked or loaded.
    pub fn container_roster(&self) -> Result<Roster<ContainerRecord>, Error> {
        Ok(Roster(vec![self.0.containers.snapshot()?]))
    }
}

//! What a crash may leave, found and removed: contents that no record points at.

use std::collections::HashSet;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::driver::leftovers;
use super::edit::Edit;
use super::error::Error;
use super::id;
use super::layer::record::LayerRecord;
use super::opening::LAYER_FILES;
use super::row::Record;
use super::table::Table;
use super::transaction::{Scope, Transaction};
use super::{Inner, Store};
use crate::sys::Dir;

/// What the name begins with of a file that is to take the place of another, with us and with peers.
const TEMPORARY: &str = ".tmp-";

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Layers of the driver that had no record.
    pub layers: Vec<String>,
    /// Directories and recipes without a record, and files of saves that were cut short: their paths.
    pub data: Vec<String>,
}

fn ids<R: Record>(edit: &Edit<'_, R>) -> HashSet<String> {
    edit.ids().into_iter().collect()
}

impl Store {
    /// Removes what no record points at: layers in the driver's home, data directories, recipes, files of saves that were
    /// cut short, and the staging areas of dead processes. Unmounts nothing that has a record, and leaves layers that are
    /// used: a peer that deletes a container leaves our mount, and a pod in it.
    ///
    /// # Errors
    /// When something can't be read or moved away; what was removed before stays removed.
    pub fn collect_garbage(&self) -> Result<Garbage, Error> {
        self.remove_leftovers()?;
        let mut left = Vec::new();
        if !self.is_read_only() {
            left = self.remove_leftovers_of_peers()?;
        }
        // Peers that start try the kernel out in the driver's home.
        let graph = self.lock_graph()?;
        let collected = self.write(Scope::ALL, |transaction| transaction.collect_garbage());
        drop(graph);
        let mut garbage = collected?;
        let left = left.into_iter().map(|path| path.display().to_string());
        garbage.data.extend(left);
        Ok(garbage)
    }

    /// What peers leave when they die while they make or delete layers: nobody holds its lock any more.
    fn remove_leftovers_of_peers(&self) -> Result<Vec<PathBuf>, Error> {
        let mut removed = self.driver().remove_leftovers()?;
        for dir in self.0.layers.dirs() {
            if let Some(folder) = dir.find_dir("tmp")? {
                removed.extend(leftovers::remove_temporary(&folder)?);
            }
        }
        Ok(removed)
    }
}

impl Inner {
    /// The layers of volatile containers that belong to whoever opens the store the other way, transient or not.
    ///
    /// LOCKS: layers.
    pub(super) fn volatile_layers_elsewhere(&self) -> Result<HashSet<String>, Error> {
        let name = LAYER_FILES[1];
        let dir = &self.other_volatile_layers;
        let mut table = Table::<LayerRecord>::default();
        if let Some(text) = dir.find(name)? {
            table.absorb(0, &dir.path().join(name), text)?;
        }
        Ok(table.iter().map(|row| row.id().to_owned()).collect())
    }
}

impl Transaction<'_> {
    fn collect_garbage(&mut self) -> Result<Garbage, Error> {
        let store = self.store;
        let mut garbage = Garbage::default();
        let mut layers = ids(self.layers());
        layers.extend(store.volatile_layers_elsewhere()?);
        let mut unrecorded = store.driver.list()?;
        unrecorded.retain(|id| !layers.contains(id));
        let used = self.used_layers(&unrecorded)?;
        for id in unrecorded {
            if !used.contains(&id) {
                self.discard_layer(&id)?;
                garbage.layers.push(id);
            }
        }
        let tidied = store.driver.tidy(&layers)?;
        let tidied = tidied.iter().map(|path| path.display().to_string());
        garbage.data.extend(tidied);
        let images = ids(self.images());
        let containers = ids(self.containers());
        for (dirs, known) in [
            (store.layers.dirs(), &layers),
            (store.images.dirs(), &images),
            (store.containers.dirs(), &containers),
        ] {
            for dir in dirs {
                self.collect_data(dir, known, &mut garbage)?;
            }
        }
        // Under its lock nobody is about to save one.
        self.mounts()?;
        for dirs in [
            store.layers.file_dirs(),
            store.mounts.file_dirs(),
            store.images.file_dirs(),
            store.containers.file_dirs(),
        ] {
            for dir in dirs {
                collect_temporary(dir, &mut garbage)?;
            }
        }
        Ok(garbage)
    }

    fn collect_data(
        &mut self,
        dir: &Dir,
        known: &HashSet<String>,
        garbage: &mut Garbage,
    ) -> Result<(), Error> {
        for entry in dir.list()? {
            let Some(name) = entry.name.to_str() else {
                continue;
            };
            let id = name.strip_suffix(".tar-split.gz").unwrap_or(name);
            if !id::is_hex(id) || known.contains(id) {
                continue;
            }
            let trash = self.store.staging_beside(dir).entry()?;
            if trash.take_in(dir, name)? {
                self.throw_away(trash);
                garbage
                    .data
                    .push(format!("{}/{name}", dir.path().display()));
            }
        }
        Ok(())
    }
}

/// Removes the files of saves that were cut short. In a split store the layers of images are recorded in a folder that has
/// no data of theirs.
///
/// LOCKS: the one of each table that has a file in `dir`, exclusive.
fn collect_temporary(dir: &Dir, garbage: &mut Garbage) -> Result<(), Error> {
    for entry in dir.list()? {
        let Some(name) = entry.name.to_str() else {
            continue;
        };
        if entry.file_type == FileType::RegularFile
            && name.starts_with(TEMPORARY)
            && dir.remove_file_if_found(name)?
        {
            garbage
                .data
                .push(format!("{}/{name}", dir.path().display()));
        }
    }
    Ok(())
}

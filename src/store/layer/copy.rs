//! A layer of an additional store becomes one of our own: its bytes shared where the file system can,
//! else copied.
//!
//! What it is stays the same: its ID, digests, recipe and big data, and the short name by which layers
//! above it may know it already.

use std::collections::HashSet;
use std::sync::Arc;

use super::record::LayerRecord;
use super::stage::{CONTENTS, DATA, RECIPE, StagedLayer};
use crate::archive::id_shift::Shift;
use crate::store::driver::PrepareOptions;
use crate::store::error::{Error, Kind};
use crate::store::read_only::ReadOnlyStore;
use crate::store::{Found, Store, big_data};
use crate::sys::Dir;
use crate::sys::tree::{self, Copied};

impl Store {
    /// True when there are additional stores.
    pub fn has_others(&self) -> bool {
        !self.0.others.is_empty()
    }

    /// True when a layer and everything below it is the store's own, so that no other store can take
    /// anything of it away.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn is_whole(&self, layer: &str) -> Result<bool, Error> {
        if self.0.others.is_empty() || layer.is_empty() {
            return Ok(true);
        }
        self.0.layers.read(|table| {
            let mut next = layer.to_owned();
            let mut seen = HashSet::new();
            while !next.is_empty() && seen.insert(next.clone()) {
                let Some(row) = table.find_id(&next) else {
                    return Ok(false);
                };
                let layer = row.record()?;
                if layer.is_incomplete() {
                    return Ok(false);
                }
                next.clone_from(&layer.parent);
            }
            Ok(true)
        })?
    }

    /// A layer and those below it, lowest first, in whichever stores they are.
    ///
    /// # Errors
    /// When one is missing or incomplete, or the records can't be read.
    pub fn ancestry(&self, layer: &str) -> Result<Vec<Found<LayerRecord>>, Error> {
        let layers = self.layers()?;
        let mut chain: Vec<Found<LayerRecord>> = Vec::new();
        let mut next = layer.to_owned();
        while !next.is_empty() {
            let found = layers
                .find_id(&next)
                .filter(|found| !found.is_incomplete())
                // Going round in circles is as bad as an end in the middle.
                .filter(|found| chain.iter().all(|other| other.id != found.id))
                .ok_or(Error::Changed(Kind::Layer))?;
            next.clone_from(&found.parent);
            chain.push(found);
        }
        chain.reverse();
        Ok(chain)
    }

    /// The store's own layer that holds the same as `original` over `parent`, under whichever ID.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn find_twin(
        &self,
        original: &LayerRecord,
        parent: Option<&str>,
    ) -> Result<Option<String>, Error> {
        let layers = self.0.layers.snapshot()?;
        if let Some(row) = layers.find_id(&original.id)
            && !row.record()?.is_incomplete()
        {
            return Ok(Some(original.id.clone()));
        }
        let Some(digest) = original.diff_digest.get() else {
            return Ok(None);
        };
        let containers = self.0.containers.snapshot()?;
        let is_free = |layer: &str| {
            let user = containers.search(layer, |container| container.layer == layer);
            matches!(user, Ok(None))
        };
        let parent = parent.unwrap_or_default();
        let twin = layers.search(digest.as_str(), |layer| {
            layer.diff_digest.get() == Some(digest)
                && !layer.is_incomplete()
                && layer.parent == parent
                && layer.uid_map == original.uid_map
                && layer.gid_map == original.gid_map
                && is_free(&layer.id)
        })?;
        Ok(twin.map(|layer| layer.id.clone()))
    }

    /// Makes ready a copy of the layer `id` of an additional store, over `parent`, which need not be
    /// recorded yet. Takes no lock for longer than a look.
    ///
    /// # Errors
    /// [`Error::Changed`] when it is not there any more at the end; or when it can't be read or
    /// written. Nothing is left.
    pub fn stage_copy(
        &self,
        id: &str,
        parent: Option<&str>,
    ) -> Result<(StagedLayer, Copied), Error> {
        let (other, original) = self.original(id)?.ok_or(Error::Changed(Kind::Layer))?;
        let result = self.copy_layer(other, &original, parent);
        // Whoever deletes a layer marks or removes its record first: one that is still there was whole
        // while it was read.
        let now = complete(other, id)?;
        let is_there = now.is_some_and(|now| now.diff_digest == original.diff_digest);
        if is_there {
            result
        } else {
            Err(Error::Changed(Kind::Layer))
        }
    }

    /// The additional store that has the layer, complete.
    fn original(&self, id: &str) -> Result<Option<(&ReadOnlyStore, Arc<LayerRecord>)>, Error> {
        for other in &self.0.others {
            if let Some(record) = complete(other, id)? {
                return Ok(Some((other, record)));
            }
        }
        Ok(None)
    }

    fn copy_layer(
        &self,
        other: &ReadOnlyStore,
        original: &Arc<LayerRecord>,
        parent: Option<&str>,
    ) -> Result<(StagedLayer, Copied), Error> {
        let inner = &self.0;
        let parent_comes_later = match parent {
            Some(parent) if inner.driver.stages_without_parent() => !inner.layers.has(parent)?,
            _ => false,
        };
        let options = PrepareOptions {
            durable: true,
            parent_comes_later,
            ..PrepareOptions::default()
        };
        let entry = inner.staging.entry()?;
        let dir = entry.create_dir()?;
        dir.create_dir(CONTENTS, 0o700)?;
        let contents = dir.open_dir(CONTENTS)?;
        let copied =
            inner
                .driver
                .prepare_copy(&contents, &other.root, &original.id, parent, &options)?;
        copy_side_files(other.layers.dir(), original, &dir)?;
        let staged = StagedLayer {
            entry,
            parent: parent.map(str::to_owned),
            parent_comes_later,
            measured: None,
            original: Some(Arc::clone(original)),
            mappings: original.mappings(),
            shift: Shift::default(),
        };
        Ok((staged, copied))
    }
}

/// The record of a complete layer of an additional store.
fn complete(other: &ReadOnlyStore, id: &str) -> Result<Option<Arc<LayerRecord>>, Error> {
    let layers = other.layers.snapshot()?;
    let Some(row) = layers.find_id(id) else {
        return Ok(None);
    };
    let record = row.record()?;
    Ok((!record.is_incomplete()).then(|| Arc::clone(record)))
}

/// Copies the recipe and the big data of a layer.
fn copy_side_files(from: &Dir, original: &LayerRecord, to: &Dir) -> Result<(), Error> {
    if let Some(recipe) = from.find_file(format!("{}.tar-split.gz", original.id))? {
        let copy = to.create_file(RECIPE, 0o600)?;
        tree::copy_file(&recipe, &copy)?;
        copy.sync_data()?;
    }
    if original.big_data_names.is_empty() {
        return Ok(());
    }
    let Some(from) = from.find_dir(&original.id)? else {
        return Ok(());
    };
    let data = to.ensure_dir(DATA, 0o700)?;
    for key in &original.big_data_names {
        let name = big_data::file_name(key)?;
        if let Some(file) = from.find_file(&name)? {
            let copy = data.create_file(&name, 0o600)?;
            tree::copy_file(&file, &copy)?;
            copy.sync_data()?;
        }
    }
    Ok(data.sync()?)
}

//! The top layer of an image for whoever wants given ID mappings: the image's own, one of its mapped ones, or a copy
//! that becomes one of these.
//!
//! A copy is made once and by one process at a time: others who want the same wait for it, and for nothing else.

use std::sync::Arc;

use super::record::ImageRecord;
use crate::store::driver::{PrepareOptions, Role};
use crate::store::error::{Error, Kind};
use crate::store::id;
use crate::store::id_map::IdMappings;
use crate::store::layer::record::LayerRecord;
use crate::store::layer::stage::{CONTENTS, RECIPE, StagedLayer};
use crate::store::time::Time;
use crate::store::transaction::{Scope, Transaction};
use crate::store::{Found, Store};
use crate::sys::record_lock::{Access, RecordLock};
use crate::sys::tree;

/// Held while a copy is made, in the store's own folder.
const LOCK: &str = "mapping.lock";

/// What an image has for somebody.
enum Fit {
    /// It has no layer at all.
    Nothing,
    /// A layer to stand on.
    Layer(Found<LayerRecord>),
    /// Only layers with other owners; the first of them.
    Other(Found<LayerRecord>),
}

impl Store {
    /// The layer of `image` on which somebody stands who wants `wanted`; `None` when the image has no layer. A copy is
    /// made when there is none that fits, and both the image and its layer are the store's own: else the layer is one
    /// with other owners.
    ///
    /// # Errors
    /// When the layer is missing, or can't be copied or recorded.
    pub(in crate::store) fn top_layer(
        &self,
        image: &Found<ImageRecord>,
        wanted: &IdMappings,
    ) -> Result<Option<Arc<LayerRecord>>, Error> {
        let other = match self.fit(image, wanted)? {
            Fit::Nothing => return Ok(None),
            Fit::Layer(found) => return Ok(Some(found.record)),
            Fit::Other(found) => found,
        };
        if image.is_read_only || other.is_read_only {
            return Ok(Some(other.record));
        }
        let own = self.0.graph.open_dir("strata")?;
        let lock = RecordLock::acquire(&own, LOCK, Access::Exclusive)?;
        // Whoever had the lock may have made it.
        let image = self
            .find_image(&image.id)?
            .ok_or(Error::Changed(Kind::Image))?;
        let layer = match self.fit(&image, wanted)? {
            Fit::Nothing => return Err(Error::Changed(Kind::Image)),
            Fit::Layer(found) => found.record,
            Fit::Other(template) => self.add_mapped(&image, &template, wanted)?,
        };
        drop(lock);
        Ok(Some(layer))
    }

    fn fit(&self, image: &ImageRecord, wanted: &IdMappings) -> Result<Fit, Error> {
        let mut first = None;
        for id in image.top_layers().filter(|id| !id.is_empty()) {
            let Some(found) = self.find_layer(id)?.filter(|found| found.id == id) else {
                continue;
            };
            if self.fits(&found, wanted)? {
                return Ok(Fit::Layer(found));
            }
            first.get_or_insert(found);
        }
        match first {
            Some(first) => Ok(Fit::Other(first)),
            None if image.layer.is_empty() => Ok(Fit::Nothing),
            None => Err(Error::Unknown(Kind::Layer)),
        }
    }

    /// True when somebody who wants `wanted` can stand on the layer without its owners being copied.
    pub(in crate::store) fn fits(
        &self,
        layer: &LayerRecord,
        wanted: &IdMappings,
    ) -> Result<bool, Error> {
        if layer.is_mapped() || wanted.is_empty() {
            return Ok(layer.mappings() == *wanted);
        }
        Ok(self.0.driver.shows_other_owners(&wanted.into())?)
    }

    /// Adds a copy of `template` to the image.
    fn add_mapped(
        &self,
        image: &ImageRecord,
        template: &LayerRecord,
        wanted: &IdMappings,
    ) -> Result<Arc<LayerRecord>, Error> {
        let mappings = self.0.stored(wanted)?;
        let staged = self.stage_mapped_copy(template, mappings)?;
        let record = LayerRecord {
            id: id::random(),
            parent: template.parent.clone(),
            created: Time::now(),
            compressed_diff_digest: template.compressed_diff_digest.clone(),
            compressed_size: template.compressed_size,
            diff_digest: template.diff_digest.clone(),
            toc_digest: template.toc_digest.clone(),
            diff_size: template.diff_size,
            compression: template.compression,
            uids: template.uids.clone(),
            gids: template.gids.clone(),
            uid_map: staged.mappings.uids.clone(),
            gid_map: staged.mappings.gids.clone(),
            ..LayerRecord::default()
        };
        let (image, template) = (image.id.clone(), template.id.clone());
        let scope = Scope::LAYERS.union(Scope::IMAGES);
        self.write(scope, move |transaction| {
            transaction.add_mapped(&image, &template, &staged, record)
        })
    }

    /// Makes ready a copy of the whole tree of `template`, with its recipe.
    fn stage_mapped_copy(
        &self,
        template: &LayerRecord,
        mappings: IdMappings,
    ) -> Result<StagedLayer, Error> {
        let side = self.side(template)?;
        let root = if mappings.is_empty() {
            (0, 0)
        } else {
            mappings.root()?
        };
        let options = PrepareOptions {
            durable: true,
            root,
            ..PrepareOptions::default()
        };
        let to = (&mappings).into();
        let mut staged = self.0.stage_copied(&side, &to, Role::Contents, &options)?;
        staged.parent = Some(template.parent.clone()).filter(|parent| !parent.is_empty());
        staged.mappings = mappings;
        staged.original = Some(Arc::new(template.clone()));
        let dir = staged.dir()?;
        let recipe = format!("{}.tar-split.gz", template.id);
        if let Some(recipe) = self.0.layers.dir().find_file(recipe)? {
            let copy = dir.create_file(RECIPE, 0o600)?;
            tree::copy_file(&recipe, &copy)?;
            copy.sync_data()?;
        }
        dir.open_dir(CONTENTS)?.sync()?;
        Ok(staged)
    }
}

impl Transaction<'_> {
    /// Records the copy and adds it to the image, unless a peer has added one like it meanwhile.
    fn add_mapped(
        &mut self,
        image: &str,
        template: &str,
        staged: &StagedLayer,
        record: LayerRecord,
    ) -> Result<Arc<LayerRecord>, Error> {
        let found = self.images().find_id(image)?;
        let found = found.ok_or(Error::Changed(Kind::Image))?;
        if !found.top_layers().any(|id| id == template) {
            return Err(Error::Changed(Kind::Image));
        }
        for id in &found.mapped_layers {
            if let Some(layer) = self.layers().find_id(id)?
                && layer.mappings() == record.mappings()
            {
                return Ok(layer);
            }
        }
        if !self.layers().has(template) {
            return Err(Error::Changed(Kind::Layer));
        }
        self.require_durable();
        let layer = self.adopt_layer(staged, record, 0)?;
        let mut changed = (*found).clone();
        changed.mapped_layers.push(layer.id.clone());
        self.images().put(changed, 0)?;
        Ok(layer)
    }
}

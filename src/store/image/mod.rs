//! Images: names and blobs over a top layer.

mod pull_up;
pub mod record;
mod top_layer;

use std::sync::Arc;

use super::Store;
use super::big_data;
use super::error::{Error, Kind};
use super::id;
use super::image_root::move_file;
use super::layer::NewLayer;
use super::layer::record::LayerRecord;
use super::layer::stage::StagedLayer;
use super::naming;
use super::staging::Entry;
use super::time::Time;
use super::transaction::{Scope, Transaction};
use crate::digest::Digest;
use record::ImageRecord;

/// A named blob to store with an image or container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigDataItem {
    /// The key that finds it.
    pub key: String,
    /// Its contents.
    pub bytes: Vec<u8>,
    /// The digest to record, where it is not the SHA-256 of the contents.
    pub digest: Option<Digest>,
}

impl BigDataItem {
    /// An item whose digest is the SHA-256 of its contents.
    pub fn new(key: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            bytes: bytes.into(),
            digest: None,
        }
    }

    /// The digest to record.
    pub fn recorded_digest(&self) -> Digest {
        self.digest
            .clone()
            .unwrap_or_else(|| Digest::of(&self.bytes))
    }
}

/// What a new image shall be.
#[derive(Debug, Default)]
pub struct NewImage {
    /// Its ID; drawn when empty.
    pub id: Option<String>,
    /// Names, which nobody may have unless `steal_names` is set.
    pub names: Vec<String>,
    /// Takes names from other images, as a pull of a moved tag does.
    pub steal_names: bool,
    /// ID, name or prefix of the top layer; `None` for an image without layers.
    pub layer: Option<String>,
    /// The caller's text.
    pub metadata: String,
    /// When it was made; now, when empty.
    pub created: Option<Time>,
    /// A digest that finds it, beside those of its manifests.
    pub digest: Option<Digest>,
    /// Blobs to store with it.
    pub big_data: Vec<BigDataItem>,
    /// Layers to adopt with it, lowest first. One that is there already is passed over.
    pub layers: Vec<(NewLayer, StagedLayer)>,
    /// With the ID of an image that is there: adds names and blobs to it instead of failing. A blob that
    /// it has under the same key stays as it is: no crash can then part it from its recorded digest.
    pub extend: bool,
    /// What the image is in an additional store, when our own has none of its ID yet: the new record says the same, but for
    /// what is said here.
    pub original: Option<Arc<ImageRecord>>,
}

impl Store {
    /// Creates an image and adopts its staged layers, in one change: it is there as a whole or not at
    /// all, also after a loss of power. With the ID of an image of an additional store it is that image.
    ///
    /// # Errors
    /// When the ID or a name is taken, the layer is unknown, a key of big data can't be stored, or
    /// something can't be written. Nothing is left.
    pub fn create_image(&self, mut new: NewImage) -> Result<Arc<ImageRecord>, Error> {
        let id = new.id.clone().unwrap_or_else(id::random);
        if !id::is_safe(&id) {
            return Err(Error::InvalidId(id));
        }
        if !new.extend
            && let Some(original) = self.find_elsewhere(&id)?
        {
            let mut items = self.image_items(&original)?;
            items.retain(|item| new.big_data.iter().all(|given| given.key != item.key));
            new.big_data.splice(..0, items);
            new.original = Some(original);
        }
        let files = self.stage_image_files(&new)?;
        if !new.layers.is_empty() {
            self.inherit_late(
                new.layers
                    .iter()
                    .map(|(new, staged)| (new.id.as_deref(), staged)),
            )?;
            self.sync_contents()?;
        }
        self.write(
            Scope {
                layers: true,
                images: true,
                containers: false,
            },
            move |transaction| {
                transaction.require_durable();
                transaction.create_image(&id, new, files.as_ref())
            },
        )
    }

    fn stage_image_files(&self, new: &NewImage) -> Result<Option<Entry>, Error> {
        if new.big_data.is_empty() {
            return Ok(None);
        }
        let entry = self.0.staging_beside(self.0.images.dir()).entry()?;
        let dir = entry.create_dir()?;
        for item in &new.big_data {
            dir.write_new(big_data::file_name(&item.key)?, &item.bytes, 0o600)?
                .sync_data()?;
        }
        dir.sync()?;
        Ok(Some(entry))
    }
}

impl Transaction<'_> {
    fn create_image(
        &mut self,
        id: &str,
        mut new: NewImage,
        files: Option<&Entry>,
    ) -> Result<Arc<ImageRecord>, Error> {
        let existing = self.images().find_id(id)?;
        if existing.is_some() && !new.extend {
            return Err(Error::DuplicateId);
        }
        if !new.steal_names {
            for name in &new.names {
                if let Some(owner) = self.images().owner_of(name).filter(|owner| owner != id) {
                    let kind = Kind::Image;
                    return Err(Error::DuplicateName {
                        kind,
                        name: name.clone(),
                        owner,
                    });
                }
            }
        }
        for (layer, staged) in std::mem::take(&mut new.layers) {
            self.adopt_image_layer(layer, &staged)?;
        }
        let top = match &new.layer {
            None => String::new(),
            Some(key) => self.resolve_layer(key)?.id.clone(),
        };
        let original = new.original.take().filter(|_| existing.is_none());
        let mut record = match (&existing, &original) {
            (Some(existing), _) => (**existing).clone(),
            (None, Some(original)) => self.inherited(original, new.extend),
            (None, None) => ImageRecord {
                id: id.to_owned(),
                created: Time::now(),
                ..ImageRecord::default()
            },
        };
        if existing.is_none() {
            record.digest = match new.digest.clone() {
                Some(digest) => digest.into(),
                None => record.digest,
            };
            record.created = new.created.unwrap_or(record.created);
            if !new.metadata.is_empty() {
                record.metadata.clone_from(&new.metadata);
            }
        }
        if record.layer.is_empty() {
            record.layer = top;
        }
        self.finish_layers(&record.layer)?;
        let (old, given) = (std::mem::take(&mut record.names), new.names.clone());
        record.names = naming::without_repeats(match original {
            // As the peer: what it was called in the additional store stays in front.
            Some(_) => [old, given].concat(),
            None => [given, old].concat(),
        });
        if new.steal_names || (original.is_some() && !new.extend) {
            naming::remember(&mut record.names_history, &record.names);
        }
        // A file of the same contents again does no harm, and puts right one that is lost.
        new.big_data.retain(|item| {
            let known = record.big_data_digests.get(&item.key);
            known.is_none_or(|known| known.get() == Some(&item.recorded_digest()))
        });
        for item in &new.big_data {
            if !record.big_data_names.contains(&item.key) {
                record.big_data_names.push(item.key.clone());
            }
            record
                .big_data_sizes
                .insert(item.key.clone(), item.bytes.len() as i64);
            record
                .big_data_digests
                .insert(item.key.clone(), item.recorded_digest().into());
        }
        record.settle_digest();
        match files {
            // An image of an additional store may have a directory here already.
            Some(entry) if existing.is_none() && original.is_none() => {
                self.adopt_directory(entry, Kind::Image, id)?;
            }
            Some(entry) => self.add_files(entry, &new.big_data, id)?,
            None => {}
        }
        self.images().put(record, 0)?;
        self.images()
            .find_id(id)?
            .ok_or(Error::Unknown(Kind::Image))
    }

    /// Adds the files of `items` from a staged directory to those of an image that is there.
    fn add_files(&mut self, entry: &Entry, items: &[BigDataItem], id: &str) -> Result<(), Error> {
        let from = entry.folder().open_dir(entry.name())?;
        let to = self.store.images.dir_of(id).ensure_dir(id, 0o700)?;
        for item in items {
            let name = big_data::file_name(&item.key)?;
            move_file(&from, &name, &to, &name)?;
        }
        Ok(to.sync()?)
    }

    /// Adopts a layer of an image; its ID, unless it is there already.
    pub(in crate::store) fn adopt_image_layer(
        &mut self,
        new: NewLayer,
        staged: &StagedLayer,
    ) -> Result<Option<String>, Error> {
        let id = new.id.clone().unwrap_or_else(id::random);
        // Two pulls of images that share a layer: the first one wins, the other's copy is dropped.
        if self.layers().has(&id) {
            return Ok(None);
        }
        if let Some(parent) = &staged.parent
            && !self.layers().has(parent)
            && !self.store.is_in_other_store(parent)?
        {
            return Err(Error::ParentUnknown);
        }
        let record = new.record(id, staged);
        let adopted = self.adopt_layer(staged, record, 0)?;
        Ok(Some(adopted.id.clone()))
    }

    /// The layer that `key` finds, in this store or in an additional one.
    pub(in crate::store) fn resolve_layer(&mut self, key: &str) -> Result<Arc<LayerRecord>, Error> {
        if let Some(layer) = self.layers().find(key)? {
            return Ok(layer);
        }
        for other in &self.store.others {
            if let Some(layer) = other.layers.find(key)? {
                return Ok(layer);
            }
        }
        Err(Error::Unknown(Kind::Layer))
    }
}

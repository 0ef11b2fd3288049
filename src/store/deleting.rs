//! Deleting: the record first, then the contents; never what others stand on.

use std::sync::Arc;

use super::Store;
use super::error::{Error, Kind};
use super::image::record::ImageRecord;
use super::layer::record::LayerRecord;
use super::transaction::{Scope, Transaction};

/// What the deletion of an image removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedImage {
    /// IDs of layers, in the order of their removal.
    pub layers: Vec<String>,
}

impl Store {
    /// Deletes a layer that nothing stands on.
    ///
    /// # Errors
    /// When it is unknown, has children, or an image or container uses it.
    pub fn delete_layer(&self, key: &str) -> Result<(), Error> {
        let key = key.to_owned();
        self.write(Scope::ALL, move |transaction| {
            // Resolved before the checks, so that a name or prefix can't pass them by.
            let layer = transaction
                .layers()
                .find(&key)?
                .ok_or(Error::NotA { kind: Kind::Layer })?;
            transaction.check_unused(&layer)?;
            let mapped = transaction
                .images()
                .search(&layer.id, |image| image.mapped_layers.contains(&layer.id))?;
            if let Some(image) = mapped {
                let mut image = Arc::unwrap_or_clone(image);
                image.mapped_layers.retain(|id| *id != layer.id);
                transaction.images().put(image, 0)?;
            }
            transaction.require_durable();
            transaction.delete_layer_record(&layer.id)
        })
    }

    /// Deletes an image that no container uses, and the layers that only it uses. Without `commit`,
    /// only says which.
    ///
    /// # Errors
    /// When it is unknown, an additional store's, or a container uses it.
    pub fn delete_image(&self, key: &str, commit: bool) -> Result<DeletedImage, Error> {
        let key = key.to_owned();
        self.write(Scope::ALL, move |transaction| {
            let image = match transaction.images().find(&key)? {
                Some(image) => image,
                None => return Err(transaction.why_no_image(&key)?),
            };
            let user = transaction
                .containers()
                .search(&image.id, |container| container.image == image.id)?;
            if let Some(container) = user {
                return Err(Error::ImageUsedByContainer(container.id.clone()));
            }
            let layers = transaction.layers_only_of(&image)?;
            if commit {
                transaction.require_durable();
                transaction.delete_image_record(&image.id);
                for layer in &layers {
                    transaction.delete_layer_record(layer)?;
                }
            }
            Ok(DeletedImage { layers })
        })
    }

    /// Deletes a container with its layer, mounted or not, and its directories.
    ///
    /// # Errors
    /// When it is unknown, or can't be saved. Afterwards, when something could not be unmounted or moved
    /// away: the container is then gone, and the rest is found by [`Store::collect_garbage`].
    pub fn delete_container(&self, key: &str) -> Result<(), Error> {
        let result = self.delete_known_container(key.to_owned());
        if matches!(result, Err(Error::NotA { .. })) && super::id::is_hex(key) {
            // Whoever asks again after a crash gets the layer deleted, which no other ID leads to.
            self.delete_remains(key)?;
        }
        result
    }

    fn delete_known_container(&self, key: String) -> Result<(), Error> {
        self.write(Scope::ALL, move |transaction| {
            let container = transaction.containers().find(&key)?.ok_or(Error::NotA {
                kind: Kind::Container,
            })?;
            if !container.flags.is_set(super::Flags::VOLATILE) {
                transaction.require_durable();
            }
            transaction.containers().remove(&container.id);
            if transaction.layers().has(&container.layer) {
                transaction.delete_layer_record(&container.layer)?;
            }
            transaction.after_save(move |transaction| transaction.discard_container(&container.id));
            Ok(())
        })
    }

    /// Removes what a deletion that was cut short has left of the container with this full ID: its layer,
    /// with or without a record, its mount, its directories. Nothing happens while the container exists,
    /// or while somebody else uses the layer.
    ///
    /// # Errors
    /// When the records can't be read or saved, or something can't be unmounted or moved away.
    pub fn delete_remains(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.write(Scope::ALL, move |transaction| {
            if transaction.containers().has(&id) {
                return Ok(());
            }
            let layer = super::id::of_container_layer(&id);
            if let Some(record) = transaction.layers().find_id(&layer)? {
                if transaction.check_unused(&record).is_err() {
                    return Ok(());
                }
                transaction.layers().remove(&layer);
            }
            transaction.after_save(move |transaction| {
                if !transaction.layers().has(&layer) {
                    transaction.discard_layer(&layer)?;
                }
                transaction.discard_container(&id)
            });
            Ok(())
        })
    }

    /// Deletes whatever has the key, container before image before layer, without a look at who uses
    /// it. Of an image only the record and its blobs go.
    ///
    /// # Errors
    /// When nothing has the key.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        if self.containers()?.find(key).is_some() {
            return self.delete_container(key);
        }
        let key = key.to_owned();
        self.write(Scope::ALL, move |transaction| {
            transaction.require_durable();
            if let Some(image) = transaction.images().find(&key)? {
                transaction.delete_image_record(&image.id);
                return Ok(());
            }
            let layer = transaction
                .layers()
                .find(&key)?
                .ok_or(Error::Unknown(Kind::Layer))?;
            transaction.delete_layer_record(&layer.id)
        })
    }

    /// Deletes everything: containers, images, layers.
    ///
    /// # Errors
    /// When the records can't be saved; nothing is then deleted.
    pub fn wipe(&self) -> Result<(), Error> {
        self.write(Scope::ALL, move |transaction| {
            transaction.require_durable();
            for id in transaction.containers().ids() {
                transaction.containers().remove(&id);
                transaction.after_save(move |transaction| transaction.discard_container(&id));
            }
            for id in transaction.images().ids() {
                transaction.delete_image_record(&id);
            }
            // Newest first: children before parents.
            for id in transaction.layers().ids().iter().rev() {
                transaction.delete_layer_record(id)?;
            }
            transaction.after_save(|transaction| {
                for id in transaction.store.driver.list()? {
                    transaction.discard_layer(&id)?;
                }
                Ok(())
            });
            Ok(())
        })
    }
}

impl Transaction<'_> {
    pub(super) fn check_unused(&mut self, layer: &LayerRecord) -> Result<(), Error> {
        let id = layer.id.as_str();
        let child = self.layers().search(id, |child| child.parent == id)?;
        if child.is_some() {
            return Err(Error::HasChildren);
        }
        let image = self.images().search(id, |image| image.layer == id)?;
        if let Some(image) = image {
            return Err(Error::LayerUsedByImage(image.id.clone()));
        }
        let container = self
            .containers()
            .search(id, |container| container.layer == id)?;
        match container {
            Some(container) => Err(Error::LayerUsedByContainer(container.id.clone())),
            None => Ok(()),
        }
    }

    fn why_no_image(&mut self, key: &str) -> Result<Error, Error> {
        for images in self.store.other_images() {
            if images.read(|table| table.find(key).is_some())? {
                return Ok(Error::ReadOnly);
            }
        }
        Ok(Error::NotA { kind: Kind::Image })
    }

    /// The layers that nobody but `image` uses: its mapped top layers, then from the top layer down.
    fn layers_only_of(&mut self, image: &ImageRecord) -> Result<Vec<String>, Error> {
        let mut removed: Vec<String> = Vec::new();
        for id in &image.mapped_layers {
            if self.layers().has(id) && self.is_only_of(image, id, &removed)? {
                removed.push(id.clone());
            }
        }
        let mut next = self.layers().find_id(&image.layer)?;
        while let Some(layer) = next {
            if !self.is_only_of(image, &layer.id, &removed)? {
                break;
            }
            removed.push(layer.id.clone());
            next = self.layers().find_id(&layer.parent)?;
        }
        Ok(removed)
    }

    /// True when no other image, no container and no layer but the `removed` ones needs the layer `id`.
    fn is_only_of(
        &mut self,
        image: &ImageRecord,
        id: &str,
        removed: &[String],
    ) -> Result<bool, Error> {
        let uses = |other: &ImageRecord| other.top_layers().any(|layer| layer == id);
        let other = self
            .images()
            .search(id, |other| other.id != image.id && uses(other))?;
        let container = self
            .containers()
            .search(id, |container| container.layer == id)?;
        let child = self.layers().search(id, |child| {
            child.parent == id && !removed.contains(&child.id)
        })?;
        Ok(other.is_none() && container.is_none() && child.is_none())
    }

    fn delete_image_record(&mut self, id: &str) {
        self.images().remove(id);
        let id = id.to_owned();
        self.after_save(move |transaction| {
            if transaction.images().has(&id) {
                return Ok(());
            }
            let store = transaction.store;
            for dir in store.images.dirs() {
                let entry = store.staging_beside(dir).entry()?;
                if entry.take_in(dir, &id)? {
                    transaction.throw_away(entry);
                }
            }
            Ok(())
        });
    }

    fn discard_container(&mut self, id: &str) -> Result<(), Error> {
        // A later change of the same batch may have made a container of this ID again.
        if self.containers().has(id) {
            return Ok(());
        }
        let store = self.store;
        let entry = store.staging.entry()?;
        if entry.take_in(store.containers.dir(), id)? {
            self.throw_away(entry);
        }
        // The run root is another file system, and holds little.
        store.container_run.remove_tree(id)?;
        Ok(())
    }
}

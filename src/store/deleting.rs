//! Deleting: the record first, then the contents; never what others stand on.

use std::collections::HashSet;
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
                .find(&key)
                .ok_or(Error::NotA { kind: Kind::Layer })?;
            transaction.check_unused(&layer)?;
            let mapped = transaction.images().look(|table| {
                table
                    .iter()
                    .find(|row| row.record.mapped_layers.contains(&layer.id))
                    .map(|row| Arc::clone(&row.record))
            });
            if let Some(image) = mapped {
                let mut image = Arc::unwrap_or_clone(image);
                image.mapped_layers.retain(|id| *id != layer.id);
                transaction.images().put(image, 0);
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
            let image = match transaction.images().find(&key) {
                Some(image) => image,
                None => return Err(transaction.why_no_image(&key)?),
            };
            let user = transaction.containers().look(|table| {
                table
                    .iter()
                    .find(|row| row.record.image == image.id)
                    .map(|row| row.record.id.clone())
            });
            if let Some(container) = user {
                return Err(Error::ImageUsedByContainer(container));
            }
            let layers = transaction.layers_only_of(&image);
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
            let container = transaction.containers().find(&key).ok_or(Error::NotA {
                kind: Kind::Container,
            })?;
            if !container.flags.is_set(super::Flags::VOLATILE) {
                transaction.require_durable();
            }
            transaction.containers().remove(&container.id);
            if transaction.layers().find_id(&container.layer).is_some() {
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
            if transaction.containers().find_id(&id).is_some() {
                return Ok(());
            }
            let layer = super::id::of_container_layer(&id);
            if let Some(record) = transaction.layers().find_id(&layer) {
                if transaction.check_unused(&record).is_err() {
                    return Ok(());
                }
                transaction.layers().remove(&layer);
            }
            transaction.after_save(move |transaction| {
                if transaction.layers().find_id(&layer).is_none() {
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
            if let Some(image) = transaction.images().find(&key) {
                transaction.delete_image_record(&image.id);
                return Ok(());
            }
            let layer = transaction
                .layers()
                .find(&key)
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
            let ids = transaction.containers().look(|table| {
                table
                    .iter()
                    .map(|row| row.record.id.clone())
                    .collect::<Vec<_>>()
            });
            for id in ids {
                transaction.containers().remove(&id);
                transaction.after_save(move |transaction| transaction.discard_container(&id));
            }
            let ids = transaction.images().look(|table| {
                table
                    .iter()
                    .map(|row| row.record.id.clone())
                    .collect::<Vec<_>>()
            });
            for id in ids {
                transaction.delete_image_record(&id);
            }
            // Newest first: children before parents.
            let ids = transaction.layers().look(|table| {
                table
                    .iter()
                    .map(|row| row.record.id.clone())
                    .collect::<Vec<_>>()
            });
            for id in ids.iter().rev() {
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
    fn check_unused(&mut self, layer: &LayerRecord) -> Result<(), Error> {
        let has_children = self
            .layers()
            .look(|table| table.iter().any(|row| row.record.parent == layer.id));
        if has_children {
            return Err(Error::HasChildren);
        }
        let image = self.images().look(|table| {
            table
                .iter()
                .find(|row| row.record.layer == layer.id)
                .map(|row| row.record.id.clone())
        });
        if let Some(image) = image {
            return Err(Error::LayerUsedByImage(image));
        }
        let container = self.containers().look(|table| {
            table
                .iter()
                .find(|row| row.record.layer == layer.id)
                .map(|row| row.record.id.clone())
        });
        match container {
            Some(container) => Err(Error::LayerUsedByContainer(container)),
            None => Ok(()),
        }
    }

    fn why_no_image(&mut self, key: &str) -> Result<Error, Error> {
        for other in self
            .store
            .others
            .iter()
            .filter_map(|other| other.images.as_ref())
        {
            if other.read(|table| table.find(key).is_some())? {
                return Ok(Error::ReadOnly);
            }
        }
        Ok(Error::NotA { kind: Kind::Image })
    }

    /// The layers that nobody but `image` uses: its mapped top layers, then from the top layer down.
    fn layers_only_of(&mut self, image: &ImageRecord) -> Vec<String> {
        let used: HashSet<String> = self.images().look(|table| {
            table
                .iter()
                .filter(|row| row.record.id != image.id)
                .flat_map(|row| {
                    row.record
                        .top_layers()
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                })
                .collect()
        });
        let containers: HashSet<String> = self
            .containers()
            .look(|table| table.iter().map(|row| row.record.layer.clone()).collect());
        self.layers().look(|table| {
            let mut removed: Vec<String> = Vec::new();
            let is_free = |id: &str, removed: &[String]| {
                !used.contains(id)
                    && !containers.contains(id)
                    && !table
                        .iter()
                        .any(|row| row.record.parent == id && !removed.contains(&row.record.id))
            };
            for id in &image.mapped_layers {
                if table.find_id(id).is_some() && is_free(id, &removed) {
                    removed.push(id.clone());
                }
            }
            let mut next = Some(image.layer.clone());
            while let Some(row) = next.as_deref().and_then(|id| table.find_id(id)) {
                if !is_free(&row.record.id, &removed) {
                    break;
                }
                removed.push(row.record.id.clone());
                next = Some(row.record.parent.clone());
            }
            removed
        })
    }

    fn delete_image_record(&mut self, id: &str) {
        self.images().remove(id);
        let id = id.to_owned();
        self.after_save(move |transaction| {
            if transaction.images().find_id(&id).is_some() {
                return Ok(());
            }
            let store = transaction.store;
            let entry = store.staging.entry()?;
            if entry.take_in(store.images.dir(), &id)? {
                transaction.throw_away(entry);
            }
            Ok(())
        });
    }

    fn discard_container(&mut self, id: &str) -> Result<(), Error> {
        // A later change of the same batch may have made a container of this ID again.
        if self.containers().find_id(id).is_some() {
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

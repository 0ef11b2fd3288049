//! Who uses the space of a store: what each layer, image and container has alone, and what it shares.
//!
//! What counts are blocks of the disk, each once: holes are nothing, a file with several names is one file, and blocks
//! that files share by reflink belong to all layers that have them.
//!
//! | File | What |
//! |---|---|
//! | `measure` | what was found on the disk |
//! | `standing` | whom it is counted to |

mod measure;
mod standing;

use std::collections::HashMap;

use super::error::Error;
use super::{Record as _, Store};
use measure::{Measure, tree_bytes};
use standing::Standing;

/// The bytes of one object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// What its deletion would free.
    pub own: u64,
    /// What others have too.
    pub shared: u64,
}

/// A layer and its own difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerUsage {
    /// Its ID.
    pub id: String,
    /// That of the layer below; empty without.
    pub parent: String,
    /// Its names.
    pub names: Vec<String>,
    /// What it uses. Layers above it are not asked: they would have to go first.
    pub bytes: Bytes,
    /// True when an image or a container stands on it.
    pub is_used: bool,
}

/// An image or a container with all layers below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectUsage {
    /// Its ID.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Its top layers; a container has one.
    pub tops: Vec<String>,
    /// What it uses, with its data items and directories.
    pub bytes: Bytes,
}

/// The whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All layers of the store itself.
    pub layers: Vec<LayerUsage>,
    /// All images of the store itself.
    pub images: Vec<ObjectUsage>,
    /// All containers.
    pub containers: Vec<ObjectUsage>,
    /// What all of them use together.
    pub total: u64,
    /// The part of it that no image and no container needs.
    pub unused: u64,
}

impl Store {
    /// Measures what everything in the store uses. Takes no lock for longer than reading the records does: what
    /// vanishes meanwhile is not counted.
    ///
    /// # Errors
    /// When records or layers can't be read.
    pub fn usage(&self) -> Result<Usage, Error> {
        let mut layers: Vec<_> = self.layers()?.iter().collect();
        layers.retain(|layer| !layer.is_read_only);
        let ids = layers.iter().map(|layer| &*layer.id);
        let places: HashMap<&str, usize> = ids.clone().zip(0..).collect();
        let measure = Measure::of(self, ids)?;

        let mut objects = self.images_with_data()?;
        let image_count = objects.len();
        objects.extend(self.containers_with_data()?);
        let data: u64 = objects.iter().map(|object| object.bytes.own).sum();
        let tops = objects.clone();
        let standing = Standing::of(&tops, &places, |place| &layers[place].record.parent);
        standing.count(&measure, &mut objects);

        let shared = measure.shared();
        let layers = layers.iter().enumerate().map(|(place, layer)| LayerUsage {
            id: layer.id.clone(),
            parent: layer.parent.clone(),
            names: layer.names.clone(),
            bytes: Bytes {
                own: measure.alone[place],
                shared: shared[place],
            },
            is_used: !standing.is_unused(&place),
        });
        let containers = objects.split_off(image_count);
        Ok(Usage {
            layers: layers.collect(),
            images: objects,
            containers,
            total: measure.total() + data,
            unused: measure.sum_of(|place| standing.is_unused(place)),
        })
    }

    /// The store's own images, with the bytes of their data items alone.
    fn images_with_data(&self) -> Result<Vec<ObjectUsage>, Error> {
        let images = self.images()?;
        let own = images.iter().filter(|image| !image.is_read_only);
        own.map(|image| {
            let tops = image.top_layers().filter(|top| !top.is_empty());
            let folder = self.0.images.dir_of(&image.id).find_dir(&image.id)?;
            Ok(ObjectUsage {
                id: image.id.clone(),
                names: image.names.clone(),
                tops: tops.map(str::to_owned).collect(),
                bytes: Bytes {
                    own: tree_bytes(folder)?,
                    shared: 0,
                },
            })
        })
        .collect()
    }

    /// The containers, with the bytes of their data items and directories alone.
    fn containers_with_data(&self) -> Result<Vec<ObjectUsage>, Error> {
        let containers = self.containers()?;
        let usage = containers.iter().map(|container| {
            let folder = self.0.containers.dir().find_dir(container.id())?;
            Ok(ObjectUsage {
                id: container.id.clone(),
                names: container.names.clone(),
                tops: vec![container.layer.clone()],
                bytes: Bytes {
                    own: tree_bytes(folder)?,
                    shared: 0,
                },
            })
        });
        usage.collect()
    }
}

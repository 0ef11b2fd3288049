//! Makes images of containers: what a container changed becomes a layer on its image's layers.
//!
//! | File | What |
//! |---|---|
//! | [`change`] | changes of what an image runs as |
//! | `config` | the new config |
//! | `layer` | the new layer |

pub mod change;
mod config;
mod layer;

use std::sync::Arc;

use serde_json::{Map, Value};

pub use self::change::{Change, ParseChangeError};
pub use self::layer::LayerError;

use self::config::News;
use self::layer::Part;
use super::image_config::layer_ids;
use super::manifest::{Descriptor, Manifest, layer_media_type, media_type};
use super::source::SourceError;
use super::stored::{self, StoredError, StoredImage};
use crate::archive::compression::Compression;
use crate::archive::retime::Times;
use crate::digest::Digest;
use crate::store::{
    self, ContainerRecord, Kind, LayerRecord, NewImage, NewLayer, StagedLayer, Store, Time,
};

/// An archive without members: the mark of its end alone.
const EMPTY_ARCHIVE: u64 = 1024;

/// What to make an image of, and how.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// ID, name or prefix of the container.
    pub container: String,
    /// Names for the image, which are taken from others.
    pub names: Vec<String>,
    /// Who made it.
    pub author: Option<String>,
    /// What its history shall say.
    pub message: Option<String>,
    /// Changes of what it runs as, in order.
    pub changes: Vec<Change>,
    /// When it was made; now, when not said.
    pub created: Option<Time>,
    /// What becomes of the times of the new layer's files.
    pub times: Times,
    /// The image gets one layer, with all that is seen in the container.
    pub squash: bool,
}

/// An image that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its ID in the store: the digest of its config.
    pub image_id: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its names.
    pub names: Vec<String>,
    /// The ID of its top layer; none when it has no layer at all.
    pub layer: Option<String>,
    /// How large the new layer is as an archive; 0 without changes, when there is none.
    pub layer_size: u64,
}

/// Why no image was made. Nothing of it is left in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The store failed, or there is no such container.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The image that the container was made from is broken.
    #[error("the image {image} of the container")]
    Base {
        /// Its ID.
        image: String,
        /// What is wrong with it.
        source: SourceError,
    },
    /// The files of a layer can't be made a layer of an image.
    #[error("layer {layer}")]
    Layer {
        /// The ID of the container's or image's layer.
        layer: String,
        /// Why.
        source: LayerError,
    },
}

/// Makes an image of what `request` names.
///
/// The image stands on the layers that the container stands on. Those that no archive is known of,
/// because they were filled by hand, are made image layers first.
///
/// # Errors
/// See [`CommitError`].
pub fn commit(store: &Store, request: &CommitRequest) -> Result<Committed, CommitError> {
    let container = store
        .find_container(&request.container)?
        .ok_or(store::Error::Unknown(Kind::Container))?;
    let mut base = base_config(store, &container)?;
    let mut chain = stored::chain(store, &container.layer)?;
    let own = chain.pop().ok_or(store::Error::Unknown(Kind::Layer))?;
    let part = match request.squash {
        false => Part::Difference,
        true => {
            // It tells of layers that are no longer there.
            base.remove("history");
            chain.clear();
            Part::Whole
        }
    };
    let mut stack = Stack::of_images(store, &chain, request.times)?;
    let staged = stack.stage(&own, part)?;
    let layer_size = match &staged {
        Some((_, staged)) => staged.measured.as_ref().map_or(0, |found| found.diff_size),
        None => 0,
    };
    let created = request.created.unwrap_or_else(Time::now);
    let config = config::write(
        base,
        &News {
            created,
            author: request.author.as_deref(),
            message: request.message.as_deref(),
            changes: &request.changes,
            diff_ids: &stack.diff_ids(),
            has_new_layer: staged.is_some(),
        },
    );
    let manifest = stack.manifest(&config).to_oci();
    let digest = Digest::of(&manifest);
    let config_digest = Digest::of(&config);
    let image = store.create_image(NewImage {
        id: Some(config_digest.hex().to_owned()),
        names: request.names.clone(),
        steal_names: true,
        layer: stack.top.clone(),
        metadata: stored::metadata(&digest),
        created: Some(created),
        digest: Some(digest.clone()),
        big_data: stored::big_data((&config_digest, &config), &[(&digest, &manifest)]),
        layers: staged.into_iter().collect(),
        extend: true,
        ..NewImage::default()
    })?;
    Ok(Committed {
        image_id: image.id.clone(),
        digest,
        names: image.names.clone(),
        layer: stack.top,
        layer_size,
    })
}

/// The config of the image that the container was made from; empty when there is none.
fn base_config(
    store: &Store,
    container: &ContainerRecord,
) -> Result<Map<String, Value>, CommitError> {
    if container.image.is_empty() {
        return Ok(Map::new());
    }
    let record = store
        .find_image(&container.image)?
        .ok_or(store::Error::Unknown(Kind::Image))?;
    let broken = |source| CommitError::Base {
        image: container.image.clone(),
        source,
    };
    let image = match StoredImage::load(store, &record) {
        Ok(Some(image)) => image,
        Ok(None) => return Ok(Map::new()),
        Err(StoredError::Store(error)) => return Err(error.into()),
        Err(StoredError::Broken(error)) => return Err(broken(error)),
    };
    serde_json::from_slice(&image.config)
        .map_err(|error| broken(SourceError::corrupt("the image config", error)))
}

/// The layers of the new image, as far as they are known.
struct Stack<'a> {
    store: &'a Store,
    times: Times,
    /// Lowest first: what the manifest says of each, where the digest is that of the plain archive.
    layers: Vec<Descriptor>,
    /// The store's layer that the next one stands on.
    top: Option<String>,
}

impl<'a> Stack<'a> {
    /// The layers of `chain`, lowest first. Some may have to be made anew.
    fn of_images(
        store: &'a Store,
        chain: &[Arc<LayerRecord>],
        times: Times,
    ) -> Result<Self, CommitError> {
        let mut stack = Self {
            store,
            times,
            layers: Vec::with_capacity(chain.len() + 1),
            top: None,
        };
        for layer in chain {
            if let Some(id) = stack.equal(layer)?
                && let Some(diff_id) = layer.diff_digest.get()
            {
                stack.push(diff_id, layer.diff_size.unsigned_abs());
                stack.top = Some(id);
            } else if let Some((new, staged)) = stack.stage(layer, Part::Difference)? {
                match store.create_layer(new, Some(staged)) {
                    Ok(_) | Err(store::Error::DuplicateId) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(stack)
    }

    /// A layer that an image may stand on and that is `layer`, or has its contents: itself, unless it
    /// stands elsewhere or is a container's copy with other owners. None when there is none yet.
    fn equal(&self, layer: &LayerRecord) -> Result<Option<String>, CommitError> {
        let Some(diff_id) = layer.diff_digest.get() else {
            return Ok(None);
        };
        let is_mapped =
            |layer: &LayerRecord| !layer.uid_map.is_empty() || !layer.gid_map.is_empty();
        if self.top.as_deref().unwrap_or("") == layer.parent && !is_mapped(layer) {
            return Ok(Some(layer.id.clone()));
        }
        let mut diff_ids = self.diff_ids();
        diff_ids.push(diff_id.clone());
        let Some(id) = layer_ids(&diff_ids).pop() else {
            return Ok(None);
        };
        let found = self.store.find_layer(&id)?;
        let fits = found
            .is_some_and(|found| found.id == id && !found.is_incomplete() && !is_mapped(&found));
        Ok(fits.then_some(id))
    }

    fn push(&mut self, diff_id: &Digest, size: u64) {
        let kind = layer_media_type(Compression::None).unwrap_or_default();
        self.layers
            .push(Descriptor::new(kind, diff_id.clone(), size));
    }

    fn diff_ids(&self) -> Vec<Digest> {
        self.layers
            .iter()
            .map(|layer| layer.digest.clone())
            .collect()
    }

    /// Stages files of `layer` as the next layer; none when there are none.
    fn stage(
        &mut self,
        layer: &LayerRecord,
        part: Part,
    ) -> Result<Option<(NewLayer, StagedLayer)>, CommitError> {
        let fail = |source| CommitError::Layer {
            layer: layer.id.clone(),
            source,
        };
        let staged =
            layer::stage(self.store, layer, part, self.top.as_deref(), self.times).map_err(fail)?;
        let Some(measured) = &staged.measured else {
            return Ok(None);
        };
        if measured.diff_size <= EMPTY_ARCHIVE {
            return Ok(None);
        }
        self.push(&measured.diff_id, measured.diff_size);
        let parent = self.top.take();
        // The ID that every tool would give it.
        self.top = layer_ids(&self.diff_ids()).pop();
        let new = NewLayer {
            id: self.top.clone(),
            parent,
            is_read_only: true,
            ..NewLayer::default()
        };
        Ok(Some((new, staged)))
    }

    fn manifest(&self, config: &[u8]) -> Manifest {
        Manifest {
            config: Descriptor::new(
                media_type::OCI_CONFIG,
                Digest::of(config),
                config.len() as u64,
            ),
            layers: self.layers.clone(),
        }
    }
}

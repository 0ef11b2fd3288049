//! [`Pusher`]: sends images of the store to where others find them.
//!
//! ```text
//! manifest, config, layers ──┬── layer: there already, in some form ──┐
//! (what is it?)              ├── layer: put together, compress, send ─┼── config ── manifest
//!                            └── layer: …                a few at once ┘
//! ```
//!
//! | File | What |
//! |---|---|
//! | `image` | what of the image has to go, and the manifest for it |
//! | `layers` | the threads that compress and send |
//! | `error` | [`PushError`] |

mod error;
mod image;
mod layers;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::runtime::Handle;

pub use error::PushError;

use self::image::{Image, Layer};
use self::layers::{Work, for_each, plain};
use super::credentials::Credentials;
use super::destination::Destination;
use super::layout_writer::{ArchiveWriter, LayoutWriter};
use super::manifest::Descriptor;
use super::pull::Progress;
use super::reference::{ImageSource, Reference};
use super::registry::{Neighbours, Registry, Transport};
use crate::archive::compression::Compression;
use crate::digest::Digest;
use crate::store::{Found, ImageRecord, Store};

/// How many repositories of a registry may be asked for a blob that it may have there.
const MOST_NEIGHBOURS: usize = 4;

/// What to push.
#[derive(Clone)]
pub struct PushRequest {
    /// ID, name or reference of the image in the store.
    pub image: String,
    /// Where to.
    pub destination: ImageSource,
    /// How layers are compressed that the destination does not have: gzip, zstd or none.
    pub compression: Compression,
    /// The login for the registry.
    pub credentials: Option<Credentials>,
    /// Layers that are compressed and sent at once.
    pub lanes: usize,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
}

impl PushRequest {
    /// The image with gzip, two layers at once, without a login, unobserved.
    pub fn new(image: impl Into<String>, destination: ImageSource) -> Self {
        Self {
            image: image.into(),
            destination,
            compression: Compression::Gzip,
            credentials: None,
            lanes: 2,
            progress: Arc::new(()),
        }
    }
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest at the destination.
    pub digest: Digest,
    /// Length of the manifest.
    pub size: u64,
    /// Layers that were sent.
    pub layers_sent: usize,
    /// Layers that the destination had.
    pub layers_present: usize,
    /// Bytes of layers that were sent.
    pub bytes_sent: u64,
}

/// Sends images of a store.
#[derive(Clone, Debug)]
pub struct Pusher {
    store: Store,
    runtime: Handle,
    transport: Transport,
}

impl Pusher {
    /// The runtime must have threads of its own, for it talks to registries while others block.
    pub fn new(store: Store, runtime: Handle, transport: Transport) -> Self {
        Self {
            store,
            runtime,
            transport,
        }
    }

    /// Pushes an image on this thread, which must not be one of a runtime.
    ///
    /// # Errors
    /// See [`PushError`].
    pub fn push_here(&self, request: &PushRequest) -> Result<Pushed, PushError> {
        let name = &*request.image;
        let record = self
            .find(name)?
            .ok_or_else(|| PushError::Unknown(name.to_owned()))?;
        let image = Image::load(&self.store, name, &record)?;
        let destination = self.open(request, &image)?;
        let work = Work {
            store: &self.store,
            destination: destination.as_ref(),
            name,
            compression: request.compression,
            progress: request.progress.as_ref(),
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
        };
        let count = image.layers.len();
        // Asking costs the registry's time alone, so more may ask than compress.
        let askers = request.lanes.max(1) * 4;
        let mut found = for_each(name, count, askers, &work.stop, |number| {
            work.find(&image.layers[number])
        })?;
        let missing: Vec<usize> = (0..count).filter(|at| found[*at].is_none()).collect();
        let told: Vec<Descriptor> = missing
            .iter()
            .map(|number| plain(&image.layers[*number]))
            .collect();
        request
            .progress
            .resolved(name, &told, count - missing.len());
        let lanes = request.lanes.max(1);
        let sent = for_each(name, missing.len(), lanes, &work.stop, |at| {
            work.send(&image.layers[missing[at]])
        })?;
        for (number, descriptor) in missing.iter().zip(sent) {
            found[*number] = Some(descriptor);
        }
        let layers: Vec<Descriptor> = found.into_iter().flatten().collect();
        let manifest = image.manifest(&layers, destination.takes_docker())?;
        let config = &image.stored.manifest.config.digest;
        destination
            .put_bytes(config, &image.stored.config)
            .map_err(PushError::Destination)?;
        destination
            .publish(&manifest)
            .map_err(PushError::Destination)?;
        Ok(Pushed {
            digest: manifest.digest,
            size: manifest.bytes.len() as u64,
            layers_sent: missing.len(),
            layers_present: count - missing.len(),
            bytes_sent: work.sent.load(Ordering::Relaxed),
        })
    }

    /// The image of this ID or name; a short name may be one that was made here, or Docker Hub's.
    fn find(&self, name: &str) -> Result<Option<Found<ImageRecord>>, PushError> {
        if let Some(found) = self.store.find_image(name)? {
            return Ok(Some(found));
        }
        for reference in [Reference::parse_local(name), name.parse()] {
            if let Ok(reference) = reference
                && let Some(found) = self.store.find_image(&reference.storage_name())?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn open(
        &self,
        request: &PushRequest,
        image: &Image,
    ) -> Result<Box<dyn Destination>, PushError> {
        Ok(match &request.destination {
            ImageSource::Registry(reference) => {
                let neighbours = self.neighbours(reference, image)?;
                let registry = Registry::for_push(
                    self.runtime.clone(),
                    self.transport.clone(),
                    reference.clone(),
                    request.credentials.clone(),
                    neighbours,
                )
                .map_err(PushError::Destination)?;
                Box::new(registry)
            }
            ImageSource::Layout { dir, name } => {
                Box::new(LayoutWriter::open(dir, name.as_deref()).map_err(PushError::Destination)?)
            }
            ImageSource::Archive { file, name } => Box::new(
                ArchiveWriter::create(file, name.as_deref()).map_err(PushError::Destination)?,
            ),
        })
    }

    /// Other repositories of the same registry that images with some of these layers came from or went
    /// to: it may take the layers from there.
    fn neighbours(&self, reference: &Reference, image: &Image) -> Result<Neighbours, PushError> {
        let layers = self.store.layers()?;
        let ours: HashMap<&str, &Layer> = image
            .layers
            .iter()
            .map(|layer| (layer.id.as_str(), layer))
            .collect();
        let mut neighbours = Neighbours::new();
        let mut repositories = BTreeSet::new();
        for other in self.store.images()?.iter() {
            let names = other.names.iter().chain(&other.names_history);
            let parsed = names.filter_map(|name| name.parse::<Reference>().ok());
            let near = parsed.filter(|known| {
                known.host() == reference.host() && known.repository() != reference.repository()
            });
            let near: BTreeSet<String> = near.map(|known| known.repository().to_owned()).collect();
            let mut next = Some(other.layer.clone()).filter(|_| !near.is_empty());
            while let Some(layer) = next.and_then(|id| layers.find_id(&id)) {
                for blob in ours
                    .get(layer.id.as_str())
                    .into_iter()
                    .flat_map(|l| &l.known)
                {
                    for repository in &near {
                        if repositories.contains(repository) || repositories.len() < MOST_NEIGHBOURS
                        {
                            repositories.insert(repository.clone());
                            let known = neighbours.entry(blob.digest.clone()).or_default();
                            if !known.contains(repository) {
                                known.push(repository.clone());
                            }
                        }
                    }
                }
                next = Some(layer.parent.clone());
            }
        }
        Ok(neighbours)
    }
}

//! What of an image has to go to a destination, and what its manifest says of it there.

use std::sync::Arc;

use serde_json::{Value, json};

use super::error::PushError;
use crate::archive::compression::Compression;
use crate::digest::Digest;
use crate::oci::manifest::{Descriptor, layer_compression, layer_media_type, media_type};
use crate::oci::source::{Resolved, SourceError};
use crate::oci::stored::{self, StoredImage};
use crate::store::{ImageRecord, LayerRecord, Store};

/// An image in the store, and the layers that hold its contents.
#[derive(Debug)]
pub(super) struct Image {
    /// Its manifest and config.
    pub(super) stored: StoredImage,
    /// Lowest first.
    pub(super) layers: Vec<Layer>,
}

/// One layer of an image.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Digest of the uncompressed archive.
    pub(super) diff_id: Digest,
    /// Its length, as far as the store knows it.
    pub(super) size: u64,
    /// The store's layer.
    pub(super) id: String,
    /// Forms in which it is known to have been somewhere: in the manifest, and as it came here.
    pub(super) known: Vec<Descriptor>,
}

impl Image {
    /// Reads the image of the record; `name` is for messages.
    pub(super) fn load(store: &Store, name: &str, record: &ImageRecord) -> Result<Self, PushError> {
        let stored = StoredImage::load(store, record)
            .map_err(|error| PushError::stored(name, error))?
            .ok_or_else(|| PushError::NoManifest(name.to_owned()))?;
        let broken = |detail: String| PushError::Broken {
            image: name.to_owned(),
            source: SourceError::corrupt(name, detail),
        };
        let chain = stored::chain(store, &record.layer)?;
        let diff_ids = &stored.parsed.diff_ids;
        if diff_ids.len() != stored.manifest.layers.len() || diff_ids.len() != chain.len() {
            return Err(broken(format!(
                "its config lists {} layers, its manifest {}, and the store has {}",
                diff_ids.len(),
                stored.manifest.layers.len(),
                chain.len()
            )));
        }
        let mut layers = Vec::with_capacity(chain.len());
        let listed = diff_ids.iter().zip(&stored.manifest.layers);
        for ((diff_id, descriptor), record) in listed.zip(chain) {
            if record
                .diff_digest
                .get()
                .is_some_and(|found| found != diff_id)
            {
                return Err(broken(format!(
                    "its layer {} is not the one that its config lists",
                    record.id
                )));
            }
            layers.push(Layer {
                diff_id: diff_id.clone(),
                size: record.diff_size.unsigned_abs(),
                id: record.id.clone(),
                known: known_forms(descriptor, &record),
            });
        }
        Ok(Self { stored, layers })
    }

    /// The manifest for these descriptors of its layers: the image's own, byte for byte, if it says
    /// the same, else one of OCI's.
    pub(super) fn manifest(
        &self,
        layers: &[Descriptor],
        takes_docker: bool,
    ) -> Result<Resolved, PushError> {
        let stored = &self.stored;
        let own = &stored.manifest;
        let same = |(ours, theirs): (&Descriptor, &Descriptor)| {
            ours.digest == theirs.digest && ours.size == theirs.size
        };
        let is_docker = own.config.media_type == media_type::DOCKER_CONFIG;
        let is_unchanged = own.layers.iter().zip(layers).all(same);
        if is_unchanged && (takes_docker || !is_docker) {
            return Ok(Resolved {
                bytes: stored.bytes.clone(),
                digest: stored.digest.clone(),
                media_type: match is_docker {
                    true => media_type::DOCKER_MANIFEST,
                    false => media_type::OCI_MANIFEST,
                }
                .to_owned(),
            });
        }
        // What we don't know of the manifest, as its annotations, stays.
        let corrupt = |error| SourceError::corrupt("the manifest", error);
        let mut written: Value = serde_json::from_slice(&stored.bytes)
            .map_err(corrupt)
            .map_err(PushError::Destination)?;
        let written_layers: Vec<Descriptor> = layers.iter().map(in_oci).collect();
        written["mediaType"] = json!(media_type::OCI_MANIFEST);
        written["config"]["mediaType"] = json!(media_type::OCI_CONFIG);
        written["layers"] = json!(written_layers);
        let bytes = written.to_string().into_bytes();
        Ok(Resolved {
            digest: Digest::of(&bytes),
            bytes,
            media_type: media_type::OCI_MANIFEST.to_owned(),
        })
    }
}

/// A layer's descriptor with OCI's media type.
fn in_oci(layer: &Descriptor) -> Descriptor {
    let kind = layer_compression(&layer.media_type)
        .ok()
        .and_then(layer_media_type);
    Descriptor {
        media_type: kind.map_or_else(|| layer.media_type.clone(), str::to_owned),
        ..layer.clone()
    }
}

/// The blobs that are known to hold a layer, the manifest's own first.
fn known_forms(descriptor: &Descriptor, record: &Arc<LayerRecord>) -> Vec<Descriptor> {
    let mut known = vec![descriptor.clone()];
    if let (Some(digest), Some(kind)) = (
        record.compressed_diff_digest.get(),
        Compression::from_number(record.compression).and_then(layer_media_type),
    ) && *digest != descriptor.digest
        && record.compressed_size > 0
    {
        let size = record.compressed_size.unsigned_abs();
        known.push(Descriptor::new(kind, digest.clone(), size));
    }
    known
}

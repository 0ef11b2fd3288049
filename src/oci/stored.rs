//! [`StoredImage`]: an image of the store as what a registry would hold.

use std::sync::Arc;

use super::image_config::ImageConfig;
use super::manifest::{Document, Manifest};
use super::source::SourceError;
use crate::digest::Digest;
use crate::store::{self, BigDataItem, ImageRecord, Kind, LayerRecord, Store};

/// Under which key the store keeps an image's manifest.
const MANIFEST: &str = "manifest";

/// The manifest and config of an image in the store.
#[derive(Clone, Debug)]
pub(super) struct StoredImage {
    /// The manifest's bytes.
    pub(super) bytes: Vec<u8>,
    /// Their digest.
    pub(super) digest: Digest,
    /// What they say.
    pub(super) manifest: Manifest,
    /// The config's bytes.
    pub(super) config: Vec<u8>,
    /// What they say.
    pub(super) parsed: ImageConfig,
}

/// Why an image of the store can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The image's manifest or config is broken.
    #[error(transparent)]
    Broken(#[from] SourceError),
}

impl StoredImage {
    /// Reads the image of the record; `None` when it has no manifest, as an image made by hand.
    pub(super) fn load(store: &Store, record: &ImageRecord) -> Result<Option<Self>, StoredError> {
        if !record.big_data_names.iter().any(|key| key == MANIFEST) {
            return Ok(None);
        }
        let bytes = store.big_data(Kind::Image, &record.id, MANIFEST)?;
        let Document::Manifest(manifest) = Document::parse(&bytes, "")? else {
            return Err(SourceError::corrupt(
                format_args!("the image {}", record.id),
                "its manifest is an index",
            )
            .into());
        };
        let key = manifest.config.digest.as_str();
        let config = store.big_data(Kind::Image, &record.id, key)?;
        let parsed = ImageConfig::parse(&config)?;
        Ok(Some(Self {
            digest: Digest::of(&bytes),
            bytes,
            manifest,
            config,
            parsed,
        }))
    }
}

/// The layer `top` and those below it, lowest first; none when `top` is empty.
pub(super) fn chain(store: &Store, top: &str) -> Result<Vec<Arc<LayerRecord>>, store::Error> {
    let layers = store.layers()?;
    let mut chain: Vec<Arc<LayerRecord>> = Vec::new();
    let mut next = top.to_owned();
    while !next.is_empty() {
        let layer = layers
            .find_id(&next)
            // A circle is no chain either.
            .filter(|layer| chain.len() < layers.len() && !layer.is_incomplete())
            .ok_or(store::Error::Unknown(Kind::Layer))?;
        next.clone_from(&layer.parent);
        chain.push(layer.record);
    }
    chain.reverse();
    Ok(chain)
}

/// The blobs to be kept with an image, under the keys and in the order of containers/image: config,
/// manifests by digest, outermost first, the manifest, no signatures.
pub(super) fn big_data(
    config: (&Digest, &[u8]),
    manifests: &[(&Digest, &[u8])],
) -> Vec<BigDataItem> {
    let item = |key: String, bytes: &[u8], digest: &Digest| BigDataItem {
        key,
        bytes: bytes.to_vec(),
        digest: Some(digest.clone()),
    };
    let mut items = vec![BigDataItem::new(config.0.as_str(), config.1)];
    for (digest, bytes) in manifests {
        items.push(item(format!("manifest-{digest}"), bytes, digest));
    }
    if let Some((digest, bytes)) = manifests.last() {
        items.push(item(MANIFEST.to_owned(), bytes, digest));
        items.push(BigDataItem::new(
            format!("signature-{}", digest.hex()),
            Vec::new(),
        ));
    }
    items
}

/// An image's metadata as containers/image writes it: there are no signatures.
pub(super) fn metadata(manifest: &Digest) -> String {
    format!(r#"{{"signatures-sizes":{{"{manifest}":[]}}}}"#)
}

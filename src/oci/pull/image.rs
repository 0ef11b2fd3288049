//! What an image is made of: its manifests, its config, its layers, its names.

use super::error::PullError;
use crate::archive::compression::Compression;
use crate::digest::Digest;
use crate::oci::image_config::ImageConfig;
use crate::oci::manifest::{
    Descriptor, Document, LARGEST_CONFIG, Manifest, Platform, layer_compression,
};
use crate::oci::source::{Resolved, Source, SourceError, VerifyingReader, read_bounded};
use crate::oci::stored;
use crate::store::{BigDataItem, Time};

/// How many indexes may lead to a manifest.
const DEEPEST_INDEX: usize = 3;

/// An image as its source describes it; no layer of it is fetched yet.
#[derive(Debug)]
pub(super) struct Image {
    /// Digest of what the name leads to: of the index, if it is one.
    pub(super) digest: Digest,
    /// The indexes on the way, outermost first, and then the manifest.
    documents: Vec<Resolved>,
    config: Vec<u8>,
    config_digest: Digest,
    created: Option<Time>,
    /// Lowest first.
    pub(super) layers: Vec<LayerPlan>,
}

/// A layer: where it comes from and what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct LayerPlan {
    pub(super) descriptor: Descriptor,
    pub(super) compression: Compression,
    pub(super) diff_id: Digest,
    /// The store's ID.
    pub(super) id: String,
    pub(super) parent: Option<String>,
}

impl Image {
    /// Fetches everything about the image but its layers. `name` is for messages.
    pub(super) fn fetch(
        source: &dyn Source,
        name: &str,
        platform: &Platform,
    ) -> Result<Self, PullError> {
        let mut documents = vec![source.resolve()?];
        let manifest = descend(source, platform, &mut documents)?;
        let config = fetch_config(source, &manifest.config)?;
        let parsed = ImageConfig::parse(&config)?;
        let found = &parsed.platform;
        if !found.architecture.is_empty() && !platform.accepts(found) {
            return Err(PullError::Platform {
                image: name.to_owned(),
                found: found.to_string(),
                wanted: platform.to_string(),
            });
        }
        if parsed.diff_ids.len() != manifest.layers.len() {
            let detail = format!(
                "its config lists {} layers and its manifest {}",
                parsed.diff_ids.len(),
                manifest.layers.len()
            );
            return Err(SourceError::corrupt(name, detail).into());
        }
        let ids = parsed.layer_ids();
        let mut layers = Vec::with_capacity(ids.len());
        let mut parent = None;
        for ((descriptor, diff_id), id) in manifest.layers.into_iter().zip(parsed.diff_ids).zip(ids)
        {
            layers.push(LayerPlan {
                compression: layer_compression(&descriptor.media_type)?,
                descriptor,
                diff_id,
                id: id.clone(),
                parent: parent.replace(id),
            });
        }
        Ok(Self {
            digest: documents[0].digest.clone(),
            documents,
            config,
            config_digest: manifest.config.digest,
            created: parsed.created.and_then(|text| text.parse().ok()),
            layers,
        })
    }

    /// The store's ID of the image.
    pub(super) fn id(&self) -> &str {
        self.config_digest.hex()
    }

    /// When it was built, as its config says.
    pub(super) fn created(&self) -> Option<Time> {
        self.created
    }

    /// The manifest for the platform.
    fn manifest(&self) -> &Resolved {
        &self.documents[self.documents.len() - 1]
    }

    /// Digests under which the store shall find the image.
    pub(super) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.documents.iter().map(|document| &document.digest)
    }

    /// The blobs to be kept with the image, under the keys and in the order of containers/image:
    /// config, indexes, manifest by digest, manifest, no signatures.
    pub(super) fn big_data(&self) -> Vec<BigDataItem> {
        let manifests: Vec<(&Digest, &[u8])> = self
            .documents
            .iter()
            .map(|document| (&document.digest, document.bytes.as_slice()))
            .collect();
        stored::big_data((&self.config_digest, &self.config), &manifests)
    }

    /// The image's metadata as containers/image writes it: there are no signatures.
    pub(super) fn metadata(&self) -> String {
        stored::metadata(&self.manifest().digest)
    }
}

/// Goes through indexes down to the manifest for `platform`.
fn descend(
    source: &dyn Source,
    platform: &Platform,
    documents: &mut Vec<Resolved>,
) -> Result<Manifest, SourceError> {
    let mut document = Document::parse(&documents[0].bytes, &documents[0].media_type)?;
    loop {
        let index = match document {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(index) => index,
        };
        if documents.len() > DEEPEST_INDEX {
            return Err(SourceError::corrupt(
                "the index",
                format_args!("more than {DEEPEST_INDEX} lie in each other"),
            ));
        }
        let resolved = source.manifest(index.choose(platform)?)?;
        document = Document::parse(&resolved.bytes, &resolved.media_type)?;
        documents.push(resolved);
    }
}

fn fetch_config(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
    let what = format!("the config {}", descriptor.digest);
    if descriptor.size > LARGEST_CONFIG {
        return Err(SourceError::TooLarge {
            what,
            size: descriptor.size,
            limit: LARGEST_CONFIG,
        });
    }
    let reader = VerifyingReader::new(source.blob(descriptor)?, descriptor);
    read_bounded(reader, &what, LARGEST_CONFIG)
}

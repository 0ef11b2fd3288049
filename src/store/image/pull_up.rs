//! An image of an additional store gets a record in our own store when something about it is to change: its names, above all.
//! Its layers stay where they are.

use std::sync::Arc;

use super::record::ImageRecord;
use super::{BigDataItem, NewImage, Store};
use crate::store::RecordedDigest;
use crate::store::error::{Error, Kind};
use crate::store::transaction::Transaction;

impl Store {
    /// All data items of an image, wherever it is.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn image_items(&self, image: &ImageRecord) -> Result<Vec<BigDataItem>, Error> {
        let read = |key: &String| {
            Ok(BigDataItem {
                key: key.clone(),
                bytes: self.big_data(Kind::Image, &image.id, key)?,
                digest: image
                    .big_data_digests
                    .get(key)
                    .and_then(RecordedDigest::get)
                    .cloned(),
            })
        };
        image.big_data_names.iter().map(read).collect()
    }

    /// The image with exactly this ID in an additional store, when our own has none.
    pub(super) fn find_elsewhere(&self, id: &str) -> Result<Option<Arc<ImageRecord>>, Error> {
        if self.0.others.is_empty() {
            return Ok(None);
        }
        let found = self.find_image(id)?;
        let found = found.filter(|found| found.is_read_only && found.id == id);
        Ok(found.map(|found| found.record))
    }

    /// Records an image of an additional store in our own, as it is there.
    ///
    /// # Errors
    /// When something can't be read or written.
    pub(in crate::store) fn pull_up(&self, image: &Arc<ImageRecord>) -> Result<(), Error> {
        self.create_image(NewImage {
            id: Some(image.id.clone()),
            layer: Some(image.layer.clone()).filter(|layer| !layer.is_empty()),
            big_data: self.image_items(image)?,
            original: Some(Arc::clone(image)),
            extend: true,
            ..NewImage::default()
        })?;
        Ok(())
    }
}

impl Transaction<'_> {
    /// What our own record takes over from that of the additional store: neither variants of the top layer, nor data
    /// items, which come by themselves; and names that others have here only where it may take them away.
    pub(super) fn inherited(&mut self, original: &ImageRecord, keeps_others: bool) -> ImageRecord {
        let mut names = original.names.clone();
        names.retain(|name| !keeps_others || self.images().owner_of(name).is_none());
        ImageRecord {
            id: original.id.clone(),
            digest: original.digest.clone(),
            names,
            names_history: original.names_history.clone(),
            metadata: original.metadata.clone(),
            created: original.created,
            flags: original.flags.clone(),
            ..ImageRecord::default()
        }
    }
}

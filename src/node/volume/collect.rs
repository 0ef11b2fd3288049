//! Collection: what kills and failures left in the store, and nobody will ask for.

use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::images::ImageError;
use super::{Volumes, in_store};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Layers of pulls that nobody repeated.
    pub unfinished: usize,
    /// Layers, data directories and recipes without a record.
    pub unrecorded: usize,
}

impl Volumes {
    /// Removes layers that a pull left for a retry that has not come for `age`, and what no record
    /// points at. Nothing that is recorded, used or mounted goes.
    ///
    /// # Errors
    /// When the store or the mount table can't be read, or something can't be removed.
    pub async fn collect(self: &Arc<Self>, age: Duration) -> Result<Collected, Error> {
        let shared = Arc::clone(self);
        self.lanes
            .records
            .run(move || shared.collect_all(age))
            .await?
    }

    fn collect_all(&self, age: Duration) -> Result<Collected, Error> {
        let unfinished = self
            .images
            .collect_unfinished(age)
            .map_err(|error| Error::Image {
                image: "left by a pull".to_owned(),
                source: ImageError::from(error),
            })?;
        let garbage = self
            .store
            .collect_garbage()
            .map_err(in_store("collect garbage"))?;
        let unrecorded = garbage.layers.len() + garbage.data.len();
        if unfinished + unrecorded > 0 {
            tracing::info!(unfinished, unrecorded, "garbage is removed");
        }
        Ok(Collected {
            unfinished,
            unrecorded,
        })
    }
}

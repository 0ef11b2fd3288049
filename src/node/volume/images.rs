//! The image that a volume starts from: found in the store.

use std::time::Instant;

use super::attributes::PullPolicy;
use super::error::{Error, Kind};
use super::{PullSecret, in_store};
use crate::node::lanes::Lanes;
use crate::store::Store;

/// Which image, and how it may be had.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Its reference.
    pub reference: String,
    /// When it is looked for outside the store.
    pub policy: PullPolicy,
    /// For which platform.
    pub platform: Option<String>,
    /// How to log in where it is.
    pub secret: Option<PullSecret>,
}

/// An image can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The store lacks it, and it may not be pulled.
    #[error("it is not in the store, and its pull policy is Never")]
    Absent,
}

impl ImageError {
    /// What the caller has to do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Absent => Kind::NotFound,
        }
    }
}

/// Where images come from.
#[derive(Clone, Debug)]
pub struct Images {
    store: Store,
    lanes: Lanes,
}

impl Images {
    /// Images of this store.
    pub fn new(store: Store, lanes: Lanes) -> Self {
        Self { store, lanes }
    }

    /// The ID of the image.
    ///
    /// # Errors
    /// When it can't be had.
    pub async fn get(&self, wish: Wish, _deadline: Instant) -> Result<String, Error> {
        let store = self.store.clone();
        let key = wish.reference.clone();
        let found = self.lanes.records.run(move || store.find_image(&key));
        let found = found.await?.map_err(in_store("read the images"))?;
        match found {
            Some(found) => Ok(found.record.id.clone()),
            None => Err(Error::Image {
                image: wish.reference,
                source: ImageError::Absent,
            }),
        }
    }
}

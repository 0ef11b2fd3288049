//! The store of layers, images and containers: containers/storage's own format, lock for lock.
//!
//! ```text
//! <graph root>/<driver>/               layer contents, the driver's
//! <graph root>/<driver>-layers/        layers.json, layers.lock, <id>.tar-split.gz, <id>/ (big data)
//! <graph root>/<driver>-images/        images.json, images.lock, <id>/
//! <graph root>/<driver>-containers/    containers.json, containers.lock, <id>/
//! <graph root>/strata/                 ours: staging/, spare/, uuid
//! <run root>/<driver>-layers/          mountpoints.json, mountpoints.lock
//! <run root>/<driver>-containers/<id>/ run directories of containers
//! ```
//!
//! | File | What |
//! |---|---|
//! | [`table`], [`table_file`], [`last_write`], [`spare`] | records in memory; their files, locks, tokens |
//! | [`transaction`], [`writer`] | ordered locks and one save; the one writer of a process |
//! | [`staging`] | layers in the making, and what was deleted |
//! | [`layer`], [`image`], [`container`] | the three kinds: records and operations |
//! | [`mounting`], [`naming`], [`deleting`] | operations on more than one kind |
//! | [`driver`] | how layers become directories |

pub mod big_data;
mod closing;
pub mod config;
pub mod container;
mod deleting;
mod directories;
pub mod driver;
pub mod error;
pub mod flags;
mod garbage;
pub mod id;
pub mod id_map;
pub mod image;
pub mod json;
mod last_write;
pub mod layer;
mod mounting;
mod mounts;
mod naming;
mod opening;
mod read_only;
mod spare;
mod staging;
pub mod table;
mod table_file;
pub mod time;
mod transaction;
pub mod view;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

pub use config::{Config, ConfigError, Environment};
pub use container::{NewContainer, record::ContainerRecord};
pub use deleting::DeletedImage;
pub use error::{Error, Kind};
pub use flags::Flags;
pub use garbage::Garbage;
pub use image::{BigDataItem, NewImage, record::ImageRecord};
pub use layer::record::LayerRecord;
pub use layer::stage::{StageError, StageOptions, StagedLayer};
pub use layer::{Layers, NewLayer};
pub use mounting::Mounting;
pub use time::Time;
pub use view::{Found, View};

use crate::sys::Dir;
use driver::Driver;
use mounts::MountRecord;
use read_only::ReadOnlyStore;
use staging::Staging;
use table::Table;
use table_file::TableFile;
use transaction::{Scope, Transaction};
use writer::Writer;

/// An opened store. Clones share it; it may be used from any thread.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

/// What an opened store is made of.
#[derive(Debug)]
struct Inner {
    config: Config,
    graph: Dir,
    driver: Box<dyn Driver>,
    layers: TableFile<LayerRecord>,
    mounts: TableFile<MountRecord>,
    images: TableFile<ImageRecord>,
    containers: TableFile<ContainerRecord>,
    /// `<run root>/<driver>-containers`.
    container_run: Dir,
    /// `<run root>/<driver>-images`: made when first needed.
    image_run: PathBuf,
    /// Additional image stores, in configured order.
    others: Vec<ReadOnlyStore>,
    staging: Staging,
    writer: Writer,
}

impl Store {
    /// What the store was opened with, defaults filled in.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The driver.
    pub fn driver(&self) -> &dyn Driver {
        self.0.driver.as_ref()
    }

    /// Runs `change` under the locks of `scope` and saves what it changed: see [`writer`].
    fn write<T: Send + 'static>(
        &self,
        scope: Scope,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.writer.write(&self.0, scope, change)
    }

    /// All layers, those of additional stores last.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn layers(&self) -> Result<View<LayerRecord>, Error> {
        let inner = &self.0;
        let mut primary = inner.layers.read(Clone::clone)?;
        if primary.iter().any(|row| row.record.is_incomplete()) {
            // Their maker held the lock, so it is dead: a writer takes them out.
            self.write(Scope::LAYERS, |_| Ok(()))?;
            primary = inner.layers.read(Clone::clone)?;
        }
        let others = inner
            .others
            .iter()
            .map(|other| other.layers.read(Clone::clone));
        Ok(View::new(primary, others.collect::<Result<_, _>>()?))
    }

    /// All images, those of additional stores last.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn images(&self) -> Result<View<ImageRecord>, Error> {
        let inner = &self.0;
        let primary = inner.images.read(Clone::clone)?;
        let others = inner
            .others
            .iter()
            .filter_map(|other| other.images.as_ref())
            .map(|images| images.read(Clone::clone));
        Ok(View::new(primary, others.collect::<Result<_, _>>()?))
    }

    /// All containers.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn containers(&self) -> Result<View<ContainerRecord>, Error> {
        Ok(View::new(self.0.containers.read(Clone::clone)?, Vec::new()))
    }

    /// The image that `key` finds, the store's own before those of additional stores.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn find_image(&self, key: &str) -> Result<Option<Found<ImageRecord>>, Error> {
        let inner = &self.0;
        let find = |table: &Table<ImageRecord>| table.find(key).map(|row| Arc::clone(&row.record));
        if let Some(record) = inner.images.read(find)? {
            return Ok(Some(Found {
                record,
                is_read_only: false,
            }));
        }
        for other in inner
            .others
            .iter()
            .filter_map(|other| other.images.as_ref())
        {
            if let Some(record) = other.read(find)?
                // An image that the store has itself hides what others call it.
                && inner.images.read(|table| table.find_id(&record.id).is_none())?
            {
                return Ok(Some(Found {
                    record,
                    is_read_only: true,
                }));
            }
        }
        Ok(None)
    }

    /// The layer that `key` finds, the store's own before those of additional stores.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn find_layer(&self, key: &str) -> Result<Option<Found<LayerRecord>>, Error> {
        let inner = &self.0;
        let find = |table: &Table<LayerRecord>| table.find(key).map(|row| Arc::clone(&row.record));
        if let Some(record) = inner.layers.read(find)? {
            return Ok(Some(Found {
                record,
                is_read_only: false,
            }));
        }
        for other in &inner.others {
            if let Some(record) = other.layers.read(find)? {
                return Ok(Some(Found {
                    record,
                    is_read_only: true,
                }));
            }
        }
        Ok(None)
    }

    /// The container that `key` finds: ID, name, the ID of its layer, or the only ID that starts so.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn find_container(&self, key: &str) -> Result<Option<Arc<ContainerRecord>>, Error> {
        self.0.containers.read(|table| {
            table
                .find(key)
                .or_else(|| table.iter().find(|row| row.record.layer == key))
                .map(|row| Arc::clone(&row.record))
        })
    }

    /// The container with exactly this ID as this process knows it, without a lock: a hint that may be
    /// out of date when others work in the store. For answers that must not wait.
    pub fn peek_container(&self, id: &str) -> Option<Arc<ContainerRecord>> {
        self.0
            .containers
            .peek(|table| table.find_id(id).map(|row| Arc::clone(&row.record)))
    }
}

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
//! <run root>/<driver>-*/volatile-*.json volatile records of a transient store
//! ```
//!
//! | File | What |
//! |---|---|
//! | [`table`], [`row`], [`scan`], [`index`] | records in memory, parsed when asked for |
//! | [`recorded_digest`] | digests in records, and what stands in their place |
//! | [`view`], [`roster`] | all records as they were at one moment, parsed or not |
//! | [`table_file`], [`last_write`], [`spare`] | their files, locks, tokens |
//! | [`edit`] | one table under its exclusive lock, and its changes |
//! | [`transaction`], [`writer`] | ordered locks and one save; the one writer of a process |
//! | [`staging`] | layers in the making, and what was deleted |
//! | [`layer`], [`image`], [`container`] | the three kinds: records and operations |
//! | [`mounting`], [`naming`], [`deleting`] | operations on more than one kind |
//! | [`big_data`], [`replacing`] | named blobs beside records, and how one takes another's place |
//! | [`check`] | whether all of it is whole |
//! | [`backup`] | all of it as one stream, and back |
//! | [`usage`], [`dedup`] | who uses the space; equal files share their blocks |
//! | [`id_map`], [`mapping`], [`subordinate`] | ID mappings, where layers have whose IDs, and who may have which |
//! | [`automatic`] | IDs for a container that nobody else has |
//! | [`unfinished`] | layers that wait for the rest of their image |
//! | [`image_root`] | the second root of a split store |
//! | [`driver`] | how layers become directories |

pub mod automatic;
pub mod backup;
pub mod big_data;
pub mod check;
mod closing;
pub mod config;
pub mod container;
pub mod dedup;
mod deleting;
mod directories;
pub mod driver;
mod edit;
pub mod error;
pub mod flags;
mod garbage;
pub mod id;
pub mod id_map;
pub mod image;
mod image_root;
mod in_use;
mod index;
pub mod json;
mod last_write;
pub mod layer;
mod mapping;
mod mounting;
mod mounts;
mod naming;
mod opening;
mod read_only;
pub mod recorded_digest;
mod replacing;
mod roster;
mod row;
mod scan;
mod spare;
mod staging;
pub mod subordinate;
pub mod table;
mod table_file;
pub mod time;
mod transaction;
mod unfinished;
pub mod usage;
pub mod view;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

pub use automatic::AutomaticMaps;
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
pub use recorded_digest::RecordedDigest;
pub use roster::Roster;
pub use row::{Record, Row, Shape};
pub use time::Time;
pub use view::{Found, View};

use crate::sys::Dir;
use driver::Driver;
use image_root::ImageRoot;
use mounts::MountRecord;
use read_only::ReadOnlyStore;
use staging::Staging;
use table::Table;
use table_file::TableFile;
use transaction::{Scope, Transaction, incomplete};
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
    /// Where volatile layers are recorded when the store is opened the other way, transient or not.
    other_volatile_layers: Dir,
    /// `<run root>/<driver>-images`: made when first needed.
    image_run: PathBuf,
    /// Additional image stores, in configured order.
    others: Vec<ReadOnlyStore>,
    staging: Staging,
    /// Of a split store.
    image_root: Option<ImageRoot>,
    writer: Writer,
    /// The graph root can't be written.
    is_read_only: bool,
}

impl Inner {
    /// The images of additional stores.
    fn other_images(&self) -> impl Iterator<Item = &TableFile<ImageRecord>> {
        self.others.iter().filter_map(|other| other.images.as_ref())
    }
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
        self.check_writable()?;
        self.0.writer.write(&self.0, scope, change)
    }

    /// Runs `change`, which changes the table of mounts alone: of a store that can only be read, too.
    fn write_mounts<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.writer.write(&self.0, Scope::LAYERS, change)
    }

    /// Refuses to go on in a store that can only be read.
    fn check_writable(&self) -> Result<(), Error> {
        match self.is_read_only() {
            true => Err(Error::StoreReadOnly(self.config().graph_root.clone())),
            false => Ok(()),
        }
    }

    /// True when the graph root can't be written: records can be read and images mounted, and that is all.
    pub fn is_read_only(&self) -> bool {
        self.0.is_read_only
    }

    /// The layers of the store itself. Those whose maker died are taken out first.
    fn own_layers(&self) -> Result<Arc<Table<LayerRecord>>, Error> {
        let layers = self.0.layers.snapshot()?;
        if self.is_read_only() || incomplete(&layers)?.is_empty() {
            return Ok(layers);
        }
        // Their maker held the lock, so it is dead: a writer takes them out.
        self.write(Scope::LAYERS, |_| Ok(()))?;
        self.0.layers.snapshot()
    }

    /// The layers of the store, and those of each additional store.
    fn layer_tables(&self) -> Result<Vec<Arc<Table<LayerRecord>>>, Error> {
        let mut tables = vec![self.own_layers()?];
        for other in &self.0.others {
            tables.push(other.layers.snapshot()?);
        }
        Ok(tables)
    }

    /// All layers, those of additional stores last.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn layers(&self) -> Result<View<LayerRecord>, Error> {
        View::new(self.layer_tables()?)
    }

    /// All images, those of additional stores last.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn images(&self) -> Result<View<ImageRecord>, Error> {
        let inner = &self.0;
        let mut tables = vec![inner.images.snapshot()?];
        for images in inner.other_images() {
            tables.push(images.snapshot()?);
        }
        View::new(tables)
    }

    /// All containers.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn containers(&self) -> Result<View<ContainerRecord>, Error> {
        View::new(vec![self.0.containers.snapshot()?])
    }

    /// The image that `key` finds, the store's own before those of additional stores.
    ///
    /// # Errors
    /// When the records can't be locked or loaded.
    pub fn find_image(&self, key: &str) -> Result<Option<Found<ImageRecord>>, Error> {
        let inner = &self.0;
        if let Some(record) = inner.images.find(key)? {
            return Ok(Some(Found {
                record,
                is_read_only: false,
            }));
        }
        for images in inner.other_images() {
            if let Some(record) = images.find(key)?
                // An image that the store has itself hides what others call it.
                && !inner.images.has(&record.id)?
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
        if let Some(row) = self.own_layers()?.find(key) {
            return Ok(Some(Found {
                record: Arc::clone(row.record()?),
                is_read_only: false,
            }));
        }
        for other in &self.0.others {
            if let Some(record) = other.layers.find(key)? {
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
            if let Some(row) = table.find(key) {
                return row.record().cloned().map(Some);
            }
            table.search(key, |container| container.layer == key)
        })?
    }

    /// The container with exactly this ID as this process knows it, without a lock: a hint that may be
    /// out of date when others work in the store. For answers that must not wait.
    pub fn peek_container(&self, id: &str) -> Option<Arc<ContainerRecord>> {
        self.0.containers.peek_id(id)
    }
}

//! Mounting and unmounting: the mount table of the driver and the counts that peers share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::driver::MountOptions;
use super::error::{Error, Kind};
use super::flags::Flags;
use super::id_map::IdMappings;
use super::mounts::MountRecord;
use super::opening::GRAPH_LOCK;
use super::transaction::{Scope, Transaction};
use super::{Inner, Store};
use crate::sys::record_lock::{Access, RecordLock};

/// Where and how a layer is to be mounted.
#[derive(Clone, Debug, Default)]
pub struct Mounting {
    /// A place outside the driver home, for a volume: mounted there already, nothing changes. `None`:
    /// where the driver mounts, counted.
    pub at: Option<PathBuf>,
    /// How; the store fills in where the IDs are.
    pub options: MountOptions,
    /// Mappings of the container, if its layer's record may lack them.
    pub mappings: IdMappings,
}

/// Mounts a layer, or counts one mount more, under the locks.
pub(super) fn mount_recorded(
    transaction: &mut Transaction<'_>,
    layer: &str,
    mounting: &Mounting,
) -> Result<PathBuf, Error> {
    let store = transaction.store;
    let known = transaction.mounts()?.find_id(layer)?;
    if let Some(known) = known
        && known.count > 0
        && store.driver.is_mounted(Path::new(&known.path))?
    {
        let is_there = mounting
            .at
            .as_ref()
            .is_some_and(|at| *at == Path::new(&known.path));
        if !is_there {
            let record = MountRecord {
                count: known.count + 1,
                ..(*known).clone()
            };
            transaction.mounts()?.put(record, 0)?;
        }
        return Ok(PathBuf::from(&known.path));
    }
    let at = match &mounting.at {
        Some(at) => at.clone(),
        None => store.driver.default_mount_point(layer),
    };
    let mut options = mounting.options.clone();
    options.owners = transaction.owners(layer, &mounting.mappings)?;
    let path = store.driver.mount(layer, &at, &options)?;
    // A count without a mount is from before a reboot or a crash: nobody holds it any more.
    let record = MountRecord {
        id: layer.to_owned(),
        path: path.display().to_string(),
        count: 1,
    };
    transaction.mounts()?.put(record, 0)?;
    Ok(path)
}

/// What a key of a mount or unmount finds.
struct Target {
    layer: String,
    options: Vec<String>,
    is_volatile: bool,
    label: Option<String>,
    mappings: IdMappings,
}

impl Store {
    /// Resolves a container or layer to the full ID of its layer: never a name or prefix, which peers
    /// mistake for an ID here.
    fn mount_target(&self, key: &str) -> Result<Target, Error> {
        if let Some(container) = self.find_container(key)? {
            return Ok(Target {
                layer: container.layer.clone(),
                options: container
                    .flags
                    .find(Flags::MOUNT_OPTIONS)
                    .unwrap_or_default(),
                is_volatile: container.flags.is_set(Flags::VOLATILE),
                label: container
                    .flags
                    .find(Flags::MOUNT_LABEL)
                    .filter(|label: &String| !label.is_empty()),
                mappings: container.mappings(),
            });
        }
        let found = self.find_layer(key)?.ok_or(Error::Unknown(Kind::Layer))?;
        if found.is_read_only {
            return Err(Error::ReadOnly);
        }
        Ok(Target {
            layer: found.id.clone(),
            options: Vec::new(),
            is_volatile: false,
            label: Some(found.mount_label.clone()).filter(|label| !label.is_empty()),
            mappings: IdMappings::default(),
        })
    }

    /// The graph lock keeps a peer's shutdown from taking down the home while we mount in it.
    ///
    /// Of a store that can only be read nothing is mounted in the home.
    pub(super) fn lock_graph(&self) -> Result<Option<RecordLock>, Error> {
        if self.is_read_only() {
            return Ok(None);
        }
        let lock = RecordLock::acquire(&self.0.graph, GRAPH_LOCK, Access::Exclusive)?;
        Ok(Some(lock))
    }

    /// Mounts a container's layer, or a layer, where the driver mounts; counted.
    ///
    /// # Errors
    /// When nothing has the key, the layer is an additional store's, or the mount fails.
    pub fn mount(&self, key: &str, options: &MountOptions) -> Result<PathBuf, Error> {
        let target = self.mount_target(key)?;
        let mut options = options.clone();
        if options.options.is_empty() {
            options.options = target.options;
        }
        options.volatile |= target.is_volatile && !self.config().ignores_volatile;
        options.label = options.label.take().or(target.label);
        let mounting = Mounting {
            at: None,
            options,
            mappings: target.mappings,
        };
        self.mount_layer(target.layer, mounting)
    }

    /// Mounts the layer with this full ID.
    fn mount_layer(&self, layer: String, mounting: Mounting) -> Result<PathBuf, Error> {
        let graph = mounting
            .at
            .is_none()
            .then(|| self.lock_graph())
            .transpose()?;
        let path = self.write_mounts(move |transaction| {
            if !transaction.layers().has(&layer) {
                return Err(Error::Unknown(Kind::Layer));
            }
            mount_recorded(transaction, &layer, &mounting)
        });
        drop(graph);
        path
    }

    /// Mounts a container's layer at `path`, outside the driver home, recorded with count 1. Mounted
    /// there already, nothing changes.
    ///
    /// # Errors
    /// When the container is unknown or the mount fails.
    pub fn mount_at(
        &self,
        container: &str,
        path: &Path,
        options: &MountOptions,
    ) -> Result<PathBuf, Error> {
        let container = self
            .find_container(container)?
            .ok_or(Error::Unknown(Kind::Container))?;
        let mounting = Mounting {
            at: Some(path.to_owned()),
            options: options.clone(),
            mappings: container.mappings(),
        };
        self.mount_layer(container.layer.clone(), mounting)
    }

    /// Takes down the mount of a layer at `path`, unless it is in use. Takes no lock, for unmounting a persistent
    /// overlay waits for the disk; [`Store::forget_mount_at`] then records it.
    ///
    /// # Errors
    /// When somebody is in the mount, or the unmount fails.
    pub fn unmount_at(&self, layer: &str, path: &Path) -> Result<(), Error> {
        Ok(self.0.driver.unmount_unused(layer, path)?)
    }

    /// Forgets the counts of a layer that is recorded as mounted at `path`, and no longer is.
    ///
    /// # Errors
    /// When the table can't be locked or saved.
    pub fn forget_mount_at(&self, layer: &str, path: &Path) -> Result<(), Error> {
        let (layer, path) = (layer.to_owned(), path.to_owned());
        self.write(Scope::LAYERS, move |transaction| {
            let mounts = transaction.mounts()?;
            if mounts
                .find_id(&layer)?
                .is_some_and(|mount| Path::new(&mount.path) == path)
            {
                mounts.remove(&layer);
            }
            Ok(())
        })
    }

    /// Lets go of one mount of a container's layer, a layer or an image; true while others hold it.
    /// With `force`, all let go. What is not mounted is no error.
    ///
    /// # Errors
    /// When nothing has the key, or the unmount fails.
    pub fn unmount(&self, key: &str, force: bool) -> Result<bool, Error> {
        let layer = match self.mount_target(key) {
            Ok(target) => target.layer,
            Err(Error::Unknown(Kind::Layer)) => self.image_mount_layer(key)?,
            Err(error) => return Err(error),
        };
        let graph = self.lock_graph()?;
        let is_held = self.write_mounts(move |transaction| {
            let store = transaction.store;
            let Some(known) = transaction.mounts()?.find_id(&layer)? else {
                let at = store.driver.default_mount_point(&layer);
                store.driver.unmount(&layer, &at)?;
                return Ok(false);
            };
            if known.count > 1 && !force {
                let record = MountRecord {
                    count: known.count - 1,
                    ..(*known).clone()
                };
                transaction.mounts()?.put(record, 0)?;
                return Ok(true);
            }
            store.driver.unmount(&layer, Path::new(&known.path))?;
            transaction.mounts()?.remove(&layer);
            Ok(false)
        });
        drop(graph);
        is_held
    }

    /// How many hold the mount of a container's layer or a layer.
    ///
    /// # Errors
    /// When nothing has the key.
    pub fn mounted(&self, key: &str) -> Result<u64, Error> {
        let layer = match self.mount_target(key) {
            Ok(target) => target.layer,
            Err(Error::ReadOnly) => return Ok(0),
            Err(error) => return Err(error),
        };
        let count = self
            .0
            .mounted_layers(|id, count| (id == layer).then_some(count))?;
        Ok(count.into_iter().sum::<i64>().unsigned_abs())
    }

    /// The mount point of a layer, when it is recorded as mounted.
    ///
    /// # Errors
    /// When the table can't be locked or loaded.
    pub fn mount_point(&self, layer: &str) -> Result<Option<PathBuf>, Error> {
        // The lock of mounts is taken inside that of layers.
        self.0.layers.read(|_| ())?;
        self.0.mounts.read(|table| {
            let Some(row) = table.find_id(layer) else {
                return Ok(None);
            };
            Ok(Some(PathBuf::from(&row.record()?.path)))
        })?
    }

    /// The layers that are recorded as mounted, and where.
    ///
    /// # Errors
    /// When the table can't be locked or loaded.
    pub fn mount_points(&self) -> Result<HashMap<String, PathBuf>, Error> {
        self.0.layers.read(|_| ())?;
        self.0.mounts.read(|table| {
            let point = |record: &MountRecord| (record.id.clone(), PathBuf::from(&record.path));
            table.iter().map(|row| Ok(point(row.record()?))).collect()
        })?
    }

    fn image_mount_layer(&self, key: &str) -> Result<String, Error> {
        let image = self.find_image(key)?.ok_or(Error::Unknown(Kind::Layer))?;
        let unmapped = IdMappings::default();
        for id in image.top_layers() {
            if let Some(layer) = self.find_layer(id)?
                && self.fits(&layer, &unmapped)?
            {
                return Ok(id.to_owned());
            }
        }
        Ok(image.layer.clone())
    }

    /// Mounts an image's top layer, read-only, where the driver mounts; counted.
    ///
    /// # Errors
    /// When the image is unknown, its layer is an additional store's, or the mount fails.
    pub fn mount_image(&self, key: &str, options: &MountOptions) -> Result<PathBuf, Error> {
        let image = self.find_image(key)?.ok_or(Error::Unknown(Kind::Image))?;
        let mut options = options.clone();
        options.read_only = true;
        let layer = self.top_layer(&image, &IdMappings::default())?;
        let mounting = Mounting {
            options,
            ..Mounting::default()
        };
        let layer = layer.map(|layer| layer.id.clone());
        self.mount_layer(layer.unwrap_or_default(), mounting)
    }

    /// Lets go of one mount of an image; true while others hold it.
    ///
    /// # Errors
    /// When the image is unknown, or the unmount fails.
    pub fn unmount_image(&self, key: &str, force: bool) -> Result<bool, Error> {
        let layer = self.image_mount_layer(key)?;
        self.unmount(&layer, force)
    }
}

impl Inner {
    /// What `pick` gives for the layers that are recorded as mounted.
    pub(super) fn mounted_layers<T>(
        &self,
        mut pick: impl FnMut(&str, i64) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        self.layers.read(|_| ())?;
        self.mounts.read(|table| {
            let mut picked = Vec::new();
            for row in table.iter() {
                picked.extend(pick(row.id(), row.record()?.count));
            }
            Ok(picked)
        })?
    }
}

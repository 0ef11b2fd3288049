//! Containers: a writable layer and its record; not a running process.

pub mod record;

use std::sync::Arc;

use super::automatic::AutomaticMaps;
use super::big_data;
use super::driver::{Limits, PrepareOptions, Role};
use super::error::{Error, Kind};
use super::flags::Flags;
use super::id;
use super::id_map::{IdMappings, Wanted, WantedMaps};
use super::image::record::ImageRecord;
use super::layer::record::LayerRecord;
use super::layer::stage::StagedLayer;
use super::mounting::{Mounting, mount_recorded};
use super::naming;
use super::opening::USER_NAMESPACE_LOCK;
use super::staging::Entry;
use super::time::Time;
use super::transaction::{Scope, Transaction};
use super::{BigDataItem, Found, Store};
use crate::digest::Digest;
use crate::sys::record_lock::{Access, RecordLock};
use record::ContainerRecord;

/// What a new container shall be.
#[derive(Clone, Debug, Default)]
pub struct NewContainer {
    /// Its ID; drawn when empty.
    pub id: Option<String>,
    /// Names, which nobody may have.
    pub names: Vec<String>,
    /// ID, name or prefix of the image; `None` for an empty root, or with `parent`.
    pub image: Option<String>,
    /// ID of the layer to stand on, for a container without image.
    pub parent: Option<String>,
    /// The caller's text.
    pub metadata: String,
    /// Its contents need not survive a loss of power, and its layer is mounted `volatile`.
    pub is_volatile: bool,
    /// Records go to the volatile files, which peers before 1.45 do not read.
    pub in_volatile_files: bool,
    /// Creation returns only when a loss of power can't undo it.
    pub is_durable: bool,
    /// How much may be written to its layer, where the driver can limit that.
    pub limits: Limits,
    /// Options for mounting its layer.
    pub mount_options: Vec<String>,
    /// SELinux label of the mount and of the processes.
    pub labels: Option<(String, String)>,
    /// Blobs to store with it.
    pub big_data: Vec<BigDataItem>,
    /// Files for its `userdata` directory, there before the record is: name and contents.
    pub userdata: Vec<(String, Vec<u8>)>,
    /// Finds ID mappings that no other container has, instead of `mappings`.
    pub automatic: Option<AutomaticMaps>,
    /// Which ID mappings its user name space has; without an image inherited from `parent`.
    pub mappings: WantedMaps,
    /// Mounts it in the same critical section.
    pub mount: Option<Mounting>,
}

impl NewContainer {
    fn record(
        &self,
        id: &str,
        image: Option<&ImageRecord>,
        mappings: &IdMappings,
    ) -> ContainerRecord {
        let mut flags = Flags::default();
        let (mount, process) = self.labels.clone().unwrap_or_default();
        flags.set(Flags::MOUNT_LABEL, &mount);
        flags.set(Flags::PROCESS_LABEL, &process);
        if !self.mount_options.is_empty() {
            flags.set(Flags::MOUNT_OPTIONS, &self.mount_options);
        }
        if self.is_volatile {
            flags.set(Flags::VOLATILE, &true);
        }
        let mut record = ContainerRecord {
            id: id.to_owned(),
            names: naming::without_repeats(self.names.clone()),
            image: image.map(|image| image.id.clone()).unwrap_or_default(),
            layer: id::of_container_layer(id),
            metadata: self.metadata.clone(),
            created: Time::now(),
            uid_map: mappings.uids.clone(),
            gid_map: mappings.gids.clone(),
            flags,
            ..ContainerRecord::default()
        };
        for item in &self.big_data {
            record.big_data_names.push(item.key.clone());
            record
                .big_data_sizes
                .insert(item.key.clone(), item.bytes.len() as i64);
            record
                .big_data_digests
                .insert(item.key.clone(), Digest::of(&item.bytes).into());
        }
        record
    }
}

impl Store {
    /// Creates a container: a writable layer on the image's top layer, and its record.
    ///
    /// # Errors
    /// When the ID or a name is taken, the image is unknown, or something can't be written; nothing is
    /// left. When only the mount asked for fails, the container stays.
    pub fn create_container(&self, mut new: NewContainer) -> Result<Arc<ContainerRecord>, Error> {
        if self.0.config.is_transient {
            new.is_volatile = true;
            new.in_volatile_files = true;
            new.is_durable = false;
        }
        let id = new.id.clone().unwrap_or_else(id::random);
        if !id::is_safe(&id) {
            return Err(Error::InvalidId(id));
        }
        for item in &new.big_data {
            big_data::file_name(&item.key)?;
        }
        let layer = id::of_container_layer(&id);
        if new.id.is_some() && self.0.layers.has(&layer)? {
            // What a crash left of an earlier attempt, unless the container is there: it goes first, in a change of
            // its own, so that no record is ever without its layer.
            self.delete_remains(&id)?;
        }
        let image = match new.image.as_deref().filter(|key| !key.is_empty()) {
            None => None,
            Some(key) => Some(self.known_image(key)?.ok_or(Error::Unknown(Kind::Image))?),
        };
        let take_lock =
            || RecordLock::acquire(&self.0.graph, USER_NAMESPACE_LOCK, Access::Exclusive);
        // Peers that look for IDs nobody has must not do so between our look and our record.
        let mut lock = None;
        if let Some(wanted) = new.automatic.take() {
            let size = self.automatic_size(&wanted, image.as_ref().map(|image| &*image.record))?;
            lock = Some(take_lock()?);
            let IdMappings { uids, gids } = self.automatic_maps(&wanted, size)?;
            new.mappings = WantedMaps {
                uids: Wanted::Mapped(uids),
                gids: Wanted::Mapped(gids),
            };
        }
        let staged = self.stage_container_layer(&new, image.as_ref())?;
        let files = self.stage_container_files(&new)?;
        if lock.is_none() && !staged.mappings.is_empty() {
            lock = Some(take_lock()?);
        }
        let container = self.write(Scope::ALL, move |transaction| {
            let image = image.as_ref().map(|image| &*image.record);
            transaction.create_container(&id, new, image, &staged, files)
        });
        drop(lock);
        container
    }

    /// Prepares the container's layer; its mappings are the container's.
    fn stage_container_layer(
        &self,
        new: &NewContainer,
        image: Option<&Found<ImageRecord>>,
    ) -> Result<StagedLayer, Error> {
        let mut options = PrepareOptions {
            read_write: true,
            durable: new.is_durable,
            limits: new.limits,
            ..PrepareOptions::default()
        };
        let (wanted, below) = match (image, &new.parent) {
            (Some(image), _) => {
                let wanted = new.mappings.resolve(&IdMappings::default());
                wanted.check()?;
                if wanted.is_empty() && self.0.knows_unmapped(&image.layer) {
                    return self.0.stage_empty(Some(&image.layer), &options);
                }
                let below = self.top_layer(image, &wanted)?;
                (wanted, below)
            }
            (None, Some(parent)) => {
                let layer = self
                    .find_layer(parent)?
                    .ok_or(Error::Unknown(Kind::Layer))?;
                let wanted = new.mappings.resolve(&layer.mappings());
                (wanted, Some(layer.record))
            }
            (None, None) => (new.mappings.resolve(&IdMappings::default()), None),
        };
        wanted.check()?;
        if !wanted.is_empty() && !self.0.driver.shows_other_owners(&(&wanted).into())? {
            options.root = wanted.root()?;
        }
        let mut staged = match &below {
            Some(below) if !self.fits(below, &wanted)? => {
                let to = (&wanted).into();
                let template = self.side(below)?;
                self.0.stage_copied(&template, &to, Role::Base, &options)?
            }
            below => {
                let parent = below.as_ref().map(|layer| &*layer.id);
                self.0.stage_empty(parent, &options)?
            }
        };
        staged.mappings = wanted;
        Ok(staged)
    }

    /// The image that `key` finds: as this process knows it, else as it is on disk.
    fn known_image(&self, key: &str) -> Result<Option<Found<ImageRecord>>, Error> {
        match self.0.images.peek_id(key) {
            Some(record) => Ok(Some(Found {
                record,
                is_read_only: false,
            })),
            None => self.find_image(key),
        }
    }

    /// Prepares the container's directory with its big data and userdata.
    fn stage_container_files(&self, new: &NewContainer) -> Result<Option<Entry>, Error> {
        if new.big_data.is_empty() && new.userdata.is_empty() {
            return Ok(None);
        }
        let entry = self.0.staging.entry()?;
        let dir = entry.create_dir()?;
        for item in &new.big_data {
            let file = dir.write_new(big_data::file_name(&item.key)?, &item.bytes, 0o600)?;
            if new.is_durable {
                file.sync_data()?;
            }
        }
        if !new.userdata.is_empty() {
            let userdata = dir.ensure_dir("userdata", 0o700)?;
            for (name, bytes) in &new.userdata {
                let file = userdata.write_new(name, bytes, 0o600)?;
                if new.is_durable {
                    file.sync_data()?;
                }
            }
            if new.is_durable {
                userdata.sync()?;
            }
        }
        if new.is_durable {
            dir.sync()?;
        }
        Ok(Some(entry))
    }
}

impl Transaction<'_> {
    fn create_container(
        &mut self,
        id: &str,
        new: NewContainer,
        image: Option<&ImageRecord>,
        staged: &StagedLayer,
        files: Option<Entry>,
    ) -> Result<Arc<ContainerRecord>, Error> {
        if self.containers().has(id) {
            return Err(Error::DuplicateId);
        }
        for name in &new.names {
            if let Some(owner) = self.containers().owner_of(name) {
                let kind = Kind::Container;
                return Err(Error::DuplicateName {
                    kind,
                    name: name.clone(),
                    owner,
                });
            }
        }
        if let Some(image) = image {
            self.check_image_unchanged(image)?;
        }
        let store = self.store;
        if let Some(parent) = &staged.parent
            && !self.layers().has(parent)
            && !store.is_in_other_store(parent)?
        {
            return Err(Error::Unknown(Kind::Layer));
        }
        let record = new.record(id, image, &staged.mappings);
        if self.layers().has(&record.layer) {
            return Err(Error::DuplicateId);
        }
        let file = usize::from(new.in_volatile_files);
        if new.is_durable {
            self.require_durable();
        }
        let layer = LayerRecord {
            id: record.layer.clone(),
            parent: staged.parent.clone().unwrap_or_default(),
            mount_label: new
                .labels
                .as_ref()
                .map(|(mount, _)| mount.clone())
                .unwrap_or_default(),
            created: record.created,
            uid_map: staged.mappings.uids.clone(),
            gid_map: staged.mappings.gids.clone(),
            ..LayerRecord::default()
        };
        self.adopt_layer(staged, layer, file)?;
        if let Some(entry) = files {
            self.adopt_directory(&entry, Kind::Container, id)?;
        }
        let layer = record.layer.clone();
        self.containers().put(record, file)?;
        if let Some(mounting) = new.mount {
            self.after_save(move |transaction| {
                mount_recorded(transaction, &layer, &mounting).map(drop)
            });
        }
        self.containers()
            .find_id(id)?
            .ok_or(Error::Unknown(Kind::Container))
    }

    fn check_image_unchanged(&mut self, image: &ImageRecord) -> Result<(), Error> {
        if let Some(now) = self.images().find_id(&image.id)? {
            return if now.layer == image.layer {
                Ok(())
            } else {
                Err(Error::Changed(Kind::Image))
            };
        }
        for images in self.store.other_images() {
            if images.has(&image.id)? {
                return Ok(());
            }
        }
        Err(Error::Unknown(Kind::Image))
    }

    /// Moves a staged directory to where the objects of `kind` have their data, under `id`. What a crash
    /// left there goes to the trash.
    pub(in crate::store) fn adopt_directory(
        &mut self,
        entry: &Entry,
        kind: Kind,
        id: &str,
    ) -> Result<(), Error> {
        let store = self.store;
        let home = match kind {
            Kind::Layer => store.layers.dir(),
            Kind::Image => store.images.dir(),
            Kind::Container => store.containers.dir(),
        };
        let old = store.staging_beside(home).entry()?;
        if old.take_in(home, id)? {
            self.throw_away(old);
        }
        entry.folder().rename_new(entry.name(), home, id)?;
        Ok(())
    }
}

//! Layers: a file-system difference with at most one parent.

mod copy;
pub mod diff;
mod implied;
pub mod record;
mod replace;
pub mod stage;

use std::sync::Arc;

use super::driver::PrepareOptions;
use super::error::{Error, Kind};
use super::flags::Flags;
use super::id;
use super::id_map::{IdMappings, WantedMaps};
use super::image_root::{IMAGE_LAYERS, move_file, move_folder};
use super::naming;
use super::time::Time;
use super::transaction::{Scope, Transaction};
use super::{Inner, Store};
use crate::sys::Dir;
use record::LayerRecord;
use stage::{CONTENTS, DATA, RECIPE, StagedLayer};

/// A look at all layers.
pub type Layers = super::View<LayerRecord>;

/// What a new layer shall be.
#[derive(Clone, Debug, Default)]
pub struct NewLayer {
    /// Its ID; drawn when empty.
    pub id: Option<String>,
    /// ID, name or prefix of the layer below.
    pub parent: Option<String>,
    /// Names, which nobody may have.
    pub names: Vec<String>,
    /// True for an image's layer.
    pub is_read_only: bool,
    /// SELinux label for mounts that give none.
    pub mount_label: String,
    /// The caller's text.
    pub metadata: String,
    /// Ends with the boot.
    pub is_volatile: bool,
    /// Which ID mappings it shall have, if it has no staged contents, which know theirs.
    pub mappings: WantedMaps,
    /// The rest of its image is on its way: see [`unfinished`](crate::store::unfinished).
    pub is_unfinished: bool,
}

impl NewLayer {
    pub(in crate::store) fn record(&self, id: String, staged: &StagedLayer) -> LayerRecord {
        let mut record = LayerRecord {
            id,
            names: naming::without_repeats(self.names.clone()),
            parent: staged.parent.clone().unwrap_or_default(),
            metadata: self.metadata.clone(),
            mount_label: self.mount_label.clone(),
            created: Time::now(),
            uid_map: staged.mappings.uids.clone(),
            gid_map: staged.mappings.gids.clone(),
            ..LayerRecord::default()
        };
        if let Some(original) = &staged.original {
            record = LayerRecord {
                id: record.id,
                // Names are unique in a store, and nobody knows a layer by one.
                names: Vec::new(),
                parent: record.parent,
                ..(**original).clone()
            };
            record.flags.remove(Flags::UNFINISHED);
        }
        if self.is_unfinished {
            // What it was made long ago says nothing about how long it waits for the rest.
            record.created = Time::now();
            record.flags.set(Flags::UNFINISHED, staged.entry.area());
        }
        if let Some(measured) = &staged.measured {
            record.compressed_diff_digest = measured.digest.clone().into();
            record.compressed_size = measured.size.cast_signed();
            record.diff_digest = measured.diff_id.clone().into();
            record.diff_size = measured.diff_size.cast_signed();
            record.compression = measured.compression.number();
            record.uids.clone_from(&measured.uids);
            record.gids.clone_from(&measured.gids);
        }
        record
    }
}

impl Store {
    /// Creates a layer, from staged contents or empty.
    ///
    /// # Errors
    /// When the ID or a name is taken, the parent is unknown or a container's, or something can't be
    /// written. Nothing is left.
    pub fn create_layer(
        &self,
        mut new: NewLayer,
        staged: Option<StagedLayer>,
    ) -> Result<Arc<LayerRecord>, Error> {
        if let Some(id) = &new.id
            && !id::is_safe(id)
        {
            return Err(Error::InvalidId(id.clone()));
        }
        let staged = match staged {
            Some(staged) => {
                self.inherit_late([(None, &staged)])?;
                // Contents first: the record may say that they are there once it is durable.
                self.sync_contents()?;
                staged
            }
            None => {
                let parent = match &new.parent {
                    None => None,
                    Some(key) => Some(self.find_layer(key)?.ok_or(Error::ParentUnknown)?.record),
                };
                let inherited = parent.as_deref().map(LayerRecord::mappings);
                let wanted = new.mappings.resolve(&inherited.unwrap_or_default());
                let options = PrepareOptions {
                    read_write: !new.is_read_only,
                    durable: !new.is_volatile,
                    ..PrepareOptions::default()
                };
                self.stage_over(parent.as_deref(), &wanted, options)?
            }
        };
        let id = new.id.take().unwrap_or_else(id::random);
        let inner = Arc::clone(&self.0);
        // The container lock is needed only to see whether the parent is a container's.
        let scope = if staged.parent.is_some() {
            Scope::ALL
        } else {
            Scope::LAYERS
        };
        self.write(scope, move |transaction| {
            if let Some(parent) = &staged.parent {
                transaction.check_parent(&inner, parent)?;
            }
            let is_volatile = new.is_volatile;
            let record = new.record(id, &staged);
            if !is_volatile {
                transaction.require_durable();
            }
            transaction.adopt_layer(&staged, record, usize::from(is_volatile))
        })
    }

    /// Creates a layer of the driver that has no record, over one that has or has not; its ID. Of the mappings only the
    /// owner of its root is seen.
    ///
    /// # Errors
    /// When the ID is taken or no name for a directory, the parent is missing, or something can't be
    /// written. Nothing is left.
    pub fn create_driver_layer(
        &self,
        id: Option<String>,
        parent: Option<&str>,
        is_read_only: bool,
        mappings: &WantedMaps,
    ) -> Result<String, Error> {
        let id = id.unwrap_or_else(id::random);
        if !id::is_safe(&id) {
            return Err(Error::InvalidId(id));
        }
        let mappings = mappings.resolve(&IdMappings::default());
        let mut options = PrepareOptions {
            read_write: !is_read_only,
            durable: true,
            ..PrepareOptions::default()
        };
        if !mappings.is_empty() {
            options.root = mappings.root()?;
        }
        let staged = self.0.stage_empty(parent, &options)?;
        self.write(Scope::LAYERS, move |transaction| {
            let driver = &transaction.store.driver;
            if driver.exists(&id)? {
                return Err(Error::DuplicateId);
            }
            driver.adopt(&staged.dir()?, CONTENTS, &id)?;
            driver.sync_home()?;
            Ok(id)
        })
    }

    /// Makes the contents of everything that was staged so far durable, with one call for all.
    ///
    /// # Errors
    /// When the kernel can't.
    pub fn sync_contents(&self) -> Result<(), Error> {
        if let Some(root) = &self.0.image_root {
            root.dir.sync_file_system()?;
        }
        Ok(self.0.graph.sync_file_system()?)
    }
}

impl Transaction<'_> {
    /// The parent of a new layer must be there, and no container's.
    pub(in crate::store) fn check_parent(
        &mut self,
        inner: &Inner,
        parent: &str,
    ) -> Result<(), Error> {
        if !self.layers().has(parent) && !inner.is_in_other_store(parent)? {
            return Err(Error::ParentUnknown);
        }
        let container = self
            .containers()
            .search(parent, |container| container.layer == parent)?;
        if container.is_some() {
            return Err(Error::ParentIsContainer);
        }
        Ok(())
    }

    /// Moves a staged layer into the home and records it, complete, in file number `file`.
    ///
    /// # Errors
    /// When its ID or a name is taken, or it can't be moved. The staged layer is then removed.
    pub(in crate::store) fn adopt_layer(
        &mut self,
        staged: &StagedLayer,
        record: LayerRecord,
        file: usize,
    ) -> Result<Arc<LayerRecord>, Error> {
        if self.layers().has(&record.id) {
            return Err(Error::DuplicateId);
        }
        self.check_layer_names(&record.names)?;
        let dir = staged.dir()?;
        // Noted before it is done, side files and all: undoing what was not done finds nothing and does nothing.
        self.note_adopted(&record.id);
        self.adopt_side_files(staged, &record, &dir)?;
        // What an earlier layer of this ID left mounted would otherwise be taken for this one.
        if let Some(mount) = self.mounts()?.find_id(&record.id)? {
            self.store.driver.unmount(&record.id, mount.path.as_ref())?;
            self.mounts()?.remove(&record.id);
        }
        if let Some(parent) = staged
            .parent
            .as_deref()
            .filter(|_| staged.parent_comes_later)
        {
            let inherits = match (&staged.original, &staged.measured) {
                (Some(_), _) => false,
                (None, measured) => measured.as_ref().is_none_or(|measured| !measured.has_root),
            };
            self.store
                .driver
                .complete(&dir.open_dir(CONTENTS)?, parent, inherits)?;
        }
        let file = match self.store.is_of_images(&dir) {
            true => IMAGE_LAYERS,
            false => file,
        };
        self.store.driver.adopt(&dir, CONTENTS, &record.id)?;
        let id = record.id.clone();
        self.layers().put(record, file)?;
        self.layers()
            .find_id(&id)?
            .ok_or(Error::Unknown(Kind::Layer))
    }

    /// Moves the recipe and the big data of a staged layer to where those of its ID are.
    fn adopt_side_files(
        &mut self,
        staged: &StagedLayer,
        record: &LayerRecord,
        dir: &Dir,
    ) -> Result<(), Error> {
        let home = self.store.layers.dir();
        let recipe = format!("{}.tar-split.gz", record.id);
        if staged.measured.is_some() {
            move_file(dir, RECIPE, home, &recipe)?;
        } else if staged.original.is_some() {
            // What a crash left of an earlier layer of this ID must not be taken for this one's.
            if dir.stat(RECIPE)?.is_some() {
                move_file(dir, RECIPE, home, &recipe)?;
            } else {
                home.remove_file_if_found(recipe)?;
            }
            let old = self.store.staging.entry()?;
            if old.take_in(home, &record.id)? {
                self.throw_away(old);
            }
            if dir.stat(DATA)?.is_some() {
                move_folder(dir, DATA, home, &record.id, &self.store.staging)?;
            }
        }
        Ok(())
    }

    fn check_layer_names(&mut self, names: &[String]) -> Result<(), Error> {
        for name in names {
            if let Some(owner) = self.layers().owner_of(name) {
                return Err(Error::DuplicateName {
                    kind: Kind::Layer,
                    name: name.clone(),
                    owner,
                });
            }
        }
        Ok(())
    }

    /// Marks a layer as being changed in place, on disk, before the change begins.
    pub(in crate::store) fn mark_incomplete(&mut self, id: &str) -> Result<LayerRecord, Error> {
        let record = self
            .layers()
            .find_id(id)?
            .ok_or(Error::Unknown(Kind::Layer))?;
        let mut marked = (*record).clone();
        marked.flags.set(Flags::INCOMPLETE, &true);
        self.layers().put(marked.clone(), 0)?;
        self.save()?;
        Ok(marked)
    }

    /// Ends what [`Transaction::mark_incomplete`] began: whatever came of it, the layer is whole again as far as peers
    /// are concerned. A failure is saved at once and returned.
    pub(in crate::store) fn settle_contents(
        &mut self,
        mut record: LayerRecord,
        result: Result<stage::Measured, Error>,
    ) -> Result<(), Error> {
        record.flags.remove(Flags::INCOMPLETE);
        let result = result.map(|measured| {
            record.diff_digest = measured.diff_id.into();
            record.diff_size = measured.diff_size.cast_signed();
            record.compression = measured.compression.number();
            record.uids = measured.uids;
            record.gids = measured.gids;
        });
        self.layers().put(record, 0)?;
        match result {
            Ok(()) => self.require_durable(),
            Err(_) => self.save()?,
        }
        result
    }
}

impl Inner {
    /// True when an additional store has a layer with this ID.
    pub(in crate::store) fn is_in_other_store(&self, id: &str) -> Result<bool, Error> {
        for other in &self.others {
            if other.layers.has(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

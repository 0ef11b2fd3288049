//! [`Transaction`]: locks taken in order, changes in memory, saved once.
//!
//! The only code that holds more than one lock of records. The order is layers, images, containers, as in Go; that of the
//! mounts comes last, whenever it is needed. Locks that are held around a transaction are in docs/locking.md.

use super::Inner;
use super::container::record::ContainerRecord;
use super::edit::{Edit, Mark};
use super::error::Error;
use super::flags::Flags;
use super::image::record::ImageRecord;
use super::layer::record::LayerRecord;
use super::mounts::MountRecord;
use super::row::Record;
use super::staging;
use super::table::Table;

/// Which kinds a change locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Layers, and with them mounts.
    pub layers: bool,
    /// Images.
    pub images: bool,
    /// Containers.
    pub containers: bool,
}

impl Scope {
    /// Layers and mounts.
    pub const LAYERS: Self = Self {
        layers: true,
        images: false,
        containers: false,
    };
    /// Images.
    pub const IMAGES: Self = Self {
        layers: false,
        images: true,
        containers: false,
    };
    /// Containers.
    pub const CONTAINERS: Self = Self {
        layers: false,
        images: false,
        containers: true,
    };
    /// Everything.
    pub const ALL: Self = Self {
        layers: true,
        images: true,
        containers: true,
    };

    /// What either locks.
    pub fn union(self, other: Self) -> Self {
        Self {
            layers: self.layers || other.layers,
            images: self.images || other.images,
            containers: self.containers || other.containers,
        }
    }
}

/// IDs of layers that are being created or deleted.
///
/// # Errors
/// When a layer's record says nothing that we understand.
pub(super) fn incomplete(table: &Table<LayerRecord>) -> Result<Vec<String>, Error> {
    let mut ids = Vec::new();
    for row in table.iter().filter(|row| row.has_flags()) {
        if row.record()?.is_incomplete() {
            ids.push(row.id().to_owned());
        }
    }
    Ok(ids)
}

/// What is done under the locks once the records are saved.
pub type AfterSave = Box<dyn FnOnce(&mut Transaction<'_>) -> Result<(), Error> + Send>;

/// What takes back something that a change did beside the records.
type Undo = Box<dyn FnOnce() -> Result<(), Error> + Send>;

/// The locks, and the changes so far.
pub struct Transaction<'a> {
    pub(super) store: &'a Inner,
    layers: Option<Edit<'a, LayerRecord>>,
    mounts: Option<Edit<'a, MountRecord>>,
    images: Option<Edit<'a, ImageRecord>>,
    containers: Option<Edit<'a, ContainerRecord>>,
    is_durable: bool,
    /// Some change of the batch moved a layer into the home.
    has_adopted: bool,
    /// Layers moved into the home by the running change, to be moved out if it fails.
    adopted: Vec<String>,
    after_save: Vec<AfterSave>,
    /// Of all changes so far, latest last.
    undo: Vec<Undo>,
    /// What was deleted; removed when the locks are free.
    trash: Vec<staging::Entry>,
}

/// Where a transaction stood before a change.
pub(super) struct Savepoint {
    layers: Option<Mark>,
    mounts: Option<Mark>,
    images: Option<Mark>,
    containers: Option<Mark>,
    is_durable: bool,
    undo: usize,
}

impl<'a> Transaction<'a> {
    /// Takes the locks of `scope`, in order, and makes the tables current.
    ///
    /// Layers that a dead process left half made are taken out, as every peer does.
    pub(super) fn begin(store: &'a Inner, scope: Scope) -> Result<Self, Error> {
        let layers = scope.layers.then(|| Edit::new(&store.layers)).transpose()?;
        let images = scope.images.then(|| Edit::new(&store.images)).transpose()?;
        let containers = scope
            .containers
            .then(|| Edit::new(&store.containers))
            .transpose()?;
        let mut transaction = Self {
            store,
            layers,
            mounts: None,
            images,
            containers,
            is_durable: false,
            has_adopted: false,
            adopted: Vec::new(),
            after_save: Vec::new(),
            undo: Vec::new(),
            trash: Vec::new(),
        };
        if scope.layers && !store.is_read_only {
            transaction.delete_incomplete()?;
        }
        Ok(transaction)
    }

    /// Layers, to change.
    pub fn layers(&mut self) -> &mut Edit<'a, LayerRecord> {
        self.layers
            .as_mut()
            .expect("the change asked for the layer lock")
    }

    /// Images, to change.
    pub fn images(&mut self) -> &mut Edit<'a, ImageRecord> {
        self.images
            .as_mut()
            .expect("the change asked for the image lock")
    }

    /// Containers, to change.
    pub fn containers(&mut self) -> &mut Edit<'a, ContainerRecord> {
        self.containers
            .as_mut()
            .expect("the change asked for the container lock")
    }

    /// Mounts, to change; their lock lies inside the layers'.
    ///
    /// # Errors
    /// When the table can't be locked or loaded.
    pub fn mounts(&mut self) -> Result<&mut Edit<'a, MountRecord>, Error> {
        assert!(self.layers.is_some(), "the change asked for the layer lock");
        if self.mounts.is_none() {
            self.mounts = Some(Edit::new(&self.store.mounts)?);
        }
        Ok(self.mounts.as_mut().expect("it was just set"))
    }

    /// Asks that the saved change survives a loss of power.
    pub fn require_durable(&mut self) {
        self.is_durable = true;
    }

    /// Does something under the locks once the records are saved. Its failure is the caller's answer,
    /// but undoes nothing.
    pub fn after_save(
        &mut self,
        action: impl FnOnce(&mut Transaction<'_>) -> Result<(), Error> + Send + 'static,
    ) {
        self.after_save.push(Box::new(action));
    }

    /// Does something when the running change is taken back: under the locks, before its records are saved as they were.
    pub(super) fn on_roll_back(
        &mut self,
        undo: impl FnOnce() -> Result<(), Error> + Send + 'static,
    ) {
        self.undo.push(Box::new(undo));
    }

    /// Remembers that the layer's directory was moved into the home by this change.
    pub(super) fn note_adopted(&mut self, id: &str) {
        self.adopted.push(id.to_owned());
        self.has_adopted = true;
    }

    /// Keeps what was deleted until the locks are free.
    pub(super) fn throw_away(&mut self, entry: staging::Entry) {
        self.trash.push(entry);
    }

    fn delete_incomplete(&mut self) -> Result<(), Error> {
        let ids = self.layers().look(incomplete)?;
        for id in ids {
            tracing::warn!(
                layer = id,
                flag = Flags::INCOMPLETE,
                "a half-made layer is deleted"
            );
            self.delete_layer_record(&id)?;
        }
        Ok(())
    }

    /// Takes a layer's record out, and after the save its mount, contents and side data.
    pub(super) fn delete_layer_record(&mut self, id: &str) -> Result<(), Error> {
        self.layers().remove(id);
        let id = id.to_owned();
        self.after_save(move |transaction| {
            // A later change of the same batch may have made a layer of this ID again; what it
            // replaced is in the trash already.
            if transaction.layers().has(&id) {
                return Ok(());
            }
            transaction.discard_layer(&id)
        });
        Ok(())
    }

    /// Moves a layer's contents and side data to the trash.
    pub(super) fn discard_layer(&mut self, id: &str) -> Result<(), Error> {
        if let Some(mount) = self.mounts()?.find_id(id)? {
            self.store.driver.unmount(id, mount.path.as_ref())?;
            self.mounts()?.remove(id);
        }
        let store = self.store;
        let entry = store.staging_of(id).entry()?;
        store.driver.discard(id, entry.folder(), entry.name())?;
        self.throw_away(entry);
        for name in [format!("{id}.tar-split.gz"), id.to_owned()] {
            let entry = store.staging.entry()?;
            if entry.take_in(store.layers.dir(), &name)? {
                self.throw_away(entry);
            }
        }
        Ok(())
    }

    pub(super) fn savepoint(&mut self) -> Savepoint {
        self.adopted.clear();
        Savepoint {
            layers: self.layers.as_ref().map(Edit::mark),
            mounts: self.mounts.as_ref().map(Edit::mark),
            images: self.images.as_ref().map(Edit::mark),
            containers: self.containers.as_ref().map(Edit::mark),
            is_durable: self.is_durable,
            undo: self.undo.len(),
        }
    }

    /// Takes back what was changed since `savepoint`, directories moved into the home among it. What was saved in the midst
    /// of a change is to be saved again.
    pub(super) fn roll_back(&mut self, savepoint: &Savepoint) {
        fn undo<R: Record>(edit: &mut Option<Edit<'_, R>>, mark: Option<&Mark>) {
            if let (Some(edit), Some(mark)) = (edit, mark) {
                edit.roll_back(mark);
            }
        }
        undo(&mut self.layers, savepoint.layers.as_ref());
        undo(&mut self.mounts, savepoint.mounts.as_ref());
        undo(&mut self.images, savepoint.images.as_ref());
        undo(&mut self.containers, savepoint.containers.as_ref());
        self.is_durable = savepoint.is_durable;
        for undo in self.undo.split_off(savepoint.undo).into_iter().rev() {
            if let Err(error) = undo() {
                tracing::error!(%error, "a file of a failed change could not be put back");
            }
        }
        for id in std::mem::take(&mut self.adopted) {
            self.undo_adoption(&id);
        }
    }

    /// Moves a directory out of the home again. A failure leaves garbage, which is found later.
    pub(super) fn undo_adoption(&mut self, id: &str) {
        if let Err(error) = self.discard_layer(id) {
            tracing::warn!(layer = id, %error, "a layer without record stays in the driver's home");
        }
    }

    pub(super) fn take_adopted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.adopted)
    }

    pub(super) fn take_after_save(&mut self) -> Vec<AfterSave> {
        std::mem::take(&mut self.after_save)
    }

    /// Saves what was changed: the thing before the pointer when adding, the pointer before the thing
    /// when deleting, both when a batch does both. A change may do so in its midst: what follows is saved later.
    pub(super) fn save(&mut self) -> Result<(), Error> {
        if let Some(layers) = self.layers.as_mut() {
            layers.write_ahead();
        }
        if let Some(images) = self.images.as_mut() {
            images.write_ahead();
        }
        if let Some(containers) = self.containers.as_mut() {
            containers.write_ahead();
        }
        if self.is_durable && self.has_adopted {
            self.store.driver.sync_home()?;
        }
        let containers_point = self.containers.as_ref().is_some_and(Edit::is_dirty);
        let images_point = self.images.as_ref().is_some_and(Edit::is_dirty);
        if let Some(layers) = self.layers.as_mut() {
            layers.save_additions(images_point || containers_point)?;
        }
        if let Some(images) = self.images.as_mut() {
            images.save_additions(containers_point)?;
        }
        if let Some(containers) = self.containers.as_mut() {
            containers.save()?;
        }
        if let Some(images) = self.images.as_mut() {
            images.save()?;
        }
        if let Some(layers) = self.layers.as_mut() {
            layers.save()?;
        }
        if self.is_durable { self.sync() } else { Ok(()) }
    }

    /// Makes the names of the saved files durable. The renames are durable in the order in which they
    /// were made or all together, whatever the file system: layers are synced before what points at
    /// them.
    fn sync(&self) -> Result<(), Error> {
        if let Some(layers) = &self.layers {
            layers.sync()?;
        }
        if let Some(images) = &self.images {
            images.sync()?;
        }
        if let Some(containers) = &self.containers {
            containers.sync()?;
        }
        Ok(())
    }

    /// After a failed save: takes back what was saved before the failure.
    ///
    /// # Errors
    /// When that can't be saved either: the disk then has objects that nothing points at.
    pub(super) fn save_again(&mut self) -> Result<(), Error> {
        // The same order as for a removal: the pointers first.
        if let Some(containers) = self.containers.as_mut() {
            containers.save_again()?;
        }
        if let Some(images) = self.images.as_mut() {
            images.save_again()?;
        }
        if let Some(layers) = self.layers.as_mut() {
            layers.save_again()?;
        }
        Ok(())
    }

    /// Saves the table of mounts, when it was changed. The run root ends with the boot: no sync.
    pub(super) fn save_mounts(&mut self) -> Result<(), Error> {
        match self.mounts.as_mut() {
            Some(mounts) => mounts.save(),
            None => Ok(()),
        }
    }

    /// Forgets how to undo, releases the locks, and gives what is to be removed.
    pub(super) fn finish(mut self) -> Vec<staging::Entry> {
        fn settle<R: Record>(edit: Option<&mut Edit<'_, R>>) {
            if let Some(edit) = edit {
                edit.settle();
            }
        }
        settle(self.layers.as_mut());
        settle(self.mounts.as_mut());
        settle(self.images.as_mut());
        settle(self.containers.as_mut());
        self.trash
    }
}

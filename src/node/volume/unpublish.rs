//! Unpublish: undo, tolerant of what is already gone.

use std::sync::Arc;

use super::definition::Lifecycle;
use super::error::Error;
use super::plan::Conflict;
use super::targets::{AtTarget, TargetPath};
use super::{Handle, Volumes, definition_of, in_store};
use crate::store;
use crate::sys;
use std::path::PathBuf;

/// More mounts than this on one target are not ours.
const STACK: usize = 16;

impl Volumes {
    /// Takes a volume away from a target, removes the target, and, when it was the last one, deletes
    /// an inline volume and unmounts a claim's. Nothing there is no error.
    ///
    /// # Errors
    /// When the target can't be one, somebody else uses it, or the store or the system refuses.
    pub async fn unpublish(self: &Arc<Self>, handle: Handle, target: PathBuf) -> Result<(), Error> {
        let target = self.places.check(&target)?;
        let container = handle.container().to_owned();
        let key = if container.is_empty() {
            handle.as_str()
        } else {
            &container
        };
        let _turn = self.gate.enter(key, "an unpublish")?;
        let shared = Arc::clone(self);
        let is_last = {
            let handle = handle.clone();
            let work = move || shared.hide(&handle, &target);
            self.lanes.mounts.run(work).await??
        };
        if !is_last || container.is_empty() {
            return Ok(());
        }
        self.settle(container).await
    }

    /// A volume without targets: an inline one goes, a claim's is unmounted.
    async fn settle(self: &Arc<Self>, container: String) -> Result<(), Error> {
        let (shared, id) = (Arc::clone(self), container.clone());
        let left = self.lanes.records.run(move || shared.end(&id));
        let Some(layer) = left.await?? else {
            return Ok(());
        };
        let place = self.place(&container, &layer);
        let (store, at) = (self.store.clone(), (layer.clone(), place.clone()));
        let unmounted = self
            .lanes
            .unmounts
            .run(move || store.unmount_at(&at.0, &at.1));
        unmounted.await?.map_err(in_store("unmount the volume"))?;
        let shared = Arc::clone(self);
        let forgotten = self.lanes.records.run(move || {
            shared
                .store
                .forget_mount_at(&layer, &place)
                .map_err(in_store("unmount the volume"))?;
            shared.clear_place(&container)
        });
        forgotten.await?
    }

    /// Takes the volume away from the target; true when it has no other.
    fn hide(&self, handle: &Handle, target: &TargetPath) -> Result<bool, Error> {
        let container = handle.container();
        if let Some(parent) = self.places.parent(target)? {
            match parent.look()? {
                AtTarget::Nothing => {}
                AtTarget::Other => {
                    return Err(used(handle, "something that is no directory is there"));
                }
                AtTarget::Directory => {
                    if !self.unmount_target(handle, target)? {
                        return Ok(self.live_targets(container)?.is_empty());
                    }
                    parent.remove()?;
                }
            }
        }
        self.forget(container, target.path());
        Ok(self.live_targets(container)?.is_empty())
    }

    /// False when another volume of ours is there, which is then left alone.
    fn unmount_target(&self, handle: &Handle, target: &TargetPath) -> Result<bool, Error> {
        let container = handle.container();
        let (owner, known) = {
            let index = self.index();
            (
                index.owner(target.path()).map(str::to_owned),
                index.source(container),
            )
        };
        let layer = store::id::of_container_layer(container);
        for _ in 0..STACK {
            let Some(mounted) = self.mounts.mounted(target.path())? else {
                return Ok(true);
            };
            let own = self.mounted(container, &layer)?;
            let is_own = owner.as_deref() == Some(container)
                || Some(mounted.source) == known
                || own.is_some_and(|own| own.source == mounted.source);
            if !is_own && owner.is_some() {
                return Ok(false);
            }
            if !is_own {
                return Err(used(handle, "something else is mounted there"));
            }
            self.mounts.unmount(target.path())?;
        }
        Err(used(handle, "too many things are mounted there"))
    }

    /// Deletes an inline volume without targets, and what is left of one that is gone. The layer of a claim's, which
    /// is to be unmounted.
    fn end(&self, container: &str) -> Result<Option<String>, Error> {
        let known = match self.store.peek_container(container) {
            Some(record) => Some(record),
            None => self
                .store
                .find_container(container)
                .map_err(in_store("read the containers"))?
                .filter(|record| record.id == container),
        };
        match known.as_deref().map(definition_of) {
            // A container of another tool: not ours to touch.
            Some(None) => return Ok(None),
            Some(Some(definition)) => match definition.lifecycle {
                Lifecycle::Ephemeral => self.delete_record(container, "ephemeral")?,
                Lifecycle::Persistent => return Ok(known.map(|record| record.layer.clone())),
            },
            // `tests/crash` is tried without this.
            None if sys::fault::is_left_out("remains") => {}
            // Deleted already, or half of it: a plugin may have died in the middle.
            None => self
                .store
                .delete_remains(container)
                .map_err(in_store("delete what is left of the volume"))?,
        }
        self.clear_place(container)?;
        Ok(None)
    }

    /// Deletes the container of a volume; gone already is fine.
    pub(super) fn delete_record(
        &self,
        container: &str,
        lifecycle: &'static str,
    ) -> Result<(), Error> {
        match self.store.delete_container(container) {
            Ok(()) => {
                self.metrics.count_volume(lifecycle, -1);
                Ok(())
            }
            Err(store::Error::NotA { .. } | store::Error::Unknown(_)) => self
                .store
                .delete_remains(container)
                .map_err(in_store("delete what is left of the volume")),
            Err(error) => Err(in_store("delete the volume")(error)),
        }
    }

    /// Removes the volume's own place, with a mount that is left there.
    pub(super) fn clear_place(&self, container: &str) -> Result<(), Error> {
        let place = self.home.path().join(container);
        for _ in 0..STACK {
            if self.mounts.mounted(&place)?.is_none() {
                break;
            }
            self.mounts.unmount(&place)?;
        }
        match self.home.remove_dir(container) {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn used(handle: &Handle, what: &'static str) -> Error {
    Error::Conflict {
        volume: handle.to_string(),
        source: Conflict::Target { what },
    }
}

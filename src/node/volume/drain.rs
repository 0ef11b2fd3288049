//! Before the node goes down: the files of inline volumes are made safe.
//!
//! A mark that says so must not become a lie: the plugin ends before the node does, and whoever still
//! runs may write. So a volume is first made read-only, for everybody, through every mount of it. The
//! kernel refuses that while a file is open for writing; such a volume is not drained, and starts anew.

use std::path::PathBuf;
use std::sync::Arc;

use super::boot::Files;
use super::definition::Lifecycle;
use super::error::Error;
use super::{Volumes, definition_of, in_store};
use crate::node::events::{self, Event};
use crate::store::ContainerRecord;
use crate::sys::Durability;

/// What a drain did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Inline volumes whose files outlive the boot.
    pub drained: usize,
    /// Inline volumes that will start anew.
    pub left: usize,
}

impl Volumes {
    /// Makes the inline volumes read-only and syncs them, so that they go on after a reboot. For a node
    /// that goes down: pods that still run can't write any more.
    ///
    /// # Errors
    /// When the store can't be read or synced.
    pub async fn drain(self: &Arc<Self>) -> Result<Drained, Error> {
        let shared = Arc::clone(self);
        self.lanes.records.run(move || shared.drain_all()).await?
    }

    fn drain_all(&self) -> Result<Drained, Error> {
        let mut result = Drained::default();
        let Some(boot) = self.boot.clone() else {
            return Ok(result);
        };
        let mut ready = Vec::new();
        for record in self.inline()? {
            match self.freeze(&record)? {
                true => ready.push(record.id.clone()),
                false => result.left += 1,
            }
        }
        let sync = || {
            self.store
                .sync_contents()
                .map_err(in_store("sync the store"))
        };
        sync()?;
        let drained = Files::Drained(boot);
        for container in &ready {
            drained
                .write(&self.store, container, Durability::None)
                .map_err(in_store("note that a volume is drained"))?;
        }
        // One for all of the notes.
        sync()?;
        result.drained = ready.len();
        Ok(result)
    }

    fn inline(&self) -> Result<Vec<Arc<ContainerRecord>>, Error> {
        let containers = self
            .store
            .containers()
            .map_err(in_store("read the containers"))?;
        Ok(containers
            .iter()
            .filter(|found| {
                definition_of(&found.record)
                    .is_some_and(|definition| definition.lifecycle == Lifecycle::Ephemeral)
            })
            .map(|found| found.record)
            .collect())
    }

    /// Makes a volume read-only; false when that can't be.
    fn freeze(&self, record: &ContainerRecord) -> Result<bool, Error> {
        // Not mounted at a place that we know, it may still be somewhere else.
        let Some(place) = self.any_place(record)? else {
            return Ok(false);
        };
        match self.mounts.set_read_only(&place, true) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(volume = record.id, %error, "a volume is in use and not drained");
                Ok(false)
            }
        }
    }

    /// A path at which the volume is mounted.
    fn any_place(&self, record: &ContainerRecord) -> Result<Option<PathBuf>, Error> {
        if self.mounted(&record.id, &record.layer)?.is_some() {
            return Ok(Some(self.place(&record.id, &record.layer)));
        }
        Ok(self.live_targets(&record.id)?.into_iter().next())
    }

    /// The node did not go down after all: volumes that were drained in this boot become writable.
    pub(super) fn undrain_all(&self) -> Result<usize, Error> {
        let mut count = 0;
        for record in self.inline()? {
            let Some(definition) = definition_of(&record) else {
                continue;
            };
            let files = Files::of(&self.store, &record.id, &definition)
                .map_err(in_store("read the state of a volume"))?;
            if matches!(&files, Files::Drained(boot) if Some(boot) == self.boot.as_ref()) {
                self.resume(&record)?;
                count += 1;
            } else if let Some(mounted) = self.mounted(&record.id, &record.layer)?
                && mounted.flags.read_only
            {
                // Its plugin died before it could note that the volume was drained.
                let place = self.place(&record.id, &record.layer);
                self.mounts.set_read_only(&place, false)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Lets a drained volume go on in this boot. The note goes first, durably: a volume that can be
    /// written is not drained.
    pub(super) fn resume(&self, record: &ContainerRecord) -> Result<(), Error> {
        let Some(boot) = self.boot.clone() else {
            return Ok(());
        };
        Files::Volatile(boot)
            .write(&self.store, &record.id, Durability::Durable)
            .map_err(in_store("note that a volume goes on"))?;
        if let Some(place) = self.any_place(record)? {
            self.mounts.set_read_only(&place, false)?;
        }
        Ok(())
    }

    pub(super) fn report(&self, record: &ContainerRecord, reason: &'static str, message: &str) {
        let definition = definition_of(record);
        self.events.report(&Event {
            reason,
            is_warning: reason == events::STARTED_ANEW,
            volume: definition
                .as_ref()
                .map_or(record.id.as_str(), |definition| &definition.handle),
            pod: definition
                .as_ref()
                .and_then(|definition| definition.pod.as_ref()),
            message,
        });
    }
}

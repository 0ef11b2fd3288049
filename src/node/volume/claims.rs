//! Volumes of claims: made, deleted, found, listed.

use std::sync::Arc;
use std::time::Instant;

use super::definition::{Definition, Lifecycle};
use super::error::Error;
use super::handle::Place;
use super::images::Wish;
use super::notices::Waiting;
use super::plan::Conflict;
use super::{Creation, Handle, Range, Volume, Volumes, definition_of, in_store, usage};
use crate::store::{self, NewContainer};

impl Volumes {
    /// Makes the volume of a claim, or finds the one that an earlier call made.
    ///
    /// # Errors
    /// When one of this name exists and is another, there is no room, the image can't be had before
    /// the deadline, or the store refuses.
    pub async fn create(
        self: &Arc<Self>,
        wanted: Creation,
        deadline: Instant,
    ) -> Result<Volume, Error> {
        let handle = self.store_id.handle_for_name(&wanted.name);
        let container = handle.container().to_owned();
        let _turn = self.gate.enter(&container, "a creation")?;
        if let Some(record) = self.read(&container).await? {
            return existing(handle, definition_of(&record), &wanted);
        }
        let room = self.room().await?;
        if u64::try_from(wanted.range.required).is_ok_and(|required| required > room) {
            return Err(Error::Size {
                volume: handle.to_string(),
                wanted: wanted.range.required,
                available: room,
                what: "free in the store",
                exists: false,
            });
        }
        let waiting = Waiting {
            volume: handle.to_string(),
            pod: None,
        };
        let image = match Wish::of(&wanted.attributes, wanted.secret.as_ref(), waiting) {
            None => None,
            Some(wish) => Some(self.images.get(wish, deadline).await?),
        };
        let mut definition = Definition::new(handle.as_str(), Lifecycle::Persistent);
        definition.name = Some(wanted.name.clone());
        definition.image.clone_from(&wanted.attributes.image);
        definition.platform.clone_from(&wanted.attributes.platform);
        definition.capacity = wanted.range.required;
        let new = NewContainer {
            id: Some(container.clone()),
            image,
            metadata: definition.to_metadata(),
            is_durable: true,
            ..NewContainer::default()
        };
        let shared = Arc::clone(self);
        let created = self
            .lanes
            .records
            .run(move || shared.store.create_container(new));
        match created.await? {
            Ok(_) => {
                self.metrics.count_volume("persistent", 1);
                Ok(Volume { handle, definition })
            }
            // Another process of ours was faster.
            Err(store::Error::DuplicateId) => {
                let record = self.read(&container).await?;
                let definition = record.as_deref().and_then(definition_of);
                existing(handle, definition, &wanted)
            }
            Err(error) => Err(in_store("make the volume")(error)),
        }
    }

    /// Deletes a claim's volume; gone already is fine, and so is a handle that never was one.
    ///
    /// # Errors
    /// When it is published, or the store refuses.
    pub async fn delete(self: &Arc<Self>, handle: Handle) -> Result<(), Error> {
        if handle.place() != Place::Claim {
            return Ok(());
        }
        let container = handle.container().to_owned();
        let _turn = self.gate.enter(&container, "a deletion")?;
        let record = self.read(&container).await?;
        match record.as_deref().map(definition_of) {
            // Deleted already, or half of it.
            None => {}
            Some(Some(definition)) if definition.lifecycle == Lifecycle::Persistent => {}
            // Not a claim's: the handle is made up.
            _ => return Ok(()),
        }
        let shared = Arc::clone(self);
        let id = container.clone();
        let live = self.lanes.mounts.run(move || shared.live_targets(&id));
        if let Some(path) = live.await??.into_iter().next() {
            return Err(Error::Published {
                volume: handle.to_string(),
                path,
            });
        }
        let shared = Arc::clone(self);
        let deleted = self.lanes.records.run(move || {
            shared.delete_record(&container, "persistent")?;
            shared.clear_place(&container)
        });
        deleted.await?
    }

    /// The volume of a claim.
    ///
    /// # Errors
    /// When there is none, or the store can't be read.
    pub async fn find(self: &Arc<Self>, handle: &Handle) -> Result<Volume, Error> {
        let record = if handle.place() == Place::Claim {
            self.read(handle.container()).await?
        } else {
            None
        };
        match record.as_deref().and_then(definition_of) {
            Some(definition) if definition.lifecycle == Lifecycle::Persistent => Ok(Volume {
                handle: handle.clone(),
                definition,
            }),
            _ => Err(Error::NotFound {
                volume: handle.to_string(),
                path: None,
            }),
        }
    }

    /// Volumes of claims in the order of their IDs, from `start` on, at most `limit`; and where the next
    /// page starts.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn list(
        self: &Arc<Self>,
        start: Option<&str>,
        limit: Option<usize>,
    ) -> Result<(Vec<Volume>, Option<Handle>), Error> {
        let shared = Arc::clone(self);
        let containers = self.lanes.records.run(move || shared.store.containers());
        let containers = containers.await?.map_err(in_store("read the containers"))?;
        let mut volumes: Vec<_> = containers
            .iter()
            .filter(|found| start.is_none_or(|start| found.record.id.as_str() >= start))
            .filter_map(|found| {
                let definition = definition_of(&found.record)?;
                (definition.lifecycle == Lifecycle::Persistent).then(|| Volume {
                    handle: self.store_id.handle_of(&found.record.id),
                    definition,
                })
            })
            .collect();
        volumes.sort_by(|a, b| a.handle.container().cmp(b.handle.container()));
        let next = limit.and_then(|limit| volumes.get(limit).map(|volume| volume.handle.clone()));
        volumes.truncate(limit.unwrap_or(usize::MAX));
        Ok((volumes, next))
    }

    /// Bytes that are free where volumes are kept.
    ///
    /// # Errors
    /// When the system can't say.
    pub async fn room(self: &Arc<Self>) -> Result<u64, Error> {
        let root = self.store.config().graph_root.clone();
        let room = self.lanes.looks.run(move || usage(&root));
        Ok(room.await??.bytes.available)
    }
}

fn existing(
    handle: Handle,
    definition: Option<Definition>,
    wanted: &Creation,
) -> Result<Volume, Error> {
    let conflict = |source| Error::Conflict {
        volume: handle.to_string(),
        source,
    };
    let Some(definition) = definition else {
        return Err(conflict(Conflict::Stranger));
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let differences = [
        ("image", &definition.image, &wanted.attributes.image),
        (
            "platform",
            &definition.platform,
            &wanted.attributes.platform,
        ),
    ];
    for (what, is, wanted) in differences {
        if is != wanted {
            return Err(conflict(Conflict::Definition {
                what,
                is: text(is),
                wanted: text(wanted),
            }));
        }
    }
    let Range { required, limit } = wanted.range;
    let capacity = definition.capacity;
    if capacity < required || limit != 0 && capacity > limit {
        return Err(Error::Size {
            volume: handle.to_string(),
            wanted: if capacity < required { required } else { limit },
            available: capacity.unsigned_abs(),
            what: "what it was made with",
            exists: true,
        });
    }
    Ok(Volume { handle, definition })
}

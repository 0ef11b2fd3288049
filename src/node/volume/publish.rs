//! Publish: find out what is there, plan, carry out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::attributes::MountFlags;
use super::boot::Files;
use super::definition::{Definition, Lifecycle};
use super::error::{Error, TargetError};
use super::handle::Place;
use super::images::Wish;
use super::notices::Waiting;
use super::plan::{Conflict, Found, FoundTarget, FoundVolume, Step, Wanted, plan};
use super::targets::{AtTarget, TargetPath};
use super::{Publication, Volumes, definition_of, in_store};
use crate::node::events;
use crate::store::{self, ContainerRecord, NewContainer};
use crate::sys::{self, Dir};

/// How often a publish looks anew when other tools change the volume under it.
const ATTEMPTS: usize = 3;

impl Volumes {
    /// Makes a volume visible at a target, making the volume first if it is inline and new.
    ///
    /// Whatever is done already is found and not done again. When it fails, what was done so far stays
    /// for the retry that follows, or for the unpublish.
    ///
    /// # Errors
    /// When the target can't be one, what is there conflicts with what is wanted, the image can't be
    /// had before the deadline, or the store or the system refuses.
    pub async fn publish(
        self: &Arc<Self>,
        wanted: Publication,
        deadline: Instant,
    ) -> Result<(), Error> {
        let target = self.places.check(&wanted.target)?;
        let plan_for = self.wanted(&wanted)?;
        let container = wanted.handle.container().to_owned();
        let _turn = self.gate.enter(&container, "a publish")?;
        let conflict = |source| Error::Conflict {
            volume: wanted.handle.to_string(),
            source,
        };
        let mut record = self.store.peek_container(&container);
        if record.is_some() || !plan_for.may_create {
            // Only a volume that this process does not know yet needs no look at the disk: its
            // creation fails if somebody else has made it.
            record = self.read(&container).await?;
        }
        for attempt in 1.. {
            let found = self.look(&container, &target, record.as_ref()).await?;
            let steps = plan(&plan_for, &found).map_err(conflict)?;
            match self
                .carry_out(&wanted, &plan_for, &target, record.take(), steps, deadline)
                .await
            {
                Err(Error::Store {
                    source:
                        store::Error::DuplicateId | store::Error::Unknown(_) | store::Error::Changed(_),
                    ..
                }) if attempt < ATTEMPTS => record = self.read(&container).await?,
                result => return result,
            }
        }
        unreachable!("the last attempt returns");
    }

    /// The part of a publish that its plan depends on.
    fn wanted(&self, wanted: &Publication) -> Result<Wanted, Error> {
        let handle = &wanted.handle;
        let attributes = &wanted.attributes;
        let is_inline = match handle.place() {
            Place::Claim => false,
            Place::OtherStore => {
                return Err(Error::OtherStore {
                    volume: handle.to_string(),
                    store: self.store_id.to_string(),
                });
            }
            Place::Inline => attributes.ephemeral != Some(false),
            Place::Other => attributes.ephemeral == Some(true),
            Place::Broken => {
                return Err(Error::NotFound {
                    volume: handle.to_string(),
                    path: None,
                });
            }
        };
        if !is_inline && handle.place() != Place::Claim {
            return Err(Error::NotFound {
                volume: handle.to_string(),
                path: None,
            });
        }
        let lifecycle = if is_inline {
            Lifecycle::Ephemeral
        } else {
            Lifecycle::Persistent
        };
        let mut definition = Definition::new(handle.as_str(), lifecycle);
        definition.image.clone_from(&attributes.image);
        definition.platform.clone_from(&attributes.platform);
        if is_inline {
            definition.boot.clone_from(&self.boot);
            definition.pod.clone_from(&attributes.pod);
        }
        Ok(Wanted {
            definition,
            may_create: is_inline,
            flags: MountFlags {
                suid: wanted.flags.suid && !self.forbids_set_id(),
                ..wanted.flags
            },
            access: wanted.access,
            group: wanted.group,
        })
    }

    /// The container with this ID, as it is on disk.
    pub(super) async fn read(
        self: &Arc<Self>,
        container: &str,
    ) -> Result<Option<Arc<ContainerRecord>>, Error> {
        let shared = Arc::clone(self);
        let id = container.to_owned();
        let found = self
            .lanes
            .records
            .run(move || shared.store.find_container(&id));
        let found = found.await?.map_err(in_store("read the containers"))?;
        Ok(found.filter(|record| record.id == container))
    }

    /// What a publish finds.
    async fn look(
        self: &Arc<Self>,
        container: &str,
        target: &TargetPath,
        record: Option<&Arc<ContainerRecord>>,
    ) -> Result<Found, Error> {
        let shared = Arc::clone(self);
        let container = container.to_owned();
        let target = target.clone();
        let record = record.cloned();
        self.lanes
            .mounts
            .run(move || shared.survey(&container, &target, record.as_deref()))
            .await?
    }

    fn survey(
        &self,
        container: &str,
        target: &TargetPath,
        record: Option<&ContainerRecord>,
    ) -> Result<Found, Error> {
        let parent = self
            .places
            .parent(target)?
            .ok_or_else(|| TargetError::NoParent {
                path: target.path().to_owned(),
            })?;
        let own = match record {
            Some(record) => self.mounted(container, &record.layer)?,
            None => None,
        };
        let live = self.live_targets(container)?;
        let source = own
            .map(|mounted| mounted.source)
            .or_else(|| self.index().source(container));
        let found_target = match parent.look()? {
            AtTarget::Nothing => FoundTarget::Missing,
            AtTarget::Other => FoundTarget::Used("something that is no directory is there"),
            AtTarget::Directory => match self.mounts.mounted(target.path())? {
                Some(mounted) if Some(mounted.source) == source => {
                    FoundTarget::Published(mounted.flags)
                }
                Some(_) => FoundTarget::Used("something else is mounted there"),
                None if parent.is_empty()? => FoundTarget::Directory,
                None => FoundTarget::Used("a directory that is not empty is there"),
            },
        };
        if matches!(found_target, FoundTarget::Published(_))
            && let Some(mounted) = self.mounts.mounted(target.path())?
        {
            self.note(container, target.path(), mounted);
        }
        let volume = match record.map(definition_of) {
            None => FoundVolume::Absent,
            Some(None) => FoundVolume::Stranger,
            Some(Some(definition)) => FoundVolume::Present {
                files: Files::of(&self.store, container, &definition)
                    .map_err(in_store("read the state of the volume"))?,
                definition: Box::new(definition),
                is_mounted: own.is_some() || !live.is_empty(),
            },
        };
        Ok(Found {
            volume,
            target: found_target,
            // The own mount is always strict, and targets need not be.
            source_flags: own.map(|mounted| MountFlags {
                suid: mounted.flags.suid || self.has_own_mount(),
                ..mounted.flags
            }),
            has_other_targets: live.iter().any(|path| path != target.path()),
            boot: self.boot.clone(),
        })
    }

    async fn carry_out(
        self: &Arc<Self>,
        wanted: &Publication,
        plan_for: &Wanted,
        target: &TargetPath,
        mut record: Option<Arc<ContainerRecord>>,
        steps: Vec<Step>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut at_target = Vec::new();
        let mut is_mounted = false;
        for step in steps {
            match step {
                Step::Discard => {
                    self.discard(record.as_ref()).await?;
                }
                Step::Resume => self.resume_at_publish(record.as_ref()).await?,
                Step::Create => {
                    let kept = record.take().map(|record| record.image.clone());
                    let created = self.create_inline(wanted, plan_for, kept, deadline).await?;
                    record = Some(created);
                    is_mounted = true;
                }
                // The creation mounts in the same change of the store.
                Step::Mount if is_mounted => {}
                Step::Mount => self.mount(record.as_ref(), &plan_for.definition).await?,
                step => at_target.push(step),
            }
        }
        if at_target.is_empty() {
            return Ok(());
        }
        let Some(record) = record else {
            return Err(Error::Conflict {
                volume: wanted.handle.to_string(),
                source: Conflict::Unknown,
            });
        };
        let shared = Arc::clone(self);
        let target = target.clone();
        let done = self
            .lanes
            .mounts
            .run(move || shared.show(&record, &target, &at_target));
        done.await?
    }

    async fn discard(self: &Arc<Self>, record: Option<&Arc<ContainerRecord>>) -> Result<(), Error> {
        let Some(record) = record.cloned() else {
            return Ok(());
        };
        let shared = Arc::clone(self);
        let deleted = self.lanes.records.run(move || {
            shared.report(
                &record,
                events::STARTED_ANEW,
                "its files are of an earlier boot, from which they were not saved, and may be torn: \
                 it starts anew from its image",
            );
            shared.store.delete_container(&record.id)
        });
        deleted.await?.map_err(in_store("delete the torn volume"))?;
        self.metrics.count_volume("ephemeral", -1);
        Ok(())
    }

    async fn resume_at_publish(
        self: &Arc<Self>,
        record: Option<&Arc<ContainerRecord>>,
    ) -> Result<(), Error> {
        let Some(record) = record.cloned() else {
            return Ok(());
        };
        let shared = Arc::clone(self);
        let resumed = self.lanes.records.run(move || {
            shared.resume(&record)?;
            shared.report(
                &record,
                events::KEPT,
                "its files were saved before the node went down: it goes on with them",
            );
            Ok(())
        });
        resumed.await?
    }

    /// Makes the container of an inline volume and mounts it in the same change of the store.
    async fn create_inline(
        self: &Arc<Self>,
        wanted: &Publication,
        plan_for: &Wanted,
        kept_image: Option<String>,
        deadline: Instant,
    ) -> Result<Arc<ContainerRecord>, Error> {
        let image = match (kept_image, &wanted.attributes.image) {
            (Some(image), _) if image.is_empty() => None,
            (Some(image), reference) => {
                let known = self
                    .images
                    .get_present(&image, reference.as_deref(), deadline);
                Some(known.await?)
            }
            (None, _) => {
                let waiting = Waiting {
                    volume: wanted.handle.to_string(),
                    pod: wanted.attributes.pod.clone(),
                };
                match Wish::of(&wanted.attributes, wanted.secret.as_ref(), waiting) {
                    None => None,
                    Some(wish) => Some(self.images.get(wish, deadline).await?),
                }
            }
        };
        let container = wanted.handle.container().to_owned();
        let layer = store::id::of_container_layer(&container);
        let new = NewContainer {
            id: Some(container.clone()),
            image,
            metadata: plan_for.definition.to_metadata(),
            is_volatile: self.boot.is_some(),
            mount: Some(self.mounting(&container, &layer, Lifecycle::Ephemeral)),
            ..NewContainer::default()
        };
        let shared = Arc::clone(self);
        let created = self.lanes.records.run(move || {
            shared.make_place(&container)?;
            shared
                .store
                .create_container(new)
                .map_err(in_store("make the volume"))
        });
        let created = created.await?;
        // When only the mount fails, the container stays for the retry.
        if self
            .store
            .peek_container(wanted.handle.container())
            .is_some()
        {
            self.metrics.count_volume("ephemeral", 1);
        }
        created
    }

    fn make_place(&self, container: &str) -> Result<(), sys::Error> {
        self.home.ensure_dir(container, 0o700).map(drop)
    }

    /// Mounts the volume at its own place, unless it is.
    async fn mount(
        self: &Arc<Self>,
        record: Option<&Arc<ContainerRecord>>,
        definition: &Definition,
    ) -> Result<(), Error> {
        let Some(record) = record.cloned() else {
            return Ok(());
        };
        let mut mounting = self.mounting(&record.id, &record.layer, definition.lifecycle);
        // It was mounted before, and a process may have been left in it.
        mounting.options.is_exclusive = true;
        let shared = Arc::clone(self);
        let mounted = self.lanes.records.run(move || {
            if shared.mounted(&record.id, &record.layer)?.is_some() {
                return Ok(());
            }
            shared.make_place(&record.id)?;
            let place = mounting
                .at
                .as_deref()
                .unwrap_or_else(|| std::path::Path::new(""));
            shared
                .store
                .mount_at(&record.id, place, &mounting.options)
                .map(drop)
                .map_err(in_store("mount the volume"))
        });
        mounted.await?
    }

    /// The last steps: group, target, bind.
    fn show(
        &self,
        record: &ContainerRecord,
        target: &TargetPath,
        steps: &[Step],
    ) -> Result<(), Error> {
        let source = self.visible_at(record)?;
        if record.image.is_empty() && !steps.is_empty() {
            open_to_all(&source)?;
        }
        for step in steps {
            match step {
                Step::GiveTo(group) => give_to(&source, *group)?,
                Step::MakeTarget => {
                    if let Some(parent) = self.places.parent(target)? {
                        parent.create()?;
                    }
                }
                Step::Bind(flags) => {
                    self.mounts.bind(&source, target.path(), *flags)?;
                    if let Some(mounted) = self.mounts.mounted(target.path())? {
                        self.note(&record.id, target.path(), mounted);
                    }
                }
                Step::Discard | Step::Resume | Step::Create | Step::Mount => {}
            }
        }
        Ok(())
    }

    /// A path at which the volume can be seen: its own place, or, when another tool took that mount
    /// down, a target. (A second overlay on the same files would tear them.)
    fn visible_at(&self, record: &ContainerRecord) -> Result<PathBuf, Error> {
        if self.mounted(&record.id, &record.layer)?.is_some() {
            return Ok(self.place(&record.id, &record.layer));
        }
        let live = self.live_targets(&record.id)?;
        live.into_iter().next().ok_or(Error::Store {
            doing: "find the volume's mount",
            source: store::Error::NotMounted,
        })
    }
}

/// Lets everybody write into the root of a scratch volume, as the kubelet does for its own empty ones.
/// The store makes the root of an empty layer with a mode of its own; any other is the user's choice.
fn open_to_all(root: &std::path::Path) -> Result<(), sys::Error> {
    const UNTOUCHED: u32 = 0o555;
    let dir = Dir::open(root)?;
    if dir.stat_self()?.st_mode & 0o7777 == UNTOUCHED {
        dir.set_mode(0o777)?;
    }
    Ok(())
}

/// Lets a group read and write the root of a volume, and own what is made in it.
fn give_to(root: &std::path::Path, group: u32) -> Result<(), sys::Error> {
    const GROUP_BITS: u32 = 0o2070;
    let dir = Dir::open(root)?;
    let stat = dir.stat_self()?;
    if stat.st_gid != group {
        dir.set_owner(".", stat.st_uid, group)?;
    }
    if stat.st_gid != group || stat.st_mode & GROUP_BITS != GROUP_BITS {
        dir.set_mode(stat.st_mode & 0o7777 | GROUP_BITS)?;
    }
    Ok(())
}

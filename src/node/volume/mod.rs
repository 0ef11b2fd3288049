//! Volumes: what is asked for, what is found, what is done.
//!
//! ```text
//! <run root>/volumes/<container>      the volume itself: its overlay is mounted here, once
//!      |  bind, with flags of its own
//!      v
//! <kubelet>/pods/.../mount            a target; a volume may have several
//! ```
//!
//! A volume is a container of the store. What it is stands in the container's metadata; where it is
//! visible stands in the mount table. Nothing else is remembered anywhere.
//!
//! | File | What |
//! |---|---|
//! | [`handle`] | volume handles: which store, which object |
//! | [`attributes`] | attributes and parameters, made typed |
//! | [`definition`] | what a volume is, as its container's metadata says |
//! | [`plan`] | from what is found to what is wanted: pure |
//! | [`gate`] | one operation per volume at a time |
//! | [`targets`] | which paths may be a target, and which volume is visible where |
//! | [`mounts`] | the little that is asked of the mount table |
//! | [`images`] | the image that a volume starts from: found, or pulled |
//! | [`notices`] | what users are told about images |
//! | `boot` | whether a volume's files outlive a reboot |
//! | `publish`, `unpublish`, `claims`, `recover`, `drain`, `collect` | the operations |
//! | [`error`] | what may go wrong |

pub mod attributes;
mod boot;
mod claims;
mod collect;
pub mod definition;
mod drain;
pub mod error;
pub mod gate;
pub mod handle;
pub mod images;
pub mod mounts;
pub mod notices;
pub mod plan;
mod publish;
mod recover;
pub mod targets;
mod unpublish;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use attributes::{AttributeError, Attributes, MountFlags, PullPolicy};
pub use collect::Collected;
pub use definition::{Definition, Lifecycle};
pub use drain::Drained;
pub use error::{Error, Kind};
pub use handle::{Handle, Place, StoreId};
pub use plan::Access;
pub use recover::Recovery;

use super::events::Events;
use super::lanes::Lanes;
use super::metrics::Metrics;
use crate::oci::Secret;
use crate::store::driver::MountOptions;
use crate::store::{ContainerRecord, Mounting, Store};
use crate::sys::{self, Dir};
use gate::Gate;
use images::Images;
use mounts::{Mounted, Mounts};
use targets::{Index, Places};

/// A pull secret in docker-config form. It does not print, and is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PullSecret(Secret);

impl PullSecret {
    /// Keeps the text of a secret.
    pub fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// The text, for whoever logs in with it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PullSecret(..)")
    }
}

/// What a publish asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Which volume.
    pub handle: Handle,
    /// Where it shall be visible.
    pub target: PathBuf,
    /// What an inline volume is made from.
    pub attributes: Attributes,
    /// Flags of the mount.
    pub flags: MountFlags,
    /// Who may use it.
    pub access: Access,
    /// Group that owns its root.
    pub group: Option<u32>,
    /// How to log in where its image is.
    pub secret: Option<PullSecret>,
}

/// Bounds of a size in bytes; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// At least.
    pub required: i64,
    /// At most.
    pub limit: i64,
}

/// What the creation of a claim's volume asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// The name; a retry has the same.
    pub name: String,
    /// What it is made from.
    pub attributes: Attributes,
    /// How large it is to be.
    pub range: Range,
    /// How to log in where its image is.
    pub secret: Option<PullSecret>,
}

/// A volume that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its handle.
    pub handle: Handle,
    /// What it is.
    pub definition: Definition,
}

/// How much of one kind there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// In all.
    pub total: u64,
    /// Taken.
    pub used: u64,
    /// Free for the volume's user.
    pub available: u64,
}

/// How full a volume is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: Amount,
    /// Inodes.
    pub inodes: Amount,
}

/// The volumes of this node.
#[derive(Debug)]
pub struct Volumes {
    store: Store,
    store_id: StoreId,
    lanes: Lanes,
    mounts: Arc<dyn Mounts>,
    gate: Gate,
    index: Mutex<Index>,
    places: Places,
    /// `<run root>/volumes`.
    home: Dir,
    /// This boot, when the system tells.
    boot: Option<String>,
    images: Images,
    metrics: Arc<Metrics>,
    events: Arc<dyn Events>,
}

/// What [`Volumes`] are made of.
#[derive(Debug)]
pub struct Parts {
    /// Where they live.
    pub store: Store,
    /// The threads that work on them.
    pub lanes: Lanes,
    /// The mount table.
    pub mounts: Arc<dyn Mounts>,
    /// The kubelet's directory.
    pub kubelet_dir: PathBuf,
    /// Where their images come from.
    pub images: Images,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// Who is told what happens to them.
    pub events: Arc<dyn Events>,
}

impl Volumes {
    /// The volumes in a store; what is published already is found by [`Volumes::recover`].
    ///
    /// # Errors
    /// When a directory can't be opened or made, or the store's ID can't be read.
    pub fn new(parts: Parts) -> Result<Self, Error> {
        let store_error = |source| Error::Store {
            doing: "read the ID of the store",
            source,
        };
        let store_id = StoreId::parse(&parts.store.uuid().map_err(store_error)?)?;
        let run_root = Dir::open(&parts.store.config().run_root)?;
        Ok(Self {
            store_id,
            home: run_root.ensure_dir("volumes", 0o700)?,
            places: Places::open(&parts.kubelet_dir)?,
            boot: boot_id(),
            store: parts.store,
            lanes: parts.lanes,
            mounts: parts.mounts,
            gate: Gate::default(),
            index: Mutex::default(),
            images: parts.images.telling(parts.events.clone()),
            metrics: parts.metrics,
            events: parts.events,
        })
    }

    /// The ID of the store.
    pub fn store_id(&self) -> &StoreId {
        &self.store_id
    }

    /// The threads that work on volumes.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the container of a volume is mounted, once.
    fn mounting(&self, container: &str, layer: &str, lifecycle: Lifecycle) -> Mounting {
        Mounting {
            at: Some(self.place(container, layer)),
            options: MountOptions {
                volatile: lifecycle == Lifecycle::Ephemeral && self.boot.is_some(),
                is_strict: true,
                ..MountOptions::default()
            },
            ..Mounting::default()
        }
    }

    /// Whether the store's options forbid set-id bits, whoever asks for them.
    fn forbids_set_id(&self) -> bool {
        self.store.config().options.iter().any(|option| {
            option
                .split_once("mountopt=")
                .is_some_and(|(_, options)| options.split(',').any(|option| option == "nosuid"))
        })
    }

    /// The volume's own place. Drivers that give the layer's directory itself need no other.
    fn place(&self, container: &str, layer: &str) -> PathBuf {
        match self.has_own_mount() {
            false => self.store.driver().default_mount_point(layer),
            true => self.home.path().join(container),
        }
    }

    /// Whether a volume has a mount of its own, which targets are binds of.
    fn has_own_mount(&self) -> bool {
        !self.store.driver().kind().has_whole_trees()
    }

    /// What the volume's own place shows, when the volume is mounted there.
    fn mounted(&self, container: &str, layer: &str) -> Result<Option<Mounted>, sys::Error> {
        let place = self.place(container, layer);
        match self.has_own_mount() {
            false => self.mounts.look(&place),
            true => self.mounts.mounted(&place),
        }
    }

    /// The targets where the volume really is, as the kernel says; the index follows.
    fn live_targets(&self, container: &str) -> Result<Vec<PathBuf>, sys::Error> {
        let (targets, source) = {
            let index = self.index();
            (index.targets(container), index.source(container))
        };
        let mut live = Vec::with_capacity(targets.len());
        for target in targets {
            let mounted = self.mounts.mounted(&target)?;
            if mounted.is_some_and(|mounted| Some(mounted.source) == source) {
                live.push(target);
            } else {
                self.index().remove(container, &target);
                self.metrics.set_targets(self.index().len());
            }
        }
        Ok(live)
    }

    fn note(&self, container: &str, target: &Path, mounted: Mounted) {
        let mut index = self.index();
        index.insert(container, target, mounted.source);
        self.metrics.set_targets(index.len());
    }

    fn forget(&self, container: &str, target: &Path) {
        let mut index = self.index();
        index.remove(container, target);
        self.metrics.set_targets(index.len());
    }

    /// Looks at how full a published volume is. Waits for no lane of changes.
    ///
    /// # Errors
    /// When the volume is not published at `path`.
    pub async fn stats(self: &Arc<Self>, handle: &Handle, path: &Path) -> Result<Usage, Error> {
        let unknown = || Error::NotFound {
            volume: handle.to_string(),
            path: Some(path.to_owned()),
        };
        if self.index().owner(path) != Some(handle.container()) {
            return Err(unknown());
        }
        let shared = Arc::clone(self);
        let container = handle.container().to_owned();
        let at = path.to_owned();
        let usage = self.lanes.looks.run(move || -> Result<_, sys::Error> {
            let source = shared.index().source(&container);
            let mounted = shared.mounts.mounted(&at)?.map(|mounted| mounted.source);
            if mounted.is_none() || mounted != source {
                return Ok(None);
            }
            usage(&at).map(Some)
        });
        usage.await??.ok_or_else(unknown)
    }
}

fn usage(path: &Path) -> Result<Usage, sys::Error> {
    let found = rustix::fs::statvfs(path)
        .map_err(|errno| sys::Error::new("stat the file system of", path, errno))?;
    let amount = |unit: u64, total: u64, free: u64, available: u64| Amount {
        total: total.saturating_mul(unit),
        used: total.saturating_sub(free).saturating_mul(unit),
        available: available.saturating_mul(unit),
    };
    Ok(Usage {
        bytes: amount(
            found.f_frsize,
            found.f_blocks,
            found.f_bfree,
            found.f_bavail,
        ),
        inodes: amount(1, found.f_files, found.f_ffree, found.f_favail),
    })
}

/// The ID that the kernel draws at each boot.
fn boot_id() -> Option<String> {
    let text = Dir::open("/proc/sys/kernel/random")
        .and_then(|dir| dir.read("boot_id"))
        .ok()?;
    let text = String::from_utf8(text).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What a container is as a volume; `None` when it is none.
fn definition_of(record: &ContainerRecord) -> Option<Definition> {
    Definition::from_metadata(&record.metadata)
}

/// An error of the store, with what was being done.
fn in_store(doing: &'static str) -> impl Fn(crate::store::Error) -> Error {
    move |source| Error::Store { doing, source }
}

#[cfg(test)]
mod tests;

//! How layers become directories: the [`Driver`] trait, with [`Layers`] for those that are there, and its implementations.
//!
//! | Driver | A layer is | Mounting |
//! |---|---|---|
//! | [`overlay`] | the difference to its parent, in `<id>/diff` | an overlay over its ancestors |
//! | [`vfs`] | a whole tree, in `dir/<id>` | nothing: the directory itself |
//! | [`btrfs`] | a whole tree, in the subvolume `subvolumes/<id>` | nothing: the directory itself |
//! | [`split`] | as the two drivers of one kind that it consists of | as they do |

pub mod btrfs;
mod error;
mod home;
mod layers;
pub(super) mod leftovers;
pub mod options;
pub mod overlay;
pub mod split;
mod trees;
pub mod vfs;

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use error::DriverError;
pub use layers::Layers;
pub use options::DriverOptions;

use crate::archive::Whiteouts;
use crate::archive::changes::Change;
use crate::archive::id_shift::{IdMaps, Shift};
use crate::archive::pack;
use crate::store::id;
use crate::store::time::Time;
use crate::sys::tree::Copied;
use crate::sys::{self, Dir};

/// The drivers that a store may be made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DriverKind {
    /// Differences, mounted by the kernel's overlay.
    Overlay,
    /// Whole trees; needs no privileges.
    Vfs,
    /// Whole trees in subvolumes, a child a snapshot of its parent.
    Btrfs,
}

impl DriverKind {
    /// The name in paths and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// True when a layer is a whole tree, which is there without being mounted; else it is a difference.
    pub fn has_whole_trees(self) -> bool {
        match self {
            Self::Overlay => false,
            Self::Vfs | Self::Btrfs => true,
        }
    }

    /// The driver that `name` means.
    ///
    /// # Errors
    /// When Strata has no such driver.
    pub fn parse(name: &str) -> Result<Self, DriverError> {
        match name {
            "overlay" | "overlay2" => Ok(Self::Overlay),
            "vfs" => Ok(Self::Vfs),
            "btrfs" => Ok(Self::Btrfs),
            _ => Err(DriverError::Unknown(name.to_owned())),
        }
    }
}

/// How much a container may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In bytes; 0: no limit. `None`: as the driver's options say.
    pub size: Option<u64>,
    /// In files, directories and others; 0: no limit. `None`: as the driver's options say.
    pub inodes: Option<u64>,
}

/// What a layer in the making shall be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrepareOptions {
    /// True for a container's layer.
    pub read_write: bool,
    /// What is made here is synced before the call returns.
    pub durable: bool,
    /// The parent is in the making itself: [`Driver::complete`] fills in what depends on it.
    pub parent_comes_later: bool,
    /// Where the contents have the container's root; its directories get this owner.
    pub root: (u32, u32),
    /// How much may be written to it; only for a container's.
    pub limits: Limits,
}

/// Where a layer and those below have the IDs of a container.
///
/// The default is that none is mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// In the layer itself, and in a mount of it.
    pub own: IdMaps,
    /// In the nearest layers below.
    pub below: IdMaps,
    /// How many those are; what the others hold is hidden by them.
    pub layers: usize,
    /// What is in the layer was written through mounts. A mount program that shows other owners writes those below, where
    /// the kernel writes what it is shown.
    pub is_written: bool,
}

impl Owners {
    /// Those of the nearest layer below.
    #[must_use]
    pub fn below_only(&self) -> Self {
        Self {
            own: self.below.clone(),
            below: self.below.clone(),
            layers: self.layers.saturating_sub(1),
            is_written: false,
        }
    }
}

/// A layer that is copied or compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Its ID.
    pub id: String,
    /// Where the IDs are.
    pub owners: Owners,
}

impl From<&str> for Side {
    /// A layer in which nothing is mapped.
    fn from(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            owners: Owners::default(),
        }
    }
}

/// What lies below a layer whose archive has left directories out.
#[derive(Debug, Default)]
pub struct Below<'a> {
    /// Prepared layers that are not in the home yet, nearest first.
    pub prepared: &'a [Dir],
    /// The nearest that is in the home.
    pub layer: Option<&'a str>,
    /// From the owners of those below to those of the layer.
    pub shift: Shift,
}

/// What a layer is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// What is below it; nothing for whole trees.
    Below,
    /// Nothing: all of it is new.
    Nothing,
    /// Another layer.
    Layer(Side),
}

/// What becomes of a tree that is copied for other owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The new layer's own contents.
    Contents,
    /// What the new layer's contents, which are to come, lie over.
    Base,
}

/// How a layer is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// No writes.
    pub read_only: bool,
    /// The caller's options; empty: the configured ones.
    pub options: Vec<String>,
    /// What is written need not survive a loss of power.
    pub volatile: bool,
    /// Neither device files nor set-id bits count, whatever the options say.
    pub is_strict: bool,
    /// Refused while a process holds an earlier mount of the layer that is out of sight. Costs a look
    /// that a layer which was just made does not need.
    pub is_exclusive: bool,
    /// The SELinux context.
    pub label: Option<String>,
    /// Where the IDs are; what is below is shown with the layer's own.
    pub owners: Owners,
}

/// Where a store lies.
#[derive(Debug)]
pub struct Roots<'a> {
    /// The graph root.
    pub graph: &'a Dir,
    /// Its absolute path.
    pub graph_path: &'a Path,
    /// The run root.
    pub run: &'a Dir,
    /// Its absolute path.
    pub run_path: &'a Path,
    /// Roots of additional image stores.
    pub additional: Vec<PathBuf>,
    /// Owners are copied, never mapped by mounts.
    pub no_id_mapped_mounts: bool,
    /// Nothing can be written in the graph root.
    pub is_read_only: bool,
    /// Containers have their layers elsewhere: what limits these holds for nothing here.
    pub is_for_images: bool,
}

/// Makes directories of layers. All methods block; those with LOCKS change the home. Those that have a body here do so for
/// drivers of whole trees.
pub trait Driver: Layers {
    /// Which one it is.
    fn kind(&self) -> DriverKind;

    /// Roots of additional image stores: those given, and those of the driver's own options.
    fn additional_roots(&self) -> Vec<PathBuf>;

    /// Fills the empty directory `at`, outside the home and on its file system, with a new layer over
    /// `parent`. Nothing of it is visible yet.
    ///
    /// # Errors
    /// When the parent is damaged or missing, or something can't be written; `at` may be half filled.
    fn prepare(
        &self,
        at: &Dir,
        parent: Option<&str>,
        options: &PrepareOptions,
    ) -> Result<(), DriverError>;

    /// As [`Driver::prepare`], with the contents of the layer `id` of the additional store in `root`:
    /// shared with it where the file system can, else copied.
    ///
    /// # Errors
    /// When that layer is missing or can't be read, or as [`Driver::prepare`].
    fn prepare_copy(
        &self,
        at: &Dir,
        root: &Path,
        id: &str,
        parent: Option<&str>,
        options: &PrepareOptions,
    ) -> Result<Copied, DriverError>;

    /// As [`Driver::prepare`], with a copy of the whole tree of the layer `template` in which the owners are those of
    /// `to`. The new layer stands on nothing.
    ///
    /// # Errors
    /// When something can't be read or written; `at` may be half filled.
    fn prepare_mapped(
        &self,
        at: &Dir,
        template: &Side,
        to: &IdMaps,
        role: Role,
        options: &PrepareOptions,
    ) -> Result<Copied, DriverError>;

    /// True when mounts can show other owners than the layers below have: those of `maps`. Whole trees can't.
    ///
    /// # Errors
    /// When the kernel can't say.
    fn shows_other_owners(&self, maps: &IdMaps) -> Result<bool, DriverError> {
        let _ = maps;
        Ok(false)
    }

    /// True when what is written through mounts that show other owners has on disk those of what is below.
    fn writes_as_below(&self) -> bool {
        false
    }

    /// Fills in what [`Driver::prepare`] could not know, now that `parent` is in the home; durably. With
    /// `inherit_root`, the root directory gets the mode and owner of the parent's. A whole tree was made of its parent:
    /// nothing is left to know.
    ///
    /// LOCKS: layers, exclusive.
    ///
    /// # Errors
    /// When the parent is damaged or missing, or something can't be written.
    fn complete(&self, at: &Dir, parent: &str, inherit_root: bool) -> Result<(), DriverError> {
        let _ = (at, parent, inherit_root);
        Ok(())
    }

    /// Gives the directories `implied` of the contents of the layer in `at`, which its archive had no entries for, what
    /// the layers below have there: mode, owner, attributes and times. A whole tree had it when the archive was unpacked.
    ///
    /// # Errors
    /// When a layer below is damaged or missing, or something can't be written.
    fn inherit(&self, at: &Dir, implied: &[Vec<u8>], below: &Below<'_>) -> Result<(), DriverError> {
        let _ = (at, implied, below);
        Ok(())
    }

    /// The directory of a prepared layer into which its contents go.
    ///
    /// # Errors
    /// When it can't be opened.
    fn prepared_content(&self, at: &Dir) -> Result<Dir, DriverError>;

    /// What becomes of deletions in an unpacked archive.
    fn whiteouts(&self) -> Whiteouts;

    /// True when unpacking goes on where an owner can't be set.
    fn ignores_chown_errors(&self) -> bool;

    /// The mode that unpacked files and directories get instead of their own, which goes into an attribute
    /// ([`override_stat`](crate::archive::override_stat)).
    fn force_mask(&self) -> Option<u32> {
        None
    }

    /// True when a child can be prepared before its parent is in the home. A whole tree is made of its parent.
    fn stages_without_parent(&self) -> bool {
        false
    }

    /// Moves the prepared directory `staging/name` into the home as `id`. A directory of that ID, which
    /// no record has, is moved to `staging/name.old` first.
    ///
    /// LOCKS: layers, exclusive.
    ///
    /// # Errors
    /// When it can't be moved; nothing is then left in the home.
    fn adopt(&self, staging: &Dir, name: &str, id: &str) -> Result<(), DriverError>;

    /// Makes the names of the layers in the home durable: before a durable record points at one.
    ///
    /// # Errors
    /// When the kernel can't.
    fn sync_home(&self) -> Result<(), DriverError>;

    /// Moves a layer to `trash/name`; false when there is none. Its mount must be gone.
    ///
    /// LOCKS: layers, exclusive.
    ///
    /// # Errors
    /// When it can't be moved; it is then where it was.
    fn discard(&self, id: &str, trash: &Dir, name: &str) -> Result<bool, DriverError>;

    /// Mounts the layer at `at`, which is made when missing, and returns where it is to be seen. A mount that is
    /// there already, of somebody who died before it was recorded, is taken over.
    ///
    /// # Errors
    /// When the layer or one below is missing, there are too many, or the kernel refuses; nothing is
    /// then mounted.
    fn mount(&self, id: &str, at: &Path, options: &MountOptions) -> Result<PathBuf, DriverError>;

    /// Pairs of key and value for people.
    ///
    /// # Errors
    /// When the kernel can't say.
    fn status(&self) -> Result<Vec<(String, String)>, DriverError> {
        Ok(Vec::new())
    }

    /// Removes what peers that died have left beside the layers, where they make them ready or delete them. Returns what was
    /// removed.
    ///
    /// # Errors
    /// When something can't be read or removed.
    fn remove_leftovers(&self) -> Result<Vec<PathBuf>, DriverError> {
        Ok(Vec::new())
    }

    /// Removes what is in the home for no layer: what peers have tried the kernel with, and names of layers that are not
    /// there, and not recorded either. Returns what was removed.
    ///
    /// LOCKS: graph, layers, exclusive.
    ///
    /// # Errors
    /// When something can't be read or removed.
    fn tidy(&self, recorded: &HashSet<String>) -> Result<Vec<PathBuf>, DriverError> {
        let _ = recorded;
        Ok(Vec::new())
    }

    /// Takes down what the driver itself keeps mounted.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn shutdown(&self) -> Result<(), DriverError>;
}

/// Opens the driver's home in the roots, making what is missing.
///
/// # Errors
/// When an option is not understood or not offered, or the home can't be used.
pub fn open(
    kind: DriverKind,
    roots: &Roots<'_>,
    options: &[String],
) -> Result<Box<dyn Driver>, DriverError> {
    let options = DriverOptions::parse(kind, options)?;
    Ok(match kind {
        DriverKind::Overlay => Box::new(overlay::Overlay::open(roots, options)?),
        DriverKind::Vfs => Box::new(vfs::Vfs::open(roots, &options)?),
        DriverKind::Btrfs => Box::new(btrfs::Btrfs::open(roots, &options)?),
    })
}

/// Copies the contents of the layer `id` of another store. Nobody holds that store's locks for so long: its
/// owner may have deleted the layer meanwhile and made it again, and the copy is then of neither.
fn copy_unchanged(id: &str, from: &Dir, to: &Dir) -> Result<Copied, DriverError> {
    let copied = sys::tree::copy(from, to)?;
    match Dir::open(from.path()) {
        Ok(now) if now.stat_self()?.st_ino == from.stat_self()?.st_ino => Ok(copied),
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Err(DriverError::Missing(id.to_owned())),
    }
}

/// The layer `id` of the store in `root`, whose driver has its layers in the folder `place` there.
fn layer_of_another(root: &Path, place: &str, id: &str) -> Result<Dir, DriverError> {
    if !id::is_safe(id) {
        return Err(DriverError::Name(id.to_owned()));
    }
    let found = Dir::open(root)?.find_dir(Path::new(place).join(id))?;
    found.ok_or_else(|| DriverError::Missing(id.to_owned()))
}

/// Takes down the mount at `at`, unless somebody is in it.
fn unmount_unused(id: &str, at: &Path) -> Result<(), DriverError> {
    match sys::mount::unmount_unused(at) {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            Err(DriverError::InUse(id.to_owned()))
        }
        result => Ok(result.map(drop)?),
    }
}

/// Packs what changed in a layer, with the owners that its container has; with `overrides` as what it is meant to be.
fn pack_changes(
    tree: &Dir,
    layer: &Side,
    changes: &[Change],
    overrides: bool,
    out: &mut dyn Write,
) -> Result<(), DriverError> {
    let options = pack::Options {
        id_maps: layer.owners.own.clone(),
        overrides,
        overlay: None,
    };
    let now = Time::now().seconds().into();
    pack::pack_changes(tree, changes, now, out, &options)?;
    Ok(())
}

/// Gives a directory that was just made to `owner`.
fn own(dir: &Dir, owner: (u32, u32), ignores_errors: bool) -> Result<(), DriverError> {
    if owner == (0, 0) {
        return Ok(());
    }
    match dir.set_owner("", owner.0, owner.1) {
        Err(error) if ignores_errors && error.kind() == std::io::ErrorKind::PermissionDenied => {
            Ok(())
        }
        result => Ok(result?),
    }
}

/// Refuses what is no regular file: reading a pipe would wait, reading a device could do anything.
pub(super) fn regular_file(file: sys::File) -> Result<sys::File, DriverError> {
    let mode = file.stat()?.st_mode;
    if rustix::fs::FileType::from_raw_mode(mode).is_file() {
        return Ok(file);
    }
    let reason = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file");
    Err(sys::Error::new("read", file.path(), reason).into())
}

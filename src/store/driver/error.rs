//! [`DriverError`]: why layers could not become directories.

use crate::archive::pack::PackError;
use crate::sys;

/// A failure of a driver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// Strata has no driver of this name.
    #[error("driver not supported: {0:?}: Strata has overlay, vfs and btrfs")]
    Unknown(String),
    /// An option's text has no `=`.
    #[error("unable to parse key/value option: {0}")]
    OptionSyntax(String),
    /// An option for a driver that nobody has.
    #[error("unknown driver {driver:?} in option {option:?}")]
    OptionDriver {
        /// The part before the dot.
        driver: String,
        /// The whole option.
        option: String,
    },
    /// An option that the driver does not have.
    #[error("unknown option {key:?} ({option:?})")]
    OptionKey {
        /// The key.
        key: String,
        /// The whole option.
        option: String,
    },
    /// An option whose value makes no sense, or that Strata does not offer.
    #[error("option {option:?}: {reason}")]
    OptionValue {
        /// The whole option.
        option: String,
        /// What is wrong, or what is offered instead.
        reason: &'static str,
    },
    /// The home's file system can't hold layers of this driver.
    #[error("prerequisites for driver not satisfied (wrong filesystem?): {0}")]
    Prerequisites(String),
    /// A limit below the least that the options allow.
    #[error(
        "a limit of {size} bytes is less than the least allowed of {least}, the option min_space"
    )]
    TooSmall {
        /// The limit.
        size: u64,
        /// The least.
        least: u64,
    },
    /// A limit where nothing holds it.
    #[error(
        "storage options overlay.size and overlay.inodes not supported: {path} is on {file_system} without project quotas in \
         force: they need root, a kernel from 5.14 on, and xfs mounted with the option pquota, or ext4 made with \
         `mkfs.ext4 -O quota,project` and mounted with prjquota"
    )]
    NoQuotas {
        /// The driver's home.
        path: String,
        /// What it is on.
        file_system: String,
    },
    /// A limit for a layer that nothing is written to.
    #[error("a limit, size or inodes, is only supported for the layers of containers")]
    LimitOfImage,
    /// A limit of a kind that this driver does not have.
    #[error("the driver {driver} can't limit the {what} of a layer")]
    NoLimit {
        /// The driver.
        driver: &'static str,
        /// What it can't limit.
        what: &'static str,
    },
    /// Every project that was looked at has files in it.
    #[error("no unused project ID was found for a quota near {0}")]
    NoProject(u32),
    /// The kernel's overlay can't show what files are meant to be.
    #[error(
        "overlay: force_mask option for writeable layers is only supported with a mount_program, as \
         overlay.mount_program=/usr/bin/fuse-overlayfs"
    )]
    MaskNeedsProgram,
    /// The layer's ID can't be the name of a directory in the driver's home.
    #[error("{0:?} can't be the ID of a layer")]
    Name(String),
    /// The layer has no directory, though a record or a child says so.
    #[error("layer {0} has no directory in the driver's home")]
    Missing(String),
    /// The contents of a layer below are not there.
    #[error("can't stat (or find?) lower layer \"{path}\": stat {path}: no such file or directory", path = .0.display())]
    NoLower(std::path::PathBuf),
    /// The layer's files say nothing usable.
    #[error("layer {id} is damaged: {reason}")]
    Damaged {
        /// The layer.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A peer made the layer as a composefs: what lies in its directory are files by the names of their contents.
    #[error(
        "layer {0} is a composefs of another tool (use_composefs), which Strata can't read: delete its images and \
         containers with that tool, and pull anew without use_composefs"
    )]
    Composefs(String),
    /// The kernel mounts no overlay of that many layers.
    #[error(
        "max depth exceeded: {id} has {found} layers below it, of which {limit} can be mounted"
    )]
    TooDeep {
        /// The layer.
        id: String,
        /// How many are below.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// A process still has the layer's files open, through a mount that is gone or about to go.
    #[error(
        "layer {0} is in use: a process has files in an earlier mount of it open; it is free when that process ends"
    )]
    InUse(String),
    /// Something is mounted of a layer that no record speaks of.
    #[error(
        "layer {0} is in use: it, or a layer on it, is mounted; it is free when that is unmounted"
    )]
    Mounted(String),
    /// The layers below have a container's IDs elsewhere than it wants them, and mounts can't change that here.
    #[error(
        "the owners below layer {0} can't be mapped by a mount: that needs root, a kernel from 5.19 on and a file \
         system with ID-mapped mounts, and _CONTAINERS_OVERLAY_DISABLE_IDMAP not set"
    )]
    Unmappable(String),
    /// A mount option that the driver does not have.
    #[error("mount option {0:?} is not supported by this driver")]
    MountOption(String),
    /// A tree could not be written as a tar.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The system failed.
    #[error(transparent)]
    Io(#[from] sys::Error),
}

impl DriverError {
    /// True when the file system or a quota is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Pack(error) => error.is_no_space(),
            Self::Io(error) => error.is_no_space(),
            _ => false,
        }
    }
}

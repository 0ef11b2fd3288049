//! Mounting: overlays, binds, taking mounts down, and telling what is mounted where.
//!
//! Everything goes through the mount API of descriptors, in which a mount is finished before it gets its
//! place: no one sees a bind that is not read-only yet. Where the kernel lacks a part of it, `mount(2)`
//! does the same in steps.
//!
//! No path in the mount table is trusted here: another mount may hide it. [`mount_id`] and [`place()`] ask the path
//! itself.
//!
//! | File | What |
//! |---|---|
//! | `overlay` | mounting an overlay |
//! | `bind` | making a tree visible somewhere else |
//! | `change` | taking mounts down, making file systems read-only |
//! | `place` | what is at a path |

mod bind;
mod change;
mod overlay;
mod place;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::mount::{self, MountAttrFlags, MountFlags, MoveMountFlags};

use super::{Error, fault};

pub use bind::{bind, detached, enter_private_namespace, make_private, set_id_map};
pub use change::{set_read_only, unmount, unmount_unused};
pub use overlay::{Overlay, has_overlay, overlay, overlay_view};
pub use place::{
    Place, file_system_name, is_mount_point, is_mount_root, is_on_network, is_on_overlay,
    is_overlay, mount_id, place,
};

/// Properties of one mount, as opposed to those of its file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// No writes.
    pub read_only: bool,
    /// No device files.
    pub no_devices: bool,
    /// No set-id bits and file capabilities.
    pub no_set_id: bool,
    /// No programs.
    pub no_exec: bool,
    /// Access times are not kept.
    pub no_access_time: bool,
    /// Those of directories are not.
    pub no_directory_access_time: bool,
    /// All of them are, also where the one that is known is later than the change. Not told of a mount that is there.
    pub strict_access_time: bool,
    /// Set-id bits count in a bind, even of a mount on which they don't.
    pub set_id: bool,
}

impl Flags {
    fn attributes(self) -> MountAttrFlags {
        let mut attributes = MountAttrFlags::empty();
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, self.read_only);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, self.no_devices);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, self.no_set_id);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, self.no_exec);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOATIME, self.no_access_time);
        attributes.set(
            MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            self.no_directory_access_time,
        );
        attributes.set(
            MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            self.strict_access_time && !self.no_access_time,
        );
        attributes
    }

    fn mount_flags(self) -> MountFlags {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NODEV, self.no_devices);
        flags.set(MountFlags::NOSUID, self.no_set_id);
        flags.set(MountFlags::NOEXEC, self.no_exec);
        flags.set(MountFlags::NOATIME, self.no_access_time);
        flags.set(MountFlags::NODIRATIME, self.no_directory_access_time);
        flags.set(
            MountFlags::STRICTATIME,
            self.strict_access_time && !self.no_access_time,
        );
        flags
    }
}

impl From<StatVfsMountFlags> for Flags {
    fn from(flags: StatVfsMountFlags) -> Self {
        Self {
            read_only: flags.contains(StatVfsMountFlags::RDONLY),
            no_devices: flags.contains(StatVfsMountFlags::NODEV),
            no_set_id: flags.contains(StatVfsMountFlags::NOSUID),
            no_exec: flags.contains(StatVfsMountFlags::NOEXEC),
            no_access_time: flags.contains(StatVfsMountFlags::NOATIME),
            no_directory_access_time: flags.contains(StatVfsMountFlags::NODIRATIME),
            strict_access_time: false,
            set_id: false,
        }
    }
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fs::open(path, flags, Mode::empty())?)
}

fn open_root(tree: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(fs::openat(tree, c".", flags, Mode::empty())?)
}

/// Gives a mount its place.
fn attach(tree: &OwnedFd, target: &Path) -> Result<(), Error> {
    fault::change("move_mount", || {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(mount::move_mount(tree, c"", CWD, target, flags)?)
    })
    .map_err(|error| Error::new("mount at", target, error))
}

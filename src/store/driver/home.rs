//! Homes that are bound over themselves: Go's overlay and btrfs drivers make theirs a private mount.

use std::path::Path;

use rustix::io::Errno;

use super::DriverError;
use crate::sys::{self, Dir};

/// Renames within the graph root at `graph_path`. Where a Go tool has bound the home over itself, the kernel takes home and
/// staging area for two file systems: then inside a detached copy of the root's mount. Where an administrator has made
/// `to` a project, it no longer hands that down: layers that have a limit are projects of their own.
pub(super) fn rename(
    graph_path: &Path,
    from: &Dir,
    name: &str,
    to: &Dir,
    new: &str,
) -> Result<(), DriverError> {
    let error = match from.rename_new(name, to, new) {
        Err(error) if error.errno() == Some(Errno::XDEV.raw_os_error()) => error,
        result => return Ok(result?),
    };
    // Another file system at one of them is no bind: below it lie other directories of the same names.
    if from.stat_self()?.st_dev != to.stat_self()?.st_dev {
        return Err(error.into());
    }
    // A directory that hands a project of its own down lets in nothing of another project.
    if to.keep_project()? {
        match from.rename_new(name, to, new) {
            // Both at once.
            Err(error) if error.errno() == Some(Errno::XDEV.raw_os_error()) => {}
            result => return Ok(result?),
        }
    }
    let root = sys::mount::detached(graph_path)?;
    let inside = |dir: &Dir| match dir.path().strip_prefix(graph_path) {
        Ok(below) => root.open_dir(below),
        Err(_) => dir.try_clone(),
    };
    Ok(inside(from)?.rename_new(name, &inside(to)?, new)?)
}

/// Releases the home `name` if it was bound over itself, as peers do; unlike them not a file system that an administrator
/// has mounted there.
pub(super) fn release(graph_path: &Path, name: &str) -> Result<(), DriverError> {
    let home = graph_path.join(name);
    if !sys::mount::is_mount_point(&home)? {
        return Ok(());
    }
    let below = sys::mount::detached(graph_path)?.stat(name)?;
    let above = Dir::open(&home)?.stat_self()?;
    if below.is_some_and(|below| (below.st_dev, below.st_ino) == (above.st_dev, above.st_ino)) {
        sys::mount::unmount(&home)?;
    }
    Ok(())
}

//! [`ImageRoot`]: the root of a split store that holds images and their layers, perhaps on a file system of its own.

use std::path::PathBuf;

use rustix::io::Errno;

use super::Inner;
use super::error::Error;
use super::staging::Staging;
use crate::sys::{self, Dir};

/// A second root, with a staging area of its own.
#[derive(Debug)]
pub(super) struct ImageRoot {
    pub(super) path: PathBuf,
    pub(super) dir: Dir,
    pub(super) staging: Staging,
}

/// The number of the file in which the layers of a split store's images are recorded.
pub(super) const IMAGE_LAYERS: usize = 2;

impl Inner {
    /// Where a new layer is made ready.
    pub(super) fn staging_for(&self, read_write: bool) -> &Staging {
        match &self.image_root {
            Some(root) if !read_write => &root.staging,
            _ => &self.staging,
        }
    }

    /// Where a layer goes that is deleted.
    pub(super) fn staging_of(&self, id: &str) -> &Staging {
        match &self.image_root {
            Some(root)
                if self
                    .driver
                    .layer(id)
                    .is_ok_and(|dir| dir.path().starts_with(&root.path)) =>
            {
                &root.staging
            }
            _ => &self.staging,
        }
    }

    /// Where an image's directory goes that is made or deleted in `home`.
    pub(super) fn staging_beside(&self, home: &Dir) -> &Staging {
        match &self.image_root {
            Some(root) if home.path().starts_with(&root.path) => &root.staging,
            _ => &self.staging,
        }
    }

    /// True when the staged directory belongs to the images of a split store.
    pub(super) fn is_of_images(&self, staged: &Dir) -> bool {
        self.image_root
            .as_ref()
            .is_some_and(|root| staged.path().starts_with(&root.path))
    }
}

/// Renames a file, or where it lies on another file system copies it; it is then whole and durable before it is seen.
pub(super) fn move_file(from: &Dir, name: &str, to: &Dir, new: &str) -> Result<(), Error> {
    match from.rename(name, to, new) {
        Err(error) if error.errno() == Some(Errno::XDEV.raw_os_error()) => {}
        result => return Ok(result?),
    }
    let copy = to.create_unnamed_file(0o600)?;
    sys::tree::copy_file(&from.open_file(name)?, &copy)?;
    copy.sync_data()?;
    // A name can't be linked over another.
    let temporary = format!(".tmp-moved-{:016x}", sys::dir::random_u64());
    to.link_file(&copy, &temporary)?;
    let renamed = to.rename(&temporary, to, new);
    if renamed.is_err() {
        // Another error is on its way.
        drop(to.remove_file(&temporary));
    }
    Ok(renamed?)
}

/// The same of a folder, which is copied beside `to` first, in `staging`.
pub(super) fn move_folder(
    from: &Dir,
    name: &str,
    to: &Dir,
    new: &str,
    staging: &Staging,
) -> Result<(), Error> {
    match from.rename(name, to, new) {
        Err(error) if error.errno() == Some(Errno::XDEV.raw_os_error()) => {}
        result => return Ok(result?),
    }
    let entry = staging.entry()?;
    let copy = entry.create_dir()?;
    sys::tree::copy(&from.open_dir(name)?, &copy)?;
    copy.sync_file_system()?;
    Ok(entry.folder().rename_new(entry.name(), to, new)?)
}

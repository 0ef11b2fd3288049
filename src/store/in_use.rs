//! Layers that no record speaks of, and that somebody uses all the same: through a mount, wherever it is.

use std::collections::HashSet;
use std::path::Path;

use super::driver::DriverError;
use super::error::Error;
use super::transaction::Transaction;
use crate::sys::mount_table;

impl Transaction<'_> {
    /// Which layers are used, `unrecorded` ones among them. A mount of these at their own places that nobody is in, of
    /// somebody who died before it was recorded, is taken down first.
    ///
    /// # Errors
    /// When the mount table can't be read, or the system refuses to unmount.
    pub(super) fn used_layers(&mut self, unrecorded: &[String]) -> Result<HashSet<String>, Error> {
        let driver = &self.store.driver;
        let mut used = HashSet::new();
        if unrecorded.is_empty() {
            return Ok(used);
        }
        for id in unrecorded {
            let own_place = driver.default_mount_point(id);
            match driver.unmount_unused(id, &own_place) {
                Ok(()) => {}
                Err(DriverError::InUse(id)) => {
                    used.insert(id);
                }
                Err(error) => return Err(error.into()),
            }
            let recorded = self.mounts()?.find_id(id)?;
            if let Some(mount) = recorded
                && Path::new(&mount.path) != own_place
                && driver.is_mounted(Path::new(&mount.path))?
            {
                used.insert(id.clone());
            }
        }
        used.extend(driver.mounted(&mount_table::read()?)?);
        for id in unrecorded {
            if !used.contains(id) && driver.is_held(id)? {
                used.insert(id.clone());
            }
        }
        for id in used.clone() {
            match driver.lowers(&id) {
                Ok(lowers) => used.extend(lowers),
                Err(error) => {
                    tracing::warn!(layer = id, %error, "what a layer in use stands on is not known");
                }
            }
        }
        Ok(used)
    }
}

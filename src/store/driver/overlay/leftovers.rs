//! What peers that died have left in the home beside layers.

use std::collections::HashSet;
use std::path::PathBuf;

use super::{Overlay, layout};
use crate::store::driver::{DriverError, leftovers};
use crate::sys::{self, mount_table};

impl Overlay {
    /// Removes layers that nobody goes on making or deleting.
    pub(super) fn remove_leftovers_of_peers(&self) -> Result<Vec<PathBuf>, DriverError> {
        let mut removed = Vec::new();
        if let Some(folder) = self.home.find_dir("tempdirs")? {
            removed.extend(leftovers::remove_temporary(&folder)?);
        }
        if let Some(folder) = self.home.find_dir("staging")? {
            removed.extend(leftovers::remove_staged(&folder)?);
        }
        Ok(removed)
    }

    /// Removes the directories in which peers have tried out what the kernel can, which they do with the graph lock held.
    pub(super) fn remove_probes(&self) -> Result<Vec<PathBuf>, DriverError> {
        let mut removed = Vec::new();
        for entry in self.home.list()? {
            let Some(name) = entry.name.to_str().filter(|name| layout::is_probe(name)) else {
                continue;
            };
            let path = self.home.path().join(name);
            let mut is_busy = false;
            for line in mount_table::below(&mount_table::read()?, &path).rev() {
                match sys::mount::unmount_unused(&line.mount_point) {
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                        is_busy = true;
                    }
                    result => {
                        result?;
                    }
                }
            }
            if !is_busy && self.home.remove_tree(name)? {
                removed.push(path);
            }
        }
        Ok(removed)
    }

    /// Removes short links to layers that are neither there nor recorded: failed creations of peers leave them.
    pub(super) fn remove_dangling_links(
        &self,
        recorded: &HashSet<String>,
    ) -> Result<Vec<PathBuf>, DriverError> {
        let mut removed = Vec::new();
        for entry in self.links.list()? {
            let Some(short) = entry
                .name
                .to_str()
                .filter(|name| layout::is_short_name(name))
            else {
                continue;
            };
            let Some(id) = layout::follow(&self.home, short)? else {
                continue;
            };
            // A layer that is recorded and lost may be made again, by the name that its children know.
            if !recorded.contains(&id)
                && self.home.stat(&id)?.is_none()
                && self.links.remove_file_if_found(short)?
            {
                removed.push(self.links.path().join(short));
            }
        }
        Ok(removed)
    }
}

//! What a store says of itself, and shutting it down for everybody.

use super::Store;
use super::error::Error;
use super::last_write::LastWrite;
use super::opening::GRAPH_LOCK;
use super::transaction::Scope;
use crate::sys::record_lock::{Access, RecordLock};

impl Store {
    /// Gives back what the store holds on disk, for a process that ends without dropping it: freeing
    /// thousands of records takes longer than ending.
    pub fn leave(&self) {
        if let Some(root) = &self.0.image_root {
            root.staging.leave();
        }
        self.0.staging.leave();
    }

    /// Pairs of key and value: roots, driver, then what the driver says.
    ///
    /// # Errors
    /// When the driver can't say.
    pub fn status(&self) -> Result<Vec<(String, String)>, Error> {
        let config = self.config();
        let mut status = vec![
            ("Root".to_owned(), config.graph_root.display().to_string()),
            ("Run Root".to_owned(), config.run_root.display().to_string()),
            (
                "Driver Name".to_owned(),
                self.driver().kind().as_str().to_owned(),
            ),
            (
                "Driver Options".to_owned(),
                format!("[{}]", config.listed_options().join(" ")),
            ),
        ];
        status.extend(self.driver().status()?);
        Ok(status)
    }

    /// Takes down the driver's mounts and tells every process that has the store open. Returns the
    /// layers that were mounted.
    ///
    /// # Errors
    /// Without `force`, [`Error::StillMounted`] when a layer is mounted; else when an unmount fails.
    pub fn shutdown(&self, force: bool) -> Result<Vec<String>, Error> {
        self.check_writable()?;
        let graph = RecordLock::acquire(&self.0.graph, GRAPH_LOCK, Access::Exclusive)?;
        let mounted = self
            .0
            .mounted_layers(|id, count| (count > 0).then(|| id.to_owned()))?;
        if !mounted.is_empty() && !force {
            return Err(Error::StillMounted);
        }
        let layers = mounted.clone();
        self.write(Scope::LAYERS, move |transaction| {
            for id in &layers {
                let store = transaction.store;
                if let Some(mount) = transaction.mounts()?.find_id(id)? {
                    store.driver.unmount(id, mount.path.as_ref())?;
                    transaction.mounts()?.remove(id);
                }
            }
            Ok(())
        })?;
        LastWrite::stamp(&graph)?;
        self.driver().shutdown()?;
        Ok(mounted)
    }
}

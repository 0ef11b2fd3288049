//! [`Layers`]: what is asked of the layers that are in a driver's home.

use std::collections::HashSet;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::trees::OfTrees;
use super::{Base, DriverError, Side};
use crate::archive::changes::Change;
use crate::sys::mount_table::Line;
use crate::sys::{self, Dir};

/// The layers in the home of a driver, and in those of additional stores: found, read, unmounted, compared.
pub trait Layers: fmt::Debug + Send + Sync {
    /// True when the home has the layer.
    ///
    /// # Errors
    /// When the kernel can't say.
    fn exists(&self, id: &str) -> Result<bool, DriverError>;

    /// Every layer of the home, recorded or not.
    ///
    /// # Errors
    /// When the home can't be read.
    fn list(&self) -> Result<Vec<String>, DriverError>;

    /// Where the layer is in the home, or that of an additional store.
    ///
    /// # Errors
    /// When it can't be opened.
    fn layer(&self, id: &str) -> Result<Dir, DriverError>;

    /// The directory with the layer's own contents: of overlay the difference, of vfs the whole tree.
    ///
    /// # Errors
    /// When it can't be opened.
    fn content(&self, id: &str) -> Result<Dir, DriverError>;

    /// The layers below, nearest first; none for whole trees.
    ///
    /// # Errors
    /// When the layer is damaged beyond what can be told.
    fn lowers(&self, id: &str) -> Result<Vec<String>, DriverError>;

    /// Whether all is there that a mount of the layer is made of, as far as it is told without one.
    ///
    /// # Errors
    /// When something is missing or damaged.
    fn check_below(&self, id: &str) -> Result<(), DriverError> {
        let _ = id;
        Ok(())
    }

    /// Opens a file of the layer, or of one below, as it would be seen mounted, without mounting. The
    /// path is resolved inside the layer.
    ///
    /// # Errors
    /// When there is no such file.
    fn open_file(&self, id: &str, path: &[u8]) -> Result<sys::File, DriverError>;

    /// The blob that the layer came in, where an additional layer store keeps it.
    ///
    /// # Errors
    /// When it can't be opened.
    fn find_blob(&self, id: &str) -> Result<Option<sys::File>, DriverError> {
        let _ = id;
        Ok(None)
    }

    /// Where the layer is mounted when nobody asks for a place.
    fn default_mount_point(&self, id: &str) -> PathBuf;

    /// Takes down the layer's mount at `at`; none there is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn unmount(&self, id: &str, at: &Path) -> Result<(), DriverError>;

    /// As [`Layers::unmount`], but refused while something in the mount is in use.
    ///
    /// # Errors
    /// [`DriverError::InUse`], or when the kernel refuses.
    fn unmount_unused(&self, id: &str, at: &Path) -> Result<(), DriverError>;

    /// True when a mount of this driver is at `at`: asked of the kernel by the path itself, as a line of
    /// the mount table may be hidden by another mount.
    ///
    /// # Errors
    /// When the kernel can't say.
    fn is_mounted(&self, at: &Path) -> Result<bool, DriverError>;

    /// The layers of the home that the mounts of a table show, or say that they stand on.
    ///
    /// # Errors
    /// When the home can't be read.
    fn mounted(&self, table: &[Line]) -> Result<HashSet<String>, DriverError>;

    /// True when the kernel still works in the layer's directory, whether or not a mount is to be seen.
    ///
    /// # Errors
    /// When the layer can't be written.
    fn is_held(&self, id: &str) -> Result<bool, DriverError> {
        let _ = id;
        Ok(false)
    }

    /// What differs between a layer and `from`.
    ///
    /// # Errors
    /// When a tree can't be read.
    fn changes(&self, layer: &Side, from: &Base) -> Result<Vec<Change>, DriverError>;

    /// The difference as a tar, made from the trees.
    ///
    /// # Errors
    /// When a tree can't be read, an owner has no place in the layer's maps, or the output fails.
    fn diff(&self, layer: &Side, from: &Base, out: &mut dyn Write) -> Result<(), DriverError>;

    /// The bytes that a layer has and `from` has not.
    ///
    /// # Errors
    /// When a tree can't be read.
    fn diff_size(&self, layer: &Side, from: &Base) -> Result<u64, DriverError>;
}

impl<D: OfTrees + fmt::Debug + Send + Sync> Layers for D {
    fn exists(&self, id: &str) -> Result<bool, DriverError> {
        self.trees().exists(id)
    }

    fn list(&self) -> Result<Vec<String>, DriverError> {
        self.trees().list()
    }

    fn layer(&self, id: &str) -> Result<Dir, DriverError> {
        self.trees().content(id)
    }

    fn content(&self, id: &str) -> Result<Dir, DriverError> {
        self.trees().content(id)
    }

    fn lowers(&self, _id: &str) -> Result<Vec<String>, DriverError> {
        Ok(Vec::new())
    }

    fn open_file(&self, id: &str, path: &[u8]) -> Result<sys::File, DriverError> {
        self.trees().open_file(id, path)
    }

    fn default_mount_point(&self, id: &str) -> PathBuf {
        self.trees().mount_point(id)
    }

    fn unmount(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        self.trees().unmount(id, at)
    }

    fn unmount_unused(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        self.trees().unmount_unused(id, at)
    }

    fn is_mounted(&self, at: &Path) -> Result<bool, DriverError> {
        self.trees().is_mounted(at)
    }

    fn mounted(&self, table: &[Line]) -> Result<HashSet<String>, DriverError> {
        self.trees().mounted(table)
    }

    fn changes(&self, layer: &Side, from: &Base) -> Result<Vec<Change>, DriverError> {
        Ok(self.trees().changed(layer, from)?.1)
    }

    fn diff(&self, layer: &Side, from: &Base, out: &mut dyn Write) -> Result<(), DriverError> {
        self.trees().diff(layer, from, out)
    }

    fn diff_size(&self, layer: &Side, from: &Base) -> Result<u64, DriverError> {
        self.trees().diff_size(layer, from)
    }
}

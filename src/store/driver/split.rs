//! Two drivers of one kind for a split store: one has the layers of images, the other what is written to.
//!
//! Each knows the other's root as an additional store, so that layers may stand on each other. A layer in the making is
//! the one's in whose root its staging directory lies.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{
    Base, Below, Driver, DriverError, DriverKind, Layers, MountOptions, PrepareOptions, Role, Side,
};
use crate::archive::Whiteouts;
use crate::archive::changes::Change;
use crate::archive::id_shift::IdMaps;
use crate::sys::mount_table::Line;
use crate::sys::tree::Copied;
use crate::sys::{self, Dir};

/// The two drivers.
#[derive(Debug)]
pub struct Split {
    /// Of the graph root.
    graph: Box<dyn Driver>,
    /// Of the image root.
    images: Box<dyn Driver>,
    image_root: PathBuf,
}

impl Split {
    /// Puts them together; `images` is the one in `image_root`.
    pub fn new(graph: Box<dyn Driver>, images: Box<dyn Driver>, image_root: PathBuf) -> Self {
        Self {
            graph,
            images,
            image_root,
        }
    }

    /// The driver that has the layer; the graph root's for one that nobody has.
    fn of(&self, id: &str) -> Result<&dyn Driver, DriverError> {
        Ok(match self.images.exists(id)? {
            true => &*self.images,
            false => &*self.graph,
        })
    }

    /// The driver in whose root the directory is.
    fn at(&self, dir: &Dir) -> &dyn Driver {
        match dir.path().starts_with(&self.image_root) {
            true => &*self.images,
            false => &*self.graph,
        }
    }
}

impl Driver for Split {
    fn kind(&self) -> DriverKind {
        self.graph.kind()
    }

    fn additional_roots(&self) -> Vec<PathBuf> {
        self.graph.additional_roots()
    }

    fn prepare(
        &self,
        at: &Dir,
        parent: Option<&str>,
        options: &PrepareOptions,
    ) -> Result<(), DriverError> {
        self.at(at).prepare(at, parent, options)
    }

    fn prepare_copy(
        &self,
        at: &Dir,
        root: &Path,
        id: &str,
        parent: Option<&str>,
        options: &PrepareOptions,
    ) -> Result<Copied, DriverError> {
        self.at(at).prepare_copy(at, root, id, parent, options)
    }

    fn prepare_mapped(
        &self,
        at: &Dir,
        template: &Side,
        to: &IdMaps,
        role: Role,
        options: &PrepareOptions,
    ) -> Result<Copied, DriverError> {
        self.at(at).prepare_mapped(at, template, to, role, options)
    }

    fn shows_other_owners(&self, maps: &IdMaps) -> Result<bool, DriverError> {
        Ok(self.graph.shows_other_owners(maps)? && self.images.shows_other_owners(maps)?)
    }

    fn writes_as_below(&self) -> bool {
        self.graph.writes_as_below()
    }

    fn complete(&self, at: &Dir, parent: &str, inherit_root: bool) -> Result<(), DriverError> {
        self.at(at).complete(at, parent, inherit_root)
    }

    fn inherit(&self, at: &Dir, implied: &[Vec<u8>], below: &Below<'_>) -> Result<(), DriverError> {
        self.at(at).inherit(at, implied, below)
    }

    fn prepared_content(&self, at: &Dir) -> Result<Dir, DriverError> {
        self.at(at).prepared_content(at)
    }

    fn whiteouts(&self) -> Whiteouts {
        self.graph.whiteouts()
    }

    fn ignores_chown_errors(&self) -> bool {
        self.graph.ignores_chown_errors()
    }

    fn force_mask(&self) -> Option<u32> {
        self.graph.force_mask()
    }

    fn stages_without_parent(&self) -> bool {
        self.graph.stages_without_parent()
    }

    fn adopt(&self, staging: &Dir, name: &str, id: &str) -> Result<(), DriverError> {
        self.at(staging).adopt(staging, name, id)
    }

    fn sync_home(&self) -> Result<(), DriverError> {
        self.images.sync_home()?;
        self.graph.sync_home()
    }

    fn discard(&self, id: &str, trash: &Dir, name: &str) -> Result<bool, DriverError> {
        self.of(id)?.discard(id, trash, name)
    }

    fn mount(&self, id: &str, at: &Path, options: &MountOptions) -> Result<PathBuf, DriverError> {
        if !self.images.exists(id)? {
            return self.graph.mount(id, at, options);
        }
        // As the peer: layers of images are not written to.
        let options = MountOptions {
            read_only: true,
            ..options.clone()
        };
        self.images.mount(id, at, &options)
    }

    fn status(&self) -> Result<Vec<(String, String)>, DriverError> {
        self.graph.status()
    }

    fn remove_leftovers(&self) -> Result<Vec<PathBuf>, DriverError> {
        let mut removed = self.graph.remove_leftovers()?;
        removed.extend(self.images.remove_leftovers()?);
        Ok(removed)
    }

    fn tidy(&self, recorded: &HashSet<String>) -> Result<Vec<PathBuf>, DriverError> {
        let mut removed = self.graph.tidy(recorded)?;
        removed.extend(self.images.tidy(recorded)?);
        Ok(removed)
    }

    fn shutdown(&self) -> Result<(), DriverError> {
        self.images.shutdown()?;
        self.graph.shutdown()
    }
}

impl Layers for Split {
    fn exists(&self, id: &str) -> Result<bool, DriverError> {
        Ok(self.images.exists(id)? || self.graph.exists(id)?)
    }

    fn list(&self) -> Result<Vec<String>, DriverError> {
        let mut ids = self.graph.list()?;
        ids.extend(self.images.list()?);
        Ok(ids)
    }

    fn layer(&self, id: &str) -> Result<Dir, DriverError> {
        self.of(id)?.layer(id)
    }

    fn content(&self, id: &str) -> Result<Dir, DriverError> {
        self.of(id)?.content(id)
    }

    fn lowers(&self, id: &str) -> Result<Vec<String>, DriverError> {
        self.of(id)?.lowers(id)
    }

    fn check_below(&self, id: &str) -> Result<(), DriverError> {
        self.of(id)?.check_below(id)
    }

    fn open_file(&self, id: &str, path: &[u8]) -> Result<sys::File, DriverError> {
        self.of(id)?.open_file(id, path)
    }

    fn find_blob(&self, id: &str) -> Result<Option<sys::File>, DriverError> {
        self.of(id)?.find_blob(id)
    }

    fn default_mount_point(&self, id: &str) -> PathBuf {
        // A layer whose home can't be asked is mounted nowhere.
        let driver = self.of(id).unwrap_or(&*self.graph);
        driver.default_mount_point(id)
    }

    fn unmount(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        self.of(id)?.unmount(id, at)
    }

    fn unmount_unused(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        self.of(id)?.unmount_unused(id, at)
    }

    fn is_mounted(&self, at: &Path) -> Result<bool, DriverError> {
        match at.starts_with(&self.image_root) {
            true => self.images.is_mounted(at),
            false => self.graph.is_mounted(at),
        }
    }

    fn mounted(&self, table: &[Line]) -> Result<HashSet<String>, DriverError> {
        let mut mounted = self.graph.mounted(table)?;
        mounted.extend(self.images.mounted(table)?);
        Ok(mounted)
    }

    fn is_held(&self, id: &str) -> Result<bool, DriverError> {
        self.of(id)?.is_held(id)
    }

    fn changes(&self, layer: &Side, from: &Base) -> Result<Vec<Change>, DriverError> {
        self.of(&layer.id)?.changes(layer, from)
    }

    fn diff(&self, layer: &Side, from: &Base, out: &mut dyn Write) -> Result<(), DriverError> {
        self.of(&layer.id)?.diff(layer, from, out)
    }

    fn diff_size(&self, layer: &Side, from: &Base) -> Result<u64, DriverError> {
        self.of(&layer.id)?.diff_size(layer, from)
    }
}

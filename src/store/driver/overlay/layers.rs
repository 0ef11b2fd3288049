//! The layers in the home: finding and reading them, and what each changes in those below.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::layout::{self, DIFF, MERGED};
use super::lowers::refuse_composefs;
use super::{Overlay, check, mount, probe};
use crate::archive::changes::{self, Change, Tree};
use crate::archive::pack;
use crate::store::driver::{
    Base, DriverError, Layers, Side, pack_changes, regular_file, unmount_unused,
};
use crate::sys::mount_table::Line;
use crate::sys::{self, Dir};

impl Overlay {
    /// Whole trees compared, as a layer has to be with one that is not the next below.
    fn changed(
        &self,
        layer: &Side,
        from: Option<&Side>,
    ) -> Result<(Dir, Vec<Change>), DriverError> {
        let new = self.view(layer)?;
        let old = from.map(|from| self.view(from)).transpose()?;
        let tree = |dir, side: &Side| Tree {
            dir,
            id_maps: side.owners.own.clone(),
        };
        let old = old.as_ref().zip(from).map(|(dir, side)| tree(dir, side));
        let changes = changes::between(old.as_ref(), &tree(&new, layer))?;
        Ok((new, changes))
    }

    /// What a layer must be compared with; `None` when its own `diff` tells what changed.
    fn other_than_own_diff(
        &self,
        layer: &Side,
        from: &Base,
    ) -> Result<Option<Option<Side>>, DriverError> {
        refuse_composefs(self.home_of(&layer.id)?, &layer.id)?;
        let nearest = self.lowers(&layer.id)?.into_iter().next();
        let is_nearest = match from {
            Base::Below => true,
            Base::Nothing => false,
            Base::Layer(from) => Some(&from.id) == nearest.as_ref(),
        };
        if is_nearest && self.has_whole_diffs()? {
            return Ok(None);
        }
        Ok(Some(match from {
            Base::Layer(from) => Some(from.clone()),
            Base::Nothing => None,
            Base::Below => nearest.map(|id| Side {
                id,
                owners: layer.owners.below_only(),
            }),
        }))
    }

    /// True when a layer's `diff` alone tells what it changes; a program has marks of its own.
    pub(super) fn has_whole_diffs(&self) -> Result<bool, DriverError> {
        let is_native = self.program.is_none();
        Ok(is_native && probe::has_whole_diffs(&self.mount_options, self.is_rootless)?)
    }

    /// True when what files are meant to be is in an attribute. A mount program shows that as it can: fuse-overlayfs 1.10
    /// shows modes and owners, but a device as the empty file that it is, and the attribute with it.
    fn reads_overrides(&self) -> bool {
        self.force_mask.is_some()
    }

    /// The contents of the layers below, nearest first.
    fn lower_contents(&self, id: &str) -> Result<Vec<Dir>, DriverError> {
        self.lowers(id)?
            .iter()
            .map(|lower| self.content(lower))
            .collect()
    }
}

impl Layers for Overlay {
    fn exists(&self, id: &str) -> Result<bool, DriverError> {
        Ok(layout::is_layer_name(id) && self.home.stat(id)?.is_some())
    }

    fn list(&self) -> Result<Vec<String>, DriverError> {
        let entries = self.home.list()?;
        Ok(entries
            .into_iter()
            .filter(|entry| entry.file_type == rustix::fs::FileType::Directory)
            .filter_map(|entry| entry.name.into_string().ok())
            .filter(|name| layout::is_layer_name(name))
            .collect())
    }

    fn layer(&self, id: &str) -> Result<Dir, DriverError> {
        check(id)?;
        for home in self.homes() {
            if let Some(dir) = home.find_dir(id)? {
                return Ok(dir);
            }
        }
        Err(DriverError::Missing(id.to_owned()))
    }

    fn content(&self, id: &str) -> Result<Dir, DriverError> {
        check(id)?;
        for home in self.homes() {
            if let Some(dir) = self.find_diff(home, id)? {
                return Ok(dir);
            }
        }
        Err(DriverError::Missing(id.to_owned()))
    }

    fn lowers(&self, id: &str) -> Result<Vec<String>, DriverError> {
        Ok(self.lowers_of(id, &self.layer(id)?)?.ids)
    }

    fn check_below(&self, id: &str) -> Result<(), DriverError> {
        for lower in self.lowers(id)? {
            match self.content(&lower) {
                Err(DriverError::Missing(_)) => {
                    let home = self.home_of(id)?.path();
                    return Err(DriverError::NoLower(home.join(lower).join(DIFF)));
                }
                result => drop(result?),
            }
        }
        Ok(())
    }

    fn find_blob(&self, id: &str) -> Result<Option<sys::File>, DriverError> {
        self.find_blob_elsewhere(&self.layer(id)?)
    }

    fn open_file(&self, id: &str, path: &[u8]) -> Result<sys::File, DriverError> {
        let path = Path::new(OsStr::from_bytes(path));
        let first = match self.content(id)?.open_file_in_root(path) {
            Err(error) if error.is_not_found() => error,
            result => return regular_file(result?),
        };
        for lower in self.lowers(id)? {
            match self.content(&lower)?.open_file_in_root(path) {
                Err(error) if error.is_not_found() => {}
                result => return regular_file(result?),
            }
        }
        Err(first.into())
    }

    fn default_mount_point(&self, id: &str) -> PathBuf {
        let home = self.read_only_mounts.as_deref();
        home.unwrap_or(self.home.path()).join(id).join(MERGED)
    }

    fn unmount(&self, _id: &str, at: &Path) -> Result<(), DriverError> {
        sys::mount::unmount(at)?;
        Ok(())
    }

    fn unmount_unused(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        unmount_unused(id, at)
    }

    fn is_mounted(&self, at: &Path) -> Result<bool, DriverError> {
        Ok(self.is_at(at)?)
    }

    fn mounted(&self, table: &[Line]) -> Result<HashSet<String>, DriverError> {
        self.layers_in(table)
    }

    fn is_held(&self, id: &str) -> Result<bool, DriverError> {
        Ok(self.program.is_none() && mount::is_in_use(&self.layer(id)?)?)
    }

    fn changes(&self, layer: &Side, from: &Base) -> Result<Vec<Change>, DriverError> {
        match self.other_than_own_diff(layer, from)? {
            None => Ok(changes::overlay(
                &self.content(&layer.id)?,
                &self.lower_contents(&layer.id)?,
            )?),
            Some(from) => Ok(self.changed(layer, from.as_ref())?.1),
        }
    }

    fn diff(&self, layer: &Side, from: &Base, out: &mut dyn Write) -> Result<(), DriverError> {
        match self.other_than_own_diff(layer, from)? {
            None => {
                let lowers = self.lower_contents(&layer.id)?;
                let options = pack::Options {
                    id_maps: layer.owners.own.clone(),
                    overlay: Some(&lowers),
                    overrides: self.reads_overrides(),
                };
                pack::pack(&self.content(&layer.id)?, out, &options)?;
                Ok(())
            }
            Some(from) => {
                let (new, changes) = self.changed(layer, from.as_ref())?;
                pack_changes(&new, layer, &changes, self.reads_overrides(), out)
            }
        }
    }

    fn diff_size(&self, layer: &Side, from: &Base) -> Result<u64, DriverError> {
        match self.other_than_own_diff(layer, from)? {
            None => Ok(changes::size(&self.content(&layer.id)?)?),
            Some(from) => {
                let (new, changes) = self.changed(layer, from.as_ref())?;
                Ok(changes::size_of(&new, &changes)?)
            }
        }
    }
}

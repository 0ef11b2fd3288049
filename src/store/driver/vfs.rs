//! The vfs driver: every layer a whole tree. Needs no privileges and no kernel feature.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::trees::{Trees, check};
use super::{
    Base, Below, Driver, DriverError, DriverKind, DriverOptions, MountOptions, PrepareOptions,
    Role, Roots, Side,
};
use crate::archive::changes::Change;
use crate::archive::id_shift::{IdMaps, Shift};
use crate::archive::{Whiteouts, reown};
use crate::sys::tree::{self, Copied};
use crate::sys::{self, Dir};

/// The driver and its home, `<graph root>/vfs/dir`.
#[derive(Debug)]
pub struct Vfs {
    trees: Trees,
}

impl Vfs {
    /// Opens the home, making it when missing.
    ///
    /// # Errors
    /// When it can't be opened or made.
    pub fn open(roots: &Roots<'_>, options: &DriverOptions) -> Result<Self, DriverError> {
        let home = roots
            .graph
            .ensure_dir("vfs", 0o700)?
            .ensure_dir("dir", 0o700)?;
        Ok(Self {
            trees: Trees::new(home, "vfs/dir", roots, options)?,
        })
    }
}

impl Driver for Vfs {
    fn kind(&self) -> DriverKind {
        DriverKind::Vfs
    }

    fn additional_roots(&self) -> Vec<PathBuf> {
        self.trees.additional.clone()
    }

    fn prepare(
        &self,
        at: &Dir,
        parent: Option<&str>,
        options: &PrepareOptions,
    ) -> Result<(), DriverError> {
        match parent {
            None => {
                super::own(at, options.root, self.trees.ignore_chown_errors)?;
                at.set_mode(0o555)?;
            }
            Some(parent) => drop(tree::copy(&self.content(parent)?, at)?),
        }
        if options.durable {
            at.sync_file_system()?;
        }
        Ok(())
    }

    fn prepare_copy(
        &self,
        at: &Dir,
        root: &Path,
        id: &str,
        _parent: Option<&str>,
        _options: &PrepareOptions,
    ) -> Result<Copied, DriverError> {
        check(id)?;
        let from = Dir::open(root)?.find_dir(Path::new("vfs/dir").join(id))?;
        let from = from.ok_or_else(|| DriverError::Missing(id.to_owned()))?;
        super::copy_unchanged(id, &from, at)
    }

    fn prepare_mapped(
        &self,
        at: &Dir,
        template: &Side,
        to: &IdMaps,
        _role: Role,
        options: &PrepareOptions,
    ) -> Result<Copied, DriverError> {
        let shift = Shift {
            from: template.owners.own.clone(),
            to: to.clone(),
        };
        let copied = reown::copy(&self.content(&template.id)?, at, &shift)?;
        if options.durable {
            at.sync_file_system()?;
        }
        Ok(copied)
    }

    fn shows_other_owners(&self) -> Result<bool, DriverError> {
        Ok(false)
    }

    fn complete(&self, _at: &Dir, _parent: &str, _inherit_root: bool) -> Result<(), DriverError> {
        // A whole tree was copied from its parent: nothing is left to know.
        Ok(())
    }

    fn inherit(
        &self,
        _at: &Dir,
        _implied: &[Vec<u8>],
        _below: &Below<'_>,
    ) -> Result<(), DriverError> {
        // What the layers below have was there when the archive was unpacked.
        Ok(())
    }

    fn prepared_content(&self, at: &Dir) -> Result<Dir, DriverError> {
        Ok(at.try_clone()?)
    }

    fn whiteouts(&self) -> Whiteouts {
        Whiteouts::Apply
    }

    fn ignores_chown_errors(&self) -> bool {
        self.trees.ignore_chown_errors
    }

    fn stages_without_parent(&self) -> bool {
        false
    }

    fn adopt(&self, staging: &Dir, name: &str, id: &str) -> Result<(), DriverError> {
        check(id)?;
        // A directory without record: what a crash left between a record's removal and this one's.
        let old = format!("{name}.old");
        self.discard(id, staging, &old)?;
        Ok(staging.rename_new(name, &self.trees.home, id)?)
    }

    fn sync_home(&self) -> Result<(), DriverError> {
        Ok(self.trees.home.sync()?)
    }

    fn discard(&self, id: &str, trash: &Dir, name: &str) -> Result<bool, DriverError> {
        check(id)?;
        match self.trees.home.rename(id, trash, name) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn exists(&self, id: &str) -> Result<bool, DriverError> {
        self.trees.exists(id)
    }

    fn list(&self) -> Result<Vec<String>, DriverError> {
        self.trees.list()
    }

    fn layer(&self, id: &str) -> Result<Dir, DriverError> {
        self.content(id)
    }

    fn content(&self, id: &str) -> Result<Dir, DriverError> {
        self.trees.content(id)
    }

    fn lowers(&self, _id: &str) -> Result<Vec<String>, DriverError> {
        Ok(Vec::new())
    }

    fn open_file(&self, id: &str, path: &[u8]) -> Result<sys::File, DriverError> {
        self.trees.open_file(id, path)
    }

    fn default_mount_point(&self, id: &str) -> PathBuf {
        self.trees.mount_point(id)
    }

    fn mount(&self, id: &str, at: &Path, options: &MountOptions) -> Result<PathBuf, DriverError> {
        self.trees.mount(id, at, options)
    }

    fn unmount(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        self.trees.unmount(id, at)
    }

    fn unmount_unused(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        self.trees.unmount_unused(id, at)
    }

    fn is_mounted(&self, at: &Path) -> Result<bool, DriverError> {
        self.trees.is_mounted(at)
    }

    fn changes(&self, layer: &Side, from: &Base) -> Result<Vec<Change>, DriverError> {
        Ok(self.trees.changed(layer, from)?.1)
    }

    fn diff(&self, layer: &Side, from: &Base, out: &mut dyn Write) -> Result<(), DriverError> {
        self.trees.diff(layer, from, out)
    }

    fn diff_size(&self, layer: &Side, from: &Base) -> Result<u64, DriverError> {
        self.trees.diff_size(layer, from)
    }

    fn status(&self) -> Result<Vec<(String, String)>, DriverError> {
        Ok(Vec::new())
    }

    fn shutdown(&self) -> Result<(), DriverError> {
        Ok(())
    }
}

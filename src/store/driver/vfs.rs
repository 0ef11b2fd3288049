//! The vfs driver: every layer a whole tree. Needs no privileges and no kernel feature.

use std::path::{Path, PathBuf};

use super::leftovers;
use super::trees::{OfTrees, Trees, check};
use super::{
    Driver, DriverError, DriverKind, DriverOptions, Limits, MountOptions, PrepareOptions, Role,
    Roots, Side,
};
use crate::archive::id_shift::{IdMaps, Shift};
use crate::archive::{Whiteouts, reown};
use crate::sys::Dir;
use crate::sys::tree::{self, Copied};

/// The driver and its home, `<graph root>/vfs/dir`.
#[derive(Debug)]
pub struct Vfs {
    /// `<graph root>/vfs`.
    beside: Dir,
    trees: Trees,
}

impl Vfs {
    /// Opens the home, making it when missing.
    ///
    /// # Errors
    /// When it can't be opened or made.
    pub fn open(roots: &Roots<'_>, options: &DriverOptions) -> Result<Self, DriverError> {
        let beside = roots.graph.ensure_dir("vfs", 0o700)?;
        let home = beside.ensure_dir("dir", 0o700)?;
        Ok(Self {
            beside,
            trees: Trees::new(home, "vfs/dir", roots, options)?,
        })
    }
}

impl OfTrees for Vfs {
    fn trees(&self) -> &Trees {
        &self.trees
    }
}

impl Driver for Vfs {
    fn kind(&self) -> DriverKind {
        DriverKind::Vfs
    }

    fn remove_leftovers(&self) -> Result<Vec<PathBuf>, DriverError> {
        match self.beside.find_dir("tempdirs")? {
            Some(folder) => Ok(leftovers::remove_temporary(&folder)?),
            None => Ok(Vec::new()),
        }
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
        if options.limits != Limits::default() {
            return Err(DriverError::NoLimit {
                driver: "vfs",
                what: "size",
            });
        }
        match parent {
            None => {
                super::own(at, options.root, self.trees.ignore_chown_errors)?;
                at.set_mode(0o555)?;
            }
            Some(parent) => drop(tree::copy(&self.trees.content(parent)?, at)?),
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
        let from = super::layer_of_another(root, "vfs/dir", id)?;
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
        let copied = reown::copy(&self.trees.content(&template.id)?, at, &shift, None)?;
        if options.durable {
            at.sync_file_system()?;
        }
        Ok(copied)
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

    fn mount(&self, id: &str, at: &Path, options: &MountOptions) -> Result<PathBuf, DriverError> {
        self.trees.mount(id, at, options)
    }

    fn shutdown(&self) -> Result<(), DriverError> {
        Ok(())
    }
}

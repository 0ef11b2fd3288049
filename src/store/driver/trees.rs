//! Whole trees in one folder, a directory for each layer: what the drivers without differences have in common.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Base, DriverError, DriverOptions, MountOptions, Roots, Side, regular_file};
use crate::archive::changes::{self, Change, Tree};
use crate::store::id;
use crate::sys::mount_table::{self, Line};
use crate::sys::{self, Dir};

/// The folder, and those of additional stores.
#[derive(Debug)]
pub(super) struct Trees {
    pub(super) home: Dir,
    others: Vec<Dir>,
    pub(super) additional: Vec<PathBuf>,
    pub(super) ignore_chown_errors: bool,
}

/// A driver whose layers are whole trees.
pub(super) trait OfTrees {
    /// They.
    fn trees(&self) -> &Trees;
}

impl Trees {
    /// The trees in `home`, which is the folder `place` below the graph root.
    ///
    /// # Errors
    /// When an additional store can't be opened.
    pub(super) fn new(
        home: Dir,
        place: &str,
        roots: &Roots<'_>,
        options: &DriverOptions,
    ) -> Result<Self, DriverError> {
        let mut additional = roots.additional.clone();
        additional.extend_from_slice(&options.additional_stores);
        let mut others = Vec::new();
        for root in &additional {
            others.extend(Dir::open(root)?.find_dir(place)?);
        }
        Ok(Self {
            home,
            others,
            additional,
            ignore_chown_errors: options.ignore_chown_errors,
        })
    }

    pub(super) fn exists(&self, id: &str) -> Result<bool, DriverError> {
        Ok(id::is_safe(id) && self.home.stat(id)?.is_some())
    }

    pub(super) fn list(&self) -> Result<Vec<String>, DriverError> {
        let names = self.home.list()?;
        Ok(names
            .into_iter()
            .filter(|entry| entry.file_type == rustix::fs::FileType::Directory)
            .filter_map(|entry| entry.name.into_string().ok())
            .collect())
    }

    pub(super) fn content(&self, id: &str) -> Result<Dir, DriverError> {
        check(id)?;
        for home in std::iter::once(&self.home).chain(&self.others) {
            if let Some(dir) = home.find_dir(id)? {
                return Ok(dir);
            }
        }
        Err(DriverError::Missing(id.to_owned()))
    }

    pub(super) fn open_file(&self, id: &str, path: &[u8]) -> Result<sys::File, DriverError> {
        let path = Path::new(OsStr::from_bytes(path));
        regular_file(self.content(id)?.open_file_in_root(path)?)
    }

    pub(super) fn mount_point(&self, id: &str) -> PathBuf {
        self.home.path().join(id)
    }

    /// Nothing is mounted at a tree's own place; elsewhere it is bound.
    pub(super) fn mount(
        &self,
        id: &str,
        at: &Path,
        options: &MountOptions,
    ) -> Result<PathBuf, DriverError> {
        if let Some(option) = options.options.iter().find(|option| *option != "ro") {
            return Err(DriverError::MountOption(option.clone()));
        }
        let content = self.content(id)?;
        if at == self.mount_point(id) {
            return Ok(content.path().to_owned());
        }
        if sys::mount::mount_id(at)?.is_some() {
            return Ok(at.to_owned());
        }
        // A place of its own, as volumes have.
        drop(Dir::open_or_create(at, 0o700)?);
        let flags = sys::mount::Flags {
            read_only: options.read_only,
            ..sys::mount::Flags::default()
        };
        sys::mount::bind(content.path(), at, flags)?;
        Ok(at.to_owned())
    }

    pub(super) fn unmount(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        if at != self.mount_point(id) {
            sys::mount::unmount(at)?;
        }
        Ok(())
    }

    pub(super) fn unmount_unused(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        match at == self.mount_point(id) {
            true => Ok(()),
            false => super::unmount_unused(id, at),
        }
    }

    pub(super) fn is_mounted(&self, at: &Path) -> Result<bool, DriverError> {
        if at.parent() == Some(self.home.path()) {
            let id = at.file_name().unwrap_or_default();
            return Ok(self.home.stat(id)?.is_some());
        }
        Ok(sys::mount::mount_id(at)?.is_some())
    }

    pub(super) fn mounted(&self, table: &[Line]) -> Result<HashSet<String>, DriverError> {
        let shown = mount_table::shown_of(table, &self.home.real_path()?)
            .filter_map(|(_, rest)| rest.components().next())
            .filter_map(|id| id.as_os_str().to_str())
            .map(str::to_owned)
            .collect();
        Ok(shown)
    }

    pub(super) fn changed(
        &self,
        layer: &Side,
        from: &Base,
    ) -> Result<(Dir, Vec<Change>), DriverError> {
        let new = self.content(&layer.id)?;
        let old = match from {
            Base::Below | Base::Nothing => None,
            Base::Layer(from) => Some((self.content(&from.id)?, from.owners.own.clone())),
        };
        let old = old.as_ref().map(|(dir, maps)| Tree {
            dir,
            id_maps: maps.clone(),
        });
        let tree = Tree {
            dir: &new,
            id_maps: layer.owners.own.clone(),
        };
        let changes = changes::between(old.as_ref(), &tree)?;
        Ok((new, changes))
    }

    pub(super) fn diff(
        &self,
        layer: &Side,
        from: &Base,
        out: &mut dyn Write,
    ) -> Result<(), DriverError> {
        let (new, changes) = self.changed(layer, from)?;
        super::pack_changes(&new, layer, &changes, false, out)
    }

    pub(super) fn diff_size(&self, layer: &Side, from: &Base) -> Result<u64, DriverError> {
        let (new, changes) = self.changed(layer, from)?;
        Ok(changes::size_of(&new, &changes)?)
    }
}

pub(super) fn check(id: &str) -> Result<(), DriverError> {
    match id::is_safe(id) {
        true => Ok(()),
        false => Err(DriverError::Name(id.to_owned())),
    }
}

//! The vfs driver: every layer a whole tree. Needs no privileges and no kernel feature.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{
    Base, Below, Driver, DriverError, DriverKind, DriverOptions, MountOptions, PrepareOptions,
    Role, Roots, Side, regular_file,
};
use crate::archive::changes::{self, Change, Tree};
use crate::archive::id_shift::{IdMaps, Shift};
use crate::archive::{Whiteouts, reown};
use crate::store::id;
use crate::sys::tree::{self, Copied};
use crate::sys::{self, Dir};

/// The driver and its home, `<graph root>/vfs/dir`.
#[derive(Debug)]
pub struct Vfs {
    home: Dir,
    /// The homes of additional stores.
    others: Vec<Dir>,
    additional: Vec<PathBuf>,
    ignore_chown_errors: bool,
}

impl Vfs {
    /// Opens the home, making it when missing.
    ///
    /// # Errors
    /// When it can't be opened or made.
    pub fn open(roots: &Roots<'_>, options: DriverOptions) -> Result<Self, DriverError> {
        let home = roots
            .graph
            .ensure_dir("vfs", 0o700)?
            .ensure_dir("dir", 0o700)?;
        let mut additional = roots.additional.clone();
        additional.extend(options.additional_stores);
        let mut others = Vec::new();
        for root in &additional {
            others.extend(Dir::open(root)?.find_dir("vfs/dir")?);
        }
        Ok(Self {
            home,
            others,
            additional,
            ignore_chown_errors: options.ignore_chown_errors,
        })
    }

    fn changed(&self, layer: &Side, from: &Base) -> Result<(Dir, Vec<Change>), DriverError> {
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
}

impl Driver for Vfs {
    fn kind(&self) -> DriverKind {
        DriverKind::Vfs
    }

    fn additional_roots(&self) -> Vec<PathBuf> {
        self.additional.clone()
    }

    fn prepare(
        &self,
        at: &Dir,
        parent: Option<&str>,
        options: &PrepareOptions,
    ) -> Result<(), DriverError> {
        match parent {
            None => {
                super::own(at, options.root, self.ignore_chown_errors)?;
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
        self.ignore_chown_errors
    }

    fn stages_without_parent(&self) -> bool {
        false
    }

    fn adopt(&self, staging: &Dir, name: &str, id: &str) -> Result<(), DriverError> {
        check(id)?;
        // A directory without record: what a crash left between a record's removal and this one's.
        let old = format!("{name}.old");
        self.discard(id, staging, &old)?;
        Ok(staging.rename_new(name, &self.home, id)?)
    }

    fn sync_home(&self) -> Result<(), DriverError> {
        Ok(self.home.sync()?)
    }

    fn discard(&self, id: &str, trash: &Dir, name: &str) -> Result<bool, DriverError> {
        check(id)?;
        match self.home.rename(id, trash, name) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn exists(&self, id: &str) -> Result<bool, DriverError> {
        Ok(id::is_safe(id) && self.home.stat(id)?.is_some())
    }

    fn list(&self) -> Result<Vec<String>, DriverError> {
        let names = self.home.list()?;
        Ok(names
            .into_iter()
            .filter(|entry| entry.file_type == rustix::fs::FileType::Directory)
            .filter_map(|entry| entry.name.into_string().ok())
            .collect())
    }

    fn layer(&self, id: &str) -> Result<Dir, DriverError> {
        self.content(id)
    }

    fn content(&self, id: &str) -> Result<Dir, DriverError> {
        check(id)?;
        for home in std::iter::once(&self.home).chain(&self.others) {
            if let Some(dir) = home.find_dir(id)? {
                return Ok(dir);
            }
        }
        Err(DriverError::Missing(id.to_owned()))
    }

    fn lowers(&self, _id: &str) -> Result<Vec<String>, DriverError> {
        Ok(Vec::new())
    }

    fn open_file(&self, id: &str, path: &[u8]) -> Result<sys::File, DriverError> {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        regular_file(self.content(id)?.open_file_in_root(path)?)
    }

    fn default_mount_point(&self, id: &str) -> PathBuf {
        self.home.path().join(id)
    }

    fn mount(&self, id: &str, at: &Path, options: &MountOptions) -> Result<PathBuf, DriverError> {
        if let Some(option) = options.options.iter().find(|option| *option != "ro") {
            return Err(DriverError::MountOption(option.clone()));
        }
        let content = self.content(id)?;
        if at == self.default_mount_point(id) {
            return Ok(content.path().to_owned());
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

    fn unmount(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        if at != self.default_mount_point(id) {
            sys::mount::unmount(at)?;
        }
        Ok(())
    }

    fn unmount_unused(&self, id: &str, at: &Path) -> Result<(), DriverError> {
        match at == self.default_mount_point(id) {
            true => Ok(()),
            false => super::unmount_unused(id, at),
        }
    }

    fn is_mounted(&self, at: &Path) -> Result<bool, DriverError> {
        if at.parent() == Some(self.home.path()) {
            let id = at.file_name().unwrap_or_default();
            return Ok(self.home.stat(id)?.is_some());
        }
        Ok(sys::mount::mount_id(at)?.is_some())
    }

    fn changes(&self, layer: &Side, from: &Base) -> Result<Vec<Change>, DriverError> {
        Ok(self.changed(layer, from)?.1)
    }

    fn diff(&self, layer: &Side, from: &Base, out: &mut dyn Write) -> Result<(), DriverError> {
        let (new, changes) = self.changed(layer, from)?;
        super::pack_changes(&new, layer, &changes, out)
    }

    fn diff_size(&self, layer: &Side, from: &Base) -> Result<u64, DriverError> {
        let (new, changes) = self.changed(layer, from)?;
        Ok(changes::size_of(&new, &changes)?)
    }

    fn status(&self) -> Result<Vec<(String, String)>, DriverError> {
        Ok(Vec::new())
    }

    fn shutdown(&self) -> Result<(), DriverError> {
        Ok(())
    }
}

fn check(id: &str) -> Result<(), DriverError> {
    match id::is_safe(id) {
        true => Ok(()),
        false => Err(DriverError::Name(id.to_owned())),
    }
}

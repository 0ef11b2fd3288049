//! The btrfs driver: every layer a whole tree in a subvolume of its own, a child a snapshot of its parent. Made, copied
//! and removed in constant time.
//!
//! ```text
//! <graph root>/btrfs/subvolumes/<id>/   a subvolume
//! <graph root>/btrfs/quotas/<id>        its limit: bytes in decimal digits
//! ```

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::trees::{OfTrees, Trees, check};
use super::{
    Driver, DriverError, DriverKind, DriverOptions, MountOptions, PrepareOptions, Role, Roots,
    Side, home,
};
use crate::archive::id_shift::{IdMaps, Shift};
use crate::archive::{Whiteouts, reown};
use crate::sys::tree::{self, Copied};
use crate::sys::{Dir, Durability, btrfs};

/// The subvolume of a layer in the making, in its staging directory.
const TREE: &str = "tree";
/// Its limit, beside it.
const LIMIT: &str = "limit";

/// The driver and its home, `<graph root>/btrfs`.
#[derive(Debug)]
pub struct Btrfs {
    trees: Trees,
    /// `quotas`.
    limits: Dir,
    graph_path: PathBuf,
    /// What the layer of a container may hold, unless it is told otherwise.
    size: Option<u64>,
    min_space: u64,
}

impl Btrfs {
    /// Opens the home, making it when missing.
    ///
    /// # Errors
    /// When it is not on btrfs, or can't be opened or made.
    pub fn open(roots: &Roots<'_>, options: &DriverOptions) -> Result<Self, DriverError> {
        let place = match roots.graph.find_dir("btrfs")? {
            Some(home) => home,
            None => roots.graph.try_clone()?,
        };
        if !btrfs::is_on_btrfs(&place)? {
            return Err(DriverError::Prerequisites(format!(
                "{} is not on a btrfs file system",
                roots.graph_path.display()
            )));
        }
        let home = roots.graph.ensure_dir("btrfs", 0o700)?;
        let limits = home.ensure_dir("quotas", 0o700)?;
        let trees = home.ensure_dir("subvolumes", 0o700)?;
        let driver = Self {
            trees: Trees::new(trees, "btrfs/subvolumes", roots, options)?,
            limits,
            graph_path: roots.graph_path.to_owned(),
            size: options.size,
            min_space: options.min_space,
        };
        driver.check_limit(driver.size)?;
        Ok(driver)
    }

    fn check_limit(&self, size: Option<u64>) -> Result<(), DriverError> {
        match size {
            Some(size @ 1..) if size < self.min_space => Err(DriverError::TooSmall {
                size,
                least: self.min_space,
            }),
            _ => Ok(()),
        }
    }

    /// Sets the limit of a layer in the making. That of a container without one of its own is the driver's.
    fn limit(&self, at: &Dir, options: &PrepareOptions) -> Result<(), DriverError> {
        if options.limits.inodes.is_some() {
            return Err(DriverError::NoLimit {
                driver: "btrfs",
                what: "inodes",
            });
        }
        let size = match options.limits.size {
            Some(size) => Some(size),
            None if options.read_write => self.size,
            None => None,
        };
        self.check_limit(size)?;
        if let Some(size) = size.filter(|size| *size > 0) {
            limit(&at.open_dir(TREE)?, size)?;
            at.replace(LIMIT, size.to_string().as_bytes(), Durability::Atomic)?;
        }
        Ok(())
    }

    /// Sets the recorded limit once more, as peers do: it is lost when quotas were off for a time.
    fn limit_again(&self, id: &str) -> Result<(), DriverError> {
        let Some(text) = self.limits.find(id)? else {
            return Ok(());
        };
        let size = str::from_utf8(&text).ok();
        match size.and_then(|text| text.trim().parse().ok()) {
            Some(size) => limit(&self.trees.content(id)?, size),
            None => Err(DriverError::Damaged {
                id: id.to_owned(),
                reason: "its limit in quotas is no number".to_owned(),
            }),
        }
    }

    /// An empty tree of the driver's in a staging directory.
    fn prepare_empty(&self, at: &Dir, options: &PrepareOptions) -> Result<Dir, DriverError> {
        at.create_subvolume(TREE)?;
        let tree = at.open_dir(TREE)?;
        super::own(&tree, options.root, self.trees.ignore_chown_errors)?;
        tree.set_mode(0o555)?;
        Ok(tree)
    }
}

fn limit(tree: &Dir, size: u64) -> Result<(), DriverError> {
    tree.count_subvolumes()?;
    Ok(tree.limit_subvolume(size)?)
}

/// Makes `at/tree` the same as `from`: a snapshot, or a copy of what no snapshot can be made of.
fn snapshot(at: &Dir, from: &Dir) -> Result<Copied, DriverError> {
    match at.snapshot(TREE, from) {
        Ok(()) => Ok(Copied::default()),
        // Of an additional store on another file system, or a directory that somebody's backup brought back.
        Err(error)
            if [Errno::XDEV, Errno::INVAL]
                .iter()
                .any(|errno| error.errno() == Some(errno.raw_os_error())) =>
        {
            at.create_subvolume(TREE)?;
            Ok(tree::copy(from, &at.open_dir(TREE)?)?)
        }
        Err(error) => Err(error.into()),
    }
}

impl OfTrees for Btrfs {
    fn trees(&self) -> &Trees {
        &self.trees
    }
}

impl Driver for Btrfs {
    fn kind(&self) -> DriverKind {
        DriverKind::Btrfs
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
            None => drop(self.prepare_empty(at, options)?),
            Some(parent) => drop(snapshot(at, &self.trees.content(parent)?)?),
        }
        self.limit(at, options)?;
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
        options: &PrepareOptions,
    ) -> Result<Copied, DriverError> {
        let from = super::layer_of_another(root, "btrfs/subvolumes", id)?;
        let tree = self.prepare_empty(at, options)?;
        super::copy_unchanged(id, &from, &tree)
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
        let tree = self.prepare_empty(at, options)?;
        let copied = reown::copy(&self.trees.content(&template.id)?, &tree, &shift, None)?;
        self.limit(at, options)?;
        if options.durable {
            at.sync_file_system()?;
        }
        Ok(copied)
    }

    fn prepared_content(&self, at: &Dir) -> Result<Dir, DriverError> {
        Ok(at.open_dir(TREE)?)
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
        self.discard(id, staging, &format!("{name}.old"))?;
        let prepared = staging.open_dir(name)?;
        // First: without its record a limit is nobody's, without its limit a layer has none.
        if prepared.stat(LIMIT)?.is_some() {
            home::rename(&self.graph_path, &prepared, LIMIT, &self.limits, id)?;
        }
        if let Err(error) = home::rename(&self.graph_path, &prepared, TREE, &self.trees.home, id) {
            // The first error is the one to report.
            drop(self.limits.remove_file_if_found(id));
            return Err(error);
        }
        drop(prepared);
        // Nothing is left in it; what can't be removed now goes with the staging area.
        drop(staging.remove_dir(name));
        Ok(())
    }

    fn sync_home(&self) -> Result<(), DriverError> {
        self.limits.sync()?;
        Ok(self.trees.home.sync()?)
    }

    fn discard(&self, id: &str, trash: &Dir, name: &str) -> Result<bool, DriverError> {
        check(id)?;
        if !self.trees.exists(id)? {
            self.limits.remove_file_if_found(id)?;
            return Ok(false);
        }
        home::rename(&self.graph_path, &self.trees.home, id, trash, name)?;
        self.limits.remove_file_if_found(id)?;
        Ok(true)
    }

    fn mount(&self, id: &str, at: &Path, options: &MountOptions) -> Result<PathBuf, DriverError> {
        self.limit_again(id)?;
        self.trees.mount(id, at, options)
    }

    fn shutdown(&self) -> Result<(), DriverError> {
        home::release(&self.graph_path, "btrfs")
    }
}

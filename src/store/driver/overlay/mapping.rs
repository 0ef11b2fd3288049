//! Layers below that show other owners: an ID-mapped copy of each home's mount, one for all layers in it; or of each
//! layer, where the home's own owner has no place in the maps.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::layout::MAPPED;
use crate::archive::id_shift::{IdMaps, IdRange};
use crate::sys::id_mapped::IdMapped;
use crate::sys::userns::{Range, UserNamespace};
use crate::sys::{self, Dir};

/// Maps of this many containers are remembered.
const MAX_NAMESPACES: usize = 256;

/// What the process knows about mapping.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    is_disabled: bool,
    works: OnceLock<bool>,
    namespaces: Mutex<HashMap<IdMaps, Arc<UserNamespace>>>,
}

impl Mapping {
    pub(super) fn new(is_disabled: bool) -> Self {
        Self {
            is_disabled,
            ..Self::default()
        }
    }

    /// True when overlays can be made over mapped copies of `home`. Found out once, by making one.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub(super) fn works(&self, home: &Dir) -> Result<bool, sys::Error> {
        if self.is_disabled || sys::userns::is_rootless()? {
            return Ok(false);
        }
        if let Some(works) = self.works.get() {
            return Ok(*works);
        }
        let range = IdRange {
            container: 0,
            host: 1,
            size: 1,
        };
        let maps = IdMaps {
            uids: vec![range],
            gids: vec![range],
        };
        let made = self.namespace(&maps).and_then(|namespace| {
            drop(IdMapped::new(home.path(), &namespace)?);
            Ok(sys::id_mapped::fits_overlays())
        });
        let works = made.unwrap_or_else(|error| {
            const UNSUPPORTED: [i32; 4] =
                [libc::ENOSYS, libc::EINVAL, libc::EOPNOTSUPP, libc::EPERM];
            let is_expected = error
                .errno()
                .is_some_and(|errno| UNSUPPORTED.contains(&errno));
            if is_expected {
                tracing::info!(%error, "owners are copied, as mounts can't show others here");
            } else {
                tracing::warn!(%error, "owners are copied: mounts that show others failed");
            }
            false
        });
        Ok(*self.works.get_or_init(|| works))
    }

    fn namespace(&self, maps: &IdMaps) -> Result<Arc<UserNamespace>, sys::Error> {
        let lock = || {
            self.namespaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(namespace) = lock().get(maps) {
            return Ok(Arc::clone(namespace));
        }
        let made = UserNamespace::new(&ranges(&maps.uids), &ranges(&maps.gids))?;
        let made = Arc::new(made);
        let mut namespaces = lock();
        if namespaces.len() >= MAX_NAMESPACES {
            namespaces.clear();
        }
        namespaces.insert(maps.clone(), Arc::clone(&made));
        Ok(made)
    }

    /// Copies that show where `from` has a container's IDs as where `to` has them; none made yet.
    ///
    /// # Errors
    /// When the kernel refuses the maps.
    pub(super) fn shown(&self, from: &IdMaps, to: &IdMaps) -> Result<Shown, sys::Error> {
        Ok(Shown {
            namespace: self.namespace(&from.to_other(to))?,
            has_root: from.is_identity() && to.to_host(0, 0).is_some(),
            trees: Vec::new(),
        })
    }
}

fn ranges(ranges: &[IdRange]) -> Vec<Range> {
    let range = |range: &IdRange| Range {
        inside: range.container,
        outside: range.host,
        size: range.size,
    };
    ranges.iter().map(range).collect()
}

/// Mapped copies for one mount; they end with it.
#[derive(Debug)]
pub(super) struct Shown {
    namespace: Arc<UserNamespace>,
    /// The homes' own root is mapped: else nobody could pass through their directories.
    has_root: bool,
    trees: Vec<(PathBuf, IdMapped)>,
}

impl Shown {
    /// Where a path below the home at `home` is found with the other owners.
    pub(super) fn path(&mut self, home: &Path, path: &Path) -> Result<PathBuf, sys::Error> {
        let tree = if self.has_root { home } else { path };
        let rest = path.strip_prefix(tree).unwrap_or(path);
        if let Some((_, mapped)) = self.trees.iter().find(|(known, _)| known == tree) {
            return Ok(mapped.path().join(rest));
        }
        let mapped = IdMapped::new(tree, &self.namespace)?;
        let found = mapped.path().join(rest);
        self.trees.push((tree.to_owned(), mapped));
        Ok(found)
    }

    /// Gives the copies places in the layer's directory and rewrites the paths in `lowers`.
    pub(super) fn attach(&self, layer: &Dir, lowers: &mut [PathBuf]) -> Result<(), sys::Error> {
        let folder = layer.ensure_dir(MAPPED, 0o700)?;
        for (number, (_, mapped)) in self.trees.iter().enumerate() {
            let place = folder.ensure_dir(number.to_string(), 0o700)?;
            mapped.attach(place.path())?;
            let old = mapped.path();
            for lower in lowers.iter_mut() {
                if let Ok(rest) = lower.strip_prefix(&old) {
                    *lower = place.path().join(rest);
                }
            }
        }
        Ok(())
    }
}

/// Takes down what is mounted below `mapped` in the layer's directory, and removes it: ours, or what whoever died while
/// mounting has left, and peers leave the directories in any case.
pub(super) fn release(layer: &Dir) -> Result<(), sys::Error> {
    let Some(folder) = layer.find_dir(MAPPED)? else {
        return Ok(());
    };
    for entry in folder.list()? {
        let place = folder.path().join(&entry.name);
        while sys::mount::is_mount_point(&place)? && sys::mount::unmount(&place)? {}
    }
    layer.remove_tree(MAPPED).map(drop)
}

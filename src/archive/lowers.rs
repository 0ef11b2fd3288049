//! What the layers below an overlay layer have at a path, without mounting them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use crate::sys::{Dir, Error};

/// The directories of lower layers, nearest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lowers<'a> {
    /// They.
    pub(super) dirs: &'a [Dir],
    /// Deletions may be files as well, as mount programs have them.
    pub(super) has_files: bool,
}

/// What the names of deletions begin with that are files.
const PREFIX: &[u8] = b".wh.";
/// The file that makes its directory opaque.
const OPAQUE: &str = ".wh..wh..opq";

/// How long a name may be, in bytes.
const MAX_NAME: usize = 255;

/// True when the directory has the file that deletes `name` in the layers below.
fn has_deletion(dir: &Dir, name: &OsStr) -> Result<bool, Error> {
    let file = [PREFIX, name.as_bytes()].concat();
    Ok(file.len() <= MAX_NAME && dir.stat(OsString::from_vec(file))?.is_some())
}

/// What the lower layers have under one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// What a reader would find there without our layer.
    pub(super) stat: Option<Stat>,
    /// Which layers add to the directory of that name.
    pub(super) below: Vec<usize>,
    is_settled: bool,
}

/// True for overlay's mark of a deletion.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// True for a directory of which nothing below shows through.
///
/// # Errors
/// When its attributes can't be read.
pub(super) fn is_opaque(dir: &Dir) -> Result<bool, Error> {
    has_mark(dir, &[b"trusted.overlay.opaque", b"user.overlay.opaque"])
}

/// The same, where a file or a mount program's own attribute says so as well.
///
/// # Errors
/// When its attributes can't be read.
pub(super) fn is_opaque_to_programs(dir: &Dir) -> Result<bool, Error> {
    Ok(is_opaque(dir)?
        || has_mark(dir, &[b"user.fuseoverlayfs.opaque"])?
        || dir.stat(OPAQUE)?.is_some())
}

fn has_mark(dir: &Dir, keys: &[&[u8]]) -> Result<bool, Error> {
    for key in keys {
        if dir.attribute("", key)?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Lowers<'_> {
    /// All of them, for the root directory.
    pub(super) fn all(self) -> Vec<usize> {
        (0..self.dirs.len()).collect()
    }

    /// Looks for `names` in the directory `path` of the layers `which`.
    ///
    /// Only one directory is open at a time: there may be hundreds of layers.
    pub(super) fn find(
        self,
        path: &Path,
        which: &[usize],
        names: &[OsString],
    ) -> Result<Vec<Found>, Error> {
        let mut all = vec![Found::default(); names.len()];
        for index in which {
            let lower = &self.dirs[*index];
            let opened;
            let dir = if path.as_os_str().is_empty() {
                lower
            } else {
                opened = lower.open_dir(path)?;
                &opened
            };
            for (name, found) in names.iter().zip(&mut all) {
                if !found.is_settled {
                    found.look(dir, *index, name, self)?;
                }
            }
        }
        Ok(all)
    }

    fn hides(self, dir: &Dir) -> Result<bool, Error> {
        match self.has_files {
            true => is_opaque_to_programs(dir),
            false => is_opaque(dir),
        }
    }

    /// The names that a reader would find in the directory `path` without our layer.
    pub(super) fn names(self, path: &Path) -> Result<Vec<OsString>, Error> {
        let mut which = self.all();
        let mut here = PathBuf::new();
        for step in path {
            let found = self.find(&here, &which, &[step.to_owned()])?;
            which = found.into_iter().next().unwrap_or_default().below;
            here.push(step);
        }
        let mut names = BTreeSet::new();
        for index in &which {
            let listed = self.dirs[*index].open_dir(&*dot(path))?.list()?;
            names.extend(listed.into_iter().map(|entry| entry.name));
        }
        if self.has_files {
            names.retain(|name| !name.as_bytes().starts_with(PREFIX));
        }
        let names: Vec<OsString> = names.into_iter().collect();
        let found = self.find(path, &which, &names)?;
        let named = names.into_iter().zip(found);
        Ok(named
            .filter(|(_, found)| found.stat.is_some())
            .map(|(name, _)| name)
            .collect())
    }
}

/// The path of a directory in itself is `.`, which has a name to open it by.
fn dot(path: &Path) -> Cow<'_, Path> {
    match path.as_os_str().is_empty() {
        true => Path::new(".").into(),
        false => path.into(),
    }
}

impl Found {
    fn look(
        &mut self,
        dir: &Dir,
        index: usize,
        name: &OsString,
        lowers: Lowers<'_>,
    ) -> Result<(), Error> {
        let Some(stat) = dir.stat(name)? else {
            // Beside the name itself the deletion is about what lies below only.
            self.is_settled = lowers.has_files && has_deletion(dir, name)?;
            return Ok(());
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        self.is_settled = !is_dir;
        if is_dir {
            self.below.push(index);
            self.is_settled =
                lowers.hides(&dir.open_dir(name)?)? || lowers.has_files && has_deletion(dir, name)?;
        }
        if self.stat.is_none() && !is_whiteout(&stat) {
            self.stat = Some(stat);
        }
        Ok(())
    }
}

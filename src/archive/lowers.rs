//! What the layers below an overlay layer have at a path, without mounting them.

use std::ffi::OsString;
use std::path::Path;

use rustix::fs::{FileType, Stat};

use crate::sys::{Dir, Error};

/// The directories of lower layers, nearest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lowers<'a>(pub(super) &'a [Dir]);

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
    for key in [&b"trusted.overlay.opaque"[..], b"user.overlay.opaque"] {
        if dir.attribute("", key)?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Lowers<'_> {
    /// All of them, for the root directory.
    pub(super) fn all(self) -> Vec<usize> {
        (0..self.0.len()).collect()
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
            let lower = &self.0[*index];
            let opened;
            let dir = if path.as_os_str().is_empty() {
                lower
            } else {
                opened = lower.open_dir(path)?;
                &opened
            };
            for (name, found) in names.iter().zip(&mut all) {
                if !found.is_settled {
                    found.look(dir, *index, name)?;
                }
            }
        }
        Ok(all)
    }
}

impl Found {
    fn look(&mut self, dir: &Dir, index: usize, name: &OsString) -> Result<(), Error> {
        let Some(stat) = dir.stat(name)? else {
            return Ok(());
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        self.is_settled = !is_dir;
        if is_dir {
            self.below.push(index);
            self.is_settled = is_opaque(&dir.open_dir(name)?)?;
        }
        if self.stat.is_none() && !is_whiteout(&stat) {
            self.stat = Some(stat);
        }
        Ok(())
    }
}

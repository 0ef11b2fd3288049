//! [`ReadOnlyStore`]: an additional image store, of which we read layers and images.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::image::record::ImageRecord;
use super::layer::record::LayerRecord;
use super::opening::{IMAGE_FILES, LAYER_FILES};
use super::table_file::TableFile;
use crate::sys::Dir;

/// The records of one additional store.
#[derive(Debug)]
pub struct ReadOnlyStore {
    pub(super) root: PathBuf,
    pub(super) layers: TableFile<LayerRecord>,
    /// `None` where the lock file is missing and can't be made: such an image store is passed over.
    pub(super) images: Option<TableFile<ImageRecord>>,
}

impl ReadOnlyStore {
    /// Opens the store in `root`, laid out for driver `name`; `None` when it has no layers.
    ///
    /// # Errors
    /// When it exists and can't be opened.
    pub(super) fn open(path: &Path, name: &str) -> Result<Option<Self>, Error> {
        let root = Dir::open(path)?;
        let Some(layers) = root.find_dir(format!("{name}-layers"))? else {
            return Ok(None);
        };
        let layers = TableFile::read_only(layers, "layers.lock", LAYER_FILES)?;
        let images = match root.find_dir(format!("{name}-images"))? {
            None => None,
            Some(dir) => {
                let has_lock = dir.stat("images.lock")?.is_some()
                    || dir.ensure_file("images.lock", 0o644).is_ok();
                has_lock
                    .then(|| TableFile::read_only(dir, "images.lock", IMAGE_FILES))
                    .transpose()?
            }
        };
        Ok(Some(Self {
            root: path.to_owned(),
            layers,
            images,
        }))
    }
}

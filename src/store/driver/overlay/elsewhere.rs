//! Layers whose contents are in an additional layer store: their `diff` is a link that leads there.
//!
//! Such a store is a file system of its own that fetches what is read. It learns from the removal of a layer's directory
//! there, which it answers with "not found", that nobody uses the layer any more.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::Overlay;
use super::layout::{self, DIFF};
use crate::store::driver::DriverError;
use crate::sys::{self, Dir, File};

/// The file with the path of the layer in the additional store.
const PLACE: &str = "additionallayer";
/// The layer as it came, in the additional store.
const BLOB: &str = "blob";

/// The stores that were configured.
#[derive(Debug)]
pub(super) struct LayerStores(Vec<PathBuf>);

impl LayerStores {
    /// The stores at `roots`.
    ///
    /// # Errors
    /// When one of them can't be opened.
    pub(super) fn open(roots: Vec<PathBuf>) -> Result<Self, DriverError> {
        for root in &roots {
            drop(Dir::open(root)?);
        }
        Ok(Self(roots))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, path: &Path) -> bool {
        let is_plain = path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        is_plain && self.0.iter().any(|root| path.starts_with(root))
    }
}

/// True when opening failed since a link is in the way.
fn met_link(error: &sys::Error) -> bool {
    let links = [Errno::LOOP, Errno::NOTDIR].map(Errno::raw_os_error);
    error.errno().is_some_and(|errno| links.contains(&errno))
}

impl Overlay {
    /// The contents of the layer `id` of `home`, wherever they are; `None` when that home has none.
    pub(super) fn find_diff(&self, home: &Dir, id: &str) -> Result<Option<Dir>, DriverError> {
        match home.find_dir(Path::new(id).join(DIFF)) {
            Err(error) if met_link(&error) => self.follow(home, id).map(Some),
            found => Ok(found?),
        }
    }

    fn follow(&self, home: &Dir, id: &str) -> Result<Dir, DriverError> {
        let target = home.find_link(Path::new(id).join(DIFF))?;
        let target = target.ok_or_else(|| layout::damaged(id, "its diff is no directory"))?;
        if !self.layer_stores.has(&target) {
            return Err(layout::damaged(
                id,
                format!(
                    "its diff leads to {}, which no additionallayerstore has",
                    target.display()
                ),
            ));
        }
        Ok(Dir::open(target)?)
    }

    /// True for a layer of which nothing is ever written: it is somebody else's.
    pub(super) fn is_elsewhere(&self, layer: &Dir) -> Result<bool, DriverError> {
        Ok(!self.layer_stores.is_empty() && layer.find_link(DIFF)?.is_some())
    }

    /// Where the additional store has the layer, whose contents it has.
    fn find_place(&self, layer: &Dir) -> Result<Option<PathBuf>, DriverError> {
        if !self.is_elsewhere(layer)? {
            return Ok(None);
        }
        let place = layer.find(PLACE)?.map(OsString::from_vec);
        let place = place.map(PathBuf::from);
        Ok(place.filter(|place| self.layer_stores.has(place)))
    }

    /// The blob of a layer whose contents an additional store has.
    pub(super) fn find_blob_elsewhere(&self, layer: &Dir) -> Result<Option<File>, DriverError> {
        match self.find_place(layer)? {
            Some(place) => Ok(Dir::open(place)?.find_file(BLOB)?),
            None => Ok(None),
        }
    }

    /// Tells the store that a layer which is about to go is no longer used here.
    pub(super) fn release_elsewhere(&self, layer: &Dir) -> Result<(), DriverError> {
        let place = self.find_place(layer)?;
        let place = place.as_deref();
        if let (Some(parent), Some(name)) = (
            place.and_then(Path::parent),
            place.and_then(Path::file_name),
        ) {
            // A store that understands says that there is none; one that is a plain folder keeps what is in it.
            if let Err(error) = Dir::open(parent).and_then(|parent| parent.remove_dir(name)) {
                tracing::debug!(%error, "a layer of an additional store was let go");
            }
        }
        Ok(())
    }
}

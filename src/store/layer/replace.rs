//! A layer whose contents are replaced by a directory's.

use std::io::{BufReader, BufWriter, Write};

use super::NewLayer;
use crate::archive::pack::{self, PackError};
use crate::store::driver::{DriverError, DriverKind};
use crate::store::transaction::Scope;
use crate::store::{Error, RecordedDigest, StageOptions, Store};
use crate::sys::{self, Dir};

/// The archive of the directory, while it is taken in.
const ARCHIVE: &str = "archive";

impl Store {
    /// Makes what is in `directory` the difference of the layer that `key` finds, instead of what it was; a layer that
    /// is not there is created, with that ID and without a parent.
    ///
    /// # Errors
    /// When the directory can't be read: nothing has changed then. When the layer is an additional store's, or the driver
    /// keeps more than differences. When the layer can't be written it keeps what came until then; a crash deletes it, as in Go.
    pub fn replace_contents(&self, key: &str, directory: &Dir) -> Result<(), Error> {
        let entry = self.0.staging.entry()?;
        let dir = entry.create_dir()?;
        let file = dir.create_file(ARCHIVE, 0o600)?;
        let unwritten = |error| sys::Error::new("write", dir.path().join(ARCHIVE), error);
        let packed = pack::pack(directory, BufWriter::new(file), &pack::Options::default());
        let packed = packed.map_err(|error| match error {
            PackError::Write(error) => unwritten(error).into(),
            error => DriverError::from(error),
        })?;
        let flushed = packed.into_inner().map_err(|error| error.into_error());
        flushed
            .and_then(|mut file| file.flush())
            .map_err(unwritten)?;
        let archive = BufReader::new(dir.open_file(ARCHIVE)?);
        let Some(found) = self.find_layer(key)? else {
            let staged = self.stage_layer(None, archive, &StageOptions::default())?;
            let new = NewLayer {
                id: Some(key.to_owned()),
                ..NewLayer::default()
            };
            return self.create_layer(new, Some(staged)).map(drop);
        };
        if found.is_read_only {
            return Err(Error::ReadOnly);
        }
        if self.driver().kind() != DriverKind::Overlay {
            return Err(Error::NotSupported(format!(
                "the driver {} keeps whole trees, not differences",
                self.driver().kind().as_str()
            )));
        }
        let id = found.id.clone();
        let owners_below = self.side(&found)?.owners.below;
        let store = self.clone();
        self.write(Scope::LAYERS, move |transaction| {
            let mut record = transaction.mark_incomplete(&id)?;
            let contents = store.driver().content(&id)?;
            let result = contents
                .remove_contents()
                .map_err(Error::from)
                .and_then(|()| store.unpack_over(&id, archive, &record.mappings(), &owners_below));
            // The archive was needed until here.
            drop(entry);
            record.compressed_diff_digest = RecordedDigest::None;
            record.compressed_size = 0;
            transaction.settle_contents(record, result)
        })
    }
}

//! A layer as a tar stream: byte for byte what came in, where its recipe is there.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::archive::changes::Change;
use crate::archive::compression::{self, Compression};
use crate::archive::id_shift::{IdMaps, Shift};
use crate::archive::tar_split;
use crate::digest::Digest;
use crate::store::driver::{Base, Below, DriverError, Side, regular_file};
use crate::store::error::{Error, Kind};
use crate::store::id_map::IdMappings;
use crate::store::layer::record::LayerRecord;
use crate::store::layer::stage::StageOptions;
use crate::store::transaction::Scope;
use crate::store::{Found, Store};
use crate::sys;

/// Why a layer could not be read back. What was written of the stream is useless.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// The recipe or the contents are not what came in.
    #[error("putting the layer's stream together")]
    Reassemble(#[source] tar_split::ReassembleError),
    /// The stream is not the one that came in.
    #[error("the layer's stream is {found} and was {expected} when it came in")]
    Digest {
        /// What it was.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// The output can't be compressed or written.
    #[error("writing the layer's stream")]
    Write(#[source] io::Error),
    /// The blob in an additional layer store can't be read.
    #[error("reading the layer's blob")]
    Blob(#[source] io::Error),
    /// bzip2 and xz are read, never written.
    #[error("output in {0} is not supported")]
    Compression(Compression),
    /// The driver failed.
    #[error(transparent)]
    Driver(DriverError),
    /// The system failed.
    #[error(transparent)]
    Io(sys::Error),
    /// The records could not be read, or nothing has the key.
    #[error(transparent)]
    Store(Error),
}

impl DiffError {
    /// True when the file system or a quota is full, where the stream is written.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Reassemble(tar_split::ReassembleError::Write(error)) | Self::Write(error) => {
                sys::is_no_space(error)
            }
            Self::Driver(error) => error.is_no_space(),
            Self::Io(error) => error.is_no_space(),
            Self::Store(error) => error.is_no_space(),
            Self::Reassemble(_) | Self::Digest { .. } | Self::Blob(_) | Self::Compression(_) => {
                false
            }
        }
    }
}

impl From<DiffError> for Error {
    fn from(error: DiffError) -> Self {
        match error {
            DiffError::Driver(error) => error.into(),
            DiffError::Io(error) => error.into(),
            DiffError::Store(error) => error,
            error => Self::Diff(Arc::new(error)),
        }
    }
}

/// Writes the blob of a layer: to the byte where it is compressed as it shall be, else compressed anew.
fn copy_blob(
    mut blob: sys::File,
    compression: Compression,
    out: &mut dyn Write,
) -> Result<(), DiffError> {
    let mut start = [0; 6];
    let read = blob.read_at(&mut start, 0).map_err(DiffError::Io)?;
    if compression::detect(&start[..read]) == compression {
        return copy(&mut blob, out);
    }
    let (_, mut blob) = compression::decoder(blob).map_err(DiffError::Blob)?;
    let mut out = compression::encoder(compression, out).map_err(DiffError::Write)?;
    copy(&mut blob, &mut out)?;
    out.finish().map_err(DiffError::Write)?;
    Ok(())
}

/// Copies to the end; tells whose failure it was.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<(), DiffError> {
    let mut buffer = sys::Buffer::new(128 << 10);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&buffer[..read]).map_err(DiffError::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DiffError::Blob(error)),
        }
    }
}

/// A layer and what it is compared with.
struct Comparison {
    layer: Side,
    base: Base,
    /// True when that is its own parent, so that the recorded stream says it all.
    is_own_diff: bool,
}

impl Store {
    fn layer(&self, key: &str) -> Result<Found<LayerRecord>, Error> {
        self.find_layer(key)?.ok_or(Error::Unknown(Kind::Layer))
    }

    /// What a layer is compared with.
    fn compared(&self, key: &str, from: Option<&str>) -> Result<Comparison, Error> {
        let layer = self.layer(key)?;
        let from = match from {
            None => None,
            Some(from) => Some(self.layer(from)?).filter(|from| from.id != layer.parent),
        };
        let (side, parent) = self.comparison(&layer)?;
        let is_own_diff = from.is_none();
        let base = match from {
            None => parent,
            Some(from) => Base::Layer(self.side(&from)?),
        };
        Ok(Comparison {
            layer: side,
            base,
            is_own_diff,
        })
    }

    /// Writes the tar stream of a layer against `from`, by default its parent: uncompressed, or as
    /// `compression` says, by default as it came.
    ///
    /// # Errors
    /// See [`DiffError`].
    pub fn diff(
        &self,
        key: &str,
        from: Option<&str>,
        compression: Option<Compression>,
        out: &mut dyn Write,
    ) -> Result<(), DiffError> {
        let layer = self.layer(key).map_err(DiffError::Store)?;
        let compared = self.compared(key, from).map_err(DiffError::Store)?;
        let compression = compression
            .or(Compression::from_number(layer.compression))
            .unwrap_or(Compression::None);
        match compression {
            Compression::Bzip2 | Compression::Xz => {
                return Err(DiffError::Compression(compression));
            }
            Compression::None | Compression::Gzip | Compression::Zstd => {}
        }
        let blob = match compared.is_own_diff {
            true => self.driver().find_blob(&compared.layer.id),
            false => Ok(None),
        };
        if let Some(blob) = blob.map_err(DiffError::Driver)? {
            return copy_blob(blob, compression, out);
        }
        let mut out = compression::encoder(compression, out).map_err(DiffError::Write)?;
        self.plain_diff(&compared, &mut out)?;
        out.finish().map_err(DiffError::Write)?;
        Ok(())
    }

    fn plain_diff(&self, compared: &Comparison, out: &mut dyn Write) -> Result<(), DiffError> {
        let id = &*compared.layer.id;
        let recipe = match compared.is_own_diff {
            false => None,
            true => self.recipe(id).map_err(DiffError::Io)?,
        };
        let driver = self.driver();
        match recipe {
            None => driver
                .diff(&compared.layer, &compared.base, out)
                .map_err(DiffError::Driver),
            Some(recipe) => {
                // Nearly all are the layer's own: its directory is found once.
                let own = driver.content(id).map_err(DiffError::Driver)?;
                let mut open = |name: &[u8]| {
                    let path = Path::new(OsStr::from_bytes(name));
                    let opened = match own.open_file_in_root(path) {
                        Ok(file) => regular_file(file),
                        Err(_) => driver.open_file(id, name),
                    };
                    opened.map_err(io::Error::other)
                };
                tar_split::reassemble(recipe, &mut open, out).map_err(DiffError::Reassemble)?;
                Ok(())
            }
        }
    }

    /// The recipe of a layer, in this store or an additional one.
    fn recipe(&self, id: &str) -> Result<Option<sys::File>, sys::Error> {
        let name = format!("{id}.tar-split.gz");
        let inner = &self.0;
        for layers in std::iter::once(&inner.layers).chain(inner.others.iter().map(|o| &o.layers)) {
            if let Some(file) = layers.dir().find_file(&name)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// What differs between a layer and `from`, by default its parent.
    ///
    /// # Errors
    /// When a key is unknown or the trees can't be compared.
    pub fn changes(&self, key: &str, from: Option<&str>) -> Result<Vec<Change>, Error> {
        let Comparison { layer, base, .. } = self.compared(key, from)?;
        Ok(self.driver().changes(&layer, &base)?)
    }

    /// How many bytes a layer has that `from`, by default its parent, has not.
    ///
    /// # Errors
    /// When a key is unknown or the trees can't be read.
    pub fn diff_size(&self, key: &str, from: Option<&str>) -> Result<u64, Error> {
        let Comparison { layer, base, .. } = self.compared(key, from)?;
        Ok(self.driver().diff_size(&layer, &base)?)
    }

    /// Unpacks a tar, in any known compression, over a layer that is there. The layer is marked
    /// incomplete while it is changed: a crash in between deletes it, as in Go.
    ///
    /// # Errors
    /// When the layer is unknown or an additional store's. When the stream is broken, the layer keeps
    /// what was unpacked.
    pub fn apply_diff(&self, key: &str, diff: impl Read + Send + 'static) -> Result<(), Error> {
        let found = self.layer(key)?;
        if found.is_read_only {
            return Err(Error::ReadOnly);
        }
        let id = found.id.clone();
        let owners_below = self.side(&found)?.owners.below;
        let store = self.clone();
        self.write(Scope::LAYERS, move |transaction| {
            let mut record = transaction.mark_incomplete(&id)?;
            let result = store.unpack_over(&id, diff, &record.mappings(), &owners_below);
            if let Ok(measured) = &result {
                record.compressed_diff_digest = measured.digest.clone().into();
                record.compressed_size = measured.size.cast_signed();
            }
            transaction.settle_contents(record, result)
        })
    }

    pub(super) fn unpack_over(
        &self,
        id: &str,
        diff: impl Read + Send,
        mappings: &IdMappings,
        below: &IdMaps,
    ) -> Result<crate::store::layer::stage::Measured, Error> {
        let root = self.driver().content(id)?;
        let entry = self.0.staging.entry()?;
        let dir = entry.create_dir()?;
        let recipe = dir.create_file(crate::store::layer::stage::RECIPE, 0o600)?;
        let measured = self
            .read_diff(diff, &root, recipe, &StageOptions::default(), mappings)
            .map_err(Error::from)?;
        if !measured.implied.is_empty() {
            let lowers = self.driver().lowers(id)?;
            let below = Below {
                layer: lowers.first().map(String::as_str),
                shift: Shift {
                    from: below.clone(),
                    to: mappings.into(),
                },
                ..Below::default()
            };
            let at = self.driver().layer(id)?;
            self.driver().inherit(&at, &measured.implied, &below)?;
        }
        self.sync_contents()?;
        let name = format!("{id}.tar-split.gz");
        dir.rename(
            crate::store::layer::stage::RECIPE,
            self.0.layers.dir(),
            name,
        )?;
        Ok(measured)
    }
}

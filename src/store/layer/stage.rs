//! A diff becomes a staged layer: unpacked aside, measured and verified in one pass, under no lock.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use crate::archive::compression::{self, Compression};
use crate::archive::id_shift::{IdMaps, Shift};
use crate::archive::read_ahead;
use crate::archive::tar_split;
use crate::archive::unpack::{self, Budget, Limits, UnpackError};
use crate::digest::{Algorithm, Digest, HashingReader};
use crate::store::driver::{DriverError, PrepareOptions, Role, Side};
use crate::store::error::Error;
use crate::store::id_map::{IdMappings, WantedMaps};
use crate::store::layer::record::LayerRecord;
use crate::store::staging::Entry;
use crate::store::{Inner, Store};
use crate::sys::{self, Dir};

/// The recipe's name inside a staged layer's entry.
pub(in crate::store) const RECIPE: &str = "tar-split.gz";
/// The layer's big data inside a staged layer's entry.
pub(in crate::store) const DATA: &str = "data";
/// The driver's directory inside a staged layer's entry.
pub(in crate::store) const CONTENTS: &str = "layer";

/// Held while a diff is read whose decoder may take 128 MiB: there is one such decoder at a time in a process, however
/// many layers are in work.
static LARGE: Mutex<()> = Mutex::new(());

/// What a diff must be.
#[derive(Clone, Debug, Default)]
pub struct StageOptions {
    /// Digest of the bytes as they come in.
    pub digest: Option<Digest>,
    /// Number of bytes as they come in.
    pub size: Option<u64>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<Digest>,
    /// What a layer may hold at most.
    pub limits: Limits,
    /// Which ID mappings its contents are to have.
    pub mappings: WantedMaps,
    /// True for a layer that is to be written to, which a split store keeps apart from those of images.
    pub read_write: bool,
    /// What it may hold together with others.
    pub budget: Option<Arc<Budget>>,
}

/// Why a diff did not become a layer. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The parent is unknown.
    #[error("parent of layer not known")]
    ParentUnknown,
    /// The bytes are not those that were promised.
    #[error("the layer's {what} is {found}, expected {expected}")]
    Mismatch {
        /// Digest, size or diff ID.
        what: &'static str,
        /// What was promised.
        expected: String,
        /// What came.
        found: String,
    },
    /// The archive can't be taken in.
    #[error("unpacking the layer")]
    Unpack(#[source] UnpackError),
    /// The stream could not be read: a broken compression, or the source's own error.
    #[error("reading the layer")]
    Read(#[source] io::Error),
    /// There is no thread left to read it by.
    #[error("start a thread that reads the layer")]
    Thread(#[source] io::Error),
    /// The driver failed.
    #[error(transparent)]
    Driver(DriverError),
    /// The system failed.
    #[error(transparent)]
    Io(sys::Error),
    /// The records could not be read.
    #[error(transparent)]
    Store(Error),
}

impl StageError {
    /// True when the file system or a quota is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Unpack(error) => error.is_no_space(),
            Self::Driver(error) => error.is_no_space(),
            Self::Io(error) => error.is_no_space(),
            Self::Store(error) => error.is_no_space(),
            Self::ParentUnknown | Self::Mismatch { .. } | Self::Read(_) | Self::Thread(_) => false,
        }
    }
}

impl From<sys::Error> for StageError {
    fn from(error: sys::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StageError> for Error {
    fn from(error: StageError) -> Self {
        match error {
            StageError::ParentUnknown => Self::ParentUnknown,
            StageError::Driver(error) => error.into(),
            StageError::Io(error) => error.into(),
            StageError::Store(error) => error,
            error => Self::Stage(Arc::new(error)),
        }
    }
}

/// What is known of a diff that was read to its end.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Digest of the bytes as they came in.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Its length in bytes.
    pub diff_size: u64,
    /// What was detected.
    pub compression: Compression,
    /// Distinct user IDs of the headers, ascending.
    pub uids: Vec<u32>,
    /// Distinct group IDs of the headers, ascending.
    pub gids: Vec<u32>,
    /// Sum of the sizes of the files, each inode once.
    pub content_size: u64,
    /// The archive said what the root directory is.
    pub has_root: bool,
    /// Directories that the archive has members in and no entry for, parents first.
    pub implied: Vec<Vec<u8>>,
}

/// A layer that is ready to be adopted. Dropping it removes it.
#[derive(Debug)]
pub struct StagedLayer {
    pub(in crate::store) entry: Entry,
    pub(in crate::store) parent: Option<String>,
    /// The driver has to complete it once its parent is there.
    pub(in crate::store) parent_comes_later: bool,
    /// What its diff was; `None` for a layer without one.
    pub measured: Option<Measured>,
    /// What it was in the additional store that it was copied from.
    pub(in crate::store) original: Option<Arc<LayerRecord>>,
    /// Where its contents have the IDs of containers.
    pub(in crate::store) mappings: IdMappings,
    /// From the owners of the layers below to its own, where mounts move them.
    pub(in crate::store) shift: Shift,
}

impl StagedLayer {
    /// The entry's directory.
    pub(in crate::store) fn dir(&self) -> Result<Dir, sys::Error> {
        self.entry.folder().open_dir(self.entry.name())
    }
}

impl Inner {
    /// Prepares a layer without contents.
    pub(in crate::store) fn stage_empty(
        &self,
        parent: Option<&str>,
        options: &PrepareOptions,
    ) -> Result<StagedLayer, Error> {
        let entry = self.staging_for(options.read_write).entry()?;
        let dir = entry.create_dir()?;
        dir.create_dir(CONTENTS, 0o700)?;
        self.driver
            .prepare(&dir.open_dir(CONTENTS)?, parent, options)?;
        Ok(StagedLayer {
            entry,
            parent: parent.map(str::to_owned),
            parent_comes_later: options.parent_comes_later,
            measured: None,
            original: None,
            mappings: IdMappings::default(),
            shift: Shift::default(),
        })
    }

    /// Prepares a layer without contents over `parent`, whose owners are copied when they are not where `mappings` have
    /// them.
    pub(in crate::store) fn stage_mapped(
        &self,
        parent: Option<&Side>,
        mappings: IdMappings,
        mut options: PrepareOptions,
    ) -> Result<StagedLayer, Error> {
        if !mappings.is_empty() {
            options.root = mappings.root()?;
        }
        let to = IdMaps::from(&mappings);
        let mut staged = match parent {
            Some(parent) if parent.owners.own != to => {
                self.stage_copied(parent, &to, Role::Base, &options)?
            }
            parent => self.stage_empty(parent.map(|parent| &*parent.id), &options)?,
        };
        staged.mappings = mappings;
        Ok(staged)
    }

    /// Prepares a layer with a copy of the whole tree of `template`, for other owners.
    pub(in crate::store) fn stage_copied(
        &self,
        template: &Side,
        to: &IdMaps,
        role: Role,
        options: &PrepareOptions,
    ) -> Result<StagedLayer, Error> {
        let entry = self.staging.entry()?;
        let dir = entry.create_dir()?;
        dir.create_dir(CONTENTS, 0o700)?;
        let contents = dir.open_dir(CONTENTS)?;
        self.driver
            .prepare_mapped(&contents, template, to, role, options)?;
        Ok(StagedLayer {
            entry,
            parent: Some(template.id.clone()),
            parent_comes_later: false,
            measured: None,
            original: None,
            mappings: IdMappings::default(),
            shift: Shift::default(),
        })
    }
}

impl Store {
    /// Reads `diff`, a tar in any known compression, to its end and makes it a layer over `parent`.
    ///
    /// Takes no lock but a moment's shared one to look up the parent. Memory does not grow with the
    /// size of the layer.
    ///
    /// # Errors
    /// See [`StageError`]; nothing is left behind.
    pub fn stage_layer(
        &self,
        parent: Option<&str>,
        diff: impl Read + Send,
        options: &StageOptions,
    ) -> Result<StagedLayer, StageError> {
        let parent = match parent {
            None => None,
            Some(key) => {
                let parent = self.find_layer(key).map_err(StageError::Store)?;
                Some(parent.ok_or(StageError::ParentUnknown)?.id.clone())
            }
        };
        self.stage_layer_over(parent.as_deref(), diff, options)
    }

    /// As [`Store::stage_layer`], over a parent that need not be recorded yet: one that is staged at the
    /// same time, where the driver does not need its contents.
    ///
    /// # Errors
    /// As [`Store::stage_layer`].
    pub fn stage_layer_over(
        &self,
        parent: Option<&str>,
        diff: impl Read + Send,
        options: &StageOptions,
    ) -> Result<StagedLayer, StageError> {
        let found = match parent {
            Some(parent) => self.find_layer(parent).map_err(StageError::Store)?,
            None => None,
        };
        let parent_comes_later =
            parent.is_some() && found.is_none() && self.0.driver.stages_without_parent();
        let prepare = PrepareOptions {
            read_write: options.read_write,
            durable: true,
            parent_comes_later,
            ..PrepareOptions::default()
        };
        let below = found.as_ref().map(|found| &*found.record);
        let wanted = options
            .mappings
            .resolve(&below.map(LayerRecord::mappings).unwrap_or_default());
        let staged = match (below, parent) {
            (None, Some(parent)) => self.0.stage_empty(Some(parent), &prepare),
            _ => self.stage_over(below, &wanted, prepare),
        };
        let staged = staged.map_err(StageError::Store)?;
        self.fill(staged, diff, options)
    }

    /// Reads `diff` to its end into a layer without contents that was made ready. Of the options, those count that say what
    /// the diff must be.
    ///
    /// # Errors
    /// As [`Store::stage_layer`].
    pub(in crate::store) fn fill(
        &self,
        mut staged: StagedLayer,
        diff: impl Read + Send,
        options: &StageOptions,
    ) -> Result<StagedLayer, StageError> {
        let dir = staged.dir()?;
        let contents = dir.open_dir(CONTENTS)?;
        let root = self
            .0
            .driver
            .prepared_content(&contents)
            .map_err(StageError::Driver)?;
        let recipe = dir.create_file(RECIPE, 0o600)?;
        let measured = self.read_diff(diff, &root, recipe, options, &staged.mappings)?;
        if !staged.parent_comes_later {
            let inherited = self.0.inherit(&contents, &measured.implied, &staged);
            inherited.map_err(StageError::Store)?;
        }
        staged.measured = Some(measured);
        Ok(staged)
    }

    /// Prepares a layer without contents over `parent`, for somebody who wants the mappings `wanted`.
    pub(in crate::store) fn stage_over(
        &self,
        parent: Option<&LayerRecord>,
        wanted: &IdMappings,
        options: PrepareOptions,
    ) -> Result<StagedLayer, Error> {
        let parent = parent.map(|parent| self.side(parent)).transpose()?;
        let stored = self.0.stored(wanted)?;
        self.0.stage_mapped(parent.as_ref(), stored, options)
    }

    /// The one pass: hash, inflate, hash, record, unpack. What comes in is hashed, and what it holds inflated, ahead.
    pub(in crate::store) fn read_diff(
        &self,
        diff: impl Read + Send,
        root: &Dir,
        recipe: sys::File,
        options: &StageOptions,
        mappings: &IdMappings,
    ) -> Result<Measured, StageError> {
        let incoming = HashingReader::new(diff, Algorithm::Sha256);
        let unpack_options = unpack::Options {
            limits: options.limits,
            id_maps: mappings.into(),
            budget: options.budget.clone(),
            ignore_chown_errors: self.0.driver.ignores_chown_errors(),
            force_mask: self.0.driver.force_mask(),
            ..unpack::Options::new(self.0.driver.whiteouts())
        };
        let (read, incoming) = read_ahead::run(incoming, |incoming| {
            let (compression, mut decoder) =
                compression::decoder(incoming).map_err(StageError::Read)?;
            let _turn = decoder
                .is_large()
                .then(|| LARGE.lock().unwrap_or_else(PoisonError::into_inner));
            let (summary, recipe, hashed) = match compression {
                // It is hashed as it comes in.
                Compression::None => {
                    let (summary, recipe) = unpack(&mut decoder, root, &unpack_options, recipe)?;
                    (summary, recipe, None)
                }
                _ => {
                    let (unpacked, rest) = read_ahead::run(decoder, |plain| {
                        let mut plain = HashingReader::new(plain, Algorithm::Sha256);
                        let unpacked = unpack(&mut plain, root, &unpack_options, recipe)?;
                        let (digest, size, _) = plain.finish();
                        Ok::<_, StageError>((unpacked, digest, size))
                    })
                    .map_err(StageError::Thread)?;
                    decoder = rest;
                    let ((summary, recipe), digest, size) = unpacked?;
                    (summary, recipe, Some((digest, size)))
                }
            };
            decoder.drain_input().map_err(StageError::Read)?;
            drop(decoder);
            Ok::<_, StageError>((compression, summary, recipe, hashed))
        })
        .map_err(StageError::Thread)?;
        let (compression, summary, recipe, hashed) = read?;
        let (digest, size, _) = incoming.finish();
        let (diff_id, diff_size) = hashed.unwrap_or_else(|| (digest.clone(), size));
        recipe.sync_data()?;
        check("digest", options.digest.as_ref(), &digest)?;
        check("size", options.size.as_ref(), &size)?;
        check("diff ID", options.diff_id.as_ref(), &diff_id)?;
        Ok(Measured {
            digest,
            size,
            diff_id,
            diff_size,
            compression,
            uids: summary.uids.into_iter().collect(),
            gids: summary.gids.into_iter().collect(),
            content_size: summary.size,
            has_root: summary.has_root,
            implied: summary.implied,
        })
    }
}

/// Unpacks and writes the recipe.
fn unpack(
    plain: &mut dyn Read,
    root: &Dir,
    options: &unpack::Options,
    recipe: sys::File,
) -> Result<(unpack::Summary, sys::File), StageError> {
    let path = recipe.path().to_owned();
    let unwritten = |error| {
        let error = sys::Error::new("write", path.clone(), error);
        StageError::Unpack(UnpackError::System(error))
    };
    let mut recipe = tar_split::Writer::new(recipe);
    let summary = match unpack::unpack(plain, root, options, Some(&mut recipe)) {
        Err(UnpackError::Recipe(error)) => return Err(unwritten(error)),
        unpacked => unpacked.map_err(StageError::Unpack)?,
    };
    Ok((summary, recipe.finish().map_err(unwritten)?))
}

fn check<T: PartialEq + ToString>(
    what: &'static str,
    expected: Option<&T>,
    found: &T,
) -> Result<(), StageError> {
    match expected {
        Some(expected) if expected != found => Err(StageError::Mismatch {
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}

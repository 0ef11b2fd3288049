//! What a container changed becomes a layer of an image.

use std::io::{self, BufWriter, Read, Write};

use crate::archive::pipe::{self, Broken};
use crate::archive::retime::{RewriteError, Times, retime};
use crate::store::driver::{Base, DriverError};
use crate::store::{Error, LayerRecord, StageError, StageOptions, StagedLayer, Store};

/// Why a layer's contents could not be made an image's. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The store's records can't be read.
    #[error(transparent)]
    Records(Error),
    /// The container's files can't be read.
    #[error(transparent)]
    Read(DriverError),
    /// Their times can't be rewritten.
    #[error(transparent)]
    Times(RewriteError),
    /// The layer can't be written.
    #[error(transparent)]
    Stage(StageError),
    /// There is no pipe or thread left.
    #[error("start a stream")]
    Stream(#[source] io::Error),
}

impl From<Broken<Self, Self>> for LayerError {
    fn from(broken: Broken<Self, Self>) -> Self {
        match broken {
            Broken::Pipe(error) => Self::Stream(error),
            Broken::Writer(error) | Broken::Reader(error) => error,
        }
    }
}

/// What of a layer is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What it changes of its parent.
    Difference,
    /// All that is seen in it.
    Whole,
}

/// Stages a part of `layer` as a layer over `parent`: for the difference one that has the contents of its own parent.
/// The container may be mounted; what is written meanwhile may be in or not.
pub(super) fn stage(
    store: &Store,
    layer: &LayerRecord,
    part: Part,
    parent: Option<&str>,
    times: Times,
) -> Result<StagedLayer, LayerError> {
    let (changed, base) = store.comparison(layer).map_err(LayerError::Records)?;
    let base = match part {
        Part::Difference => base,
        Part::Whole => Base::Nothing,
    };
    let diff = |out: &mut dyn Write| {
        let read = store.driver().diff(&changed, &base, out);
        read.map_err(LayerError::Read)
    };
    let stage = |archive: &mut (dyn Read + Send)| {
        store
            .stage_layer_over(parent, archive, &StageOptions::default())
            .map_err(LayerError::Stage)
    };
    if times == Times::Kept {
        return Ok(pipe::run(diff, stage)?);
    }
    let retimed = |out: &mut dyn Write| -> Result<(), LayerError> {
        let out = BufWriter::with_capacity(128 * 1024, out);
        let rewrite = |archive: &mut (dyn Read + Send)| {
            retime(archive, times, out).map_err(LayerError::Times)
        };
        pipe::run(diff, rewrite)?;
        Ok(())
    };
    Ok(pipe::run(retimed, stage)?)
}

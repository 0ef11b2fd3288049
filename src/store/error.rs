//! [`Error`]: what may go wrong with a store, in the peer's words where users know them.

use std::path::PathBuf;
use std::sync::Arc;

use super::driver::DriverError;
use super::id_map::IdMap;
use super::table::ParseTableError;
use crate::sys;

/// The three kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file-system difference.
    Layer,
    /// Names and blobs over a top layer.
    Image,
    /// A writable layer and its record.
    Container,
}

impl Kind {
    /// The word for one of them.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Image => "image",
            Self::Container => "container",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A failure of a store operation. Unless said otherwise, nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No object of this kind has the key.
    #[error("{0} not known")]
    Unknown(Kind),
    /// The key finds nothing of this kind, where one was to be deleted or changed.
    #[error("identifier is not {article} {kind}", article = article(*kind))]
    NotA {
        /// What was looked for.
        kind: Kind,
    },
    /// The key finds nothing at all.
    #[error("identifier is not a layer, image, or container")]
    NotAnId,
    /// The ID is taken.
    #[error("that ID is already in use")]
    DuplicateId,
    /// The name is taken.
    #[error("the {kind} name {name:?} is already in use by {owner:?}: that name is already in use")]
    DuplicateName {
        /// What has the name.
        kind: Kind,
        /// The name.
        name: String,
        /// The ID of its owner.
        owner: String,
    },
    /// A layer that others stand on.
    #[error("layer has children")]
    HasChildren,
    /// The top layer of an image.
    #[error("layer is in use by an image: {0}")]
    LayerUsedByImage(String),
    /// The layer of a container.
    #[error("layer is in use by a container: {0}")]
    LayerUsedByContainer(String),
    /// An image that containers were made from.
    #[error("image is in use by a container: {0}")]
    ImageUsedByContainer(String),
    /// A mapping that contradicts another one of the same container, or itself.
    #[error(
        "the specified UID and/or GID mapping {0} conflicts with other mappings: invalid mappings specified"
    )]
    InvalidMaps(IdMap),
    /// Mappings in which the container has no root, whom new directories would belong to.
    #[error("container ID 0 cannot be mapped to a host ID")]
    RootUnmapped,
    /// The administrator gives a user or group no IDs for containers.
    #[error("{0}")]
    NoSubordinateIds(String),
    /// There are too few IDs for another user name space.
    #[error("not enough unused IDs in user namespace: {0}")]
    NoIds(String),
    /// The parent of a new layer may not be a container's.
    #[error("would-be parent layer is a container")]
    ParentIsContainer,
    /// The parent of a new layer is missing.
    #[error("parent of layer not known")]
    ParentUnknown,
    /// Only a mounted layer can do this.
    #[error("layer is not mounted")]
    NotMounted,
    /// The object belongs to an additional store.
    #[error("called a write method on a read-only store")]
    ReadOnly,
    /// The graph root can't be written by this process.
    #[error(
        "the store in {} can only be read: it is on a read-only file system, or not this user's to change", _0.display()
    )]
    StoreReadOnly(PathBuf),
    /// The item has no recorded size.
    #[error("size is not known")]
    SizeUnknown,
    /// The item has no recorded digest.
    #[error("could not compute digest of item")]
    DigestUnknown,
    /// The object has no such big data.
    #[error("{kind} has no data item {key:?}: file does not exist")]
    NoBigData {
        /// Of what.
        kind: Kind,
        /// The missing key.
        key: String,
    },
    /// A key of big data that can't name a file.
    #[error("not a valid name for a big data item")]
    BigDataName,
    /// An ID that can't name a directory.
    #[error("{0:?} can't be an ID: it must be a single path component")]
    InvalidId(String),
    /// A record file that we don't understand: it is left as it is.
    #[error("error loading storage metadata: {}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Arc<ParseTableError>,
    },
    /// Something is not offered.
    #[error("not supported: {0}")]
    NotSupported(String),
    /// Still mounted layers keep a store from being shut down.
    #[error("A layer is mounted: layer is in use by a container")]
    StillMounted,
    /// An object changed between two looks at it; trying again helps.
    #[error("{0} changed meanwhile")]
    Changed(Kind),
    /// The contents of a layer were not what they should be.
    #[error(transparent)]
    Stage(Arc<super::layer::stage::StageError>),
    /// The contents of a layer could not be read back.
    #[error(transparent)]
    Diff(Arc<super::layer::diff::DiffError>),
    /// The driver failed.
    #[error(transparent)]
    Driver(Arc<DriverError>),
    /// The system failed.
    #[error(transparent)]
    Io(Arc<sys::Error>),
    /// A change that was saved together with this one broke an invariant of ours.
    #[error("a change of the store was abandoned: this is a bug in strata")]
    Abandoned,
}

fn article(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "an",
        Kind::Layer | Kind::Container => "a",
    }
}

impl Error {
    /// True when the file system or a quota is full.
    ///
    /// Variants are asked one by one: `source()` of a transparent one passes over the error that it holds.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Stage(error) => error.is_no_space(),
            Self::Diff(error) => error.is_no_space(),
            Self::Driver(error) => error.is_no_space(),
            Self::Io(error) => error.is_no_space(),
            _ => false,
        }
    }
}

impl From<sys::Error> for Error {
    fn from(error: sys::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        Self::Driver(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::archive::pack::PackError;
    use crate::archive::tar_split::ReassembleError;
    use crate::archive::unpack::UnpackError;
    use crate::store::layer::diff::DiffError;
    use crate::store::layer::stage::StageError;

    /// Each way by which the number of a system call comes up to an error of the store.
    fn ways(errno: i32) -> Vec<Error> {
        let said = || io::Error::from_raw_os_error(errno);
        let system = || sys::Error::new("make directory", "diff", said());
        let wrapped = || io::Error::from(system());
        let stage = |error| Error::Stage(Arc::new(error));
        let diff = |error| Error::Diff(Arc::new(error));
        vec![
            system().into(),
            DriverError::Io(system()).into(),
            DriverError::Pack(PackError::System(system())).into(),
            DriverError::Pack(PackError::Write(wrapped())).into(),
            stage(StageError::Unpack(UnpackError::System(system()))),
            stage(StageError::Unpack(UnpackError::Recipe(said()))),
            stage(StageError::Unpack(UnpackError::Recipe(wrapped()))),
            stage(StageError::Driver(DriverError::Io(system()))),
            stage(StageError::Io(system())),
            stage(StageError::Store(DriverError::Io(system()).into())),
            diff(DiffError::Reassemble(ReassembleError::Write(wrapped()))),
            diff(DiffError::Write(said())),
            diff(DiffError::Driver(DriverError::Io(system()))),
            diff(DiffError::Io(system())),
            diff(DiffError::Store(system().into())),
        ]
    }

    #[test]
    fn a_full_disk_is_known_whoever_met_it() {
        for errno in [libc::ENOSPC, libc::EDQUOT] {
            for error in ways(errno) {
                assert!(error.is_no_space(), "{error:?}");
            }
        }
        for error in ways(libc::EIO) {
            assert!(!error.is_no_space(), "{error:?}");
        }
    }
}

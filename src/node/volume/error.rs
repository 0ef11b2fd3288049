//! What may go wrong with a volume, and of which kind it is.

use std::path::PathBuf;

use super::gate::Taken;
use super::handle::ParseStoreIdError;
use super::plan::Conflict;
use crate::node::kubernetes::ClusterError;
use crate::node::lanes::LaneError;
use crate::oci::pull::Trouble;
use crate::store;
use crate::sys;

/// What a caller has to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ask for something else: it can't be.
    Invalid,
    /// Ask as before: it is there otherwise.
    Differs,
    /// End its use first.
    InUse,
    /// It does not exist.
    NotFound,
    /// Try again when the other operation is done.
    Busy,
    /// Give the right credentials.
    Unauthenticated,
    /// Be given the right.
    Forbidden,
    /// Try again.
    Unavailable,
    /// Make room.
    Full,
    /// Ask for less.
    OutOfRange,
    /// Check the store, or the image.
    Corrupt,
    /// Change the node or the store.
    Unable,
    /// Report a bug.
    Internal,
}

/// A target path that can't be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Not absolute, or with `.` or `..` in it.
    #[error("target path {}: it must be absolute, without . and ..", path.display())]
    Form {
        /// The path.
        path: PathBuf,
    },
    /// Not where the kubelet has its pods.
    #[error("target path {}: it is not below the kubelet's directory {}", path.display(), kubelet.display())]
    Outside {
        /// The path.
        path: PathBuf,
        /// The kubelet's directory.
        kubelet: PathBuf,
    },
    /// Its parent is missing or no directory.
    #[error("target path {}: its parent directory is missing, or not reached by directories alone", path.display())]
    NoParent {
        /// The path.
        path: PathBuf,
    },
}

/// A failure of an operation on a volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The target can't be one.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Another operation has the volume.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// What is there can't become what is wanted.
    #[error("volume {volume}")]
    Conflict {
        /// Which volume.
        volume: String,
        /// Why.
        #[source]
        source: Conflict,
    },
    /// The handle is of another store's volume.
    #[error("volume {volume} is in another store than {store}, the one of this node")]
    OtherStore {
        /// Which volume.
        volume: String,
        /// This store.
        store: String,
    },
    /// The volume is unknown, or not at the path.
    #[error("volume {volume}{}", at(.path))]
    NotFound {
        /// Which volume.
        volume: String,
        /// Where it was looked for.
        path: Option<PathBuf>,
    },
    /// The volume is published.
    #[error("volume {volume} is published at {}", path.display())]
    Published {
        /// Which volume.
        volume: String,
        /// Where.
        path: PathBuf,
    },
    /// The size that exists, or the room, is not what is wanted.
    #[error("volume {volume}: {wanted} bytes are wanted, {available} are {what}")]
    Size {
        /// Which volume.
        volume: String,
        /// How much is wanted.
        wanted: i64,
        /// How much there is.
        available: u64,
        /// What there is so much of.
        what: &'static str,
        /// Whether the volume exists already.
        exists: bool,
    },
    /// The image can't be had.
    #[error("image {image}")]
    Image {
        /// Its reference.
        image: String,
        /// Why.
        #[source]
        source: super::images::ImageError,
    },
    /// The store refuses.
    #[error("{doing}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: store::Error,
    },
    /// The store's own ID is broken.
    #[error(transparent)]
    StoreId(#[from] ParseStoreIdError),
    /// The system refuses.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// A lane did not do it.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The cluster was not to be asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

fn at(path: &Option<PathBuf>) -> String {
    match path {
        Some(path) => format!(" is not published at {}", path.display()),
        None => " does not exist in the store of this node".to_owned(),
    }
}

impl Error {
    /// What the caller has to do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Target(_) => Kind::Invalid,
            Self::Taken(_) => Kind::Busy,
            Self::Conflict { source, .. } => match source {
                Conflict::Unknown => Kind::NotFound,
                Conflict::Stranger => Kind::Unable,
                Conflict::Definition { .. } | Conflict::Flags { .. } => Kind::Differs,
                Conflict::Target { .. } | Conflict::SecondTarget | Conflict::Deleted => Kind::InUse,
            },
            Self::OtherStore { .. } | Self::NotFound { .. } => Kind::NotFound,
            Self::Published { .. } => Kind::InUse,
            Self::Size { exists: true, .. } => Kind::Differs,
            Self::Size { exists: false, .. } => Kind::Full,
            Self::Image { source, .. } => source.kind(),
            Self::Store { source, .. } => of_store(source),
            Self::StoreId(_) => Kind::Corrupt,
            Self::System(error) if error.is_no_space() => Kind::Full,
            Self::System(_) => Kind::Internal,
            Self::Lane(LaneError::Full { .. } | LaneError::Thread { .. }) => Kind::Unavailable,
            Self::Cluster(_) => Kind::Unavailable,
            Self::Lane(_) => Kind::Internal,
        }
    }
}

impl Error {
    /// What helps, where the text does not say so already.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Image { source, .. } => return source.remedy(),
            Self::OtherStore { .. } => {
                "the node was reinstalled or its pool made anew: delete the claim, or bring the store back"
            }
            Self::Published { .. } => "end the pods that use it first",
            Self::Target(TargetError::Outside { .. }) => {
                "give the plugin the kubelet's root directory: kubeletDir of the chart, --kubelet-dir"
            }
            Self::Size { exists: false, .. } => "ask for less, or make room in the node's pool",
            Self::Lane(LaneError::Full { .. }) => "it is tried again",
            _ => match self.kind() {
                Kind::Full => "make room in the node's pool",
                Kind::Corrupt => "the node's store must be repaired by its administrator",
                _ => return None,
            },
        })
    }
}

impl From<Trouble> for Kind {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NotFound => Self::NotFound,
            Trouble::Unauthenticated => Self::Unauthenticated,
            Trouble::Denied => Self::Forbidden,
            Trouble::Unavailable => Self::Unavailable,
            Trouble::Corrupt | Trouble::Damaged => Self::Corrupt,
            Trouble::TooLarge | Trouble::NoSpace => Self::Full,
            Trouble::Unsupported => Self::Unable,
            Trouble::Internal => Self::Internal,
        }
    }
}

/// The kind of a store's failure: that of a pull which meets it, but for what the caller has named.
pub(super) fn of_store(error: &store::Error) -> Kind {
    use store::Error as E;
    match error {
        E::Unknown(store::Kind::Image) => Kind::NotFound,
        // Made by somebody else meanwhile: the next try sees what is there now.
        E::DuplicateId => Kind::Unavailable,
        _ => Trouble::from(error).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::node::volume::images::ImageError;
    use crate::oci::PullError;
    use crate::store::driver::DriverError;
    use crate::store::table::ParseTableError;

    /// What a store refuses has one code, whether a volume of nothing meets it or one whose image is looked for.
    #[test]
    fn what_a_store_refuses_has_a_kind_of_its_own_in_pulls_too() {
        use store::Error as E;
        let driver = |error| E::Driver(Arc::new(error));
        let id = || "layer".to_owned();
        let reason = || "reason".to_owned();
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let full = sys::Error::new("make directory", "diff", full);
        let damaged = DriverError::Damaged {
            id: id(),
            reason: reason(),
        };
        let deep = DriverError::TooDeep {
            id: id(),
            found: 501,
            limit: 500,
        };
        let load = E::Load {
            path: PathBuf::from("layers.json"),
            source: Arc::new(ParseTableError::TooLong),
        };
        for (error, kind) in [
            (driver(DriverError::Io(full)), Kind::Full),
            (driver(DriverError::Missing(id())), Kind::Corrupt),
            (driver(damaged), Kind::Corrupt),
            (driver(DriverError::InUse(id())), Kind::Unavailable),
            (driver(deep), Kind::Unable),
            (driver(DriverError::Prerequisites(reason())), Kind::Unable),
            (driver(DriverError::MountOption(reason())), Kind::Unable),
            (driver(DriverError::Name(id())), Kind::Internal),
            (load, Kind::Corrupt),
            (E::StoreReadOnly(PathBuf::from("graph")), Kind::Unable),
            (E::ReadOnly, Kind::Unable),
            (E::Changed(store::Kind::Layer), Kind::Unavailable),
            (E::Abandoned, Kind::Internal),
        ] {
            assert_eq!(of_store(&error), kind, "{error:?}");
            let pull = ImageError::Pull(Arc::new(PullError::Store(error)));
            assert_eq!(pull.kind(), kind, "{pull:?}");
            let is_repair = pull.remedy().is_some_and(|text| text.contains("repaired"));
            assert_eq!(is_repair, kind == Kind::Corrupt, "{pull:?}");
        }
        assert_eq!(of_store(&E::Unknown(store::Kind::Image)), Kind::NotFound);
        assert_eq!(of_store(&E::DuplicateId), Kind::Unavailable);
    }
}

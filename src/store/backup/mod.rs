//! A store as one tar stream, and back: its layers, images and containers with their records.
//!
//! ```text
//! strata-backup.json           {"version":1}, and the ID maps of containers' layers: those are written through mounts
//! layers/<n>/record.json       the row of layers.json; parents come before their children
//! layers/<n>/directory.<k>     big data, a tar in pieces; only where there is any
//! layers/<n>/diff.<k>          the difference to the parent, a tar in pieces
//! layers/<n>/sum.json          digest and size of that tar
//! images/<n>/record.json       the row of images.json
//! images/<n>/directory.<k>     big data
//! containers/<n>/...           as images; the directory has all that lies in it
//! end.json                     how many of each
//! ```
//!
//! A layer is a tar, so a backup fits every driver. What ends with the boot, what is not finished, and what additional
//! stores have is left out.
//!
//! | File | What |
//! |---|---|
//! | [`export`] | writing |
//! | [`import`] | reading, and putting it into a store |
//! | `members` | a stream in pieces |

pub mod export;
pub mod import;
mod members;

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::error::{Error, Kind};
use super::id_map::IdMap;
use crate::archive::tar;

/// The first member.
const HEAD: &str = "strata-backup.json";
/// The last member.
const END: &str = "end.json";
/// What this version writes and reads.
const VERSION: u32 = 1;

/// The contents of the first member.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    version: u32,
    /// The layers of containers that have ID maps, with these. The layer's own record may lack them, and where mounts show
    /// other owners such a layer needs no copy of what is below. Backups without it are read, too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    mapped: BTreeMap<String, Maps>,
}

/// The ID maps of a container, as its record has them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Maps {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    uidmap: Vec<IdMap>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gidmap: Vec<IdMap>,
}

/// The contents of a layer's last member.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    digest: String,
    size: u64,
}

/// How many objects a backup has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Layers.
    pub layers: u64,
    /// Images.
    pub images: u64,
    /// Containers.
    pub containers: u64,
}

/// Why a backup was not written or not read to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// The backup can't be written.
    #[error("write the backup")]
    Write(#[source] io::Error),
    /// The stream can't be read, or ends too early.
    #[error("read the backup")]
    Read(#[source] tar::Error),
    /// The compressed stream can't be read.
    #[error("read the backup")]
    Decode(#[source] io::Error),
    /// The stream has something that belongs elsewhere, or is something else.
    #[error("this is no backup of a store: {0}")]
    Foreign(String),
    /// A later version wrote it.
    #[error("the backup has version {0}, and this strata reads up to version {VERSION}")]
    Version(u32),
    /// A record lists an item that has no file.
    #[error("the item {key:?} of {kind} {id} has no file")]
    Missing {
        /// Of which kind.
        kind: Kind,
        /// Its ID.
        id: String,
        /// The item's key.
        key: String,
    },
    /// What came is not what was written.
    #[error("{kind} {id} is damaged in the backup: {what}")]
    Damaged {
        /// Of which kind.
        kind: Kind,
        /// Its ID.
        id: String,
        /// What is wrong with it.
        what: String,
    },
    /// The store has something else under this ID or one of its names.
    #[error("{kind} {id} of the backup is not the one that the store has")]
    Conflict {
        /// Of which kind.
        kind: Kind,
        /// Its ID.
        id: String,
    },
}

impl From<crate::sys::Error> for BackupError {
    fn from(error: crate::sys::Error) -> Self {
        Self::Store(error.into())
    }
}

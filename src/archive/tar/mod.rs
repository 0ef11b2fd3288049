//! Tar archives, read and written block by block.
//!
//! The reader accounts for every byte of the stream, as tar-split needs: what is not payload comes
//! out raw. It understands what Go's `archive/tar` does: ustar, PAX with global headers, GNU with
//! long names, base-256 numbers, and sparse files of every format. Where archives contradict
//! themselves it decides as Go does, since both must read the same tree out of one layer.
//!
//! | Module | What |
//! |---|---|
//! | [`reader`] | [`Reader`]: members, their payload, and the raw bytes between |
//! | [`writer`] | [`Writer`]: ustar members with PAX records where ustar has no room |
//! | `header` | one block of a header |
//! | `pax` | the records of PAX headers |
//! | `sparse` | where the pieces of sparse files belong |

use std::io;

use super::compression::Damaged;

mod header;
mod pax;
pub mod reader;
mod sparse;
pub mod writer;

pub use reader::Reader;
pub use sparse::Piece;
pub use writer::Writer;

/// Archives consist of blocks of this size.
pub const BLOCK: usize = 512;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, sparse or not.
    Regular,
    /// Another name of an earlier member.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// PAX records for all that follow; they are not applied, as in Go.
    GlobalHeader,
    /// Something else, by its type byte.
    Other(u8),
}

/// A point in time, as seconds since the epoch and nanoseconds after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Below 10^9.
    pub nanoseconds: u32,
}

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// The name as stored: not cleaned, not confined, any bytes but NUL.
    pub name: Vec<u8>,
    /// Where a link points.
    pub link: Vec<u8>,
    /// Permission bits, set-id bits and sticky bit.
    pub mode: u32,
    /// The owner, as the archive says; it may not fit what the kernel knows.
    pub uid: i64,
    /// The group.
    pub gid: i64,
    /// The size of a regular file with its holes; 0 for everything else.
    pub size: u64,
    /// Modification time.
    pub modified: Time,
    /// Access time.
    pub accessed: Option<Time>,
    /// Major and minor number of a device.
    pub device: (i64, i64),
    /// Extended attributes, in the order in which they are stored.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// The pieces of a sparse file that are stored, ascending.
    pub sparse: Option<Vec<Piece>>,
}

/// Why an archive can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is no tar archive, or damaged.
    #[error("invalid tar header: {what} (in the {offset} bytes up to here)")]
    InvalidHeader {
        /// What is wrong.
        what: &'static str,
        /// How much had been read.
        offset: u64,
    },
    /// It ends within a member.
    #[error("unexpected EOF")]
    UnexpectedEof,
    /// It was compressed, and what came is no stream of that compression.
    #[error("invalid tar header")]
    Damaged(#[source] io::Error),
    /// The stream below failed.
    #[error("read the archive")]
    Read(#[source] io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let is_damaged = || error.get_ref().is_some_and(|inner| inner.is::<Damaged>());
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::UnexpectedEof,
            _ if is_damaged() => Self::Damaged(error),
            _ => Self::Read(error),
        }
    }
}

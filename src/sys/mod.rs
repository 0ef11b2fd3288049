//! The kernel, and the only place where `unsafe` is allowed.
//!
//! Everything here is blocking, knows nothing of stores or images, and reports failures with the
//! verb and the path that they belong to.
//!
//! | File | What |
//! |---|---|
//! | [`btrfs`] | subvolumes of btrfs |
//! | [`mod@buffer`] | [`Buffer`]: where files are read into |
//! | [`cursor`] | a place in a tree of any depth |
//! | [`dir`] | [`Dir`]: an owned directory; every path is relative to it |
//! | [`mod@file`] | [`File`]: reads, counted writes, syncs |
//! | `names` | renames, and links of both kinds |
//! | [`node`] | devices, modes and times by name; paths for which a directory is the root |
//! | [`remove`] | removing trees, however deep they are |
//! | `patch` | giving a file other contents by writing only what differs |
//! | [`replace`] | replacing a file atomically, and [`Durability`] |
//! | [`record_lock`] | open-file-description locks over a whole file |
//! | [`xattr`] | extended attributes |
//! | [`extents`] | where blocks lie, and files that share theirs |
//! | [`socket`] | Unix sockets that nobody else may connect to |
//! | [`mount`], [`mount_table`] | mounting: overlays, binds, unmounts; what is mounted where |
//! | [`id_mapped`] | mounts that show other owners |
//! | [`quota`] | project quotas |
//! | [`tree`], [`walk`] | copying a directory tree; walking one |
//! | [`entering`], [`program`] | becoming root of a user name space; other programs |
//! | [`userns`] | whether this is root of the machine; name spaces for their maps |
//! | [`memory`] | how the process keeps its memory |
//! | [`fault`] | test hook in every call that changes something |

pub mod btrfs;
pub mod buffer;
pub mod cursor;
pub mod dir;
pub mod entering;
pub mod error;
pub mod extents;
pub mod fault;
pub mod file;
pub mod id_mapped;
pub mod memory;
pub mod mount;
pub mod mount_table;
mod names;
pub mod node;
mod patch;
pub mod program;
pub mod quota;
pub mod record_lock;
pub mod remove;
pub mod replace;
pub mod socket;
pub mod tree;
pub mod userns;
pub mod walk;
pub mod xattr;

pub use buffer::Buffer;
pub use cursor::Cursor;
pub use dir::{Dir, Entry};
pub use error::{Error, is_no_space};
pub use file::{File, FileIdentity};
pub use replace::{Durability, StagedFile};

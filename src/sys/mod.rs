//! The kernel, and the only place where `unsafe` is allowed.
//!
//! Everything here is blocking, knows nothing of stores or images, and reports failures with the
//! verb and the path that they belong to.
//!
//! | File | What |
//! |---|---|
//! | [`dir`] | [`Dir`]: an owned directory; every path is relative to it |
//! | [`mod@file`] | [`File`]: reads, counted writes, syncs |
//! | [`replace`] | replacing a file atomically, and [`Durability`] |
//! | [`record_lock`] | open-file-description locks over a whole file |
//! | [`fault`] | test hook in every call that changes something |

pub mod dir;
pub mod error;
pub mod fault;
pub mod file;
pub mod record_lock;
pub mod replace;

pub use dir::{Dir, Entry};
pub use error::Error;
pub use file::{File, FileIdentity};
pub use replace::Durability;

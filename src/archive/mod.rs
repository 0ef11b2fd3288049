//! Layers as streams: compression, tar archives, and the recipes that rebuild them.
//!
//! | Module | What |
//! |---|---|
//! | [`compression`] | telling formats apart, decoding, encoding |
//! | [`tar`] | reading and writing archives, every byte accounted for |
//! | [`tar_split`] | the recipe from which the exact archive is rebuilt |
//! | [`unpack`] | one pass: archive in, directory and recipe out |
//! | [`mod@inherit`] | what directories are that an archive has no entry for |
//! | [`pack`] | directory in, archive out |
//! | [`retime`] | archive in, the same with other times out |
//! | [`expected`] | what a tree must be after archives were unpacked, and what differs |
//! | [`read_ahead`] | reading, or inflating, on a thread of its own |
//! | [`write_behind`] | compressing on a thread of its own |
//! | [`mod@copy`] | from tree to tree |
//! | [`pipe`] | a stream between one who writes and one who reads |
//! | [`changes`] | what differs between trees, or between a layer and those below |
//! | [`id_shift`] | moving owners between a container's IDs and ours |
//! | [`capability`] | the owner inside file capabilities |
//! | [`override_stat`] | what files are meant to be whose mode and owner are forced |
//! | [`reown`] | copying a tree for other owners |

pub mod capability;
pub mod changes;
pub mod compression;
pub mod copy;
pub mod expected;
pub mod id_shift;
pub mod inherit;
pub mod override_stat;
pub mod pack;
pub mod pipe;
pub mod read_ahead;
pub mod reown;
pub mod retime;
pub mod tar;
pub mod tar_split;
pub mod unpack;
pub mod write_behind;

mod lowers;
mod names;
mod window;

pub use unpack::Whiteouts;

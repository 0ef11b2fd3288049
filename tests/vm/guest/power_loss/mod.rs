//! Loss of power: what a disk has when it forgets what it was not told to keep.
//!
//! In the guest, commands and a plugin work on a store on each of two disks; QEMU records every write and flush of them, and
//! marks among these tell what was asked for and acknowledged ([`record`]). On the host the record is replayed to any
//! moment: what a flush has followed is there, and of the rest nothing or a random part. The file system recovers, and
//! the store must have all that was acknowledged, and nothing half ([`replay`]).

pub mod log;
pub mod mark;
pub mod objects;
pub mod points;
pub mod record;
pub mod replay;

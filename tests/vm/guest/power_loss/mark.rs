//! Marks in the log: what is acknowledged by then, written to the end of the disk, behind the file system.
//!
//! A mark is one write that passes the caches, and asks for no flush: it makes nothing durable.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use super::log::{Entry, Log};
use crate::disk::Kind;
use crate::ledger::Ledger;

/// Of the disk's end, which belongs to no file system.
pub const AREA: u64 = 1 << 20;
/// Of a disk.
pub const SIZE: u64 = 320 << 20;
const BLOCK: usize = 4096;
const MAGIC: &[u8; 16] = b"strata's ledger\0";

/// Writes marks on a disk.
#[derive(Clone, Debug)]
pub struct Marks {
    disk: Arc<File>,
}

impl Marks {
    pub fn on(kind: Kind) -> Self {
        let device = kind.device();
        let disk = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&device)
            .unwrap_or_else(|error| panic!("open {}: {error}", device.display()));
        Self {
            disk: Arc::new(disk),
        }
    }

    pub fn write(&self, text: &[u8]) {
        let length = (MAGIC.len() + 8 + text.len()).next_multiple_of(BLOCK);
        assert!(length as u64 <= AREA / 2, "a mark fits into one request");
        let mut buffer = vec![0; length + BLOCK];
        let start = buffer.as_ptr().align_offset(BLOCK);
        let block = &mut buffer[start..start + length];
        block[..16].copy_from_slice(MAGIC);
        block[16..24].copy_from_slice(&(text.len() as u64).to_le_bytes());
        block[24..24 + text.len()].copy_from_slice(text);
        self.disk
            .write_all_at(block, SIZE - AREA)
            .expect("a mark can be written");
    }
}

/// The ledger that an entry of the log has, if it is a mark.
pub fn read(log: &Log, entry: &Entry) -> Option<Ledger> {
    if entry.offset != SIZE - AREA || entry.length == 0 {
        return None;
    }
    let bytes = log.bytes(entry);
    let rest = bytes.strip_prefix(MAGIC)?;
    let length = u64::from_le_bytes(rest[..8].try_into().expect("8 bytes"));
    let text = &rest[8..8 + usize::try_from(length).expect("a length")];
    Some(serde_json::from_slice(text).expect("a mark is a ledger"))
}

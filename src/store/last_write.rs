//! [`LastWrite`]: the token in a lock file that says who wrote last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sys::dir::random_bytes;
use crate::sys::record_lock::RecordLock;
use crate::sys::{self};

const LEN: usize = 64;

/// The first 64 bytes of a lock file; empty when nobody has written yet. Only equality counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWrite(Vec<u8>);

static COUNT: AtomicU64 = AtomicU64::new(0);

impl LastWrite {
    /// A token that no other write has: time, counter, process, randomness, as Go lays it out.
    pub fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        let process = rustix::process::getpid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs();
        let mut bytes = vec![0; LEN];
        bytes[..8].copy_from_slice(&nanoseconds.to_le_bytes());
        bytes[8..16].copy_from_slice(&count.to_le_bytes());
        bytes[16..20].copy_from_slice(&process.to_le_bytes());
        random_bytes(&mut bytes[20..]);
        Self(bytes)
    }

    /// The token of the last write under this lock.
    ///
    /// # Errors
    /// When the lock file can't be read.
    pub fn read(lock: &RecordLock) -> Result<Self, sys::Error> {
        let mut bytes = vec![0; LEN];
        let read = lock.file().read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(Self(bytes))
    }

    /// Records a write under this lock, held exclusively: always all 64 bytes, as old readers compare
    /// that many.
    ///
    /// # Errors
    /// When the lock file can't be written.
    pub fn stamp(lock: &RecordLock) -> Result<Self, sys::Error> {
        let token = Self::new();
        lock.file().write_at(&token.0, 0)?;
        Ok(token)
    }
}

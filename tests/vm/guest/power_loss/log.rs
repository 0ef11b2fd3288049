//! The log of QEMU's `blklogwrites`: every write and flush of a disk, in the order in which they were asked for.
//!
//! The format is that of the kernel's dm-log-writes: a header, then for each entry a sector that tells what it is, and the
//! sectors that were written.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One request of the guest.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its place on the disk, in bytes.
    pub offset: u64,
    pub length: u64,
    /// Where the log has what was written; `None` for what became zero.
    data: Option<u64>,
    /// What was written before is durable.
    pub is_flush: bool,
    /// This one is durable as soon as it is written.
    pub is_durable: bool,
}

#[derive(Debug)]
pub struct Log {
    file: File,
    pub entries: Vec<Entry>,
}

impl Log {
    /// Reads where everything is.
    ///
    /// # Panics
    /// When it is no such log, or cut off.
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let size = file.metadata().expect("a log has a size").len();
        let mut header = [0; 28];
        file.read_exact_at(&mut header, 0).expect("a log's header");
        assert_eq!(number(&header, 0), MAGIC, "{} is no log", path.display());
        assert_eq!(number(&header, 1), 1, "the version of the log");
        let count = number(&header, 2);
        let sector = u64::from(u32::from_le_bytes(
            header[24..].try_into().expect("4 bytes"),
        ));
        let mut at = sector;
        let mut entries = Vec::new();
        for _ in 0..count {
            let mut head = [0; 32];
            file.read_exact_at(&mut head, at)
                .expect("a log has as many entries as it says");
            at += sector;
            let [place, sectors, flags, _] = [0, 1, 2, 3].map(|field| number(&head, field));
            let length = sectors * sector;
            let is_zero = flags & DISCARD != 0;
            entries.push(Entry {
                offset: place * sector,
                length,
                data: (!is_zero).then_some(at),
                is_flush: flags & FLUSH != 0,
                is_durable: flags & FUA != 0,
            });
            if !is_zero {
                at += length;
            }
        }
        assert!(at <= size, "{} is cut off", path.display());
        Self { file, entries }
    }

    /// What the entry wrote.
    pub fn bytes(&self, entry: &Entry) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(entry.length).expect("a request fits into memory")];
        if let Some(at) = entry.data {
            self.file
                .read_exact_at(&mut bytes, at)
                .expect("the log can be read");
        }
        bytes
    }

    /// The number of the first entry that no flush before the entry `at` has made durable.
    pub fn first_unflushed(&self, at: usize) -> usize {
        let before = self.entries[..at].iter();
        before
            .clone()
            .rposition(|entry| entry.is_flush)
            .unwrap_or(0)
    }
}

fn number(bytes: &[u8], field: usize) -> u64 {
    let bytes = &bytes[field * 8..field * 8 + 8];
    u64::from_le_bytes(bytes.try_into().expect("8 bytes"))
}

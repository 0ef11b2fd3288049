//! Giving a file other contents by writing only what differs.

use super::{Error, File};

/// How much is compared at a time: the memory that it takes, twice.
const WINDOW: usize = 64 * 1024;

/// What is written together, at least: a block of most file systems, and a page.
const BLOCK: usize = 4096;

/// Pieces of bytes, read one after the other.
#[derive(Clone, Copy)]
struct Pieces<'a> {
    rest: &'a [&'a [u8]],
    /// How much of the first one is read.
    at: usize,
}

impl Pieces<'_> {
    /// Shows the next `len` bytes, which must be there, in parts.
    fn take(&mut self, mut len: usize, mut show: impl FnMut(&[u8])) {
        while len > 0 {
            let rest = &self.rest[0][self.at..];
            let part = &rest[..len.min(rest.len())];
            show(part);
            len -= part.len();
            self.at += part.len();
            if part.len() == rest.len() {
                (self.rest, self.at) = (&self.rest[1..], 0);
            }
        }
    }
}

impl File {
    /// Makes `pieces`, one after the other, the whole contents of the file. Blocks that have them already are not
    /// written: of a large file that is nearly right, little is.
    ///
    /// # Errors
    /// When a read, a write or the change of size fails; the contents are then a mixture.
    pub fn patch(&self, pieces: &[&[u8]]) -> Result<(), Error> {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut present = vec![0; len.min(WINDOW)];
        let mut pieces = Pieces {
            rest: pieces,
            at: 0,
        };
        for offset in (0..len).step_by(WINDOW) {
            let size = WINDOW.min(len - offset);
            let there = self.read_at(&mut present[..size], offset as u64)?;
            self.patch_window(&mut pieces, size, &present[..there], offset)?;
        }
        if self.stat()?.st_size.unsigned_abs() > len as u64 {
            self.set_size(len as u64)?;
        }
        Ok(())
    }

    /// Writes the blocks of the next `size` bytes of `pieces`, which belong at `offset`, that are not in `present`.
    fn patch_window(
        &self,
        pieces: &mut Pieces<'_>,
        size: usize,
        present: &[u8],
        offset: usize,
    ) -> Result<(), Error> {
        // Blocks that differ and lie beside each other, and where they end.
        let mut run = Vec::new();
        let write = |run: &mut Vec<u8>, end: usize| {
            let start = offset + end - run.len();
            let written = self.write_at(run, start as u64);
            run.clear();
            written
        };
        for start in (0..size).step_by(BLOCK) {
            let len = BLOCK.min(size - start);
            let mut block = *pieces;
            let mut at = start;
            let mut is_there = true;
            pieces.take(len, |part| {
                let end = at + part.len();
                is_there = is_there && present.get(at..end) == Some(part);
                at = end;
            });
            if !is_there {
                block.take(len, |part| run.extend_from_slice(part));
            } else if !run.is_empty() {
                write(&mut run, start)?;
            }
        }
        if run.is_empty() {
            return Ok(());
        }
        write(&mut run, size)
    }
}

#[cfg(test)]
mod tests {
    use crate::sys::Dir;

    #[test]
    fn a_patched_file_has_exactly_the_new_contents() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let long: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let mut changed = long.clone();
        for at in [0, 4095, 70_000, 131_071, 299_999] {
            changed[at] ^= 1;
        }
        let texts = [
            &b""[..],
            b"x",
            &long,
            &changed,
            &long[..200_001],
            b"short",
            &long,
        ];
        for before in texts {
            for after in texts {
                dir.write_new("file", before, 0o600).unwrap();
                let file = dir.ensure_file("file", 0o600).unwrap();
                let (one, two) = after.split_at(after.len() / 3);
                file.patch(&[one, b"", two]).unwrap();
                assert!(dir.read("file").unwrap() == after);
                dir.remove_file("file").unwrap();
            }
        }
    }
}

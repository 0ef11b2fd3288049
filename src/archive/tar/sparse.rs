//! Where the stored pieces of a sparse file belong.

use super::header::{Block, number};
use super::pax::decimal;

/// Bytes that are stored, by their place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is.
    pub len: u64,
}

/// Makes pieces out of offsets and lengths in turn.
///
/// # Errors
/// When they are not ascending or leave the file of `size` bytes.
pub(super) fn pieces(map: &[i64], size: u64) -> Result<Vec<Piece>, &'static str> {
    let mut pieces = Vec::with_capacity(map.len() / 2);
    let mut end = 0;
    for pair in map.chunks_exact(2) {
        let wrong = |_| "a sparse map has a negative number";
        let piece = Piece {
            offset: u64::try_from(pair[0]).map_err(wrong)?,
            len: u64::try_from(pair[1]).map_err(wrong)?,
        };
        if piece.offset < end || size.saturating_sub(piece.offset) < piece.len {
            return Err("a sparse map does not fit its file");
        }
        end = piece.offset + piece.len;
        pieces.push(piece);
    }
    Ok(pieces)
}

/// The sparse entries of an old GNU header or of its extension blocks; the end is an empty offset.
///
/// True when another extension block follows.
pub(super) fn old_gnu(
    block: &Block,
    is_extension: bool,
    map: &mut Vec<i64>,
) -> Result<bool, &'static str> {
    let (entries, extended) = if is_extension {
        (&block[..504], block[504])
    } else {
        (&block[386..482], block[482])
    };
    for entry in entries.chunks_exact(24) {
        if entry[0] == 0 {
            break;
        }
        for field in [&entry[..12], &entry[12..]] {
            map.push(number(field).ok_or("a number of a sparse map can't be read")?);
        }
    }
    Ok(extended > 0)
}

/// The real size in an old GNU header.
pub(super) fn old_gnu_size(block: &Block) -> Option<u64> {
    u64::try_from(number(&block[483..495])?).ok()
}

/// Collects the map of a PAX 1.0 sparse file, which comes in blocks before its data: a count, then offsets
/// and lengths, each a decimal line.
#[derive(Debug, Default)]
pub(super) struct TextMap {
    line: Vec<u8>,
    count: Option<usize>,
    numbers: Vec<i64>,
}

impl TextMap {
    /// Takes a block; true when the map is complete.
    pub(super) fn block(&mut self, block: &Block) -> Result<bool, &'static str> {
        for byte in block {
            if self.is_complete() {
                break;
            }
            if *byte != b'\n' {
                if self.line.len() > 20 {
                    return Err("a number of a sparse map is too long");
                }
                self.line.push(*byte);
                continue;
            }
            let number = decimal(&self.line)
                .filter(|number| *number >= 0)
                .ok_or("a number of a sparse map can't be read")?;
            self.line.clear();
            match self.count {
                None => {
                    let count = usize::try_from(number).ok().and_then(|n| n.checked_mul(2));
                    self.count = Some(count.ok_or("a sparse map is too long")?);
                }
                Some(_) => self.numbers.push(number),
            }
        }
        Ok(self.is_complete())
    }

    fn is_complete(&self) -> bool {
        self.count.is_some_and(|count| self.numbers.len() >= count)
    }

    pub(super) fn numbers(self) -> Vec<i64> {
        self.numbers
    }
}

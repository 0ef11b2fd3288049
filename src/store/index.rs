//! [`Index`]: which rows of a table have a text.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Row numbers by the hash of a text. The texts stay in the rows: whoever asks says which row has it.
#[derive(Clone, Debug)]
pub struct Index {
    entries: HashTable<Entry>,
    seed: u64,
}

/// The hash of a text, for one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u32);

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: Hash,
    row: u32,
}

/// An odd number whose bits look random: the fraction of the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hash {
    /// All 64 bits that the table wants.
    fn spread(self) -> u64 {
        u64::from(self.0).wrapping_mul(SPREAD)
    }
}

/// Multiplies, and folds the high half of the product into the low one.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Default for Index {
    fn default() -> Self {
        Self {
            entries: HashTable::new(),
            seed: RandomState::new().hash_one(SPREAD),
        }
    }
}

impl Index {
    /// The hash of `text`.
    pub fn hash(&self, text: &str) -> Hash {
        let (words, rest) = text.as_bytes().as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let mut hash = fold(self.seed ^ text.len() as u64, SPREAD);
        for word in words.iter().chain(std::iter::once(&last)) {
            hash = fold(hash ^ u64::from_le_bytes(*word), SPREAD);
        }
        Hash((hash >> 32) as u32)
    }

    /// Makes room for `count` texts more.
    pub fn reserve(&mut self, count: usize) {
        self.entries.reserve(count, |entry| entry.hash.spread());
    }

    /// Notes that row number `row` has a text of this hash.
    pub fn insert(&mut self, hash: Hash, row: u32) {
        let entry = Entry { hash, row };
        self.entries
            .insert_unique(hash.spread(), entry, |entry| entry.hash.spread());
    }

    /// Forgets that row number `row` has a text of this hash.
    pub fn remove(&mut self, hash: Hash, row: u32) {
        let is_it = |entry: &Entry| entry.hash == hash && entry.row == row;
        if let Ok(entry) = self.entries.find_entry(hash.spread(), is_it) {
            entry.remove();
        }
    }

    /// A row that has a text of this hash, and that has the very text as `has_it` says.
    pub fn find(&self, hash: Hash, has_it: impl Fn(u32) -> bool) -> Option<u32> {
        let is_it = |entry: &Entry| entry.hash == hash && has_it(entry.row);
        Some(self.entries.find(hash.spread(), is_it)?.row)
    }
}

//! Names of archive members: cleaned, confined, and remembered in little room.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Brings `name` below the root: no leading slash, no empty part, no `.`; `..` ends at the root.
///
/// The root itself is the empty name.
pub(crate) fn confine(name: &[u8]) -> Vec<u8> {
    let mut confined = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let end = confined.iter().rposition(|byte| *byte == b'/');
                confined.truncate(end.unwrap_or(0));
            }
            part => {
                if !confined.is_empty() {
                    confined.push(b'/');
                }
                confined.extend_from_slice(part);
            }
        }
    }
    confined
}

/// Splits a confined name into its parent and its last part.
pub(crate) fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (&[], name),
    }
}

/// The name of `last` in `parent`, which may be the root.
pub(crate) fn join(parent: &[u8], last: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(parent.len() + 1 + last.len());
    name.extend_from_slice(parent);
    if !name.is_empty() {
        name.push(b'/');
    }
    name.extend_from_slice(last);
    name
}

/// A set of names that keeps 16 bytes of each.
///
/// Two keyed 64-bit hashes stand for a name: who makes the names does not know the keys, and two of
/// them meet by chance in fewer than one of 10^18 sets of ten million.
#[derive(Debug, Default)]
pub(crate) struct NameSet {
    hashes: HashSet<(u64, u64)>,
    first: RandomState,
    second: RandomState,
}

impl NameSet {
    fn hash(&self, name: &[u8]) -> (u64, u64) {
        (self.first.hash_one(name), self.second.hash_one(name))
    }

    /// Adds `name`; false when it was there.
    pub(crate) fn insert(&mut self, name: &[u8]) -> bool {
        let hash = self.hash(name);
        self.hashes.insert(hash)
    }

    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.hashes.contains(&self.hash(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_below_the_root() {
        for (name, confined) in [
            ("./", ""),
            ("", ""),
            ("/", ""),
            ("..", ""),
            ("../../x", "x"),
            ("/etc/passwd", "etc/passwd"),
            ("a//b/./c/", "a/b/c"),
            ("a/../../b", "b"),
            ("a/b/..", "a"),
            ("...", "..."),
        ] {
            assert_eq!(confine(name.as_bytes()), confined.as_bytes(), "{name}");
        }
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"c"), (&b""[..], &b"c"[..]));
    }
}

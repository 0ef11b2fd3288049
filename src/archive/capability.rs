//! File capabilities that belong to the root of a container: the attribute `security.capability`.
//!
//! Version 2 has no owner: it holds for every root. Version 3 ends with the user ID of the root that it holds for, as
//! this name space sees it, and so moves with the owners of a tree.

/// The attribute.
pub const KEY: &[u8] = b"security.capability";

const REVISION: u32 = 0xff00_0000;
const VERSION_2: u32 = 0x0200_0000;
const VERSION_3: u32 = 0x0300_0000;
const LEN_2: usize = 20;
const LEN_3: usize = 24;

fn number(value: &[u8], at: usize) -> Option<u32> {
    let bytes = value.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Moves the root that a value holds for. What is no version 3, or has no place where it moves to, stays as it is.
/// With `root_is_any`, what comes to hold for user 0 becomes a version 2.
pub fn shift(value: Vec<u8>, root_is_any: bool, user: impl FnOnce(u32) -> Option<u32>) -> Vec<u8> {
    let Some(magic) = number(&value, 0) else {
        return value;
    };
    if value.len() != LEN_3 || magic & REVISION != VERSION_3 {
        return value;
    }
    let Some(root) = number(&value, LEN_2).and_then(user) else {
        return value;
    };
    let mut moved = value;
    if root == 0 && root_is_any {
        moved.truncate(LEN_2);
        moved[..4].copy_from_slice(&(magic & !REVISION | VERSION_2).to_le_bytes());
    } else {
        moved[LEN_2..].copy_from_slice(&root.to_le_bytes());
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(version: u32, root: Option<u32>) -> Vec<u8> {
        let mut value = (version | 1).to_le_bytes().to_vec();
        value.extend([7; 16]);
        value.extend(root.into_iter().flat_map(u32::to_le_bytes));
        value
    }

    #[test]
    fn only_the_root_of_version_3_moves() {
        let out = |id: u32| id.checked_sub(100_000);
        let plain = value(VERSION_2, None);
        assert_eq!(shift(plain.clone(), true, out), plain);
        let theirs = value(VERSION_3, Some(100_005));
        assert_eq!(shift(theirs, true, out), value(VERSION_3, Some(5)));
        let own = value(VERSION_3, Some(100_000));
        assert_eq!(shift(own.clone(), true, out), plain);
        assert_eq!(shift(own, false, out), value(VERSION_3, Some(0)));
        let strange = value(VERSION_3, Some(7));
        assert_eq!(shift(strange.clone(), true, out), strange);
        assert_eq!(shift(vec![1, 2], true, out), [1, 2]);
    }
}

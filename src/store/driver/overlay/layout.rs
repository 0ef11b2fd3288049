//! The files of a layer in the overlay home, all of which both generations of peers need.
//!
//! ```text
//! <home>/l/<short>           -> ../<id>/diff
//! <home>/<id>/diff/          the layer's own contents, the overlay's upper directory
//! <home>/<id>/diff1/         of a layer that could not share what is below, as its owners are others: a copy of that
//! <home>/<id>/link           the short name, 26 characters
//! <home>/<id>/lower          l/<short> of each layer below, nearest first, colon-joined
//! <home>/<id>/lower-layers   the IDs of the same layers in the same order
//! <home>/<id>/work/          the overlay's work directory
//! <home>/<id>/merged/        where it is mounted
//! <home>/<id>/empty/         the only lower of a layer without parent
//! <home>/<id>/mapped/<n>/    while it is being mounted: what is below, with other owners
//! <home>/<id>/composefs-data/  of a peer with `use_composefs`: such a layer is refused
//! ```

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::store::driver::DriverError;
use crate::store::id;
use crate::sys::dir::random_bytes;
use crate::sys::{self, Dir, Durability};

/// The folder of short links.
pub const LINKS: &str = "l";
/// A layer's own contents.
pub const DIFF: &str = "diff";
/// What a layer's own contents lie over when the layers below had other owners.
pub const OLD_DIFF: &str = "diff1";
/// What a peer's layer has whose `diff` holds files by the names of their contents, and what is in it a composefs.
pub const COMPOSEFS: &str = "composefs-data";
/// Where older kernels need the mounts that show other owners.
pub const MAPPED: &str = "mapped";
/// The layer's short name.
pub const LINK: &str = "link";
/// Short links of the layers below.
pub const LOWER: &str = "lower";
/// IDs of the layers below.
pub const LOWER_LAYERS: &str = "lower-layers";
/// The overlay's scratch.
pub const WORK: &str = "work";
/// Where a layer is mounted.
pub const MERGED: &str = "merged";
/// What a layer without parent stands on.
pub const EMPTY: &str = "empty";

/// Names in the home that are no layers.
const NO_LAYERS: [&str; 4] = [LINKS, "staging", "tempdirs", "backingFsBlockDev"];

/// Peers try out what the kernel can in directories of these names, followed by digits, and may leave them behind.
const PROBES: [&str; 4] = [
    "compat",
    "opaque-bug-check",
    "metacopy-check",
    "volatile-check",
];

/// True for a directory in which peers try out what the kernel can.
pub fn is_probe(name: &str) -> bool {
    PROBES.iter().any(|probe| {
        name.strip_prefix(probe)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// True for what may be the ID of a layer: one safe name that nothing else in the home has, and none that would fall
/// apart in a list.
pub fn is_layer_name(name: &str) -> bool {
    id::is_safe(name)
        && !is_probe(name)
        && !NO_LAYERS.contains(&name)
        && !name.starts_with('.')
        && !name.contains([':', '\n'])
}

const SHORT_LEN: usize = 26;

/// A new short name: 17 random bytes in base32, cut to 26 characters.
pub fn new_short_name() -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = [0; SHORT_LEN];
    random_bytes(&mut bytes);
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

/// True for a well-formed short name. Anything else, an empty file after a loss of power above all, is
/// never made a path of: `l/` itself would be removed.
pub fn is_short_name(name: &str) -> bool {
    name.len() == SHORT_LEN
        && name
            .bytes()
            .all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
}

/// Reads one of a layer's small files, most of them with one call.
fn find(layer: &Dir, name: &str) -> Result<Option<Vec<u8>>, sys::Error> {
    let Some(mut file) = layer.find_file(name)? else {
        return Ok(None);
    };
    let mut bytes = vec![0; 4096];
    let read = file
        .read(&mut bytes)
        .map_err(|error| sys::Error::new("read", file.path(), error))?;
    bytes.truncate(read);
    if read == 4096 {
        bytes.extend(file.read_all()?);
    }
    Ok(Some(bytes))
}

/// The short name of the layer whose directory this is; `None` when its file is missing or damaged.
///
/// # Errors
/// When the file can't be read.
pub fn short_name(layer: &Dir) -> Result<Option<String>, sys::Error> {
    let Some(bytes) = find(layer, LINK)? else {
        return Ok(None);
    };
    Ok(String::from_utf8(bytes)
        .ok()
        .filter(|name| is_short_name(name)))
}

/// The IDs in `lower-layers`; `None` when the file is missing, empty or malformed.
///
/// # Errors
/// When the file can't be read.
pub fn lower_layers(layer: &Dir) -> Result<Option<Vec<String>>, sys::Error> {
    let Some(bytes) = find(layer, LOWER_LAYERS)? else {
        return Ok(None);
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(None);
    };
    let ids: Vec<String> = text.split(':').map(str::to_owned).collect();
    Ok(ids.iter().all(|id| is_layer_name(id)).then_some(ids))
}

/// The short names in `lower`; `None` when the file is missing, empty or malformed.
///
/// # Errors
/// When the file can't be read.
pub fn lower_short_names(layer: &Dir) -> Result<Option<Vec<String>>, sys::Error> {
    let Some(bytes) = find(layer, LOWER)? else {
        return Ok(None);
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(None);
    };
    Ok(text
        .split(':')
        .map(|entry| {
            let name = entry.strip_prefix("l/")?;
            is_short_name(name).then(|| name.to_owned())
        })
        .collect())
}

/// The ID of the layer that a short link points at; `None` when the link is lost or strange.
///
/// # Errors
/// When the link can't be read.
pub fn follow(home: &Dir, short: &str) -> Result<Option<String>, sys::Error> {
    let Some(target) = home.find_link(Path::new(LINKS).join(short))? else {
        return Ok(None);
    };
    Ok(target
        .to_str()
        .and_then(|target| target.strip_prefix("../"))
        .and_then(|target| target.strip_suffix("/diff"))
        .filter(|id| is_layer_name(id))
        .map(str::to_owned))
}

/// What the short link of a layer points at.
pub fn target(id: &str) -> PathBuf {
    [Path::new(".."), Path::new(id), Path::new(DIFF)]
        .iter()
        .collect()
}

/// Replaces one of a layer's small files by a durable one that peers of any user can read, as their own.
///
/// # Errors
/// When it can't be written; the old one is then still there.
pub fn replace(layer: &Dir, name: &str, text: &str) -> Result<(), sys::Error> {
    layer.replace(name, text.as_bytes(), Durability::Durable)?;
    layer.set_mode_of(name, 0o644)
}

/// Says what is wrong with a layer.
pub fn damaged(id: &str, reason: impl Into<String>) -> DriverError {
    DriverError::Damaged {
        id: id.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_short_names_become_paths() {
        assert!(is_short_name(&new_short_name()));
        for bad in [
            "",
            "..",
            "ABCDEFGHIJKLMNOPQRSTUVWXY",
            "abcdefghijklmnopqrstuvwxyz",
        ] {
            assert!(!is_short_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_else_is_in_the_home_is_no_layer() {
        for bad in [
            "l", "staging", "compat", "compat12", ".hidden", "a:b", "a/b", "",
        ] {
            assert!(!is_layer_name(bad), "{bad:?}");
        }
        for good in ["compatible", "ll", &id::random()] {
            assert!(is_layer_name(good), "{good:?}");
        }
    }

    #[test]
    fn damaged_lists_of_lowers_are_no_lists() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        assert_eq!(lower_layers(&dir).unwrap(), None);
        for bad in ["", "a:", "a\n", "../x", "a::b"] {
            std::fs::write(folder.path().join(LOWER_LAYERS), bad).unwrap();
            assert_eq!(lower_layers(&dir).unwrap(), None, "{bad:?}");
        }
        std::fs::write(folder.path().join(LOWER_LAYERS), "a:b").unwrap();
        assert_eq!(lower_layers(&dir).unwrap().unwrap(), ["a", "b"]);
    }
}

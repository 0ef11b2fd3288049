//! Where the guest's folders are.

use std::path::{Path, PathBuf};

/// The guest's `path`: as it is, or below `STRATA_GUEST_ROOT` where something plays the guest on the host.
pub fn at(path: &str) -> PathBuf {
    let path = Path::new(path);
    match std::env::var_os("STRATA_GUEST_ROOT") {
        Some(root) => Path::new(&root).join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

//! Whose certificates a registry may have: the folders in which the containers tools keep them.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::grammar::Given;
use crate::sys::{self, Dir};

/// Where the containers tools and Docker look, below which each registry has a folder.
const FOLDERS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The authorities for `host`, in PEM form: those of the folder that was named, else of the usual ones.
///
/// # Errors
/// When a folder that was named is missing, or a file can't be read.
pub(super) fn of(given: &Given, host: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let read = |folder: &Path| read(folder).map_err(|error| Failure::because(&error));
    if let Some(folder) = given.filled("cert-dir") {
        return read(Path::new(folder));
    }
    let mut all = Vec::new();
    for folder in FOLDERS {
        let folder: PathBuf = [folder, host].iter().collect();
        if sys::mount::place(&folder)
            .map_err(|error| Failure::because(&error))?
            .is_some()
        {
            all.extend(read(&folder)?);
        }
    }
    Ok(all)
}

/// The files `*.crt` of a folder. Certificates of clients (`*.cert`, `*.key`) are not used.
fn read(folder: &Path) -> Result<Vec<Vec<u8>>, sys::Error> {
    let folder = Dir::open(folder)?;
    let mut names: Vec<_> = folder
        .list()?
        .into_iter()
        .map(|entry| PathBuf::from(entry.name))
        .filter(|name| name.extension().is_some_and(|extension| extension == "crt"))
        .collect();
    names.sort();
    names.iter().map(|name| folder.read(name)).collect()
}

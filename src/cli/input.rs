//! Files that the user names for contents, metadata and data items.

use std::io::{self, Read};

use super::definition::Flag;
use super::failure::Failure;
use super::grammar::Given;
use crate::sys::File;

/// The flag that names a file to read.
pub const FILE: &[Flag] = &[Flag::value(
    "file",
    Some('f'),
    "Read from a file instead of stdin",
)];

/// The flags that give metadata.
pub const METADATA: &[Flag] = &[
    Flag::value("metadata", Some('m'), "Metadata"),
    Flag::value("metadata-file", Some('f'), "File with the metadata"),
];

/// The contents of the file that `--file` names, or stdin.
///
/// # Errors
/// When the file can't be opened.
pub fn open(given: &Given) -> Result<Box<dyn Read + Send>, Failure> {
    match given.filled("file") {
        Some(path) => Ok(Box::new(File::open(path)?)),
        None => Ok(Box::new(io::stdin())),
    }
}

/// All of the contents of the file that `--file` names, or of stdin.
///
/// # Errors
/// When it can't be read.
pub fn read(given: &Given) -> Result<Vec<u8>, Failure> {
    match given.filled("file") {
        Some(path) => Ok(File::open(path)?.read_all()?),
        None => {
            let mut bytes = Vec::new();
            io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|error| Failure::new("read stdin").caused_by(&error))?;
            Ok(bytes)
        }
    }
}

/// The text that `--metadata-file` or else `--metadata` gives; empty without.
///
/// # Errors
/// When the file can't be read or is not UTF-8.
pub fn metadata(given: &Given) -> Result<String, Failure> {
    let Some(path) = given.filled("metadata-file") else {
        return Ok(given.text("metadata").unwrap_or_default().to_owned());
    };
    let bytes = File::open(path)?.read_all()?;
    String::from_utf8(bytes).map_err(|_| Failure::new(format!("{path} is not valid UTF-8")))
}

//! `dedup`: equal files of images share their blocks.

use serde::Serialize;

use super::definition::{Definition, Flag, Run};
use super::failure::{FAILED, Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use crate::store::Store;
use crate::store::dedup::Likeness;

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[Definition::peer(
    "dedup",
    "Let equal files of all images share their blocks",
    Run::InStore(run),
)
.flags(&[
    &[Flag::value(
        "hash-method",
        None,
        "How equal files are found: crc, size or sha256 (default crc)",
    )],
    output::JSON,
])];

/// What came of it, in the peer's JSON.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(rename = "Deduped")]
    bytes: u64,
}

fn run(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let likeness = match given.text("hash-method") {
        None | Some("crc") => Likeness::Checksum,
        Some("size") => Likeness::Size,
        Some("sha256") => Likeness::Sha256,
        Some(other) => return Err(Failure::new(format!("invalid hash method: {other}"))),
    };
    match store.dedup(likeness) {
        Ok(bytes) if given.has("json") => output.json(&Printed { bytes })?,
        Ok(bytes) => output.line(format_args!("Deduplicated {bytes} bytes"))?,
        Err(_) if given.has("json") => {
            // Go's errors have no fields that would be printed.
            output.line("{}")?;
            return Ok(FAILED);
        }
        Err(error) => {
            return Err(Failure::new(format!(
                "dedup: {}",
                Failure::from(error).text()
            )));
        }
    }
    Ok(0)
}

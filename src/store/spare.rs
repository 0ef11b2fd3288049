//! Spare files: room set aside so that a full disk never stops a delete.
//!
//! Beside each record file lies a preallocated one. When the disk is full, the new contents are
//! written into the spare in place, synced, and renamed over the record file; the spare is refilled
//! from the blocks that the old file gave back. A ballast file that is released when needed does not
//! do: a writing pod takes the room first.

use std::path::Path;

use crate::sys::{Dir, Durability, Error, FileIdentity};

/// Spares grow in steps of this many bytes, and are at least that much larger than their file.
const STEP: u64 = 128 * 1024;

fn wanted(len: usize) -> u64 {
    (len as u64 * 3 / 2).div_ceil(STEP) * STEP + STEP
}

/// Replaces `name` in `dir` as [`Dir::replace`] does; on a full disk through the spare in `spares`.
///
/// # Errors
/// When neither way works; the old file is then untouched.
pub fn replace(
    dir: &Dir,
    name: &str,
    contents: &[u8],
    durability: Durability,
    spares: &Dir,
) -> Result<FileIdentity, Error> {
    match dir.replace(name, contents, durability) {
        Err(error) if error.is_no_space() => {
            let identity = replace_through_spare(dir, name, contents, durability, spares, error)?;
            refill(name, contents.len(), spares);
            Ok(identity)
        }
        result => result,
    }
}

fn replace_through_spare(
    dir: &Dir,
    name: &str,
    contents: &[u8],
    durability: Durability,
    spares: &Dir,
    full: Error,
) -> Result<FileIdentity, Error> {
    let Some(stat) = spares.stat(name)? else {
        return Err(full);
    };
    if stat.st_size.unsigned_abs() < contents.len() as u64 {
        return Err(full);
    }
    let file = spares.ensure_file(name, 0o600)?;
    file.write_at(contents, 0)?;
    file.set_size(contents.len() as u64)?;
    if durability != Durability::None {
        file.sync_data()?;
    }
    let identity = file.identity()?;
    spares.rename(name, dir, name)?;
    if durability == Durability::Durable {
        dir.sync()?;
    }
    Ok(identity)
}

/// Makes sure, after a save of `len` bytes, that the spare is large enough for what the file may become.
pub fn keep(name: &str, len: usize, spares: &Dir) {
    let size = match spares.stat(Path::new(name)) {
        Ok(Some(stat)) => stat.st_size.unsigned_abs(),
        _ => 0,
    };
    // Refilled a step early, so that a growing file costs an allocation only now and then.
    if size < len as u64 + STEP / 2 {
        refill(name, len, spares);
    }
}

/// Allocates the spare anew. A failure is only logged: the disk is full, and the change itself is
/// saved.
fn refill(name: &str, len: usize, spares: &Dir) {
    let filled = spares
        .ensure_file(name, 0o600)
        .and_then(|file| file.allocate(wanted(len)));
    if let Err(error) = filled {
        tracing::warn!(file = name, %error, "no room is set aside for a full disk");
        // What was allocated of a larger size would be trusted as room that isn't there.
        if let Err(error) = spares.remove_file_if_found(name) {
            tracing::warn!(file = name, %error, "the incomplete spare file stays");
        }
    }
}

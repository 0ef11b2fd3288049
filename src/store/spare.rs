//! Spare files: room set aside so that a full disk never stops a delete.
//!
//! Beside each record file lies a preallocated one. When the disk is full, the new contents are
//! written into the spare in place, synced, and the two change names: the old file is the new spare.
//! Its blocks are never free, so that no writing pod can take them, and what a deletion leaves is
//! smaller and fits. (A ballast file that is released when needed does not do: the pod is faster.)

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
    contents: &[&[u8]],
    durability: Durability,
    spares: &Dir,
) -> Result<FileIdentity, Error> {
    let staged = dir.stage_file(name, contents);
    match staged.and_then(|staged| staged.publish(name, durability)) {
        Err(error) if error.is_no_space() => {
            replace_through_spare(dir, name, contents, durability, spares, error)
        }
        result => result,
    }
}

fn replace_through_spare(
    dir: &Dir,
    name: &str,
    contents: &[&[u8]],
    durability: Durability,
    spares: &Dir,
    full: Error,
) -> Result<FileIdentity, Error> {
    let Some(stat) = spares.stat(name)? else {
        return Err(full);
    };
    let contents = contents.concat();
    if stat.st_size.unsigned_abs() < contents.len() as u64 {
        return Err(full);
    }
    let file = spares.ensure_file(name, 0o600)?;
    file.write_at(&contents, 0)?;
    file.set_size(contents.len() as u64)?;
    if durability != Durability::None {
        file.sync_data()?;
    }
    let identity = file.identity()?;
    match spares.exchange(name, dir, name) {
        // No record file yet, or a file system that can't exchange.
        Err(error) if error.is_not_found() || error.errno() == Some(libc::EINVAL) => {
            spares.rename(name, dir, name)?;
        }
        result => result?,
    }
    if durability != Durability::None {
        // The spare is overwritten in place: the disk must not know it as the record file by then.
        dir.sync()?;
    }
    Ok(identity)
}

/// Makes sure, after a save of `len` bytes, that the spare is large enough for what the file may become.
pub fn keep(name: &str, len: usize, spares: &Dir) {
    let size = match spares.stat(name) {
        Ok(Some(stat)) => stat.st_size.unsigned_abs(),
        _ => 0,
    };
    // Refilled a step early, so that a growing file costs an allocation only now and then.
    if size < len as u64 + STEP / 2 {
        refill(name, len, spares);
    }
}

/// Enlarges the spare. A failure is only logged: the disk is full, and the change itself is saved. What
/// the spare has by then is kept; its size never exceeds what is allocated.
fn refill(name: &str, len: usize, spares: &Dir) {
    let filled = spares
        .ensure_file(name, 0o600)
        .and_then(|file| file.allocate(wanted(len)));
    if let Err(error) = filled {
        tracing::warn!(file = name, %error, "little room is set aside for a full disk");
    }
}

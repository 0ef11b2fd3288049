//! What members are meant to be, where modes and owners are forced.

use rustix::fs::FileType;

use super::{Options, UnpackError, attributes};
use crate::archive::override_stat::OverrideStat;
use crate::archive::tar::{Entry, Kind};

/// What the archive says of a member whose mode and owner are forced; nothing where none are, nor of links: a symbolic
/// one can't carry it, and of a hard link the first name's header counts.
pub(super) fn meant(options: &Options, entry: &Entry) -> Result<Option<OverrideStat>, UnpackError> {
    if options.force_mask.is_none() || matches!(entry.kind, Kind::Symlink | Kind::HardLink) {
        return Ok(None);
    }
    let (uid, gid) = attributes::owner(options, entry)?;
    let mut meant = OverrideStat {
        uid,
        gid,
        mode: entry.mode & 0o7777,
        file_type: file_type(entry.kind),
        device: (0, 0),
    };
    if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
        meant.device = device(entry)?;
    }
    Ok(Some(meant))
}

/// What a member becomes.
pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Regular | Kind::HardLink | Kind::GlobalHeader | Kind::Other(_) => {
            FileType::RegularFile
        }
    }
}

/// The numbers of a device.
pub(super) fn device(entry: &Entry) -> Result<(u32, u32), UnpackError> {
    let forbidden = |reason| UnpackError::Forbidden {
        name: entry.name.clone(),
        reason,
    };
    let number = |number: i64| {
        u32::try_from(number).map_err(|_| forbidden("the device number does not fit"))
    };
    let device = (number(entry.device.0)?, number(entry.device.1)?);
    if entry.kind == Kind::CharDevice && device == (0, 0) {
        return Err(forbidden("a 0/0 character device is overlay's whiteout"));
    }
    Ok(device)
}

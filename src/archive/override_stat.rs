//! The attribute `user.containers.override_stat`: what an inode is meant to be, where the disk must not say so.
//!
//! With the option `force_mask` all files and directories of a layer have one mode and one owner, and devices and pipes
//! are empty files, so that others who may only read can share a store. The truth is `UID:GID:MODE:TYPE` in this
//! attribute, the owner as outside of the container. A mount program shows it; links have none, as the kernel gives them
//! no such attributes.

use std::ffi::OsStr;

use rustix::fs::{FileType, Stat, major, makedev, minor};

use super::id_shift::Shift;
use crate::sys::{Dir, Error, tree};

/// The attribute.
pub const KEY: &[u8] = b"user.containers.override_stat";

/// What an inode is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideStat {
    /// The user that owns it, outside of the container.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Permissions, set-id bits and the sticky bit.
    pub mode: u32,
    /// What it is; where the attribute does not say, an unknown.
    pub file_type: FileType,
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

impl OverrideStat {
    /// What `stat` says.
    pub fn of(stat: &Stat) -> Self {
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let is_device = matches!(file_type, FileType::CharacterDevice | FileType::BlockDevice);
        Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            file_type,
            device: match is_device {
                true => (major(stat.st_rdev), minor(stat.st_rdev)),
                false => (0, 0),
            },
        }
    }

    /// A directory.
    pub fn directory(owner: (u32, u32), mode: u32) -> Self {
        Self {
            uid: owner.0,
            gid: owner.1,
            mode: mode & 0o7777,
            file_type: FileType::Directory,
            device: (0, 0),
        }
    }

    /// The text of the attribute.
    pub fn to_value(self) -> Vec<u8> {
        let (major, minor) = self.device;
        let kind = match self.file_type {
            FileType::Directory => "dir".to_owned(),
            FileType::Symlink => "symlink".to_owned(),
            FileType::Fifo => "pipe".to_owned(),
            FileType::Socket => "socket".to_owned(),
            FileType::BlockDevice => format!("block-{major}-{minor}"),
            FileType::CharacterDevice => format!("char-{major}-{minor}"),
            FileType::RegularFile | FileType::Unknown => "file".to_owned(),
        };
        let Self { uid, gid, mode, .. } = self;
        format!("{uid}:{gid}:{mode:04o}:{kind}").into_bytes()
    }

    /// Reads the text of the attribute; `None` when it makes no sense. What follows the known parts is passed over, as
    /// peers do.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = str::from_utf8(value).ok()?.split(':');
        let uid = parts.next()?.parse().ok()?;
        let gid = parts.next()?.parse().ok()?;
        let mode = u32::from_str_radix(parts.next()?, 8).ok()? & 0o7777;
        let kind = parts.next();
        let mut device = (0, 0);
        let file_type = match kind.unwrap_or_default() {
            "" => FileType::Unknown,
            kind if kind.starts_with("file") => FileType::RegularFile,
            kind if kind.starts_with("dir") => FileType::Directory,
            kind if kind.starts_with("symlink") => FileType::Symlink,
            kind if kind.starts_with("pipe") => FileType::Fifo,
            kind if kind.starts_with("socket") => FileType::Socket,
            kind => {
                let mut parts = kind.split('-');
                let file_type = match parts.next()? {
                    "block" => FileType::BlockDevice,
                    "char" => FileType::CharacterDevice,
                    _ => return None,
                };
                device = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                file_type
            }
        };
        Some(Self {
            uid,
            gid,
            mode,
            file_type,
            device,
        })
    }

    /// The same for a container whose owners are elsewhere.
    #[must_use]
    pub fn shifted(self, shift: &Shift) -> Self {
        Self {
            uid: shift.user(self.uid),
            gid: shift.group(self.gid),
            ..self
        }
    }

    /// What `stat` would say of it. Only an empty file stands for something else than it is.
    fn apply(self, stat: Stat) -> Stat {
        let own = stat.st_mode & libc::S_IFMT;
        let stands_in = matches!(
            self.file_type,
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice
        );
        let file_type = match FileType::from_raw_mode(own) {
            FileType::RegularFile if stands_in && stat.st_size == 0 => self.file_type,
            own => own,
        };
        let mut seen = stat;
        seen.st_uid = self.uid;
        seen.st_gid = self.gid;
        seen.st_mode = file_type.as_raw_mode() | self.mode;
        if self.device != (0, 0) {
            seen.st_rdev = makedev(self.device.0, self.device.1);
        }
        seen
    }
}

/// What `name`, of which the disk says `stat`, is meant to be; of the directory itself when it is `""`.
///
/// # Errors
/// When the kernel refuses.
pub fn meant(dir: &Dir, name: &OsStr, stat: Stat) -> Result<Stat, Error> {
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Ok(stat);
    }
    let value = dir.attribute(name, KEY)?;
    let found = value.as_deref().and_then(OverrideStat::parse);
    Ok(found.map_or(stat, |found| found.apply(stat)))
}

/// Gives `name` of `to` what `name` of `from` has, of which the disk says `stat`: attributes and times as they are,
/// the mode `mask`, and what it is meant to be, with the owners shifted, as an attribute. Of the directories themselves
/// when it is `""`. Attributes that `leaves_out` names stay where they are.
///
/// # Errors
/// When something can't be read or set.
pub fn describe(
    from: &Dir,
    to: &Dir,
    name: &OsStr,
    stat: &Stat,
    (mask, shift): (u32, &Shift),
    leaves_out: impl Fn(&[u8]) -> bool,
) -> Result<(), Error> {
    let meant = OverrideStat::of(&meant(from, name, *stat)?).shifted(shift);
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    if !is_link {
        to.set_attribute(name, KEY, &meant.to_value())?;
    }
    let mut forced = *stat;
    forced.st_mode = stat.st_mode & libc::S_IFMT | mask;
    tree::describe(from, to, name, &forced, |key, value| {
        (key != KEY && !leaves_out(key)).then(|| shift.attribute(key, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_it_was_written() {
        for (text, file_type, device) in [
            ("0:0:0755:dir", FileType::Directory, (0, 0)),
            ("1:2:4711:file", FileType::RegularFile, (0, 0)),
            ("1:2:0644:pipe", FileType::Fifo, (0, 0)),
            ("1:2:0660:block-8-1", FileType::BlockDevice, (8, 1)),
            ("1:2:0666:char-1-3", FileType::CharacterDevice, (1, 3)),
            ("1:2:0777:symlink", FileType::Symlink, (0, 0)),
            ("1:2:0600:socket", FileType::Socket, (0, 0)),
        ] {
            let read = OverrideStat::parse(text.as_bytes()).unwrap();
            assert_eq!((read.file_type, read.device), (file_type, device));
            assert_eq!(read.to_value(), text.as_bytes());
        }
        let short = OverrideStat::parse(b"7:8:755").unwrap();
        assert_eq!((short.uid, short.gid, short.mode), (7, 8, 0o755));
        assert_eq!(short.file_type, FileType::Unknown);
        assert!(OverrideStat::parse(b"1:2:0644:file:later").is_some());
        for text in [
            &b""[..],
            b"1:2",
            b"-1:0:0:dir",
            b"0:0:9:dir",
            b"0:0:0755:door",
            b"0:0:0:char-1",
            b"0:0:0:\xff",
        ] {
            assert_eq!(OverrideStat::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_an_empty_file_stands_for_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        for (name, contents) in [("empty", &b""[..]), ("full", b"x")] {
            dir.write_new(name, contents, 0o755).unwrap();
            dir.set_attribute(name, KEY, b"7:8:0660:char-1-3").unwrap();
        }
        let seen = |name: &str| {
            let stat = dir.stat(name).unwrap().unwrap();
            OverrideStat::of(&meant(&dir, OsStr::new(name), stat).unwrap())
        };
        assert_eq!(seen("empty").to_value(), b"7:8:0660:char-1-3");
        assert_eq!(seen("full").to_value(), b"7:8:0660:file");
        dir.symlink("link", "empty").unwrap();
        assert_eq!(seen("link").file_type, FileType::Symlink);
    }
}

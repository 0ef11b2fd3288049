//! Copying a directory tree: reflinks where the file system has them, everything else kept.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::{self, FileType, SeekFrom, Stat};
use rustix::io::Errno;

use super::{Buffer, Cursor, Dir, Error, File, fault};

/// How many bytes of files a copy took over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Shared with the original.
    pub shared: u64,
    /// Copied.
    pub copied: u64,
}

/// Copies everything in `from` into the empty directory `to`: contents, owners, modes, times, extended
/// attributes, hard links, links and devices; of `to` itself mode, owner and attributes.
///
/// # Errors
/// When something can't be read or written; a part is then there.
pub fn copy(from: &Dir, to: &Dir) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    let mut links = Links::new();
    let (mut source, mut target) = (Cursor::new(from), Cursor::new(to));
    let mut levels = vec![from.list()?.into_iter()];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.next() else {
            levels.pop();
            // Last, as what is made in a directory changes its time.
            if let (Some(from), Some(to)) = (source.dir()?, target.dir()?) {
                finish_dir(from, to)?;
            }
            source.leave();
            target.leave();
            continue;
        };
        let name = entry.name.as_os_str();
        let below = target.path().join(name);
        let (Some(here), Some(there)) = (source.dir()?, target.dir()?) else {
            continue;
        };
        let Some(stat) = here.stat(name)? else {
            continue;
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_dir && stat.st_nlink > 1 {
            if let Some(first) = links.get(&stat.st_ino) {
                there.hard_link(name, to, first)?;
                continue;
            }
            links.insert(stat.st_ino, below.clone());
        }
        copy_entry(here, there, name, &stat, &mut copied)?;
        if !is_dir {
            finish(here, there, name, &stat)?;
        } else if source.enter(name)? {
            if !target.enter(name)? {
                return Err(Error::new("open", to.path().join(&below), Errno::NOENT));
            }
            let names = source.dir()?.map(Dir::list).transpose()?;
            levels.push(names.unwrap_or_default().into_iter());
        }
    }
    Ok(copied)
}

/// Makes `to` a copy of the file `from` in contents alone.
///
/// # Errors
/// When one of them can't be read or written.
pub fn copy_file(from: &File, to: &File) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    copy_contents(from, to, &mut copied)?;
    Ok(copied)
}

/// Where each inode with several names was copied to, as a path below the root of the copy.
type Links = HashMap<u64, std::path::PathBuf>;

fn finish_dir(from: &Dir, to: &Dir) -> Result<(), Error> {
    finish(from, to, OsStr::new(""), &from.stat_self()?)
}

/// Makes `name` in `to` the like of what is in `from`, in kind and contents; a directory is empty.
///
/// # Errors
/// When it can't be read or made.
pub fn copy_entry(
    from: &Dir,
    to: &Dir,
    name: &OsStr,
    stat: &Stat,
    copied: &mut Copied,
) -> Result<(), Error> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => to.create_dir(name, 0o700),
        FileType::Symlink => {
            let target = from.find_link(name)?.unwrap_or_default();
            to.symlink(name, target)
        }
        FileType::RegularFile => {
            let source = from.open_file(name)?;
            let target = to.create_file(name, 0o600)?;
            copy_contents(&source, &target, copied)
        }
        kind => {
            let device = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
            to.create_node(name, kind, stat.st_mode & 0o7777, device)
        }
    }
}

fn finish(from: &Dir, to: &Dir, name: &OsStr, stat: &Stat) -> Result<(), Error> {
    to.set_owner(name, stat.st_uid, stat.st_gid)?;
    describe(from, to, name, stat, |_, value| Some(value))
}

/// Gives `name` in `to` the attributes, mode and times that it has in `from`, in the order in which none undoes
/// another; of the directories themselves when it is `""`. `change` says what an attribute becomes.
///
/// The owner must be set before: that takes capabilities and set-id bits away.
///
/// # Errors
/// When something can't be read or set.
pub fn describe(
    from: &Dir,
    to: &Dir,
    name: &OsStr,
    stat: &Stat,
    change: impl Fn(&[u8], Vec<u8>) -> Option<Vec<u8>>,
) -> Result<(), Error> {
    for key in from.attributes(name)? {
        let value = from.attribute(name, &key)?;
        if let Some(value) = value.and_then(|value| change(&key, value)) {
            to.set_attribute(name, &key, &value)?;
        }
    }
    if name.is_empty() {
        to.set_mode(stat.st_mode & 0o7777)?;
    } else if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        to.set_mode_of(name, stat.st_mode & 0o7777)?;
    }
    let time = |seconds: i64, nanoseconds: u64| fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    to.set_times(
        name,
        time(stat.st_atime, stat.st_atime_nsec),
        time(stat.st_mtime, stat.st_mtime_nsec),
    )
}

/// Shares the blocks of a whole file, or copies them inside the kernel.
fn copy_contents(from: &File, to: &File, copied: &mut Copied) -> Result<(), Error> {
    let size = from.stat()?.st_size.unsigned_abs();
    let cloned = fault::change("ioctl", || Ok(fs::ioctl_ficlone(to.as_fd(), from.as_fd())?));
    match cloned {
        Ok(()) => {
            copied.shared += size;
            return Ok(());
        }
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY)
            ) => {}
        Err(error) => return Err(Error::new("clone", from.path(), error)),
    }
    to.set_size(size)?;
    copied.copied += size;
    let mut offset = 0;
    while let Some((start, end)) = next_data(from, offset, size)? {
        copy_range(from, to, start, end)?;
        offset = end;
    }
    Ok(())
}

/// The next stretch of a file that is no hole, from `offset` on.
fn next_data(file: &File, offset: u64, size: u64) -> Result<Option<(u64, u64)>, Error> {
    if offset >= size {
        return Ok(None);
    }
    let fail = |errno: Errno| Error::new("find the data of", file.path(), errno);
    let start = match fs::seek(file, SeekFrom::Data(offset)) {
        Err(Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((offset, size))),
        result => result.map_err(fail)?,
    };
    let end = fs::seek(file, SeekFrom::Hole(start)).map_err(fail)?;
    Ok(Some((start, end.min(size))))
}

/// Copies the bytes from `offset` to `end`, inside the kernel where it can.
fn copy_range(from: &File, to: &File, mut offset: u64, end: u64) -> Result<(), Error> {
    while offset < end {
        let len = usize::try_from(end - offset)
            .unwrap_or(usize::MAX)
            .min(1 << 30);
        let (mut read_at, mut write_at) = (offset, offset);
        let copied = fault::change("copy_file_range", || {
            let (read_at, write_at) = (Some(&mut read_at), Some(&mut write_at));
            let len = fault::writable(len);
            Ok(fs::copy_file_range(from, read_at, to, write_at, len)?)
        });
        match copied {
            // The file became shorter.
            Ok(0) => return Ok(()),
            Ok(copied) => offset += copied as u64,
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOSYS | Errno::INVAL) => {
                    return copy_bytes(from, to, offset, end);
                }
                _ => return Err(Error::new("copy", from.path(), error)),
            },
        }
    }
    Ok(())
}

fn copy_bytes(from: &File, to: &File, mut offset: u64, end: u64) -> Result<(), Error> {
    let mut buffer = Buffer::new(256 * 1024);
    while offset < end {
        let len = usize::try_from(end - offset)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = from.read_at(&mut buffer[..len], offset)?;
        if read == 0 {
            break;
        }
        to.write_at(&buffer[..read], offset)?;
        offset += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_keeps_links_holes_modes_times_and_attributes() {
        let folder = tempfile::tempdir().unwrap();
        let root = Dir::open(folder.path()).unwrap();
        for name in ["from", "to"] {
            root.create_dir(name, 0o700).unwrap();
        }
        let (from, to) = (root.open_dir("from").unwrap(), root.open_dir("to").unwrap());
        from.create_dir("d", 0o751).unwrap();
        let hole = from.create_file("d/holes", 0o640).unwrap();
        hole.write_at(b"start", 0).unwrap();
        hole.write_at(b"end", 4 << 20).unwrap();
        hole.set_attribute(b"user.note", b"kept").unwrap();
        from.hard_link("other-name", &from, "d/holes").unwrap();
        from.symlink("link", "d/nowhere").unwrap();
        from.create_node("pipe", FileType::Fifo, 0o600, (0, 0))
            .unwrap();
        let old = fs::Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec: 7,
        };
        from.set_times("link", old, old).unwrap();
        from.set_times("d", old, old).unwrap();
        from.set_mode(0o555).unwrap();
        copy(&from, &to).unwrap();

        assert_eq!(to.read("d/holes").unwrap(), from.read("d/holes").unwrap());
        let stat = |path: &str| std::fs::symlink_metadata(folder.path().join("to").join(path));
        let holes = stat("d/holes").unwrap();
        assert!(holes.blocks() < 1024, "{} blocks", holes.blocks());
        assert_eq!((holes.mode() & 0o7777, holes.nlink()), (0o640, 2));
        assert_eq!(stat("other-name").unwrap().ino(), holes.ino());
        assert_eq!(
            to.attribute("other-name", b"user.note").unwrap().as_deref(),
            Some(&b"kept"[..])
        );
        assert_eq!(
            to.find_link("link").unwrap().unwrap().as_os_str(),
            "d/nowhere"
        );
        for path in ["link", "d"] {
            let found = stat(path).unwrap();
            assert_eq!(
                (found.mtime(), found.mtime_nsec()),
                (1_000_000_000, 7),
                "{path}"
            );
        }
        assert_eq!(stat("d").unwrap().mode() & 0o7777, 0o751);
        assert_eq!(stat("").unwrap().mode() & 0o7777, 0o555);
        to.set_mode(0o755).unwrap();
        from.set_mode(0o755).unwrap();
    }
}

//! Copying a directory tree: reflinks where the file system has them, everything else kept.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{self, FileType, Stat};
use rustix::io::Errno;

use super::{Dir, Error, File, fault};

/// Copies everything in `from` into the empty directory `to`: contents, owners, modes, times, extended
/// attributes, hard links, links and devices; of `to` itself mode, owner and attributes.
///
/// # Errors
/// When something can't be read or written; a part is then there.
pub fn copy(from: &Dir, to: &Dir) -> Result<(), Error> {
    copy_dir(from, to, &mut HashMap::new(), to)
}

/// Where each inode with several names was copied to, as a path below the root of the copy.
type Links = HashMap<u64, std::path::PathBuf>;

fn copy_dir(from: &Dir, to: &Dir, links: &mut Links, root: &Dir) -> Result<(), Error> {
    for entry in from.list()? {
        let name = entry.name.as_os_str();
        let Some(stat) = from.stat(name)? else {
            continue;
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_dir && stat.st_nlink > 1 {
            if let Some(first) = links.get(&stat.st_ino) {
                to.hard_link(name, root, first)?;
                continue;
            }
            let below = to
                .path()
                .strip_prefix(root.path())
                .unwrap_or(to.path())
                .join(name);
            links.insert(stat.st_ino, below);
        }
        copy_entry(from, to, name, &stat)?;
        if is_dir {
            let (source, target) = (from.open_dir(name)?, to.open_dir(name)?);
            copy_dir(&source, &target, links, root)?;
        }
        finish(from, to, name, &stat)?;
    }
    let stat = from.stat_self()?;
    to.set_owner("", stat.st_uid, stat.st_gid)?;
    to.set_mode(stat.st_mode & 0o7777)?;
    copy_attributes(from, to, OsStr::new(""))?;
    set_times(to, OsStr::new(""), &stat)
}

fn copy_entry(from: &Dir, to: &Dir, name: &OsStr, stat: &Stat) -> Result<(), Error> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => to.create_dir(name, 0o700),
        FileType::Symlink => {
            let target = from.find_link(name)?.unwrap_or_default();
            to.symlink(name, target)
        }
        FileType::RegularFile => {
            let source = from.open_file(name)?;
            let target = to.create_file(name, 0o600)?;
            copy_contents(&source, &target)
        }
        kind => {
            let device = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
            to.create_node(name, kind, stat.st_mode & 0o7777, device)
        }
    }
}

/// Owner, attributes, mode and times, in the order in which none undoes another.
fn finish(from: &Dir, to: &Dir, name: &OsStr, stat: &Stat) -> Result<(), Error> {
    to.set_owner(name, stat.st_uid, stat.st_gid)?;
    copy_attributes(from, to, name)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        to.set_mode_of(name, stat.st_mode & 0o7777)?;
    }
    set_times(to, name, stat)
}

fn copy_attributes(from: &Dir, to: &Dir, name: &OsStr) -> Result<(), Error> {
    for key in from.attributes(name)? {
        if let Some(value) = from.attribute(name, &key)? {
            to.set_attribute(name, &key, &value)?;
        }
    }
    Ok(())
}

fn set_times(to: &Dir, name: &OsStr, stat: &Stat) -> Result<(), Error> {
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
fn copy_contents(from: &File, to: &File) -> Result<(), Error> {
    let cloned = fault::change("ioctl", || Ok(fs::ioctl_ficlone(to.as_fd(), from.as_fd())?));
    match cloned {
        Ok(()) => return Ok(()),
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY)
            ) => {}
        Err(error) => return Err(Error::new("clone", from.path(), error)),
    }
    loop {
        let copied = fault::change("copy_file_range", || {
            Ok(fs::copy_file_range(
                from.as_fd(),
                None,
                to.as_fd(),
                None,
                1 << 30,
            )?)
        });
        match copied {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::new("copy", from.path(), error)),
        }
    }
}

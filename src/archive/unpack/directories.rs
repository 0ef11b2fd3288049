//! The directories that members lie in: what times they get in the end, and which the archive has no entry for.
//!
//! Times are set when nothing changes a directory any more. One that the archive leaves out keeps those that
//! it had, or gets those of the first member that it was made for: the same archive makes the same tree.

use std::collections::BTreeMap;

use rustix::fs::{Stat, Timespec};

use super::{UnpackError, path};
use crate::archive::names;
use crate::sys::Dir;

/// More bytes of names than this are not remembered of directories without an entry: a short member may imply
/// thousands of them. Those beyond stay as they were made.
const MAX_NAMES: usize = 16 << 20;

/// Longer names lead through links, and no call takes them.
const MAX_PATH: usize = libc::PATH_MAX as usize - 1;

/// Time of access and of modification.
pub(super) type Times = (Timespec, Timespec);

/// A directory that has members and no entry.
#[derive(Debug)]
struct Implied {
    name: Vec<u8>,
    times: Times,
    /// It was not there before.
    is_made: bool,
}

/// Directories by name, or by inode where links may lead to them under several.
#[derive(Debug, Default)]
pub(super) struct Directories {
    said: BTreeMap<Vec<u8>, Times>,
    implied: BTreeMap<u64, Implied>,
    /// Bytes of the names of those.
    names: usize,
}

impl Directories {
    /// The archive has an entry for `name`, which is the inode `old` if it was there.
    pub(super) fn say(&mut self, name: &[u8], old: Option<u64>, times: Times) {
        if let Some(old) = old {
            self.implied.remove(&old);
        }
        self.said.insert(name.to_vec(), times);
    }

    /// A directory was opened that was there; `stat` is from before anything was made in it.
    pub(super) fn find(&mut self, name: &[u8], stat: &Stat) {
        if self.implied.contains_key(&stat.st_ino) || self.said.contains_key(name) {
            return;
        }
        let times = (
            time(stat.st_atime, stat.st_atime_nsec),
            time(stat.st_mtime, stat.st_mtime_nsec),
        );
        self.imply(name, stat.st_ino, times, false);
    }

    /// A directory was made for a member with these times.
    pub(super) fn make(&mut self, name: &[u8], inode: u64, times: Times) {
        self.imply(name, inode, times, true);
    }

    fn imply(&mut self, name: &[u8], inode: u64, times: Times, is_made: bool) {
        self.names = self.names.saturating_add(name.len());
        if self.names > MAX_NAMES || name.len() > MAX_PATH {
            return;
        }
        let implied = Implied {
            name: name.to_vec(),
            times,
            is_made,
        };
        self.implied.insert(inode, implied);
    }

    /// Sets all times; the names of directories that were made without an entry, parents first.
    pub(super) fn finish(self, root: &Dir) -> Result<Vec<Vec<u8>>, UnpackError> {
        let mut made = Vec::new();
        for (inode, implied) in self.implied {
            // A later member may have taken its place.
            let Some(dir) = open(root, &implied.name)? else {
                continue;
            };
            if dir.stat_self()?.st_ino != inode {
                continue;
            }
            let (accessed, modified) = implied.times;
            dir.set_times("", accessed, modified)?;
            if implied.is_made {
                made.push(implied.name);
            }
        }
        made.sort_unstable();
        let mut parent: Option<(Vec<u8>, Dir)> = None;
        for (name, (accessed, modified)) in self.said {
            let (above, last) = names::split(&name);
            if name.is_empty() {
                root.set_times("", accessed, modified)?;
                continue;
            }
            if parent.as_ref().is_none_or(|(known, _)| known != above) {
                parent = open(root, above)?.map(|dir| (above.to_vec(), dir));
            }
            let Some((_, dir)) = parent.as_ref().filter(|(known, _)| known == above) else {
                continue;
            };
            match dir.set_times(path(last), accessed, modified) {
                Err(error) if error.is_not_found() => {}
                result => result?,
            }
        }
        Ok(made)
    }
}

/// The directory `name`, if it is still one.
fn open(root: &Dir, name: &[u8]) -> Result<Option<Dir>, UnpackError> {
    if name.is_empty() {
        return Ok(Some(root.try_clone()?));
    }
    match root.open_dir_in_root(path(name)) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.is_not_found() || error.errno() == Some(libc::ENOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn time(seconds: i64, nanoseconds: u64) -> Timespec {
    Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    }
}

//! [`Mounts`]: the little that volumes ask of the mount table.

use std::fmt;
use std::path::{Path, PathBuf};

use super::attributes::MountFlags;
use crate::sys;
use crate::sys::mount::{self, Flags};
use crate::sys::mount_table;

/// Which directory is visible: its file system's device and its own inode. Two mounts of one directory
/// agree in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// The inode.
    pub inode: u64,
}

/// What is mounted at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// What is visible there.
    pub source: Source,
    /// How.
    pub flags: MountFlags,
}

/// A line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub path: PathBuf,
    /// Device of the file system.
    pub device: (u32, u32),
    /// The writable directory of an overlay.
    pub upper: Option<PathBuf>,
}

/// The mount table, as far as volumes need it.
pub trait Mounts: fmt::Debug + Send + Sync {
    /// What is visible at `path`, whether or not it is a mount of its own.
    ///
    /// # Errors
    /// When the system can't say.
    fn look(&self, path: &Path) -> Result<Option<Mounted>, sys::Error>;

    /// What is mounted at exactly `path`; `None` when nothing is.
    ///
    /// # Errors
    /// When the system can't say.
    fn mounted(&self, path: &Path) -> Result<Option<Mounted>, sys::Error>;

    /// Makes `source` visible at the directory `target` as well.
    ///
    /// # Errors
    /// When the system refuses; nothing is then mounted.
    fn bind(&self, source: &Path, target: &Path, flags: MountFlags) -> Result<(), sys::Error>;

    /// Takes away what is mounted last at `target`; nothing mounted is fine.
    ///
    /// # Errors
    /// When the system refuses.
    fn unmount(&self, target: &Path) -> Result<(), sys::Error>;

    /// Makes what is mounted at `path` read-only, or writable again, wherever else it is mounted.
    ///
    /// # Errors
    /// When it is being written, or the system refuses; nothing is then changed.
    fn set_read_only(&self, path: &Path, read_only: bool) -> Result<(), sys::Error>;

    /// Everything that is mounted. Costs with the size of the table: for the start only.
    ///
    /// # Errors
    /// When the table can't be read.
    fn table(&self) -> Result<Vec<Line>, sys::Error>;
}

/// The kernel's mount table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Mounts for Kernel {
    fn look(&self, path: &Path) -> Result<Option<Mounted>, sys::Error> {
        Ok(mount::place(path)?.map(|found| Mounted {
            source: Source {
                device: found.device,
                inode: found.inode,
            },
            flags: from_kernel(found.flags),
        }))
    }

    fn mounted(&self, path: &Path) -> Result<Option<Mounted>, sys::Error> {
        if mount::mount_id(path)?.is_none() {
            return Ok(None);
        }
        self.look(path)
    }

    fn bind(&self, source: &Path, target: &Path, flags: MountFlags) -> Result<(), sys::Error> {
        let mut flags = to_kernel(flags);
        // An overlay here is a volume's own mount, which is stricter than its targets may be.
        flags.set_id = !flags.no_set_id && mount::is_overlay(source)?;
        mount::bind(source, target, flags)
    }

    fn unmount(&self, target: &Path) -> Result<(), sys::Error> {
        mount::unmount(target).map(drop)
    }

    fn set_read_only(&self, path: &Path, read_only: bool) -> Result<(), sys::Error> {
        // The file system of anything else is not a volume's alone.
        if !mount::is_overlay(path)? {
            return Err(sys::Error::new(
                "make read-only or writable",
                path,
                std::io::Error::from(std::io::ErrorKind::Unsupported),
            ));
        }
        mount::set_read_only(path, read_only)
    }

    fn table(&self) -> Result<Vec<Line>, sys::Error> {
        let lines = mount_table::read()?;
        Ok(lines
            .into_iter()
            .map(|line| Line {
                upper: line.super_option("upperdir").map(PathBuf::from),
                path: line.mount_point,
                device: (line.major, line.minor),
            })
            .collect())
    }
}

fn to_kernel(flags: MountFlags) -> Flags {
    Flags {
        read_only: flags.read_only,
        no_devices: true,
        no_set_id: !flags.suid,
        no_exec: flags.no_exec,
        no_access_time: flags.no_atime,
        ..Flags::default()
    }
}

fn from_kernel(flags: Flags) -> MountFlags {
    MountFlags {
        read_only: flags.read_only,
        no_exec: flags.no_exec,
        suid: !flags.no_set_id,
        no_atime: flags.no_access_time,
    }
}

impl MountFlags {
    /// What these become on a bind of a mount that has `source`'s: they only take away.
    pub(super) fn over(self, source: Self) -> Self {
        Self {
            read_only: self.read_only || source.read_only,
            no_exec: self.no_exec || source.no_exec,
            suid: self.suid && source.suid,
            no_atime: self.no_atime || source.no_atime,
        }
    }
}

#[cfg(test)]
pub(in crate::node) mod memory {
    //! A mount table in memory: publish logic without root.

    use std::os::unix::fs::MetadataExt;
    use std::sync::Mutex;

    use super::*;

    /// Mounts by target, the last on top.
    #[derive(Debug, Default)]
    pub struct Memory(Mutex<Vec<(PathBuf, Mounted)>>);

    impl Mounts for Memory {
        fn look(&self, path: &Path) -> Result<Option<Mounted>, sys::Error> {
            if let Some(mounted) = self.mounted(path)? {
                return Ok(Some(mounted));
            }
            match std::fs::symlink_metadata(path) {
                Ok(metadata) => Ok(Some(Mounted {
                    source: Source {
                        device: (0, metadata.dev() as u32),
                        inode: metadata.ino(),
                    },
                    flags: MountFlags {
                        suid: true,
                        ..MountFlags::default()
                    },
                })),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(sys::Error::new("stat", path, error)),
            }
        }

        fn mounted(&self, path: &Path) -> Result<Option<Mounted>, sys::Error> {
            let mounts = self.0.lock().unwrap();
            Ok(mounts
                .iter()
                .rev()
                .find(|(target, _)| target == path)
                .map(|(_, mounted)| *mounted))
        }

        fn bind(&self, source: &Path, target: &Path, flags: MountFlags) -> Result<(), sys::Error> {
            let found = self.look(source)?.unwrap();
            let mounted = Mounted {
                source: found.source,
                flags: flags.over(found.flags),
            };
            self.0.lock().unwrap().push((target.to_owned(), mounted));
            Ok(())
        }

        fn unmount(&self, target: &Path) -> Result<(), sys::Error> {
            let mut mounts = self.0.lock().unwrap();
            if let Some(last) = mounts.iter().rposition(|(path, _)| path == target) {
                mounts.remove(last);
            }
            Ok(())
        }

        fn set_read_only(&self, path: &Path, read_only: bool) -> Result<(), sys::Error> {
            let mut mounts = self.0.lock().unwrap();
            let Some((_, found)) = mounts.iter().find(|(target, _)| target == path) else {
                return Err(sys::Error::new(
                    "make read-only or writable",
                    path,
                    std::io::Error::from(std::io::ErrorKind::Unsupported),
                ));
            };
            let source = found.source;
            for (_, mounted) in mounts.iter_mut() {
                if mounted.source == source {
                    mounted.flags.read_only = read_only;
                }
            }
            Ok(())
        }

        fn table(&self) -> Result<Vec<Line>, sys::Error> {
            let mounts = self.0.lock().unwrap();
            Ok(mounts
                .iter()
                .map(|(path, mounted)| Line {
                    path: path.clone(),
                    device: mounted.source.device,
                    upper: None,
                })
                .collect())
        }
    }
}

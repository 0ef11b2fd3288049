//! The directories that members lie in, kept open since most members arrive directory by directory.

use std::collections::HashMap;
use std::rc::Rc;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::directories::{Directories, Times};
use super::{Options, UnpackError, path};
use crate::archive::names;
use crate::archive::override_stat::{self, OverrideStat};
use crate::sys::{Dir, Error};

/// How many are kept open: many runs share the process's descriptors.
const KEPT: usize = 16;

/// As the kernel: more links on one path are a loop.
const MAX_LINKS: usize = 40;

/// The mode of a directory that is made though nothing says what it is.
const MODE: u32 = 0o755;

/// A directory that members lie in.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) dir: Dir,
    /// New inodes get its group, and directories its bit.
    pub(super) gives_group: bool,
}

impl Parent {
    fn new(dir: Dir, stat: &Stat) -> Self {
        let gives_group = stat.st_mode & libc::S_ISGID != 0;
        Self { dir, gives_group }
    }
}

/// Opens directories by their names in the archive.
#[derive(Debug)]
pub(super) struct Parents<'a> {
    root: &'a Dir,
    options: &'a Options,
    root_parent: Rc<Parent>,
    last: Option<(Vec<u8>, Rc<Parent>)>,
    kept: HashMap<Vec<u8>, Rc<Parent>>,
    pub(super) directories: Directories,
}

impl<'a> Parents<'a> {
    pub(super) fn new(root: &'a Dir, options: &'a Options) -> Result<Self, Error> {
        let stat = root.stat_self()?;
        let mut directories = Directories::default();
        directories.find(b"", &stat);
        Ok(Self {
            root,
            options,
            root_parent: Rc::new(Parent::new(root.try_clone()?, &stat)),
            last: None,
            kept: HashMap::new(),
            directories,
        })
    }

    /// Forgets all, since a directory or a link on the way was replaced, or the root changed.
    pub(super) fn forget(&mut self) -> Result<(), Error> {
        self.last = None;
        self.kept.clear();
        let root = self.root.try_clone()?;
        let stat = root.stat_self()?;
        self.root_parent = Rc::new(Parent::new(root, &stat));
        Ok(())
    }

    /// Remembers a directory that was just made.
    pub(super) fn keep(&mut self, name: &[u8], parent: Rc<Parent>) {
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        self.kept.insert(name.to_vec(), Rc::clone(&parent));
        self.last = Some((name.to_vec(), parent));
    }

    /// Notes the times of the directory `name`, in which something is about to change.
    pub(super) fn note(&mut self, name: &[u8], dir: &Dir) -> Result<Stat, Error> {
        let stat = dir.stat_self()?;
        self.directories.find(name, &stat);
        Ok(stat)
    }

    /// The directory `name`, as the archive's tree has it, for a member with these times; made with all above it
    /// when missing.
    pub(super) fn open(&mut self, name: &[u8], times: Times) -> Result<Rc<Parent>, UnpackError> {
        if name.is_empty() {
            return Ok(Rc::clone(&self.root_parent));
        }
        if let Some((last, parent)) = &self.last
            && last == name
        {
            return Ok(Rc::clone(parent));
        }
        if let Some(parent) = self.kept.get(name) {
            let parent = Rc::clone(parent);
            self.last = Some((name.to_vec(), Rc::clone(&parent)));
            return Ok(parent);
        }
        let dir = match self.root.open_dir_in_root(path(name)) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => self.create(name, times)?,
            Err(error) => return Err(error.into()),
        };
        let stat = self.note(name, &dir)?;
        let parent = Rc::new(Parent::new(dir, &stat));
        self.keep(name, Rc::clone(&parent));
        Ok(parent)
    }

    /// Goes down to `name` step by step, making what is missing, also where a link points to nothing.
    fn create(&mut self, name: &[u8], times: Times) -> Result<Dir, UnpackError> {
        let steps = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|byte| *byte == b'/')
                .filter(|part| !matches!(*part, b"" | b"."))
                .map(<[u8]>::to_vec)
                .rev()
                .collect()
        };
        let mut ahead = steps(name);
        // Where we are: real directories only, so that `..` is the one before.
        let mut here = Vec::new();
        let mut dir = self.root.try_clone()?;
        let mut links = 0;
        while let Some(step) = ahead.pop() {
            if step == b".." {
                here = names::split(&here).0.to_vec();
                dir = self.root.open_dir_in_root(path(&here))?;
                continue;
            }
            let found = match dir.find_dir(path(&step)) {
                Ok(found) => found,
                Err(error) => {
                    let Some(target) = dir.find_link(path(&step))? else {
                        return Err(error.into());
                    };
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::new("open", path(name), Errno::LOOP).into());
                    }
                    let target = target.into_os_string().into_encoded_bytes();
                    if target.starts_with(b"/") {
                        here.clear();
                        dir = self.root.try_clone()?;
                    }
                    ahead.extend(steps(&target));
                    continue;
                }
            };
            let below = names::join(&here, &step);
            dir = match found {
                Some(found) => found,
                None => {
                    self.note(&here, &dir)?;
                    self.create_one(&dir, &step, &below, times)?
                }
            };
            here = below;
        }
        Ok(dir)
    }

    /// Makes a directory that the archive has no entry for: the container's root's, as nothing says otherwise.
    fn create_one(
        &mut self,
        parent: &Dir,
        last: &[u8],
        name: &[u8],
        times: Times,
    ) -> Result<Dir, UnpackError> {
        parent.create_dir(path(last), MODE)?;
        let dir = parent.open_dir(path(last))?;
        let stat = dir.stat_self()?;
        let maps = &self.options.id_maps;
        if let Some(mask) = self.options.force_mask {
            let owner = maps.to_host(0, 0).unwrap_or_default();
            let meant = OverrideStat::directory(owner, MODE).to_value();
            dir.set_attribute("", override_stat::KEY, &meant)?;
            dir.set_mode(mask)?;
        } else if let Some((uid, gid)) = maps.to_host(0, 0)
            && (uid, gid) != (stat.st_uid, stat.st_gid)
        {
            match dir.set_owner("", uid, gid) {
                Err(error) if self.options.ignore_chown_errors => {
                    tracing::warn!(%error, "a directory that a layer implies is not root's");
                }
                // Who may not do this has no files of root's in the archive either.
                Err(error) if maps.is_identity() && error.errno() == Some(libc::EPERM) => {}
                result => result?,
            }
        }
        if self.options.force_mask.is_none() && stat.st_mode & 0o7777 != MODE {
            dir.set_mode(MODE)?;
        }
        self.directories.make(name, stat.st_ino, times);
        Ok(dir)
    }
}
